//! JSON answers with an entity tag, and 304 for who has them already.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use xxhash_rust::xxh3::xxh3_128;

/// Caches may keep an answer, but must ask before they use it again.
const REVALIDATE: HeaderValue = HeaderValue::from_static("public, no-cache");

/// Whether `If-None-Match` holds this tag (weak comparison, RFC 9110 section 13.1.2).
pub fn matches(headers: &HeaderMap, tag: &str) -> bool {
    let opaque = tag.trim_start_matches("W/");
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.trim_start_matches("W/") == opaque)
}

/// A tag over `parts`.
pub fn tag_of(number: u128) -> String {
    // Weak: the same answer may travel in several encodings.
    format!("W/\"{number:032x}\"")
}

/// 200 with the body, or 304.
pub fn json(request: &HeaderMap, body: impl Into<Bytes>) -> Response {
    let body = body.into();
    tagged(request, &tag_of(xxh3_128(&body)), || Body::from(body))
}

/// The same where the tag is known without the body.
pub fn tagged(request: &HeaderMap, tag: &str, body: impl FnOnce() -> Body) -> Response {
    let mut response = if matches(request, tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let mut response = Response::new(body());
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    };
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(header::ETAG, tag);
    }
    headers.insert(header::CACHE_CONTROL, REVALIDATE);
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_compared_weakly() {
        let headers = |value: &'static str| {
            HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static(value))])
        };
        let tag = "W/\"a\"";
        for known in ["W/\"a\"", "\"a\"", "\"b\", \"a\"", "*"] {
            assert!(matches(&headers(known), tag), "{known}");
        }
        for other in ["\"b\"", "a", ""] {
            assert!(!matches(&headers(other), tag), "{other}");
        }
        let answer = json(&headers("*"), "{}");
        assert_eq!(answer.status(), StatusCode::NOT_MODIFIED);
        assert!(answer.headers().contains_key(header::ETAG));
    }
}

//! JSON answers with an entity tag, and 304 for who has them already.

use crate::caching::REVALIDATE;
use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use xxhash_rust::xxh3::xxh3_128;

/// What compressing proxies put behind the tag of what they compress: Apache `-gzip`, Jetty `--gzip`,
/// others `;br`. The longer name of two comes first.
const CODINGS: [&str; 6] = ["x-gzip", "gzip", "br", "zstd", "deflate", "compress"];

/// What stands between the quotes of an entity tag, without the mark of weakness and without what a
/// compressing proxy added. `None` for what is no entity tag.
pub fn opaque(tag: &str) -> Option<&str> {
    let opaque = quoted(tag)?;
    let stripped = CODINGS.iter().find_map(|coding| opaque.strip_suffix(coding));
    let bare = stripped.map(|rest| (rest, rest.trim_end_matches(['-', ';'])));
    // The separator is part of it: a tag may well end like the name of a coding.
    Some(
        bare.filter(|(rest, bare)| !bare.is_empty() && bare.len() < rest.len())
            .map_or(opaque, |(_, bare)| bare),
    )
}

fn quoted(tag: &str) -> Option<&str> {
    tag.strip_prefix("W/").unwrap_or(tag).strip_prefix('"')?.strip_suffix('"')
}

/// Whether `If-None-Match` holds this tag (weak comparison, RFC 9110 section 13.1.2).
pub fn matches(headers: &HeaderMap, tag: &str) -> bool {
    let ours = quoted(tag);
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|known| {
            known == "*" || ours.is_some() && (quoted(known) == ours || opaque(known) == ours)
        })
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

/// The same of another type.
pub fn of_type(request: &HeaderMap, kind: &'static str, body: impl Into<Bytes>) -> Response {
    typed(json(request, body), kind)
}

/// An answer that counts as JSON, as another type.
pub fn typed(mut answer: Response, kind: &'static str) -> Response {
    // What was not modified has no type.
    if answer.headers().contains_key(header::CONTENT_TYPE) {
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    answer
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
        // With what proxies add that compress.
        for known in [
            "\"a-gzip\"",
            "W/\"a-gzip\"",
            "\"a--gzip\"",
            "\"a;br\"",
            "\"a-br\"",
            "\"a-x-gzip\"",
            "\"b-gzip\", \"a-zstd\"",
            "W/\"a;gzip\"",
        ] {
            assert!(matches(&headers(known), tag), "{known}");
        }
        for other in
            ["\"b\"", "a", "", "\"b-gzip\"", "\"agzip\"", "\"a-x\"", "\"-gzip\"", "\"a-gzip", "W/"]
        {
            assert!(!matches(&headers(other), tag), "{other}");
        }
        let answer = json(&headers("*"), "{}");
        assert_eq!(answer.status(), StatusCode::NOT_MODIFIED);
        assert!(answer.headers().contains_key(header::ETAG));
    }
}

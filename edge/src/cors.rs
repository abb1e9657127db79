//! Cross-origin reads: any origin may read what is public, and see the headers that matter.

use axum::{
    extract::Request,
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

const EXPOSED: HeaderValue =
    HeaderValue::from_static("ETag, Location, Consistency-Token, RateLimit, Retry-After");

/// Adds what a browser needs to hand the answer to a page of another origin.
pub fn allow_any_origin(headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
}

/// Answers a preflight: reads are allowed from any origin, nothing else is.
pub async fn preflight(asked: HeaderMap) -> Response {
    let asked = asked.get(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS"));
    if asked.is_some_and(|asked| asked == "GET" || asked == "HEAD") {
        allow_any_origin(headers);
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD"));
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static("Consistency-Token, If-None-Match, Prefer"),
        );
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    }
    response
}

/// For public reads: answers preflights, and opens every other answer to any origin. A write from
/// another origin gets no such headers.
pub async fn public_reads(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    if method == Method::OPTIONS {
        return preflight(request.headers().clone()).await;
    }
    let mut response = next.run(request).await;
    if method == Method::GET || method == Method::HEAD {
        allow_any_origin(response.headers_mut());
    }
    response
}

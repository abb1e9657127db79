//! Cross-origin requests: any origin may read what is public, and see the headers that matter;
//! only configured origins may write.

use crate::Identity;
use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use std::sync::Arc;

const EXPOSED: HeaderValue = HeaderValue::from_static(
    "ETag, Location, Consistency-Token, Consistency, Preference-Applied, Idempotent-Replayed, RateLimit, RateLimit-Policy, Request-Id, Retry-After",
);
const READS: HeaderValue =
    HeaderValue::from_static("Consistency-Token, If-None-Match, Prefer, Traceparent, Tracestate");
const WRITES: HeaderValue = HeaderValue::from_static(
    "Authorization, Consistency-Token, Content-Type, Idempotency-Key, If-Match, If-None-Match, Prefer, Traceparent, Tracestate",
);
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");
const A_DAY: HeaderValue = HeaderValue::from_static("86400");

/// The origins whose pages may write.
#[derive(Clone)]
pub struct Origins(Arc<[String]>);

impl Origins {
    pub fn of(identity: &Identity) -> Self {
        Self(identity.origins().into())
    }

    /// Opens an answer that was given before any route: a read's to any origin, others to those
    /// whose pages may write.
    pub(crate) fn open(&self, is_read: bool, asked: &HeaderMap, answer: &mut Response) {
        match self.trusted(asked) {
            Some(origin) => allow_origin(answer.headers_mut(), origin),
            None if is_read => allow_any_origin(answer.headers_mut()),
            None => {}
        }
    }

    /// The origin of a request, if its pages may write.
    fn trusted<'a>(&self, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        self.0.iter().any(|one| one.as_bytes() == origin.as_bytes()).then_some(origin)
    }
}

/// Adds what a browser needs to hand the answer to a page of another origin.
pub fn allow_any_origin(headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
}

fn allow_origin(headers: &mut HeaderMap, origin: &HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
}

/// Whether a method, as it is written in requests and preflights, only reads.
pub fn is_read(method: &[u8]) -> bool {
    method == b"GET" || method == b"HEAD"
}

/// Answers a preflight of an address that is only read: from any origin.
pub async fn preflight(asked: HeaderMap) -> Response {
    let mut response = answer_preflight(&asked, None);
    let methods = HeaderValue::from_static("GET,HEAD,OPTIONS");
    response.headers_mut().insert(header::ALLOW, methods);
    response
}

/// The methods that an address has at all (`Allow`) are the router's to tell.
fn answer_preflight(asked: &HeaderMap, trusted: Option<&HeaderValue>) -> Response {
    let method = asked.get(header::ACCESS_CONTROL_REQUEST_METHOD).map(HeaderValue::as_bytes);
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    if let Some(origin) = trusted.filter(|_| method.is_some()) {
        allow_origin(headers, origin);
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, WRITES);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, A_DAY);
    } else if method.is_some_and(is_read) {
        allow_any_origin(headers);
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD"));
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, READS);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, A_DAY);
    }
    response
}

/// For public reads: answers preflights, those of writes to the same addresses as well, and opens
/// every other answer to any origin.
pub async fn reads(
    origins: &Origins,
    request: Request,
    answer: impl AsyncFnOnce(Request) -> Response,
) -> Response {
    let trusted = origins.trusted(request.headers()).cloned();
    let method = request.method().clone();
    if method == Method::OPTIONS {
        return answer_preflight(request.headers(), trusted.as_ref());
    }
    let mut response = answer(request).await;
    if is_read(method.as_str().as_bytes()) {
        allow_any_origin(response.headers_mut());
    }
    response
}

/// For everything else: only configured origins see the answers.
pub async fn writes(State(origins): State<Origins>, request: Request, next: Next) -> Response {
    let trusted = origins.trusted(request.headers()).cloned();
    if request.method() == Method::OPTIONS {
        // Where nothing is public to read, nothing is allowed to strangers.
        let nothing = HeaderMap::new();
        let asked = if trusted.is_some() { request.headers() } else { &nothing };
        return answer_preflight(asked, trusted.as_ref());
    }
    let mut response = next.run(request).await;
    if let Some(origin) = trusted {
        allow_origin(response.headers_mut(), &origin);
    }
    response
}

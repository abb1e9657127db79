//! What describes the surface to programs and people: OpenAPI, and a page made of it.

use crate::state::ApiState;
use almanac_edge::{Problem, ProblemType, conditional};
use axum::{
    extract::{Path, State},
    response::Response,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use std::sync::Arc;

/// Of the whole installation, whatever roles this process has.
pub(crate) async fn openapi(State(state): State<Arc<ApiState>>, headers: HeaderMap) -> Response {
    conditional::json(&headers, state.options.openapi.clone())
}

/// A page made from the OpenAPI document. It loads nothing from elsewhere.
pub(crate) async fn docs(headers: HeaderMap) -> Response {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'";
    html(&headers, include_str!("../docs.html"), HeaderValue::from_static(policy))
}

/// What may be loaded by a page that is text alone.
const TEXT_ALONE: HeaderValue =
    HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'");

/// The page that `type` of a problem document leads to.
pub(crate) async fn problem(
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let none = || Problem::new(ProblemType::NotFound, "there is no such type of problem");
    let kind = ProblemType::named(&name).ok_or_else(none)?;
    Ok(html(&headers, kind.page(), TEXT_ALONE))
}

pub(crate) async fn problems(headers: HeaderMap) -> Response {
    html(&headers, ProblemType::list(), TEXT_ALONE)
}

/// A page with an entity tag, and what it may load.
pub(crate) fn html(headers: &HeaderMap, page: impl Into<Bytes>, policy: HeaderValue) -> Response {
    let mut response = conditional::json(headers, page);
    for (name, value) in [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ] {
        response.headers_mut().insert(name, value);
    }
    response
}

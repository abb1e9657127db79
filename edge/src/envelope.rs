//! Errors of `/search`, in the envelope of its published contract.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

/// The contract's envelope for errors of any status.
pub fn search_error(status: StatusCode, code: &str, message: &str) -> Response {
    let body = serde_json::json!({"data": null, "error": {"code": code, "message": message}});
    let mut response = (status, body.to_string()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

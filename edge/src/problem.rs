//! Problem documents (RFC 9457).

mod page;

use crate::request;
use almanac_errors::chain;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use std::error::Error;

/// The published list of problem types, each with a page at its `type` address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemType {
    BadRequest,
    UnknownParameter,
    BadCursor,
    NotFound,
    Gone,
    Conflict,
    Stale,
    Forbidden,
    Unauthorized,
    Invalid,
    IdempotencyKeyReused,
    MethodNotAllowed,
    TooLarge,
    Timeout,
    UnsupportedMediaType,
    TooManyRequests,
    Unavailable,
    Internal,
}

impl ProblemType {
    fn parts(self) -> (&'static str, &'static str, StatusCode) {
        match self {
            Self::BadRequest => ("bad-request", "malformed request", StatusCode::BAD_REQUEST),
            Self::UnknownParameter => {
                ("unknown-parameter", "unknown parameter", StatusCode::BAD_REQUEST)
            }
            Self::BadCursor => ("bad-cursor", "invalid cursor", StatusCode::BAD_REQUEST),
            Self::NotFound => ("not-found", "not found", StatusCode::NOT_FOUND),
            Self::Gone => ("gone", "gone: it was deleted", StatusCode::GONE),
            Self::Conflict => ("conflict", "conflict with the current state", StatusCode::CONFLICT),
            Self::Stale => ("stale", "version mismatch", StatusCode::PRECONDITION_FAILED),
            Self::Forbidden => ("forbidden", "forbidden", StatusCode::FORBIDDEN),
            Self::Unauthorized => ("unauthorized", "unauthorized", StatusCode::UNAUTHORIZED),
            Self::Invalid => ("invalid", "invalid body", StatusCode::UNPROCESSABLE_ENTITY),
            Self::IdempotencyKeyReused => (
                "idempotency-key-reused",
                "idempotency key used for another request",
                StatusCode::UNPROCESSABLE_ENTITY,
            ),
            Self::MethodNotAllowed => {
                ("method-not-allowed", "method not allowed", StatusCode::METHOD_NOT_ALLOWED)
            }
            Self::TooLarge => {
                ("too-large", "the request is too large", StatusCode::PAYLOAD_TOO_LARGE)
            }
            Self::Timeout => ("timeout", "request timeout", StatusCode::REQUEST_TIMEOUT),
            Self::UnsupportedMediaType => (
                "unsupported-media-type",
                "unsupported media type",
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ),
            Self::TooManyRequests => {
                ("too-many-requests", "too many requests", StatusCode::TOO_MANY_REQUESTS)
            }
            Self::Unavailable => {
                ("unavailable", "temporarily unavailable", StatusCode::SERVICE_UNAVAILABLE)
            }
            Self::Internal => ("internal", "internal error", StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

/// One fault of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// JSON pointer as a URI fragment, or the name of a parameter.
    pub pointer: String,
    pub detail: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    kind: ProblemType,
    detail: String,
    errors: Vec<FieldError>,
    retry_after_s: Option<u32>,
    version: Option<u64>,
    /// Parameters of the challenge beside the scheme.
    challenge: Option<String>,
}

impl Problem {
    pub fn new(kind: ProblemType, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after_s: None,
            version: None,
            challenge: None,
        }
    }

    /// An error that is logged, with its causes, and not told.
    pub fn internal(error: &dyn Error) -> Self {
        tracing::error!(request_id = request::logged(), error = %chain(error), "request failed");
        Self::new(ProblemType::Internal, "the failure was logged")
    }

    /// An outage of `what` this server needs; the error is logged, with its causes, and not told.
    pub fn unavailable(what: &str, error: &dyn Error) -> Self {
        tracing::warn!(request_id = request::logged(), error = %chain(error), "request could not be answered");
        let detail = format!("{what} does not answer; try again");
        let problem = Self::new(ProblemType::Unavailable, detail);
        Self { retry_after_s: Some(1), ..problem }
    }

    /// Too much is under way here; nothing was done.
    pub fn busy(detail: &str) -> Self {
        Self { retry_after_s: Some(1), ..Self::new(ProblemType::Unavailable, detail) }
    }

    /// The caller has reached a limit of its own; nothing was done.
    pub fn too_many(detail: impl Into<String>, retry_after_s: u32) -> Self {
        let problem = Self::new(ProblemType::TooManyRequests, detail);
        Self { retry_after_s: Some(retry_after_s), ..problem }
    }

    /// Tells the version at which the thing is.
    pub fn at_version(mut self, version: Option<u64>) -> Self {
        self.version = version;
        self
    }

    /// What is wrong with the caller's token, as `WWW-Authenticate` says it (RFC 6750).
    pub(crate) fn with_challenge(mut self, parameters: String) -> Self {
        self.challenge = Some(parameters);
        self
    }

    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }

    pub(crate) fn kind(&self) -> ProblemType {
        self.kind
    }

    pub fn status(&self) -> StatusCode {
        self.kind.parts().2
    }

    pub fn detail(&self) -> &str {
        &self.detail
    }
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
}

impl Problem {
    /// The document as JSON. It names the request that is being answered.
    pub fn body(&self) -> String {
        let (name, title, status) = self.kind.parts();
        let document = Document {
            r#type: format!("/problems/{name}"),
            title,
            status: status.as_u16(),
            detail: &self.detail,
            instance: request::id().map(|id| id.urn().to_string()),
            errors: &self.errors,
        };
        serde_json::to_string(&document).unwrap_or_default()
    }
}

/// For an address that has no such method; the router adds `Allow`.
pub async fn method_not_allowed() -> Problem {
    Problem::new(ProblemType::MethodNotAllowed, "see the Allow header")
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status(), self.body()).into_response();
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, json);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let challenge = match (&self.challenge, self.kind) {
            (Some(parameters), _) => Some(format!("Bearer realm=\"almanac\", {parameters}")),
            (None, ProblemType::Unauthorized) => Some("Bearer realm=\"almanac\"".to_owned()),
            _ => None,
        };
        if let Some(Ok(challenge)) = challenge.map(HeaderValue::try_from) {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(Ok(tag)) = self.version.map(|n| HeaderValue::try_from(format!("\"{n}\""))) {
            headers.insert(header::ETAG, tag);
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[tokio::test]
    async fn a_problem_names_its_request() {
        let id = Uuid::from_u128(7);
        let problem = Problem::new(ProblemType::NotFound, "no such thing");
        let body = request::on_behalf(id, async { problem.body() }).await;
        let document: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(document["instance"], "urn:uuid:00000000-0000-0000-0000-000000000007");
        assert!(!problem.body().contains("instance"), "there is none");
    }
}

//! What a write is answered with: its reply, or that it goes on.

use almanac_schemas::{
    Token,
    commands::{CommandRecord, ReplyRecord},
};
use axum::{body::Body, response::Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::json;

const CONSISTENCY_TOKEN: HeaderName = HeaderName::from_static("consistency-token");
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// The answer that a reply stands for.
pub(crate) fn answer(reply: &ReplyRecord, token: Option<Token>) -> Response {
    let mut response = Response::new(Body::from(reply.body.clone()));
    *response.status_mut() = status_of(reply);
    for (name, value) in headers_of(reply, token) {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

pub(crate) fn headers_of(reply: &ReplyRecord, token: Option<Token>) -> Vec<(HeaderName, String)> {
    let status = status_of(reply);
    let kind = if status.is_success() { "application/json" } else { "application/problem+json" };
    let mut headers = vec![
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    if let Some(version) = reply.version {
        headers.push((header::ETAG, format!("\"{version}\"")));
    }
    // Made, or begun: there it is.
    if matches!(status, StatusCode::CREATED | StatusCode::ACCEPTED) {
        let (context, id) = (&reply.context, &reply.aggregate_id);
        headers.push((header::LOCATION, format!("/v1/{context}/{id}")));
    }
    if matches!(status, StatusCode::ACCEPTED | StatusCode::SERVICE_UNAVAILABLE) {
        headers.push((header::RETRY_AFTER, "1".to_owned()));
    }
    if let Some(token) = token {
        headers.push((CONSISTENCY_TOKEN, token.to_string()));
    }
    if reply.replayed {
        headers.push((IDEMPOTENT_REPLAYED, "true".to_owned()));
    }
    headers
}

fn status_of(reply: &ReplyRecord) -> StatusCode {
    u16::try_from(reply.status)
        .ok()
        .and_then(|status| StatusCode::from_u16(status).ok())
        .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// It goes on without whoever asked; the outcome can be fetched.
pub(crate) fn accepted(command: &CommandRecord, token: Option<Token>) -> Response {
    let id = &command.request_id;
    let body = json!({"id": id, "state": "pending", "expires_at": null, "outcome": null});
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = StatusCode::ACCEPTED;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    if let Some(Ok(token)) = token.map(|token| HeaderValue::try_from(token.to_string())) {
        headers.insert(CONSISTENCY_TOKEN, token);
    }
    if let Ok(location) = HeaderValue::try_from(format!("/v1/commands/{id}")) {
        headers.insert(header::LOCATION, location);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use almanac_schemas::commands::ReplyRecord;

    fn reply(context: &str, status: i32) -> ReplyRecord {
        ReplyRecord {
            request_id: "r".to_owned(),
            outcome_id: "o".to_owned(),
            caller: "mary".to_owned(),
            aggregate_id: "a".to_owned(),
            fingerprint: String::new(),
            command_offset: 7,
            decided_at: 0,
            expires_at: 0,
            replayed: false,
            status,
            version: Some(1),
            body: "{}".to_owned(),
            events_through: None,
            context: context.to_owned(),
            through: None,
        }
    }

    #[test]
    fn what_was_made_or_begun_has_an_address() {
        let header = |reply: &ReplyRecord, name: HeaderName| {
            let headers = headers_of(reply, None);
            headers.into_iter().find(|(known, _)| *known == name).map(|(_, value)| value)
        };
        for (context, status, location, retry_after) in [
            ("recipes", 201, Some("/v1/recipes/a"), None),
            ("schedules", 201, Some("/v1/schedules/a"), None),
            ("analyses", 202, Some("/v1/analyses/a"), Some("1")),
            ("recipes", 200, None, None),
            ("recipes", 503, None, Some("1")),
        ] {
            let reply = reply(context, status);
            assert_eq!(header(&reply, header::LOCATION).as_deref(), location, "{status}");
            assert_eq!(header(&reply, header::RETRY_AFTER).as_deref(), retry_after, "{status}");
        }
    }
}

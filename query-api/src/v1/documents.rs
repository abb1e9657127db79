//! What describes the surface to programs and people: OpenAPI, AsyncAPI, and a page of them.

use crate::state::ApiState;
use almanac_edge::conditional;
use almanac_schemas::files::SchemaFile;
use axum::{extract::State, response::Response};
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub(crate) async fn openapi(headers: HeaderMap) -> Response {
    conditional::json(&headers, include_str!("../../openapi.json"))
}

/// A page made from the OpenAPI document. It loads nothing from elsewhere.
pub(crate) async fn docs(headers: HeaderMap) -> Response {
    let mut response = conditional::json(&headers, include_str!("../docs.html"));
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, html);
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'";
    let policy = HeaderValue::from_static(policy);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

/// The domain events for consumers of the topics: one channel per topic, one message per record,
/// made from the schemas that are written with.
pub(crate) async fn asyncapi(State(state): State<Arc<ApiState>>, headers: HeaderMap) -> Response {
    conditional::json(&headers, describe(&state.options.prefix).to_string())
}

fn describe(prefix: &str) -> Value {
    let (mut channels, mut operations) = (Map::new(), Map::new());
    for file in SchemaFile::all_newest().filter(|file| file.topic.ends_with(".events")) {
        let schema: Value = serde_json::from_str(file.text).unwrap_or_default();
        let name = file.record.rsplit('.').next().unwrap_or(file.record);
        let id = file.topic.replace('.', "_");
        let channel = channels.entry(id.clone()).or_insert_with(|| {
            json!({
                "address": format!("{prefix}{}", file.topic),
                "description": "Keyed by the subject; ordered per key. Read with isolation.level=read_committed.",
                "messages": {},
            })
        });
        channel["messages"][name] = json!({
            "name": file.record,
            "title": name,
            "summary": schema["doc"],
            "contentType": "application/avro",
            "headers": {
                "type": "object",
                "description": "CloudEvents attributes in binary mode: ce_id, ce_source, ce_type, ce_subject, ce_time, ce_sequence, ce_causationid, ce_correlationid; of events that a command caused also ce_consistencytoken.",
            },
            "payload": {
                "schemaFormat": "application/vnd.apache.avro+json;version=1.9.0",
                "schema": schema,
            },
        });
        operations.entry(format!("consume_{id}")).or_insert_with(
            || json!({ "action": "receive", "channel": { "$ref": format!("#/channels/{id}") } }),
        );
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Almanac's domain events",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Avro in Confluent's wire format, one subject per topic and record. docs/consumers.md tells how to read them.",
        },
        "defaultContentType": "application/avro",
        "channels": channels,
        "operations": operations,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_described() {
        let described = describe("x.");
        let channel = &described["channels"]["plans_events"];
        assert_eq!(channel["address"], "x.plans.events");
        for name in ["PlanListed", "PlanChanged", "PlanDelisted", "PlanRelisted", "FeedObserved"] {
            let message = &channel["messages"][name];
            assert_eq!(message["payload"]["schema"]["name"], name);
            assert!(message["summary"].as_str().is_some_and(|text| text.len() > 10), "{name}");
        }
        assert!(
            described["channels"].as_object().unwrap().keys().all(|id| id.ends_with("_events"))
        );
    }
}

//! What Almanac sends without being asked, for programs: its events on Kafka and its webhooks, as an
//! AsyncAPI document.

use crate::state::ApiState;
use almanac_edge::conditional;
use almanac_schemas::{
    files::SchemaFile,
    notifications::{DERIVED, told_types},
};
use axum::{extract::State, response::Response};
use http::HeaderMap;
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub(crate) async fn asyncapi(State(state): State<Arc<ApiState>>, headers: HeaderMap) -> Response {
    conditional::json(&headers, describe(&state.options.prefix).to_string())
}

fn describe(prefix: &str) -> Value {
    let (mut channels, mut operations) = (Map::new(), Map::new());
    for file in SchemaFile::all_newest().filter(|file| file.topic.ends_with(".events")) {
        let id = file.topic.replace('.', "_");
        let channel = channels.entry(id.clone()).or_insert_with(|| topic(prefix, file.topic));
        let name = file.record.rsplit('.').next().unwrap_or(file.record);
        channel["messages"][name] = record(file, name);
        operations.entry(format!("send_{id}")).or_insert_with(|| sent_to(&id));
    }
    channels.insert("webhooks".to_owned(), webhooks());
    let mut operation = sent_to("webhooks");
    operation["bindings"] = json!({ "http": { "method": "POST", "bindingVersion": "0.3.0" } });
    operations.insert("send_webhooks".to_owned(), operation);
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Almanac's events",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What Almanac sends: domain events on Kafka, as Avro in Confluent's wire format under one subject per topic and record (docs/consumers.md tells how to read them), and webhooks to who subscribed (docs/notifications.md).",
        },
        "defaultContentType": "application/avro",
        "channels": channels,
        "operations": operations,
        "components": {
            "messageTraits": { "kafka": kafka_headers(), "webhook": webhook_headers() },
        },
    })
}

fn sent_to(channel: &str) -> Value {
    json!({ "action": "send", "channel": { "$ref": format!("#/channels/{channel}") } })
}

/// One channel for each topic: the domain events, made from the schemas that are written with.
fn topic(prefix: &str, topic: &str) -> Value {
    json!({
        "address": format!("{prefix}{topic}"),
        "description": "Keyed by the subject; ordered per key. Read with isolation.level=read_committed.",
        "messages": {},
        "bindings": { "kafka": { "topic": format!("{prefix}{topic}"), "bindingVersion": "0.5.0" } },
    })
}

fn record(file: &SchemaFile, name: &str) -> Value {
    let schema: Value = serde_json::from_str(file.text).unwrap_or_default();
    json!({
        "name": file.record,
        "title": name,
        "summary": schema["doc"],
        "contentType": "application/avro",
        "traits": [{ "$ref": "#/components/messageTraits/kafka" }],
        "payload": {
            "schemaFormat": "application/vnd.apache.avro+json;version=1.9.0",
            "schema": schema,
        },
        "bindings": { "kafka": {
            "key": { "type": "string", "description": "The subject's id." },
            "schemaIdLocation": "payload",
            "schemaIdPayloadEncoding": "confluent",
            "schemaLookupStrategy": "TopicRecordNameStrategy",
            "bindingVersion": "0.5.0",
        } },
    })
}

/// Every header of `processor::Envelope`.
fn kafka_headers() -> Value {
    json!({ "headers": {
        "type": "object",
        "description": "CloudEvents attributes in binary mode.",
        "required": ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_subject", "ce_time", "content-type"],
        "properties": {
            "ce_specversion": { "type": "string", "const": "1.0" },
            "ce_id": { "type": "string", "description": "The same event always has the same one." },
            "ce_source": { "type": "string", "format": "uri-reference", "description": "Whose event it is." },
            "ce_type": { "type": "string", "description": "Such as plan.listed." },
            "ce_subject": { "type": "string", "description": "What it is of; also the record's key." },
            "ce_time": { "type": "string", "format": "date-time", "description": "When it happened." },
            "ce_sequence": { "type": "string", "pattern": "^[0-9]+$", "description": "Its number among the events of its subject, from 1 without gaps." },
            "ce_causationid": { "type": "string", "description": "The fetch or command that caused it." },
            "ce_correlationid": { "type": "string", "description": "The chain that it belongs to." },
            "ce_consistencytoken": { "type": "string", "description": "Of an event that a command caused: a read over HTTP with it in Consistency-Token includes it." },
            "content-type": { "type": "string", "const": "application/avro" },
            "traceparent": { "type": "string", "description": "Where the event is part of a trace: W3C Trace Context." },
            "tracestate": { "type": "string", "description": "Beside it, what others added." },
        },
    } })
}

/// One message for each type that can be subscribed to.
fn webhooks() -> Value {
    let types = told_types();
    let messages: Map<String, Value> =
        types.iter().map(|one| (one.clone(), webhook(one))).collect();
    json!({
        "address": null,
        "title": "Webhooks",
        "description": "POST to the address of each subscription (POST /v1/subscriptions). Any 2xx takes a notification; anything else is sent again for a day, in no order. At least once: webhook-id is the same each time.",
        "messages": messages,
    })
}

fn webhook(event_type: &str) -> Value {
    let data = match DERIVED.contains(&event_type) {
        true => json!({
            "type": "object",
            "description": "What a schedule's newest analysis changed against the one before.",
            "required": ["schedule_id", "analysis_id", "task"],
            "properties": {
                "schedule_id": { "type": "string", "format": "uuid" },
                "analysis_id": { "type": "string", "format": "uuid" },
                "task": { "type": "string" },
                "reason": { "type": ["string", "null"] },
            },
        }),
        false => json!({
            "type": "object",
            "description": "The event's record in JSON: the fields of the message of the same type on its topic.",
        }),
    };
    json!({
        "name": event_type,
        "title": event_type,
        "contentType": "application/cloudevents+json",
        "traits": [{ "$ref": "#/components/messageTraits/webhook" }],
        "payload": {
            "type": "object",
            "required": ["specversion", "id", "source", "type", "subject", "time", "datacontenttype"],
            "properties": {
                "specversion": { "const": "1.0" },
                "id": { "type": "string" },
                "source": { "type": "string", "format": "uri-reference" },
                "type": { "const": event_type },
                "subject": { "type": ["string", "null"] },
                "time": { "type": ["string", "null"], "format": "date-time" },
                "datacontenttype": { "const": "application/json" },
                "correlationid": { "type": ["string", "null"] },
                "consistencytoken": { "type": ["string", "null"] },
                "sequence": { "type": ["integer", "null"] },
                "data": data,
                "dataref": { "type": "string", "format": "uri-reference", "description": "Where the event is found; instead of data, where that takes more than 256 kB." },
            },
        },
    })
}

fn webhook_headers() -> Value {
    json!({ "headers": {
        "type": "object",
        "description": "Signed as Standard Webhooks say, with the subscription's secret.",
        "required": ["content-type", "webhook-id", "webhook-timestamp", "webhook-signature"],
        "properties": {
            "content-type": { "type": "string", "const": "application/cloudevents+json" },
            "webhook-id": { "type": "string", "description": "The event's id: keep those that you have handled." },
            "webhook-timestamp": { "type": "string", "pattern": "^[0-9]+$", "description": "When it was sent, in seconds since 1970." },
            "webhook-signature": { "type": "string", "pattern": "^v1,", "description": "Of id, timestamp and body." },
            "traceparent": { "type": "string", "description": "Where the event is part of a trace: W3C Trace Context." },
            "tracestate": { "type": "string", "description": "Beside it, what others added." },
        },
    } })
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
        let channels = described["channels"].as_object().unwrap();
        assert!(channels.keys().all(|id| id.ends_with("_events") || id == "webhooks"));
        let told = channels["webhooks"]["messages"].as_object().unwrap();
        assert!(told_types().iter().all(|one| told.contains_key(one)), "{told:?}");
    }

    #[test]
    fn headers_are_those_that_are_written() {
        let parent = almanac_traces::Parent::read(|name| match name {
            "traceparent" => Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            _ => Some("rojo=1"),
        });
        let envelope = almanac_processor::Envelope {
            id: "i",
            source: "s",
            event_type: "t",
            subject: "u",
            time: "2026-01-01T00:00:00Z",
            sequence: Some(1),
            causation: Some("c"),
            correlation: Some("d"),
            consistency_token: Some("e"),
            parent: parent.as_ref(),
        };
        let described = kafka_headers();
        let named = described["headers"]["properties"].as_object().unwrap();
        let headers = envelope.headers();
        let written: Vec<&str> = headers.iter().map(|(name, _)| name).collect();
        assert_eq!(written.len(), named.len(), "{written:?}");
        assert!(written.iter().all(|name| named.contains_key(*name)), "{written:?}");
    }
}

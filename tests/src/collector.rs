//! A collector of spans on loopback, that takes them, refuses them or says nothing.

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
    routing::post,
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, common::v1::KeyValue,
    common::v1::any_value::Value,
};
use parking_lot::Mutex;
use prost::Message;
use std::{collections::BTreeMap, sync::Arc};

/// A span as it came, with ids in hexadecimal digits.
#[derive(Clone, Debug)]
pub struct Spanned {
    pub trace: String,
    pub id: String,
    /// Empty where it has none.
    pub parent: String,
    pub name: String,
    /// As the protocol numbers them: 1 internal, 2 server, 3 client, 4 producer, 5 consumer.
    pub kind: i32,
    pub attributes: BTreeMap<String, String>,
    pub links: Vec<String>,
    /// Of the process.
    pub resource: BTreeMap<String, String>,
    pub is_error: bool,
    pub start: u64,
    pub end: u64,
}

impl Spanned {
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    #[default]
    Takes,
    Refuses,
    /// Takes the request and never answers.
    Hangs,
}

#[derive(Clone, Default)]
pub struct Collector {
    mood: Arc<Mutex<Mood>>,
    spans: Arc<Mutex<Vec<Spanned>>>,
    headers: Arc<Mutex<Vec<HeaderMap>>>,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |one: KeyValue| {
        let value = match one.value.and_then(|value| value.value) {
            Some(Value::StringValue(text)) => text,
            Some(Value::IntValue(number)) => number.to_string(),
            other => format!("{other:?}"),
        };
        (one.key, value)
    };
    attributes.into_iter().map(text).collect()
}

async fn take(
    State(collector): State<Collector>,
    headers: HeaderMap,
    body: Bytes,
) -> impl IntoResponse {
    let mood = *collector.mood.lock();
    match mood {
        Mood::Takes => {}
        Mood::Refuses => return StatusCode::FORBIDDEN,
        Mood::Hangs => std::future::pending().await,
    }
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let mut spans = collector.spans.lock();
    for of_resource in request.resource_spans {
        let resource = text(of_resource.resource.unwrap_or_default().attributes);
        for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            spans.push(Spanned {
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                name: span.name,
                kind: span.kind,
                attributes: text(span.attributes),
                links: span.links.iter().map(|link| hex(&link.span_id)).collect(),
                resource: resource.clone(),
                is_error: span.status.is_some_and(|status| status.code == 2),
                start: span.start_time_unix_nano,
                end: span.end_time_unix_nano,
            });
        }
    }
    collector.headers.lock().push(headers);
    StatusCode::OK
}

impl Collector {
    /// Its endpoint.
    pub async fn start(&self) -> String {
        let router = Router::new().route("/v1/traces", post(take)).with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}")
    }

    pub fn behave(&self, mood: Mood) {
        *self.mood.lock() = mood;
    }

    pub fn spans(&self) -> Vec<Spanned> {
        self.spans.lock().clone()
    }

    pub fn of_trace(&self, trace: &str) -> Vec<Spanned> {
        self.spans().into_iter().filter(|span| span.trace == trace).collect()
    }

    /// Headers of deliveries that were taken.
    pub fn headers(&self) -> Vec<HeaderMap> {
        self.headers.lock().clone()
    }
}

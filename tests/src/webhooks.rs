//! A receiver of webhooks that does what it is told to, and holds each against its signature.

use crate::process::Process;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

pub const SECRET: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz";

/// One webhook as it came.
#[derive(Clone, Debug)]
pub struct Received {
    pub id: String,
    pub body: Value,
    /// The body to the letter, and what is signed with it.
    pub text: String,
    pub timestamp: String,
    pub signature: String,
    pub traceparent: Option<String>,
    pub tracestate: Option<String>,
}

/// What a path answers; 204 where nothing is said.
#[derive(Clone, Debug)]
pub enum Behaviour {
    Status(u16),
    /// This status to events of this type, and 204 to others.
    Refuses(&'static str, u16),
    /// Takes the request and never answers.
    Hangs,
    /// 200, with a body that never ends.
    Endless,
    /// 307 to this path.
    Redirects(&'static str),
}

#[derive(Clone, Default)]
pub struct Receiver {
    behaviours: Arc<Mutex<HashMap<String, Behaviour>>>,
    takes_any_time: Arc<AtomicBool>,
    received: Arc<Mutex<HashMap<String, Vec<Received>>>>,
}

async fn receive(
    State(receiver): State<Receiver>,
    Path(path): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let webhook = Webhook::new(SECRET).unwrap();
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let is_ours = match receiver.takes_any_time.load(Ordering::SeqCst) {
        false => webhook.verify(&body, &headers).is_ok(),
        true => {
            let at = header("webhook-timestamp").parse().unwrap();
            let signed = webhook.sign(&header("webhook-id"), at, &body).unwrap();
            header("webhook-signature").split(' ').any(|one| one == signed)
        }
    };
    assert!(is_ours, "the signature must be good");
    let some = |name: &str| headers.contains_key(name).then(|| header(name));
    let text = String::from_utf8(body.to_vec()).unwrap();
    let received = Received {
        id: header("webhook-id"),
        body: serde_json::from_str(&text).unwrap(),
        text,
        timestamp: header("webhook-timestamp"),
        signature: header("webhook-signature"),
        traceparent: some("traceparent"),
        tracestate: some("tracestate"),
    };
    let event_type = received.body["type"].as_str().unwrap().to_owned();
    receiver.received.lock().entry(path.clone()).or_default().push(received);
    let behaviour = receiver.behaviours.lock().get(&path).cloned();
    let status = |status: u16| StatusCode::from_u16(status).unwrap().into_response();
    match behaviour.unwrap_or(Behaviour::Status(204)) {
        Behaviour::Status(code) => status(code),
        Behaviour::Refuses(refused, code) if refused == event_type => status(code),
        Behaviour::Refuses(..) => status(204),
        Behaviour::Hangs => std::future::pending().await,
        Behaviour::Endless => {
            let chunks = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![0_u8; 4096]));
            Response::new(Body::from_stream(chunks))
        }
        Behaviour::Redirects(to) => {
            (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to)]).into_response()
        }
    }
}

impl Receiver {
    /// Its address, to which paths of one part are added.
    pub async fn start(&self) -> String {
        let router = Router::new().route("/{path}", post(receive)).with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}")
    }

    /// Takes what was signed at another time than now: the clock of whoever sends is made to go wrong.
    pub fn take_any_time(&self) {
        self.takes_any_time.store(true, Ordering::SeqCst);
    }

    pub fn behave(&self, path: &str, behaviour: Behaviour) {
        self.behaviours.lock().insert(path.to_owned(), behaviour);
    }

    pub fn received(&self, path: &str) -> Vec<Received> {
        self.received.lock().get(path).cloned().unwrap_or_default()
    }

    /// The ids that came to a path, each once.
    pub fn ids(&self, path: &str) -> BTreeSet<String> {
        self.received(path).into_iter().map(|one| one.id).collect()
    }
}

/// Subscribes; the id of the subscription.
pub async fn subscribe(
    process: &Process,
    headers: &[(&str, &str)],
    types: &[&str],
    subject: Option<&str>,
    url: &str,
) -> String {
    let body = json!({"types": types, "subject": subject, "url": url, "secret": SECRET});
    let answer = process.send("POST", "/v1/subscriptions", headers, body.to_string()).await;
    let answer = answer.unwrap();
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.body["id"].as_str().unwrap().to_owned()
}

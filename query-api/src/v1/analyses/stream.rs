//! An analysis as server-sent events: how it stands now, each change, and its end.

use super::{Analyses, missing, parse_id};
use crate::v1::private::of_the_caller;
use almanac_edge::{Problem, query::Parameters};
use axum::{
    body::Body,
    extract::{Path, RawQuery, State},
    response::Response,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// Looked at so often, should the change feed be silent; places in the queue change without it.
const LOOK: Duration = Duration::from_secs(1);
/// Something is said at least so often, so that dead connections are noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);

pub(super) async fn stream(
    State(state): State<Arc<Analyses>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    Parameters::parse(query.as_deref(), &[])?;
    let caller = state.identity.caller(&headers)?;
    let id = parse_id(&id, missing)?;
    let mut changes = state.changes_of(&id);
    // What is wrong is answered before the stream begins.
    let first = state.tell(&id, &caller, state.options.wait).await?;
    let place = state.streams.open(state.identity.party(&headers));
    let place = place.ok_or_else(|| Problem::busy("too many streams are open"))?;
    let until = Instant::now() + state.options.event_stream_time;
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(4);
    tokio::spawn(async move {
        let (mut said, mut said_at) = (None::<Bytes>, Instant::now());
        let mut told = Some(first);
        loop {
            let now = match told.take() {
                Some(told) => Ok(told),
                None => state.tell(&id, &caller, state.options.wait).await,
            };
            let (text, is_open) = match now {
                Ok(now) => {
                    let is_open = now.is_open();
                    match state.text_of(now, &id, state.options.wait).await {
                        Ok(text) => (text, is_open),
                        // An outage: the client comes back, or the next look finds it over.
                        Err(_) => return,
                    }
                }
                Err(_) => return,
            };
            if said.as_ref() != Some(&text) {
                if sender.send(Ok(event(&text))).await.is_err() {
                    return;
                }
                (said, said_at) = (Some(text), Instant::now());
            } else if said_at.elapsed() >= HEARTBEAT {
                if sender.send(Ok(Bytes::from_static(b": nothing new\n\n"))).await.is_err() {
                    return;
                }
                said_at = Instant::now();
            }
            if !is_open {
                return;
            }
            tokio::select! {
                _ = tokio::time::timeout(LOOK, changes.changed()) => {}
                () = sender.closed() => return,
                () = place.is_taken_back() => return,
                () = tokio::time::sleep_until(until) => return,
            }
        }
    });
    let events = futures::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|event| (event, receiver))
    });
    let mut response = Response::new(Body::from_stream(events));
    let kind = HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(of_the_caller(response, "Authorization"))
}

/// Named after the state, so that clients can listen for `completed`.
fn event(text: &[u8]) -> Bytes {
    let state = serde_json::from_slice::<Value>(text).ok();
    let state = state.as_ref().and_then(|body| body["state"].as_str()).unwrap_or("message");
    let mut event = format!("event: {state}\ndata: ").into_bytes();
    event.extend_from_slice(text);
    event.extend_from_slice(b"\n\n");
    event.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_named_after_the_state() {
        let event = event(br#"{"request_id":"a","state":"running"}"#);
        let text = "event: running\ndata: {\"request_id\":\"a\",\"state\":\"running\"}\n\n";
        assert_eq!(event, text.as_bytes());
    }
}

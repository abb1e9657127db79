//! Writes of a terminal. A script's next command finds what this one wrote: it ends once reads show it.

use super::{Client, Exit};
use almanac_errors::chain;
use anyhow::Context;
use reqwest::{Method, RequestBuilder, StatusCode, header};
use serde_json::Value;

/// The longest wait that a server grants; a write is held until it is decided, a read until its tables show
/// what was written.
pub(super) const HELD: &str = "wait=30";
const HELD_STRICTLY: &str = "wait=30, handling=strict";

impl Client {
    /// What a write answers, once reads of `list` show it. Tables that are late are told of on the standard
    /// error: the write itself is done.
    pub(super) async fn write(
        &self,
        request: RequestBuilder,
        list: &[&str],
    ) -> anyhow::Result<Value> {
        let answer = self.send(request.header("prefer", HELD)).await?;
        let (status, headers) = (answer.status(), answer.headers());
        if status == StatusCode::ACCEPTED {
            let command = headers.get(header::LOCATION).and_then(|place| place.to_str().ok());
            let command = command.unwrap_or("/v1/commands/{id}");
            let told = format!("taken on and not decided yet; GET {command} tells the outcome");
            return Err(Exit::NotInTime(told).into());
        }
        let token = headers.get("consistency-token").cloned();
        let written: Value = answer.json().await.context("the answer is no JSON")?;
        if let Some(token) = token {
            let read = self.request(Method::GET, list, &[("limit", "1")]);
            let read = read.header("consistency-token", token).header("prefer", HELD_STRICTLY);
            if let Err(error) = self.send(read).await {
                tracing::warn!(
                    error = %chain(error.as_ref()),
                    "it is written, and reads may not show it yet"
                );
            }
        }
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Target;
    use axum::{
        Json, Router,
        http::HeaderMap,
        response::{IntoResponse, Response},
        routing::get,
    };
    use parking_lot::Mutex;
    use serde_json::json;
    use std::sync::Arc;

    const ALL: [&str; 2] = ["v1", "schedules"];

    /// What a write of the command line ends with where the server answers it so, and the headers of the
    /// reads that followed.
    async fn written(answer: Response) -> (anyhow::Result<Value>, Vec<HeaderMap>) {
        let reads = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (reads.clone(), Arc::new(Mutex::new(Some(answer))));
        let read = move |headers: HeaderMap| async move {
            seen.lock().push(headers);
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "detail": "not reached" })))
        };
        let write = move |headers: HeaderMap| async move {
            assert_eq!(headers["prefer"], HELD);
            answer.lock().take().unwrap()
        };
        let router = Router::new().route("/v1/schedules", get(read).post(write));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let target = Target { url: Some(base.into()), token: None };
        let client = Client::new(&target, &Default::default()).unwrap();
        let outcome = client.write(client.request(Method::POST, &ALL, &[]), &ALL).await;
        let reads = reads.lock().clone();
        (outcome, reads)
    }

    #[tokio::test]
    async fn a_write_ends_once_reads_were_held_until_they_show_it() {
        let answer = ([("consistency-token", "schedules/1")], Json(json!({ "version": 1 })));
        let (outcome, reads) = written(answer.into_response()).await;
        // Tables that are late do not undo it.
        assert_eq!(outcome.unwrap()["version"], 1);
        let [read] = &reads[..] else { panic!("{reads:?}") };
        assert_eq!(read["consistency-token"], "schedules/1");
        assert_eq!(read["prefer"], HELD_STRICTLY);
    }

    #[tokio::test]
    async fn what_is_not_decided_yet_is_no_success() {
        let answer =
            (StatusCode::ACCEPTED, [("location", "/v1/commands/7")], Json(json!({ "id": "7" })));
        let (outcome, reads) = written(answer.into_response()).await;
        let error = outcome.unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(Exit::NotInTime(_))), "{error:?}");
        assert!(error.to_string().contains("/v1/commands/7"), "{error}");
        assert!(reads.is_empty(), "{reads:?}");
    }
}

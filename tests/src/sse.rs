//! Server-sent events, read as a browser reads them.

use crate::process::PATIENCE;
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::Value;

#[derive(Clone, Debug)]
pub struct Event {
    pub id: String,
    pub name: String,
    pub data: Value,
}

pub struct Events {
    response: Response,
    unread: String,
    /// What a browser would send as `Last-Event-ID`.
    pub last_id: String,
}

impl Events {
    pub async fn open(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{response:?}");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, unread: String::new(), last_id: String::new() }
    }

    /// The next event; `None` once the stream has ended.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some((block, rest)) = self.unread.split_once("\n\n") {
                let field = |name: &str| {
                    let line = block.lines().find_map(|line| line.strip_prefix(name));
                    line.and_then(|value| value.strip_prefix(": ")).map(str::to_owned)
                };
                let (id, name, data) = (field("id"), field("event"), field("data"));
                self.unread = rest.to_owned();
                if let Some(id) = id {
                    self.last_id = id;
                }
                if let Some(data) = data {
                    let data = serde_json::from_str(&data).unwrap();
                    let (id, name) = (self.last_id.clone(), name.unwrap_or_default());
                    return Some(Event { id, name, data });
                }
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await;
            let chunk = chunk.expect("something comes in time").unwrap()?;
            self.unread.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// So many events.
    pub async fn take(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < count {
            events.push(self.next().await.expect("the stream goes on"));
        }
        events
    }

    /// Reads until the stream has told where it stands.
    pub async fn started(&mut self) {
        while !self.unread.contains("\n\n") {
            let chunk = self.response.chunk().await.unwrap().expect("the stream goes on");
            self.unread.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        let id = self.unread.lines().find_map(|line| line.strip_prefix("id: "));
        self.last_id = id.expect("a position").to_owned();
    }
}

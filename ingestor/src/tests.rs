//! What the unit tests of this crate share.

use crate::config::{ProviderConfig, ProviderKind};
use parking_lot::Mutex;
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

pub(crate) fn provider(name: &str, url: &str) -> ProviderConfig {
    ProviderConfig {
        name: name.to_owned(),
        kind: ProviderKind::FeverPlans,
        url: url.into(),
        timezone: "Europe/Madrid".to_owned(),
        interval: Duration::from_secs(30),
        max_interval: Duration::from_secs(600),
        freshness: Duration::from_secs(60),
        priority: 1,
        currency: None,
        url_template: None,
        headers: BTreeMap::new(),
        header_files: BTreeMap::new(),
        allow_redirects_to_other_hosts: false,
        obey_cache_headers: false,
        paused: false,
        forecasts: Default::default(),
    }
}

/// A server on loopback that answers what a test made of the head of the request, and keeps the
/// heads.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(crate) async fn start(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let kept = heads.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { break };
                    head.push(byte);
                }
                let head = String::from_utf8(head).unwrap();
                let answer = answer(&head);
                kept.lock().push(head);
                let _ = stream.write_all(&answer).await;
            }
        });
        Self { address, heads }
    }

    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().clone()
    }
}

/// An answer as it stands on the wire.
pub(crate) fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

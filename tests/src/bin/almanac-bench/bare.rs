//! The bare server: what an axum server does at the least that answers these bytes from memory.

use axum::{Router, response::IntoResponse, routing::get};
use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

pub(crate) async fn serve(file: &str, port: &str) {
    let body = bytes::Bytes::from(std::fs::read(file).expect("the file is there"));
    let answer = move || {
        let body = body.clone();
        async move { ([("content-type", "application/json")], body).into_response() }
    };
    let router = Router::new().fallback(get(answer));
    let listener =
        tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await.expect("a port");
    let listener = axum::serve::ListenerExt::tap_io(listener, |stream| {
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, router).await.expect("it serves");
}

/// The server in a process of its own, ended when dropped.
pub(crate) struct Bare {
    child: Child,
    pub(crate) url: String,
}

impl Bare {
    pub(crate) fn start(body: &[u8]) -> Self {
        let file = std::env::temp_dir().join(format!("almanac-bare-{}.json", std::process::id()));
        std::fs::write(&file, body).expect("a temporary file");
        Self::spawn(&["bare", file.to_str().unwrap()])
    }

    /// The server that takes writes.
    pub(crate) fn start_writes() -> Self {
        Self::spawn(&["bare-writes"])
    }

    /// Almanac's own write path without the rest of it, and with or without transactions.
    pub(crate) async fn start_write_path(kind: &str) -> Self {
        let process = Self::spawn(&["write-path", kind]);
        let write = || reqwest::Client::new().post(format!("{}/v1/recipes", process.url));
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        while !write().body("{}").send().await.is_ok_and(|answer| answer.status() == 422) {
            assert!(tokio::time::Instant::now() < deadline, "the write path does not start");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        process
    }

    /// The port is the last argument.
    fn spawn(arguments: &[&str]) -> Self {
        let port = almanac_tests::process::free_port();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(arguments)
            .arg(port.to_string())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(300));
        Self { child, url: format!("http://127.0.0.1:{port}") }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

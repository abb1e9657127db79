//! The compatibility level of our subjects, which consumers are promised: BACKWARD_TRANSITIVE.
//!
//! A registry's own level may be any, NONE with some: without one on the subject, it would take a
//! schema from anybody that later readers cannot read earlier records with.

use almanac_errors::chain;
use almanac_secrets::{Address, Kept};
use reqwest::{Client, Method, StatusCode, header};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

const LEVEL: &str = "BACKWARD_TRANSITIVE";
/// What promises as much, and more: whoever set it may have had a reason.
const STRICTER: &str = "FULL_TRANSITIVE";
/// Of what a registry says for its refusal.
const SHOWN: usize = 200;
const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

pub(crate) struct Levels {
    client: Client,
    url: Address,
    credentials: Option<(String, Kept)>,
    timeout: Duration,
    /// Whether it was said that the registry does not let us. Once is enough for all subjects.
    is_told: AtomicBool,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Level {
    compatibility_level: Option<String>,
}

impl Levels {
    pub(crate) fn new(
        client: Client,
        url: Address,
        credentials: Option<(String, Kept)>,
        timeout: Duration,
    ) -> Self {
        Self { client, url, credentials, timeout, is_told: AtomicBool::new(false) }
    }

    /// Sets the level of a subject, unless it is set. The error says why it is not.
    pub(crate) async fn ensure(&self, subject: &str) -> Result<(), String> {
        let path = format!("/config/{subject}");
        let (status, body) = self.call(Method::GET, &path, None).await?;
        if status.is_success() {
            let level = serde_json::from_str::<Level>(&body).ok();
            let level = level.and_then(|told| told.compatibility_level).unwrap_or_default();
            if [LEVEL, STRICTER].contains(&level.as_str()) {
                return Ok(());
            }
        }
        let wanted = format!("{{\"compatibility\":\"{LEVEL}\"}}");
        let (status, body) = self.call(Method::PUT, &path, Some(wanted)).await?;
        match status.is_success() {
            true => Ok(()),
            false => Err(format!("{status}: {}", body.chars().take(SHOWN).collect::<String>())),
        }
    }

    /// Says that the level is not set; nothing else depends on it.
    pub(crate) fn tell(&self, subject: &str, detail: &str) {
        if !self.is_told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                registry = %self.url,
                subject,
                detail,
                "the schema registry does not take a compatibility level; going on. Set {LEVEL} for \
                 Almanac's subjects there: it is what consumers are promised"
            );
        }
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<(StatusCode, String), String> {
        let (status, body, _) = self.send(method, path, body).await?;
        Ok((status, body))
    }

    /// What is at an address of the registry, and the time of the answer as its header tells it.
    pub(crate) async fn get(&self, path: &str) -> Result<(String, Option<String>), String> {
        let (status, body, date) = self.send(Method::GET, path, None).await?;
        if !status.is_success() {
            let shown = body.chars().take(SHOWN).collect::<String>();
            return Err(format!("{status}: {shown}"));
        }
        Ok((body, date))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<(StatusCode, String, Option<String>), String> {
        let url = format!("{}{path}", self.url.expose().trim_end_matches('/'));
        let mut request = self.client.request(method, url);
        request = request.timeout(self.timeout);
        if let Some((username, password)) = &self.credentials {
            request = request.basic_auth(username, Some(password.now().expose()));
        }
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, CONTENT_TYPE).body(body);
        }
        let failed = |error: reqwest::Error| chain(&error.without_url()).to_string();
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        let date = response.headers().get(header::DATE).and_then(|date| date.to_str().ok());
        let date = date.map(str::to_owned);
        Ok((status, response.text().await.map_err(failed)?, date))
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        files::SchemaFile,
        registry::{ConfluentRegistry, Registry, RegistryOptions},
    };
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    type Asked = Arc<Mutex<Vec<String>>>;

    /// A registry that registers everything, and answers these to questions for a level and to
    /// setting it.
    async fn registry(
        get: (&'static str, &'static str),
        put: (&'static str, &'static str),
    ) -> (ConfluentRegistry, Asked) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Asked::default();
        let noted = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 1 << 16];
                let length = stream.read(&mut request).await.unwrap_or_default();
                let request = String::from_utf8_lossy(&request[..length]).into_owned();
                let method = request.split(' ').next().unwrap_or_default().to_owned();
                let (status, body) = match method.as_str() {
                    "GET" => get,
                    "PUT" => put,
                    _ => ("200 OK", r#"{"id":7}"#),
                };
                noted.lock().unwrap().push(method);
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        let timeout = Duration::from_secs(5);
        let options = RegistryOptions { url: url.into(), timeout, ..Default::default() };
        (ConfluentRegistry::new(options).unwrap(), asked)
    }

    #[tokio::test]
    async fn a_level_is_set_where_it_is_missing_and_never_needed() {
        const UNSET: (&str, &str) = ("404 Not Found", r#"{"error_code":40408,"message":"unset"}"#);
        const OK: (&str, &str) = ("200 OK", "{}");
        let level = |body| ("200 OK", body);
        for (get, put, expected) in [
            (UNSET, OK, "GET PUT POST"),
            (level(r#"{"compatibilityLevel":"NONE"}"#), OK, "GET PUT POST"),
            (level(r#"{"compatibilityLevel":"BACKWARD_TRANSITIVE"}"#), OK, "GET POST"),
            (level(r#"{"compatibilityLevel":"FULL_TRANSITIVE"}"#), OK, "GET POST"),
            // Tried once more now that the subject is there, then left.
            (UNSET, ("403 Forbidden", "no"), "GET PUT POST GET PUT"),
            (UNSET, ("404 Not Found", r#"{"error_code":40401}"#), "GET PUT POST GET PUT"),
            (UNSET, ("500 Internal Server Error", ""), "GET PUT POST GET PUT"),
        ] {
            let (registry, asked) = registry(get, put).await;
            let file = SchemaFile::all_newest().next().unwrap();
            assert_eq!(registry.register(file).await.unwrap(), 7, "{get:?} {put:?}");
            assert_eq!(asked.lock().unwrap().join(" "), expected, "{get:?} {put:?}");
        }
    }
}

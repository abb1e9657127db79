//! Sending one webhook: signed as the Standard Webhooks say, into the public internet alone.

use crate::notifications::NotificationOptions;
use almanac_domain::subscriptions::Knowledge;
use almanac_errors::chain;
use almanac_schemas::json::subscriptions::{Reach, address};
use almanac_secrets::SealingKey;
use almanac_traces::Parent;
use futures::StreamExt;
use reqwest::{
    Client, StatusCode,
    dns::{Addrs, Name, Resolve, Resolving},
    header::HeaderMap,
    redirect::Policy,
};
use standardwebhooks::{
    HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook,
};
use std::{error::Error, net::SocketAddr, sync::Arc};
use uuid::Uuid;

/// Of an answer's body, which says nothing to us: what is read so that its connection can be used
/// again.
const MAX_ANSWER: usize = 16 << 10;

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answered {
    pub(super) status: Option<u16>,
    /// What went wrong; `None` when it arrived.
    pub(super) fault: Option<String>,
}

impl Answered {
    /// Nobody wants to be told there any more.
    pub(super) fn is_gone(&self) -> bool {
        self.status == Some(StatusCode::GONE.as_u16())
    }

    fn failed(fault: impl Into<String>) -> Self {
        Self { status: None, fault: Some(fault.into()) }
    }
}

pub(super) struct Sender {
    client: Client,
    sealing: Option<SealingKey>,
    reach: Reach,
}

impl Sender {
    pub(super) fn new(
        options: &NotificationOptions,
        sealing: Option<SealingKey>,
        reach: Reach,
    ) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .dns_resolver(Arc::new(Resolver(reach)))
            // Where an answer redirects to was never checked.
            .redirect(Policy::none())
            // What a proxy would resolve, nobody checks.
            .no_proxy()
            .timeout(options.timeout)
            .user_agent(concat!("almanac/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client, sealing, reach })
    }

    /// Sends a body to a subscription's address under the event's id.
    pub(super) async fn send(
        &self,
        id: Uuid,
        subscription: &Knowledge,
        event_id: &str,
        body: String,
        parent: Option<&Parent>,
    ) -> Answered {
        let url = match address(&subscription.subscription.url, self.reach) {
            Ok(url) => url,
            Err(rule) => return Answered::failed(format!("the address is refused: {rule}")),
        };
        let now = jiff::Timestamp::now().as_second();
        let signature = match self.sign(id, subscription, event_id, now, &body) {
            Ok(signature) => signature,
            Err(fault) => return Answered::failed(fault),
        };
        let request = self
            .client
            .post(url)
            .header("content-type", "application/cloudevents+json")
            .header(HEADER_WEBHOOK_ID, event_id)
            .header(HEADER_WEBHOOK_TIMESTAMP, now)
            .header(HEADER_WEBHOOK_SIGNATURE, signature)
            .headers(traced(parent))
            .body(body);
        match request.send().await {
            Ok(answer) => {
                let status = answer.status();
                read_some(answer).await;
                let fault = (!status.is_success()).then(|| format!("it answered {status}"));
                Answered { status: Some(status.as_u16()), fault }
            }
            Err(error) => Answered::failed(told(&error)),
        }
    }

    fn sign(
        &self,
        id: Uuid,
        subscription: &Knowledge,
        event_id: &str,
        now: i64,
        body: &str,
    ) -> Result<String, String> {
        let Some(sealing) = &self.sealing else {
            return Err("this server has no key to open the secret with".to_owned());
        };
        let purpose = id.to_string();
        let secret = sealing.open(&subscription.sealed, purpose.as_bytes());
        let secret =
            secret.map_err(|error| format!("the secret cannot be opened: {}", chain(&error)))?;
        let webhook = Webhook::from_bytes(secret).map_err(|error| error.to_string())?;
        webhook.sign(event_id, now, body.as_bytes()).map_err(|error| error.to_string())
    }
}

/// Headers with which the subscriber goes on with the trace.
fn traced(parent: Option<&Parent>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(parent) = parent {
        parent.put(&mut headers);
    }
    headers
}

/// Reads an answer that may never end, as far as anybody cares.
async fn read_some(answer: reqwest::Response) {
    let (mut chunks, mut read) = (answer.bytes_stream(), 0);
    while let Some(Ok(chunk)) = chunks.next().await {
        read += chunk.len();
        if read >= MAX_ANSWER {
            break;
        }
    }
}

/// An error for the subscriber, with its causes and without the address, which may hold a secret.
fn told(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it did not answer in time".to_owned();
    }
    let mut text = "it cannot be reached".to_owned();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("it cannot be reached: {error}");
        cause = error.source();
    }
    text
}

/// Finds the addresses of a name, none of which may lead inside.
struct Resolver(Reach);

#[derive(Debug, thiserror::Error)]
#[error("the name leads into a private network")]
struct LeadsInside;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let found: Vec<SocketAddr> = found.collect();
            if found.iter().any(|address| !reach.permits(address.ip())) {
                return Err(LeadsInside.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use almanac_domain::subscriptions::Subscription;
    use axum::{Router, body::Body, http::HeaderMap, response::Response, routing::post};
    use std::time::{Duration, Instant};

    struct Fixture {
        sender: Sender,
        id: Uuid,
        subscription: Knowledge,
        _folder: tempfile::TempDir,
    }

    const SECRET: [u8; 32] = [7; 32];

    fn fixture(url: &str, reach: Reach) -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        SealingKey::make(&file).unwrap();
        let (sealing, id) = (SealingKey::load(&file).unwrap(), Uuid::from_u128(7));
        let now = jiff::Timestamp::now();
        let subscription = Knowledge {
            version: 1,
            subscription: Subscription { types: vec![], subject: None, url: url.to_owned() },
            sealed: sealing.seal(&SECRET, id.to_string().as_bytes()).unwrap(),
            owner: "mary".to_owned(),
            disabled: None,
            is_deleted: false,
            created_at: now,
            updated_at: now,
        };
        let options = NotificationOptions {
            timeout: Duration::from_secs(2),
            ..NotificationOptions::default()
        };
        let sender = Sender::new(&options, Some(sealing), reach).unwrap();
        Fixture { sender, id, subscription, _folder: folder }
    }

    impl Fixture {
        async fn send(&self) -> Answered {
            let body = r#"{"a":"é"}"#.to_owned();
            self.sender.send(self.id, &self.subscription, "e.1", body, None).await
        }
    }

    async fn serve(router: Router) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}/hook")
    }

    #[tokio::test]
    async fn what_is_sent_is_signed() {
        let receive = |headers: HeaderMap, body: String| async move {
            let webhook = Webhook::from_bytes(SECRET.to_vec()).unwrap();
            assert_eq!(headers["webhook-id"], "e.1");
            assert_eq!(headers["content-type"], "application/cloudevents+json");
            match webhook.verify(body.as_bytes(), &headers) {
                Ok(()) => StatusCode::NO_CONTENT,
                Err(_) => StatusCode::UNAUTHORIZED,
            }
        };
        let url = serve(Router::new().route("/hook", post(receive))).await;
        let mut fixture = fixture(&url, Reach::Anywhere);
        assert_eq!(fixture.send().await, Answered { status: Some(204), fault: None });
        // A secret that was sealed for another subscription is none of this one's.
        fixture.id = Uuid::from_u128(8);
        assert!(fixture.send().await.fault.unwrap().contains("secret cannot be opened"));
    }

    #[tokio::test]
    async fn redirects_are_not_followed_and_answers_need_not_end() {
        let redirect = || async {
            Response::builder()
                .status(302)
                .header("location", "/elsewhere")
                .body(Body::empty())
                .unwrap()
        };
        let elsewhere = || async { "never" };
        let endless = || async {
            let chunks = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![0_u8; 4096]));
            Response::new(Body::from_stream(chunks))
        };
        let hang = || async { std::future::pending::<()>().await };
        let gone = || async { StatusCode::GONE };
        let router = Router::new()
            .route("/hook", post(redirect))
            .route("/elsewhere", post(elsewhere))
            .route("/endless", post(endless))
            .route("/hang", post(hang))
            .route("/gone", post(gone));
        let url = serve(router).await;
        let of = |path: &str| fixture(&url.replace("/hook", path), Reach::Anywhere);
        let answered = of("/hook").send().await;
        assert_eq!((answered.status, answered.is_gone()), (Some(302), false));
        assert!(answered.fault.is_some());
        assert_eq!(of("/endless").send().await.status, Some(200));
        assert!(of("/gone").send().await.is_gone());
        let started = Instant::now();
        assert_eq!(of("/hang").send().await.fault.unwrap(), "it did not answer in time");
        assert!(started.elapsed() >= Duration::from_secs(2));
    }

    #[tokio::test]
    async fn private_networks_are_not_reached() {
        let url = serve(Router::new().route("/hook", post(|| async { "no" }))).await;
        assert!(fixture(&url, Reach::Public).send().await.fault.unwrap().contains("refused"));
        let resolver = Resolver(Reach::Public);
        let resolved = resolver.resolve("localhost".parse().unwrap()).await;
        assert!(resolved.is_err_and(|error| error.to_string().contains("private network")));
        assert!(Resolver(Reach::Anywhere).resolve("localhost".parse().unwrap()).await.is_ok());
    }
}

//! A provider on loopback that serves what a test tells it to.

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use parking_lot::Mutex;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

type Answer = Box<dyn Fn(u64, &HeaderMap) -> Response + Send + Sync>;

#[derive(Clone)]
pub struct Provider {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    answer: Mutex<Answer>,
    requests: AtomicU64,
}

impl Provider {
    pub async fn start() -> Self {
        let answer: Answer = Box::new(|_, _| StatusCode::SERVICE_UNAVAILABLE.into_response());
        let shared = Arc::new(Shared { answer: Mutex::new(answer), requests: AtomicU64::new(0) });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/plans.xml", get(respond)).with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}/plans.xml", self.address)
    }

    /// From now on this body, with status 200.
    pub fn serve(&self, body: impl Into<String>) {
        let body = body.into();
        self.answer(move |_, _| {
            ([(header::CONTENT_TYPE, "application/xml")], body.clone()).into_response()
        });
    }

    /// From now on whatever this makes of the number of the request.
    pub fn answer(&self, answer: impl Fn(u64, &HeaderMap) -> Response + Send + Sync + 'static) {
        *self.shared.answer.lock() = Box::new(answer);
    }

    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }
}

async fn respond(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let number = shared.requests.fetch_add(1, Ordering::SeqCst);
    let answer = shared.answer.lock();
    answer(number, &headers)
}

/// A feed of `plans` plans as of `version`: every plan's capacity follows from its number and the
/// version, and some are away for a while. Pure, so that the oracle knows what was served.
pub fn feed(plans: u64, version: u64) -> String {
    let mut out = String::from("<planList><output>");
    for plan in 0..plans {
        if let Some(capacity) = capacity(plan, version) {
            let (month, day) = (plan % 12 + 1, plan % 28 + 1);
            out.push_str(&format!(
                "<base_plan base_plan_id=\"b{plan}\" sell_mode=\"online\" title=\"Plan {plan}\">\
                 <plan plan_id=\"{plan}\" plan_start_date=\"2031-{month:02}-{day:02}T20:00:00\" \
                 plan_end_date=\"2031-{month:02}-{day:02}T22:00:00\" sold_out=\"false\">\
                 <zone zone_id=\"1\" capacity=\"{capacity}\" price=\"20.00\" name=\"A\"/></plan></base_plan>"
            ));
        }
    }
    out.push_str("</output></planList>");
    out
}

/// What the feed says of a plan as of a version; `None` while it is away.
pub fn capacity(plan: u64, version: u64) -> Option<u64> {
    if (plan * 7 + version).is_multiple_of(11) {
        return None;
    }
    // Changes with about every third version.
    Some(1 + plan % 5 + (version + plan) / 3)
}

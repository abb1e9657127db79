//! Where each read model stands: the one that answers, on the live tables of its projections, and while a
//! switch is under way the one that is to answer next, which follows the change feed already.

use crate::{
    models::{Declared, ReadModel},
    purging::Outdated,
};
use almanac_edge::cors;
use almanac_event_log::Offset;
use almanac_schemas::Token;
use arc_swap::{ArcSwap, ArcSwapOption};
use axum::{
    Router,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tower::ServiceExt;

pub(crate) struct Slot {
    pub(crate) declared: &'static Declared,
    live: ArcSwap<Served>,
    next: ArcSwapOption<Served>,
    /// Answers in the place of the model that the process started with.
    routes: ArcSwapOption<Router>,
    /// Odd while a switch is made, and another number after each.
    epoch: AtomicU64,
    pub(crate) outdated: Outdated,
}

/// A read model, and how far its tables are.
pub(crate) struct Served {
    pub(crate) model: Arc<dyn ReadModel>,
    /// By partition of the commands: the newest command whose events are folded.
    folded: Mutex<HashMap<u32, Offset>>,
}

impl Served {
    pub(crate) fn new(model: Arc<dyn ReadModel>) -> Arc<Self> {
        Arc::new(Self { model, folded: Mutex::default() })
    }

    /// Takes in what a projector reports. It never moves back.
    pub(crate) fn raise(&self, reported: Option<&str>) {
        let Some(token) = reported.and_then(|text| text.parse::<Token>().ok()) else { return };
        let mut folded = self.folded.lock();
        let known = folded.entry(token.partition).or_default();
        *known = token.offset.max(*known);
    }

    pub(crate) fn folded(&self) -> HashMap<u32, Offset> {
        self.folded.lock().clone()
    }
}

impl Slot {
    pub(crate) fn new(declared: &'static Declared, model: Arc<dyn ReadModel>) -> Arc<Self> {
        let live = ArcSwap::new(Served::new(model));
        let (next, routes) = (ArcSwapOption::empty(), ArcSwapOption::empty());
        let (epoch, outdated) = (AtomicU64::new(0), Outdated::default());
        Arc::new(Self { declared, live, next, routes, epoch, outdated })
    }

    pub(crate) fn live(&self) -> Arc<Served> {
        self.live.load_full()
    }

    /// Those that follow the change feed.
    pub(crate) fn followed(&self) -> impl Iterator<Item = Arc<Served>> {
        [Some(self.live()), self.next.load_full()].into_iter().flatten()
    }

    pub(crate) fn prepare(&self, next: Option<Arc<Served>>) {
        self.next.store(next);
    }

    /// From here on requests are answered by another model. `progress` makes tokens wait for its tables.
    pub(crate) fn switch(&self, next: Arc<Served>, progress: impl FnOnce()) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        progress();
        let router = next.model.clone().routes().into_router();
        self.routes.store(Some(Arc::new(router)));
        self.live.store(next);
        self.next.store(None);
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }
}

/// Hands a request on to the model that answers now. One that waited for its token while a switch was
/// made may have been woken by tables that its model does not read: it is answered once more. Others end
/// with the model that they began with.
pub(crate) async fn answered_by_live(
    State(slot): State<Arc<Slot>>,
    request: Request,
    next: Next,
) -> Response {
    // Other methods read no table, and which of them an address has (`Allow`) only the routes know that
    // those of writes were merged with.
    if !cors::is_read(request.method().as_str().as_bytes()) {
        return next.run(request).await;
    }
    if !request.headers().contains_key("consistency-token") {
        return slot.answer(request, next).await;
    }
    let again = (request.method().clone(), request.uri().clone(), request.headers().clone());
    let mut epoch = slot.epoch.load(Ordering::SeqCst);
    let mut response = slot.answer(request, next).await;
    loop {
        let now = slot.epoch.load(Ordering::SeqCst);
        if epoch == now && now.is_multiple_of(2) {
            return response;
        }
        let Some(router) = slot.routes.load_full() else {
            // The first switch is being made.
            tokio::task::yield_now().await;
            continue;
        };
        epoch = now;
        let mut request = Request::default();
        (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = again.clone();
        response = answered_by(&router, request).await;
    }
}

async fn answered_by(router: &Router, request: Request) -> Response {
    match Router::clone(router).oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

impl Slot {
    async fn answer(&self, mut request: Request, next: Next) -> Response {
        let router = self.routes.load_full();
        let Some(router) = router else { return next.run(request).await };
        // It is matched once more: what the first match noted would count twice. Nothing else is kept
        // there.
        request.extensions_mut().clear();
        answered_by(&router, request).await
    }
}

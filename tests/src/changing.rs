//! A feed that changes with every fetch, until it is frozen.

use crate::{
    process::Process,
    provider::{Provider, feed},
};
use axum::response::IntoResponse;
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

/// Every request gets the next version, until it is frozen.
pub struct Changing {
    pub provider: Provider,
    version: Arc<AtomicU64>,
    frozen: Arc<AtomicBool>,
}

impl Changing {
    pub async fn start(plans: u64) -> Self {
        let provider = Provider::start().await;
        let (version, frozen) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (served, stop) = (version.clone(), frozen.clone());
        provider.answer(move |_, _| {
            let version = match stop.load(Ordering::SeqCst) {
                true => served.load(Ordering::SeqCst),
                false => served.fetch_add(1, Ordering::SeqCst) + 1,
            };
            feed(plans, version).into_response()
        });
        Self { provider, version, frozen }
    }

    /// The newest version that somebody was given.
    pub fn served(&self) -> u64 {
        self.version.load(Ordering::SeqCst)
    }

    /// No new versions from here on; returns the last.
    pub fn freeze(&self) -> u64 {
        self.frozen.store(true, Ordering::SeqCst);
        self.version.load(Ordering::SeqCst)
    }
}

/// Waits until the frozen feed was read and folded: three fetches in a row without news.
pub async fn settled(process: &Process) {
    let mut quiet_at = std::collections::BTreeSet::new();
    while quiet_at.len() < 3 {
        let provider = process
            .until("observation of the frozen feed", || async {
                let provider = process.provider("changing").await?;
                let at = provider["last_success_at"].as_str()?.to_owned();
                let is_news = !quiet_at.contains(&at);
                is_news.then_some((provider["last_outcome"] == "unchanged", at))
            })
            .await;
        match provider {
            (true, at) => drop(quiet_at.insert(at)),
            (false, _) => quiet_at.clear(),
        }
    }
}

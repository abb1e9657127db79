//! Bounded concurrency of fetches. When more wait than may run, the most urgent goes first: late
//! against its freshness objective, weighted by its priority. How many run follows the queue
//! within its bounds: half of all that run or wait.

use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

#[derive(Clone)]
pub(crate) struct Slots(Arc<Mutex<State>>);

struct State {
    min: usize,
    max: usize,
    per_host: usize,
    running: usize,
    hosts: HashMap<String, usize>,
    waiting: Vec<Waiting>,
}

struct Waiting {
    claim: Claim,
    granted: oneshot::Sender<Slot>,
}

/// Who wants to fetch.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) host: String,
    pub(crate) priority: u32,
    pub(crate) freshness: Duration,
    pub(crate) due_at: Instant,
}

impl Claim {
    fn urgency(&self, now: Instant) -> f64 {
        let late = now.saturating_duration_since(self.due_at).as_secs_f64() + 1e-3;
        f64::from(self.priority) * late / self.freshness.as_secs_f64().max(1e-3)
    }
}

/// The right to fetch, given back when dropped.
pub(crate) struct Slot {
    /// `None` once it has been given back.
    slots: Option<Slots>,
    host: String,
}

impl Slots {
    pub(crate) fn new(min: usize, max: usize, per_host: usize) -> Self {
        let min = min.max(1);
        Self(Arc::new(Mutex::new(State {
            min,
            max: max.max(min),
            per_host: per_host.max(1),
            running: 0,
            hosts: HashMap::new(),
            waiting: Vec::new(),
        })))
    }

    /// Waits for a slot. Dropping the future gives the claim up.
    pub(crate) async fn acquire(&self, claim: Claim) -> Slot {
        loop {
            let (granted, grant) = oneshot::channel();
            {
                let mut state = self.0.lock();
                state.waiting.push(Waiting { claim: claim.clone(), granted });
                self.grant(&mut state);
            }
            // The other end lives in the list until it is used.
            if let Ok(slot) = grant.await {
                return slot;
            }
        }
    }

    pub(crate) fn waiting(&self) -> usize {
        self.0.lock().waiting.len()
    }

    fn grant(&self, state: &mut State) {
        let now = Instant::now();
        loop {
            state.waiting.retain(|waiting| !waiting.granted.is_closed());
            let wanted = (state.running + state.waiting.len()).div_ceil(2);
            if state.running >= wanted.clamp(state.min, state.max) {
                return;
            }
            let free =
                |claim: &Claim| state.hosts.get(&claim.host).copied().unwrap_or(0) < state.per_host;
            let most_urgent = state
                .waiting
                .iter()
                .enumerate()
                .filter(|(_, waiting)| free(&waiting.claim))
                .max_by(|(_, a), (_, b)| a.claim.urgency(now).total_cmp(&b.claim.urgency(now)))
                .map(|(place, _)| place);
            let Some(place) = most_urgent else { return };
            let Waiting { claim, granted } = state.waiting.swap_remove(place);
            state.running += 1;
            *state.hosts.entry(claim.host.clone()).or_default() += 1;
            let slot = Slot { slots: Some(self.clone()), host: claim.host };
            if let Err(mut slot) = granted.send(slot) {
                // Given up in this very moment. Counted back here: dropping it would lock again.
                slot.slots = None;
                state.release(&slot.host);
            }
        }
    }
}

impl State {
    fn release(&mut self, host: &str) {
        self.running -= 1;
        if let Some(count) = self.hosts.get_mut(host) {
            *count -= 1;
            if *count == 0 {
                self.hosts.remove(host);
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(slots) = self.slots.take() else { return };
        let mut state = slots.0.lock();
        state.release(&self.host);
        slots.grant(&mut state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(host: &str, priority: u32, late_s: u64) -> Claim {
        Claim {
            host: host.to_owned(),
            priority,
            freshness: Duration::from_secs(60),
            due_at: Instant::now() - Duration::from_secs(late_s),
        }
    }

    #[tokio::test]
    async fn the_most_urgent_goes_first() {
        let slots = Slots::new(1, 1, 9);
        let held = slots.acquire(claim("a", 1, 0)).await;
        let (sender, mut order) = tokio::sync::mpsc::unbounded_channel();
        for (name, priority, late_s) in [("late", 1, 50), ("valuable", 10, 10), ("neither", 1, 1)] {
            let (slots, sender) = (slots.clone(), sender.clone());
            tokio::spawn(async move {
                let _slot = slots.acquire(claim(name, priority, late_s)).await;
                sender.send(name).unwrap();
            });
        }
        while slots.waiting() < 3 {
            tokio::task::yield_now().await;
        }
        drop(held);
        let mut found = Vec::new();
        for _ in 0..3 {
            found.push(order.recv().await.unwrap());
        }
        assert_eq!(found, ["valuable", "late", "neither"]);
    }

    #[tokio::test]
    async fn a_busy_host_does_not_hold_up_others() {
        let slots = Slots::new(8, 8, 1);
        let _busy = slots.acquire(claim("busy", 1, 0)).await;
        let second = tokio::spawn({
            let slots = slots.clone();
            async move { drop(slots.acquire(claim("busy", 9, 99)).await) }
        });
        let _other = slots.acquire(claim("other", 1, 0)).await;
        assert!(!second.is_finished());
        second.abort();
    }

    #[tokio::test]
    async fn a_claim_that_is_given_up_frees_its_place() {
        let slots = Slots::new(1, 1, 9);
        let held = slots.acquire(claim("a", 1, 0)).await;
        let gone = tokio::time::timeout(Duration::from_millis(5), slots.acquire(claim("b", 1, 0)));
        assert!(gone.await.is_err());
        drop(held);
        let _next = slots.acquire(claim("c", 1, 0)).await;
    }

    #[tokio::test]
    async fn the_number_of_slots_follows_the_queue() {
        let slots = Slots::new(2, 5, 99);
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let slots = slots.clone();
            tasks.spawn(async move {
                let _slot = slots.acquire(claim("a", 1, 0)).await;
                tokio::time::sleep(Duration::from_secs(3_600)).await;
            });
        }
        let running = || slots.0.lock().running;
        loop {
            let running = running();
            if running + slots.waiting() == 20 {
                break;
            }
            tokio::task::yield_now().await;
        }
        assert_eq!(running(), 5, "bounded though twenty want to run");
        tasks.shutdown().await;
        assert_eq!(running(), 0);
    }
}

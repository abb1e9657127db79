//! Shedding: when requests queue up for the processor, some are refused at once, so that those that
//! are admitted are answered in time.
//!
//! How long a ready task waits for its turn is measured all the time. When even the shortest wait of
//! a window is longer than it should be, there is a standing queue and not a burst, and the share of
//! requests that are refused rises; when it is not, the share falls.

use parking_lot::Mutex;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Looks that make a window.
const WINDOW: u32 = 20;
/// Shares are parts of this.
const WHOLE: u32 = 1 << 16;
/// Some requests are always admitted: only they can show that the queue is gone.
const MOST: u32 = WHOLE / 100 * 95;

pub(super) struct Shedding {
    target: Duration,
    /// What is refused of all requests.
    share: AtomicU32,
    /// The shares of those that came, added up: one is refused whenever that passes a whole.
    sum: AtomicU32,
    window: Mutex<Window>,
}

#[derive(Default)]
struct Window {
    looks: u32,
    shortest: Option<Duration>,
}

impl Shedding {
    pub(super) fn new(target: Duration) -> Self {
        let (share, sum) = (AtomicU32::new(0), AtomicU32::new(0));
        Self { target, share, sum, window: Mutex::default() }
    }

    /// Whether the request that came now is refused.
    pub(super) fn refuses(&self) -> bool {
        let share = self.share.load(Ordering::Relaxed);
        if share == 0 {
            return false;
        }
        let before = self.sum.fetch_add(share, Ordering::Relaxed);
        before / WHOLE != before.wrapping_add(share) / WHOLE
    }

    /// Measures for as long as it is polled.
    pub(super) async fn watch(self: Arc<Self>) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let (asked, shedding) = (Instant::now(), self.clone());
            let queued = tokio::spawn(async move { shedding.saw(asked.elapsed()) });
            // A task that is spawned last is run next; this one makes the other wait in the queue.
            drop(tokio::spawn(async {}));
            if queued.await.is_err() {
                return;
            }
        }
    }

    /// Takes in how long a task waited.
    fn saw(&self, waited: Duration) {
        let mut window = self.window.lock();
        window.looks += 1;
        window.shortest = Some(window.shortest.map_or(waited, |shortest| shortest.min(waited)));
        if window.looks < WINDOW {
            return;
        }
        let is_queueing = window.shortest.take().is_some_and(|shortest| shortest > self.target);
        window.looks = 0;
        drop(window);
        let share = self.share.load(Ordering::Relaxed);
        let next = match is_queueing {
            true => (share + (WHOLE - share) / 8).min(MOST),
            false => share - share.div_ceil(8),
        };
        self.share.store(next, Ordering::Relaxed);
        match (share, next) {
            (0, 1..) => tracing::warn!("requests queue up: some are refused with 503"),
            (1.., 0) => tracing::info!("requests queue up no longer: none is refused"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Duration = Duration::from_millis(50);

    fn windows(shedding: &Shedding, number: u32, waits: &[Duration]) {
        for look in 0..number * WINDOW {
            shedding.saw(waits[look as usize % waits.len()]);
        }
    }

    fn refused_of(shedding: &Shedding, requests: u32) -> u32 {
        (0..requests).filter(|_| shedding.refuses()).count() as u32
    }

    #[test]
    fn a_standing_queue_is_shed_and_a_burst_is_not() {
        let shedding = Shedding::new(TARGET);
        windows(&shedding, 10, &[TARGET * 100, Duration::ZERO]);
        assert_eq!(refused_of(&shedding, 1_000), 0, "the queue was empty in between");
        windows(&shedding, 1, &[TARGET * 2]);
        assert_eq!(refused_of(&shedding, 800), 100, "an eighth");
        windows(&shedding, 100, &[TARGET * 2]);
        let refused = refused_of(&shedding, 10_000);
        assert!((9_000..9_600).contains(&refused), "never all: {refused}");
        windows(&shedding, 100, &[TARGET]);
        assert_eq!(refused_of(&shedding, 1_000), 0, "and none once it is gone");
    }

    #[tokio::test]
    async fn the_runtime_is_watched() {
        let shedding = Arc::new(Shedding::new(Duration::ZERO));
        let watching = tokio::spawn(shedding.clone().watch());
        while shedding.window.lock().looks < 3 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        watching.abort();
    }
}

//! How fast a rebuild reads while it hydrates: what it may read of a second is shared between all
//! partitions that this process owns of it. Whatever it may read, it leaves most of a core to others: on a
//! slow machine, what it may read can be all that the machine can fold.

use parking_lot::Mutex;
use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};
use tokio::time::Instant;

/// A rebuild with a limit folds for one part of so many.
const PARTS: u32 = 4;

#[derive(Default)]
pub(crate) struct Pace {
    owned: AtomicU32,
    /// When the next events may be read.
    next: Mutex<Option<Instant>>,
}

/// Of one partition that is owned.
pub(crate) struct Owning<'a>(&'a Pace);

impl Drop for Owning<'_> {
    fn drop(&mut self) {
        self.0.owned.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pace {
    pub(crate) fn own(&self) -> Owning<'_> {
        self.owned.fetch_add(1, Ordering::Relaxed);
        Owning(self)
    }

    /// Events a second of this process: its part of what all processes may read together.
    fn rate(&self, events_per_s: u32, partitions: u32) -> f64 {
        let owned = self.owned.load(Ordering::Relaxed).clamp(1, partitions.max(1));
        f64::from(events_per_s) * f64::from(owned) / f64::from(partitions.max(1))
    }

    /// Takes note of events that were folded from `began` to `ended`; when the next may be read.
    pub(crate) fn folded(
        &self,
        events: usize,
        events_per_s: u32,
        partitions: u32,
        (began, ended): (Instant, Instant),
    ) -> Instant {
        if events_per_s == 0 {
            return ended;
        }
        let by_number = events as f64 / self.rate(events_per_s, partitions);
        let takes = Duration::from_secs_f64(by_number).max((ended - began) * PARTS);
        let mut next = self.next.lock();
        let from = next.filter(|next| *next > began).unwrap_or(began);
        *next.insert(from + takes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owned_partitions_share_what_may_be_read() {
        let (pace, now) = (Pace::default(), Instant::now());
        let (_one, other) = (pace.own(), pace.own());
        let ms = Duration::from_millis;
        // Two of four partitions may read half of 1,000 a second.
        assert_eq!(pace.folded(100, 1_000, 4, (now, now + ms(10))), now + ms(200));
        assert_eq!(pace.folded(100, 1_000, 4, (now, now + ms(10))), now + ms(400), "together");
        drop(other);
        let later = now + Duration::from_secs(10);
        let next = pace.folded(100, 1_000, 4, (later, later + ms(10)));
        assert_eq!(next, later + ms(400), "no more later");
        assert_eq!(pace.folded(100, 0, 4, (later, later + ms(10))), later + ms(10));
    }

    #[test]
    fn what_takes_long_rests_for_longer() {
        let (pace, now) = (Pace::default(), Instant::now());
        let (_owning, ms) = (pace.own(), Duration::from_millis);
        assert_eq!(pace.folded(10, 1_000, 1, (now, now + ms(50))), now + ms(200));
    }
}

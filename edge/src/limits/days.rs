//! Quotas per day (UTC), one count per caller, in bounded memory.

use quick_cache::sync::Cache;
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const DAY_S: u64 = 86_400;
/// A state is the number of the day above so many bits, and below them what was used of it.
const COUNT_BITS: u32 = 40;
const COUNT: u64 = (1 << COUNT_BITS) - 1;

pub(super) struct Days {
    quota: u64,
    used: Cache<u64, Arc<AtomicU64>>,
}

/// What is left of a day, and when the next begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) requests: u64,
    pub(super) reset_s: u64,
}

pub(super) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl Days {
    pub(super) fn new(quota: u64, callers: usize) -> Self {
        Self { quota: quota.min(COUNT), used: Cache::new(callers) }
    }

    /// Takes one request: what is left then, or until the day ends there is none.
    pub(super) fn take(&self, caller: u64, now: Duration) -> Result<Left, Left> {
        let made = self.used.get_or_insert_with(&caller, || Ok::<_, Infallible>(Arc::default()));
        let Ok(state) = made;
        let today = now.as_secs() / DAY_S;
        let took = state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| {
            let used = used_of(state, today);
            (used < self.quota).then_some((today << COUNT_BITS) | (used + 1))
        });
        match took {
            Ok(before) => Ok(self.left_after(used_of(before, today) + 1, now)),
            Err(_) => Err(self.left_after(self.quota, now)),
        }
    }

    pub(super) fn left(&self, caller: u64, now: Duration) -> Left {
        let state = self.used.peek(&caller).map_or(0, |state| state.load(Ordering::Relaxed));
        self.left_after(used_of(state, now.as_secs() / DAY_S), now)
    }

    fn left_after(&self, used: u64, now: Duration) -> Left {
        let reset_s = DAY_S - now.as_secs() % DAY_S;
        Left { requests: self.quota.saturating_sub(used), reset_s }
    }
}

fn used_of(state: u64, today: u64) -> u64 {
    if state >> COUNT_BITS == today { state & COUNT } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_used_up_and_another_begins() {
        let days = Days::new(2, 10);
        let noon = Duration::from_secs(20_000 * DAY_S + DAY_S / 2);
        let left = |requests| Left { requests, reset_s: DAY_S / 2 };
        assert_eq!(days.left(1, noon), left(2));
        assert_eq!(days.take(1, noon), Ok(left(1)));
        assert_eq!(days.take(1, noon), Ok(left(0)));
        assert_eq!(days.take(1, noon), Err(left(0)));
        assert_eq!(days.take(2, noon), Ok(left(1)), "another caller");
        assert_eq!(days.left(1, noon), left(0));
        let tomorrow = noon + Duration::from_secs(DAY_S);
        assert_eq!(days.take(1, tomorrow), Ok(left(1)));
    }

    #[test]
    fn many_callers_take_bounded_memory() {
        let days = Days::new(2, 100);
        for caller in 0..10_000 {
            days.take(caller, Duration::ZERO).unwrap();
        }
        assert!(days.used.len() <= 100);
    }
}

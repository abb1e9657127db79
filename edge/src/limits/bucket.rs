//! Token buckets, one per caller, in bounded memory.

use governor::{
    Quota, RateLimiter,
    clock::{Clock, MonotonicClock, Reference},
    middleware::StateInformationMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed, StateStore},
};
use quick_cache::sync::Cache;
use std::{convert::Infallible, num::NonZeroU32, sync::Arc, time::Duration};

/// The states of the callers that came last. Whoever is dropped for others finds a full bucket when
/// it comes back: so many addresses are worth more than one bucket anyway.
#[derive(Clone)]
struct States(Arc<Cache<u64, Arc<InMemoryState>>>);

impl StateStore for States {
    type Key = u64;

    fn measure_and_replace<T, F, E>(&self, key: &u64, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let made = self.0.get_or_insert_with(key, || Ok::<_, Infallible>(Arc::default()));
        let Ok(state) = made;
        state.measure_and_replace(&NotKeyed::NonKey, measure)
    }
}

pub(super) struct Buckets<C: Clock = MonotonicClock> {
    limiter: RateLimiter<u64, States, C, StateInformationMiddleware>,
    states: States,
    burst: NonZeroU32,
    /// For one token to come.
    period: Duration,
    /// From when the limiter counts.
    start: C::Instant,
}

impl<C: Clock> Buckets<C> {
    pub(super) fn new(rate: f64, burst: u32, callers: usize, clock: C) -> Self {
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        // A day for one token is as slow as it gets.
        let period = Duration::try_from_secs_f64(1.0 / rate).unwrap_or(Duration::from_secs(86_400));
        let period = period.clamp(Duration::from_nanos(1), Duration::from_secs(86_400));
        let quota = Quota::with_period(period).unwrap_or(Quota::per_second(burst));
        let states = States(Arc::new(Cache::new(callers)));
        let start = clock.now();
        let limiter = RateLimiter::new(quota.allow_burst(burst), states.clone(), clock);
        Self { limiter, states, burst, period, start }
    }

    /// Takes a token: how many are left, or after how long there is one.
    pub(super) fn take(&self, caller: u64) -> Result<u32, Duration> {
        match self.limiter.check_key(&caller) {
            Ok(state) => Ok(state.remaining_burst_capacity()),
            Err(until) => Err(until.wait_time_from(self.limiter.clock().now())),
        }
    }

    /// Tokens of a caller, none of which is taken.
    pub(super) fn left(&self, caller: u64) -> u32 {
        let Some(state) = self.states.0.peek(&caller) else { return self.burst.get() };
        let read = state.measure_and_replace(&NotKeyed::NonKey, |full_at| {
            Err::<((), Nanos), _>(full_at.map_or(0, Nanos::as_u64))
        });
        let full_at = read.err().unwrap_or_default();
        let now = self.limiter.clock().now().duration_since(self.start).as_u64();
        let period = u64::try_from(self.period.as_nanos()).unwrap_or(u64::MAX);
        let missing = full_at.saturating_sub(now).div_ceil(period.max(1));
        self.burst.get().saturating_sub(u32::try_from(missing).unwrap_or(u32::MAX))
    }

    /// After how long a bucket with so many tokens is full.
    pub(super) fn full_in(&self, left: u32) -> Duration {
        self.period * self.burst.get().saturating_sub(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_bucket_empties_and_fills() {
        let clock = FakeRelativeClock::default();
        clock.advance(SECOND);
        let buckets = Buckets::new(10.0, 20, 100, clock.clone());
        assert_eq!(buckets.left(1), 20);
        for left in (0..20).rev() {
            assert_eq!(buckets.take(1), Ok(left));
            assert_eq!(buckets.left(1), left);
        }
        assert_eq!(buckets.full_in(0), 2 * SECOND);
        assert_eq!(buckets.take(1), Err(SECOND / 10), "the next token");
        assert_eq!(buckets.take(2), Ok(19), "another caller");
        clock.advance(SECOND);
        assert_eq!(buckets.left(1), 10);
        assert_eq!(buckets.take(1), Ok(9), "what was refused cost nothing");
        clock.advance(100 * SECOND);
        assert_eq!(buckets.take(1), Ok(19), "never more than the burst");
    }

    #[test]
    fn many_callers_take_bounded_memory() {
        const CALLERS: usize = 1_000;
        let buckets = Buckets::new(1.0, 2, CALLERS, FakeRelativeClock::default());
        for caller in 0..100_000 {
            buckets.take(caller).unwrap();
        }
        assert!(buckets.states.0.len() <= CALLERS, "{}", buckets.states.0.len());
    }

    #[test]
    fn slow_rates_are_kept() {
        let clock = FakeRelativeClock::default();
        let buckets = Buckets::new(0.5, 1, 10, clock.clone());
        assert_eq!(buckets.take(1), Ok(0));
        assert_eq!(buckets.take(1), Err(2 * SECOND));
        clock.advance(2 * SECOND);
        assert_eq!(buckets.take(1), Ok(0));
    }
}

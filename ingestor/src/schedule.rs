//! When a provider is fetched next, and why then. Pure: time and chance come from outside.

use crate::config::{IngestOptions, ProviderConfig};
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

/// A provider that asks to be left alone for longer than this is asked again all the same.
const MAX_ASKED_PAUSE: Duration = Duration::from_secs(7 * 24 * 3600);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breaker {
    Closed,
    Open,
    /// The next fetch is a probe that decides.
    HalfOpen,
}

impl Breaker {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Next {
    pub(crate) at: Timestamp,
    pub(crate) reason: &'static str,
}

/// How a fetch ended, as far as the schedule is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// A good answer. The provider's cache headers say that it stays the same until then.
    Good { changed: bool, fresh_until: Option<Timestamp> },
    /// No answer or a bad one. `worth_retrying` when time alone may mend it.
    Bad { retry_after: Option<Duration>, worth_retrying: bool },
}

#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    min: Duration,
    max: Duration,
    /// The longest pause that cache headers may ask for, and what says so; none when they are
    /// obeyed.
    cache_bound: Option<(Duration, &'static str)>,
    backoff: Duration,
    breaker_failures: u32,
    breaker_pause: Duration,
    interval: Duration,
    failures: u32,
    breaker: Breaker,
    /// How often the breaker opened since the last good answer.
    openings: u32,
}

impl Schedule {
    pub(crate) fn new(provider: &ProviderConfig, options: &IngestOptions) -> Self {
        Self {
            min: provider.interval,
            max: provider.max_interval,
            cache_bound: cache_bound(provider),
            backoff: options.backoff,
            breaker_failures: options.breaker_failures,
            breaker_pause: options.breaker_pause,
            interval: provider.interval,
            failures: 0,
            breaker: Breaker::Closed,
            openings: 0,
        }
    }

    pub(crate) fn breaker(&self) -> Breaker {
        self.breaker
    }

    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// A fetch begins: an open breaker is then probed.
    pub(crate) fn begin(&mut self) {
        if self.breaker == Breaker::Open {
            self.breaker = Breaker::HalfOpen;
        }
    }

    /// A fetch ended at `now`; `chance` lies in `0.0..1.0`.
    pub(crate) fn end(&mut self, now: Timestamp, ended: Ended, chance: f64) -> Next {
        match ended {
            Ended::Good { changed, fresh_until } => {
                self.failures = 0;
                self.openings = 0;
                self.breaker = Breaker::Closed;
                let wanted = if changed { self.interval / 2 } else { self.interval * 3 / 2 };
                self.interval = wanted.clamp(self.min, self.max);
                let at = after(now, self.interval);
                match fresh_until {
                    Some(until) if until > at => match self.cache_bound {
                        Some((bound, reason)) if until > after(now, bound) => {
                            Next { at: at.max(after(now, bound)), reason }
                        }
                        _ => Next { at: until, reason: "the provider's cache headers" },
                    },
                    _ if changed => Next { at, reason: "interval, shortened by changes" },
                    _ => Next { at, reason: "interval, stretched while nothing changes" },
                }
            }
            Ended::Bad { retry_after, worth_retrying } => {
                self.failures = self.failures.saturating_add(1);
                let (pause, reason) = self.pause_after_failure(worth_retrying, chance);
                let asked = retry_after.map(|asked| asked.min(MAX_ASKED_PAUSE));
                match asked {
                    Some(asked) if asked > pause => {
                        Next { at: after(now, asked), reason: "the provider's Retry-After" }
                    }
                    _ => Next { at: after(now, pause), reason },
                }
            }
        }
    }

    fn pause_after_failure(
        &mut self,
        worth_retrying: bool,
        chance: f64,
    ) -> (Duration, &'static str) {
        let opens = self.breaker == Breaker::HalfOpen || self.failures >= self.breaker_failures;
        if opens {
            self.breaker = Breaker::Open;
            let pause =
                doubled(self.breaker_pause, self.openings, self.max.max(self.breaker_pause));
            self.openings = self.openings.saturating_add(1);
            return (pause, "circuit breaker is open; the next fetch is a probe");
        }
        self.interval = (self.interval * 3 / 2).clamp(self.min, self.max);
        if !worth_retrying {
            return (self.interval, "interval; the failure is not worth a retry");
        }
        // Full jitter: anything between nothing and the exponential pause, so that many clients
        // of one provider do not come back together.
        let ceiling = doubled(self.backoff, self.failures - 1, self.max);
        (ceiling.mul_f64(chance.clamp(0.0, 1.0)), "retry with exponential backoff and jitter")
    }
}

/// Hosts send headers for all their `.xml` files that keep them for a month: that says nothing of
/// when a feed changes.
fn cache_bound(provider: &ProviderConfig) -> Option<(Duration, &'static str)> {
    if provider.obey_cache_headers {
        return None;
    }
    Some(if provider.freshness < provider.max_interval {
        (provider.freshness, "the provider's cache headers, bounded by freshness")
    } else {
        (provider.max_interval, "the provider's cache headers, bounded by max_interval")
    })
}

fn after(now: Timestamp, pause: Duration) -> Timestamp {
    let pause = SignedDuration::try_from(pause).unwrap_or(SignedDuration::MAX);
    now.checked_add(pause).unwrap_or(Timestamp::MAX)
}

fn doubled(first: Duration, times: u32, ceiling: Duration) -> Duration {
    first.saturating_mul(1_u32.checked_shl(times.min(20)).unwrap_or(u32::MAX)).min(ceiling)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn schedule() -> Schedule {
        let provider = ProviderConfig {
            interval: Duration::from_secs(30),
            max_interval: Duration::from_secs(600),
            ..crate::tests::provider("p", "http://127.0.0.1/")
        };
        Schedule::new(&provider, &IngestOptions::default())
    }

    fn now() -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn seconds(next: &Next) -> f64 {
        next.at.duration_since(now()).as_secs_f64()
    }

    const FAILED: Ended = Ended::Bad { retry_after: None, worth_retrying: true };
    const CHANGED: Ended = Ended::Good { changed: true, fresh_until: None };
    const UNCHANGED: Ended = Ended::Good { changed: false, fresh_until: None };

    #[test]
    fn the_interval_stretches_and_shrinks() {
        let mut schedule = schedule();
        let pauses: Vec<f64> =
            (0..10).map(|_| seconds(&schedule.end(now(), UNCHANGED, 0.5))).collect();
        assert_eq!(pauses[..3], [45.0, 67.5, 101.25]);
        assert_eq!(pauses[9], 600.0);
        assert_eq!(seconds(&schedule.end(now(), CHANGED, 0.5)), 300.0);
        for _ in 0..10 {
            schedule.end(now(), CHANGED, 0.5);
        }
        assert_eq!(seconds(&schedule.end(now(), CHANGED, 0.5)), 30.0);
    }

    #[test]
    fn cache_headers_stretch_the_interval_within_bounds() {
        let asked = |asked_s| {
            let fresh_until = Some(now() + SignedDuration::from_secs(asked_s));
            Ended::Good { changed: true, fresh_until }
        };
        let of = |change: fn(&mut ProviderConfig), asked_s| {
            let mut provider = crate::tests::provider("p", "http://localhost/");
            provider.freshness = Duration::from_secs(900);
            change(&mut provider);
            let mut schedule = Schedule::new(&provider, &IngestOptions::default());
            let next = schedule.end(now(), asked(asked_s), 0.0);
            (seconds(&next), next.reason)
        };
        let month = 2_592_000;
        let bounded = "the provider's cache headers, bounded by max_interval";
        assert_eq!(of(|_| {}, 0).0, 30.0);
        assert_eq!(of(|_| {}, 300), (300.0, "the provider's cache headers"));
        assert_eq!(of(|_| {}, 600), (600.0, "the provider's cache headers"));
        assert_eq!(of(|_| {}, month), (600.0, bounded));
        let by_freshness = of(|provider| provider.freshness = Duration::from_secs(120), month);
        assert_eq!(by_freshness, (120.0, "the provider's cache headers, bounded by freshness"));
        // What would be fetched later anyway is not fetched earlier for it.
        assert_eq!(of(|provider| provider.freshness = Duration::from_secs(1), month).0, 30.0);
        let obeyed = of(|provider| provider.obey_cache_headers = true, month);
        assert_eq!(obeyed, (month as f64, "the provider's cache headers"));
    }

    #[test]
    fn the_breaker_opens_probes_and_closes() {
        let mut schedule = schedule();
        for _ in 0..4 {
            assert!(seconds(&schedule.end(now(), FAILED, 1.0)) <= 8.0);
            assert_eq!(schedule.breaker(), Breaker::Closed);
        }
        assert_eq!(seconds(&schedule.end(now(), FAILED, 1.0)), 30.0);
        assert_eq!(schedule.breaker(), Breaker::Open);
        schedule.begin();
        assert_eq!(schedule.breaker(), Breaker::HalfOpen);
        assert_eq!(seconds(&schedule.end(now(), FAILED, 1.0)), 60.0);
        schedule.begin();
        schedule.end(now(), UNCHANGED, 1.0);
        assert_eq!((schedule.breaker(), schedule.failures()), (Breaker::Closed, 0));
    }

    #[test]
    fn retry_after_is_honoured_within_reason() {
        let asked = |asked| Ended::Bad { retry_after: Some(asked), worth_retrying: true };
        let next = schedule().end(now(), asked(Duration::from_secs(120)), 1.0);
        assert_eq!((seconds(&next), next.reason), (120.0, "the provider's Retry-After"));
        let absurd = schedule().end(now(), asked(Duration::from_secs(u64::MAX)), 1.0);
        assert_eq!(seconds(&absurd), MAX_ASKED_PAUSE.as_secs_f64());
    }

    proptest! {
        /// Whatever happens, the next fetch is never in the past and never beyond the bounds.
        #[test]
        fn the_next_fetch_is_within_bounds(
            ends in prop::collection::vec((0..4_u8, 0.0..1.0_f64), 1..60)
        ) {
            let mut schedule = schedule();
            for (kind, chance) in ends {
                schedule.begin();
                let ended = match kind {
                    0 => CHANGED,
                    1 => UNCHANGED,
                    2 => FAILED,
                    _ => Ended::Bad { retry_after: None, worth_retrying: false },
                };
                let pause = seconds(&schedule.end(now(), ended, chance));
                prop_assert!((0.0..=600.0).contains(&pause), "{pause}");
                if kind < 2 {
                    prop_assert!(pause >= 30.0);
                    prop_assert_eq!(schedule.breaker(), Breaker::Closed);
                }
            }
        }
    }
}

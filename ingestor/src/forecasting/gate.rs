//! Whether a provider may be asked now: its circuit breaker, what it said of being asked too often, how
//! many requests a minute may have, and how many places are fetched at once. Pure: time and chance come
//! from outside.

use super::Failure;
use crate::{
    config::{IngestOptions, ProviderConfig},
    schedule::{Breaker, Ended, Next, Schedule},
};
use almanac_schemas::forecasts::code;
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

/// Requests that may go out at once after a silence, as a part of those of a minute.
const BURST: u32 = 6;
/// A pause that is doubled ends here.
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);

pub(super) struct Gate {
    schedule: Schedule,
    next: Next,
    /// Nobody is asked for before `next`, whatever the place: the provider refuses us.
    blocked: Option<Failure>,
    rate_pause: Duration,
    /// Refusals of that kind in a row.
    blocks: u32,
    concurrency: usize,
    running: usize,
    gap: SignedDuration,
    burst: i32,
    /// When the requests so far would be through at an even pace.
    paced_to: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Permit {
    Go,
    /// At the time, or else once a fetch has ended.
    Later(Option<Timestamp>),
    Refused(Failure),
}

impl Gate {
    pub(super) fn new(provider: &ProviderConfig, options: &IngestOptions) -> Self {
        let forecasts = &provider.forecasts;
        let gap = Duration::from_secs(60) / forecasts.requests_per_minute.max(1);
        Self {
            schedule: Schedule::new(provider, options),
            next: Next { at: Timestamp::UNIX_EPOCH, reason: "when somebody asks" },
            blocked: None,
            rate_pause: forecasts.rate_pause,
            blocks: 0,
            concurrency: forecasts.concurrency.max(1),
            running: 0,
            gap: SignedDuration::try_from(gap).unwrap_or(SignedDuration::MAX),
            burst: (forecasts.requests_per_minute / BURST).clamp(1, i32::MAX as u32) as i32,
            paced_to: Timestamp::UNIX_EPOCH,
        }
    }

    pub(super) fn breaker(&self) -> Breaker {
        self.schedule.breaker()
    }

    pub(super) fn failures(&self) -> u32 {
        self.schedule.failures()
    }

    /// When the provider may be asked again at the earliest, and why then.
    pub(super) fn next(&self) -> &Next {
        &self.next
    }

    /// Whether a place may be fetched, with so many requests. `Go` counts as its beginning.
    pub(super) fn permit(&mut self, now: Timestamp, requests: i32) -> Permit {
        if let Some(blocked) = &self.blocked {
            if now < self.next.at {
                return Permit::Refused(blocked.clone());
            }
            self.blocked = None;
        }
        match self.schedule.breaker() {
            Breaker::Open if now < self.next.at => return Permit::Refused(self.open()),
            // One decides, alone.
            Breaker::Open if self.running > 0 => return Permit::Later(None),
            Breaker::HalfOpen => return Permit::Later(None),
            Breaker::Open | Breaker::Closed => {}
        }
        if self.running >= self.concurrency {
            return Permit::Later(None);
        }
        let ahead = self.gap.saturating_mul(self.burst);
        let earliest = self.paced_to.checked_sub(ahead).unwrap_or(Timestamp::MIN);
        if now < earliest {
            return Permit::Later(Some(earliest));
        }
        let cost = self.gap.saturating_mul(requests);
        self.paced_to = self.paced_to.max(now).checked_add(cost).unwrap_or(Timestamp::MAX);
        self.schedule.begin();
        self.running += 1;
        Permit::Go
    }

    /// A fetch ended. Returns when it may be repeated, where it failed.
    pub(super) fn end(
        &mut self,
        now: Timestamp,
        failure: Option<&mut Failure>,
        changed: bool,
        chance: f64,
    ) {
        self.running = self.running.saturating_sub(1);
        let Some(failure) = failure else {
            self.schedule.end(now, Ended::Good { changed, fresh_until: None }, chance);
            // One that began before another was refused says nothing of that.
            if self.blocked.is_some() && now < self.next.at {
                return;
            }
            self.blocks = 0;
            self.next = Next { at: now, reason: "when somebody asks" };
            return;
        };
        let is_block = matches!(failure.code, code::RATE_LIMITED | code::FORBIDDEN);
        let mut retry_after = failure.retry_after;
        if is_block {
            let doubled = self.rate_pause.saturating_mul(1 << self.blocks.min(12));
            let pause = doubled.min(LONGEST_PAUSE.max(self.rate_pause));
            retry_after = Some(retry_after.unwrap_or_default().max(pause));
            self.blocks = self.blocks.saturating_add(1);
        }
        let worth_retrying = failure.worth_retrying;
        let next = self.schedule.end(now, Ended::Bad { retry_after, worth_retrying }, chance);
        // Of several that failed together the longest pause counts.
        if next.at > self.next.at {
            self.next = next;
        }
        failure.retry_at = Some(self.next.at);
        if is_block {
            self.blocked = Some(failure.clone());
        }
    }

    /// An operator wants the provider to be asked again at once.
    pub(super) fn open_now(&mut self, now: Timestamp) {
        self.blocked = None;
        self.next = Next { at: now, reason: "an operator asked" };
    }

    fn open(&self) -> Failure {
        let failures = self.schedule.failures();
        Failure {
            retry_at: Some(self.next.at),
            ..Failure::new(
                code::CIRCUIT_OPEN,
                format!(
                    "the provider failed {failures} times in a row and is left alone until then"
                ),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ForecastConfig;

    fn gate(change: impl FnOnce(&mut ForecastConfig)) -> Gate {
        let mut provider = crate::tests::provider("p", "http://127.0.0.1/");
        change(&mut provider.forecasts);
        Gate::new(&provider, &IngestOptions::default())
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    fn failed(gate: &mut Gate, now: Timestamp, code: &'static str) -> Failure {
        assert_eq!(gate.permit(now, 1), Permit::Go);
        let mut failure = Failure::new(code, "it failed".to_owned());
        gate.end(now, Some(&mut failure), false, 1.0);
        failure
    }

    #[test]
    fn a_provider_that_keeps_failing_is_left_alone_and_then_probed() {
        let mut gate = gate(|_| {});
        for _ in 0..5 {
            failed(&mut gate, at(0), code::UNREACHABLE);
        }
        let Permit::Refused(refused) = gate.permit(at(29), 1) else { panic!("it is asked") };
        assert_eq!((refused.code, refused.retry_at), (code::CIRCUIT_OPEN, Some(at(30))));
        assert_eq!(gate.permit(at(30), 1), Permit::Go, "the probe");
        assert_eq!(gate.permit(at(30), 1), Permit::Later(None), "nobody beside it");
        gate.end(at(31), None, true, 1.0);
        assert_eq!(gate.breaker(), Breaker::Closed);
        assert_eq!(gate.permit(at(31), 1), Permit::Go);
    }

    #[test]
    fn one_failure_holds_up_no_other_place() {
        let mut gate = gate(|_| {});
        let failure = failed(&mut gate, at(0), code::UNREACHABLE);
        assert_eq!(failure.retry_at, Some(at(1)));
        assert_eq!(gate.permit(at(0), 1), Permit::Go);
    }

    /// Without Retry-After the pause is ours, and grows.
    #[test]
    fn too_many_requests_hold_up_all_places() {
        let mut gate = gate(|_| {});
        let failure = failed(&mut gate, at(0), code::RATE_LIMITED);
        assert_eq!(failure.retry_at, Some(at(60)));
        assert_eq!(gate.permit(at(59), 1), Permit::Refused(failure));
        let again = failed(&mut gate, at(60), code::RATE_LIMITED);
        assert_eq!(again.retry_at, Some(at(180)));
        let mut asked = Failure::new(code::RATE_LIMITED, String::new());
        asked.retry_after = Some(Duration::from_secs(600));
        assert_eq!(gate.permit(at(180), 1), Permit::Go);
        gate.end(at(180), Some(&mut asked), false, 1.0);
        assert_eq!(asked.retry_at, Some(at(780)), "the provider's word where it is longer");
        gate.open_now(at(181));
        assert_eq!(gate.permit(at(181), 1), Permit::Go, "an operator knows better");
    }

    #[test]
    fn an_answer_to_an_earlier_request_ends_no_pause() {
        let mut gate = gate(|_| {});
        assert_eq!(gate.permit(at(0), 1), Permit::Go, "it takes its time");
        let failure = failed(&mut gate, at(0), code::RATE_LIMITED);
        gate.end(at(1), None, true, 1.0);
        assert_eq!(gate.permit(at(2), 1), Permit::Refused(failure));
        assert_eq!(gate.permit(at(60), 1), Permit::Go);
    }

    #[test]
    fn requests_keep_a_pace_and_a_number() {
        let mut gate = gate(|forecasts| {
            (forecasts.requests_per_minute, forecasts.concurrency) = (12, 3);
        });
        assert_eq!(gate.permit(at(0), 2), Permit::Go);
        assert_eq!(gate.permit(at(0), 2), Permit::Go);
        assert_eq!(gate.permit(at(0), 2), Permit::Later(Some(at(10))));
        assert_eq!(gate.permit(at(10), 2), Permit::Go);
        assert_eq!(gate.permit(at(99), 2), Permit::Later(None), "three run");
        gate.end(at(99), None, false, 1.0);
        assert_eq!(gate.permit(at(99), 2), Permit::Go);
    }
}

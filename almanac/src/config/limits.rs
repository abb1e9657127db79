//! How much one caller may ask for.

use super::Config;
use almanac_edge::limits::{LimitOptions, Rate};
use anyhow::bail;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What is absent is not limited on a loopback address, and elsewhere limited by default.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LimitsConfig {
    pub(crate) search: Option<RateConfig>,
    pub(crate) read: Option<RateConfig>,
    pub(crate) write: Option<RateConfig>,
    /// Live instances of each role that answers requests; each enforces its share.
    pub(crate) instances: u32,
    /// Callers remembered per class of operations.
    pub(crate) callers: usize,
    /// Requests answered at once, in all and of one caller; 0 sets no bound.
    pub(crate) concurrency: Option<usize>,
    pub(crate) concurrency_per_caller: Option<usize>,
    /// Requests are refused when others wait for the processor for longer than this; 0 for never.
    #[serde(with = "humantime_serde")]
    pub(crate) shed_above: Option<Duration>,
    /// Where to ask for more, as `GET /v1/limits` tells it.
    pub(crate) contact: Option<String>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RateConfig {
    /// Requests a second; 0 sets no limit.
    pub(crate) rate: f64,
    /// Requests at once after a pause; twice the rate when absent.
    pub(crate) burst: Option<u32>,
    pub(crate) per_day: Option<u64>,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let options = LimitOptions::default();
        Self {
            search: None,
            read: None,
            write: None,
            instances: options.instances,
            callers: options.callers,
            concurrency: None,
            concurrency_per_caller: None,
            shed_above: None,
            contact: None,
        }
    }
}

/// A bucket that takes longer to fill is a quota per day.
const LONGEST_FILL_S: f64 = 86_400.0;

impl RateConfig {
    const fn of(rate: f64, burst: u32) -> Self {
        Self { rate, burst: Some(burst), per_day: None }
    }

    fn rate(self) -> Option<Rate> {
        let burst = self.burst.unwrap_or((2.0 * self.rate).ceil() as u32).max(1);
        let limit = Rate { rate: self.rate, burst, per_day: self.per_day };
        (self.rate > 0.0).then_some(limit)
    }
}

impl LimitsConfig {
    pub(super) fn validate(&self) -> anyhow::Result<()> {
        if self.instances == 0 || self.callers == 0 {
            bail!("limits.instances and callers must not be 0");
        }
        for (name, rate) in [("search", self.search), ("read", self.read), ("write", self.write)] {
            let Some(rate) = rate else { continue };
            if !rate.rate.is_finite() || rate.rate < 0.0 {
                bail!("limits.{name}.rate must be requests a second, or 0 for no limit");
            }
            if rate.rate().is_some_and(|rate| f64::from(rate.burst) / rate.rate > LONGEST_FILL_S) {
                bail!("limits.{name}: burst must be reached within a day; per_day is a quota");
            }
        }
        Ok(())
    }
}

impl Config {
    /// Nobody has to be kept from a loopback address.
    pub(crate) fn limit_options(&self) -> LimitOptions {
        let (limits, is_open) = (&self.limits, self.is_loopback());
        let rate = |given: Option<RateConfig>, default: RateConfig| {
            given.or((!is_open).then_some(default)).and_then(RateConfig::rate)
        };
        let bound = |given: Option<usize>, default: usize| {
            given.unwrap_or(if is_open { 0 } else { default })
        };
        let shed_above = Duration::from_millis(if is_open { 0 } else { 50 });
        LimitOptions {
            search: rate(limits.search, RateConfig::of(5_000.0, 10_000)),
            read: rate(limits.read, RateConfig::of(500.0, 1_000)),
            write: rate(limits.write, RateConfig::of(50.0, 100)),
            instances: limits.instances,
            callers: limits.callers,
            concurrency: bound(limits.concurrency, 1_024),
            concurrency_per_caller: bound(limits.concurrency_per_caller, 256),
            shed_above: limits.shed_above.unwrap_or(shed_above),
            contact: limits.contact.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> LimitOptions {
        let config: Config = toml::from_str(text).unwrap();
        config.validate().unwrap();
        config.limit_options()
    }

    #[test]
    fn a_loopback_address_has_the_limits_that_are_given() {
        let none = options("");
        assert_eq!((none.search, none.read, none.write), (None, None, None));
        assert_eq!((none.concurrency, none.shed_above), (0, Duration::ZERO));
        let given = options("[limits]\nread = { rate = 5 }\nconcurrency = 7");
        assert_eq!(given.read, Some(Rate { rate: 5.0, burst: 10, per_day: None }));
        assert_eq!((given.search, given.concurrency), (None, 7));
    }

    #[test]
    fn elsewhere_there_are_limits() {
        const OPEN: &str = "http.listen = \"0.0.0.0:8080\"\n";
        let limits = options(OPEN);
        let rate = |rate, burst| Some(Rate { rate, burst, per_day: None });
        assert_eq!(limits.search, rate(5_000.0, 10_000));
        assert_eq!(limits.read, rate(500.0, 1_000));
        assert_eq!(limits.write, rate(50.0, 100));
        assert_eq!((limits.concurrency, limits.concurrency_per_caller), (1_024, 256));
        assert_eq!(limits.shed_above, Duration::from_millis(50));
        let text = format!(
            "{OPEN}[limits]\nread = {{ rate = 0 }}\nwrite = {{ rate = 0.5, burst = 3, per_day = 9 }}\n\
             concurrency = 0\nshed_above = \"0s\"\ninstances = 4"
        );
        let changed = options(&text);
        assert_eq!((changed.read, changed.concurrency), (None, 0));
        assert_eq!(changed.write, Some(Rate { rate: 0.5, burst: 3, per_day: Some(9) }));
        assert_eq!((changed.instances, changed.shed_above), (4, Duration::ZERO));
    }
}

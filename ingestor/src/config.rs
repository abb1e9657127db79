//! What an operator configures about providers.

use crate::forecasts::kinds::{DEFAULT_MODELS, ForecastKind, kind_of};
use almanac_domain::{plans::PlanIdentity, weather::Variable};
use almanac_secrets::{Address, NoWebAddress, Secret};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

impl ProviderKind {
    /// Whether it is asked for forecasts of places; the others are feeds, fetched on a beat.
    pub fn gives_forecasts(self) -> bool {
        kind_of(self).is_some()
    }

    /// What its forecasts can tell, at some places at least; nothing where it gives none.
    pub fn variables(self) -> &'static [Variable] {
        kind_of(self).map(ForecastKind::variables).unwrap_or_default()
    }
}

/// One provider. Durations are written like `30s` or `5m`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderConfig {
    /// Lowercase letters, digits and `-`; part of every plan's identity, so never change it.
    pub name: String,
    pub kind: ProviderKind,
    /// Of kinds that give forecasts: where the weather is asked for; the service's own when empty.
    #[serde(default)]
    pub url: Address,
    /// What times without an offset mean.
    #[serde(default = "utc")]
    pub timezone: String,
    /// The shortest time between fetches; it stretches while nothing changes.
    #[serde(default = "default_interval", with = "humantime_serde")]
    pub interval: Duration,
    #[serde(default = "default_max_interval", with = "humantime_serde")]
    pub max_interval: Duration,
    /// How old what is known may become before that is a problem.
    #[serde(default = "default_freshness", with = "humantime_serde")]
    pub freshness: Duration,
    /// Weight when more fetches wait than may run; twice the number goes first at half the delay.
    #[serde(default = "default_priority")]
    pub priority: u32,
    /// ISO 4217 code of the prices.
    #[serde(default)]
    pub currency: Option<String>,
    /// Where to buy, with `{base_plan_id}` and `{plan_id}`.
    #[serde(default)]
    pub url_template: Option<String>,
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// Header name to the file that holds its value: for credentials.
    #[serde(default)]
    pub header_files: BTreeMap<String, PathBuf>,
    /// Neither headers nor keys go to the other host.
    #[serde(default)]
    pub allow_redirects_to_other_hosts: bool,
    /// Cache headers may ask for longer pauses than `max_interval` and `freshness` allow.
    #[serde(default)]
    pub obey_cache_headers: bool,
    #[serde(default)]
    pub paused: bool,
    /// Of kinds that give forecasts.
    #[serde(default)]
    pub forecasts: ForecastConfig,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProviderKind {
    #[serde(rename = "fever-plans")]
    FeverPlans,
    #[serde(rename = "met-norway")]
    MetNorway,
    #[serde(rename = "open-meteo")]
    OpenMeteo,
}

/// How a service is asked for forecasts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ForecastConfig {
    /// Where waves and currents are asked for; the service's own when empty.
    pub marine_url: Address,
    /// The wave models that open-meteo is asked for; the first that has a value counts. Without any the
    /// service chooses, and does not say the step of its choice.
    pub marine_models: Vec<String>,
    /// A forecast stays fresh as long as its provider says, within these two, ...
    #[serde(with = "humantime_serde")]
    pub fresh_min: Duration,
    #[serde(with = "humantime_serde")]
    pub fresh_max: Duration,
    /// ... and so long where the provider says nothing.
    #[serde(with = "humantime_serde")]
    pub fresh_for: Duration,
    /// Places that are fetched at once.
    pub concurrency: usize,
    pub requests_per_minute: u32,
    /// After a 429 without Retry-After, or a 403; doubles while they go on.
    #[serde(with = "humantime_serde")]
    pub rate_pause: Duration,
    /// What the licence of the data asks to be shown, where it is not what the service's own does.
    pub attribution: String,
}

impl Default for ForecastConfig {
    fn default() -> Self {
        Self {
            marine_url: Address::default(),
            marine_models: DEFAULT_MODELS.map(str::to_owned).to_vec(),
            fresh_min: Duration::from_secs(5 * 60),
            fresh_max: Duration::from_secs(6 * 3_600),
            fresh_for: Duration::from_secs(3_600),
            concurrency: 4,
            requests_per_minute: 300,
            rate_pause: Duration::from_secs(60),
            attribution: String::new(),
        }
    }
}

fn utc() -> String {
    "UTC".to_owned()
}

fn default_interval() -> Duration {
    Duration::from_secs(30)
}

fn default_max_interval() -> Duration {
    Duration::from_secs(600)
}

fn default_freshness() -> Duration {
    Duration::from_secs(900)
}

fn default_priority() -> u32 {
    1
}

/// What holds for all providers of a process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IngestOptions {
    pub min_concurrency: usize,
    pub max_concurrency: usize,
    pub max_concurrency_per_host: usize,
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// From the request to the response's headers.
    #[serde(with = "humantime_serde")]
    pub first_byte_timeout: Duration,
    /// The whole fetch, body included.
    #[serde(with = "humantime_serde")]
    pub total_timeout: Duration,
    /// Of a body, decompressed.
    pub max_body_bytes: u64,
    /// Of a forecast's body, decompressed.
    pub max_forecast_bytes: u64,
    /// Of one tag.
    pub max_tag_bytes: usize,
    pub max_zones: usize,
    /// First pause after a failure; doubles, with full jitter.
    #[serde(with = "humantime_serde")]
    pub backoff: Duration,
    /// Failures in a row that open the circuit breaker.
    pub breaker_failures: u32,
    #[serde(with = "humantime_serde")]
    pub breaker_pause: Duration,
    /// A body without this share of at least `suspect_min_plans` listed plans is suspect.
    pub suspect_share: f64,
    pub suspect_min_plans: u64,
    /// A suspect body is believed when it comes so often in a row ...
    pub suspect_repeats: u64,
    /// ... over so long.
    #[serde(with = "humantime_serde")]
    pub suspect_for: Duration,
    /// Faults of one body that are recorded one by one; of more, only the number is.
    pub max_quarantined: u64,
    /// Events and bytes of one transaction.
    pub transaction_events: usize,
    pub transaction_bytes: usize,
    #[serde(with = "humantime_serde")]
    pub payload_retention: Duration,
    /// Bodies are spooled here; the system's folder for temporary files when absent.
    pub spool_dir: Option<PathBuf>,
}

impl IngestOptions {
    /// Where bodies are spooled.
    pub(crate) fn spool_dir(&self) -> PathBuf {
        self.spool_dir.clone().unwrap_or_else(std::env::temp_dir)
    }
}

impl Default for IngestOptions {
    fn default() -> Self {
        Self {
            min_concurrency: 2,
            max_concurrency: 16,
            max_concurrency_per_host: 2,
            connect_timeout: Duration::from_secs(5),
            first_byte_timeout: Duration::from_secs(20),
            total_timeout: Duration::from_secs(300),
            max_body_bytes: 1 << 30,
            max_forecast_bytes: 8 << 20,
            max_tag_bytes: 1 << 20,
            max_zones: 5_000,
            backoff: Duration::from_secs(1),
            breaker_failures: 5,
            breaker_pause: Duration::from_secs(30),
            suspect_share: 0.9,
            suspect_min_plans: 20,
            suspect_repeats: 3,
            suspect_for: Duration::from_secs(15 * 60),
            max_quarantined: 1_000,
            transaction_events: 2_000,
            transaction_bytes: 2 << 20,
            payload_retention: Duration::from_secs(7 * 24 * 3600),
            spool_dir: None,
        }
    }
}

/// How a provider's bodies are read.
#[derive(Clone, Debug)]
pub struct FeedSettings {
    pub provider: String,
    pub timezone: TimeZone,
    pub currency: Option<String>,
    pub url_template: Option<String>,
    pub max_tag_bytes: usize,
    pub max_zones: usize,
    pub max_plan_bytes: usize,
}

#[derive(Debug, thiserror::Error)]
#[error("provider {provider}: {detail}")]
pub struct ConfigError {
    provider: String,
    detail: String,
}

impl ProviderConfig {
    /// Checks what serde cannot.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let wrong = |detail: String| Err(self.wrong(detail));
        if !is_provider_name(&self.name) {
            return wrong("name must be 1 to 48 lowercase letters, digits or -".to_owned());
        }
        match kind_of(self.kind) {
            Some(kind) => self.forecasts.validate(self, kind)?,
            None => self.check_address("url", &self.url)?,
        }
        if let Err(error) = TimeZone::get(&self.timezone) {
            return wrong(format!("timezone {:?}: {error}", self.timezone));
        }
        if self.interval.is_zero() || self.interval > self.max_interval {
            return wrong("interval must be above zero and at most max_interval".to_owned());
        }
        if self.priority == 0 || self.freshness.is_zero() {
            return wrong("priority and freshness must be above zero".to_owned());
        }
        Ok(())
    }

    fn check_address(&self, name: &str, address: &Address) -> Result<(), ConfigError> {
        match address.web() {
            Ok(_) => Ok(()),
            Err(NoWebAddress::Scheme) => Err(self.wrong(format!("{name} is not http or https"))),
            Err(error) => Err(self.wrong(format!("{name}: {error}"))),
        }
    }

    pub(crate) fn wrong(&self, detail: String) -> ConfigError {
        ConfigError { provider: self.name.clone(), detail }
    }

    pub fn feed_settings(&self, options: &IngestOptions) -> Result<FeedSettings, ConfigError> {
        let timezone = TimeZone::get(&self.timezone)
            .map_err(|error| self.wrong(format!("timezone {:?}: {error}", self.timezone)))?;
        Ok(FeedSettings {
            provider: self.name.clone(),
            timezone,
            currency: self.currency.clone(),
            url_template: self.url_template.clone(),
            max_tag_bytes: options.max_tag_bytes,
            max_zones: options.max_zones,
            max_plan_bytes: 700_000,
        })
    }

    /// Changes when the same body would be read into other plans; the number first in it does when
    /// the parser reads it otherwise.
    pub fn fingerprint(&self) -> String {
        let text = format!(
            "2\0{}\0{}\0{:?}\0{:?}",
            self.url.expose(),
            self.timezone,
            self.currency,
            self.url_template
        );
        format!("{:016x}", xxhash_rust::xxh3::xxh3_64(text.as_bytes()))
    }
}

impl ForecastConfig {
    fn validate(
        &self,
        provider: &ProviderConfig,
        kind: &dyn ForecastKind,
    ) -> Result<(), ConfigError> {
        let wrong = |detail: &str| Err(provider.wrong(detail.to_owned()));
        for (name, address) in [("url", &provider.url), ("marine_url", &self.marine_url)] {
            if !address.is_empty() {
                provider.check_address(name, address)?;
            }
        }
        let mut names = provider.headers.keys().chain(provider.header_files.keys());
        if kind.must_identify() && !names.any(|name| name.eq_ignore_ascii_case("user-agent")) {
            return wrong(
                "the service answers only who says who asks: set headers = { User-Agent = \"...\" } to the \
                 name of your application or site and an address where its operator is reached",
            );
        }
        let is_model = |name: &String| {
            let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            (1..=64).contains(&name.len()) && name.bytes().all(known)
        };
        if self.marine_models.len() > 8 || !self.marine_models.iter().all(is_model) {
            return wrong("marine_models must be at most eight names of letters, digits and _");
        }
        if self.fresh_min.is_zero()
            || self.fresh_min > self.fresh_for
            || self.fresh_for > self.fresh_max
        {
            return wrong(
                "fresh_min must be above zero, at most fresh_for, and that at most fresh_max",
            );
        }
        if self.concurrency == 0 || self.requests_per_minute == 0 || self.rate_pause.is_zero() {
            return wrong("concurrency, requests_per_minute and rate_pause must be above zero");
        }
        Ok(())
    }
}

/// All but the unreserved characters of RFC 3986: right in a path and in a query.
const ENCODED: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl FeedSettings {
    pub(crate) fn url_of(&self, identity: &PlanIdentity) -> Option<String> {
        let encode = |text: &str| percent_encoding::utf8_percent_encode(text, ENCODED).to_string();
        let template = self.url_template.as_deref()?;
        Some(
            template
                .replace("{base_plan_id}", &encode(&identity.base_plan_id))
                .replace("{plan_id}", &encode(&identity.plan_id)),
        )
    }
}

pub(crate) fn is_provider_name(name: &str) -> bool {
    (1..=48).contains(&name.len())
        && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

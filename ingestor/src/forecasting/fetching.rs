//! One place of one service: what is no longer fresh of its products is fetched and read.

use super::Failure;
use crate::{
    config::{ConfigError, IngestOptions, ProviderConfig},
    fetch::{Body, FetchError, Fetched, Fetcher, Reading, Validators},
    forecasts::{
        Answer, ForecastError,
        kinds::{ForecastKind, Product},
        read_of, refusal,
    },
    slots::{Claim, Slots},
};
use almanac_domain::weather::{Location, Place};
use almanac_errors::chain;
use almanac_schemas::{
    forecasts::{SeriesRecord, code},
    ingest::{ForecastProductRecord, ForecastStateRecord},
};
use jiff::{SignedDuration, Timestamp};
use std::{
    io::{Read, Seek},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};
use url::Url;
use uuid::Uuid;

/// What of an answer that is none is kept to be told.
const FRAGMENT: usize = 500;

/// A configured service with what is made of its configuration once.
pub(crate) struct Service {
    pub(crate) config: ProviderConfig,
    kind: &'static dyn ForecastKind,
    endpoints: Vec<Endpoint>,
    /// Changes when the same place would be asked for otherwise.
    configuration: String,
}

struct Endpoint {
    product: Product,
    base: Url,
    fetcher: Fetcher,
    /// Whether it was said that the service announces the end of this address.
    has_warned: AtomicBool,
}

/// What a fetch of a place came to.
pub(super) struct PlaceFetch {
    pub(super) place: Place,
    pub(super) fetch_id: String,
    pub(super) began: Timestamp,
    pub(super) took: Duration,
    /// With all that was learned, even where the fetch failed in the end.
    pub(super) state: ForecastStateRecord,
    pub(super) failure: Option<Failure>,
    pub(super) refused: Option<RefusedBody>,
    pub(super) changed: bool,
    /// Of all bodies together; `None` where none came.
    pub(super) body_bytes: Option<u64>,
}

/// A body that is no forecast.
pub(super) struct RefusedBody {
    pub(super) product: &'static str,
    pub(super) body: Body,
    pub(super) reason: String,
    pub(super) fragment: String,
}

/// One product's answer.
struct Asked {
    record: ForecastProductRecord,
    body_bytes: Option<u64>,
}

type Refused = (Failure, Option<Box<RefusedBody>>);

impl Service {
    pub(crate) fn new(
        config: &ProviderConfig,
        kind: &'static dyn ForecastKind,
        options: &IngestOptions,
    ) -> Result<Self, ConfigError> {
        let options =
            IngestOptions { max_body_bytes: options.max_forecast_bytes, ..options.clone() };
        let mut endpoints = Vec::new();
        let mut configuration = String::from("1");
        for product in kind.products(config) {
            configuration.push_str(&format!("\0{}\0{:?}", product.address, product.models));
            let fetcher = Fetcher::at(config, &product.address, &options, Reading::FORECAST)?;
            let base = fetcher.url().clone();
            endpoints.push(Endpoint { product, base, fetcher, has_warned: AtomicBool::new(false) });
        }
        let configuration = xxhash_rust::xxh3::xxh3_64(configuration.as_bytes());
        let configuration = format!("{configuration:016x}");
        Ok(Self { config: config.clone(), kind, endpoints, configuration })
    }

    pub(super) fn attribution(&self) -> &str {
        match self.config.forecasts.attribution.as_str() {
            "" => self.kind.attribution(),
            configured => configured,
        }
    }

    /// What is known of a place; nothing where it was asked for with other settings.
    pub(super) fn known(
        &self,
        place: Place,
        stored: Option<ForecastStateRecord>,
    ) -> ForecastStateRecord {
        let empty = || ForecastStateRecord {
            provider: self.config.name.clone(),
            lat: place.lat().to_string(),
            lon: place.lon().to_string(),
            configuration: self.configuration.clone(),
            ..ForecastStateRecord::default()
        };
        match stored {
            Some(stored) if stored.configuration == self.configuration => stored,
            Some(stored) => ForecastStateRecord { answered: stored.answered, ..empty() },
            None => empty(),
        }
    }

    /// How many requests a fetch of the place takes; none where all that is known of it is fresh.
    pub(super) fn requests(&self, known: &ForecastStateRecord, now: Timestamp) -> usize {
        let is_stale = |endpoint: &&Endpoint| !is_fresh(known, endpoint.product.name, now);
        self.endpoints.iter().filter(is_stale).count()
    }

    /// Fetches what is not fresh, one product after the other; the first that fails ends it.
    pub(super) async fn fetch(
        &self,
        place: Place,
        mut state: ForecastStateRecord,
        slots: &Slots,
        due_at: Instant,
    ) -> PlaceFetch {
        let (started, began) = (Instant::now(), Timestamp::now());
        let fetch_id = Uuid::new_v4().to_string();
        let (mut failure, mut refused) = (None, None);
        let (mut changed, mut body_bytes) = (false, None);
        state.fetch_id.clone_from(&fetch_id);
        for endpoint in &self.endpoints {
            let name = endpoint.product.name;
            if is_fresh(&state, name, began) {
                continue;
            }
            let claim = Claim {
                host: endpoint.fetcher.host().to_owned(),
                priority: self.config.priority,
                freshness: self.config.freshness,
                due_at,
            };
            let _slot = slots.acquire(claim).await;
            let known = state.products.iter().find(|known| known.name == name);
            match self.ask(endpoint, place, known).await {
                Ok(asked) => {
                    changed |= known.is_none_or(|known| differs(known, &asked.record));
                    body_bytes = match (body_bytes, asked.body_bytes) {
                        (None, none_yet) => none_yet,
                        (Some(so_far), more) => Some(so_far + more.unwrap_or_default()),
                    };
                    self.put(&mut state, asked.record);
                }
                Err((why, body)) => {
                    let detail = endpoint.fetcher.tell(&format!("{name}: {}", why.detail));
                    failure = Some(Failure { detail, ..why });
                    refused = body.map(|body| *body);
                    break;
                }
            }
        }
        let took = started.elapsed();
        PlaceFetch { place, fetch_id, began, took, state, failure, refused, changed, body_bytes }
    }

    /// Products stand in the order in which they count.
    fn put(&self, state: &mut ForecastStateRecord, record: ForecastProductRecord) {
        state.products.retain(|known| known.name != record.name);
        state.products.push(record);
        let place = |name: &str| self.endpoints.iter().position(|one| one.product.name == name);
        state.products.sort_by_key(|known| place(&known.name));
    }

    async fn ask(
        &self,
        endpoint: &Endpoint,
        place: Place,
        known: Option<&ForecastProductRecord>,
    ) -> Result<Asked, Refused> {
        let url = endpoint.product.url(&endpoint.base, place);
        let known = known.filter(|known| known.no_data.is_none());
        let validators = Validators {
            etag: known.and_then(|known| known.etag.clone()),
            last_modified: known.and_then(|known| known.last_modified.clone()),
        };
        let answer = endpoint.fetcher.fetch_at(&url, &validators).await;
        let now = Timestamp::now();
        let fresh = |said| self.fresh_until(now, said);
        match answer {
            Ok(Fetched::NotModified { fresh_until }) => match known {
                Some(known) => {
                    let (fetched_at, fresh_until) = (now.as_millisecond(), fresh(fresh_until));
                    let record = ForecastProductRecord { fetched_at, fresh_until, ..known.clone() };
                    Ok(Asked { record, body_bytes: None })
                }
                None => Err(bad_answer("304, and nothing was known before", None)),
            },
            Ok(Fetched::Body(body)) => self.read(endpoint, body, now).await,
            Err(FetchError::Status { status, .. })
                if endpoint.product.no_data_status == Some(status) =>
            {
                let reason =
                    format!("the provider answered {status}: nothing is known of this place");
                Ok(self.no_data(endpoint, reason, now))
            }
            Err(FetchError::Status { status, retry_after, said }) => match refusal(&said) {
                Some(reason) if is_no_data(&reason) => Ok(self.no_data(endpoint, reason, now)),
                reason => Err((self.refused(status, retry_after, reason), None)),
            },
            Err(error) => {
                let code = match &error {
                    FetchError::TooLarge { .. }
                    | FetchError::UnknownCoding { .. }
                    | FetchError::TooManyCodings { .. }
                    | FetchError::Coded { .. } => code::BAD_ANSWER,
                    FetchError::ForeignRedirect(_)
                    | FetchError::BadRedirect
                    | FetchError::TooManyRedirects => code::REFUSED,
                    FetchError::Status { .. }
                    | FetchError::TimedOut { .. }
                    | FetchError::Network(_)
                    | FetchError::Spool { .. } => code::UNREACHABLE,
                };
                let worth_retrying = error.worth_retrying();
                Err((
                    Failure { worth_retrying, ..Failure::new(code, chain(&error).to_string()) },
                    None,
                ))
            }
        }
    }

    async fn read(
        &self,
        endpoint: &Endpoint,
        body: Body,
        now: Timestamp,
    ) -> Result<Asked, Refused> {
        if body.status == 203 && !endpoint.has_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                provider = self.config.name,
                product = endpoint.product.name,
                "the provider answers 203: this version of its service is about to end; see its \
                 documentation for the next, and change the address"
            );
        }
        let models = endpoint.product.models.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let text = text_of(&body)?;
            let answer = read_of(&text, &models);
            let fragment = String::from_utf8_lossy(&text[..text.len().min(FRAGMENT)]).into_owned();
            Ok::<_, std::io::Error>((body, answer, fragment))
        });
        let unreachable = |detail: String| (Failure::new(code::UNREACHABLE, detail), None);
        let (body, answer, fragment) = match reading.await {
            Ok(Ok(read)) => read,
            Ok(Err(error)) => {
                return Err(unreachable(format!("cannot read the body back: {}", chain(&error))));
            }
            Err(error) => {
                return Err(unreachable(format!("reading the body ended early: {error}")));
            }
        };
        let body_bytes = Some(body.bytes);
        match answer {
            Ok(answer) => {
                let fresh_until = self.fresh_until(now, body.fresh_until);
                let record = record(endpoint.product.name, &answer, &body, now, fresh_until);
                Ok(Asked { record, body_bytes })
            }
            Err(ForecastError::NoData(reason)) => Ok(self.no_data(endpoint, reason, now)),
            Err(ForecastError::Refused(reason)) if is_no_data(&reason) => {
                Ok(self.no_data(endpoint, reason, now))
            }
            Err(ForecastError::Refused(reason)) => {
                Err((self.refused(body.status, None, Some(reason)), None))
            }
            Err(error) => {
                let reason = chain(&error).to_string();
                let product = endpoint.product.name;
                let refused = RefusedBody { product, body, reason: reason.clone(), fragment };
                Err(bad_answer(&reason, Some(refused)))
            }
        }
    }

    /// Until when an answer of now is not asked for again.
    fn fresh_until(&self, now: Timestamp, said: Option<Timestamp>) -> i64 {
        let config = &self.config.forecasts;
        let after = |pause: Duration| {
            let pause = SignedDuration::try_from(pause).unwrap_or(SignedDuration::MAX);
            now.checked_add(pause).unwrap_or(Timestamp::MAX)
        };
        let until = said.unwrap_or_else(|| after(config.fresh_for));
        until.max(after(config.fresh_min)).min(after(config.fresh_max)).as_millisecond()
    }

    /// That is an answer, too, and it stays one for long: grids do not move.
    fn no_data(&self, endpoint: &Endpoint, reason: String, now: Timestamp) -> Asked {
        let record = ForecastProductRecord {
            name: endpoint.product.name.to_owned(),
            fetched_at: now.as_millisecond(),
            fresh_until: self.fresh_until(now, Some(Timestamp::MAX)),
            no_data: Some(endpoint.fetcher.tell(&reason)),
            ..ForecastProductRecord::default()
        };
        Asked { record, body_bytes: None }
    }

    fn refused(
        &self,
        status: u16,
        retry_after: Option<Duration>,
        reason: Option<String>,
    ) -> Failure {
        let is_limit = reason.as_deref().is_some_and(|reason| reason.contains("limit exceeded"));
        let (code, worth_retrying) = match status {
            _ if is_limit => (code::RATE_LIMITED, true),
            429 => (code::RATE_LIMITED, true),
            401 | 403 => (code::FORBIDDEN, false),
            408 | 425 | 500..=599 => (code::UNREACHABLE, true),
            _ => (code::REFUSED, false),
        };
        let mut detail = format!("the provider answered {status}");
        if let Some(reason) = reason {
            detail.push_str(&format!(": {reason}"));
        } else if status == 403 && self.kind.must_identify() {
            detail.push_str(
                ": it refuses this installation; its terms ask for a User-Agent that says who runs it",
            );
        }
        Failure { retry_after, worth_retrying, ..Failure::new(code, detail) }
    }
}

fn is_fresh(known: &ForecastStateRecord, product: &str, now: Timestamp) -> bool {
    let known = known.products.iter().find(|known| known.name == product);
    known.is_some_and(|known| now.as_millisecond() < known.fresh_until)
}

fn differs(one: &ForecastProductRecord, other: &ForecastProductRecord) -> bool {
    one.series != other.series || one.issued_at != other.issued_at || one.no_data != other.no_data
}

/// What Open-Meteo says of a place outside the grid of a model.
fn is_no_data(reason: &str) -> bool {
    reason.contains("No data is available")
}

fn bad_answer(reason: &str, body: Option<RefusedBody>) -> Refused {
    let failure = Failure::new(code::BAD_ANSWER, format!("the answer is no forecast: {reason}"));
    (failure, body.map(Box::new))
}

fn text_of(body: &Body) -> std::io::Result<Vec<u8>> {
    let mut file = body.file.try_clone()?;
    file.rewind()?;
    let mut text = Vec::with_capacity(body.bytes as usize);
    file.read_to_end(&mut text)?;
    Ok(text)
}

fn record(
    name: &str,
    answer: &Answer,
    body: &Body,
    now: Timestamp,
    fresh_until: i64,
) -> ForecastProductRecord {
    let position = answer.position.map(|(lat, lon)| Location { lat, lon });
    let series = answer.series.iter().zip(&answer.native_step_s).map(|(series, native_step_s)| {
        SeriesRecord::new(series, *native_step_s, position.as_ref())
    });
    ForecastProductRecord {
        name: name.to_owned(),
        etag: body.validators.etag.clone(),
        last_modified: body.validators.last_modified.clone(),
        fetched_at: now.as_millisecond(),
        fresh_until,
        issued_at: answer.issued_at.map(|issued| issued.as_millisecond()),
        no_data: None,
        series: series.collect(),
        trimmed_after: None,
    }
}

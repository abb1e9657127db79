//! Forecasts as workers know them: the newest of each place and source, read when they are needed, and
//! asked for when they are not fresh.

use crate::{
    Topics, WorkerOptions,
    read::{self, Trouble, Unreadable},
    repeats::Repeats,
};
use almanac_domain::weather::{Place, Series, Variable};
use almanac_errors::Cause;
use almanac_event_log::{
    Append, EventLog, Headers, Offset, Record, StoredRecord, partitioner::partition_of,
};
use almanac_processor::{Changes, Follow, Followed, RoleError, traced};
use almanac_schemas::{
    Codec,
    forecasts::{
        ForecastPublishedRecord, ForecastUnavailableRecord, PUBLISHED, SeriesRecord, TOPIC,
        UNAVAILABLE,
    },
    ingest::{FORECAST_REQUESTED, ForecastRequestedRecord},
};
use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use parking_lot::Mutex;
use quick_cache::{Weighter, sync::Cache};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// Where the newest forecast of a source and a place stands.
fn published_key(key: &str) -> Vec<u8> {
    [b"f", key.as_bytes()].concat()
}

/// Where it stands that a newer one could not be had.
fn unavailable_key(key: &str) -> Vec<u8> {
    [b"u", key.as_bytes()].concat()
}

/// The newest that is known of a source and a place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Newest {
    pub(crate) published: Option<Published>,
    /// Newer than the forecast, if there is one.
    pub(crate) unavailable: Option<Unavailable>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Published {
    pub(crate) partition: u32,
    pub(crate) offset: Offset,
    pub(crate) fetched_at: i64,
    pub(crate) fresh_until: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unavailable {
    pub(crate) offset: Offset,
    pub(crate) detail: String,
    pub(crate) retry_at: Option<i64>,
}

impl Newest {
    fn is_fresh(&self, now_ms: i64) -> bool {
        self.published.is_some_and(|published| published.fresh_until > now_ms)
    }

    /// The newest position of either.
    fn offset(&self) -> Option<Offset> {
        let published = self.published.map(|published| published.offset);
        published.max(self.unavailable.as_ref().map(|unavailable| unavailable.offset))
    }
}

/// What can be had of one source for a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Had {
    pub(crate) source: String,
    pub(crate) key: String,
    pub(crate) published: Option<Published>,
    /// Why there is no fresh one.
    pub(crate) lacks: Option<String>,
}

/// A forecast as it was read from the log.
pub(crate) struct Forecast {
    pub(crate) source: String,
    pub(crate) issued_at: Option<Timestamp>,
    pub(crate) fetched_at: Timestamp,
    pub(crate) fresh_until: Timestamp,
    pub(crate) series: Vec<Series>,
    /// What the provider said of each, without the values.
    pub(crate) notes: Vec<SeriesNote>,
}

pub(crate) struct SeriesNote {
    pub(crate) step_s: i64,
    pub(crate) native_step_s: Option<i64>,
    pub(crate) position: Option<almanac_domain::weather::Location>,
    /// Each variable that it names, and whether it has any value.
    pub(crate) variables: Vec<(Variable, bool)>,
}

impl From<&SeriesRecord> for SeriesNote {
    fn from(record: &SeriesRecord) -> Self {
        let named = record.columns.iter().filter_map(|one| Variable::parse(&one.variable));
        Self {
            step_s: record.step_s,
            native_step_s: record.native_step_s,
            position: record.position(),
            variables: named.map(|variable| (variable, record.has(variable))).collect(),
        }
    }
}

#[derive(Clone)]
struct Weigh;

/// Partition and offset.
type At = (u32, Offset);

impl Weighter<At, Arc<Forecast>> for Weigh {
    fn weight(&self, _: &At, forecast: &Arc<Forecast>) -> u64 {
        const SAMPLE: usize = 16;
        const VALUE: usize = 20;
        let of_series = |series: &Series| {
            let samples = series.spans().count();
            (samples * (SAMPLE + VALUE * series.columns().count())) as u64
        };
        forecast.series.iter().map(of_series).sum::<u64>() + 1_000
    }
}

pub(crate) struct Forecasts {
    pub(crate) followed: Followed,
    pub(crate) fold: Arc<ForecastFold>,
    log: Arc<dyn EventLog>,
    codec: Arc<Codec>,
    topics: Topics,
    wait: Duration,
    ask_again: Duration,
    asking: Mutex<HashMap<String, Arc<Asking>>>,
    cache: Cache<At, Arc<Forecast>, Weigh>,
}

/// Whoever asks for a forecast holds the lock; all who came before it was answered share the answer.
#[derive(Default)]
struct Asking(tokio::sync::Mutex<Option<Instant>>);

pub(crate) struct ForecastFold {
    codec: Arc<Codec>,
    repeats: Arc<Repeats>,
    /// Counts what was taken in.
    taken: watch::Sender<u64>,
}

impl Forecasts {
    pub(crate) fn new(
        log: Arc<dyn EventLog>,
        codec: Arc<Codec>,
        topics: Topics,
        repeats: Arc<Repeats>,
        options: &WorkerOptions,
    ) -> Self {
        let followed = Followed::new(log.clone(), topics.forecasts.clone(), topics.partitions);
        let fold = ForecastFold { codec: codec.clone(), repeats, taken: watch::Sender::new(0) };
        Self {
            followed,
            fold: Arc::new(fold),
            log,
            codec,
            topics,
            wait: options.forecast_wait,
            ask_again: options.ask_again,
            asking: Mutex::default(),
            cache: Cache::with_weighter(1_000, options.forecast_cache_bytes, Weigh),
        }
    }

    pub(crate) async fn newest(&self, key: &str) -> Result<Newest, Trouble> {
        Ok(Newest {
            published: self.get(key, published_key(key)).await?,
            unavailable: self.get(key, unavailable_key(key)).await?,
        })
    }

    async fn get<T: DeserializeOwned>(
        &self,
        key: &str,
        entry: Vec<u8>,
    ) -> Result<Option<T>, Trouble> {
        let partition = self.followed.partition_of(key.as_bytes());
        let found = self.followed.get(partition, entry).await?;
        let found = found.ok_or_else(|| Trouble::outage(format!("{TOPIC} is not followed")))?;
        let read = found.map(|bytes| serde_json::from_slice(&bytes)).transpose();
        read.map_err(|error| {
            let what = "local state of forecasts.events";
            Trouble::outage(Unreadable { what, source: error.into() })
        })
    }

    /// What can be had of a source for a place: a fresh forecast, or the newest older one and the reason.
    pub(crate) async fn have(&self, source: &str, place: Place) -> Result<Had, Trouble> {
        let key = place.key(source);
        let came = Instant::now();
        let before = self.newest(&key).await?;
        let had = |newest: Newest, lacks: Option<String>| {
            let (source, key) = (source.to_owned(), key.clone());
            Ok(Had { source, key, published: newest.published, lacks })
        };
        if let Some(told) = told(&before) {
            return had(before, told.err());
        }
        let asking = self.asking.lock().entry(key.clone()).or_default().clone();
        let mut gave_up = asking.0.lock().await;
        let newest = self.newest(&key).await?;
        if let Some(told) = told(&newest) {
            return had(newest, told.err());
        }
        let reason = |newest: &Newest| match &newest.unavailable {
            Some(unavailable) => unavailable.detail.clone(),
            None => "the source did not answer in time".to_owned(),
        };
        let was_answered = newest.offset() > before.offset();
        let was_given_up = gave_up.is_some_and(|at| at + self.ask_again > came);
        if was_answered || was_given_up {
            let reason = reason(&newest);
            return had(newest, Some(reason));
        }
        let asked = self.ask(source, place, &key, newest.offset()).await;
        if let Ok(false) = asked {
            *gave_up = Some(Instant::now());
        }
        drop(gave_up);
        self.forget(&key, &asking);
        asked?;
        let newest = self.newest(&key).await?;
        match told(&newest) {
            Some(told) => had(newest, told.err()),
            None => {
                let reason = reason(&newest);
                had(newest, Some(reason))
            }
        }
    }

    /// Nobody waits any more, and nobody gave up a moment ago.
    fn forget(&self, key: &str, asking: &Arc<Asking>) {
        let mut all = self.asking.lock();
        let is_idle = |one: &Arc<Asking>| {
            let gave_up = one.0.try_lock().ok().map(|gave_up| gave_up.is_some());
            Arc::strong_count(one) <= 2 && gave_up == Some(false)
        };
        if all.get(key).is_some_and(|one| Arc::ptr_eq(one, asking) && is_idle(one)) {
            all.remove(key);
        }
        // Of those that were given up, the old ones go as well.
        all.retain(|_, one| match one.0.try_lock() {
            Ok(gave_up) => gave_up.is_none_or(|at| at.elapsed() < self.ask_again),
            Err(_) => true,
        });
    }

    /// Asks the owner of the provider until something newer is known; whether that came in time.
    async fn ask(
        &self,
        source: &str,
        place: Place,
        key: &str,
        known: Option<Offset>,
    ) -> Result<bool, Trouble> {
        let until = tokio::time::Instant::now() + self.wait;
        let mut taken = self.fold.taken.subscribe();
        loop {
            let now = Timestamp::now().as_millisecond();
            let request = ForecastRequestedRecord {
                provider: source.to_owned(),
                lat: place.lat().to_string(),
                lon: place.lon().to_string(),
                requested_at: now,
                requested_by: "worker".to_owned(),
            };
            let value = self.codec.encode(FORECAST_REQUESTED, &request)?;
            let key_bytes = Bytes::copy_from_slice(source.as_bytes());
            let partition = partition_of(&key_bytes, self.topics.partitions);
            let record = Record {
                key: key_bytes,
                value: Some(value),
                headers: Headers::default(),
                timestamp_ms: now,
            };
            let append = Append { topic: self.topics.requests.clone(), partition, record };
            traced::append(&*self.log, append, almanac_traces::current()).await?;
            let again = until.min(tokio::time::Instant::now() + self.ask_again);
            loop {
                let newest = self.newest(key).await?;
                if newest.offset() > known || newest.is_fresh(Timestamp::now().as_millisecond()) {
                    return Ok(true);
                }
                tokio::select! {
                    changed = taken.changed() => {
                        if changed.is_err() {
                            return Err(Trouble::outage(format!("{TOPIC} is not followed")));
                        }
                    }
                    () = tokio::time::sleep_until(again) => break,
                }
            }
            if again >= until {
                return Ok(false);
            }
        }
    }

    /// The forecast that stands at a position.
    pub(crate) async fn read(
        &self,
        partition: u32,
        offset: Offset,
    ) -> Result<Arc<Forecast>, Trouble> {
        let load = async {
            let topic = self.followed.topic();
            let value = read::value(&*self.log, topic, partition, offset).await?;
            let record = read::decoded(&self.codec, &value, |decoded| {
                let is_forecast = decoded.record() == PUBLISHED;
                is_forecast.then(|| decoded.read::<ForecastPublishedRecord>()).transpose()
            });
            forecast(&record.await?).map(Arc::new)
        };
        self.cache.get_or_insert_async(&(partition, offset), load).await
    }
}

/// What needs no asking: a fresh forecast, or the word that there is none before a certain time.
fn told(newest: &Newest) -> Option<Result<(), String>> {
    let now = Timestamp::now().as_millisecond();
    if newest.is_fresh(now) {
        return Some(Ok(()));
    }
    let unavailable = newest.unavailable.as_ref()?;
    let is_later = unavailable.retry_at.is_some_and(|retry_at| retry_at > now);
    is_later.then(|| Err(unavailable.detail.clone()))
}

fn forecast(record: &ForecastPublishedRecord) -> Result<Forecast, Trouble> {
    let lost = |source: Cause| Trouble::lost(Unreadable { what: "a forecast", source });
    let instant = |ms: i64| Timestamp::from_millisecond(ms).map_err(|error| lost(error.into()));
    Ok(Forecast {
        source: record.source.clone(),
        issued_at: record.issued_at.map(instant).transpose()?,
        fetched_at: instant(record.fetched_at)?,
        fresh_until: instant(record.fresh_until)?,
        series: record.to_series().map_err(|error| lost(error.into()))?,
        notes: record.series.iter().map(SeriesNote::from).collect(),
    })
}

#[async_trait]
impl Follow for ForecastFold {
    /// Key of source and place.
    type Note = String;

    async fn fold(
        &self,
        stored: &StoredRecord,
        changes: &mut Changes,
    ) -> Result<Option<String>, RoleError> {
        let Ok(key) = std::str::from_utf8(&stored.record.key) else { return Ok(None) };
        let Some(value) = &stored.record.value else { return Ok(None) };
        let decoded = match self.codec.decode(value).await {
            Ok(decoded) => decoded,
            Err(error) if error.is_outage() => return Err(RoleError::other(error)),
            Err(_) => return Ok(None),
        };
        match decoded.record() {
            PUBLISHED => {
                // Without the series, which may be long.
                #[derive(Deserialize)]
                struct Times {
                    fetched_at: i64,
                    fresh_until: i64,
                }
                let Ok(times) = decoded.read::<Times>() else { return Ok(None) };
                let published = Published {
                    partition: stored.partition,
                    offset: stored.offset,
                    fetched_at: times.fetched_at,
                    fresh_until: times.fresh_until,
                };
                changes.push((published_key(key), serde_json::to_vec(&published).ok()));
                changes.push((unavailable_key(key), None));
            }
            UNAVAILABLE => {
                let Ok(record) = decoded.read::<ForecastUnavailableRecord>() else {
                    return Ok(None);
                };
                let unavailable = Unavailable {
                    offset: stored.offset,
                    detail: record.detail,
                    retry_at: record.retry_at,
                };
                changes.push((unavailable_key(key), serde_json::to_vec(&unavailable).ok()));
            }
            _ => return Ok(None),
        }
        Ok(Some(key.to_owned()))
    }

    fn taken(&self, notes: Vec<String>) {
        self.taken.send_modify(|taken| *taken += 1);
        for key in notes {
            self.repeats.forecast(&key);
        }
    }
}

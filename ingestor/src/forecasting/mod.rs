//! One provider of forecasts: requests for places are taken from the input, fetched beside it, and
//! answered with events.
//!
//! Nothing is fetched on a beat. Requests for one place that come while it waits or is being fetched are
//! answered by one event; while its newest forecast is fresh, it stands for an answer.

mod answers;
mod fetching;
mod gate;
#[cfg(test)]
mod tests;

pub(crate) use fetching::Service;

use crate::{
    commit::{CommitRequest, Committer, Handled, Kick, Wanted},
    config::IngestOptions,
    entry,
    metrics::{FetchLabels, ForecastLabels, IngestMetrics, ProviderLabels},
    publish::Publisher,
    rest::Rest,
    role::{Ingestor, Topics},
    slots::Slots,
};
use almanac_domain::weather::Place;
use almanac_errors::chain;
use almanac_event_log::{Offset, TopicId};
use almanac_processor::{LocalState, RoleError, traced};
use almanac_schemas::{
    Codec, CodecError, Token,
    forecasts::code,
    ingest::{ForecastStateRecord, ProviderStateRecord},
};
use almanac_traces::{Hop, Parent, SpanKind, attributes as name};
use answers::{observation, outside_coverage, published};
use fetching::PlaceFetch;
use gate::{Gate, Permit};
use jiff::{SignedDuration, Timestamp};
use rand::RngExt;
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Places that wait to be fetched; of more, the newest are refused.
const MAX_WAITING_PLACES: usize = 10_000;
/// Places that failed a moment ago, remembered.
const MAX_TROUBLED_PLACES: usize = 10_000;
/// What is known of a place that nobody asked for is kept for so long.
const KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Requests of which one fetch says that it is theirs as well.
const MAX_PARENTS: usize = 32;
/// Places forgotten by one transaction.
const FORGOTTEN_AT_ONCE: usize = 1_000;

/// Why there is no forecast.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Failure {
    /// One of [`code`].
    code: &'static str,
    detail: String,
    /// What the provider asked for.
    retry_after: Option<Duration>,
    retry_at: Option<Timestamp>,
    /// Whether time alone may mend it.
    worth_retrying: bool,
}

impl Failure {
    fn new(code: &'static str, detail: String) -> Self {
        Self { code, detail, retry_after: None, retry_at: None, worth_retrying: true }
    }
}

/// Requests for one place, waiting or being fetched.
struct Asked {
    requests: Requests,
    since: Instant,
}

/// Requests that are answered by one event.
#[derive(Default)]
struct Requests {
    offsets: Vec<Offset>,
    /// What they were written in, of those that are traced.
    parents: Vec<Parent>,
}

impl Requests {
    fn add(&mut self, offset: Offset, parent: Option<Parent>) {
        self.offsets.push(offset);
        if self.parents.len() < MAX_PARENTS {
            self.parents.extend(parent);
        }
    }

    /// The answer is a part of the first one's trace.
    fn parent(&self) -> Option<Parent> {
        self.parents.first().cloned()
    }
}

pub(crate) struct ForecastTask {
    service: Arc<Service>,
    options: IngestOptions,
    topics: Topics,
    codec: Arc<Codec>,
    slots: Slots,
    metrics: IngestMetrics,
    local: Arc<LocalState>,
    committer: Committer,
    /// Of the input, as positions name it.
    requests_id: TopicId,
    kicked: mpsc::Receiver<Kick>,
    rest: Rest,
    gate: Gate,
    asked: HashMap<Place, Asked>,
    /// In the order in which they were asked for.
    waiting: VecDeque<Place>,
    /// Each in the trace of who asked for it first.
    fetching: JoinSet<(PlaceFetch, Hop)>,
    /// Not to be asked for again before the time that the failure names.
    troubled: HashMap<Place, Failure>,
    /// What is to be committed next.
    batch: CommitRequest,
    handled: Vec<Offset>,
}

impl ForecastTask {
    pub(crate) fn new(
        ingestor: &Ingestor,
        service: Arc<Service>,
        local: Arc<LocalState>,
        committer: Committer,
        requests_id: TopicId,
        kicked: mpsc::Receiver<Kick>,
    ) -> Self {
        Self {
            gate: Gate::new(&service.config, &ingestor.options),
            rest: Rest::new(&service.config.name, ingestor.operations.clone(), &ingestor.metrics),
            service,
            options: ingestor.options.clone(),
            topics: ingestor.topics.clone(),
            codec: ingestor.codec.clone(),
            slots: ingestor.slots.clone(),
            metrics: ingestor.metrics.clone(),
            local,
            committer,
            requests_id,
            kicked,
            asked: HashMap::new(),
            waiting: VecDeque::new(),
            fetching: JoinSet::new(),
            troubled: HashMap::new(),
            batch: CommitRequest::default(),
            handled: Vec::new(),
        }
    }

    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), RoleError> {
        self.forget().await?;
        loop {
            let later = self.begin().await?;
            self.flush().await?;
            let pause = later.map(|at| at.duration_since(Timestamp::now()));
            let pause = pause.map(|pause| Duration::try_from(pause).unwrap_or_default());
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.rest.changed() => {}
                kick = self.kicked.recv() => match kick {
                    Some(kick) => self.take(kick).await?,
                    None => return Ok(()),
                },
                Some(ended) = self.fetching.join_next() => {
                    let (fetch, hop) = ended.map_err(RoleError::other)?;
                    self.end(fetch, &hop).await?;
                }
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
        }
    }

    /// One request, and all that came with it.
    async fn take(&mut self, kick: Kick) -> Result<(), RoleError> {
        let mut next = Some(kick);
        while let Some(Kick { offset, parent, wanted }) = next {
            match wanted {
                Wanted::Forecast { place } => self.ask(place, offset, parent).await?,
                Wanted::Fetch => {
                    self.gate.open_now(Timestamp::now());
                    self.troubled.clear();
                    self.handled.push(offset);
                }
                Wanted::Replay { .. } => {
                    tracing::warn!(
                        provider = self.name(),
                        "passing over a request: forecasts are kept in events, and no body is read again"
                    );
                    self.handled.push(offset);
                }
            }
            next = self.kicked.try_recv().ok();
        }
        Ok(())
    }

    async fn ask(
        &mut self,
        place: Place,
        offset: Offset,
        parent: Option<Parent>,
    ) -> Result<(), RoleError> {
        if let Some(asked) = self.asked.get_mut(&place) {
            asked.requests.add(offset, parent);
            self.measure_request("shared");
            return Ok(());
        }
        let mut requests = Requests::default();
        requests.add(offset, parent);
        if self.waiting.len() >= MAX_WAITING_PLACES {
            let mut failure = Failure::new(
                code::RATE_LIMITED,
                format!("{MAX_WAITING_PLACES} places wait to be fetched before this one"),
            );
            failure.retry_at = Timestamp::now().checked_add(SignedDuration::from_mins(1)).ok();
            return self.refuse(place, requests, failure).await;
        }
        self.asked.insert(place, Asked { requests, since: Instant::now() });
        self.waiting.push_back(place);
        Ok(())
    }

    /// Answers what needs no fetch, and begins as many as may run. Returns when to look again.
    async fn begin(&mut self) -> Result<Option<Timestamp>, RoleError> {
        while let Some(place) = self.waiting.front().copied() {
            let now = Timestamp::now();
            let stored = self.stored(place).await?;
            let newest = stored.as_ref().and_then(|stored| self.answered(stored));
            let known = self.service.known(place, stored);
            if let Some(asked) = self.asked.get_mut(&place) {
                // Answered by who owned the partition before.
                let (before, after): (Vec<_>, Vec<_>) =
                    asked.requests.offsets.iter().partition(|offset| Some(**offset) <= newest);
                self.handled.extend(before);
                asked.requests.offsets = after;
            }
            let open = self.asked.get(&place).map_or(0, |asked| asked.requests.offsets.len());
            let requests = self.service.requests(&known, now);
            if open == 0 || requests == 0 {
                let requests = self.done(place);
                if open > 0 && published(&self.service, &known).is_none() {
                    self.refuse(place, requests, outside_coverage(&known)).await?;
                } else {
                    self.measure_request("fresh");
                    self.handled.extend(requests.offsets);
                }
                continue;
            }
            if let Some(failure) = self.pause() {
                let requests = self.done(place);
                self.refuse(place, requests, failure).await?;
                continue;
            }
            let trouble = self.troubled.get(&place);
            if let Some(failure) = trouble.filter(|trouble| Some(now) < trouble.retry_at).cloned() {
                let requests = self.done(place);
                self.refuse(place, requests, failure).await?;
                continue;
            }
            match self.gate.permit(now, i32::try_from(requests).unwrap_or(i32::MAX)) {
                Permit::Later(at) => return Ok(at),
                Permit::Refused(failure) => {
                    let requests = self.done(place);
                    self.refuse(place, requests, failure).await?;
                }
                Permit::Go => {
                    self.waiting.pop_front();
                    self.measure_request("fetched");
                    let due_at =
                        self.asked.get(&place).map_or_else(Instant::now, |asked| asked.since);
                    let (service, slots) = (self.service.clone(), self.slots.clone());
                    let hop = self.fetch_hop(place);
                    self.fetching.spawn(async move {
                        (hop.scope(service.fetch(place, known, &slots, due_at)).await, hop)
                    });
                }
            }
        }
        Ok(None)
    }

    /// Why nobody is to be asked now, in words for those who plan by forecasts.
    fn pause(&self) -> Option<Failure> {
        let detail = match (self.rest.is_on(), self.service.config.paused) {
            (true, _) => "an operator has paused this source; it is asked again once it is resumed",
            (false, true) => "the configuration of this installation pauses the provider",
            (false, false) => return None,
        };
        Some(Failure::new(code::PAUSED, detail.to_owned()))
    }

    /// What a fetch is to the traces of who asked for it. Services of others are told nothing of them.
    fn fetch_hop(&self, place: Place) -> Hop {
        let parents = self.asked.get(&place).map_or(&[][..], |asked| &asked.requests.parents);
        let hop = almanac_traces::following(
            parents.first().cloned(),
            SpanKind::Internal,
            || "fetch forecast".to_owned(),
            || vec![name::text(name::PROVIDER, self.name())],
        );
        if let Some(span) = hop.span() {
            parents.iter().skip(1).for_each(|other| span.link(other));
        }
        hop
    }

    /// The place waits no more.
    fn done(&mut self, place: Place) -> Requests {
        if self.waiting.front() == Some(&place) {
            self.waiting.pop_front();
        }
        self.asked.remove(&place).map(|asked| asked.requests).unwrap_or_default()
    }

    async fn end(&mut self, mut fetch: PlaceFetch, hop: &Hop) -> Result<(), RoleError> {
        let now = Timestamp::now();
        let chance = rand::rng().random_range(0.0..1.0);
        self.gate.end(now, fetch.failure.as_mut(), fetch.changed, chance);
        let place = fetch.place;
        let offsets = self.done(place).offsets;
        let publisher = self.publisher(fetch.fetch_id.clone(), fetch.began);
        let publisher = Publisher { parent: hop.parent().cloned(), ..publisher };
        let payload_id = answers::quarantine(&publisher, &fetch).await?;
        if let Some(failure) = &mut fetch.failure {
            traced::failed([hop], failure.code);
            // With jitter the pause may be none at all.
            let at_least = SignedDuration::try_from(self.options.backoff).unwrap_or_default();
            let at_least = now.checked_add(at_least).unwrap_or(now);
            failure.retry_at = failure.retry_at.max(Some(at_least));
            self.remember(place, failure.clone(), now);
        } else {
            self.troubled.remove(&place);
        }
        self.measure(&fetch);
        let (breaker, failures) = (self.gate.breaker().as_str(), self.gate.failures());
        let observed =
            observation(self.name(), &fetch, payload_id, breaker, failures, self.gate.next());
        publisher.put_observation(&mut self.batch, &observed, &publisher.fetch_id)?;
        let mut state = fetch.state;
        answers::trim(&self.codec, &mut state).map_err(error)?;
        state.answered = self.position_of(&offsets).or(state.answered);
        let answer = match fetch.failure {
            Some(failure) => Err(failure),
            None => published(&self.service, &state).ok_or_else(|| outside_coverage(&state)),
        };
        match answer {
            Ok(forecast) => answers::put_published(&publisher, &mut self.batch, place, &forecast),
            Err(failure) => answers::put_unavailable(&publisher, &mut self.batch, place, &failure),
        }
        .map_err(error)?;
        answers::put_state(&publisher, &mut self.batch, place, &state).map_err(error)?;
        self.handled.extend(offsets);
        self.flush_if_large().await
    }

    /// Answers without a fetch.
    async fn refuse(
        &mut self,
        place: Place,
        requests: Requests,
        failure: Failure,
    ) -> Result<(), RoleError> {
        self.measure_request("refused");
        let publisher = self.publisher(Uuid::new_v4().to_string(), Timestamp::now());
        let publisher = Publisher { parent: requests.parent(), ..publisher };
        let offsets = requests.offsets;
        answers::put_unavailable(&publisher, &mut self.batch, place, &failure).map_err(error)?;
        let stored = self.stored(place).await?;
        let mut state = self.service.known(place, stored);
        state.answered = self.position_of(&offsets).or(state.answered);
        answers::put_state(&publisher, &mut self.batch, place, &state).map_err(error)?;
        self.handled.extend(offsets);
        self.flush_if_large().await
    }

    fn remember(&mut self, place: Place, failure: Failure, now: Timestamp) {
        if self.troubled.len() >= MAX_TROUBLED_PLACES {
            self.troubled.retain(|_, trouble| Some(now) < trouble.retry_at);
        }
        if self.troubled.len() < MAX_TROUBLED_PLACES {
            self.troubled.insert(place, failure);
        }
    }

    async fn flush_if_large(&mut self) -> Result<(), RoleError> {
        if self.batch.bytes < self.options.transaction_bytes {
            return Ok(());
        }
        self.flush().await
    }

    /// Commits what was gathered, and waits for it: what is asked next may rest on it.
    async fn flush(&mut self) -> Result<(), RoleError> {
        if self.batch.appends.is_empty() && self.handled.is_empty() {
            return Ok(());
        }
        let mut batch = std::mem::take(&mut self.batch);
        if batch.appends.is_empty() {
            // The input position moves only with a record of state.
            let state =
                ProviderStateRecord { provider: self.name().to_owned(), ..Default::default() };
            let publisher = self.publisher(String::new(), Timestamp::now());
            publisher.put_state(&mut batch, &state)?;
        }
        batch.handled = Handled::Each(std::mem::take(&mut self.handled));
        self.committer.submit(batch).await?.wait().await
    }

    /// Forgets places that nobody asked for in a long time.
    async fn forget(&mut self) -> Result<(), RoleError> {
        let oldest = Timestamp::now().checked_sub(KEPT).unwrap_or(Timestamp::MIN);
        let prefix = entry::places_prefix(self.name());
        let mut old = Vec::new();
        let local = self.local.clone();
        for entry in local.scan(&prefix) {
            let (key, value) = entry?;
            let text = std::str::from_utf8(key.get(prefix.len()..).unwrap_or_default());
            let place = text.ok().and_then(|text| text.split_once('/'));
            let Some(place) = place.and_then(|(lat, lon)| Place::parse(lat, lon)) else { continue };
            let Some(known) = self.read(&value).await? else { continue };
            let newest = known.products.iter().map(|product| product.fresh_until).max();
            if newest.is_none_or(|newest| newest < oldest.as_millisecond()) {
                old.push(place);
            }
            if old.len() >= FORGOTTEN_AT_ONCE {
                break;
            }
        }
        for place in old {
            let (topics, partition) = (&self.topics, self.committer.partition);
            let provider = &self.service.config.name;
            answers::put_forgotten(topics, partition, &mut self.batch, provider, place);
        }
        self.flush().await
    }

    async fn stored(&self, place: Place) -> Result<Option<ForecastStateRecord>, RoleError> {
        match self.local.get(&entry::place_key(self.name(), place))? {
            Some(value) => self.read(&value).await,
            None => Ok(None),
        }
    }

    /// `None` where it cannot be read although it was folded again: then the log has it like that.
    async fn read(&self, value: &[u8]) -> Result<Option<ForecastStateRecord>, RoleError> {
        let read = match self.codec.decode(value).await {
            Err(error) if error.is_outage() => return Err(RoleError::other(error)),
            decoded => decoded.and_then(|decoded| decoded.read::<ForecastStateRecord>()),
        };
        match read {
            Ok(state) => Ok(Some(state)),
            Err(error) => {
                self.local.doubt(format!(
                    "a forecast of provider {}: {}",
                    self.name(),
                    chain(&error)
                ))?;
                Ok(None)
            }
        }
    }

    /// The newest request that a place's state says was answered, where it is one of this input.
    fn answered(&self, state: &ForecastStateRecord) -> Option<Offset> {
        let token: Token = state.answered.as_deref()?.parse().ok()?;
        let is_of_this =
            token.topic == self.requests_id.0 && token.partition == self.committer.partition;
        is_of_this.then_some(token.offset)
    }

    fn position_of(&self, offsets: &[Offset]) -> Option<String> {
        let token = Token {
            context: "requests".into(),
            topic: self.requests_id.0,
            partition: self.committer.partition,
            offset: *offsets.iter().max()?,
        };
        Some(token.to_string())
    }

    fn publisher(&self, fetch_id: String, observed_at: Timestamp) -> Publisher {
        let provider = self.name();
        Publisher {
            topics: self.topics.clone(),
            codec: self.codec.clone(),
            committer: self.committer.clone(),
            provider: provider.to_owned(),
            source: format!("/v1/providers/{provider}"),
            fetch_id,
            parent: None,
            observed_at,
            spool_dir: self.options.spool_dir(),
            max_events: self.options.transaction_events,
            max_bytes: self.options.transaction_bytes,
        }
    }

    fn name(&self) -> &str {
        &self.service.config.name
    }

    fn measure_request(&self, answer: &'static str) {
        let labels = ForecastLabels { provider: self.name().to_owned(), answer };
        self.metrics.forecast_requests.get_or_create(&labels).inc();
    }

    fn measure(&self, fetch: &PlaceFetch) {
        let (provider, place) = (self.name().to_owned(), fetch.place);
        let took_ms = fetch.took.as_millis() as u64;
        let outcome = match &fetch.failure {
            Some(Failure { code, detail, .. }) => {
                let breaker = self.gate.breaker().as_str();
                tracing::warn!(provider, %place, code, detail, breaker, "no forecast");
                "failed"
            }
            None => {
                tracing::info!(provider, %place, changed = fetch.changed, took_ms, "fetched");
                if fetch.changed { "changed" } else { "unchanged" }
            }
        };
        if fetch.refused.is_some() {
            let labels = ProviderLabels { provider: provider.clone() };
            self.metrics.quarantined.get_or_create(&labels).inc();
        }
        self.metrics.fetches.get_or_create(&FetchLabels { provider, outcome }).inc();
        self.metrics.duration.observe(fetch.took.as_secs_f64());
    }
}

fn error(error: CodecError) -> RoleError {
    RoleError::other(error)
}

//! One provider: when it is fetched, and what a fetch leads to.

use crate::{
    commit::{Committer, Kick, Wanted},
    compare::{CompareError, Comparison, Context, Counts, PLAN_EVENTS, compare},
    config::FeedSettings,
    entry,
    fetch::{Body, FetchError, Fetched, Validators},
    fever_plans::Fault,
    metrics::{EventLabels, FetchLabels, IngestMetrics, ProviderLabels},
    publish::Publisher,
    replay::{Payload, Payloads},
    rest::Rest,
    role::{Ingestor, Provider, Topics},
    schedule::{Ended, Next, Schedule},
    slots::{Claim, Slots},
};
use almanac_errors::{Cause, chain};
use almanac_event_log::EventLog;
use almanac_processor::{LocalState, RoleError};
use almanac_schemas::{
    Codec,
    ingest::ProviderStateRecord,
    plans::{FaultRecord, FeedObservedRecord, PlanEncoder},
};
use jiff::Timestamp;
use rand::RngExt;
use std::{
    io::{BufReader, Seek},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) struct ProviderTask {
    provider: Arc<Provider>,
    settings: FeedSettings,
    options: crate::config::IngestOptions,
    topics: Topics,
    codec: Arc<Codec>,
    encoder: Arc<PlanEncoder>,
    slots: Slots,
    metrics: IngestMetrics,
    local: Arc<LocalState>,
    committer: Committer,
    log: Arc<dyn EventLog>,
    kicked: mpsc::Receiver<Kick>,
    rest: Rest,
    state: ProviderStateRecord,
    /// Hash of the body that was stored last: a bad one that stays is stored once.
    kept: Option<String>,
    schedule: Schedule,
    next: Next,
}

/// What a fetch came to.
struct Outcome {
    word: &'static str,
    detail: Option<String>,
    counts: Counts,
    faults: Vec<Fault>,
    body_bytes: Option<u64>,
    payload_id: Option<String>,
    ended: Ended,
}

impl Outcome {
    fn failed(detail: String, ended: Ended) -> Self {
        Self {
            word: "failed",
            detail: Some(detail),
            counts: Counts::default(),
            faults: Vec::new(),
            body_bytes: None,
            payload_id: None,
            ended,
        }
    }
}

impl ProviderTask {
    pub(crate) async fn new(
        ingestor: &Ingestor,
        provider: Arc<Provider>,
        local: Arc<LocalState>,
        log: Arc<dyn EventLog>,
        committer: Committer,
        kicked: mpsc::Receiver<Kick>,
    ) -> Result<Self, RoleError> {
        let name = provider.config.name.clone();
        let stored = local.get(&entry::provider_key(&name))?;
        let stored = match &stored {
            Some(bytes) => read_state(&ingestor.codec, &local, &name, bytes).await?,
            None => None,
        };
        let fresh = || ProviderStateRecord { provider: name, ..ProviderStateRecord::default() };
        let mut state = stored.unwrap_or_else(fresh);
        let fingerprint = provider.config.fingerprint();
        if state.configuration != fingerprint {
            // Read with other settings, the same body may say something else.
            (state.etag, state.last_modified) = (None, None);
            state.configuration = fingerprint;
        }
        Ok(Self {
            settings: provider.config.feed_settings(&ingestor.options).map_err(RoleError::other)?,
            schedule: Schedule::new(&provider.config, &ingestor.options),
            rest: Rest::new(&provider.config.name, ingestor.operations.clone(), &ingestor.metrics),
            provider,
            options: ingestor.options.clone(),
            topics: ingestor.topics.clone(),
            codec: ingestor.codec.clone(),
            encoder: ingestor.encoder.clone(),
            slots: ingestor.slots.clone(),
            metrics: ingestor.metrics.clone(),
            local,
            log,
            committer,
            kicked,
            state,
            kept: None,
            next: Next { at: Timestamp::now(), reason: "start" },
        })
    }

    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), RoleError> {
        let mut next = Instant::now();
        loop {
            let rests = self.provider.config.paused || self.rest.is_on();
            let kick = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.rest.changed() => continue,
                kick = self.kicked.recv() => match kick {
                    Some(kick) => Some(self.with_waiting_kicks(kick)),
                    None => return Ok(()),
                },
                () = tokio::time::sleep_until(next.into()), if !rests => None,
            };
            let claim = Claim {
                host: self.provider.fetcher.host().to_owned(),
                priority: self.provider.config.priority,
                freshness: self.provider.config.freshness,
                due_at: next.min(Instant::now()),
            };
            let slot = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                slot = self.slots.acquire(claim) => slot,
            };
            self.metrics.waiting.set(self.slots.waiting() as i64);
            match kick {
                Some(Kick { wanted: Wanted::Replay { since_ms }, offset, .. }) => {
                    self.replay(since_ms, offset).await?;
                    // What the provider says now counts last, whatever the stored bodies said.
                    self.next = Next { at: Timestamp::now(), reason: "after a replay" };
                }
                // Paused since it was asked for, or while it waited: what was planned stays planned.
                fetch if self.rest.is_on() => {
                    self.pass_over(fetch).await?;
                    continue;
                }
                fetch => self.once(fetch.map(|kick| kick.offset)).await?,
            }
            drop(slot);
            let pause = self.next.at.duration_since(Timestamp::now());
            next = Instant::now() + Duration::try_from(pause).unwrap_or_default();
        }
    }

    /// Several requests that wait are one: a replay, which a fetch follows, if any of them is one,
    /// and that of the most bodies.
    fn with_waiting_kicks(&mut self, mut kick: Kick) -> Kick {
        while let Ok(later) = self.kicked.try_recv() {
            let wanted = match (kick.wanted, later.wanted) {
                (Wanted::Replay { since_ms: one }, Wanted::Replay { since_ms: other }) => {
                    Wanted::Replay { since_ms: one.into_iter().chain(other).min() }
                }
                (replay @ Wanted::Replay { .. }, _) | (_, replay) => replay,
            };
            kick = Kick { wanted, ..later };
        }
        kick
    }

    async fn pass_over(&self, fetch: Option<Kick>) -> Result<(), RoleError> {
        let Some(Kick { offset, .. }) = fetch else { return Ok(()) };
        let provider = &self.provider.config.name;
        tracing::info!(provider, offset, "passing over a request to fetch: an operator paused it");
        self.publisher(Timestamp::now()).handled(&self.state, offset).await
    }

    /// One fetch with all that it leads to.
    async fn once(&mut self, handled: Option<u64>) -> Result<(), RoleError> {
        self.schedule.begin();
        let (started, observed_at) = (Instant::now(), Timestamp::now());
        let before = self.state.clone();
        let publisher = self.publisher(observed_at);
        let validators = Validators {
            etag: self.state.etag.clone(),
            last_modified: self.state.last_modified.clone(),
        };
        let outcome = match self.provider.fetcher.fetch(&validators).await {
            Ok(Fetched::NotModified { fresh_until }) => Outcome {
                word: "not_modified",
                detail: None,
                counts: Counts::default(),
                faults: Vec::new(),
                body_bytes: None,
                payload_id: None,
                ended: Ended::Good { changed: false, fresh_until },
            },
            Ok(Fetched::Body(body)) => self.take_body(body, &publisher).await?,
            Err(error) => Outcome::failed(chain(&error).to_string(), ended_by(&error)),
        };
        let outcome = self.told(outcome);
        let chance = rand::rng().random_range(0.0..1.0);
        self.next = self.schedule.end(Timestamp::now(), outcome.ended, chance);
        self.measure(&outcome, started.elapsed());
        let observed = self.observation(outcome, observed_at, started.elapsed());
        // The position of a request that was handled is kept beside the state.
        let remembered = (self.state != before || handled.is_some()).then_some(&self.state);
        publisher.observation(&observed, remembered, handled).await
    }

    /// What is logged, published and served of it: bounded, and without the keys of the provider's
    /// address and headers.
    fn told(&self, mut outcome: Outcome) -> Outcome {
        let fetcher = &self.provider.fetcher;
        outcome.detail = outcome.detail.map(|detail| fetcher.tell(&detail));
        outcome
    }

    fn publisher(&self, observed_at: Timestamp) -> Publisher {
        let provider = &self.provider.config.name;
        Publisher {
            topics: self.topics.clone(),
            codec: self.codec.clone(),
            committer: self.committer.clone(),
            provider: provider.clone(),
            source: format!("/v1/providers/{provider}"),
            fetch_id: Uuid::new_v4().to_string(),
            // A feed may list a hundred thousand plans: whoever asked for a fetch traces none of them.
            parent: None,
            observed_at,
            spool_dir: self.options.spool_dir(),
            max_events: self.options.transaction_events,
            max_bytes: self.options.transaction_bytes,
        }
    }

    /// Reads stored bodies again: those fetched since then, oldest first, or the newest only.
    async fn replay(&mut self, since_ms: Option<i64>, handled: u64) -> Result<(), RoleError> {
        let (codec, provider) = (self.codec.clone(), self.provider.clone());
        // With validators the provider would answer that nothing changed, and what its present
        // body says to the present parser would never be known.
        (self.state.etag, self.state.last_modified) = (None, None);
        let mut payloads = Payloads::open(
            &*self.log,
            &self.topics,
            &codec,
            &provider.config.name,
            self.committer.partition,
            since_ms.unwrap_or(i64::MIN),
            self.options.spool_dir(),
        )
        .await?;
        if since_ms.is_some() {
            while let Some(payload) = payloads.next().await? {
                self.replay_one(payload).await?;
            }
        } else if let Some(payload) = payloads.newest().await? {
            self.replay_one(payload).await?;
        }
        self.publisher(Timestamp::now()).handled(&self.state, handled).await
    }

    async fn replay_one(&mut self, payload: Payload) -> Result<(), RoleError> {
        let (started, observed_at) = (Instant::now(), Timestamp::now());
        let publisher = self.publisher(observed_at);
        let id = payload.id.clone();
        let fetched_at = Timestamp::from_millisecond(payload.fetched_at_ms).unwrap_or_default();
        let (limit, spool_dir) = (self.options.max_body_bytes, self.options.spool_dir());
        let body = tokio::task::spawn_blocking(move || payload.into_body(limit, &spool_dir))
            .await
            .map_err(RoleError::other)?;
        let mut detail = format!("stored body {id}, fetched at {fetched_at:.3}");
        let mut outcome =
            Outcome::failed(String::new(), Ended::Good { changed: false, fresh_until: None });
        match body {
            Err(error) => detail.push_str(&format!(": cannot be read: {}", chain(&error))),
            Ok(body) => match self.compare(&body, observed_at, &id, true).await? {
                Err(reason) => detail.push_str(&format!(": refused: {reason}")),
                Ok(comparison) => {
                    outcome.body_bytes = Some(body.bytes);
                    outcome.counts = comparison.counts;
                    outcome.faults = comparison.faults.clone();
                    match comparison.suspect {
                        Some(suspect) => detail.push_str(&format!(": passed over: {suspect}")),
                        None => publisher.steps(comparison, &mut self.state).await?,
                    }
                }
            },
        }
        (outcome.word, outcome.detail, outcome.payload_id) = ("replayed", Some(detail), Some(id));
        let outcome = self.told(outcome);
        self.measure(&outcome, started.elapsed());
        let observed = self.observation(outcome, observed_at, started.elapsed());
        publisher.observation(&observed, Some(&self.state), None).await
    }

    async fn take_body(&mut self, body: Body, publisher: &Publisher) -> Result<Outcome, RoleError> {
        let payload_id = format!("{}.{}", self.provider.config.name, publisher.fetch_id);
        let is_new = self.state.body_hash.as_deref() != Some(body.hash.as_str());
        let compared = self.compare(&body, publisher.observed_at, &payload_id, is_new).await?;
        // A body that says nothing new is not kept, nor one that was kept last time already.
        let is_news = match &compared {
            Ok(comparison) => comparison.outbox.steps > 0 || comparison.suspect.is_some(),
            Err(_) => true,
        };
        let keep = is_news && self.kept.as_deref() != Some(body.hash.as_str());
        let keeping =
            async { if keep { publisher.payload(&payload_id, &body).await } else { Ok(()) } };
        let comparison = match compared {
            Ok(comparison) => comparison,
            Err(reason) => {
                keeping.await?;
                self.kept = Some(body.hash);
                let ended = Ended::Bad { retry_after: None, worth_retrying: true };
                return Ok(Outcome {
                    body_bytes: Some(body.bytes),
                    payload_id: keep.then_some(payload_id),
                    ..Outcome::failed(reason, ended)
                });
            }
        };
        let Comparison { counts, suspect, .. } = &comparison;
        let (counts, suspect) = (*counts, suspect.clone());
        let faults = comparison.faults.clone();
        let is_suspect = suspect.is_some();
        if is_suspect {
            keeping.await?;
            if self.state.suspect_bodies == 0 || self.state.suspect_since.is_none() {
                self.state.suspect_since = Some(publisher.observed_at.as_millisecond());
            }
            self.state.suspect_bodies += 1;
        } else {
            tokio::try_join!(keeping, publisher.steps(comparison, &mut self.state))?;
            // Only now: after a crash in between, the same body must count as new.
            self.state.body_hash = Some(body.hash.clone());
            self.state.suspect_bodies = 0;
            self.state.suspect_since = None;
            self.state.etag = body.validators.etag;
            self.state.last_modified = body.validators.last_modified;
        }
        if keep {
            self.kept = Some(body.hash);
        }
        let word = match (is_suspect, counts.events() > 0) {
            (true, _) => "suspect",
            (false, true) => "changed",
            (false, false) => "unchanged",
        };
        Ok(Outcome {
            word,
            detail: suspect,
            counts,
            faults,
            body_bytes: Some(body.bytes),
            payload_id: keep.then_some(payload_id),
            ended: Ended::Good { changed: counts.events() > 0, fresh_until: body.fresh_until },
        })
    }

    /// The inner error is the body's fault, the outer one ours.
    async fn compare(
        &self,
        body: &Body,
        now: Timestamp,
        payload_id: &str,
        record_faults: bool,
    ) -> Result<Result<Comparison, String>, RoleError> {
        let mut file = body.file.try_clone().map_err(RoleError::other)?;
        let (settings, options) = (self.settings.clone(), self.options.clone());
        let (local, provider) = (self.local.clone(), self.state.clone());
        let (codec, encoder) = (self.codec.clone(), self.encoder.clone());
        let (payload_id, charset) = (payload_id.to_owned(), body.charset);
        let compared = tokio::task::spawn_blocking(move || {
            file.rewind()?;
            let context = Context {
                settings: &settings,
                options: &options,
                state: &local,
                provider: &provider,
                codec: &codec,
                encoder: &encoder,
                now,
                payload_id: &payload_id,
                charset,
                record_faults,
            };
            compare(BufReader::with_capacity(256 << 10, file), &context)
        });
        match compared.await.map_err(RoleError::other)? {
            Ok(comparison) => Ok(Ok(comparison)),
            Err(CompareError::Body(error)) => Ok(Err(error.told())),
            Err(error @ CompareError::Damaged { .. }) => {
                let error = Cause::from(error);
                self.local.doubt(error.clone())?;
                Err(RoleError::Other(error))
            }
            Err(CompareError::State(error)) => Err(error.into()),
            Err(error) => Err(RoleError::other(error)),
        }
    }

    fn observation(
        &self,
        outcome: Outcome,
        observed_at: Timestamp,
        took: Duration,
    ) -> FeedObservedRecord {
        let faults = outcome.faults.into_iter().map(|fault| FaultRecord {
            place: fault.place.to_string(),
            subject: fault.subject,
            reason: fault.reason,
        });
        FeedObservedRecord {
            provider: self.provider.config.name.clone(),
            observed_at: observed_at.as_millisecond(),
            outcome: outcome.word.to_owned(),
            detail: outcome.detail,
            listed_plans: Some(self.state.listed_plans),
            listed: outcome.counts.listed as i64,
            changed: outcome.counts.changed as i64,
            delisted: outcome.counts.delisted as i64,
            relisted: outcome.counts.relisted as i64,
            quarantined: outcome.counts.quarantined as i64,
            faults: faults.collect(),
            body_bytes: outcome.body_bytes.map(|bytes| bytes as i64),
            duration_ms: i64::try_from(took.as_millis()).unwrap_or(i64::MAX),
            breaker: self.schedule.breaker().as_str().to_owned(),
            consecutive_failures: i64::from(self.schedule.failures()),
            next_fetch_at: self.next.at.as_millisecond(),
            next_fetch_reason: self.next.reason.to_owned(),
            payload_id: outcome.payload_id,
        }
    }

    fn measure(&self, outcome: &Outcome, took: Duration) {
        let provider = &self.provider.config.name;
        let counts = outcome.counts;
        if outcome.word == "failed" || outcome.word == "suspect" {
            let detail = outcome.detail.as_deref().unwrap_or_default();
            tracing::warn!(
                provider,
                outcome = outcome.word,
                detail,
                breaker = self.schedule.breaker().as_str(),
                "fetch brought nothing"
            );
        } else {
            tracing::info!(
                provider,
                outcome = outcome.word,
                listed = counts.listed,
                changed = counts.changed,
                delisted = counts.delisted,
                relisted = counts.relisted,
                quarantined = counts.quarantined,
                took_ms = took.as_millis() as u64,
                "fetched"
            );
        }
        let labels = FetchLabels { provider: provider.clone(), outcome: outcome.word };
        self.metrics.fetches.get_or_create(&labels).inc();
        let numbers = [counts.listed, counts.changed, counts.delisted, counts.relisted];
        for (event, number) in PLAN_EVENTS.into_iter().zip(numbers) {
            let labels = EventLabels { provider: provider.clone(), event };
            self.metrics.events.get_or_create(&labels).inc_by(number);
        }
        let labels = ProviderLabels { provider: provider.clone() };
        self.metrics.quarantined.get_or_create(&labels).inc_by(counts.quarantined);
        self.metrics.duration.observe(took.as_secs_f64());
    }
}

/// What a provider's state says, as local state has it. `None` where it cannot be read although it was
/// folded again: then the log has it like that, and the provider is fetched as if for the first time.
async fn read_state(
    codec: &Codec,
    local: &LocalState,
    provider: &str,
    bytes: &[u8],
) -> Result<Option<ProviderStateRecord>, RoleError> {
    let read = match codec.decode(bytes).await {
        Err(error) if error.is_outage() => return Err(RoleError::other(error)),
        decoded => decoded.and_then(|decoded| decoded.read::<ProviderStateRecord>()),
    };
    match read {
        Ok(state) => Ok(Some(state)),
        Err(error) => {
            local.doubt(format!("the state of provider {provider}: {}", chain(&error)))?;
            tracing::error!(provider, error = %chain(&error), "the state of a provider cannot be read");
            Ok(None)
        }
    }
}

fn ended_by(error: &FetchError) -> Ended {
    Ended::Bad { retry_after: error.retry_after(), worth_retrying: error.worth_retrying() }
}

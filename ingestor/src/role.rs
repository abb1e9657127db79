//! The owner of a partition of `ingest.requests`: the providers whose names fall into it, each on
//! its own task, and one loop that commits what they write.

use crate::{
    commit::{CommitLoop, Committer, INPUT_POSITION, Kicks},
    config::{ConfigError, IngestOptions, ProviderConfig},
    entry::{self, StoredEntry, Subject},
    fetch::Fetcher,
    forecasting::{ForecastTask, Service},
    forecasts::kinds::kind_of,
    metrics::IngestMetrics,
    provider::ProviderTask,
    slots::Slots,
};
use almanac_errors::chain;
use almanac_event_log::{Offset, Retention, TopicId, TopicSpec, partitioner::partition_of};
use almanac_operations::Known;
use almanac_processor::{LocalState, Owned, Role, RoleError, StateFolder};
use almanac_schemas::{
    Codec, CodecError, Token, forecasts,
    ingest::{self, FORECAST_STATE, ForecastStateRecord, PROVIDER_STATE, ProviderStateRecord},
    plans::{self, PlanEncoder},
};
use async_trait::async_trait;
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::watch, task::JoinSet};

/// The topics, with the installation's prefix.
#[derive(Clone)]
pub struct Topics {
    pub(crate) plans: Arc<str>,
    pub(crate) forecasts: Arc<str>,
    pub(crate) requests: Arc<str>,
    pub(crate) state: Arc<str>,
    pub(crate) payloads: Arc<str>,
    pub(crate) quarantine: Arc<str>,
    pub(crate) partitions: u32,
}

impl Topics {
    pub fn new(prefix: &str, partitions: u32) -> Self {
        let topic = |name: &str| -> Arc<str> { format!("{prefix}{name}").into() };
        Self {
            plans: topic(plans::TOPIC),
            forecasts: topic(forecasts::TOPIC),
            requests: topic(ingest::REQUESTS),
            state: topic(ingest::STATE),
            payloads: topic(ingest::PAYLOADS),
            quarantine: topic(ingest::QUARANTINE),
            partitions,
        }
    }

    pub fn requests(&self) -> &str {
        &self.requests
    }

    pub fn specs(&self, payload_retention: Duration) -> Vec<TopicSpec> {
        let spec = |name: &Arc<str>, retention| TopicSpec {
            name: name.to_string(),
            partitions: self.partitions,
            retention,
            durability: almanac_event_log::Durability::Synced,
        };
        vec![
            spec(&self.plans, Retention::Forever),
            spec(&self.forecasts, Retention::Forever),
            spec(&self.requests, Retention::For(Duration::from_secs(7 * 24 * 3600))),
            spec(&self.state, Retention::Compacted),
            spec(&self.payloads, Retention::For(payload_retention)),
            spec(&self.quarantine, Retention::For(Duration::from_secs(90 * 24 * 3600))),
        ]
    }
}

/// Of a provider's kind.
#[derive(Clone)]
pub(crate) enum Source {
    Feed(Arc<Provider>),
    Forecasts(Arc<Service>),
}

impl Source {
    fn new(config: &ProviderConfig, options: &IngestOptions) -> Result<Self, ConfigError> {
        Ok(match kind_of(config.kind) {
            Some(kind) => Self::Forecasts(Arc::new(Service::new(config, kind, options)?)),
            None => {
                config.feed_settings(options)?;
                let fetcher = Fetcher::new(config, options)?;
                Self::Feed(Arc::new(Provider { config: config.clone(), fetcher }))
            }
        })
    }

    fn name(&self) -> &str {
        match self {
            Self::Feed(provider) => &provider.config.name,
            Self::Forecasts(service) => &service.config.name,
        }
    }
}

/// A provider of a feed with what is made of its configuration once.
pub(crate) struct Provider {
    pub(crate) config: ProviderConfig,
    pub(crate) fetcher: Fetcher,
}

pub struct Ingestor {
    pub(crate) topics: Topics,
    pub(crate) options: IngestOptions,
    sources: Vec<Source>,
    pub(crate) codec: Arc<Codec>,
    pub(crate) encoder: Arc<PlanEncoder>,
    pub(crate) slots: Slots,
    pub(crate) metrics: IngestMetrics,
    /// What operators did: they pause providers.
    pub(crate) operations: watch::Receiver<Arc<Known>>,
    state: StateFolder,
}

#[derive(Debug, thiserror::Error)]
pub enum IngestorError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("two providers are named {0}")]
    SameName(String),
    #[error(transparent)]
    Codec(#[from] almanac_schemas::CodecError),
}

impl Ingestor {
    pub fn new(
        topics: Topics,
        options: IngestOptions,
        configs: &[ProviderConfig],
        codec: Arc<Codec>,
        state: StateFolder,
        operations: watch::Receiver<Arc<Known>>,
        metrics: IngestMetrics,
    ) -> Result<Self, IngestorError> {
        let mut names = BTreeSet::new();
        let mut sources = Vec::with_capacity(configs.len());
        for config in configs {
            config.validate()?;
            if !names.insert(config.name.clone()) {
                return Err(IngestorError::SameName(config.name.clone()));
            }
            sources.push(Source::new(config, &options)?);
        }
        let slots = Slots::new(
            options.min_concurrency,
            options.max_concurrency,
            options.max_concurrency_per_host,
        );
        let encoder = Arc::new(PlanEncoder::new(&codec)?);
        Ok(Self { topics, options, sources, codec, encoder, slots, metrics, operations, state })
    }

    /// Folds `ingest.state` from where the local state stands.
    async fn fold_state(&self, owned: &Owned) -> Result<LocalState, RoleError> {
        let partition = owned.partition();
        let (state, from) = self.state.resume(&*owned.log, &self.topics.state, partition).await?;
        let mut fold = owned.fold(&self.topics.state, from).await?;
        let mut folded = 0;
        while let Some(records) = fold.next().await? {
            let mut changes = Vec::with_capacity(records.len());
            let position = records.last().map(|record| record.offset + 1);
            for stored in &records {
                let Some(value) = &stored.record.value else {
                    if let Some((provider, Subject::Place(place))) =
                        entry::owner_of(&stored.record.key)
                    {
                        changes.push((entry::place_key(provider, place), None));
                    }
                    continue;
                };
                match self.change(&stored.record.key, value).await {
                    Ok(Some((key, value))) => {
                        changes.push((key, Some(value)));
                        // The last one of a transaction has it; an earlier version had none.
                        let position =
                            stored.record.headers.get(INPUT_POSITION).map(<[u8]>::to_vec);
                        changes.push((entry::INPUT_POSITION.to_vec(), position));
                    }
                    Ok(None) => owned.pass_over(stored),
                    Err(error) if error.is_outage() => return Err(RoleError::other(error)),
                    // It is not ours: we read back what we write.
                    Err(error) => tracing::error!(
                        topic = %stored.topic, partition, offset = stored.offset, error = %chain(&error),
                        "passing over a state that cannot be read; what was known before it stands"
                    ),
                }
            }
            folded += records.len();
            state.apply(changes, position)?;
        }
        state.apply::<&[u8], &[u8]>([], Some(fold.end()))?;
        tracing::debug!(partition, from, records = folded, "ingest state is complete");
        Ok(state)
    }

    /// What a record of `ingest.state` does to the local state; nothing when its key is not the one
    /// that we write such a record under.
    async fn change(&self, key: &[u8], value: &[u8]) -> Result<Option<StoredEntry>, CodecError> {
        let Some((provider, subject)) = entry::owner_of(key) else { return Ok(None) };
        let decoded = self.codec.decode(value).await?;
        let change = match (decoded.record(), subject) {
            (plans::STATE, Subject::Plan(plan)) => {
                let change = entry::from_state_record(&decoded.read()?, &self.encoder)?;
                change.filter(|(key, _)| *key == entry::plan_key(provider, plan))
            }
            (PROVIDER_STATE, Subject::Provider) => {
                decoded.read::<ProviderStateRecord>()?;
                Some((entry::provider_key(provider), value.to_vec()))
            }
            (FORECAST_STATE, Subject::Place(place)) => {
                decoded.read::<ForecastStateRecord>()?;
                Some((entry::place_key(provider, place), value.to_vec()))
            }
            _ => None,
        };
        Ok(change)
    }

    /// The position in `ingest.requests` that the newest state was written with.
    fn written_position(
        state: &LocalState,
        requests: TopicId,
        partition: u32,
    ) -> Result<Option<Offset>, RoleError> {
        let Some(value) = state.get(entry::INPUT_POSITION)? else { return Ok(None) };
        let token = std::str::from_utf8(&value).ok().and_then(|text| text.parse::<Token>().ok());
        if token.is_none() {
            state.doubt("the position of requests is none")?;
        }
        let of_this = |token: &Token| token.topic == requests.0 && token.partition == partition;
        Ok(token.filter(of_this).map(|token| token.offset))
    }
}

#[async_trait]
impl Role for Ingestor {
    async fn own(&self, owned: Owned) -> Result<(), RoleError> {
        let mine: Vec<_> = self
            .sources
            .iter()
            .filter(|source| {
                let name = source.name().as_bytes();
                partition_of(name, self.topics.partitions) == owned.partition()
            })
            .cloned()
            .collect();
        if mine.is_empty() {
            // Nothing of ours falls into this partition: there is nothing to take over.
            owned.cancelled.cancelled().await;
            return Ok(());
        }
        let mut input = owned.take_over().await?;
        let state = Arc::new(self.fold_state(&owned).await?);
        let requests_id = owned.log.topic(&self.topics.requests).await?.id;
        let written = Self::written_position(&state, requests_id, owned.partition())?;
        input.hold_against(written);
        let (committer, commits) = Committer::new(owned.partition());
        let stop = owned.cancelled.child_token();
        let _stop_on_return = stop.clone().drop_guard();
        let mut tasks = JoinSet::new();
        let mut kicks = HashMap::new();
        for source in mine {
            let name = source.name().to_owned();
            match source {
                Source::Feed(provider) => {
                    let (waiting, kicked) = Kicks::of_feed();
                    kicks.insert(name, waiting);
                    let task = ProviderTask::new(
                        self,
                        provider,
                        state.clone(),
                        owned.log.clone(),
                        committer.clone(),
                        kicked,
                    )
                    .await?;
                    tasks.spawn(task.run(stop.clone()));
                }
                Source::Forecasts(service) => {
                    let (waiting, kicked) = Kicks::of_forecasts();
                    kicks.insert(name, waiting);
                    let (local, committer) = (state.clone(), committer.clone());
                    let task =
                        ForecastTask::new(self, service, local, committer, requests_id, kicked);
                    tasks.spawn(task.run(stop.clone()));
                }
            }
        }
        drop(committer);
        let handled_below = written.unwrap_or_default();
        CommitLoop::new(self, owned, input, requests_id, handled_below, state, kicks)
            .run(commits, tasks)
            .await
    }
}

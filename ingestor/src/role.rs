//! The owner of a partition of `ingest.requests`: the providers whose names fall into it, each on
//! its own task, and one loop that commits what they write.

use crate::{
    config::{ConfigError, IngestOptions, ProviderConfig},
    entry::{self, StoredEntry},
    fetch::Fetcher,
    metrics::IngestMetrics,
    provider::ProviderTask,
    slots::Slots,
};
use almanac_event_log::{
    Append, HeadersBuilder, Offset, ReadLimit, Retention, TopicId, TopicSpec,
    partitioner::partition_of,
};
use almanac_processor::{Input, LocalState, Owned, Role, RoleError, StateFolder};
use almanac_schemas::{
    Codec, CodecError, Token,
    ingest::{
        self, FETCH_REQUESTED, FetchRequestedRecord, PROVIDER_STATE, ProviderStateRecord,
        REPLAY_REQUESTED, ReplayRequestedRecord,
    },
    plans::{self, PlanEncoder},
};
use async_trait::async_trait;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

const REQUEST_LIMIT: ReadLimit = ReadLimit { records: 100, bytes: 1 << 20 };
/// Requests to fetch that wait per provider; one more is the same as the last.
const MAX_WAITING_REQUESTS: usize = 16;
/// Header of a state record: the position in `ingest.requests` that was committed with it.
const INPUT_POSITION: &str = "input-position";

/// The topics, with the installation's prefix.
#[derive(Clone)]
pub struct Topics {
    pub(crate) plans: Arc<str>,
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
            spec(&self.requests, Retention::For(Duration::from_secs(7 * 24 * 3600))),
            spec(&self.state, Retention::Compacted),
            spec(&self.payloads, Retention::For(payload_retention)),
            spec(&self.quarantine, Retention::For(Duration::from_secs(90 * 24 * 3600))),
        ]
    }
}

/// One provider with what is made of its configuration once.
pub(crate) struct Provider {
    pub(crate) config: ProviderConfig,
    pub(crate) fetcher: Fetcher,
}

pub struct Ingestor {
    pub(crate) topics: Topics,
    pub(crate) options: IngestOptions,
    pub(crate) providers: Vec<Arc<Provider>>,
    pub(crate) codec: Arc<Codec>,
    pub(crate) encoder: Arc<PlanEncoder>,
    pub(crate) slots: Slots,
    pub(crate) metrics: IngestMetrics,
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
        metrics: IngestMetrics,
    ) -> Result<Self, IngestorError> {
        let mut names = BTreeSet::new();
        let mut providers = Vec::with_capacity(configs.len());
        for config in configs {
            config.validate()?;
            config.feed_settings(&options)?;
            if !names.insert(config.name.clone()) {
                return Err(IngestorError::SameName(config.name.clone()));
            }
            let fetcher = Fetcher::new(config, &options)?;
            providers.push(Arc::new(Provider { config: config.clone(), fetcher }));
        }
        let slots = Slots::new(
            options.min_concurrency,
            options.max_concurrency,
            options.max_concurrency_per_host,
        );
        let encoder = Arc::new(PlanEncoder::new(&codec)?);
        Ok(Self { topics, options, providers, codec, encoder, slots, metrics, state })
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
                let Some(value) = &stored.record.value else { continue };
                match self.change(&stored.record.key, value).await {
                    Ok(Some((key, value))) => {
                        changes.push((key, Some(value)));
                        // The last one of a transaction has it; an earlier version had none.
                        let position =
                            stored.record.headers.get(INPUT_POSITION).map(<[u8]>::to_vec);
                        changes.push((entry::INPUT_POSITION.to_vec(), position));
                    }
                    Ok(None) => owned.pass_over(stored),
                    Err(error) if error.is_outage() => return Err(RoleError::other(&error)),
                    // It is not ours: we read back what we write.
                    Err(error) => tracing::error!(
                        topic = %stored.topic, partition, offset = stored.offset, %error,
                        "passing over a state that cannot be read; what was known before it stands"
                    ),
                }
            }
            folded += records.len();
            state.apply(changes, position)?;
        }
        state.apply::<&[u8], &[u8]>([], Some(fold.end()))?;
        tracing::info!(partition, from, records = folded, "ingest state is complete");
        Ok(state)
    }

    /// What a record of `ingest.state` does to the local state; nothing when its key is not the one
    /// that we write such a record under.
    async fn change(&self, key: &[u8], value: &[u8]) -> Result<Option<StoredEntry>, CodecError> {
        let Some((provider, plan)) = entry::owner_of(key) else { return Ok(None) };
        let decoded = self.codec.decode(value).await?;
        let change = match (decoded.record(), plan) {
            (plans::STATE, Some(plan)) => {
                let change = entry::from_state_record(&decoded.read()?, &self.encoder)?;
                change.filter(|(key, _)| *key == entry::plan_key(provider, plan))
            }
            (PROVIDER_STATE, None) => {
                decoded.read::<ProviderStateRecord>()?;
                Some((entry::provider_key(provider), value.to_vec()))
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
            .providers
            .iter()
            .filter(|provider| {
                let name = provider.config.name.as_bytes();
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
        let (commits, requests) = mpsc::channel(4);
        let committer = Committer { partition: owned.partition(), commits };
        let stop = owned.cancelled.child_token();
        let _stop_on_return = stop.clone().drop_guard();
        let mut tasks = JoinSet::new();
        let mut kicks = HashMap::new();
        for provider in mine {
            let (kick, kicked) = mpsc::channel(MAX_WAITING_REQUESTS);
            kicks.insert(provider.config.name.clone(), kick);
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
        drop(committer);
        CommitLoop {
            ingestor: self,
            owned,
            input,
            requests_id,
            handled_below: written.unwrap_or_default(),
            state,
            kicks,
            unhandled: BTreeMap::new(),
            applying: JoinSet::new(),
        }
        .run(requests, tasks)
        .await
    }
}

/// A request for a provider that was read from the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kick {
    pub(crate) offset: Offset,
    pub(crate) wanted: Wanted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A fetch now.
    Fetch,
    /// Stored bodies read again: those fetched since then, or the newest.
    Replay { since_ms: Option<i64> },
}

/// What goes into one transaction together.
#[derive(Default)]
pub(crate) struct CommitRequest {
    pub(crate) appends: Vec<Append>,
    pub(crate) bytes: usize,
    /// Changes of the local state.
    pub(crate) changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Provider and offset of the request that is handled thereby, with all of its before.
    pub(crate) handled: Option<(String, Offset)>,
}

impl CommitRequest {
    pub(crate) fn append(&mut self, append: Append) {
        self.bytes += append.record.size();
        self.appends.push(append);
    }
}

/// Hands transactions to the partition's loop.
#[derive(Clone)]
pub(crate) struct Committer {
    pub(crate) partition: u32,
    commits: mpsc::Sender<(CommitRequest, oneshot::Sender<()>)>,
}

pub(crate) struct PendingCommit(oneshot::Receiver<()>);

impl Committer {
    pub(crate) async fn submit(&self, request: CommitRequest) -> Result<PendingCommit, RoleError> {
        let (done, pending) = oneshot::channel();
        self.commits.send((request, done)).await.map_err(|_| given_up())?;
        Ok(PendingCommit(pending))
    }
}

impl PendingCommit {
    pub(crate) async fn wait(self) -> Result<(), RoleError> {
        self.0.await.map_err(|_| given_up())
    }
}

/// The loop ended; its own error says why.
fn given_up() -> RoleError {
    RoleError::Other("the partition was given up".to_owned())
}

struct CommitLoop<'a> {
    ingestor: &'a Ingestor,
    owned: Owned,
    input: Input,
    /// Of the input, as positions name it.
    requests_id: TopicId,
    /// Requests below this were handled before the take-over.
    handled_below: Offset,
    state: Arc<LocalState>,
    kicks: HashMap<String, mpsc::Sender<Kick>>,
    /// Requests that were read and are not handled, with their provider: the input position stays
    /// before them, so that a successor reads them again.
    unhandled: BTreeMap<Offset, String>,
    /// The change of the local state that goes with the last transaction.
    applying: JoinSet<Result<(), RoleError>>,
}

impl CommitLoop<'_> {
    async fn run(
        mut self,
        mut commits: mpsc::Receiver<(CommitRequest, oneshot::Sender<()>)>,
        mut tasks: JoinSet<Result<(), RoleError>>,
    ) -> Result<(), RoleError> {
        let mut reader = self.input.reader(&*self.owned.log).await?;
        let mut read_up_to = self.input.next_offset();
        loop {
            tokio::select! {
                biased;
                () = self.owned.cancelled.cancelled() => break,
                Some((request, done)) = commits.recv() => {
                    self.commit(request, done, read_up_to).await?;
                }
                Some(applied) = self.applying.join_next() => {
                    applied.map_err(|error| RoleError::other(&error))??;
                }
                Some(ended) = tasks.join_next() => {
                    ended.map_err(|error| RoleError::other(&error))??;
                }
                batch = reader.next(REQUEST_LIMIT, Duration::from_secs(1)) => {
                    for stored in batch?.records {
                        read_up_to = stored.offset + 1;
                        self.take_request(&stored).await?;
                    }
                }
            }
        }
        // What waits to be committed is not: it is fetched again by whoever comes next. What was
        // committed last still goes into local state.
        drop(reader);
        while self.applying.join_next().await.is_some() {}
        tasks.abort_all();
        while tasks.join_next().await.is_some() {}
        Ok(())
    }

    async fn take_request(
        &mut self,
        stored: &almanac_event_log::StoredRecord,
    ) -> Result<(), RoleError> {
        if stored.offset < self.handled_below {
            return Ok(());
        }
        if entry::owner_of(&stored.record.key).is_none_or(|(_, plan)| plan.is_some()) {
            self.owned.pass_over(stored);
            return Ok(());
        }
        let Some(value) = &stored.record.value else { return Ok(()) };
        let request = match self.ingestor.codec.decode(value).await {
            Err(error) if error.is_outage() => return Err(RoleError::other(&error)),
            Err(error) => Err(error),
            Ok(decoded) => match decoded.record() {
                FETCH_REQUESTED => decoded
                    .read::<FetchRequestedRecord>()
                    .map(|request| Some((request.provider, Wanted::Fetch))),
                REPLAY_REQUESTED => decoded.read::<ReplayRequestedRecord>().map(|request| {
                    Some((request.provider, Wanted::Replay { since_ms: request.since }))
                }),
                _ => Ok(None),
            },
        };
        let Ok(Some((provider, wanted))) = request else {
            tracing::warn!(
                topic = %stored.topic, partition = stored.partition, offset = stored.offset,
                "passing over a request that cannot be read"
            );
            return Ok(());
        };
        let Some(kick) = self.kicks.get(&provider) else { return Ok(()) };
        if kick.try_send(Kick { offset: stored.offset, wanted }).is_ok() {
            self.unhandled.insert(stored.offset, provider);
        } else {
            tracing::warn!(provider, ?wanted, "passing over a request: too many of it wait");
        }
        Ok(())
    }

    async fn commit(
        &mut self,
        request: CommitRequest,
        done: oneshot::Sender<()>,
        read_up_to: Offset,
    ) -> Result<(), RoleError> {
        if let Some((of, handled)) = &request.handled {
            self.unhandled.retain(|offset, provider| provider != of || offset > handled);
        }
        let topic = self.ingestor.topics.state.clone();
        let of_state: Vec<bool> =
            request.appends.iter().map(|append| append.topic == topic).collect();
        let (mut appends, mut changes) = (request.appends, request.changes);
        // The position moves only with a record that tells it: so a take-over knows whether the group's
        // offset is what we committed last.
        let mut next_offset = self.input.next_offset();
        if let Some(newest) = of_state.iter().rposition(|of_state| *of_state) {
            let behind = self.unhandled.keys().next().copied().unwrap_or(read_up_to);
            next_offset = behind.max(next_offset);
            let (topic, partition) = (self.requests_id.0, self.owned.partition());
            let context = "requests".into();
            let token = Token { context, topic, partition, offset: next_offset }.to_string();
            let mut headers = HeadersBuilder::default();
            headers.push(INPUT_POSITION, token.as_bytes());
            appends[newest].record.headers = headers.build();
            changes.push((entry::INPUT_POSITION.to_vec(), Some(token.into_bytes())));
        }
        let offsets = self.input.commit(appends, next_offset).await?;
        // The newest offset of a state record, if it is known: some acknowledgements lack one.
        let position = offsets
            .iter()
            .zip(of_state)
            .filter(|(_, of_state)| *of_state)
            .map(|(offset, _)| *offset)
            .next_back()
            .flatten()
            .map(|offset| offset + 1);
        // One at a time and in order, while the next transaction is committed already: the state
        // is read by the next comparison only, which waits for `done`.
        while let Some(applied) = self.applying.join_next().await {
            applied.map_err(|error| RoleError::other(&error))??;
        }
        let state = self.state.clone();
        self.applying.spawn_blocking(move || {
            state.apply(changes, position)?;
            let _ = done.send(());
            Ok(())
        });
        Ok(())
    }
}

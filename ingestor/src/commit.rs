//! The loop of a partition's owner: requests are handed to the providers' tasks, and what these write is
//! committed with the input position.

use crate::{
    entry::{self, Subject},
    role::Ingestor,
};
use almanac_domain::weather::Place;
use almanac_event_log::{Append, HeadersBuilder, Offset, ReadLimit, TopicId};
use almanac_processor::{Input, LocalState, Owned, RoleError, traced};
use almanac_schemas::{
    Token,
    ingest::{
        FETCH_REQUESTED, FORECAST_REQUESTED, FetchRequestedRecord, ForecastRequestedRecord,
        REPLAY_REQUESTED, ReplayRequestedRecord,
    },
};
use almanac_traces::Parent;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

const REQUEST_LIMIT: ReadLimit = ReadLimit { records: 100, bytes: 1 << 20 };
/// How long to look whether there is room for further requests.
const FULL_PAUSE: Duration = Duration::from_millis(50);
/// Requests to fetch that wait per provider; one more is the same as the last.
const MAX_WAITING_REQUESTS: usize = 16;
/// Requests for forecasts that wait to be taken; while there are more, no further ones are read.
const MAX_WAITING_FORECASTS: usize = 1_000;
/// Header of a state record: the position in `ingest.requests` that was committed with it.
pub(crate) const INPUT_POSITION: &str = "input-position";

/// A request for a provider that was read from the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kick {
    pub(crate) offset: Offset,
    /// What it was written in, where that is traced.
    pub(crate) parent: Option<Parent>,
    pub(crate) wanted: Wanted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A fetch now.
    Fetch,
    /// Stored bodies read again: those fetched since then, or the newest.
    Replay { since_ms: Option<i64> },
    /// A forecast for a place.
    Forecast { place: Place },
}

/// Where the requests for a provider go.
pub(crate) struct Kicks {
    kick: mpsc::Sender<Kick>,
    /// Each of these is answered; of a feed's, one more is the same as the last.
    is_of_forecasts: bool,
}

impl Kicks {
    pub(crate) fn of_feed() -> (Self, mpsc::Receiver<Kick>) {
        let (kick, kicked) = mpsc::channel(MAX_WAITING_REQUESTS);
        (Self { kick, is_of_forecasts: false }, kicked)
    }

    pub(crate) fn of_forecasts() -> (Self, mpsc::Receiver<Kick>) {
        let (kick, kicked) = mpsc::channel(MAX_WAITING_FORECASTS);
        (Self { kick, is_of_forecasts: true }, kicked)
    }

    fn has_room(&self) -> bool {
        !self.is_of_forecasts || self.kick.capacity() >= REQUEST_LIMIT.records
    }
}

/// What goes into one transaction together.
#[derive(Default)]
pub(crate) struct CommitRequest {
    pub(crate) appends: Vec<Append>,
    pub(crate) bytes: usize,
    /// Changes of the local state.
    pub(crate) changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub(crate) handled: Handled,
}

/// The requests that are handled by a transaction.
#[derive(Debug, Default)]
pub(crate) enum Handled {
    #[default]
    Nothing,
    /// Those of a provider up to and including this one.
    UpTo(String, Offset),
    /// These.
    Each(Vec<Offset>),
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

/// What the tasks want committed, each with who waits for it.
pub(crate) type Commits = mpsc::Receiver<(CommitRequest, oneshot::Sender<()>)>;

impl Committer {
    pub(crate) fn new(partition: u32) -> (Self, Commits) {
        let (commits, requests) = mpsc::channel(4);
        (Self { partition, commits }, requests)
    }

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
    RoleError::other("the partition was given up")
}

pub(crate) struct CommitLoop<'a> {
    ingestor: &'a Ingestor,
    owned: Owned,
    input: Input,
    /// Of the input, as positions name it.
    requests_id: TopicId,
    /// Requests below this were handled before the take-over.
    handled_below: Offset,
    state: Arc<LocalState>,
    kicks: HashMap<String, Kicks>,
    /// Requests that were read and are not handled, with their provider: the input position stays
    /// before them, so that a successor reads them again.
    unhandled: BTreeMap<Offset, String>,
    /// The change of the local state that goes with the last transaction.
    applying: JoinSet<Result<(), RoleError>>,
}

impl<'a> CommitLoop<'a> {
    pub(crate) fn new(
        ingestor: &'a Ingestor,
        owned: Owned,
        input: Input,
        requests_id: TopicId,
        handled_below: Offset,
        state: Arc<LocalState>,
        kicks: HashMap<String, Kicks>,
    ) -> Self {
        Self {
            ingestor,
            owned,
            input,
            requests_id,
            handled_below,
            state,
            kicks,
            unhandled: BTreeMap::new(),
            applying: JoinSet::new(),
        }
    }

    pub(crate) async fn run(
        mut self,
        mut commits: Commits,
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
                    applied.map_err(RoleError::other)??;
                }
                Some(ended) = tasks.join_next() => {
                    ended.map_err(RoleError::other)??;
                }
                () = tokio::time::sleep(FULL_PAUSE), if !self.has_room() => {}
                batch = reader.next(REQUEST_LIMIT, Duration::from_secs(1)), if self.has_room() => {
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

    fn has_room(&self) -> bool {
        self.kicks.values().all(Kicks::has_room)
    }

    async fn take_request(
        &mut self,
        stored: &almanac_event_log::StoredRecord,
    ) -> Result<(), RoleError> {
        if stored.offset < self.handled_below {
            return Ok(());
        }
        let owner = entry::owner_of(&stored.record.key);
        if !owner.is_some_and(|(_, subject)| subject == Subject::Provider) {
            self.owned.pass_over(stored);
            return Ok(());
        }
        let Some(value) = &stored.record.value else { return Ok(()) };
        let request = match self.ingestor.codec.decode(value).await {
            Err(error) if error.is_outage() => return Err(RoleError::other(error)),
            Err(error) => Err(error),
            Ok(decoded) => match decoded.record() {
                FETCH_REQUESTED => decoded
                    .read::<FetchRequestedRecord>()
                    .map(|request| Some((request.provider, Wanted::Fetch))),
                REPLAY_REQUESTED => decoded.read::<ReplayRequestedRecord>().map(|request| {
                    Some((request.provider, Wanted::Replay { since_ms: request.since }))
                }),
                FORECAST_REQUESTED => decoded.read::<ForecastRequestedRecord>().map(|request| {
                    let place = Place::parse(&request.lat, &request.lon)?;
                    Some((request.provider, Wanted::Forecast { place }))
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
        let Some(Kicks { kick, is_of_forecasts }) = self.kicks.get(&provider) else {
            return Ok(());
        };
        if !is_of_forecasts && matches!(wanted, Wanted::Forecast { .. }) {
            tracing::warn!(provider, "passing over a request: the provider gives no forecasts");
            return Ok(());
        }
        let hop = traced::processing(stored);
        let kicked = Kick { offset: stored.offset, parent: hop.parent().cloned(), wanted };
        if kick.try_send(kicked).is_ok() {
            self.unhandled.insert(stored.offset, provider);
        } else {
            traced::failed([&hop], "too_many");
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
        match &request.handled {
            Handled::Nothing => {}
            Handled::UpTo(of, handled) => {
                self.unhandled.retain(|offset, provider| provider != of || offset > handled);
            }
            Handled::Each(offsets) => {
                for offset in offsets {
                    self.unhandled.remove(offset);
                }
            }
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
            applied.map_err(RoleError::other)??;
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

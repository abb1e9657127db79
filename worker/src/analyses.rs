//! Analyses as workers know them: followed, with what is open, and the newest of each schedule.

use crate::{
    board::{Board, Open},
    metrics::WorkerMetrics,
    queue::Waiting,
    read::{self, Trouble},
    repeats::{LastRepeat, Repeats},
};
use almanac_domain::analyses::{Origin, Outcome, Request};
use almanac_errors::chain;
use almanac_event_log::{EventLog, Offset, StoredRecord};
use almanac_processor::{Changes, Follow, Followed, GatheredState, RoleError, traced};
use almanac_schemas::{
    Codec,
    analyses::{
        AnalysisCompletedRecord, AnalysisEventRecord, AnalysisHead, AnalysisRequestedRecord,
        OptionsRecord, TOPIC,
    },
};
use async_trait::async_trait;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{collections::HashMap, sync::Arc};
use uuid::Uuid;

const OPEN: &[u8] = b"o";
const REPEATED: &[u8] = b"r";

/// Where the offset and the value of an open analysis' request stand.
fn open_key(id: Uuid) -> Vec<u8> {
    [OPEN, &id.as_bytes()[..]].concat()
}

/// Where the newest result of a schedule stands that was made in this manner, among those in the same
/// partition.
fn latest_key(schedule: Uuid, manner: Manner) -> Vec<u8> {
    [b"l", &schedule.as_bytes()[..], &manner.0.as_bytes()[..]].concat()
}

/// What planners are told, in a word.
fn verdict(completed: &AnalysisCompletedRecord) -> &'static str {
    match completed.earliest_completion {
        _ if completed.tasks.iter().any(|task| task.at_risk.is_some()) => "at_risk",
        Some(_) => "possible",
        None => "impossible",
    }
}

/// Where the newest repeat of a schedule stands, among those in the same partition.
fn repeated_key(schedule: Uuid) -> Vec<u8> {
    [REPEATED, &schedule.as_bytes()[..]].concat()
}

/// How an analysis is made: with which options, and of which sources. Only results that were made in the
/// same manner are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manner(Uuid);

impl Manner {
    fn of(record: &AnalysisRequestedRecord) -> Self {
        let AnalysisRequestedRecord { sources, input, options, .. } = record;
        let OptionsRecord { alpha_table, declared, between, combine, start_from: _ } = options;
        let own = input.as_ref().map(|input| &input.source);
        let text = json!([alpha_table, declared, between, combine, sources, own]).to_string();
        Self(Uuid::new_v5(&Uuid::nil(), text.as_bytes()))
    }
}

/// A result of a schedule, by the offsets of its events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Latest {
    pub(crate) id: Uuid,
    completed_at: i64,
    requested: Offset,
    completed: Offset,
    /// Where it was found.
    #[serde(skip)]
    partition: u32,
}

pub(crate) struct Analyses {
    pub(crate) followed: Followed,
    pub(crate) fold: Arc<AnalysisFold>,
    log: Arc<dyn EventLog>,
    codec: Arc<Codec>,
}

pub(crate) struct AnalysisFold {
    codec: Arc<Codec>,
    board: Arc<Board>,
    repeats: Arc<Repeats>,
    metrics: WorkerMetrics,
    /// Of the requests of what is open. Folding knows them before the states do.
    requested: Mutex<HashMap<Uuid, (Offset, Manner)>>,
}

/// What is told of an event.
pub(crate) struct Note {
    id: Uuid,
    opened: Option<Open>,
    /// The last word of its record: how it ended.
    ended: Option<&'static str>,
    /// What a completed one comes to.
    verdict: Option<&'static str>,
    partition: u32,
    repeat: Option<(Uuid, LastRepeat)>,
}

impl Analyses {
    pub(crate) fn new(
        log: Arc<dyn EventLog>,
        codec: Arc<Codec>,
        topic: Arc<str>,
        partitions: u32,
        (board, repeats, metrics): (Arc<Board>, Arc<Repeats>, WorkerMetrics),
    ) -> Self {
        let followed = Followed::new(log.clone(), topic, partitions);
        let requested = Mutex::default();
        let fold = AnalysisFold { codec: codec.clone(), board, repeats, metrics, requested };
        Self { followed, fold: Arc::new(fold), log, codec }
    }

    /// What was asked for; `None` when it is not open any more.
    pub(crate) async fn request(&self, open: &Open) -> Result<Option<Asked>, Trouble> {
        let found = self.followed.get(open.partition, open_key(open.waiting.id)).await?;
        let found = found.ok_or_else(|| Trouble::outage(format!("{TOPIC} is not followed")))?;
        let Some(found) = found else { return Ok(None) };
        let value = found.get(8..).unwrap_or_default();
        Ok(Some(self.asked(value).await?))
    }

    async fn asked(&self, value: &[u8]) -> Result<Asked, Trouble> {
        read::decoded(&self.codec, value, |decoded| match AnalysisEventRecord::read(decoded)? {
            Some(AnalysisEventRecord::Requested(record)) => {
                let (head, manner) = (record.head(), Manner::of(&record));
                Ok(record.to_domain().map(|request| Asked { request, head, manner }))
            }
            _ => Ok(None),
        })
        .await
    }

    /// The newest result of a schedule that was made in this manner, as far as it is known here.
    pub(crate) async fn latest(
        &self,
        schedule: Uuid,
        manner: Manner,
    ) -> Result<Option<Latest>, Trouble> {
        let mut newest: Option<Latest> = None;
        for partition in 0..self.followed.partitions() {
            let found = self.followed.get(partition, latest_key(schedule, manner)).await?.flatten();
            let found = found.and_then(|bytes| serde_json::from_slice::<Latest>(&bytes).ok());
            let found = found.map(|latest| Latest { partition, ..latest });
            let order = |latest: &Latest| (latest.completed_at, latest.id);
            newest = newest.into_iter().chain(found).max_by_key(order);
        }
        Ok(newest)
    }

    /// Request and result of it.
    pub(crate) async fn events(&self, latest: &Latest) -> Result<(Asked, Outcome), Trouble> {
        let (topic, partition) = (self.followed.topic(), latest.partition);
        let value = read::value(&*self.log, topic, partition, latest.requested).await?;
        let asked = self.asked(&value).await?;
        let value = read::value(&*self.log, topic, partition, latest.completed).await?;
        let outcome = read::decoded(&self.codec, &value, |decoded| {
            Ok(match AnalysisEventRecord::read(decoded)? {
                Some(AnalysisEventRecord::Completed(record)) => record.to_domain(),
                _ => None,
            })
        });
        Ok((asked, outcome.await?))
    }
}

/// A request with what its event says of it.
pub(crate) struct Asked {
    pub(crate) request: Request,
    pub(crate) head: AnalysisHead,
    pub(crate) manner: Manner,
}

fn open_of(head: &AnalysisHead, partition: u32) -> Option<Open> {
    let waiting = Waiting {
        id: Uuid::try_parse(&head.id).ok()?,
        caller: head.owner.as_str().into(),
        origin: Origin::parse(&head.origin)?,
        requested_at: head.requested_at,
    };
    Some(Open { waiting, partition, traced: None })
}

fn schedule_of(head: &AnalysisHead) -> Option<Uuid> {
    head.schedule_id.as_deref().and_then(|id| Uuid::try_parse(id).ok())
}

#[async_trait]
impl Follow for AnalysisFold {
    type Note = Note;

    fn resumed(&self, states: &[GatheredState]) -> Result<(), RoleError> {
        let (mut open, mut repeated) = (Vec::new(), Vec::new());
        let mut requested = HashMap::new();
        let runtime = tokio::runtime::Handle::current();
        for (partition, state) in (0..).zip(states) {
            for entry in state.on_disk().scan(OPEN) {
                let (_, value) = entry?;
                let (offset, value) = value.split_at_checked(8).unwrap_or_default();
                // On a thread for blocking work.
                let record = runtime.block_on(read::decoded(&self.codec, value, |decoded| {
                    Ok(match AnalysisEventRecord::read(decoded)? {
                        Some(AnalysisEventRecord::Requested(record)) => Some(record),
                        _ => None,
                    })
                }));
                let one = match record {
                    Ok(record) => open_of(&record.head(), partition).zip(Some(Manner::of(&record))),
                    Err(Trouble::Outage(cause)) => return Err(RoleError::Other(cause)),
                    Err(Trouble::Lost(_)) => None,
                };
                let offset = offset.try_into().ok().map(u64::from_be_bytes);
                match one.zip(offset) {
                    Some(((one, manner), offset)) => {
                        requested.insert(one.waiting.id, (offset, manner));
                        open.push(one);
                    }
                    None => state.on_disk().doubt("an open analysis cannot be read")?,
                }
            }
            for entry in state.on_disk().scan(REPEATED) {
                let (key, value) = entry?;
                let schedule = key.get(1..).and_then(|id| Uuid::from_slice(id).ok());
                let last = serde_json::from_slice::<LastRepeat>(&value).ok();
                match schedule.zip(last) {
                    Some(one) => repeated.push(one),
                    None => state.on_disk().doubt("a repeat cannot be read")?,
                }
            }
        }
        *self.requested.lock() = requested;
        self.board.resumed(open);
        self.repeats.repeated(repeated);
        Ok(())
    }

    async fn fold(
        &self,
        stored: &StoredRecord,
        changes: &mut Changes,
    ) -> Result<Option<Note>, RoleError> {
        let Some(value) = &stored.record.value else { return Ok(None) };
        let read = read::decoded(&self.codec, value, AnalysisEventRecord::read).await;
        let event = match read {
            Ok(event) => event,
            Err(Trouble::Outage(cause)) => return Err(RoleError::Other(cause)),
            Err(Trouble::Lost(error)) => {
                tracing::warn!(
                    topic = %stored.topic, partition = stored.partition, offset = stored.offset,
                    error = %chain(&*error), "passing over an event that cannot be read"
                );
                return Ok(None);
            }
        };
        let (head, partition) = (event.head(), stored.partition);
        let Some(open) = open_of(&head, partition) else { return Ok(None) };
        let (id, schedule) = (open.waiting.id, schedule_of(&head));
        if open.waiting.id.to_string().as_bytes() != stored.record.key {
            return Ok(None);
        }
        let of_repeat = schedule.filter(|_| open.waiting.origin == Origin::Repeat);
        let repeated = |computed_at| {
            let requested_at = head.requested_at;
            of_repeat.map(|schedule| (schedule, LastRepeat { id, requested_at, computed_at }))
        };
        let mut note =
            Note { id, opened: None, ended: None, verdict: None, partition, repeat: None };
        match &event {
            AnalysisEventRecord::Requested(record) => {
                self.requested.lock().insert(id, (stored.offset, Manner::of(record)));
                let entry = [&stored.offset.to_be_bytes()[..], value].concat();
                changes.push((open_key(id), Some(entry)));
                let parent = traced::parent_of(&stored.record.headers);
                let traced = parent.map(|parent| (stored.offset, parent));
                note.opened = Some(Open { traced, ..open });
                note.repeat = repeated(None);
            }
            AnalysisEventRecord::Progressed(_) => return Ok(None),
            AnalysisEventRecord::Completed(record) => {
                note.ended = Some("completed");
                note.verdict = Some(verdict(record));
                let now = record.now.parse().ok().map(jiff::Timestamp::as_millisecond);
                note.repeat = repeated(Some(now.unwrap_or(record.occurred_at)));
                let requested = self.requested.lock().get(&id).copied();
                if let Some((schedule, (requested, manner))) = schedule.zip(requested) {
                    let (completed_at, completed) = (record.occurred_at, stored.offset);
                    let latest = Latest { id, completed_at, requested, completed, partition };
                    changes.push((latest_key(schedule, manner), serde_json::to_vec(&latest).ok()));
                }
            }
            AnalysisEventRecord::Failed(_) => {
                note.ended = Some("failed");
                note.repeat = repeated(Some(head.occurred_at));
            }
            AnalysisEventRecord::Cancelled(_) => {
                note.ended = Some("cancelled");
                note.repeat = repeated(Some(head.occurred_at));
            }
        }
        if note.ended.is_some() {
            self.requested.lock().remove(&id);
            changes.push((open_key(id), None));
        }
        if let Some((schedule, last)) = &note.repeat {
            changes.push((repeated_key(*schedule), serde_json::to_vec(last).ok()));
        }
        Ok(Some(note))
    }

    fn taken(&self, notes: Vec<Note>) {
        for note in notes {
            if let Some(open) = note.opened {
                self.board.opened(open);
            }
            if let Some(outcome) = note.ended {
                self.board.ended(note.id);
                if self.board.owns(note.partition) {
                    self.metrics.ended(outcome);
                    if let Some(verdict) = note.verdict {
                        self.metrics.told(verdict);
                    }
                }
            }
            if let Some((schedule, last)) = note.repeat {
                self.repeats.repeated([(schedule, last)]);
            }
        }
    }
}

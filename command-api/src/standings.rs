//! How recipes stand, as every API instance knows it: it follows their events, so that what cannot
//! be is refused before its body is read and before it is a command in the log.
//!
//! The decider alone decides. What is known here may be older, so that nothing is refused for what
//! may have changed since: before a recipe counts as absent, deleted or at another version, all that
//! the log held when the request came has been taken in. Where that takes too long, or the log does
//! not answer, the request becomes a command.

use crate::{outcomes::Changes, topics::Topics};
use almanac_domain::recipes::{Caller, Expected, Refusal, Standing, permit};
use almanac_event_log::{
    EventLog, Isolation, LogResult, Offset, ReadLimit, StoredRecord, partitioner::partition_of,
};
use almanac_processor::{GatherLimits, GatheredState, RoleError, StateFolder};
use almanac_schemas::{Codec, recipes::DELETED};
use parking_lot::RwLock;
use serde::Deserialize;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{Mutex, Semaphore, watch};
use uuid::Uuid;

const LIMIT: ReadLimit = ReadLimit { records: 2_000, bytes: 4 << 20 };
const WAIT: Duration = Duration::from_secs(5);
/// For a request to learn that what is known is complete.
const COMPLETE_WITHIN: Duration = Duration::from_secs(1);
/// Looked up at once: each look may read the disk.
const LOOKS: usize = 8;

/// Where events are read for standings.
#[derive(Clone)]
struct Source {
    log: Arc<dyn EventLog>,
    topic: Arc<str>,
}

pub struct Standings {
    source: Source,
    codec: Arc<Codec>,
    partitions: Vec<Partition>,
    /// By partition, once they are open.
    states: RwLock<Option<Arc<[GatheredState]>>>,
    looks: Semaphore,
}

struct Partition {
    /// The offset behind the newest event that was taken in.
    next: watch::Sender<Offset>,
    /// Who looks holds the lock, and all who came before it looked share what it found.
    look: Mutex<Option<Look>>,
}

/// What the log held at a time.
#[derive(Clone, Copy)]
struct Look {
    at: Instant,
    end: Offset,
    /// Whoever has taken in everything below this has all events below the end: what stands between
    /// are marks of transactions.
    through: Offset,
}

/// Of any event of a recipe.
#[derive(Deserialize)]
struct Event {
    version: i64,
    owner: String,
}

impl Standings {
    pub(crate) fn new(log: Arc<dyn EventLog>, codec: Arc<Codec>, topics: &Topics) -> Arc<Self> {
        let partition = |_| Partition { next: watch::Sender::new(0), look: Mutex::default() };
        Arc::new(Self {
            source: Source { log, topic: topics.recipes.clone() },
            codec,
            partitions: (0..topics.partitions).map(partition).collect(),
            states: RwLock::default(),
            looks: Semaphore::new(LOOKS),
        })
    }

    /// What a decider would refuse of this for certain.
    pub(crate) async fn permit(
        &self,
        id: Uuid,
        restores: bool,
        caller: &Caller,
        expected: &Expected,
    ) -> Result<(), Refusal> {
        let Some(standing) = self.standing(id).await else { return Ok(()) };
        match permit(standing.as_ref(), restores, caller, expected) {
            // An owner is one for ever.
            judged @ (Ok(()) | Err(Refusal::NotAllowed)) => return judged,
            Err(_) if !self.is_complete(id).await => return Ok(()),
            Err(_) => {}
        }
        match self.standing(id).await {
            Some(standing) => permit(standing.as_ref(), restores, caller, expected),
            None => Ok(()),
        }
    }

    /// How a recipe stands, or that it is not there; `None` where that cannot be told.
    async fn standing(&self, id: Uuid) -> Option<Option<Standing>> {
        let states = self.states.read().clone()?;
        let partition = self.partition_of(id);
        let _look = self.looks.acquire().await.ok()?;
        let found = tokio::task::spawn_blocking(move || {
            states.get(partition as usize).map(|state| state.get(id.as_bytes()))
        });
        match found.await {
            Ok(Some(Ok(found))) => match found {
                Some(entry) => read(&entry).map(Some),
                None => Some(None),
            },
            Ok(Some(Err(error))) => {
                tracing::warn!(%error, "how recipes stand cannot be looked up");
                None
            }
            Ok(None) | Err(_) => None,
        }
    }

    fn partition_of(&self, id: Uuid) -> u32 {
        partition_of(id.to_string().as_bytes(), self.partitions.len() as u32)
    }

    /// Whether all is taken in that the log holds of this recipe's partition now.
    async fn is_complete(&self, id: Uuid) -> bool {
        let number = self.partition_of(id);
        let Some(partition) = self.partitions.get(number as usize) else { return false };
        let complete = async {
            let look = self.look(partition, number).await?;
            // The sender lives as long as this.
            let _ = partition.next.subscribe().wait_for(|next| *next >= look.through).await;
            Ok::<_, almanac_event_log::LogError>(())
        };
        match tokio::time::timeout(COMPLETE_WITHIN, complete).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::debug!(%error, "the end of a topic of events cannot be read");
                false
            }
            Err(_) => false,
        }
    }

    async fn look(&self, partition: &Partition, number: u32) -> LogResult<Look> {
        let asked = Instant::now();
        let mut last = partition.look.lock().await;
        if let Some(look) = *last
            && look.at >= asked
        {
            return Ok(look);
        }
        let at = Instant::now();
        let Source { log, topic } = &self.source;
        // Of an event that was acknowledged, the mark of its transaction may not be there yet: the
        // stable end could lie before it.
        let end = log.end(topic, number, Isolation::Uncommitted).await?;
        let next = *partition.next.borrow();
        let through = match *last {
            Some(look) if look.end == end => look.through,
            _ => self.through(number, next, end).await?,
        };
        Ok(*last.insert(Look { at, end, through }))
    }

    /// The offset behind the last event below an end, or what is taken in when that is behind it.
    async fn through(&self, number: u32, next: Offset, end: Offset) -> LogResult<Offset> {
        let mut through = next;
        if next >= end {
            return Ok(through);
        }
        let Source { log, topic } = &self.source;
        let mut reader = log.read_to(topic, number, next, end).await?;
        loop {
            let batch = reader.next(LIMIT, WAIT).await?;
            match batch.records.last() {
                Some(last) => through = last.offset + 1,
                None if !batch.at_end.is_empty() => return Ok(through),
                None => {}
            }
        }
    }

    /// Follows the events until an error. `flush` tells when changes of local state go to disk.
    pub async fn follow(&self, folder: &StateFolder, flush: GatherLimits) -> Result<(), RoleError> {
        let _unfollowed = UnfollowedAtEnd(self);
        let Source { log, topic } = &self.source;
        let (mut states, mut from) = (Vec::new(), Vec::new());
        for (number, partition) in (0..).zip(&self.partitions) {
            let (state, next) = folder.resume(&**log, topic, number).await?;
            states.push(GatheredState::new(state, flush));
            from.push((number, next));
            partition.next.send_replace(next);
        }
        let states: Arc<[GatheredState]> = states.into();
        *self.states.write() = Some(states.clone());
        let mut reader = log.read(topic, &from).await?;
        loop {
            let batch = reader.next(LIMIT, WAIT).await?;
            self.take(&states, &batch.records).await?;
            for state in states.iter() {
                state.flush_due(|_| Ok(Changes::new())).await?;
            }
        }
    }

    async fn take(
        &self,
        states: &[GatheredState],
        records: &[StoredRecord],
    ) -> Result<(), RoleError> {
        let mut by_partition: HashMap<u32, (Changes, Offset)> = HashMap::new();
        for stored in records {
            let (changes, next) = by_partition.entry(stored.partition).or_default();
            *next = stored.offset + 1;
            // Keys that are none of ours stand for no recipe.
            let key = std::str::from_utf8(&stored.record.key).ok();
            let Some(id) = key.and_then(|key| Uuid::try_parse(key).ok()) else { continue };
            let Some(value) = &stored.record.value else { continue };
            let standing = match self.codec.decode(value).await {
                Ok(decoded) => decoded.read::<Event>().ok().map(|event| Standing {
                    version: u64::try_from(event.version).unwrap_or_default(),
                    owner: event.owner,
                    is_deleted: decoded.record() == DELETED,
                }),
                Err(error) if error.is_outage() => return Err(RoleError::other(&error)),
                Err(_) => None,
            };
            // Of what cannot be read, nothing is known: the decider says so.
            changes.push((
                id.as_bytes().to_vec(),
                Some(standing.as_ref().map_or_else(Vec::new, write)),
            ));
        }
        for (number, (changes, next)) in by_partition {
            if let Some(state) = states.get(number as usize) {
                state.take(changes, Some(next));
            }
            if let Some(partition) = self.partitions.get(number as usize) {
                partition.next.send_replace(next);
            }
        }
        Ok(())
    }
}

/// However following ends, also by a panic: the states must be free for who follows next.
struct UnfollowedAtEnd<'a>(&'a Standings);

impl Drop for UnfollowedAtEnd<'_> {
    fn drop(&mut self) {
        *self.0.states.write() = None;
    }
}

fn write(standing: &Standing) -> Vec<u8> {
    let deleted = [u8::from(standing.is_deleted)];
    [&standing.version.to_be_bytes()[..], &deleted, standing.owner.as_bytes()].concat()
}

fn read(entry: &[u8]) -> Option<Standing> {
    let (version, rest) = entry.split_at_checked(8)?;
    let (deleted, owner) = rest.split_first()?;
    Some(Standing {
        version: u64::from_be_bytes(version.try_into().ok()?),
        owner: std::str::from_utf8(owner).ok()?.to_owned(),
        is_deleted: *deleted != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use almanac_domain::recipes::{Command, Draft, IngredientDraft, Knowledge, StepDraft, decide};
    use almanac_event_log::{
        Append, Headers, Record,
        embedded::{EmbeddedLog, EmbeddedOptions},
    };
    use almanac_schemas::{BuiltInRegistry, recipes::encode};
    use tokio::task::JoinHandle;

    struct Installation {
        log: Arc<dyn EventLog>,
        codec: Arc<Codec>,
        topics: Topics,
        standings: Arc<Standings>,
        folder: tempfile::TempDir,
    }

    fn mary() -> Caller {
        Caller { subject: "mary".to_owned(), is_admin: false }
    }

    fn recipe() -> Command {
        let text = || Some("salt".to_owned());
        let draft = Draft {
            name: text(),
            ingredients: vec![IngredientDraft { ingredient: text(), ..Default::default() }],
            steps: vec![StepDraft { text: text(), ..Default::default() }],
            ..Default::default()
        };
        Command::Create { recipe: Box::new(draft.check().unwrap()) }
    }

    impl Installation {
        async fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let options = EmbeddedOptions::new(folder.path().join("log"));
            let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::open(options).unwrap());
            let topics = Topics::new("", 2);
            log.ensure_topics(&topics.specs(Duration::from_secs(60))).await.unwrap();
            let codec = Arc::new(Codec::new(Arc::new(BuiltInRegistry)).await.unwrap());
            let standings = Standings::new(log.clone(), codec.clone(), &topics);
            Self { log, codec, topics, standings, folder }
        }

        fn follow(&self) -> JoinHandle<()> {
            let folder = StateFolder::open(&self.folder.path().join("standings")).unwrap();
            let standings = self.standings.clone();
            tokio::spawn(async move {
                standings.follow(&folder, GatherLimits::default()).await.unwrap();
            })
        }

        /// Does this to a recipe, as a decider would.
        async fn done(&self, id: Uuid, known: Option<&Knowledge>, command: Command) -> Knowledge {
            let now = jiff::Timestamp::now();
            let event = decide(known, command, &mary(), &Expected::Any, now).unwrap().unwrap();
            let id = id.to_string();
            let value = Some(encode(&self.codec, &id, &event, None).unwrap());
            let partition = partition_of(id.as_bytes(), 2);
            let (key, headers) = (id.into(), Headers::default());
            let record = Record { key, value, headers, timestamp_ms: 0 };
            let append = Append { topic: self.topics.recipes.clone(), partition, record };
            self.log.append(vec![append]).await.unwrap();
            event.after
        }

        async fn permit(&self, id: Uuid, subject: &str, versions: &[u64]) -> Result<(), Refusal> {
            let caller = Caller { subject: subject.to_owned(), is_admin: subject == "admin" };
            let expected = match versions {
                [] => Expected::Any,
                versions => Expected::Versions(versions.to_vec()),
            };
            self.standings.permit(id, false, &caller, &expected).await
        }

        async fn refused(&self, id: Uuid, subject: &str, versions: &[u64]) -> Refusal {
            loop {
                if let Err(refusal) = self.permit(id, subject, versions).await {
                    return refusal;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_cannot_be_is_refused() {
        let installation = Installation::new().await;
        let (there, gone, absent) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
        installation.done(there, None, recipe()).await;
        let deleted = installation.done(gone, None, recipe()).await;
        installation.done(gone, Some(&deleted), Command::Delete).await;
        assert_eq!(installation.permit(absent, "mary", &[]).await, Ok(()), "nothing is known yet");
        let following = installation.follow();
        assert_eq!(installation.refused(there, "tom", &[]).await, Refusal::NotAllowed);
        assert_eq!(installation.refused(absent, "mary", &[]).await, Refusal::Unknown);
        assert_eq!(installation.refused(gone, "mary", &[]).await, Refusal::Deleted { version: 2 });
        assert_eq!(installation.refused(there, "mary", &[7]).await, Refusal::Stale { current: 1 });
        for who in ["mary", "admin"] {
            assert_eq!(installation.permit(there, who, &[1]).await, Ok(()));
        }
        let restored = installation.standings.permit(gone, true, &mary(), &Expected::Any).await;
        assert_eq!(restored, Ok(()));
        following.abort();
    }

    /// An instance that lags behind refuses nothing that another has acknowledged meanwhile.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_may_have_changed_is_the_deciders() {
        let installation = Installation::new().await;
        let (there, gone) = (Uuid::now_v7(), Uuid::now_v7());
        let known = installation.done(there, None, recipe()).await;
        let deleted = installation.done(gone, None, recipe()).await;
        let deleted = installation.done(gone, Some(&deleted), Command::Delete).await;
        let following = installation.follow();
        installation.refused(gone, "mary", &[]).await;
        installation.refused(there, "mary", &[2]).await;
        let lagging = installation.standings.states.read().clone();
        following.abort();
        let _ = following.await;
        *installation.standings.states.write() = lagging;
        installation.done(gone, Some(&deleted), Command::Restore).await;
        installation.done(there, Some(&known), Command::Delete).await;
        let late = Uuid::now_v7();
        installation.done(late, None, recipe()).await;
        for (id, versions) in [(gone, &[][..]), (gone, &[3]), (there, &[2]), (late, &[])] {
            assert_eq!(installation.permit(id, "mary", versions).await, Ok(()), "{versions:?}");
        }
        // An owner stays one.
        assert_eq!(installation.permit(there, "tom", &[]).await, Err(Refusal::NotAllowed));
    }
}

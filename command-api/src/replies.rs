//! What every API instance knows of outcomes: it follows `replies`, answers who waits, and keeps
//! where in the log each reply stands, so that it can tell any command's outcome after any restart.

use crate::{outcomes::Changes, topics::Topics};
use almanac_event_log::{EventLog, LogError, Offset, ReadLimit, StoredRecord};
use almanac_processor::{
    GatherLimits, GatheredState, LocalState, RoleError, StateError, StateFolder,
};
use almanac_schemas::{
    Codec,
    commands::{REPLY, ReplyRecord},
};
use parking_lot::{Mutex, RwLock};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const LIMIT: ReadLimit = ReadLimit { records: 2_000, bytes: 4 << 20 };
const WAIT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(250);
const FORGOTTEN_AT_ONCE: usize = 4_000;
/// Replies read again at once: on Kafka each read is a consumer of its own.
const READ_AT_ONCE: usize = 16;

pub struct Replies {
    max_waiting: usize,
    /// When changes of local state go to disk.
    flush: GatherLimits,
    waiting: Mutex<HashMap<String, oneshot::Sender<ReplyRecord>>>,
    /// By partition, once they are open.
    states: RwLock<Arc<[GatheredState]>>,
    reading: Semaphore,
}

impl Replies {
    pub fn new(max_waiting: usize, flush: GatherLimits) -> Arc<Self> {
        let (waiting, states) = (Mutex::default(), RwLock::new(Arc::from([])));
        let reading = Semaphore::new(READ_AT_ONCE);
        Arc::new(Self { max_waiting, flush, waiting, states, reading })
    }

    /// Registers who waits, before the command is written. `None` when too many wait already.
    pub(crate) fn expect(self: &Arc<Self>, request_id: &str) -> Option<Waiting> {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= self.max_waiting {
            return None;
        }
        let (sender, arrived) = oneshot::channel();
        waiting.insert(request_id.to_owned(), sender);
        Some(Waiting { replies: self.clone(), request_id: request_id.to_owned(), arrived })
    }

    /// Whether replies are followed.
    pub fn is_ready(&self) -> bool {
        !self.states.read().is_empty()
    }

    /// The outcome of a request, if it is known here and has not expired.
    pub(crate) async fn find(
        &self,
        log: &dyn EventLog,
        codec: &Codec,
        topics: &Topics,
        request_id: Uuid,
    ) -> Result<Option<ReplyRecord>, RoleError> {
        let states = self.states.read().clone();
        if states.is_empty() {
            return Err(RoleError::Other("replies are not followed yet".to_owned()));
        }
        let _turn = self.reading.acquire().await.map_err(|e| RoleError::other(&e))?;
        // Off the threads that serve: it reads the disk.
        let found = tokio::task::spawn_blocking(move || Place::of(&states, request_id));
        let found = found.await.map_err(|e| RoleError::other(&e))?;
        let Some((partition, place)) = found.map_err(|e| RoleError::other(&e))? else {
            return Ok(None);
        };
        if place.expires_at < jiff::Timestamp::now().as_millisecond() {
            return Ok(None);
        }
        let (topic, offset) = (&topics.replies, place.offset);
        let mut reader = log.read_to(topic, partition, offset, offset + 1).await?;
        let batch = match reader.next(LIMIT, WAIT).await {
            Err(LogError::OffsetOutOfRange { .. }) => return Ok(None),
            batch => batch?,
        };
        let Some(value) = batch.records.first().and_then(|one| one.record.value.as_ref()) else {
            return Ok(None);
        };
        let decoded = codec.decode(value).await.map_err(|e| RoleError::other(&e))?;
        Ok(Some(decoded.read().map_err(|e| RoleError::other(&e))?))
    }
}

/// Where a reply stands. Its key is the request's id, which begins with the time it was made: what
/// expires first comes first.
struct Place {
    offset: Offset,
    expires_at: i64,
}

impl Place {
    fn write(&self) -> Vec<u8> {
        [self.offset.to_be_bytes(), self.expires_at.to_be_bytes()].concat()
    }

    /// Where the reply to a request stands, and in which partition. Blocks.
    fn of(states: &[GatheredState], request_id: Uuid) -> Result<Option<(u32, Self)>, StateError> {
        for (partition, state) in (0..).zip(states) {
            let found = state.get(request_id.as_bytes())?;
            if let Some(place) = found.as_deref().and_then(Self::read) {
                return Ok(Some((partition, place)));
            }
        }
        Ok(None)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (offset, expires_at) = bytes.split_at_checked(8)?;
        Some(Self {
            offset: Offset::from_be_bytes(offset.try_into().ok()?),
            expires_at: i64::from_be_bytes(expires_at.try_into().ok()?),
        })
    }
}

/// Removes some of what has expired. Called with every write to disk, so that forgetting keeps up
/// with remembering.
fn forget(state: &LocalState, now_ms: i64) -> Result<Changes, StateError> {
    let mut changes = Changes::new();
    for entry in state.scan(b"").take(FORGOTTEN_AT_ONCE) {
        let (key, value) = entry?;
        if Place::read(&value).is_some_and(|place| place.expires_at >= now_ms) {
            break;
        }
        changes.push((key.to_vec(), None));
    }
    Ok(changes)
}

/// Somebody who waits; dropped, nobody does.
pub(crate) struct Waiting {
    replies: Arc<Replies>,
    request_id: String,
    arrived: oneshot::Receiver<ReplyRecord>,
}

impl Waiting {
    /// The reply, unless the time passes first.
    pub(crate) async fn wait(mut self, at_most: Duration) -> Option<ReplyRecord> {
        tokio::time::timeout(at_most, &mut self.arrived).await.ok()?.ok()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.replies.waiting.lock().remove(&self.request_id);
    }
}

/// Follows `replies` until `shutdown`, through outages.
pub async fn follow(
    replies: Arc<Replies>,
    log: Arc<dyn EventLog>,
    codec: Arc<Codec>,
    topics: Topics,
    folder: StateFolder,
    shutdown: CancellationToken,
) {
    loop {
        let followed = follow_once(&replies, &log, &codec, &topics, &folder);
        tokio::select! {
            () = shutdown.cancelled() => return,
            result = followed => if let Err(error) = result {
                tracing::warn!(%error, "replies are not followed; writes wait in vain meanwhile");
            },
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

async fn follow_once(
    replies: &Replies,
    log: &Arc<dyn EventLog>,
    codec: &Codec,
    topics: &Topics,
    folder: &StateFolder,
) -> Result<(), RoleError> {
    let partitions = log.topic(&topics.replies).await?.partitions;
    // What was opened before an outage is let go of first.
    *replies.states.write() = Arc::from([]);
    let (mut states, mut from) = (Vec::new(), Vec::new());
    for partition in 0..partitions {
        let (state, next) = folder.resume(&**log, &topics.replies, partition).await?;
        states.push(GatheredState::new(state, replies.flush));
        from.push((partition, next));
    }
    let states: Arc<[GatheredState]> = states.into();
    *replies.states.write() = states.clone();
    let mut reader = log.read(&topics.replies, &from).await?;
    loop {
        let batch = reader.next(LIMIT, WAIT).await?;
        take(replies, codec, &states, &batch.records).await?;
        for state in states.iter() {
            let now_ms = jiff::Timestamp::now().as_millisecond();
            let flushed = state.flush_due(move |on_disk| forget(on_disk, now_ms)).await;
            flushed.map_err(|error| RoleError::other(&error))?;
        }
    }
}

async fn take(
    replies: &Replies,
    codec: &Codec,
    states: &[GatheredState],
    records: &[StoredRecord],
) -> Result<(), RoleError> {
    let mut by_partition: HashMap<u32, (Changes, u64)> = HashMap::new();
    for record in records {
        let (changes, next) = by_partition.entry(record.partition).or_default();
        *next = record.offset + 1;
        let Some(value) = &record.record.value else { continue };
        let decoded = match codec.decode(value).await {
            Ok(decoded) if decoded.record() == REPLY => decoded.read::<ReplyRecord>(),
            Ok(_) => continue,
            Err(error) if error.is_outage() => return Err(RoleError::other(&error)),
            Err(error) => Err(error),
        };
        let Ok(reply) = decoded else {
            tracing::warn!(
                topic = %record.topic, partition = record.partition, offset = record.offset,
                "passing over a reply that cannot be read"
            );
            continue;
        };
        if let Ok(id) = Uuid::try_parse(&reply.request_id) {
            let place = Place { offset: record.offset, expires_at: reply.expires_at };
            changes.push((id.as_bytes().to_vec(), Some(place.write())));
        }
        if let Some(waiting) = replies.waiting.lock().remove(&reply.request_id) {
            // Who waited may have hung up.
            let _ = waiting.send(reply);
        }
    }
    for (partition, (changes, next)) in by_partition {
        if let Some(state) = states.get(partition as usize) {
            state.take(changes, Some(next));
        }
    }
    Ok(())
}

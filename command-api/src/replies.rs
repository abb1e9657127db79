//! What every API instance knows of outcomes: it follows `replies`, answers who waits, and keeps
//! where in the log each reply stands, so that it can tell any command's outcome after any restart.

use crate::{outcomes::Changes, topics::Topics};
use almanac_event_log::{EventLog, LogError, Offset, ReadLimit, StoredRecord};
use almanac_processor::{
    Foreign, GatherLimits, GatheredState, LocalState, RoleError, StateError, StateFolder,
    foreign::is_uuid, traced,
};
use almanac_schemas::{
    Codec,
    commands::{REPLY, ReplyRecord},
};
use parking_lot::{Mutex, RwLock};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::{Notify, Semaphore, oneshot};
use uuid::Uuid;

const LIMIT: ReadLimit = ReadLimit { records: 2_000, bytes: 4 << 20 };
const WAIT: Duration = Duration::from_secs(5);
/// How late it may be noticed that the log is silent.
const LISTEN: Duration = Duration::from_secs(1);
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
    /// Whether the log is not heard: replies come late, if they do.
    cut_off: AtomicBool,
    reading: Semaphore,
    /// Told when local state turns out to be damaged.
    doubted: Arc<Notify>,
}

impl Replies {
    pub fn new(max_waiting: usize, flush: GatherLimits) -> Arc<Self> {
        let (waiting, states) = (Mutex::default(), RwLock::new(Arc::from([])));
        let reading = Semaphore::new(READ_AT_ONCE);
        let doubted = Arc::new(Notify::new());
        let cut_off = AtomicBool::new(false);
        Arc::new(Self { max_waiting, flush, waiting, states, cut_off, reading, doubted })
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

    /// Whether they are followed now.
    pub fn are_followed(&self) -> bool {
        self.is_ready() && !self.cut_off.load(Ordering::Relaxed)
    }

    fn heard(&self, cut_off: Option<Duration>) {
        let is_cut_off = cut_off.is_some();
        let was_cut_off = self.cut_off.swap(is_cut_off, Ordering::Relaxed);
        match cut_off {
            Some(silent) if !was_cut_off => tracing::warn!(
                silent_s = silent.as_secs(),
                "replies are silent; writes wait in vain meanwhile"
            ),
            None if was_cut_off => tracing::info!("replies are followed again"),
            _ => {}
        }
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
            return Err(RoleError::other("replies are not followed yet"));
        }
        let _turn = self.reading.acquire().await.map_err(RoleError::other)?;
        // Off the threads that serve: it reads the disk.
        let (of, doubted) = (states.clone(), self.doubted.clone());
        let found = tokio::task::spawn_blocking(move || Place::of(&of, &doubted, request_id));
        let found = found.await.map_err(RoleError::other)?;
        let Some((partition, place)) = found? else { return Ok(None) };
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
        let decoded = codec.decode(value).await.map_err(RoleError::other)?;
        let reply: ReplyRecord = decoded.read().map_err(RoleError::other)?;
        if Uuid::try_parse(&reply.request_id).ok() != Some(request_id) {
            doubt(&states[partition as usize], &self.doubted, "a reply stands elsewhere")?;
            return Ok(None);
        }
        Ok(Some(reply))
    }
}

/// What local state says is not so: whoever follows starts over, and reads it from the log again.
fn doubt(state: &GatheredState, doubted: &Notify, detail: &str) -> Result<(), StateError> {
    let outcome = state.on_disk().doubt(detail);
    if outcome.is_err() {
        doubted.notify_one();
    }
    outcome
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
    fn of(
        states: &[GatheredState],
        doubted: &Notify,
        request_id: Uuid,
    ) -> Result<Option<(u32, Self)>, StateError> {
        for (partition, state) in (0..).zip(states) {
            let Some(found) = state.get(request_id.as_bytes())? else { continue };
            match Self::read(&found) {
                Some(place) => return Ok(Some((partition, place))),
                None => doubt(state, doubted, "a reply's place is none")?,
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
        match Place::read(&value) {
            Some(place) if place.expires_at >= now_ms => break,
            Some(_) => {}
            None => state.doubt("a reply's place is none")?,
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

/// Follows `replies` for [`Replies`].
pub struct Follower {
    pub replies: Arc<Replies>,
    pub log: Arc<dyn EventLog>,
    pub codec: Arc<Codec>,
    pub topics: Topics,
    pub folder: StateFolder,
    pub foreign: Foreign,
}

/// However following ends, also by a panic: nobody may take what is known for up to date, and the
/// states must be free for who follows next.
struct UnfollowedAtEnd<'a>(&'a Replies);

impl Drop for UnfollowedAtEnd<'_> {
    fn drop(&mut self) {
        *self.0.states.write() = Arc::from([]);
    }
}

impl Follower {
    /// Follows until an error.
    pub async fn follow(&self) -> Result<(), RoleError> {
        let Self { replies, log, topics, folder, .. } = self;
        let partitions = log.topic(&topics.replies).await?.partitions;
        let _unfollowed = UnfollowedAtEnd(replies);
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
            let batch = tokio::select! {
                batch = reader.next(LIMIT, LISTEN) => batch?,
                () = replies.doubted.notified() => {
                    return Err(RoleError::other("local state of replies is damaged"));
                }
            };
            replies.heard(reader.cut_off());
            self.take(&states, &batch.records).await?;
            for state in states.iter() {
                let now_ms = jiff::Timestamp::now().as_millisecond();
                state.flush_due(move |on_disk| forget(on_disk, now_ms)).await?;
            }
        }
    }

    async fn take(
        &self,
        states: &[GatheredState],
        records: &[StoredRecord],
    ) -> Result<(), RoleError> {
        let mut by_partition: HashMap<u32, (Changes, u64)> = HashMap::new();
        for record in records {
            let (changes, next) = by_partition.entry(record.partition).or_default();
            *next = record.offset + 1;
            if !is_uuid(&record.record.key) {
                self.foreign.pass_over("replies", record);
                continue;
            }
            let Some(value) = &record.record.value else { continue };
            let decoded = match self.codec.decode(value).await {
                Ok(decoded) if decoded.record() == REPLY => decoded.read::<ReplyRecord>(),
                Ok(_) => continue,
                Err(error) if error.is_outage() => return Err(RoleError::other(error)),
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
            if let Some(waiting) = self.replies.waiting.lock().remove(&reply.request_id) {
                let _hop = traced::processing(record);
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
}

//! What every API instance knows of outcomes: it follows `replies`, answers who waits, and keeps
//! what it needs to tell any command's outcome after any restart.

use crate::{
    outcomes::{self, Changes},
    topics::Topics,
};
use almanac_event_log::{EventLog, Isolation, ReadLimit, StoredRecord};
use almanac_processor::{LocalState, RoleError, StateFolder};
use almanac_schemas::{
    Codec,
    commands::{REPLY, ReplyRecord},
};
use parking_lot::{Mutex, RwLock};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

const LIMIT: ReadLimit = ReadLimit { records: 2_000, bytes: 4 << 20 };
const WAIT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(250);
const FORGOTTEN_AT_ONCE: usize = 4_000;

pub struct Replies {
    max_waiting: usize,
    waiting: Mutex<HashMap<String, oneshot::Sender<ReplyRecord>>>,
    /// By partition, once they are open.
    states: RwLock<Vec<Arc<LocalState>>>,
}

impl Replies {
    pub fn new(max_waiting: usize) -> Arc<Self> {
        let (waiting, states) = (Mutex::default(), RwLock::default());
        Arc::new(Self { max_waiting, waiting, states })
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
        codec: &Codec,
        request_id: &str,
    ) -> Result<Option<ReplyRecord>, RoleError> {
        let states = self.states.read().clone();
        for state in states.iter() {
            let found = outcomes::find(state, request_id).map_err(|e| RoleError::other(&e))?;
            let Some(encoded) = found else { continue };
            let decoded = codec.decode(&encoded).await.map_err(|e| RoleError::other(&e))?;
            let reply: ReplyRecord = decoded.read().map_err(|e| RoleError::other(&e))?;
            if reply.expires_at >= jiff::Timestamp::now().as_millisecond() {
                return Ok(Some(reply));
            }
        }
        Ok(None)
    }
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
    let described = log.topic(&topics.replies).await?;
    let (mut states, mut from) = (Vec::new(), Vec::new());
    for partition in 0..described.partitions {
        let end = log.end(&topics.replies, partition, Isolation::Uncommitted).await?;
        let start = log.start(&topics.replies, partition).await?;
        let folder = folder.clone();
        let opened =
            tokio::task::spawn_blocking(move || folder.partition(partition, described.id, end));
        let (state, next) =
            opened.await.map_err(|e| RoleError::other(&e))?.map_err(|e| RoleError::other(&e))?;
        states.push(Arc::new(state));
        from.push((partition, next.max(start)));
    }
    *replies.states.write() = states.clone();
    let mut reader = log.read(&topics.replies, &from).await?;
    loop {
        let batch = reader.next(LIMIT, WAIT).await?;
        take(replies, codec, &states, &batch.records).await?;
    }
}

async fn take(
    replies: &Replies,
    codec: &Codec,
    states: &[Arc<LocalState>],
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
        outcomes::remember(changes, &reply.request_id, &reply, value);
        if let Some(waiting) = replies.waiting.lock().remove(&reply.request_id) {
            // Who waited may have hung up.
            let _ = waiting.send(reply);
        }
    }
    let now_ms = jiff::Timestamp::now().as_millisecond();
    for (partition, (mut changes, next)) in by_partition {
        let Some(state) = states.get(partition as usize).cloned() else { continue };
        tokio::task::spawn_blocking(move || {
            outcomes::forget(&mut changes, &state, now_ms, FORGOTTEN_AT_ONCE)?;
            state.apply(changes, Some(next))
        })
        .await
        .map_err(|error| RoleError::other(&error))?
        .map_err(|error| RoleError::other(&error))?;
    }
    Ok(())
}

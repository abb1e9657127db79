//! A topic that a process follows as a whole: what its records come to is kept in local states, one for
//! each partition, and can be looked up by key.
//!
//! What is known may be older than the log. Who must not miss what was acknowledged to somebody asks
//! [`Followed::complete`] first: it returns once all that the log held of a partition has been taken in.

use crate::{Change, GatherLimits, GatheredState, RoleError, StateError, StateFolder};
use almanac_event_log::{
    EventLog, Isolation, LogResult, Offset, ReadLimit, StoredRecord, partitioner::partition_of,
};
use async_trait::async_trait;
use parking_lot::RwLock;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{Mutex, Semaphore, watch};

const LIMIT: ReadLimit = ReadLimit { records: 2_000, bytes: 4 << 20 };
const WAIT: Duration = Duration::from_secs(5);
/// Looked up at once: each look may read the disk.
const LOOKS: usize = 8;

/// Changes of a local state.
pub type Changes = Vec<Change>;

/// What a topic's records come to.
#[async_trait]
pub trait Follow: Send + Sync {
    /// What is told of a record beside the changes.
    type Note: Send;

    /// Called with the states as they are on disk, before any record is read. Off the threads that
    /// serve: it may scan them.
    fn resumed(&self, _states: &[GatheredState]) -> Result<(), RoleError> {
        Ok(())
    }

    /// Adds what follows from a record. The error is an outage: the topic is followed again from where
    /// the states stand.
    async fn fold(
        &self,
        stored: &StoredRecord,
        changes: &mut Changes,
    ) -> Result<Option<Self::Note>, RoleError>;

    /// The changes of these records are in the states now.
    fn taken(&self, _notes: Vec<Self::Note>) {}
}

pub struct Followed {
    log: Arc<dyn EventLog>,
    topic: Arc<str>,
    partitions: Vec<Partition>,
    /// By partition, while they are open.
    states: RwLock<Option<Arc<[GatheredState]>>>,
    looks: Semaphore,
}

struct Partition {
    /// The offset behind the newest record that was taken in.
    next: watch::Sender<Offset>,
    /// Who looks holds the lock, and all who came before it looked share what it found.
    look: Mutex<Option<Look>>,
}

/// What the log held at a time.
#[derive(Clone, Copy)]
struct Look {
    at: Instant,
    end: Offset,
    /// Whoever has taken in everything below this has all records below the end: what stands between
    /// are marks of transactions.
    through: Offset,
}

impl Followed {
    pub fn new(log: Arc<dyn EventLog>, topic: Arc<str>, partitions: u32) -> Self {
        let partition = |_| Partition { next: watch::Sender::new(0), look: Mutex::default() };
        Self {
            log,
            topic,
            partitions: (0..partitions).map(partition).collect(),
            states: RwLock::default(),
            looks: Semaphore::new(LOOKS),
        }
    }

    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    pub fn partitions(&self) -> u32 {
        self.partitions.len() as u32
    }

    /// The partition that records with this key are in.
    pub fn partition_of(&self, key: &[u8]) -> u32 {
        partition_of(key, self.partitions())
    }

    /// Whether anything can be looked up.
    pub fn is_followed(&self) -> bool {
        self.states.read().is_some()
    }

    /// What stands under a key in a partition's state; the outer `None` while nobody follows.
    pub async fn get(
        &self,
        partition: u32,
        key: Vec<u8>,
    ) -> Result<Option<Option<Vec<u8>>>, StateError> {
        let Some(states) = self.states.read().clone() else { return Ok(None) };
        // What has just been taken in needs no other thread.
        let found = states.get(partition as usize).and_then(|state| state.in_memory(&key));
        if found.is_some() {
            return Ok(found);
        }
        let Ok(_look) = self.looks.acquire().await else { return Ok(None) };
        let look = move || states.get(partition as usize).map(|state| state.get(&key)).transpose();
        match tokio::task::spawn_blocking(look).await {
            Ok(found) => found,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The process is going down.
            Err(_) => Ok(None),
        }
    }

    /// Waits until all is taken in that the log holds of a partition now, open transactions included.
    pub async fn complete(&self, partition: u32) -> LogResult<()> {
        let Some(one) = self.partitions.get(partition as usize) else { return Ok(()) };
        let look = self.look(one, partition).await?;
        // The sender lives as long as this.
        let _ = one.next.subscribe().wait_for(|next| *next >= look.through).await;
        Ok(())
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
        // Of a record that was acknowledged, the mark of its transaction may not be there yet: the
        // stable end could lie before it.
        let end = self.log.end(&self.topic, number, Isolation::Uncommitted).await?;
        let next = *partition.next.borrow();
        let through = match *last {
            Some(look) if look.end == end => look.through,
            _ => self.through(number, next, end).await?,
        };
        Ok(*last.insert(Look { at, end, through }))
    }

    /// The offset behind the last record below an end, or what is taken in when that is behind it.
    async fn through(&self, number: u32, next: Offset, end: Offset) -> LogResult<Offset> {
        let mut through = next;
        if next >= end {
            return Ok(through);
        }
        let mut reader = self.log.read_to(&self.topic, number, next, end).await?;
        loop {
            let batch = reader.next(LIMIT, WAIT).await?;
            match batch.records.last() {
                Some(last) => through = last.offset + 1,
                None if !batch.at_end.is_empty() => return Ok(through),
                None => {}
            }
        }
    }

    /// Follows the topic until an error. `flush` tells when changes of local state go to disk.
    pub async fn follow<F: Follow + 'static>(
        &self,
        folder: &StateFolder,
        flush: GatherLimits,
        follow: &Arc<F>,
    ) -> Result<(), RoleError> {
        let _unfollowed = UnfollowedAtEnd(self);
        let (mut states, mut from) = (Vec::new(), Vec::new());
        for number in 0..self.partitions() {
            let (state, next) = folder.resume(&*self.log, &self.topic, number).await?;
            states.push(GatheredState::new(state, flush));
            from.push((number, next));
        }
        let states: Arc<[GatheredState]> = states.into();
        let (resuming, resumed) = (follow.clone(), states.clone());
        let resumed = tokio::task::spawn_blocking(move || resuming.resumed(&resumed));
        resumed.await.map_err(RoleError::other)??;
        for (number, next) in &from {
            if let Some(partition) = self.partitions.get(*number as usize) {
                partition.next.send_replace(*next);
            }
        }
        *self.states.write() = Some(states.clone());
        let mut reader = self.log.read(&self.topic, &from).await?;
        loop {
            let batch = reader.next(LIMIT, WAIT).await?;
            self.take(&states, &batch.records, &**follow).await?;
            for state in states.iter() {
                state.flush_due(|_| Ok(Changes::new())).await?;
            }
        }
    }

    async fn take<F: Follow>(
        &self,
        states: &[GatheredState],
        records: &[StoredRecord],
        follow: &F,
    ) -> Result<(), RoleError> {
        let mut by_partition: HashMap<u32, (Changes, Offset)> = HashMap::new();
        let mut notes = Vec::new();
        for stored in records {
            let (changes, next) = by_partition.entry(stored.partition).or_default();
            *next = stored.offset + 1;
            notes.extend(follow.fold(stored, changes).await?);
        }
        let mut reached = Vec::with_capacity(by_partition.len());
        for (number, (changes, next)) in by_partition {
            if let Some(state) = states.get(number as usize) {
                state.take(changes, Some(next));
            }
            reached.push((number, next));
        }
        follow.taken(notes);
        for (number, next) in reached {
            if let Some(partition) = self.partitions.get(number as usize) {
                partition.next.send_replace(next);
            }
        }
        Ok(())
    }
}

/// However following ends, also by a panic: the states must be free for who follows next.
struct UnfollowedAtEnd<'a>(&'a Followed);

impl Drop for UnfollowedAtEnd<'_> {
    fn drop(&mut self) {
        *self.0.states.write() = None;
    }
}

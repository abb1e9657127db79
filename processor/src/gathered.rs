//! A local state whose changes gather in memory before they go to disk, many at once.
//!
//! Nothing is lost with what has gathered: the position on disk is behind it, so that whoever takes
//! over reads it from the log again.

use crate::{LocalState, StateError};
use almanac_event_log::Offset;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;

/// When what has gathered goes to disk.
#[derive(Clone, Copy, Debug)]
pub struct GatherLimits {
    pub changes: usize,
    pub bytes: usize,
    pub age: Duration,
}

impl Default for GatherLimits {
    fn default() -> Self {
        Self { changes: 2_000, bytes: 4 << 20, age: Duration::from_millis(100) }
    }
}

pub struct GatheredState {
    state: Arc<LocalState>,
    limits: GatherLimits,
    gathered: Mutex<Gathered>,
    flush: tokio::sync::Mutex<Option<JoinHandle<Result<(), StateError>>>>,
}

/// A key with its new value, or none when it goes.
pub type Change = (Vec<u8>, Option<Vec<u8>>);

/// Keys with their values, or none where there is none.
pub type Values = HashMap<Vec<u8>, Option<Vec<u8>>>;

type Changes = Values;

#[derive(Default)]
struct Gathered {
    changes: Changes,
    bytes: usize,
    position: Option<Offset>,
    since: Option<Instant>,
    /// On its way to disk, and not there yet.
    flushing: Arc<Changes>,
}

impl GatheredState {
    pub fn new(state: LocalState, limits: GatherLimits) -> Self {
        let (gathered, flush) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { state: Arc::new(state), limits, gathered, flush }
    }

    /// What is on disk already.
    pub fn on_disk(&self) -> &LocalState {
        &self.state
    }

    /// What stands under a key, where memory has it; `None` where only the disk knows.
    pub fn in_memory(&self, key: &[u8]) -> Option<Option<Vec<u8>>> {
        let gathered = self.lock();
        gathered.changes.get(key).or_else(|| gathered.flushing.get(key)).cloned()
    }

    /// Reads the disk where memory does not have it: not for threads that serve.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        if let Some(found) = self.in_memory(key) {
            return Ok(found);
        }
        // Changes leave memory only once they are on disk.
        Ok(self.state.get(key)?.map(|value| value.to_vec()))
    }

    /// The values of these keys. What is not in memory is read from disk off the threads that serve.
    pub async fn get_all(&self, keys: Vec<Vec<u8>>) -> Result<Values, StateError> {
        let mut found = Values::with_capacity(keys.len());
        let mut on_disk = Vec::new();
        {
            let gathered = self.lock();
            for key in keys {
                match gathered.changes.get(&key).or_else(|| gathered.flushing.get(&key)) {
                    Some(change) => drop(found.insert(key, change.clone())),
                    None => on_disk.push(key),
                }
            }
        }
        if on_disk.is_empty() {
            return Ok(found);
        }
        // Changes leave memory only once they are on disk.
        let state = self.state.clone();
        let read = tokio::task::spawn_blocking(move || {
            let read = |key: Vec<u8>| {
                let value = state.get(&key)?.map(|value| value.to_vec());
                Ok((key, value))
            };
            on_disk.into_iter().map(read).collect::<Result<Vec<_>, StateError>>()
        });
        match read.await {
            Ok(read) => found.extend(read?),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The process is going down, and whoever asked with it.
            Err(_) => std::future::pending().await,
        }
        Ok(found)
    }

    /// Takes in changes and the position they lead up to, as [`LocalState::apply`] does.
    pub fn take(&self, changes: impl IntoIterator<Item = Change>, position: Option<Offset>) {
        let mut gathered = self.lock();
        for (key, value) in changes {
            gathered.bytes += key.len() + value.as_ref().map_or(0, Vec::len);
            gathered.changes.insert(key, value);
        }
        gathered.position = position.or(gathered.position);
        gathered.since.get_or_insert_with(Instant::now);
    }

    fn is_due(&self) -> bool {
        let (gathered, limits) = (self.lock(), &self.limits);
        gathered.changes.len() >= limits.changes
            || gathered.bytes >= limits.bytes
            || gathered.since.is_some_and(|since| since.elapsed() >= limits.age)
    }

    /// Starts to write what has gathered, if that is due, after the write before it has ended. An
    /// error is that of the write before.
    ///
    /// `more` finds in what is on disk what else is to change, in the same thread as the write;
    /// what has gathered stands over it.
    pub async fn flush_due(
        &self,
        more: impl FnOnce(&LocalState) -> Result<Vec<Change>, StateError> + Send + 'static,
    ) -> Result<(), StateError> {
        if !self.is_due() {
            return Ok(());
        }
        let mut flush = self.flush.lock().await;
        self.join(&mut flush).await?;
        let (changes, position) = {
            let mut gathered = self.lock();
            let taken = std::mem::take(&mut *gathered);
            gathered.flushing = Arc::new(taken.changes);
            (gathered.flushing.clone(), taken.position)
        };
        let state = self.state.clone();
        *flush = Some(tokio::task::spawn_blocking(move || {
            let mut more = more(&state)?;
            more.retain(|(key, _)| !changes.contains_key(key));
            let more = more.iter().map(|(key, value)| (key.as_slice(), value.as_deref()));
            let changes = changes.iter().map(|(key, value)| (key.as_slice(), value.as_deref()));
            state.apply(more.chain(changes), position)
        }));
        Ok(())
    }

    async fn join(
        &self,
        flush: &mut Option<JoinHandle<Result<(), StateError>>>,
    ) -> Result<(), StateError> {
        let Some(running) = flush.as_mut() else { return Ok(()) };
        let ended = running.await;
        *flush = None;
        match ended {
            Ok(written) => written?,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The process is going down.
            Err(_) => return Ok(()),
        }
        self.lock().flushing = Arc::default();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

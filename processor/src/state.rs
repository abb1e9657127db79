//! Local state: a partition's folded state on this process's disk, beside the log position it
//! was folded up to and the id of the topic that position belongs to.
//!
//! It is a cache. A store that is lost, damaged, of another topic, or ahead of the log is emptied and
//! folded again.

use crate::RoleError;
use almanac_errors::{Cause, chain};
use almanac_event_log::{EventLog, Isolation, Offset, TopicId};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, UserKey, UserValue};
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// How long a partition's state may still be held by whoever had it before.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("cannot {action} local state in {folder}")]
    Storage { action: &'static str, folder: PathBuf, source: fjall::Error },
    /// A write to the disk failed, and the store takes no more until it is opened anew. The first that
    /// fails says why; those after it, and what follows a failure in the background, do not.
    #[error(
        "cannot {action} local state in {folder}; a write to the disk failed, and the store takes no more \
         until the process is started again"
    )]
    Stopped { action: &'static str, folder: PathBuf, source: fjall::Error },
    #[error(
        "local state in {folder} is in use by another process: each needs a data_dir of its own"
    )]
    InUse { folder: PathBuf },
    #[error(
        "local state of partition {partition} in {folder} is still held; it can be tried again"
    )]
    Held { partition: u32, folder: PathBuf },
    #[error("a key of {bytes} bytes does not fit into local state, in {folder}")]
    BadKey { bytes: usize, folder: PathBuf },
    #[error("an entry of local state in {folder} is damaged")]
    Damaged { folder: PathBuf, source: Cause },
}

impl StateError {
    /// What is stored is not what was written; a state that is folded again from the log is whole.
    fn is_damage(cause: &fjall::Error) -> bool {
        use fjall::Error as E;
        match cause {
            E::Storage(cause) => !matches!(cause, fjall::LsmError::Io(_)),
            E::JournalRecovery(_)
            | E::InvalidVersion(_)
            | E::Decompress(_)
            | E::InvalidTrailer
            | E::InvalidTag(_)
            | E::Unrecoverable => true,
            _ => false,
        }
    }

    fn storage(action: &'static str, folder: PathBuf, source: fjall::Error) -> Self {
        match (action, &source) {
            ("write" | "clear", _) | (_, fjall::Error::Poisoned) => {
                Self::Stopped { action, folder, source }
            }
            _ => Self::Storage { action, folder, source },
        }
    }

    pub(crate) fn needs_another_process(&self) -> bool {
        matches!(self, Self::Stopped { .. })
    }
}

/// The folder of one role's local states; clones share it.
#[derive(Clone)]
pub struct StateFolder {
    database: Database,
    folder: Arc<Path>,
    held: Arc<Holders>,
}

/// Partitions whose state is open. One holder at a time: what a former one still writes in the
/// background would move the state back under the next.
#[derive(Default)]
struct Holders {
    partitions: Mutex<HashSet<u32>>,
    released: Condvar,
    /// Partitions whose state was doubted and folded again.
    rebuilt: Mutex<HashSet<u32>>,
}

struct PartitionClaim {
    holders: Arc<Holders>,
    partition: u32,
}

impl Holders {
    fn hold(self: &Arc<Self>, partition: u32, patience: Duration) -> Option<PartitionClaim> {
        let partitions = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        let is_held = |held: &mut HashSet<u32>| held.contains(&partition);
        let waited = self.released.wait_timeout_while(partitions, patience, is_held);
        let (mut partitions, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let is_free = partitions.insert(partition);
        is_free.then(|| PartitionClaim { holders: self.clone(), partition })
    }
}

impl Drop for PartitionClaim {
    fn drop(&mut self) {
        let partitions = self.holders.partitions.lock();
        partitions.unwrap_or_else(PoisonError::into_inner).remove(&self.partition);
        self.holders.released.notify_all();
    }
}

fn open_database(folder: &Path) -> Result<Database, fjall::Error> {
    Database::builder(folder)
        .cache_size(8 << 20)
        .worker_threads(1)
        // Recovery replays the journals: small ones start faster.
        .max_journaling_size(64 << 20)
        .open()
}

impl StateFolder {
    /// Blocks while it recovers. Refused when another process has the folder open. What is there but
    /// damaged is removed: all of it is in the log.
    pub fn open(folder: &Path) -> Result<Self, StateError> {
        let error = |action| {
            let folder = folder.to_owned();
            move |cause| match cause {
                fjall::Error::Locked => StateError::InUse { folder },
                cause => StateError::storage(action, folder, cause),
            }
        };
        let database = match open_database(folder) {
            Err(cause) if StateError::is_damage(&cause) => {
                tracing::error!(
                    folder = %folder.display(), error = %chain(&cause),
                    "local state cannot be read; it is removed and folded again from the log"
                );
                std::fs::remove_dir_all(folder)
                    .and_then(|()| std::fs::create_dir_all(folder))
                    .map_err(|cause| error("remove damaged")(cause.into()))?;
                open_database(folder).map_err(error("open"))?
            }
            opened => opened.map_err(error("open"))?,
        };
        Ok(Self { database, folder: folder.into(), held: Arc::default() })
    }

    /// The state of a topic's partition, and the position to go on folding it from.
    pub async fn resume(
        &self,
        log: &dyn EventLog,
        topic: &str,
        partition: u32,
    ) -> Result<(LocalState, Offset), RoleError> {
        let id = log.topic(topic).await?.id;
        let end = log.end(topic, partition, Isolation::Uncommitted).await?;
        let folder = self.clone();
        // Off the threads that serve: it reads the disk, and waits for who held the state before.
        let opening = tokio::task::spawn_blocking(move || folder.partition(partition, id, end));
        let (state, from) = opening.await.map_err(RoleError::other)??;
        Ok((state, from.max(log.start(topic, partition).await?)))
    }

    /// The state of one partition, and the position to go on folding `topic` from. Whatever is
    /// there but does not fit the topic, or lies past `end`, is thrown away.
    ///
    /// Blocks until the partition's former state is dropped, the writes it has under way included.
    pub fn partition(
        &self,
        partition: u32,
        topic: TopicId,
        end: Offset,
    ) -> Result<(LocalState, Offset), StateError> {
        let name = format!("p{partition}");
        let error = |action| {
            let folder = self.folder.to_path_buf();
            move |cause| StateError::storage(action, folder, cause)
        };
        let Some(held) = self.held.hold(partition, PATIENCE) else {
            return Err(StateError::Held { partition, folder: self.folder.to_path_buf() });
        };
        let options = || KeyspaceCreateOptions::default().max_memtable_size(8 << 20);
        let open = || -> Result<LocalState, fjall::Error> {
            Ok(LocalState {
                held,
                doubted: AtomicBool::new(false),
                database: self.database.clone(),
                entries: self.database.keyspace(&format!("{name}-entries"), options)?,
                position: self.database.keyspace(&format!("{name}-position"), options)?,
                topic,
                folder: self.folder.clone(),
            })
        };
        let state = open().map_err(error("open"))?;
        if let Some(position) = state.position()
            && position <= end
        {
            return Ok((state, position));
        }
        state.entries.clear().map_err(error("clear"))?;
        state.position.clear().map_err(error("clear"))?;
        Ok((state, 0))
    }
}

pub struct LocalState {
    database: Database,
    entries: Keyspace,
    position: Keyspace,
    topic: TopicId,
    folder: Arc<Path>,
    /// No position is saved any more: whoever comes next folds everything again.
    doubted: AtomicBool,
    held: PartitionClaim,
}

const POSITION: &str = "position";
/// The store writes the length of a key in two bytes, and panics at what does not fit.
const MAX_KEY: usize = u16::MAX as usize;

impl LocalState {
    /// The position folded up to, if it is one of this topic.
    fn position(&self) -> Option<Offset> {
        let value = self.position.get(POSITION).ok()??;
        let (topic, position) = value.split_at_checked(16)?;
        let position = Offset::from_be_bytes(position.try_into().ok()?);
        (topic == self.topic.0.as_bytes()).then_some(position)
    }

    pub fn get(&self, key: &[u8]) -> Result<Option<UserValue>, StateError> {
        self.entries.get(key).map_err(|cause| self.error("read", cause))
    }

    /// Every entry whose key starts with `prefix`, in key order.
    pub fn scan(
        &self,
        prefix: &[u8],
    ) -> impl Iterator<Item = Result<(UserKey, UserValue), StateError>> {
        self.entries
            .prefix(prefix)
            .map(move |guard| guard.into_inner().map_err(|cause| self.error("scan", cause)))
    }

    /// Takes in changes and the position they lead up to, at once. Without a position the
    /// changes stand, and a take-over reads them again from the log: they are absolute.
    pub fn apply<K: Into<UserKey>, V: Into<UserValue>>(
        &self,
        changes: impl IntoIterator<Item = (K, Option<V>)>,
        position: Option<Offset>,
    ) -> Result<(), StateError> {
        let mut batch = self.database.batch();
        for (key, value) in changes {
            let key: UserKey = key.into();
            if key.is_empty() || key.len() > MAX_KEY {
                let folder = self.folder.to_path_buf();
                return Err(StateError::BadKey { bytes: key.len(), folder });
            }
            match value {
                Some(value) => batch.insert(&self.entries, key, value),
                None => batch.remove(&self.entries, key),
            }
        }
        if let Some(position) = position
            && !self.doubted.load(Ordering::SeqCst)
        {
            let mut value = self.topic.0.as_bytes().to_vec();
            value.extend_from_slice(&position.to_be_bytes());
            batch.insert(&self.position, POSITION, value);
        }
        batch.commit().map_err(|cause| self.error("write", cause))
    }

    /// An entry is not what was written, as `fault` says. The error is for whoever owns the
    /// partition to give it up with: the next who resumes this state folds it again from the log. It is
    /// `Ok` when that was done in this process before: then the log itself has it like that, and doing
    /// it again would only go round in a circle.
    pub fn doubt(&self, fault: impl Into<Cause>) -> Result<(), StateError> {
        let source = fault.into();
        let partition = self.held.partition;
        {
            let rebuilt = self.held.holders.rebuilt.lock();
            if !rebuilt.unwrap_or_else(PoisonError::into_inner).insert(partition)
                && !self.doubted.load(Ordering::SeqCst)
            {
                return Ok(());
            }
        }
        self.forget_position();
        tracing::error!(
            folder = %self.folder.display(), partition, fault = %chain(&*source),
            "local state is damaged; it is folded again from the log"
        );
        Err(StateError::Damaged { folder: self.folder.to_path_buf(), source })
    }

    fn forget_position(&self) {
        self.doubted.store(true, Ordering::SeqCst);
        if let Err(error) = self.position.remove(POSITION) {
            tracing::error!(folder = %self.folder.display(), error = %chain(&error), "cannot write local state");
        }
    }

    fn error(&self, action: &'static str, cause: fjall::Error) -> StateError {
        if StateError::is_damage(&cause) {
            // Emptied and folded again, it has no damaged blocks any more.
            self.forget_position();
        }
        if action == "write" && !matches!(cause, fjall::Error::Poisoned) {
            // Whoever asked may fail for another reason first, and the next write tells no cause.
            tracing::error!(
                folder = %self.folder.display(), error = %chain(&cause),
                "local state cannot be written; it takes no more until the process is started again"
            );
        }
        StateError::storage(action, self.folder.to_path_buf(), cause)
    }
}

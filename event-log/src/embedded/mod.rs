//! The event log in the process: segment files of our own, group commit, in-process groups.

mod cleaner;
mod files;
mod frame;
#[cfg(test)]
mod fuzzed;
mod group;
mod index;
mod index_file;
mod reader;
mod segment;
mod tail;
#[cfg(test)]
mod tests;
mod threads;
mod writer;

use crate::{
    Append, EventLog, GroupDescription, GroupMember, GroupNames, GroupOptions, GroupState,
    InputPosition, Isolation, LogError, LogReader, LogResult, Offset, Ownership, ReadLimit,
    TopicDescription, TopicId, TopicSpec, Transactor,
};
use async_trait::async_trait;
use files::OpenFiles;
use group::{Generation, Groups};
use index::Index;
use parking_lot::{Mutex, RwLock};
use std::{
    collections::HashMap,
    fs::{self, File},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tail::Tail;
use threads::Death;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;
use writer::{EncodedRun, Fence, Request, SyncFile, Writer};

#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    pub folder: PathBuf,
    /// A segment is sealed once it is this long.
    pub segment_bytes: u64,
    pub max_record_bytes: usize,
    pub max_transaction_bytes: usize,
    /// Requests that wait for the writer; more wait in their callers.
    pub queue: usize,
    /// So much of what was written last is read from memory.
    pub tail_bytes: usize,
    /// Files that readers keep open.
    pub open_files: usize,
}

impl EmbeddedOptions {
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            segment_bytes: 64 << 20,
            max_record_bytes: 1_000_000,
            max_transaction_bytes: 64 << 20,
            queue: 4096,
            tail_bytes: 8 << 20,
            open_files: 64,
        }
    }
}

/// Clones share one open log, which closes with the last of them.
#[derive(Clone)]
pub struct EmbeddedLog(Arc<Inner>);

struct Inner {
    options: EmbeddedOptions,
    index: Arc<RwLock<Index>>,
    groups: Arc<Groups>,
    /// The newest epoch of each transactional id.
    epochs: Arc<Mutex<HashMap<Arc<str>, u64>>>,
    requests: mpsc::Sender<Request>,
    declaring: tokio::sync::Mutex<()>,
    writer: Mutex<Option<std::thread::JoinHandle<()>>>,
    cleaner: Mutex<Option<std::thread::JoinHandle<()>>>,
    death: Death,
    _lock: File,
}

impl EmbeddedLog {
    /// Opens the folder, creating it when it is missing. Blocks while it reads; refused when
    /// another process has the folder open.
    pub fn open(options: EmbeddedOptions) -> LogResult<Self> {
        Self::open_with(options, Box::new(File::sync_data))
    }

    fn open_with(options: EmbeddedOptions, sync_file: SyncFile) -> LogResult<Self> {
        let folder = &options.folder;
        fs::create_dir_all(folder).map_err(segment::io_error("create", folder))?;
        let lock_path = folder.join("lock");
        let lock = File::create(&lock_path).map_err(segment::io_error("create", &lock_path))?;
        if lock.try_lock().is_err() {
            return Err(LogError::InUse { folder: folder.clone() });
        }
        let files = OpenFiles::new(options.open_files);
        let mut index = Index::new(files, Tail::new(options.tail_bytes));
        let recovered = segment::recover(folder, &mut index)?;
        let index = Arc::new(RwLock::new(index));
        let groups = Arc::new(Groups::default());
        let epochs = Arc::new(Mutex::new(HashMap::new()));
        let (requests, receiver) = mpsc::channel(options.queue);
        let (sealed, sealed_receiver) = mpsc::unbounded_channel();
        let writer = Writer {
            folder: folder.clone(),
            segment_bytes: options.segment_bytes,
            index: index.clone(),
            groups: groups.clone(),
            epochs: epochs.clone(),
            active: recovered.active,
            file: recovered.active_file.map(Arc::new),
            length: recovered.active_length,
            synced: recovered.active_length,
            sealed,
            failed: None,
            sync_file,
        };
        let death = Death::new(None);
        let writer = threads::spawn("log-writer", folder, &death, move || writer.run(receiver))?;
        let cleaner = cleaner::Cleaner::new(folder.clone(), index.clone());
        let clean = move || cleaner.run(sealed_receiver);
        let cleaner = threads::spawn("log-cleaner", folder, &death, clean)?;
        Ok(Self(Arc::new(Inner {
            options,
            index,
            groups,
            epochs,
            requests,
            declaring: tokio::sync::Mutex::new(()),
            writer: Mutex::new(Some(writer)),
            cleaner: Mutex::new(Some(cleaner)),
            death,
            _lock: lock,
        })))
    }

    /// Halves what is left until nothing is.
    async fn offset_at(&self, topic: &str, partition: u32, time_ms: i64) -> LogResult<Offset> {
        let one = ReadLimit { records: 1, bytes: 1 };
        let (mut from, end) = (self.start(topic, partition).await?, self.0.end(topic, partition)?);
        let mut to = end;
        while from < to {
            let middle = from + (to - from) / 2;
            let mut reader = self.read_to(topic, partition, middle, end).await?;
            let batch = reader.next(one, Duration::ZERO).await?;
            match batch.records.first() {
                Some(stored) if stored.record.timestamp_ms < time_ms => from = stored.offset + 1,
                _ => to = middle,
            }
        }
        Ok(from)
    }

    fn committed_of(&self, group: &str, places: &[(Arc<str>, u32)]) -> Vec<InputPosition> {
        let (group, index) = (Arc::<str>::from(group), self.0.index.read());
        let position = |(topic, partition): &(Arc<str>, u32)| {
            let (number, _) = index.topic(topic).ok()?;
            let next_offset = *index.positions.get(&(group.clone(), number, *partition))?;
            Some(InputPosition { topic: topic.clone(), partition: *partition, next_offset })
        };
        places.iter().filter_map(position).collect()
    }

    async fn submit(
        &self,
        appends: Vec<Append>,
        fence: Option<Fence>,
    ) -> LogResult<Vec<Option<Offset>>> {
        let (runs, places) = self.0.encode(appends)?;
        let (reply, answer) = oneshot::channel();
        self.0
            .requests
            .send(Request::Append { runs, fence, reply })
            .await
            .map_err(|_| LogError::Closed)?;
        let bases = answer.await.map_err(|_| LogError::Unknown {
            what: "a transaction".to_owned(),
            source: "the thread that writes the log ended".into(),
        })??;
        Ok(places.into_iter().map(|(run, delta)| Some(bases[run] + u64::from(delta))).collect())
    }
}

impl Inner {
    fn has_positions(&self, group: &str) -> bool {
        self.index.read().positions.keys().any(|(known, ..)| **known == *group)
    }

    /// Encodes in the caller's thread, so that the writer only writes. Also returns, for each
    /// append, its run and its place therein.
    #[expect(clippy::type_complexity, reason = "a pair that is taken apart at once")]
    fn encode(&self, appends: Vec<Append>) -> LogResult<(Vec<EncodedRun>, Vec<(usize, u32)>)> {
        let index = self.index.read();
        let mut runs: Vec<EncodedRun> = Vec::new();
        let mut by_partition: HashMap<(u16, u32), usize> = HashMap::new();
        let mut places = Vec::with_capacity(appends.len());
        let mut total = 0;
        let mut last_topic: Option<(Arc<str>, u16)> = None;
        for append in appends {
            let topic = match &last_topic {
                Some((name, number)) if Arc::ptr_eq(name, &append.topic) => *number,
                _ => {
                    let (number, _) = index.topic(&append.topic)?;
                    last_topic = Some((append.topic.clone(), number));
                    number
                }
            };
            let size = append.record.size();
            if size > self.options.max_record_bytes {
                return Err(LogError::RecordTooLarge {
                    topic: append.topic.to_string(),
                    size,
                    limit: self.options.max_record_bytes,
                });
            }
            total += size;
            if append.partition >= index.topics[usize::from(topic)].declaration.partitions {
                return Err(LogError::UnknownPartition {
                    topic: append.topic.to_string(),
                    partition: append.partition,
                });
            }
            let run = *by_partition.entry((topic, append.partition)).or_insert_with(|| {
                let body = Vec::with_capacity(size + 64);
                runs.push(EncodedRun { topic, partition: append.partition, count: 0, body });
                runs.len() - 1
            });
            let delta = runs[run].count;
            frame::encode_record(&mut runs[run].body, delta, &append.record);
            runs[run].count += 1;
            places.push((run, delta));
        }
        let limit = self.options.max_transaction_bytes;
        if total > limit {
            return Err(LogError::TransactionTooLarge { size: total, limit, unit: "bytes" });
        }
        Ok((runs, places))
    }

    fn end(&self, topic: &str, partition: u32) -> LogResult<Offset> {
        Ok(self.index.read().partition(topic, partition)?.end)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A full queue means that the writer lives and will see the channel close.
        let _ = self.requests.try_send(Request::Close);
        let (sender, _) = mpsc::channel(1);
        drop(std::mem::replace(&mut self.requests, sender));
        // The lock file must not be released while the writer still writes.
        if let Some(writer) = self.writer.lock().take() {
            let _ = writer.join();
        }
        if let Some(cleaner) = self.cleaner.lock().take() {
            let _ = cleaner.join();
        }
    }
}

fn check_settings(spec: &TopicSpec, found: &index::TopicDeclaration) -> LogResult<()> {
    let wrong =
        |setting: &'static str, found: String, wanted: String| LogError::WrongTopicSettings {
            topic: spec.name.clone(),
            setting,
            found,
            wanted,
            remedy: "use the settings that the folder was made with, or another folder".to_owned(),
        };
    if found.partitions != spec.partitions {
        let (found, wanted) = (found.partitions.to_string(), spec.partitions.to_string());
        return Err(wrong("partition count", found, wanted));
    }
    let same_kind =
        std::mem::discriminant(&found.retention) == std::mem::discriminant(&spec.retention);
    if !same_kind {
        let (found, wanted) = (format!("{:?}", found.retention), format!("{:?}", spec.retention));
        return Err(wrong("retention", found, wanted));
    }
    Ok(())
}

#[async_trait]
impl EventLog for EmbeddedLog {
    async fn died(&self) -> LogError {
        threads::died(&self.0.death).await
    }

    async fn ensure_topics(&self, topics: &[TopicSpec]) -> LogResult<()> {
        let _one_at_a_time = self.0.declaring.lock().await;
        for spec in topics {
            if let Ok((_, found)) = self.0.index.read().topic(&spec.name) {
                check_settings(spec, &found.declaration)?;
                continue;
            }
            let declaration = Index::declaration(spec, TopicId(Uuid::new_v4()));
            let (reply, answer) = oneshot::channel();
            self.0
                .requests
                .send(Request::Declare { declaration, reply })
                .await
                .map_err(|_| LogError::Closed)?;
            answer.await.map_err(|_| LogError::Closed)??;
        }
        Ok(())
    }

    async fn topic(&self, topic: &str) -> LogResult<TopicDescription> {
        let index = self.0.index.read();
        let (_, found) = index.topic(topic)?;
        Ok(TopicDescription { id: found.declaration.id, partitions: found.declaration.partitions })
    }

    async fn append(&self, appends: Vec<Append>) -> LogResult<Vec<Option<Offset>>> {
        if appends.is_empty() {
            return Ok(Vec::new());
        }
        self.submit(appends, None).await
    }

    async fn end(&self, topic: &str, partition: u32, _: Isolation) -> LogResult<Offset> {
        // A transaction is one write: there is nothing uncommitted to be seen.
        self.0.end(topic, partition)
    }

    async fn start(&self, topic: &str, partition: u32) -> LogResult<Offset> {
        Ok(self.0.index.read().partition(topic, partition)?.start)
    }

    async fn offsets_at(&self, topic: &str, time_ms: i64) -> LogResult<Vec<Offset>> {
        let described = self.topic(topic).await?;
        let mut found = Vec::with_capacity(described.partitions as usize);
        for partition in 0..described.partitions {
            found.push(self.offset_at(topic, partition, time_ms).await?);
        }
        Ok(found)
    }

    async fn read(&self, topic: &str, from: &[(u32, Offset)]) -> LogResult<Box<dyn LogReader>> {
        reader::open(self.0.index.clone(), topic, from, None)
    }

    async fn read_to(
        &self,
        topic: &str,
        partition: u32,
        from: Offset,
        to: Offset,
    ) -> LogResult<Box<dyn LogReader>> {
        reader::open(self.0.index.clone(), topic, &[(partition, from)], Some(to))
    }

    async fn join(&self, options: GroupOptions) -> LogResult<Box<dyn GroupMember>> {
        let partitions = self.topic(&options.topic).await?.partitions;
        Ok(self.0.groups.join(&options, partitions))
    }

    async fn committed(&self, ownership: &Ownership) -> LogResult<Option<Offset>> {
        let index = self.0.index.read();
        let (topic, _) = index.topic(&ownership.topic)?;
        let key = (ownership.group.clone(), topic, ownership.partition);
        Ok(index.positions.get(&key).copied())
    }

    async fn groups(&self, at_most: usize) -> LogResult<GroupNames> {
        let mut names = self.0.groups.names();
        names.extend(self.0.index.read().positions.keys().map(|(group, ..)| group.to_string()));
        Ok(GroupNames::first(names, at_most, None))
    }

    async fn describe_groups(
        &self,
        names: &[String],
        places: &[(Arc<str>, u32)],
    ) -> LogResult<Vec<GroupDescription>> {
        let described = |name: &String| {
            let (state, members) = self.0.groups.described(name);
            let committed = self.committed_of(name, places);
            let is_known = !members.is_empty() || self.0.has_positions(name);
            let state = if is_known { state } else { GroupState::Dead };
            GroupDescription { name: name.clone(), state, members, committed, fault: None }
        };
        Ok(names.iter().map(described).collect())
    }

    async fn transactor(
        &self,
        transactional_id: &str,
        ownership: &Ownership,
    ) -> LogResult<Box<dyn Transactor>> {
        let transactional_id: Arc<str> = transactional_id.into();
        let generation =
            ownership.generation.downcast_ref::<Generation>().ok_or_else(|| LogError::Refused {
                what: format!("a transactor {transactional_id}"),
                source: "the ownership is of another log".into(),
            })?;
        let epoch = {
            let mut epochs = self.0.epochs.lock();
            let epoch = epochs.entry(transactional_id.clone()).or_default();
            *epoch += 1;
            *epoch
        };
        // What an earlier holder wrote before it could be fenced comes to its end first.
        let (reply, passed) = oneshot::channel();
        let barrier = Request::Barrier { reply };
        self.0.requests.send(barrier).await.map_err(|_| LogError::Closed)?;
        passed.await.map_err(|_| LogError::Closed)??;
        let generation = generation.number;
        let group = ownership.group.clone();
        Ok(Box::new(EmbeddedTransactor {
            log: self.clone(),
            transactional_id,
            epoch,
            group,
            generation,
        }))
    }
}

struct EmbeddedTransactor {
    log: EmbeddedLog,
    transactional_id: Arc<str>,
    epoch: u64,
    group: Arc<str>,
    generation: u64,
}

#[async_trait]
impl Transactor for EmbeddedTransactor {
    async fn commit(
        &mut self,
        appends: Vec<Append>,
        input: InputPosition,
    ) -> LogResult<Vec<Option<Offset>>> {
        let topic = self.log.0.index.read().topic(&input.topic)?.0;
        let fence = Fence {
            transactional_id: self.transactional_id.clone(),
            epoch: self.epoch,
            group: self.group.clone(),
            generation: self.generation,
            topic,
            partition: input.partition,
            next_offset: input.next_offset,
        };
        self.log.submit(appends, Some(fence)).await.map_err(|error| match error {
            LogError::Unknown { source, .. } => {
                LogError::Ambiguous { transactional_id: self.transactional_id.to_string(), source }
            }
            other => other,
        })
    }
}

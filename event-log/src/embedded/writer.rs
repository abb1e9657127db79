//! The one thread that writes. It takes all requests that wait, makes a frame of each, writes
//! them at once and syncs once (group commit), then publishes them to readers.

use super::{
    files::Segment,
    frame::{self, Block},
    group::Groups,
    index::{BlockRef, Index, TopicDeclaration},
    index_file,
    segment::{self, SegmentFile, io_error},
};
use crate::{Durability, LogError, LogResult, Offset};
use almanac_errors::chain;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::Arc,
};
use tokio::sync::{mpsc, oneshot};

/// The records of one request for one partition, already encoded; offsets are relative.
pub(super) struct EncodedRun {
    pub(super) topic: u16,
    pub(super) partition: u32,
    pub(super) count: u32,
    pub(super) body: Vec<u8>,
}

/// Who asks, and what makes the request void.
pub(super) struct Fence {
    pub(super) transactional_id: Arc<str>,
    pub(super) epoch: u64,
    pub(super) group: Arc<str>,
    pub(super) generation: u64,
    pub(super) topic: u16,
    pub(super) partition: u32,
    pub(super) next_offset: Offset,
}

pub(super) enum Request {
    Append {
        runs: Vec<EncodedRun>,
        fence: Option<Fence>,
        /// Answers with the base offset of each run.
        reply: oneshot::Sender<LogResult<Vec<Offset>>>,
    },
    Declare {
        declaration: TopicDeclaration,
        reply: oneshot::Sender<LogResult<()>>,
    },
    /// Answers once everything before it was written, or certainly will not be.
    Barrier {
        reply: oneshot::Sender<LogResult<()>>,
    },
    /// Ends the thread once everything before it is written.
    Close,
}

pub(super) struct Writer {
    pub(super) folder: PathBuf,
    pub(super) segment_bytes: u64,
    pub(super) index: Arc<RwLock<Index>>,
    pub(super) groups: Arc<Groups>,
    pub(super) epochs: Arc<Mutex<HashMap<Arc<str>, u64>>>,
    pub(super) active: u32,
    /// Of the active segment, once something was written to it.
    pub(super) file: Option<Arc<SegmentFile>>,
    pub(super) length: u64,
    /// So much of the active segment is known to be on disk.
    pub(super) synced: u64,
    /// Told the number of a segment when it is sealed.
    pub(super) sealed: mpsc::UnboundedSender<u32>,
    /// Set while the file's state is unknown; every write is refused with it.
    pub(super) failed: Option<LogError>,
    pub(super) sync_file: SyncFile,
}

/// A block with the bytes of its records, if it has any.
type Written = (Block, Bytes);

/// Makes what was written to a file durable.
pub(super) type SyncFile = Box<dyn Fn(&File) -> io::Result<()> + Send>;

/// An answer that waits for the write to be durable.
enum Pending {
    Appended(oneshot::Sender<LogResult<Vec<Offset>>>, Vec<Offset>),
    Declared(oneshot::Sender<LogResult<()>>),
}

impl Pending {
    /// The caller may have stopped waiting, here and below.
    fn refuse(self, error: LogError) {
        match self {
            Self::Appended(reply, _) => drop(reply.send(Err(error))),
            Self::Declared(reply) => drop(reply.send(Err(error))),
        }
    }
}

/// What is written and synced together.
#[derive(Default)]
struct Group {
    buffer: Vec<u8>,
    blocks: Vec<Written>,
    pending: Vec<Pending>,
    sync: bool,
    /// Ends of partitions as they will be once this is written.
    ends: HashMap<(u16, u32), Offset>,
}

const MAX_GROUP_BYTES: usize = 8 << 20;

impl Writer {
    pub(super) fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(first) = requests.blocking_recv() {
            // A failure answers for itself, and is told to each that comes.
            let _ = self.mend();
            let mut group = Group::default();
            let mut next = Some(first);
            while let Some(request) = next {
                match request {
                    Request::Close => {
                        self.write_group(group);
                        refuse_all(&mut requests);
                        return;
                    }
                    Request::Barrier { reply } => {
                        self.write_group(std::mem::take(&mut group));
                        let _ = reply.send(self.mend());
                    }
                    Request::Declare { declaration, reply } => {
                        // Declarations change topic numbers, so they go alone.
                        self.write_group(std::mem::take(&mut group));
                        self.declare(declaration, reply);
                    }
                    Request::Append { runs, fence, reply } => match self.check(fence.as_ref()) {
                        Err(error) => drop(reply.send(Err(error))),
                        Ok(()) => {
                            group.sync |= self.needs_sync(&runs, fence.is_some());
                            let bases = self.encode(runs, fence, &mut group);
                            group.pending.push(Pending::Appended(reply, bases));
                        }
                    },
                }
                // After a failure the next request comes by way of mending it.
                let has_room = self.failed.is_none() && group.buffer.len() < MAX_GROUP_BYTES;
                next = has_room.then(|| requests.try_recv().ok()).flatten();
            }
            self.write_group(group);
        }
    }

    fn declare(&mut self, declaration: TopicDeclaration, reply: oneshot::Sender<LogResult<()>>) {
        let pending = Pending::Declared(reply);
        if let Err(error) = self.mend() {
            return pending.refuse(error);
        }
        let mut group = Group { pending: vec![pending], sync: true, ..Group::default() };
        let number = self.index.read().topics.len() as u16;
        let start = frame::begin_frame(&mut group.buffer);
        frame::put_synced(&mut group.buffer, self.synced);
        frame::put_topic(&mut group.buffer, number, &declaration);
        frame::finish_frame(&mut group.buffer, start);
        group.blocks.push((Block::Topic { number, declaration }, Bytes::new()));
        self.write_group(group);
    }

    fn check(&self, fence: Option<&Fence>) -> LogResult<()> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let Some(fence) = fence else { return Ok(()) };
        let fenced = |detail: &str| LogError::Fenced {
            transactional_id: fence.transactional_id.to_string(),
            source: detail.into(),
        };
        if self.epochs.lock().get(&fence.transactional_id) != Some(&fence.epoch) {
            return Err(fenced("a newer transactor has this id"));
        }
        if !self.groups.is_current(&fence.group, fence.generation) {
            return Err(fenced("the group has moved on to another generation"));
        }
        Ok(())
    }

    fn needs_sync(&self, runs: &[EncodedRun], transactional: bool) -> bool {
        let index = self.index.read();
        transactional
            || runs.iter().any(|run| {
                index.topics[usize::from(run.topic)].declaration.durability == Durability::Synced
            })
    }

    fn encode(
        &self,
        runs: Vec<EncodedRun>,
        fence: Option<Fence>,
        group: &mut Group,
    ) -> Vec<Offset> {
        let Group { buffer, blocks, ends, .. } = group;
        let index = self.index.read();
        let start = frame::begin_frame(buffer);
        frame::put_synced(buffer, self.synced);
        let mut bases = Vec::with_capacity(runs.len());
        for run in runs {
            let end = ends.entry((run.topic, run.partition)).or_insert_with(|| {
                index.topics[usize::from(run.topic)].partitions[run.partition as usize].end
            });
            let base = *end;
            let last = base + u64::from(run.count) - 1;
            *end = last + 1;
            let (at, checksum) =
                frame::put_records(buffer, run.topic, run.partition, base, last, &run.body);
            let block = BlockRef {
                base,
                last,
                segment: self.active,
                position: at as u64,
                length: run.body.len() as u32,
                checksum,
            };
            let records = Block::Records { topic: run.topic, partition: run.partition, block };
            blocks.push((records, run.body.into()));
            bases.push(base);
        }
        if let Some(fence) = fence {
            frame::put_position(
                buffer,
                &fence.group,
                fence.topic,
                fence.partition,
                fence.next_offset,
            );
            let position = Block::Position {
                group: fence.group,
                topic: fence.topic,
                partition: fence.partition,
                next_offset: fence.next_offset,
            };
            blocks.push((position, Bytes::new()));
        }
        frame::finish_frame(buffer, start);
        bases
    }

    /// Writes, syncs, publishes, answers.
    fn write_group(&mut self, group: Group) {
        let Group { buffer, blocks, pending, sync, .. } = group;
        if buffer.is_empty() {
            return;
        }
        if let Err(error) = self.write_file(&buffer, sync) {
            tracing::error!(error = %chain(&error), "cannot write to the log");
            pending.into_iter().for_each(|waiting| waiting.refuse(error.clone()));
            return;
        }
        let written_at = self.length;
        self.length += buffer.len() as u64;
        if sync {
            self.synced = self.length;
        }
        {
            let mut index = self.index.write();
            let mut touched = Vec::new();
            for (mut block, body) in blocks {
                if let Block::Records { topic, partition, block } = &mut block {
                    // The block was placed relative to this buffer.
                    block.position += written_at;
                    block.segment = self.active;
                    index.tail.push(*topic, *partition, *block, body);
                    if !touched.contains(topic) {
                        touched.push(*topic);
                    }
                }
                index.apply(block);
            }
            for topic in touched {
                index.announce(topic);
            }
        }
        for waiting in pending {
            // The caller may have stopped waiting; the write stands.
            match waiting {
                Pending::Appended(reply, bases) => drop(reply.send(Ok(bases))),
                Pending::Declared(reply) => drop(reply.send(Ok(()))),
            }
        }
        if self.length >= self.segment_bytes
            && let Err(error) = self.roll()
        {
            // The active segment just grows; the next write tries again.
            tracing::warn!(error = %chain(&error), "cannot start a new log segment");
        }
    }

    fn write_file(&mut self, buffer: &[u8], sync: bool) -> LogResult<()> {
        let segment = self.active_file()?;
        if let Err(error) = segment.file.write_all_at(buffer, self.length) {
            let failure = io_error("write", &segment.path)(error);
            // A full disk leaves whole frames and part of one: cut them off, and the log is as it
            // was, also after a power failure.
            let cut =
                segment.file.set_len(self.length).and_then(|()| (self.sync_file)(&segment.file));
            return match cut {
                Ok(()) => Err(failure),
                Err(error) => Err(self.fail(io_error("truncate", &segment.path)(error))),
            };
        }
        if sync && let Err(error) = (self.sync_file)(&segment.file) {
            return Err(self.fail(io_error("sync", &segment.path)(error)));
        }
        Ok(())
    }

    /// The file may hold what was just written, now or after a start, or not. Nothing more is written
    /// until that is settled.
    fn fail(&mut self, failure: LogError) -> LogError {
        self.failed = Some(failure.clone());
        LogError::Unknown { what: "a transaction".to_owned(), source: failure.into() }
    }

    /// Settles what a failure left open: what was refused is cut off, and what was taken before is
    /// made durable. Until that works, nothing is written.
    fn mend(&mut self) -> LogResult<()> {
        let Some(failure) = self.failed.clone() else { return Ok(()) };
        let segment = self.active_file()?;
        let mended = segment.file.set_len(self.length).map_err(io_error("truncate", &segment.path));
        // After a failed sync the kernel takes pages for written that are not: they have to change.
        let mended = mended
            .and_then(|()| {
                segment::write_again(&segment.file, &segment.path, self.synced, self.length)
            })
            .and_then(|()| {
                (self.sync_file)(&segment.file).map_err(io_error("sync", &segment.path))
            });
        match mended {
            Ok(()) => {
                tracing::warn!(
                    file = %segment.path.display(), after = %chain(&failure), "the log takes writes again"
                );
                (self.failed, self.synced) = (None, self.length);
                Ok(())
            }
            Err(error) => {
                self.failed = Some(error.clone());
                Err(error)
            }
        }
    }

    fn active_file(&mut self) -> LogResult<Arc<SegmentFile>> {
        if let Some(segment) = &self.file {
            return Ok(segment.clone());
        }
        let path = segment::log_path(&self.folder, self.active);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(io_error("create", &path))?;
        // Without this the file itself may be gone after a power failure.
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(io_error("sync", &self.folder))?;
        let known = Arc::new(Segment::new(path.clone(), None));
        self.index.write().segments.insert(self.active, known);
        let segment = Arc::new(SegmentFile { path, file });
        self.file = Some(segment.clone());
        Ok(segment)
    }

    /// Seals the active segment and goes on in the next one.
    fn roll(&mut self) -> LogResult<()> {
        let segment = self.active_file()?;
        if let Err(error) = (self.sync_file)(&segment.file) {
            let failure = io_error("sync", &segment.path)(error);
            self.failed = Some(failure.clone());
            return Err(failure);
        }
        self.synced = self.length;
        let (blocks, encoded) = {
            let index = self.index.read();
            let blocks = index.blocks_of(self.active);
            let encoded = index_file::encode(self.length, &index, &blocks);
            (blocks, encoded)
        };
        index_file::write(&self.folder, self.active, &encoded)?;
        let next = self.active + 1;
        // A left-over of a failed roll would be taken for a segment.
        let _ = fs::remove_file(segment::log_path(&self.folder, next));
        let sealed = std::mem::replace(&mut self.active, next);
        (self.file, self.length, self.synced) = (None, 0, 0);
        {
            let mut index = self.index.write();
            index.put_runs(sealed, index_file::runs(sealed, &blocks, true));
            if let Some(segment) = index.segments.get_mut(&sealed) {
                *segment = Arc::new(segment.sealed(encoded.refs_at));
            }
        }
        let _ = self.sealed.send(sealed);
        self.active_file()?;
        Ok(())
    }
}

/// Answers those that were not written.
fn refuse_all(requests: &mut mpsc::Receiver<Request>) {
    requests.close();
    while let Ok(request) = requests.try_recv() {
        match request {
            Request::Append { reply, .. } => drop(reply.send(Err(LogError::Closed))),
            Request::Declare { reply, .. } | Request::Barrier { reply } => {
                drop(reply.send(Err(LogError::Closed)));
            }
            Request::Close => {}
        }
    }
}

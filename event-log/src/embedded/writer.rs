//! The one thread that writes. It takes all requests that wait, makes a frame of each, writes
//! them at once and syncs once (group commit), then publishes them to readers.

use super::{
    frame::{self, Block},
    group::Groups,
    index::{BlockRef, Index, SegmentFile, TopicDeclaration},
    segment::{self, io_error},
};
use crate::{Durability, LogError, LogResult, Offset};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
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
    pub(super) length: u64,
    /// So much of the active segment is known to be on disk.
    pub(super) synced: u64,
    /// Told the number of a segment when it is sealed.
    pub(super) sealed: mpsc::UnboundedSender<u32>,
    /// Set when the disk's state is unknown; every later write is refused with it.
    pub(super) failed: Option<LogError>,
}

/// A block with the bytes of its records, if it has any.
type Written = (Block, Bytes);

/// An answer that waits for the write to be durable.
enum Pending {
    Appended(oneshot::Sender<LogResult<Vec<Offset>>>, Vec<Offset>),
    Declared(oneshot::Sender<LogResult<()>>),
}

const MAX_GROUP_BYTES: usize = 8 << 20;

impl Writer {
    pub(super) fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(first) = requests.blocking_recv() {
            let mut buffer = Vec::new();
            let mut pending = Vec::new();
            let mut blocks: Vec<Written> = Vec::new();
            let mut sync = false;
            let mut next = Some(first);
            // Ends of partitions as they will be once this group is written.
            let mut ends: HashMap<(u16, u32), Offset> = HashMap::new();
            while let Some(request) = next {
                match request {
                    Request::Close => {
                        self.write_group(&buffer, blocks, pending, sync);
                        return;
                    }
                    Request::Declare { declaration, reply } => {
                        // Declarations change topic numbers, so they go alone.
                        self.write_group(&buffer, blocks, pending, sync);
                        (buffer, blocks, pending) = (Vec::new(), Vec::new(), Vec::new());
                        ends.clear();
                        let number = self.index.read().topics.len() as u16;
                        let start = frame::begin_frame(&mut buffer);
                        frame::put_synced(&mut buffer, self.synced);
                        frame::put_topic(&mut buffer, number, &declaration);
                        frame::finish_frame(&mut buffer, start);
                        blocks.push((Block::Topic { number, declaration }, Bytes::new()));
                        pending.push(Pending::Declared(reply));
                        self.write_group(&buffer, blocks, pending, true);
                        (buffer, blocks, pending) = (Vec::new(), Vec::new(), Vec::new());
                    }
                    Request::Append { runs, fence, reply } => match self.check(fence.as_ref()) {
                        Err(error) => {
                            let _ = reply.send(Err(error));
                        }
                        Ok(()) => {
                            sync |= self.needs_sync(&runs, fence.is_some());
                            let bases =
                                self.encode(runs, fence, &mut buffer, &mut blocks, &mut ends);
                            pending.push(Pending::Appended(reply, bases));
                        }
                    },
                }
                next = (buffer.len() < MAX_GROUP_BYTES).then(|| requests.try_recv().ok()).flatten();
            }
            self.write_group(&buffer, blocks, pending, sync);
        }
    }

    fn check(&self, fence: Option<&Fence>) -> LogResult<()> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let Some(fence) = fence else { return Ok(()) };
        let fenced = |detail: &str| LogError::Fenced {
            transactional_id: fence.transactional_id.to_string(),
            detail: detail.to_owned(),
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
        buffer: &mut Vec<u8>,
        blocks: &mut Vec<Written>,
        ends: &mut HashMap<(u16, u32), Offset>,
    ) -> Vec<Offset> {
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
    fn write_group(
        &mut self,
        buffer: &[u8],
        blocks: Vec<Written>,
        pending: Vec<Pending>,
        sync: bool,
    ) {
        if buffer.is_empty() {
            return;
        }
        if let Err(error) = self.write_file(buffer, sync) {
            tracing::error!(%error, "cannot write to the log");
            for waiting in pending {
                match waiting {
                    Pending::Appended(reply, _) => drop(reply.send(Err(error.clone()))),
                    Pending::Declared(reply) => drop(reply.send(Err(error.clone()))),
                }
            }
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
            tracing::warn!(%error, "cannot start a new log segment");
        }
    }

    fn write_file(&mut self, buffer: &[u8], sync: bool) -> LogResult<()> {
        let segment = self.active_file()?;
        if let Err(error) = segment.file.write_all_at(buffer, self.length) {
            let failure = io_error("write", &segment.path)(error);
            // A full disk leaves part of a frame: cut it off, and the log is as it was.
            if let Err(error) = segment.file.set_len(self.length) {
                self.failed = Some(io_error("truncate", &segment.path)(error));
            }
            return Err(failure);
        }
        if sync && let Err(error) = segment.file.sync_data() {
            // After a failed sync the kernel may have dropped the pages: nothing is known.
            let failure = io_error("sync", &segment.path)(error);
            self.failed = Some(failure.clone());
            return Err(failure);
        }
        Ok(())
    }

    fn active_file(&self) -> LogResult<Arc<SegmentFile>> {
        if let Some(segment) = self.index.read().segments.get(&self.active) {
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
        let segment = Arc::new(SegmentFile { path, file });
        self.index.write().segments.insert(self.active, segment.clone());
        Ok(segment)
    }

    /// Seals the active segment and goes on in the next one.
    fn roll(&mut self) -> LogResult<()> {
        let segment = self.active_file()?;
        segment.file.sync_all().map_err(io_error("sync", &segment.path))?;
        segment::write_index(&self.folder, self.active, self.length, &self.index.read())?;
        let next = self.active + 1;
        // A left-over of a failed roll would be taken for a segment.
        let _ = fs::remove_file(segment::log_path(&self.folder, next));
        let sealed = std::mem::replace(&mut self.active, next);
        (self.length, self.synced) = (0, 0);
        self.active_file()?;
        let _ = self.sealed.send(sealed);
        Ok(())
    }
}

//! Removes what compaction and retention no longer need, by rewriting sealed segments.
//!
//! A segment is rewritten when more than half of it is dead: superseded records of compacted
//! topics, records past their topic's retention. Facts are never touched. Offsets stay: a removed
//! record leaves a gap.
//!
//! What may be dead is estimated from the index first, so that a log of facts is not read again
//! whenever it grows by a segment; and compacted topics are looked at once they have doubled.

use super::{
    files::{OpenFiles, Segment},
    frame::{self, Block, FRAME_HEADER},
    index::{BlockRef, Blocks, Index, Run},
    index_file::{self, Placed, Refs},
    reader,
    segment::{self, io_error},
};
use crate::{LogResult, Offset, Retention};
use almanac_errors::chain;
use parking_lot::RwLock;
use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File, OpenOptions},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::sync::mpsc;
use xxhash_rust::xxh3::Xxh3;

pub(super) struct Cleaner {
    folder: PathBuf,
    index: Arc<RwLock<Index>>,
    files: Arc<OpenFiles>,
    /// Bytes of compacted topics after they were last looked at.
    compacted_bytes: u64,
    /// When the last record of a partition in a sealed segment was written.
    last_written_ms: HashMap<Key, i64>,
    /// Keys are known by hashes that nobody can foresee.
    seed: u64,
}

/// Segment, topic and partition.
type Key = (u32, u16, u32);

/// The newest offset of every key of the compacted topics, by the key's hash.
type Newest = HashMap<u128, Offset>;

/// Bytes of a segment that may be dead.
#[derive(Default)]
struct Doubtful {
    expired: u64,
    compacted: u64,
}

impl Cleaner {
    pub(super) fn new(folder: PathBuf, index: Arc<RwLock<Index>>) -> Self {
        use std::hash::{BuildHasher, RandomState};
        let seed = RandomState::new().hash_one(0);
        let files = index.read().files.clone();
        Self { folder, index, files, compacted_bytes: 0, last_written_ms: HashMap::new(), seed }
    }

    fn hash(&self, topic: u16, partition: u32, key: &[u8]) -> u128 {
        let mut hash = Xxh3::with_seed(self.seed);
        hash.update(&topic.to_be_bytes());
        hash.update(&partition.to_be_bytes());
        hash.update(key);
        hash.digest128()
    }

    /// Runs after segments are sealed, until the log closes.
    pub(super) fn run(mut self, mut sealed: mpsc::UnboundedReceiver<u32>) {
        let mut candidates = Vec::new();
        while let Some(number) = sealed.blocking_recv() {
            candidates.push(number);
            while let Ok(number) = sealed.try_recv() {
                candidates.push(number);
            }
            if let Err(error) = self.clean(&candidates) {
                tracing::warn!(error = %chain(&error), "cannot clean the log; it stays as it is");
            }
        }
    }

    /// Looks at all sealed segments (`newest_sealed` only says that there is a reason to).
    fn clean(&mut self, newest_sealed: &[u32]) -> LogResult<()> {
        let Some(limit) = newest_sealed.iter().max().copied() else { return Ok(()) };
        let doubtful = self.doubtful(limit)?;
        let compacted: u64 = doubtful.values().map(|bytes| bytes.compacted).sum();
        let compacts = compacted > 0 && compacted >= self.compacted_bytes.saturating_mul(2);
        let newest = if compacts { self.newest_of_keys()? } else { Newest::new() };
        for (number, bytes) in doubtful {
            let most = bytes.expired + if compacts { bytes.compacted } else { 0 };
            let Some(of) = self.index.read().segments.get(&number).cloned() else { continue };
            let length = fs::metadata(&of.path).map_err(io_error("inspect", &of.path))?.len();
            if most * 2 > length
                && let Err(error) = self.clean_segment(number, compacts.then_some(&newest))
            {
                // What there is of a rewrite would only fill the disk.
                let _ = fs::remove_file(of.path.with_extension("new"));
                let _ = fs::remove_file(of.index_path().with_extension("idx.new"));
                return Err(error);
            }
        }
        if compacts {
            let left = self.doubtful(limit)?;
            self.compacted_bytes = left.values().map(|bytes| bytes.compacted).sum();
        }
        self.advance_starts();
        Ok(())
    }

    /// What may be dead of each segment up to `limit`, from the index alone and, once for each
    /// segment, the last record of partitions that are kept for a time.
    fn doubtful(&mut self, limit: u32) -> LogResult<BTreeMap<u32, Doubtful>> {
        let mut found: BTreeMap<u32, Doubtful> = BTreeMap::new();
        let mut timed: Vec<(Key, Offset, u64, i64)> = Vec::new();
        {
            let index = self.index.read();
            for (number, topic) in index.topics.iter().enumerate() {
                for (partition, of) in topic.partitions.iter().enumerate() {
                    for run in of.runs.iter().filter(|run| run.segment <= limit) {
                        match topic.declaration.retention {
                            Retention::Forever => {}
                            Retention::Compacted => {
                                found.entry(run.segment).or_default().compacted += run.bytes;
                            }
                            Retention::For(age) => {
                                let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
                                let key = (run.segment, number as u16, partition as u32);
                                timed.push((key, run.last, run.bytes, age));
                            }
                        }
                    }
                }
            }
        }
        let now_ms = now_ms();
        // Only what is still there is remembered.
        let mut last_written_ms = HashMap::with_capacity(timed.len());
        for (key, last, bytes, age) in timed {
            let written = match self.last_written_ms.get(&key) {
                Some(written) => *written,
                None => self.last_written(key, last)?,
            };
            last_written_ms.insert(key, written);
            if written <= now_ms.saturating_sub(age) {
                found.entry(key.0).or_default().expired += bytes;
            }
        }
        self.last_written_ms = last_written_ms;
        Ok(found)
    }

    fn last_written(&self, (segment, topic, partition): Key, last: Offset) -> LogResult<i64> {
        let blocks = self.blocks(segment, topic, partition, last)?;
        let Some((block, of)) = blocks.last() else { return Ok(i64::MAX) };
        let file = self.files.log(of)?;
        let records = reader::read_block(&file, &of.path, *block)?;
        Ok(records.last().map_or(i64::MIN, |(_, record)| record.timestamp_ms))
    }

    /// The blocks of a partition in a segment, from the one that holds or follows an offset.
    fn blocks(
        &self,
        number: u32,
        topic: u16,
        partition: u32,
        from: Offset,
    ) -> LogResult<Vec<(BlockRef, Arc<Segment>)>> {
        let (segment, place) = {
            let index = self.index.read();
            let of = &index.topics[usize::from(topic)].partitions[partition as usize];
            let run = of.runs.iter().find(|run| run.segment == number);
            let (Some(run), Some(segment)) = (run, index.segments.get(&number)) else {
                return Ok(Vec::new());
            };
            match &run.blocks {
                Blocks::Memory(blocks) => {
                    let blocks = blocks.iter().filter(|block| block.last >= from);
                    return Ok(blocks.map(|block| (*block, segment.clone())).collect());
                }
                Blocks::File { first, count } => (segment.clone(), (*first, *count)),
            }
        };
        let (file, path) = (self.files.index(&segment)?, segment.index_path());
        let refs_at = segment.refs_at.unwrap_or_default();
        let refs = Refs { file: &file, path: &path, refs_at, segment: number };
        let blocks = refs.from(place, from, |_| true)?;
        Ok(blocks.into_iter().map(|block| (block, segment.clone())).collect())
    }

    fn newest_of_keys(&self) -> LogResult<Newest> {
        let mut newest = HashMap::new();
        for (number, topic, partition) in self.compacted_runs() {
            for (block, of) in self.blocks(number, topic, partition, 0)? {
                let file = self.files.log(&of)?;
                for (offset, record) in reader::read_block(&file, &of.path, block)? {
                    newest.insert(self.hash(topic, partition, &record.key), offset);
                }
            }
        }
        Ok(newest)
    }

    /// Each partition's in the order of their offsets.
    fn compacted_runs(&self) -> Vec<Key> {
        let index = self.index.read();
        let mut found = Vec::new();
        for (number, topic) in index.topics.iter().enumerate() {
            if topic.declaration.retention != Retention::Compacted {
                continue;
            }
            for (partition, of) in topic.partitions.iter().enumerate() {
                let key = |run: &Run| (run.segment, number as u16, partition as u32);
                found.extend(of.runs.iter().map(key));
            }
        }
        found
    }

    /// Without `newest`, compacted topics stay as they are.
    fn clean_segment(&self, number: u32, newest: Option<&Newest>) -> LogResult<()> {
        let Some(of) = self.index.read().segments.get(&number).cloned() else { return Ok(()) };
        let file = self.files.log(&of)?;
        let length = file.metadata().map_err(io_error("inspect", &of.path))?.len();
        let retentions: Vec<Retention> =
            self.index.read().topics.iter().map(|topic| topic.declaration.retention).collect();
        let now_ms = now_ms();
        let is_live =
            |topic: u16, partition: u32, offset: Offset, record: &crate::Record| match retentions
                .get(usize::from(topic))
            {
                Some(Retention::Compacted) => {
                    let hash = self.hash(topic, partition, &record.key);
                    let newest = newest.and_then(|newest| newest.get(&hash));
                    newest.is_none_or(|newest| *newest <= offset)
                }
                Some(Retention::For(age)) => {
                    let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
                    record.timestamp_ms > now_ms.saturating_sub(age_ms)
                }
                Some(Retention::Forever) | None => true,
            };

        let new_path = of.path.with_extension("new");
        let new_file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(&new_path)
            .map_err(io_error("create", &new_path))?;
        let mut out = BufWriter::new(new_file);
        let mut new_length = 0;
        let mut moved = Vec::new();
        let mut position = 0;
        while position < length {
            let Some(payload) = segment::read_frame(&file, &of.path, position, length)? else {
                // Reading reports the damage with its place; cleaning must not hide it.
                let _ = fs::remove_file(&new_path);
                return Ok(());
            };
            let payload_at = position + FRAME_HEADER as u64;
            position = payload_at + payload.len() as u64;
            let Some(blocks) = frame::parse_blocks(&payload, number, payload_at) else {
                let _ = fs::remove_file(&new_path);
                return Ok(());
            };
            let source = (&*file, of.path.as_path());
            let frame_bytes =
                self.rewrite_frame(source, blocks, &is_live, number, new_length, &mut moved)?;
            out.write_all(&frame_bytes).map_err(io_error("write", &new_path))?;
            new_length += frame_bytes.len() as u64;
        }
        if new_length * 2 > length {
            return fs::remove_file(&new_path).map_err(io_error("remove", &new_path));
        }
        let new_file =
            out.into_inner().map_err(|error| io_error("write", &new_path)(error.into_error()))?;
        self.replace(number, &of, new_file, new_length, moved)
    }

    fn rewrite_frame(
        &self,
        (file, path): (&File, &Path),
        blocks: Vec<Block>,
        is_live: &dyn Fn(u16, u32, Offset, &crate::Record) -> bool,
        number: u32,
        frame_at: u64,
        moved: &mut Vec<Placed>,
    ) -> LogResult<Vec<u8>> {
        let mut out = Vec::new();
        let start = frame::begin_frame(&mut out);
        for block in blocks {
            match block {
                // Segments that are rewritten are synced as a whole.
                Block::Synced { .. } => {}
                Block::Topic { number, declaration } => {
                    frame::put_topic(&mut out, number, &declaration);
                }
                Block::Position { group, topic, partition, next_offset } => {
                    let key = (group, topic, partition);
                    // Only the newest position of a group says anything.
                    if self.index.read().positions.get(&key) == Some(&next_offset) {
                        frame::put_position(&mut out, &key.0, topic, partition, next_offset);
                    }
                }
                Block::Records { topic, partition, mut block } => {
                    let mut body = Vec::new();
                    for (offset, record) in reader::read_block(file, path, block)? {
                        if is_live(topic, partition, offset, &record) {
                            frame::encode_record(&mut body, (offset - block.base) as u32, &record);
                        }
                    }
                    // The newest block of a partition stays even when it is empty: it says where
                    // the offsets go on after a restart.
                    if body.is_empty() && !self.is_newest(topic, partition, block.last) {
                        continue;
                    }
                    let (at, checksum) = frame::put_records(
                        &mut out, topic, partition, block.base, block.last, &body,
                    );
                    block.segment = number;
                    block.position = frame_at + at as u64;
                    block.length = body.len() as u32;
                    block.checksum = checksum;
                    moved.push((topic, partition, block));
                }
            }
        }
        if out.len() == FRAME_HEADER {
            return Ok(Vec::new());
        }
        frame::finish_frame(&mut out, start);
        Ok(out)
    }

    fn is_newest(&self, topic: u16, partition: u32, last: Offset) -> bool {
        let index = self.index.read();
        index.topics[usize::from(topic)].partitions[partition as usize].end == last + 1
    }

    fn replace(
        &self,
        number: u32,
        old: &Segment,
        new_file: File,
        new_length: u64,
        mut moved: Vec<Placed>,
    ) -> LogResult<()> {
        let new_path = old.path.with_extension("new");
        new_file.sync_all().map_err(io_error("sync", &new_path))?;
        moved.sort_unstable_by_key(|(topic, partition, block)| (*topic, *partition, block.base));
        // An index file tells the length of its segment, so that one is never taken for that of another
        // version. Nobody waits for the disk meanwhile.
        let encoded = index_file::encode(new_length, &self.index.read(), &moved);
        let draft = index_file::write_draft(&self.folder, number, &encoded)?;
        // Readers take the files that they find for those that the index names: both change at once.
        let mut index = self.index.write();
        fs::rename(&new_path, &old.path).map_err(io_error("rename", &new_path))?;
        let indexed = fs::rename(&draft, old.index_path()).map_err(io_error("rename", &draft));
        index.put_runs(number, index_file::runs(number, &moved, indexed.is_ok()));
        let refs_at = indexed.is_ok().then_some(encoded.refs_at);
        index.segments.insert(number, Arc::new(Segment::new(old.path.clone(), refs_at)));
        indexed
    }

    /// Moves the start of partitions with a retention up to what is still there.
    fn advance_starts(&self) {
        let mut index = self.index.write();
        for topic in &mut index.topics {
            if matches!(topic.declaration.retention, Retention::For(_)) {
                for partition in &mut topic.partitions {
                    partition.start = partition.runs.first().map_or(partition.end, |run| run.base);
                }
            }
        }
    }
}

fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

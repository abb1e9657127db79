//! Removes what compaction and retention no longer need, by rewriting sealed segments.
//!
//! A segment is rewritten when more than half of it is dead: superseded records of compacted
//! topics, records past their topic's retention. Facts are never touched. Offsets stay: a removed
//! record leaves a gap.

use super::{
    frame::{self, Block, FRAME_HEADER},
    index::{Index, SegmentFile},
    reader,
    segment::{self, io_error},
};
use crate::{LogResult, Offset, Retention};
use parking_lot::RwLock;
use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{BufWriter, Write},
    path::PathBuf,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::sync::mpsc;

pub(super) struct Cleaner {
    pub(super) folder: PathBuf,
    pub(super) index: Arc<RwLock<Index>>,
}

/// The newest offset of every key of the compacted topics.
type Newest = HashMap<(u16, u32, bytes::Bytes), Offset>;

impl Cleaner {
    /// Runs after segments are sealed, until the log closes.
    pub(super) fn run(self, mut sealed: mpsc::UnboundedReceiver<u32>) {
        let mut candidates = Vec::new();
        while let Some(number) = sealed.blocking_recv() {
            candidates.push(number);
            while let Ok(number) = sealed.try_recv() {
                candidates.push(number);
            }
            if let Err(error) = self.clean(&candidates) {
                tracing::warn!(%error, "cannot clean the log; it stays as it is");
            }
        }
    }

    /// Looks at all sealed segments (`newest_sealed` only says that there is a reason to).
    pub(super) fn clean(&self, newest_sealed: &[u32]) -> LogResult<()> {
        let Some(limit) = newest_sealed.iter().max().copied() else { return Ok(()) };
        let newest = self.newest_of_keys()?;
        let mut numbers: Vec<u32> =
            self.index.read().segments.keys().copied().filter(|number| *number <= limit).collect();
        numbers.sort_unstable();
        for number in numbers {
            self.clean_segment(number, &newest)?;
        }
        self.advance_starts();
        Ok(())
    }

    fn newest_of_keys(&self) -> LogResult<Newest> {
        let mut newest = HashMap::new();
        for (topic, partition, blocks) in self.compacted_blocks() {
            for (block, file) in blocks {
                for (offset, record) in reader::read_block(&file, block)? {
                    // The key is copied: a slice would keep its whole block in memory.
                    let key = bytes::Bytes::copy_from_slice(&record.key);
                    newest.insert((topic, partition, key), offset);
                }
            }
        }
        Ok(newest)
    }

    #[expect(clippy::type_complexity, reason = "taken apart at once by the one caller")]
    fn compacted_blocks(&self) -> Vec<(u16, u32, Vec<(super::index::BlockRef, Arc<SegmentFile>)>)> {
        let index = self.index.read();
        let mut found = Vec::new();
        for (number, topic) in index.topics.iter().enumerate() {
            if topic.declaration.retention != Retention::Compacted {
                continue;
            }
            for (partition, blocks) in topic.partitions.iter().enumerate() {
                let blocks = blocks
                    .blocks
                    .iter()
                    .filter_map(|block| Some((*block, index.segments.get(&block.segment)?.clone())))
                    .collect();
                found.push((number as u16, partition as u32, blocks));
            }
        }
        found
    }

    fn clean_segment(&self, number: u32, newest: &Newest) -> LogResult<()> {
        let Some(file) = self.index.read().segments.get(&number).cloned() else { return Ok(()) };
        let length = file.file.metadata().map_err(io_error("inspect", &file.path))?.len();
        let retentions: Vec<Retention> =
            self.index.read().topics.iter().map(|topic| topic.declaration.retention).collect();
        let now_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
        let is_live =
            |topic: u16, partition: u32, offset: Offset, record: &crate::Record| match retentions
                .get(usize::from(topic))
            {
                Some(Retention::Compacted) => {
                    let key = (topic, partition, record.key.clone());
                    newest.get(&key).is_none_or(|newest| *newest <= offset)
                }
                Some(Retention::For(age)) => {
                    let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
                    record.timestamp_ms > now_ms.saturating_sub(age_ms)
                }
                Some(Retention::Forever) | None => true,
            };

        let new_path = file.path.with_extension("new");
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
            let Some(payload) = segment::read_frame(&file.file, &file.path, position, length)?
            else {
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
            let frame_bytes =
                self.rewrite_frame(&file, blocks, &is_live, number, new_length, &mut moved)?;
            out.write_all(&frame_bytes).map_err(io_error("write", &new_path))?;
            new_length += frame_bytes.len() as u64;
        }
        if new_length * 2 > length {
            return fs::remove_file(&new_path).map_err(io_error("remove", &new_path));
        }
        let new_file =
            out.into_inner().map_err(|error| io_error("write", &new_path)(error.into_error()))?;
        self.replace(number, &file, new_file, new_length, moved)
    }

    fn rewrite_frame(
        &self,
        file: &SegmentFile,
        blocks: Vec<Block>,
        is_live: &dyn Fn(u16, u32, Offset, &crate::Record) -> bool,
        number: u32,
        frame_at: u64,
        moved: &mut Vec<Block>,
    ) -> LogResult<Vec<u8>> {
        let mut out = Vec::new();
        let start = frame::begin_frame(&mut out);
        for block in blocks {
            match block {
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
                    for (offset, record) in reader::read_block(file, block)? {
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
                    moved.push(Block::Records { topic, partition, block });
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
        old: &SegmentFile,
        new_file: File,
        new_length: u64,
        moved: Vec<Block>,
    ) -> LogResult<()> {
        let new_path = old.path.with_extension("new");
        new_file.sync_all().map_err(io_error("sync", &new_path))?;
        // Without its index file a segment is read whole, so either version of it is sound while
        // the index file is away.
        let index_path = segment::index_path(&self.folder, number);
        let _ = fs::remove_file(&index_path);
        fs::rename(&new_path, &old.path).map_err(io_error("rename", &new_path))?;
        let segment = Arc::new(SegmentFile { path: old.path.clone(), file: new_file });
        {
            let mut index = self.index.write();
            for topic in &mut index.topics {
                for partition in &mut topic.partitions {
                    partition.blocks.retain(|block| block.segment != number);
                }
            }
            for block in moved {
                if let Block::Records { topic, partition, block } = block {
                    let index =
                        &mut index.topics[usize::from(topic)].partitions[partition as usize];
                    let at = index.blocks.partition_point(|known| known.base < block.base);
                    index.blocks.insert(at, block);
                }
            }
            index.segments.insert(number, segment);
        }
        segment::write_index(&self.folder, number, new_length, &self.index.read())
    }

    /// Moves the start of partitions with a retention up to what is still there.
    fn advance_starts(&self) {
        let mut index = self.index.write();
        for topic in &mut index.topics {
            if matches!(topic.declaration.retention, Retention::For(_)) {
                for partition in &mut topic.partitions {
                    partition.start =
                        partition.blocks.first().map_or(partition.end, |block| block.base);
                }
            }
        }
    }
}

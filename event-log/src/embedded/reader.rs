//! Readers of the embedded log: blocks are read whole, checked, and cut at the reader's limits.

use super::{
    files::{OpenFiles, Segment},
    frame,
    index::{BlockRef, Blocks, Index, PartitionIndex},
    index_file::Refs,
};
use crate::{
    LogError, LogReader, LogResult, Offset, ReadBatch, ReadLimit, Record, Retention, StoredRecord,
};
use almanac_errors::Cause;
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::RwLock;
use std::{fs::File, os::unix::fs::FileExt, path::Path, sync::Arc, time::Duration};
use tokio::sync::watch;

pub(super) fn open(
    index: Arc<RwLock<Index>>,
    topic: &str,
    from: &[(u32, Offset)],
    to: Option<Offset>,
) -> LogResult<Box<dyn LogReader>> {
    let (number, name, news) = {
        let index = index.read();
        let (number, found) = index.topic(topic)?;
        for (partition, offset) in from {
            let known = index.partition(topic, *partition)?;
            if *offset > known.end {
                return Err(out_of_range(topic, *partition, *offset, known));
            }
        }
        (number, found.declaration.name.clone(), found.news.subscribe())
    };
    let cursors = from
        .iter()
        .map(|(partition, next)| Cursor { partition: *partition, next: *next, told_end: None })
        .collect();
    let (topic, files) = (number, index.read().files.clone());
    Ok(Box::new(EmbeddedReader { index, files, topic, name, news, cursors, turn: 0, to }))
}

fn out_of_range(topic: &str, partition: u32, offset: Offset, known: &PartitionIndex) -> LogError {
    let (topic, start, end) = (topic.to_owned(), known.start, known.end);
    LogError::OffsetOutOfRange { topic, partition, offset, start, end }
}

struct Cursor {
    partition: u32,
    next: Offset,
    /// The end that the caller was last told about, so that it is told once.
    told_end: Option<Offset>,
}

struct EmbeddedReader {
    index: Arc<RwLock<Index>>,
    files: Arc<OpenFiles>,
    topic: u16,
    name: Arc<str>,
    news: watch::Receiver<u64>,
    cursors: Vec<Cursor>,
    /// The partition that is served first next time, so that none starves.
    turn: usize,
    to: Option<Offset>,
}

#[async_trait]
impl LogReader for EmbeddedReader {
    async fn next(&mut self, limit: ReadLimit, wait: Duration) -> LogResult<ReadBatch> {
        let limit = ReadLimit { records: limit.records.max(1), bytes: limit.bytes.max(1) };
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            // Marked before looking, so that nothing appended meanwhile is missed.
            self.news.mark_unchanged();
            let (found, at_end) = self.find(limit)?;
            if let Some(found) = found {
                let cursor = found.cursor;
                let records = self.load(found, limit).await?;
                self.turn = cursor + 1;
                if !records.is_empty() {
                    return Ok(ReadBatch { records, at_end });
                }
                continue;
            }
            if !at_end.is_empty() {
                return Ok(ReadBatch { records: Vec::new(), at_end });
            }
            let news = tokio::time::timeout_at(deadline, self.news.changed()).await;
            match news {
                Err(_) => return Ok(ReadBatch::default()),
                Ok(Err(_)) => return Err(LogError::Closed),
                Ok(Ok(())) => {}
            }
        }
    }

    fn position(&self, place: usize) -> Option<Offset> {
        self.cursors.get(place)?.told_end
    }
}

/// Neighbouring blocks of one partition in one segment.
struct Found {
    cursor: usize,
    number: u32,
    segment: Arc<Segment>,
    from: Offset,
    end: Offset,
    blocks: FoundBlocks,
}

enum FoundBlocks {
    /// Each with its bytes, where memory has them.
    Known(Vec<(BlockRef, Option<Bytes>)>),
    /// Among these of the index file.
    InFile { first: u32, count: u32 },
}

/// Blocks until the reader's limit is reached.
struct Enough {
    from: Offset,
    end: Offset,
    limit: ReadLimit,
    bytes: usize,
    taken: bool,
}

impl Enough {
    /// Whether this block is still wanted; it counts then.
    fn wants(&mut self, block: &BlockRef) -> bool {
        let next = block.base.max(self.from);
        // The first is wanted however far away it is: removed records leave gaps.
        let has_room =
            self.bytes < self.limit.bytes && next - self.from < self.limit.records as u64;
        let wanted = next < self.end && (has_room || !self.taken);
        self.bytes += block.length as usize;
        self.taken = true;
        wanted
    }
}

impl EmbeddedReader {
    /// The next blocks to read, about as many as the limit takes, and the partitions that turned
    /// out to be at their end.
    fn find(&mut self, limit: ReadLimit) -> LogResult<(Option<Found>, Vec<usize>)> {
        let index = self.index.read();
        let topic = &index.topics[usize::from(self.topic)];
        let mut at_end = Vec::new();
        for step in 0..self.cursors.len() {
            let at = (self.turn + step) % self.cursors.len();
            let cursor = &mut self.cursors[at];
            let partition = &topic.partitions[cursor.partition as usize];
            let end = self.to.map_or(partition.end, |to| to.min(partition.end));
            if cursor.next < partition.start {
                // Where records are kept for a time, these are lost; elsewhere newer ones stand
                // for them.
                if matches!(topic.declaration.retention, Retention::For(_)) {
                    let (number, offset) = (cursor.partition, cursor.next);
                    return Err(out_of_range(&self.name, number, offset, partition));
                }
                cursor.next = partition.start;
            }
            let from = cursor.next;
            if from < end
                && let Some(run) = partition.run_at(from)
                && run.base < end
                && let Some(segment) = index.segments.get(&run.segment)
            {
                let blocks = match &run.blocks {
                    Blocks::File { first, count } => {
                        FoundBlocks::InFile { first: *first, count: *count }
                    }
                    Blocks::Memory(blocks) => {
                        let first = blocks.partition_point(|block| block.last < from);
                        let mut enough = Enough { from, end, limit, bytes: 0, taken: false };
                        let wanted = blocks[first..].iter().take_while(|block| enough.wants(block));
                        let kept = |block: &BlockRef| {
                            (*block, index.tail.get(self.topic, cursor.partition, block))
                        };
                        FoundBlocks::Known(wanted.map(kept).collect())
                    }
                };
                let (number, segment) = (run.segment, segment.clone());
                let found = Found { cursor: at, number, segment, from, end, blocks };
                return Ok((Some(found), at_end));
            }
            if cursor.told_end != Some(end) || self.to.is_some() {
                cursor.told_end = Some(end);
                at_end.push(at);
            }
        }
        Ok((None, at_end))
    }

    /// None, with the cursor where it was, when the cleaner has replaced the segment meanwhile.
    async fn load(&mut self, found: Found, limit: ReadLimit) -> LogResult<Vec<StoredRecord>> {
        let (cursor, number, segment) = (found.cursor, found.number, found.segment.clone());
        let in_memory = match &found.blocks {
            FoundBlocks::Known(blocks) => blocks.iter().all(|(_, kept)| kept.is_some()),
            FoundBlocks::InFile { .. } => false,
        };
        let files = self.files.clone();
        let loaded = if in_memory {
            load(found, limit, &files)
        } else {
            let loading = tokio::task::spawn_blocking(move || load(found, limit, &files));
            let loaded = loading.await.map_err(|_| LogError::Closed)?;
            // What was read, or the damage that was found, may be of the files that came after.
            if !self.index.read().is_current(number, &segment) {
                return Ok(Vec::new());
            }
            loaded
        };
        let (decoded, end) = loaded?;
        let cursor = &mut self.cursors[cursor];
        let mut records = Vec::new();
        let mut bytes = 0;
        let mut next = end;
        for (offset, record) in decoded {
            if offset < cursor.next {
                continue;
            }
            let over = records.len() >= limit.records || bytes >= limit.bytes;
            if over || self.to.is_some_and(|to| offset >= to) {
                next = offset;
                break;
            }
            bytes += record.size();
            records.push(StoredRecord {
                topic: self.name.clone(),
                partition: cursor.partition,
                offset,
                record,
            });
        }
        cursor.next = next;
        Ok(records)
    }
}

/// The records of what was found, and the offset behind them.
fn load(
    found: Found,
    limit: ReadLimit,
    files: &OpenFiles,
) -> LogResult<(Vec<(Offset, Record)>, Offset)> {
    let segment = &*found.segment;
    let blocks = match found.blocks {
        FoundBlocks::Known(blocks) => blocks,
        FoundBlocks::InFile { first, count } => {
            let (file, path) = (files.index(segment)?, segment.index_path());
            let refs_at = segment.refs_at.unwrap_or_default();
            let refs = Refs { file: &file, path: &path, refs_at, segment: found.number };
            let mut enough =
                Enough { from: found.from, end: found.end, limit, bytes: 0, taken: false };
            let blocks = refs.from((first, count), found.from, |block| enough.wants(block))?;
            blocks.into_iter().map(|block| (block, None)).collect()
        }
    };
    let mut records = Vec::new();
    let mut end = found.end;
    for (block, kept) in blocks {
        end = block.last + 1;
        match kept {
            Some(kept) => records.extend(decode(&segment.path, block, kept)?),
            None => {
                let file = files.log(segment)?;
                records.extend(read_block(&file, &segment.path, block)?);
            }
        }
    }
    Ok((records, end))
}

/// Reads and checks one block.
pub(super) fn read_block(
    file: &File,
    path: &Path,
    block: BlockRef,
) -> LogResult<Vec<(Offset, Record)>> {
    let corrupt = |cause: Cause| corrupt(path, block, cause);
    let mut body = vec![0; block.length as usize];
    file.read_exact_at(&mut body, block.position).map_err(|error| corrupt(error.into()))?;
    if crc32c::crc32c(&body) != block.checksum {
        return Err(corrupt("checksum does not match".into()));
    }
    decode(path, block, body.into())
}

fn decode(path: &Path, block: BlockRef, body: Bytes) -> LogResult<Vec<(Offset, Record)>> {
    frame::decode_records(body, block.base)
        .ok_or_else(|| corrupt(path, block, "records do not follow the format".into()))
}

fn corrupt(path: &Path, block: BlockRef, source: Cause) -> LogError {
    let (file, position) = (path.to_owned(), block.position);
    LogError::Corrupt { file, position, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the cleaner has removed more records than a reader takes at once.
    #[test]
    fn the_first_block_is_wanted_behind_any_gap() {
        let block =
            |base, last| BlockRef { segment: 1, base, last, position: 0, length: 100, checksum: 0 };
        let limit = ReadLimit { records: 10, bytes: 1 << 20 };
        let mut enough = Enough { from: 0, end: 1_000, limit, bytes: 0, taken: false };
        assert!(enough.wants(&block(500, 500)));
        assert!(!enough.wants(&block(501, 501)), "the reader comes back for it");
        let mut enough = Enough { from: 500, end: 1_000, limit, bytes: 0, taken: false };
        assert!(enough.wants(&block(490, 505)) && enough.wants(&block(506, 506)));
        let mut enough = Enough { from: 0, end: 500, limit, bytes: 0, taken: false };
        assert!(!enough.wants(&block(500, 500)), "it ends before");
    }
}

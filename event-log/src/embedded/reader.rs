//! Readers of the embedded log: blocks are read whole, checked, and cut at the reader's limits.

use super::{
    frame,
    index::{BlockRef, Index, PartitionIndex, SegmentFile},
};
use crate::{
    LogError, LogReader, LogResult, Offset, ReadBatch, ReadLimit, Record, Retention, StoredRecord,
};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::RwLock;
use std::{os::unix::fs::FileExt, sync::Arc, time::Duration};
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
    Ok(Box::new(EmbeddedReader { index, topic: number, name, news, cursors, turn: 0, to }))
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
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            // Marked before looking, so that nothing appended meanwhile is missed.
            self.news.mark_unchanged();
            let (found, at_end) = self.find(limit)?;
            if let Some((cursor, blocks)) = found {
                let records = self.load(cursor, blocks, limit).await?;
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

/// Neighbouring blocks of one partition, each with its file, and its bytes where memory has them.
type Blocks = Vec<(BlockRef, Arc<SegmentFile>, Option<Bytes>)>;
/// Blocks of a cursor, and the cursors that turned out to be at their end.
type Found = (Option<(usize, Blocks)>, Vec<usize>);

impl EmbeddedReader {
    /// The next blocks to read, about as many as the limit takes, and the partitions that turned
    /// out to be at their end.
    fn find(&mut self, limit: ReadLimit) -> LogResult<Found> {
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
            let mut blocks = Blocks::new();
            let (mut next, mut bytes) = (cursor.next, 0);
            while next < end
                && bytes < limit.bytes
                && next - cursor.next < limit.records as u64
                && let Some(block) = partition.block_at(next)
                && let Some(segment) = index.segments.get(&block.segment)
            {
                next = block.last + 1;
                bytes += block.length as usize;
                let kept = index.tail.get(self.topic, cursor.partition, &block);
                blocks.push((block, segment.clone(), kept));
            }
            if !blocks.is_empty() {
                return Ok((Some((at, blocks)), at_end));
            }
            if cursor.told_end != Some(end) || self.to.is_some() {
                cursor.told_end = Some(end);
                at_end.push(at);
            }
        }
        Ok((None, at_end))
    }

    async fn load(
        &mut self,
        cursor: usize,
        blocks: Blocks,
        limit: ReadLimit,
    ) -> LogResult<Vec<StoredRecord>> {
        let end = blocks.last().map_or(0, |(block, ..)| block.last + 1);
        let in_memory = blocks.iter().all(|(.., kept)| kept.is_some());
        let decode = move || {
            let blocks = blocks.into_iter();
            blocks
                .map(|(block, segment, kept)| decode(&segment, block, kept))
                .collect::<LogResult<Vec<_>>>()
        };
        let decoded = if in_memory {
            decode()?
        } else {
            tokio::task::spawn_blocking(decode).await.map_err(|_| LogError::Closed)??
        };
        let cursor = &mut self.cursors[cursor];
        let mut records = Vec::new();
        let mut bytes = 0;
        let mut next = end;
        for (offset, record) in decoded.into_iter().flatten() {
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

/// Reads and checks one block.
pub(super) fn read_block(
    segment: &SegmentFile,
    block: BlockRef,
) -> LogResult<Vec<(Offset, Record)>> {
    decode(segment, block, None)
}

/// The records of a block, which is read and checked unless its bytes were `kept`.
fn decode(
    segment: &SegmentFile,
    block: BlockRef,
    kept: Option<Bytes>,
) -> LogResult<Vec<(Offset, Record)>> {
    let corrupt = |detail: &str| LogError::Corrupt {
        file: segment.path.clone(),
        position: block.position,
        detail: detail.to_owned(),
    };
    let read = || {
        let mut body = vec![0; block.length as usize];
        segment
            .file
            .read_exact_at(&mut body, block.position)
            .map_err(|error| corrupt(&error.to_string()))?;
        if crc32c::crc32c(&body) != block.checksum {
            return Err(corrupt("checksum does not match"));
        }
        Ok(Bytes::from(body))
    };
    let body = kept.map_or_else(read, Ok)?;
    frame::decode_records(body, block.base)
        .ok_or_else(|| corrupt("records do not follow the format"))
}

//! Where everything is: topics, the runs of each partition, groups' positions. All of it is derived
//! from the segment files.
//!
//! Memory knows each block of the segment that is written, and of the others only from where to where
//! they go: their blocks are in their index files.

use super::{
    files::{OpenFiles, Segment},
    frame::Block,
    index_file::Placed,
    tail::Tail,
};
use crate::{Durability, LogError, LogResult, Offset, Retention, TopicId, TopicSpec};
use std::{collections::HashMap, sync::Arc};
use tokio::sync::watch;

/// A run of records of one partition in a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockRef {
    pub(super) base: Offset,
    /// The last offset that the block covers. Compaction may have removed its record.
    pub(super) last: Offset,
    pub(super) segment: u32,
    pub(super) position: u64,
    pub(super) length: u32,
    pub(super) checksum: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TopicDeclaration {
    pub(super) name: Arc<str>,
    pub(super) id: TopicId,
    pub(super) partitions: u32,
    pub(super) retention: Retention,
    pub(super) durability: Durability,
}

/// The blocks of one partition in one segment.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) segment: u32,
    pub(super) base: Offset,
    /// The last offset that its last block covers.
    pub(super) last: Offset,
    /// Of all its blocks.
    pub(super) bytes: u64,
    pub(super) blocks: Blocks,
}

/// In offset order, not overlapping.
#[derive(Debug)]
pub(super) enum Blocks {
    /// Of the segment that is written, and of one that has no index file.
    Memory(Vec<BlockRef>),
    /// In the segment's index file.
    File { first: u32, count: u32 },
}

#[derive(Debug, Default)]
pub(super) struct PartitionIndex {
    pub(super) start: Offset,
    pub(super) end: Offset,
    /// In offset order, not overlapping.
    pub(super) runs: Vec<Run>,
}

#[derive(Debug)]
pub(super) struct TopicIndex {
    pub(super) declaration: TopicDeclaration,
    pub(super) partitions: Vec<PartitionIndex>,
    /// Counts appends, so that readers wait for news instead of polling.
    pub(super) news: watch::Sender<u64>,
}

pub(super) type PositionKey = (Arc<str>, u16, u32);

#[derive(Debug)]
pub(super) struct Index {
    pub(super) topics: Vec<TopicIndex>,
    pub(super) by_name: HashMap<Arc<str>, u16>,
    /// Next offset by group, topic number and partition.
    pub(super) positions: HashMap<PositionKey, Offset>,
    pub(super) segments: HashMap<u32, Arc<Segment>>,
    pub(super) files: Arc<OpenFiles>,
    pub(super) tail: Tail,
}

impl Index {
    /// Of a log with nothing in it.
    pub(super) fn new(files: OpenFiles, tail: Tail) -> Self {
        Self {
            topics: Vec::new(),
            by_name: HashMap::new(),
            positions: HashMap::new(),
            segments: HashMap::new(),
            files: Arc::new(files),
            tail,
        }
    }

    pub(super) fn topic(&self, name: &str) -> LogResult<(u16, &TopicIndex)> {
        self.by_name
            .get(name)
            .map(|number| (*number, &self.topics[usize::from(*number)]))
            .ok_or_else(|| LogError::UnknownTopic { topic: name.to_owned() })
    }

    pub(super) fn partition(&self, name: &str, partition: u32) -> LogResult<&PartitionIndex> {
        self.topic(name)?
            .1
            .partitions
            .get(partition as usize)
            .ok_or_else(|| LogError::UnknownPartition { topic: name.to_owned(), partition })
    }

    /// Takes in a block found in a file or just written. `false` when it contradicts what is
    /// known, which only damage explains.
    pub(super) fn apply(&mut self, block: Block) -> bool {
        match block {
            Block::Topic { number, declaration } => {
                let known = self.topics.get(usize::from(number)).map(|topic| &topic.declaration);
                match known {
                    Some(known) => *known == declaration,
                    None if usize::from(number) == self.topics.len() => {
                        self.by_name.insert(declaration.name.clone(), number);
                        let mut partitions = Vec::new();
                        partitions
                            .resize_with(declaration.partitions as usize, PartitionIndex::default);
                        let news = watch::Sender::new(0);
                        self.topics.push(TopicIndex { declaration, partitions, news });
                        true
                    }
                    None => false,
                }
            }
            Block::Synced { .. } => true,
            Block::Position { group, topic, partition, next_offset } => {
                self.positions.insert((group, topic, partition), next_offset);
                true
            }
            Block::Records { topic, partition, block } => {
                let index = self
                    .topics
                    .get_mut(usize::from(topic))
                    .and_then(|topic| topic.partitions.get_mut(partition as usize));
                let Some(index) = index else { return false };
                if block.base < index.end || block.last < block.base {
                    return false;
                }
                index.push_block(block);
                true
            }
        }
    }

    /// The blocks of a segment that memory knows, in the order of an index file.
    pub(super) fn blocks_of(&self, segment: u32) -> Vec<Placed> {
        let mut found = Vec::new();
        for (number, topic) in self.topics.iter().enumerate() {
            for (partition, index) in topic.partitions.iter().enumerate() {
                for run in index.runs.iter().filter(|run| run.segment == segment) {
                    if let Blocks::Memory(blocks) = &run.blocks {
                        let placed = |block: &BlockRef| (number as u16, partition as u32, *block);
                        found.extend(blocks.iter().map(placed));
                    }
                }
            }
        }
        found
    }

    /// Puts other runs in the place of those of a segment.
    pub(super) fn put_runs(&mut self, segment: u32, runs: Vec<(u16, u32, Run)>) {
        for partition in self.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            partition.runs.retain(|run| run.segment != segment);
        }
        for (topic, partition, run) in runs {
            let partitions =
                self.topics.get_mut(usize::from(topic)).map(|topic| &mut topic.partitions);
            if let Some(index) = partitions.and_then(|all| all.get_mut(partition as usize)) {
                let at = index.runs.partition_point(|known| known.base < run.base);
                index.runs.insert(at, run);
            }
        }
    }

    /// Whether these are still the files of the segment.
    pub(super) fn is_current(&self, number: u32, segment: &Arc<Segment>) -> bool {
        self.segments.get(&number).is_some_and(|now| Arc::ptr_eq(now, segment))
    }

    pub(super) fn declaration(spec: &TopicSpec, id: TopicId) -> TopicDeclaration {
        TopicDeclaration {
            name: spec.name.as_str().into(),
            id,
            partitions: spec.partitions,
            retention: spec.retention,
            durability: spec.durability,
        }
    }

    pub(super) fn announce(&self, topic: u16) {
        if let Some(topic) = self.topics.get(usize::from(topic)) {
            topic.news.send_modify(|count| *count = count.wrapping_add(1));
        }
    }
}

impl PartitionIndex {
    /// The first run that holds or follows `offset`.
    pub(super) fn run_at(&self, offset: Offset) -> Option<&Run> {
        let at = self.runs.partition_point(|run| run.last < offset);
        self.runs.get(at)
    }

    /// Adds a run behind all others.
    pub(super) fn push(&mut self, run: Run) {
        if self.runs.is_empty() {
            self.start = run.base;
        }
        self.end = run.last + 1;
        self.runs.push(run);
    }

    fn push_block(&mut self, block: BlockRef) {
        let bytes = u64::from(block.length);
        if let Some(run) = self.runs.last_mut()
            && run.segment == block.segment
            && let Blocks::Memory(blocks) = &mut run.blocks
        {
            blocks.push(block);
            (run.last, run.bytes) = (block.last, run.bytes + bytes);
            self.end = block.last + 1;
            return;
        }
        let (segment, base, last) = (block.segment, block.base, block.last);
        self.push(Run { segment, base, last, bytes, blocks: Blocks::Memory(vec![block]) });
    }
}

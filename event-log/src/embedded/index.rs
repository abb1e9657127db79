//! Where everything is: topics, the blocks of each partition, groups' positions. All of it is
//! derived from the segment files.

use super::{frame::Block, tail::Tail};
use crate::{Durability, LogError, LogResult, Offset, Retention, TopicId, TopicSpec};
use std::{collections::HashMap, fs::File, path::PathBuf, sync::Arc};
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

#[derive(Debug, Default)]
pub(super) struct PartitionIndex {
    pub(super) start: Offset,
    pub(super) end: Offset,
    /// In offset order, not overlapping.
    pub(super) blocks: Vec<BlockRef>,
}

#[derive(Debug)]
pub(super) struct TopicIndex {
    pub(super) declaration: TopicDeclaration,
    pub(super) partitions: Vec<PartitionIndex>,
    /// Counts appends, so that readers wait for news instead of polling.
    pub(super) news: watch::Sender<u64>,
}

#[derive(Debug)]
pub(super) struct SegmentFile {
    pub(super) path: PathBuf,
    pub(super) file: File,
}

pub(super) type PositionKey = (Arc<str>, u16, u32);

#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) topics: Vec<TopicIndex>,
    pub(super) by_name: HashMap<Arc<str>, u16>,
    /// Next offset by group, topic number and partition.
    pub(super) positions: HashMap<PositionKey, Offset>,
    pub(super) segments: HashMap<u32, Arc<SegmentFile>>,
    pub(super) tail: Tail,
}

impl Index {
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
                if index.blocks.is_empty() {
                    index.start = block.base;
                }
                index.end = block.last + 1;
                index.blocks.push(block);
                true
            }
        }
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
    /// The first block that holds or follows `offset`.
    pub(super) fn block_at(&self, offset: Offset) -> Option<BlockRef> {
        let at = self.blocks.partition_point(|block| block.last < offset);
        self.blocks.get(at).copied()
    }
}

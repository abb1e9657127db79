//! The newest blocks as they were written, so that who follows the log needs no file.

use super::index::BlockRef;
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};

type Place = (u16, u32);

#[derive(Debug, Default)]
pub(super) struct Tail {
    limit_bytes: usize,
    bytes: usize,
    /// The topic and partition of each block that is kept, oldest first.
    order: VecDeque<Place>,
    blocks: HashMap<Place, VecDeque<(BlockRef, Bytes)>>,
}

impl Tail {
    pub(super) fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, ..Self::default() }
    }

    /// Keeps a block that was just written, and lets go of the oldest beyond the limit.
    pub(super) fn push(&mut self, topic: u16, partition: u32, block: BlockRef, body: Bytes) {
        // One that would push out most others is better read from its file.
        if body.len() > self.limit_bytes / 2 {
            return;
        }
        self.bytes += body.len();
        self.order.push_back((topic, partition));
        self.blocks.entry((topic, partition)).or_default().push_back((block, body));
        while self.bytes > self.limit_bytes
            && let Some(place) = self.order.pop_front()
        {
            let oldest = self.blocks.get_mut(&place).and_then(VecDeque::pop_front);
            self.bytes -= oldest.map_or(0, |(_, body)| body.len());
        }
    }

    /// The body of a block, if it is kept. A block that the cleaner has moved is not.
    pub(super) fn get(&self, topic: u16, partition: u32, block: &BlockRef) -> Option<Bytes> {
        let blocks = self.blocks.get(&(topic, partition))?;
        let at = blocks.binary_search_by_key(&block.base, |(kept, _)| kept.base).ok()?;
        let (kept, body) = &blocks[at];
        (kept == block).then(|| body.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(base: u64) -> BlockRef {
        BlockRef { base, last: base, segment: 1, position: base * 100, length: 10, checksum: 7 }
    }

    #[test]
    fn the_newest_blocks_within_the_limit_are_kept() {
        let mut tail = Tail::new(45);
        for base in 0..3 {
            tail.push(0, 0, block(base), Bytes::from_static(b"0123456789"));
            tail.push(1, 0, block(base), Bytes::from_static(b"abcdefghij"));
        }
        let kept: Vec<(u16, u64)> = [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)]
            .into_iter()
            .filter(|(topic, base)| tail.get(*topic, 0, &block(*base)).is_some())
            .collect();
        assert_eq!(kept, [(0, 1), (1, 1), (0, 2), (1, 2)]);
        assert_eq!(tail.get(1, 0, &block(2)).unwrap(), "abcdefghij");
        assert_eq!(tail.bytes, 40);
    }

    #[test]
    fn what_moved_or_is_too_large_is_not_there() {
        let mut tail = Tail::new(100);
        tail.push(0, 0, block(1), Bytes::from_static(b"0123456789"));
        assert!(tail.get(0, 0, &BlockRef { segment: 2, ..block(1) }).is_none());
        assert!(tail.get(0, 1, &block(1)).is_none());
        tail.push(0, 0, block(2), Bytes::from(vec![0; 60]));
        assert!(tail.get(0, 0, &block(2)).is_none());
    }
}

//! Memory of answers until they are sent.
//!
//! Who asks for four megabytes and takes none of them holds four megabytes. All answers that have
//! memory of their own therefore draw on one budget, and give back what they took with their last
//! byte. A list that finds little left is a shorter page: the rest is behind its cursor.

use crate::v1::MAX_PAGE_BYTES;
use almanac_edge::Problem;
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What each connection may hold beside the budget. Most answers are smaller, and are not counted.
pub(crate) const UNCOUNTED: usize = 64 << 10;
/// A page that grows asks for so much at once.
const STEP: usize = 64 << 10;

pub(crate) struct AnswerMemory {
    free: Arc<Semaphore>,
}

impl AnswerMemory {
    pub(crate) fn new(bytes: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))) }
    }

    /// A page that is going to be put together.
    pub(crate) fn page(&self) -> Room {
        Room { free: self.free.clone(), part: None, bytes: 0, is_short: false }
    }

    /// Memory for an answer of a known length; none is needed for a small one.
    pub(crate) fn part(&self, length: usize) -> Option<Part> {
        if length <= UNCOUNTED {
            return Some(Part(None));
        }
        let length = u32::try_from(length).ok()?;
        self.free.clone().try_acquire_many_owned(length).ok().map(|part| Part(Some(part)))
    }

    /// A text that others have as well, counted as if it had been copied: who does not take it may
    /// be the only one left who holds it.
    pub(crate) fn share(&self, body: &Bytes) -> Option<Bytes> {
        Some(self.part(body.len())?.hold(body.clone()))
    }
}

pub(crate) fn busy() -> Problem {
    Problem::busy("too many large answers wait to be taken")
}

/// A part of the budget.
pub(crate) struct Part(Option<OwnedSemaphorePermit>);

impl Part {
    /// The answer holds the part until its last byte is sent.
    pub(crate) fn hold(self, body: Bytes) -> Bytes {
        match self.0 {
            Some(part) => Bytes::from_owner(CountedBody { body, _part: part }),
            None => body,
        }
    }
}

struct CountedBody {
    body: Bytes,
    _part: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for CountedBody {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

/// What a page has of the budget while it grows.
pub(crate) struct Room {
    free: Arc<Semaphore>,
    part: Option<OwnedSemaphorePermit>,
    bytes: usize,
    is_short: bool,
}

impl Room {
    /// Room for one more item; without it the page ends before that. A page has one item at least.
    pub(crate) fn add(&mut self, bytes: usize) -> bool {
        if self.bytes >= MAX_PAGE_BYTES {
            return false;
        }
        if !self.grow(self.bytes + bytes) {
            self.is_short = true;
            if self.bytes > 0 {
                return false;
            }
        }
        self.bytes += bytes;
        true
    }

    /// An item that was there and is no more.
    pub(crate) fn remove(&mut self, bytes: usize) {
        self.bytes -= bytes;
    }

    /// Whether an item found no room because answers of others wait to be taken.
    pub(crate) fn is_short(&self) -> bool {
        self.is_short
    }

    /// How much more it may have.
    pub(crate) fn left(&self) -> usize {
        MAX_PAGE_BYTES.saturating_sub(self.bytes)
    }

    /// The page as it is sent. That its only item found no room is told.
    pub(crate) fn hold(mut self, body: impl Into<Bytes>) -> Result<Bytes, Problem> {
        let body = body.into();
        if body.len() <= UNCOUNTED {
            return Ok(body);
        }
        // What stands around the items is little.
        if !self.grow(body.len()) && body.len() > self.held().max(UNCOUNTED) + UNCOUNTED {
            return Err(busy());
        }
        let too_much = self.held().saturating_sub(body.len());
        if let Some(part) = &mut self.part {
            drop(part.split(too_much));
        }
        Ok(Part(self.part).hold(body))
    }

    fn held(&self) -> usize {
        self.part.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }

    /// Takes so much in all, if there is as much. A small page takes nothing.
    fn grow(&mut self, bytes: usize) -> bool {
        let held = self.held();
        if bytes <= UNCOUNTED || bytes <= held {
            return true;
        }
        let missing = bytes - held;
        for more in [missing.max(STEP), missing] {
            let Ok(more) = u32::try_from(more) else { return false };
            if let Ok(more) = self.free.clone().try_acquire_many_owned(more) {
                match &mut self.part {
                    None => self.part = Some(more),
                    Some(part) => part.merge(more),
                }
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ITEM: usize = 10_000;

    fn free(memory: &AnswerMemory) -> usize {
        memory.free.available_permits()
    }

    /// A page of as many items as find room, as it is sent.
    fn page(memory: &AnswerMemory) -> Bytes {
        let mut room = memory.page();
        let mut body = Vec::new();
        while room.add(ITEM) {
            body.extend_from_slice(&[b'x'; ITEM]);
        }
        room.hold(body).unwrap()
    }

    #[test]
    fn what_is_not_taken_is_counted() {
        const BUDGET: usize = 10 << 20;
        let memory = AnswerMemory::new(BUDGET);
        // However many do not read, all of them hold no more than the budget and a little each.
        let mut unread: Vec<Bytes> = (0..100).map(|_| page(&memory)).collect();
        let lengths: Vec<usize> = unread.iter().map(Bytes::len).collect();
        assert!(lengths[0] >= MAX_PAGE_BYTES && lengths[1] >= MAX_PAGE_BYTES, "{lengths:?}");
        assert!(lengths[3..].iter().all(|length| (1..=UNCOUNTED).contains(length)), "{lengths:?}");
        let counted: usize = lengths.iter().filter(|length| **length > UNCOUNTED).sum();
        assert_eq!(BUDGET - free(&memory), counted);
        // What is left of a body still counts all of it.
        let mut first = unread.swap_remove(0);
        let before = free(&memory);
        drop(first.split_to(MAX_PAGE_BYTES / 2));
        assert_eq!(free(&memory), before);
        drop(first);
        assert_eq!(free(&memory), before + lengths[0], "the last byte frees it");
        drop(unread);
        assert_eq!(free(&memory), BUDGET);
    }

    #[test]
    fn small_answers_are_always_given() {
        let memory = AnswerMemory::new(0);
        assert_eq!(memory.page().hold("small").unwrap(), "small");
        let mut room = memory.page();
        assert!(room.add(UNCOUNTED / 2) && !room.is_short());
        assert!(!room.add(UNCOUNTED) && room.is_short());
        room.remove(UNCOUNTED / 2);
        // One item that is too large for what is left is no page at all.
        assert!(room.add(UNCOUNTED * 3), "the only one");
        assert_eq!(room.hold(vec![b'x'; UNCOUNTED * 3]).unwrap_err().status(), 503);
        let large = Bytes::from(vec![b'x'; UNCOUNTED + 1]);
        assert!(memory.share(&large).is_none());
        assert_eq!(memory.share(&Bytes::from_static(b"x")).unwrap(), "x");
    }

    #[test]
    fn what_a_page_asked_for_too_much_goes_back() {
        const BUDGET: usize = 1 << 20;
        let memory = AnswerMemory::new(BUDGET);
        let mut room = memory.page();
        assert!((0..20).all(|_| room.add(ITEM)));
        let held = room.hold(vec![b'x'; 20 * ITEM]).unwrap();
        assert_eq!(free(&memory), BUDGET - 20 * ITEM);
        drop(held);
        let shared = memory.share(&Bytes::from(vec![b'x'; 100_000])).unwrap();
        assert_eq!(free(&memory), BUDGET - 100_000);
        drop(shared);
        assert_eq!(free(&memory), BUDGET);
    }
}

//! What one cache is still to be told.

use crate::surrogates::Key;
use std::{
    collections::{BTreeSet, VecDeque},
    mem::take,
    time::{Duration, Instant},
};

/// Keys, each once; of too many of them those of their collections remain.
#[derive(Debug)]
struct Keys {
    keys: BTreeSet<Key>,
    limit: usize,
}

impl Keys {
    /// Whether others had to make room.
    fn add(&mut self, key: Key) -> bool {
        let whole = key.whole();
        if self.keys.contains(&whole) {
            return false;
        }
        if key == whole {
            self.keys.retain(|other| other.whole() != whole);
        }
        self.keys.insert(key);
        let is_full = self.keys.len() > self.limit;
        if is_full {
            self.keys = take(&mut self.keys).into_iter().map(Key::whole).collect();
        }
        is_full
    }
}

#[derive(Debug)]
pub(super) struct Queue {
    waiting: Keys,
    /// What was told, and is told again from a time on.
    repeats: VecDeque<(Instant, BTreeSet<Key>)>,
    limit: usize,
}

/// What is told now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Round {
    pub(super) first: Vec<Key>,
    pub(super) again: Vec<Key>,
}

impl Queue {
    /// Holds so many keys that wait, and as many that were told.
    pub(super) fn new(limit: usize) -> Self {
        let waiting = Keys { keys: BTreeSet::new(), limit };
        Self { waiting, repeats: VecDeque::new(), limit }
    }

    /// Whether others had to make room.
    pub(super) fn add(&mut self, keys: impl IntoIterator<Item = Key>) -> bool {
        // Every one is added, whatever came of those before.
        keys.into_iter().filter(|key| self.waiting.add(*key)).count() > 0
    }

    pub(super) fn repeat(&mut self, at: Instant, keys: &[Key]) {
        self.repeats.push_back((at, keys.iter().copied().collect()));
        if self.repeats.iter().map(|(_, keys)| keys.len()).sum::<usize>() > self.limit {
            let earliest = self.repeats.front().map_or(at, |(at, _)| *at);
            let all = take(&mut self.repeats).into_iter().flat_map(|(_, keys)| keys);
            let all: BTreeSet<Key> = all.map(Key::whole).collect();
            // At both times: those that came first wait no longer for those that came last.
            self.repeats.extend([(earliest, all.clone()), (at, all)]);
        }
    }

    /// How long there is nothing to tell; `None` for as long as nothing is added.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        if !self.waiting.keys.is_empty() {
            return Some(Duration::ZERO);
        }
        self.repeats.front().map(|(at, _)| at.saturating_duration_since(now))
    }

    pub(super) fn take(&mut self, now: Instant) -> Round {
        let first = take(&mut self.waiting.keys);
        let mut again = BTreeSet::new();
        let due = self.repeats.partition_point(|(at, _)| *at <= now);
        for (_, keys) in self.repeats.drain(..due) {
            again.extend(keys.into_iter().filter(|key| !first.contains(key)));
        }
        Round { first: first.into_iter().collect(), again: again.into_iter().collect() }
    }

    pub(super) fn len(&self) -> usize {
        let repeats = self.repeats.iter().map(|(_, keys)| keys.len());
        self.waiting.keys.len() + repeats.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::surrogates::{PLANS, RECIPES};
    use uuid::Uuid;

    fn recipe(number: u128) -> Key {
        Key::one(RECIPES, &Uuid::from_u128(number).to_string()).unwrap()
    }

    #[test]
    fn a_queue_that_is_full_keeps_the_collections() {
        let mut queue = Queue::new(3);
        let now = Instant::now();
        assert_eq!(queue.wait(now), None);
        assert!(!queue.add([recipe(1), recipe(1), recipe(2), Key::lists(PLANS)]));
        assert_eq!((queue.len(), queue.wait(now)), (3, Some(Duration::ZERO)));
        assert!(queue.add([recipe(3)]));
        let all = [Key::all(PLANS), Key::all(RECIPES)];
        // What the collection covers takes no place.
        assert!(!queue.add((10..1_000).map(recipe)));
        assert_eq!(queue.take(now), Round { first: all.into(), again: Vec::new() });
        assert!(!queue.add([recipe(4), Key::all(RECIPES)]));
        assert_eq!(queue.take(now).first, [Key::all(RECIPES)]);
    }

    #[test]
    fn what_was_told_is_told_again() {
        let mut queue = Queue::new(3);
        let now = Instant::now();
        let later = now + Duration::from_secs(2);
        queue.repeat(later, &[recipe(1), recipe(2)]);
        assert_eq!(queue.take(now), Round::default());
        assert_eq!(queue.wait(now), Some(Duration::from_secs(2)));
        queue.add([recipe(2)]);
        let round = Round { first: vec![recipe(2)], again: vec![recipe(1)] };
        assert_eq!(queue.take(later), round);
        assert_eq!((queue.len(), queue.wait(later)), (0, None));
        for number in 0..10 {
            queue.repeat(later, &[recipe(number)]);
        }
        assert!(queue.len() <= 3, "{queue:?}");
        assert!(queue.take(later).again.contains(&Key::all(RECIPES)));
    }
}

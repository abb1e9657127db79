//! Timers of whoever owns a partition. What is due follows from what the log says, so that the next owner
//! sets the same timers, and they fire there: nothing is stored.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
};

/// One timer for each key, each with the time at which it is due.
#[derive(Clone, Debug)]
pub struct Timers<K, T> {
    by_time: BTreeSet<(T, K)>,
    by_key: HashMap<K, T>,
}

impl<K, T> Default for Timers<K, T> {
    fn default() -> Self {
        Self { by_time: BTreeSet::new(), by_key: HashMap::new() }
    }
}

impl<K: Clone + Ord + Hash, T: Copy + Ord> Timers<K, T> {
    /// Sets the key's timer, or moves it.
    pub fn set(&mut self, key: K, due: T) {
        self.cancel(&key);
        self.by_time.insert((due, key.clone()));
        self.by_key.insert(key, due);
    }

    pub fn cancel(&mut self, key: &K) {
        if let Some(due) = self.by_key.remove(key) {
            self.by_time.remove(&(due, key.clone()));
        }
    }

    /// When the first is due.
    pub fn next_due(&self) -> Option<T> {
        self.by_time.first().map(|(due, _)| *due)
    }

    /// Takes out those that are due, the first first.
    pub fn take_due(&mut self, now: T) -> Vec<(K, T)> {
        let mut taken = Vec::new();
        while let Some((due, _)) = self.by_time.first()
            && *due <= now
        {
            let Some((due, key)) = self.by_time.pop_first() else { break };
            self.by_key.remove(&key);
            taken.push((key, due));
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_fire_once_in_the_order_of_their_times() {
        let mut timers = Timers::default();
        for (key, due) in [("a", 30), ("b", 10), ("c", 20), ("d", 10)] {
            timers.set(key, due);
        }
        timers.set("a", 5);
        timers.cancel(&"d");
        timers.cancel(&"never set");
        assert_eq!(timers.next_due(), Some(5));
        assert_eq!(timers.take_due(15), [("a", 5), ("b", 10)]);
        assert_eq!(timers.take_due(15), []);
        assert_eq!(timers.take_due(20), [("c", 20)]);
        assert_eq!(timers.next_due(), None);
    }
}

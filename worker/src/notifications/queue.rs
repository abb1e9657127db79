//! What is to be sent, when, and what is being sent: bounded, and fair between subscriptions.

use almanac_processor::Timers;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use uuid::Uuid;

/// A delivery that is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) subscription: Uuid,
    /// Attempts so far.
    pub(super) attempts: u64,
    pub(super) due_ms: i64,
}

#[derive(Default)]
pub(super) struct Queue {
    pending: HashMap<Uuid, Pending>,
    timers: Timers<Uuid, i64>,
    /// Due, by subscription.
    waiting: BTreeMap<Uuid, VecDeque<Uuid>>,
    /// Being sent, with their subscriptions.
    sending: HashMap<Uuid, Uuid>,
    /// Where the last round ended.
    last: Uuid,
}

impl Queue {
    /// A delivery is to be sent, again where it was tried before. What is known already is not news.
    pub(super) fn set(&mut self, delivery: Uuid, pending: Pending) {
        let known = self.pending.get(&delivery).map(|known| known.attempts);
        if known.is_some_and(|known| known >= pending.attempts) {
            return;
        }
        self.sending.remove(&delivery);
        self.timers.set(delivery, pending.due_ms);
        self.pending.insert(delivery, pending);
    }

    /// A delivery is over.
    pub(super) fn remove(&mut self, delivery: Uuid) {
        self.timers.cancel(&delivery);
        self.sending.remove(&delivery);
        if let Some(pending) = self.pending.remove(&delivery)
            && let Some(waiting) = self.waiting.get_mut(&pending.subscription)
        {
            waiting.retain(|waiting| *waiting != delivery);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn next_due(&self) -> Option<i64> {
        self.timers.next_due()
    }

    /// What to send now: subscriptions take turns, and none has more than its share.
    pub(super) fn start(
        &mut self,
        now_ms: i64,
        at_once: usize,
        of_one: usize,
    ) -> Vec<(Uuid, Pending)> {
        for (delivery, _) in self.timers.take_due(now_ms) {
            if let Some(pending) = self.pending.get(&delivery) {
                self.waiting.entry(pending.subscription).or_default().push_back(delivery);
            }
        }
        let mut busy: HashMap<Uuid, usize> = HashMap::new();
        for subscription in self.sending.values() {
            *busy.entry(*subscription).or_default() += 1;
        }
        let mut started = Vec::new();
        let mut full: HashSet<Uuid> = HashSet::new();
        while self.sending.len() < at_once {
            let is_free = |(subscription, waiting): &(&Uuid, &VecDeque<Uuid>)| {
                !waiting.is_empty() && !full.contains(*subscription)
            };
            let after = (std::ops::Bound::Excluded(self.last), std::ops::Bound::Unbounded);
            let next = self.waiting.range(after).find(is_free);
            let next = next.or_else(|| self.waiting.iter().find(is_free)).map(|(one, _)| *one);
            let Some(subscription) = next else { break };
            let count = busy.entry(subscription).or_default();
            if *count >= of_one {
                full.insert(subscription);
                continue;
            }
            self.last = subscription;
            let waiting = self.waiting.get_mut(&subscription).and_then(VecDeque::pop_front);
            let Some(delivery) = waiting else { continue };
            if let Some(pending) = self.pending.get(&delivery) {
                *count += 1;
                self.sending.insert(delivery, subscription);
                started.push((delivery, *pending));
            }
        }
        self.waiting.retain(|_, waiting| !waiting.is_empty());
        started
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn pending(subscription: u128, attempts: u64, due_ms: i64) -> Pending {
        Pending { subscription: id(subscription), attempts, due_ms }
    }

    fn started(queue: &mut Queue, now_ms: i64, at_once: usize, of_one: usize) -> Vec<u128> {
        let started = queue.start(now_ms, at_once, of_one);
        started.into_iter().map(|(delivery, _)| delivery.as_u128()).collect()
    }

    #[test]
    fn subscriptions_take_turns_within_bounds() {
        let mut queue = Queue::default();
        for delivery in 10..20 {
            queue.set(id(delivery), pending(1, 0, 0));
        }
        queue.set(id(20), pending(2, 0, 0));
        queue.set(id(21), pending(2, 0, 5));
        assert_eq!(
            started(&mut queue, 0, 4, 2),
            [10, 20, 11],
            "one has its share, the other no more"
        );
        assert_eq!(started(&mut queue, 5, 4, 2), [21], "it is due now");
        assert!(started(&mut queue, 5, 4, 2).is_empty());
        queue.remove(id(10));
        assert_eq!(started(&mut queue, 5, 4, 2), [12]);
        assert_eq!(queue.len(), 11);
    }

    #[test]
    fn what_failed_is_sent_again_when_it_is_due() {
        let mut queue = Queue::default();
        queue.set(id(10), pending(1, 0, 0));
        assert_eq!(started(&mut queue, 0, 4, 2), [10]);
        queue.set(id(10), pending(1, 0, 0));
        assert!(started(&mut queue, 1, 4, 2).is_empty(), "it is being sent");
        queue.set(id(10), pending(1, 1, 100));
        assert_eq!(queue.next_due(), Some(100));
        assert!(started(&mut queue, 99, 4, 2).is_empty());
        queue.set(id(10), pending(1, 1, 200));
        assert_eq!(started(&mut queue, 100, 4, 2), [10], "what is known is not news");
        queue.remove(id(10));
        queue.remove(id(10));
        assert_eq!((queue.len(), queue.next_due()), (0, None));
    }

    #[test]
    fn what_is_over_is_not_sent_although_it_waits() {
        let mut queue = Queue::default();
        for delivery in 10..13 {
            queue.set(id(delivery), pending(1, 0, 0));
        }
        assert_eq!(started(&mut queue, 0, 1, 1), [10]);
        queue.remove(id(11));
        queue.remove(id(10));
        assert_eq!(started(&mut queue, 0, 1, 1), [12]);
    }
}

//! Which analysis is next: people before repeats, and turns for callers.

use almanac_domain::analyses::Origin;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};
use uuid::Uuid;

/// An analysis that waits for its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) id: Uuid,
    pub(crate) caller: Arc<str>,
    pub(crate) origin: Origin,
    pub(crate) requested_at: i64,
}

/// Of one class: by caller, the first first.
type Class = BTreeMap<Arc<str>, BTreeSet<(i64, Uuid)>>;

#[derive(Default)]
pub(crate) struct Queue {
    requests: Class,
    repeats: Class,
    running: HashMap<Arc<str>, usize>,
    /// When a caller had its last turn. Who holds nothing and waits for nothing is forgotten.
    turns: HashMap<Arc<str>, u64>,
    turn: u64,
}

impl Queue {
    fn class(&mut self, origin: Origin) -> &mut Class {
        match origin {
            Origin::Request => &mut self.requests,
            Origin::Repeat => &mut self.repeats,
        }
    }

    pub(crate) fn push(&mut self, one: &Waiting) {
        let waiting = self.class(one.origin).entry(one.caller.clone()).or_default();
        waiting.insert((one.requested_at, one.id));
    }

    pub(crate) fn remove(&mut self, one: &Waiting) {
        let class = self.class(one.origin);
        if let Some(waiting) = class.get_mut(&one.caller) {
            waiting.remove(&(one.requested_at, one.id));
            if waiting.is_empty() {
                class.remove(&one.caller);
            }
        }
        self.forget(&one.caller);
    }

    /// The next: of those whose callers have the fewest at work, and fewer than `per_caller`, the caller
    /// whose last turn is the longest ago. It counts as at work until [`Self::done`].
    pub(crate) fn next(&mut self, per_caller: usize) -> Option<Uuid> {
        let class = match self.caller(&self.requests, per_caller) {
            Some(caller) => Some((Origin::Request, caller)),
            None => {
                let caller = self.caller(&self.repeats, per_caller);
                caller.map(|caller| (Origin::Repeat, caller))
            }
        };
        let (origin, caller) = class?;
        let class = self.class(origin);
        let waiting = class.get_mut(&caller)?;
        let (_, id) = waiting.pop_first()?;
        if waiting.is_empty() {
            class.remove(&caller);
        }
        self.turn += 1;
        self.turns.insert(caller.clone(), self.turn);
        *self.running.entry(caller).or_default() += 1;
        Some(id)
    }

    fn caller(&self, class: &Class, per_caller: usize) -> Option<Arc<str>> {
        let held = |caller: &Arc<str>| self.running.get(caller).copied().unwrap_or_default();
        let turn = |caller: &Arc<str>| self.turns.get(caller).copied().unwrap_or_default();
        let callers = class.keys().filter(|caller| held(caller) < per_caller);
        callers.min_by_key(|caller| (held(caller), turn(caller))).cloned()
    }

    /// One of the caller's is no longer at work.
    pub(crate) fn done(&mut self, caller: &Arc<str>) {
        if let Some(running) = self.running.get_mut(caller) {
            *running = running.saturating_sub(1);
            if *running == 0 {
                self.running.remove(caller);
            }
        }
        self.forget(caller);
    }

    fn forget(&mut self, caller: &Arc<str>) {
        let waits = self.requests.contains_key(caller) || self.repeats.contains_key(caller);
        if !waits && !self.running.contains_key(caller) {
            self.turns.remove(caller);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(caller: &str, number: u128, origin: Origin) -> Waiting {
        let (id, requested_at) = (Uuid::from_u128(number), number as i64);
        Waiting { id, caller: caller.into(), origin, requested_at }
    }

    fn queue(waiting: &[(&str, u128, Origin)]) -> Queue {
        let mut queue = Queue::default();
        for (caller, number, origin) in waiting {
            queue.push(&self::waiting(caller, *number, *origin));
        }
        queue
    }

    fn drain(queue: &mut Queue, per_caller: usize) -> Vec<u128> {
        std::iter::from_fn(|| queue.next(per_caller)).map(|id| id.as_u128()).collect()
    }

    #[test]
    fn callers_take_turns_and_people_come_before_repeats() {
        use Origin::{Repeat, Request};
        let mut queue = queue(&[
            ("a", 1, Request),
            ("a", 2, Request),
            ("a", 3, Request),
            ("b", 4, Request),
            ("b", 5, Repeat),
            ("c", 6, Repeat),
            ("c", 7, Request),
        ]);
        assert_eq!(drain(&mut queue, 10), [1, 4, 7, 2, 3, 5, 6]);
    }

    #[test]
    fn a_caller_has_so_many_at_work() {
        use Origin::Request;
        let mut queue = queue(&[("a", 1, Request), ("a", 2, Request), ("a", 3, Request)]);
        assert_eq!(drain(&mut queue, 2), [1, 2]);
        queue.push(&waiting("b", 9, Request));
        assert_eq!(drain(&mut queue, 2), [9]);
        queue.done(&"a".into());
        assert_eq!(drain(&mut queue, 2), [3]);
    }

    #[test]
    fn who_has_nothing_is_forgotten() {
        let one = waiting("a", 1, Origin::Request);
        let mut queue = queue(&[("a", 1, Origin::Request)]);
        assert_eq!(drain(&mut queue, 2), [1]);
        queue.done(&one.caller);
        queue.push(&one);
        queue.remove(&one);
        assert!(queue.turns.is_empty() && queue.running.is_empty() && queue.requests.is_empty());
        assert_eq!(drain(&mut queue, 2), [0_u128; 0]);
    }
}

//! What is open, what of it this process owns, and what of that is at work.

use crate::queue::{Queue, Waiting};
use almanac_event_log::Offset;
use almanac_traces::Parent;
use parking_lot::Mutex;
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// An analysis without an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) waiting: Waiting,
    pub(crate) partition: u32,
    /// Where the request stands in the log, and what it was written in, where that is traced.
    pub(crate) traced: Option<(Offset, Parent)>,
}

#[derive(Default)]
pub(crate) struct Board {
    inner: Mutex<Inner>,
    /// Something may be taken.
    pub(crate) wake: Notify,
}

#[derive(Default)]
struct Inner {
    open: HashMap<Uuid, Entry>,
    owned: BTreeSet<u32>,
    queue: Queue,
    working: usize,
}

struct Entry {
    open: Arc<Open>,
    state: State,
    tries: Tries,
}

/// How often something was tried without an end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tries {
    /// It panicked, or took too long.
    pub(crate) stuck: u32,
    /// What came of it was sent.
    pub(crate) sent: u32,
}

enum State {
    /// Another process owns it.
    Foreign,
    Queued,
    /// Somebody works on it, or waits for its end, until this is cancelled.
    Taken(CancellationToken),
}

/// What somebody took from the board.
pub(crate) struct Taken {
    pub(crate) open: Arc<Open>,
    /// Cancelled when the analysis has ended, or is another process' now.
    pub(crate) stop: CancellationToken,
    pub(crate) tries: Tries,
    turn: Option<Turn>,
}

/// One of the places at work; it is free again when this is dropped.
struct Turn {
    board: Arc<Board>,
    caller: Arc<str>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut inner = self.board.inner.lock();
        inner.queue.done(&self.caller);
        inner.working = inner.working.saturating_sub(1);
        drop(inner);
        self.board.wake.notify_one();
    }
}

impl Taken {
    /// Makes room for another while this one waits.
    pub(crate) fn make_room(&mut self) {
        self.turn = None;
    }
}

/// How much there is of what this process owns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) open: usize,
    pub(crate) working: usize,
    /// When the oldest was requested, in milliseconds.
    pub(crate) oldest: Option<i64>,
}

impl Board {
    /// All that is open, when following begins.
    pub(crate) fn resumed(&self, open: Vec<Open>) {
        let mut inner = self.inner.lock();
        let known: BTreeSet<Uuid> = open.iter().map(|one| one.waiting.id).collect();
        let gone = inner.open.keys().filter(|id| !known.contains(id)).copied();
        for id in gone.collect::<Vec<_>>() {
            inner.remove(id);
        }
        // Who worked before is gone.
        let Inner { open: known, queue, .. } = &mut *inner;
        for entry in known.values_mut() {
            if let State::Taken(stop) = &entry.state {
                stop.cancel();
                entry.state = State::Queued;
                queue.push(&entry.open.waiting);
            }
        }
        for one in open {
            inner.add(one);
        }
        drop(inner);
        self.wake.notify_one();
    }

    pub(crate) fn opened(&self, open: Open) {
        self.inner.lock().add(open);
        self.wake.notify_one();
    }

    pub(crate) fn ended(&self, id: Uuid) {
        self.inner.lock().remove(id);
    }

    pub(crate) fn own(&self, partition: u32) {
        let mut inner = self.inner.lock();
        inner.owned.insert(partition);
        let Inner { open, queue, .. } = &mut *inner;
        for entry in open.values_mut().filter(|entry| entry.open.partition == partition) {
            if matches!(entry.state, State::Foreign) {
                entry.state = State::Queued;
                queue.push(&entry.open.waiting);
            }
        }
        drop(inner);
        self.wake.notify_one();
    }

    pub(crate) fn disown(&self, partition: u32) {
        let mut inner = self.inner.lock();
        inner.owned.remove(&partition);
        let Inner { open, queue, .. } = &mut *inner;
        for entry in open.values_mut().filter(|entry| entry.open.partition == partition) {
            match std::mem::replace(&mut entry.state, State::Foreign) {
                State::Foreign => {}
                State::Queued => queue.remove(&entry.open.waiting),
                State::Taken(stop) => stop.cancel(),
            }
        }
    }

    pub(crate) fn owns(&self, partition: u32) -> bool {
        self.inner.lock().owned.contains(&partition)
    }

    /// The next to work on, while fewer than `at_once` are.
    pub(crate) fn take(self: &Arc<Self>, at_once: usize, per_caller: usize) -> Option<Taken> {
        let mut inner = self.inner.lock();
        if inner.working >= at_once {
            return None;
        }
        let id = inner.queue.next(per_caller)?;
        let Some(entry) = inner.open.get_mut(&id) else {
            // What leaves the board leaves the queue.
            debug_assert!(false, "an analysis is queued that is not open");
            return None;
        };
        let stop = CancellationToken::new();
        entry.state = State::Taken(stop.clone());
        let (open, tries) = (entry.open.clone(), entry.tries);
        let turn = Turn { board: self.clone(), caller: open.waiting.caller.clone() };
        inner.working += 1;
        Some(Taken { open, stop, tries, turn: Some(turn) })
    }

    /// It is to be worked on again, unless it has ended or is another process' by now.
    pub(crate) fn put_back(&self, taken: Taken) {
        {
            let mut inner = self.inner.lock();
            let Inner { open, queue, .. } = &mut *inner;
            // Whoever cancels it has changed its state as well.
            if !taken.stop.is_cancelled()
                && let Some(entry) = open.get_mut(&taken.open.waiting.id)
            {
                entry.state = State::Queued;
                entry.tries = taken.tries;
                queue.push(&entry.open.waiting);
            }
        }
        drop(taken);
        self.wake.notify_one();
    }

    pub(crate) fn load(&self) -> Load {
        let inner = self.inner.lock();
        let owned = || inner.open.values().filter(|one| !matches!(one.state, State::Foreign));
        let oldest = owned().map(|entry| entry.open.waiting.requested_at).min();
        Load { open: owned().count(), working: inner.working, oldest }
    }
}

impl Inner {
    fn add(&mut self, open: Open) {
        let id = open.waiting.id;
        if self.open.contains_key(&id) {
            return;
        }
        let state = match self.owned.contains(&open.partition) {
            true => State::Queued,
            false => State::Foreign,
        };
        if matches!(state, State::Queued) {
            self.queue.push(&open.waiting);
        }
        self.open.insert(id, Entry { open: Arc::new(open), state, tries: Tries::default() });
    }

    fn remove(&mut self, id: Uuid) {
        let Some(entry) = self.open.remove(&id) else { return };
        match entry.state {
            State::Foreign => {}
            State::Queued => self.queue.remove(&entry.open.waiting),
            State::Taken(stop) => stop.cancel(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use almanac_domain::analyses::Origin;

    fn open(number: u128, partition: u32) -> Open {
        let waiting = Waiting {
            id: Uuid::from_u128(number),
            caller: "mary".into(),
            origin: Origin::Request,
            requested_at: number as i64,
        };
        Open { waiting, partition, traced: None }
    }

    fn take(board: &Arc<Board>) -> Option<(u128, Taken)> {
        let taken = board.take(2, 10)?;
        Some((taken.open.waiting.id.as_u128(), taken))
    }

    #[test]
    fn only_what_is_owned_is_taken() {
        let board = Arc::new(Board::default());
        board.resumed(vec![open(1, 0), open(2, 1)]);
        assert!(take(&board).is_none());
        board.own(1);
        let (id, two) = take(&board).unwrap();
        assert_eq!(id, 2);
        board.own(0);
        let (id, one) = take(&board).unwrap();
        assert_eq!(id, 1);
        board.opened(open(3, 0));
        assert!(take(&board).is_none(), "two are at work");
        board.disown(1);
        assert!(two.stop.is_cancelled() && !one.stop.is_cancelled());
        board.put_back(two);
        let (id, three) = take(&board).unwrap();
        assert_eq!(id, 3, "the other is not ours any more");
        assert_eq!(board.load(), Load { open: 2, working: 2, oldest: Some(1) });
        board.own(1);
        drop((one, three));
        assert_eq!(take(&board).unwrap().0, 2);
    }

    #[test]
    fn what_has_ended_is_not_taken_again() {
        let board = Arc::new(Board::default());
        board.own(0);
        board.opened(open(1, 0));
        board.opened(open(1, 0));
        let (_, mut taken) = take(&board).unwrap();
        assert!(take(&board).is_none(), "twice the same event");
        taken.make_room();
        assert_eq!(board.load().working, 0);
        board.put_back(taken);
        let (_, taken) = take(&board).unwrap();
        board.ended(Uuid::from_u128(1));
        assert!(taken.stop.is_cancelled());
        board.put_back(taken);
        assert!(take(&board).is_none());
        board.opened(open(2, 0));
        board.ended(Uuid::from_u128(2));
        assert!(take(&board).is_none());
        assert_eq!(board.load(), Load::default());
    }

    #[test]
    fn following_anew_finds_what_ended_meanwhile() {
        let board = Arc::new(Board::default());
        board.own(0);
        board.resumed(vec![open(1, 0), open(2, 0)]);
        let (_, taken) = take(&board).unwrap();
        board.resumed(vec![open(2, 0)]);
        assert!(taken.stop.is_cancelled());
        let (id, taken) = take(&board).unwrap();
        assert_eq!(id, 2);
        // Whoever worked on it may be gone without a word.
        board.resumed(vec![open(2, 0)]);
        board.put_back(taken);
        assert_eq!(take(&board).unwrap().0, 2);
        assert!(take(&board).is_none());
    }
}

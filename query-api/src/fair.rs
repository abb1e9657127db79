//! Turns for work that looks at much: few at once, and shared between those who ask for them.
//!
//! Whoever holds the fewest turns is given the next one. A party that asks for many at once waits
//! for itself and not in front of others; and some turns are never one party's alone.

use almanac_edge::Party;
use parking_lot::Mutex;
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::sync::oneshot;

#[derive(Clone)]
pub(crate) struct FairTurns {
    shared: Arc<Mutex<Shared>>,
    /// What one party may hold.
    most: usize,
}

struct Shared {
    free: usize,
    parties: HashMap<Party, Queue>,
    /// Numbers those who wait.
    next: u64,
}

#[derive(Default)]
struct Queue {
    held: usize,
    waiting: VecDeque<(u64, oneshot::Sender<Turn>)>,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.held == 0 && self.waiting.is_empty()
    }
}

/// A turn, until it is dropped.
pub(crate) struct Turn {
    turns: FairTurns,
    party: Party,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.give_back(&self.party);
    }
}

impl FairTurns {
    pub(crate) fn new(turns: usize) -> Self {
        let shared = Shared { free: turns, parties: HashMap::new(), next: 0 };
        // A quarter is for others.
        let most = (turns - turns / 4).max(1);
        Self { shared: Arc::new(Mutex::new(shared)), most }
    }

    /// A turn, if one is to be had before `patience` passes.
    pub(crate) async fn take(&self, party: Party, patience: Duration) -> Option<Turn> {
        let (sender, mut receiver) = oneshot::channel();
        {
            let mut shared = self.shared.lock();
            let number = shared.next;
            shared.next += 1;
            shared.parties.entry(party.clone()).or_default().waiting.push_back((number, sender));
        }
        self.hand_out();
        if let Ok(turn) = receiver.try_recv() {
            return Some(turn);
        }
        let turn = tokio::time::timeout(patience, receiver).await;
        if turn.is_err() {
            self.forget(&party);
        }
        turn.ok().and_then(Result::ok)
    }

    fn give_back(&self, party: &Party) {
        {
            let mut shared = self.shared.lock();
            shared.free += 1;
            if let Some(queue) = shared.parties.get_mut(party) {
                queue.held -= 1;
            }
            shared.tidy(party);
        }
        self.hand_out();
    }

    /// Those of a party who gave up.
    fn forget(&self, party: &Party) {
        let mut shared = self.shared.lock();
        if let Some(queue) = shared.parties.get_mut(party) {
            queue.waiting.retain(|(_, sender)| !sender.is_closed());
        }
        shared.tidy(party);
    }

    fn hand_out(&self) {
        loop {
            let next = self.shared.lock().next_of(self.most);
            let Some((party, sender)) = next else { return };
            // Who gave up meanwhile does not take it: it is given back, and goes to the next.
            let _ = sender.send(Turn { turns: self.clone(), party });
        }
    }

    #[cfg(test)]
    fn is_idle(&self, turns: usize) -> bool {
        let shared = self.shared.lock();
        shared.free == turns && shared.parties.is_empty()
    }
}

impl Shared {
    /// Who has the next turn: of those who wait, who holds fewest, and of equals who came first.
    fn next_of(&mut self, most: usize) -> Option<(Party, oneshot::Sender<Turn>)> {
        if self.free == 0 {
            return None;
        }
        // Who left without a word.
        for queue in self.parties.values_mut() {
            queue.waiting.retain(|(_, sender)| !sender.is_closed());
        }
        self.parties.retain(|_, queue| !queue.is_empty());
        let waiting = self.parties.iter().filter(|(_, queue)| queue.held < most);
        let next = waiting
            .filter_map(|(party, queue)| Some((queue.held, queue.waiting.front()?.0, party)))
            .min_by_key(|(held, number, _)| (*held, *number));
        let party = next?.2.clone();
        let queue = self.parties.get_mut(&party)?;
        let (_, sender) = queue.waiting.pop_front()?;
        queue.held += 1;
        self.free -= 1;
        Some((party, sender))
    }

    fn tidy(&mut self, party: &Party) {
        if self.parties.get(party).is_some_and(Queue::is_empty) {
            self.parties.remove(party);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{FutureExt, future::BoxFuture};

    const LONG: Duration = Duration::from_secs(3_600);

    fn party(name: &str) -> Party {
        Party::Subject(name.to_owned())
    }

    /// Somebody who asked: the turn is there, or the future that waits for it.
    fn ask(turns: &FairTurns, name: &str) -> Result<Turn, BoxFuture<'static, Option<Turn>>> {
        let turns = turns.clone();
        let party = party(name);
        let mut asked = async move { turns.take(party, LONG).await }.boxed();
        match (&mut asked).now_or_never() {
            Some(turn) => Ok(turn.unwrap()),
            None => Err(asked),
        }
    }

    #[tokio::test]
    async fn nobody_stands_in_front_of_others() {
        let turns = FairTurns::new(4);
        // One who asks for a hundred has three, and the fourth is for somebody else.
        let (mut held, mut waiting) = (Vec::new(), VecDeque::new());
        for _ in 0..100 {
            match ask(&turns, "greedy") {
                Ok(turn) => held.push(turn),
                Err(asked) => waiting.push_back(asked),
            }
        }
        assert_eq!((held.len(), waiting.len()), (3, 97));
        let other = ask(&turns, "other").ok().expect("a turn is left for who has none");
        let mut third = ask(&turns, "third").err().expect("now all are taken");
        drop(held.pop());
        let third = (&mut third).now_or_never().flatten();
        assert!(third.is_some(), "it comes before 97 of one who has two");
        drop(other);
        let greedy = waiting.pop_front().unwrap().now_or_never().flatten();
        assert!(greedy.is_some(), "nobody else waits");
        // Alone again.
        drop((third, greedy, held));
        let mut left = waiting.len();
        while let Some(next) = waiting.pop_front() {
            drop(next.now_or_never().flatten().expect("in the order they came"));
            left -= 1;
        }
        assert_eq!(left, 0);
        assert!(turns.is_idle(4), "nobody is remembered");
    }

    #[tokio::test]
    async fn who_gives_up_leaves_nothing() {
        let turns = FairTurns::new(1);
        let first = turns.take(party("a"), LONG).await.unwrap();
        assert!(turns.take(party("b"), Duration::from_millis(10)).await.is_none());
        let mut left = ask(&turns, "b").err().unwrap();
        assert!((&mut left).now_or_never().is_none());
        drop(left);
        let mut next = ask(&turns, "c").err().unwrap();
        drop(first);
        let next = (&mut next).now_or_never().flatten();
        assert!(next.is_some(), "a turn is not lost with who left");
        drop(next);
        assert!(turns.is_idle(1));
    }
}

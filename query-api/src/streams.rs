//! Streams of events that are open: each holds a reader of the log, on Kafka a consumer of its own.

use almanac_edge::Party;
use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc};
use tokio_util::sync::CancellationToken;

pub(crate) struct Streams {
    open: Arc<Mutex<Open>>,
    most: usize,
}

#[derive(Default)]
struct Open {
    /// In the order in which they were opened.
    streams: Vec<Stream>,
    next: u64,
}

struct Stream {
    number: u64,
    party: Party,
    ending: CancellationToken,
}

/// A place among them, until it is dropped.
pub(crate) struct Place {
    open: Arc<Mutex<Open>>,
    number: u64,
    ending: CancellationToken,
}

impl Place {
    /// Resolves when the place is given to somebody else.
    pub(crate) async fn is_taken_back(&self) {
        self.ending.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.lock().streams.retain(|stream| stream.number != self.number);
    }
}

impl Streams {
    pub(crate) fn new(most: usize) -> Self {
        Self { open: Arc::default(), most }
    }

    /// A place for one more stream. When all are taken, whoever has the most gives its oldest to
    /// who would have fewer all the same.
    pub(crate) fn open(&self, party: Party) -> Option<Place> {
        let mut open = self.open.lock();
        if open.streams.len() >= self.most {
            let mut numbers: HashMap<&Party, usize> = HashMap::new();
            open.streams.iter().for_each(|one| *numbers.entry(&one.party).or_default() += 1);
            let own = numbers.get(&party).copied().unwrap_or(0);
            let (greedy, most) = numbers.iter().max_by_key(|(_, number)| **number)?;
            if *most < own + 2 {
                return None;
            }
            let oldest = open.streams.iter().position(|one| one.party == **greedy)?;
            open.streams.remove(oldest).ending.cancel();
        }
        let (number, ending) = (open.next, CancellationToken::new());
        open.next += 1;
        open.streams.push(Stream { number, party, ending: ending.clone() });
        Some(Place { open: self.open.clone(), number, ending })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party(name: &str) -> Party {
        Party::Subject(name.to_owned())
    }

    #[test]
    fn who_has_most_makes_room_for_who_has_fewer() {
        let streams = Streams::new(4);
        let mut greedy: Vec<Place> =
            (0..4).map(|_| streams.open(party("greedy")).unwrap()).collect();
        assert!(streams.open(party("greedy")).is_none(), "not for itself");
        let first = streams.open(party("other")).unwrap();
        let taken = |places: &[Place]| -> Vec<bool> {
            places.iter().map(|place| place.ending.is_cancelled()).collect()
        };
        assert_eq!(taken(&greedy), [true, false, false, false], "the oldest");
        // Three to one: the next makes it two to two, and then nobody has too many.
        let second = streams.open(party("other")).unwrap();
        assert_eq!(taken(&greedy), [true, true, false, false]);
        assert!(streams.open(party("other")).is_none());
        assert!(streams.open(party("greedy")).is_none());
        let third = streams.open(party("third")).unwrap();
        assert_eq!(streams.open.lock().streams.len(), 4);
        // A place that was given away is not freed a second time.
        greedy.drain(..2);
        assert_eq!(streams.open.lock().streams.len(), 4);
        drop((first, second, third, greedy));
        assert!(streams.open.lock().streams.is_empty());
    }
}

//! Where a stream of notifications stands: what a client sends back as `Last-Event-ID`.

use almanac_event_log::{Offset, TopicId};
use uuid::Uuid;

/// One topic of events, and the next offset of each of its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// Without the installation's prefix.
    pub(super) name: &'static str,
    pub(super) id: TopicId,
    pub(super) next: Vec<Offset>,
}

/// One event may be told as several notifications: those of the event at the next offset of this
/// partition that were told already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Within {
    pub(super) source: usize,
    pub(super) partition: u32,
    pub(super) told: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) sources: Vec<Source>,
    pub(super) within: Option<Within>,
}

impl Position {
    /// Tells topics from others of the same name, and from another choice of topics.
    fn topics(&self) -> String {
        let ids: Vec<u8> = self.sources.iter().flat_map(|one| one.id.0.into_bytes()).collect();
        Uuid::new_v5(&Uuid::nil(), &ids).simple().to_string()[..12].to_owned()
    }

    pub(super) fn encode(&self) -> String {
        let mut text = self.topics();
        for source in &self.sources {
            let offsets: Vec<String> = source.next.iter().map(Offset::to_string).collect();
            text.push('_');
            text.push_str(&offsets.join("."));
        }
        if let Some(Within { source, partition, told }) = self.within {
            text.push_str(&format!("~{source}.{partition}.{told}"));
        }
        text
    }

    /// Moves to where a text says; false where that is no position in these topics.
    pub(super) fn resume(&mut self, text: &str) -> bool {
        let (text, within) = match text.split_once('~') {
            Some((text, within)) => (text, Some(within)),
            None => (text, None),
        };
        let mut parts = text.split('_');
        if parts.next() != Some(&self.topics()) {
            return false;
        }
        let numbers = |text: &str| -> Option<Vec<u64>> {
            text.split('.').map(|number| number.parse().ok()).collect()
        };
        let Some(next) = parts.map(numbers).collect::<Option<Vec<_>>>() else { return false };
        let fits = next.len() == self.sources.len()
            && next.iter().zip(&self.sources).all(|(next, of)| next.len() == of.next.len());
        if !fits {
            return false;
        }
        self.within = match within.map(numbers) {
            None => None,
            Some(Some(numbers)) => {
                let &[source, partition, told] = &numbers[..] else { return false };
                let source = source as usize;
                let known = self.sources.get(source).map_or(0, |one| one.next.len() as u64);
                if partition >= known {
                    return false;
                }
                Some(Within { source, partition: partition as u32, told: told as usize })
            }
            Some(None) => return false,
        };
        for (source, next) in self.sources.iter_mut().zip(next) {
            source.next = next;
        }
        true
    }

    /// How many notifications of the event at this place were told already.
    pub(super) fn told_of(&self, source: usize, partition: u32, offset: Offset) -> usize {
        let is_here = |within: &Within| {
            let next = self.sources.get(source).and_then(|one| one.next.get(partition as usize));
            within.source == source && within.partition == partition && next == Some(&offset)
        };
        self.within.filter(is_here).map_or(0, |within| within.told)
    }

    /// `told` notifications of this event were told; `None` stands for all.
    pub(super) fn pass(
        &mut self,
        source: usize,
        partition: u32,
        offset: Offset,
        told: Option<usize>,
    ) {
        let next = self.sources.get_mut(source).map(|one| &mut one.next);
        if let Some(next) = next.and_then(|next| next.get_mut(partition as usize)) {
            *next = offset + u64::from(told.is_none());
        }
        let here = |within: &Within| (within.source, within.partition) == (source, partition);
        match told {
            Some(told) => self.within = Some(Within { source, partition, told }),
            None => self.within = self.within.filter(|within| !here(within)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position() -> Position {
        let source = |name, id: u128, next: &[u64]| Source {
            name,
            id: TopicId(Uuid::from_u128(id)),
            next: next.to_vec(),
        };
        let sources = vec![source("a", 1, &[5, 6]), source("b", 2, &[7, 8])];
        Position { sources, within: None }
    }

    #[test]
    fn a_client_goes_on_within_an_event() {
        let mut told = position();
        told.pass(0, 1, 9, None);
        told.pass(1, 0, 11, Some(2));
        let mut again = position();
        assert!(again.resume(&told.encode()), "{}", told.encode());
        assert_eq!(again, told);
        assert_eq!(again.sources[0].next, [5, 10]);
        assert_eq!((again.told_of(1, 0, 11), again.told_of(1, 0, 12)), (2, 0));
        // What comes of other partitions meanwhile changes nothing of that.
        again.pass(0, 0, 5, None);
        assert_eq!(again.told_of(1, 0, 11), 2);
        again.pass(1, 0, 11, None);
        assert_eq!((again.told_of(1, 0, 12), again.within), (0, None));
    }

    #[test]
    fn what_is_no_position_of_these_topics_is_refused() {
        let text = position().encode();
        let mut others = position();
        others.sources[1].id = TopicId(Uuid::from_u128(3));
        assert!(!others.resume(&text), "one was made again");
        others.sources.pop();
        assert!(!others.resume(&text), "other types were asked for");
        for bad in [
            "",
            "x",
            &text[..text.len() - 2],
            &format!("{text}.1"),
            &format!("{text}~1.2.1"),
            &format!("{text}~1"),
            &format!("{text}~a.b.c"),
            &text.replace('7', "x"),
        ] {
            assert!(!position().resume(bad), "{bad}");
        }
    }
}

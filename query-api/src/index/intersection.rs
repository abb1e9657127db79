//! Places that all of several filters select, in order, as far as they are wanted.
//!
//! Each filter selects the places of several sorted lists. They are looked at in windows of the order:
//! what the lists of a filter have in a window becomes a set of bits, in whatever order the lists come,
//! and the sets of all filters are joined. A page that is full after a few windows costs what its
//! windows hold, and one that is never full costs what the lists hold, however many plans there are.

/// Windows double up to this many places: 8 kB of bits, which stay in the nearest cache.
const LARGEST: usize = 1 << 16;
const SMALLEST: usize = 1 << 9;

/// What one filter selects.
pub(crate) struct Union<'f> {
    lists: Vec<&'f [u32]>,
}

impl<'f> Union<'f> {
    pub(crate) fn new(lists: impl Iterator<Item = &'f [u32]>) -> Self {
        Self { lists: lists.filter(|list| !list.is_empty()).collect() }
    }

    /// Only what is in a range of places.
    fn cut(&mut self, from: usize, until: usize) {
        for list in &mut self.lists {
            let start = match list.first() {
                Some(first) if (*first as usize) < from => {
                    list.partition_point(|place| (*place as usize) < from)
                }
                _ => 0,
            };
            let end = match list.last() {
                Some(last) if (*last as usize) >= until => {
                    list.partition_point(|place| (*place as usize) < until)
                }
                _ => list.len(),
            };
            *list = &list[start..end.max(start)];
        }
        self.lists.retain(|list| !list.is_empty());
    }

    /// Takes what is in a window, at the beginning of what is left or, backwards, at its end, and sets
    /// its bits. How much that was.
    fn take(&mut self, from: usize, until: usize, backwards: bool, bits: &mut [u64]) -> usize {
        let mut taken = 0;
        for list in &mut self.lists {
            let mut set = |place: u32| {
                let at = place as usize - from;
                bits[at / 64] |= 1 << (at % 64);
                taken += 1;
            };
            let rest = *list;
            if backwards {
                let mut left = rest.len();
                while left > 0 && rest[left - 1] as usize >= from {
                    left -= 1;
                    set(rest[left]);
                }
                *list = &rest[..left];
            } else {
                let mut start = 0;
                while start < rest.len() && (rest[start] as usize) < until {
                    set(rest[start]);
                    start += 1;
                }
                *list = &rest[start..];
            }
        }
        taken += self.lists.len();
        self.lists.retain(|list| !list.is_empty());
        taken
    }
}

/// Walks the places that all unions have.
pub(crate) struct Intersection<'f> {
    unions: Vec<Union<'f>>,
    backwards: bool,
    /// What was not looked at yet.
    from: usize,
    until: usize,
    size: usize,
    /// Of the window at hand: where it begins, and what is left of it.
    start: usize,
    bits: Vec<u64>,
    joined: Vec<u64>,
}

impl<'f> Intersection<'f> {
    /// Of a range of places; a window of `expected` places is likely to be enough.
    pub(crate) fn new(
        mut unions: Vec<Union<'f>>,
        (from, until): (usize, usize),
        backwards: bool,
        expected: usize,
    ) -> Self {
        unions.iter_mut().for_each(|union| union.cut(from, until));
        Self {
            unions,
            backwards,
            from,
            until: until.max(from),
            size: expected.next_power_of_two().clamp(SMALLEST, LARGEST),
            start: 0,
            bits: Vec::new(),
            joined: Vec::new(),
        }
    }

    /// The next place of the window at hand.
    pub(crate) fn next_in_window(&mut self) -> Option<usize> {
        if self.backwards {
            while let Some(word) = self.bits.last_mut() {
                if *word != 0 {
                    let bit = 63 - word.leading_zeros() as usize;
                    *word &= !(1 << bit);
                    return Some(self.start + (self.bits.len() - 1) * 64 + bit);
                }
                self.bits.pop();
            }
            return None;
        }
        // Forwards the words are turned around, so that the next one is the last, too.
        while let Some(word) = self.bits.last_mut() {
            if *word != 0 {
                let bit = word.trailing_zeros() as usize;
                *word &= *word - 1;
                return Some(self.start + (self.joined.len() - self.bits.len()) * 64 + bit);
            }
            self.bits.pop();
        }
        None
    }

    /// Where the next window begins, or ends if it goes backwards.
    pub(crate) fn edge(&self) -> usize {
        if self.backwards { self.until } else { self.from }
    }

    /// Passes over what is before a place, or from it on if it goes backwards.
    pub(crate) fn skip_to(&mut self, place: usize) {
        if place == self.edge() {
            return;
        }
        if self.backwards {
            self.until = place.clamp(self.from, self.until);
        } else {
            self.from = place.clamp(self.from, self.until);
        }
        let (from, until) = (self.from, self.until);
        self.unions.iter_mut().for_each(|union| union.cut(from, until));
    }

    /// Takes on the next window. How many places of lists were looked at; nothing when none are left.
    pub(crate) fn next_window(&mut self) -> Option<usize> {
        if self.from >= self.until || self.unions.iter().any(|union| union.lists.is_empty()) {
            return None;
        }
        let length = self.size.min(self.until - self.from);
        self.size = (self.size * 2).min(LARGEST);
        let (start, end) = match self.backwards {
            true => (self.until - length, self.until),
            false => (self.from, self.from + length),
        };
        if self.backwards {
            self.until = start
        } else {
            self.from = end
        }
        self.start = start;
        let words = length.div_ceil(64);
        let mut looked = words / 8 + 1;
        self.bits.clear();
        for (number, union) in self.unions.iter_mut().enumerate() {
            let bits = if number == 0 { &mut self.bits } else { &mut self.joined };
            bits.clear();
            bits.resize(words, 0);
            looked += union.take(start, end, self.backwards, bits);
            if number > 0 {
                self.bits.iter_mut().zip(&self.joined).for_each(|(bits, joined)| *bits &= joined);
            }
        }
        if !self.backwards {
            self.joined.resize(words, 0);
            self.bits.reverse();
        }
        Some(looked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn places_of_all_filters_come_in_order(
            lists in prop::collection::vec(prop::collection::vec(prop::collection::btree_set(0_u32..3_000, 0..800), 1..4), 1..4),
            range in (0_usize..3_000, 0_usize..3_100),
            backwards in any::<bool>(),
            expected in 0_usize..3_000,
            skip in prop::option::of(0_usize..3_000),
        ) {
            let sorted: Vec<Vec<Vec<u32>>> = lists
                .iter()
                .map(|of| of.iter().map(|list| list.iter().copied().collect()).collect())
                .collect();
            let unions = sorted.iter().map(|of| Union::new(of.iter().map(Vec::as_slice))).collect();
            let mut intersection = Intersection::new(unions, range, backwards, expected);
            let (mut low, mut high) = (range.0, range.1.max(range.0));
            if let Some(place) = skip {
                intersection.skip_to(place);
                let place = place.clamp(low, high);
                if backwards { high = place } else { low = place }
            }
            let mut found = Vec::new();
            while intersection.next_window().is_some() {
                while let Some(place) = intersection.next_in_window() {
                    found.push(place);
                }
            }
            let has = |of: &Vec<BTreeSet<u32>>, place: u32| of.iter().any(|list| list.contains(&place));
            let wanted: BTreeSet<usize> =
                (low..high).filter(|place| lists.iter().all(|of| has(of, *place as u32))).collect();
            let mut wanted: Vec<usize> = wanted.into_iter().collect();
            if backwards {
                wanted.reverse();
            }
            prop_assert_eq!(found, wanted);
        }
    }
}

//! A field of the rows of an index: its terms, the rows of each term in several orders, and the terms of
//! each row.

use foldhash::{HashMap, HashMapExt};
use std::ops::Range;

/// In place of a term, of a row without one.
const NONE: u32 = u32::MAX;

#[derive(Default)]
pub(crate) struct Field {
    /// All terms, ascending, one after the other, and where each ends.
    texts: String,
    ends: Vec<u32>,
    /// Where the places of each term begin, in every order; one more than there are terms.
    starts: Vec<u32>,
    /// By order: of each term, the places of its rows, ascending, once each.
    places: Vec<Vec<u32>>,
    terms: RowTerms,
}

/// The terms of each row, ascending, once each.
enum RowTerms {
    /// No row has more than one.
    One(Vec<u32>),
    /// All of them, and where those of each row end.
    Several(Vec<u32>, Vec<u32>),
}

impl Default for RowTerms {
    fn default() -> Self {
        Self::One(Vec::new())
    }
}

impl RowTerms {
    fn of(&self, row: u32) -> &[u32] {
        let row = row as usize;
        match self {
            Self::One(terms) => match terms.get(row..=row) {
                Some([NONE]) | None => &[],
                Some(term) => term,
            },
            Self::Several(terms, ends) => {
                let start = row.checked_sub(1).map_or(0, |before| ends[before]);
                &terms[start as usize..ends[row] as usize]
            }
        }
    }

    fn from_pairs(length: usize, pairs: &[(u32, u32)]) -> Self {
        let is_single = pairs.windows(2).all(|two| two[0].0 != two[1].0);
        if is_single {
            let mut terms = vec![NONE; length];
            pairs.iter().for_each(|(row, term)| terms[*row as usize] = *term);
            return Self::One(terms);
        }
        let (mut terms, mut ends) = (Vec::with_capacity(pairs.len()), Vec::with_capacity(length));
        let mut rest = pairs.iter().peekable();
        let mut of_row: Vec<u32> = Vec::new();
        for row in 0..length as u32 {
            of_row.clear();
            while let Some((_, term)) = rest.next_if(|(of, _)| *of == row) {
                of_row.push(*term);
            }
            of_row.sort_unstable();
            of_row.dedup();
            terms.extend_from_slice(&of_row);
            ends.push(terms.len() as u32);
        }
        terms.shrink_to_fit();
        Self::Several(terms, ends)
    }

    fn weight(&self) -> usize {
        match self {
            Self::One(terms) => terms.len() * 4,
            Self::Several(terms, ends) => (terms.len() + ends.len()) * 4,
        }
    }
}

/// Terms of a field, any of which a row must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AnyOf {
    /// Numbers of terms, ascending.
    ranges: Vec<Range<u32>>,
    /// How many rows they have, those with several of them counted as often.
    pub(crate) rows: usize,
    /// How many terms they are.
    pub(crate) terms: usize,
}

impl Field {
    /// Of so many rows, from rows, ascending, each with its terms, which may repeat. Each order names the
    /// row at each of its places, or nothing where that is the row of the same number.
    pub(crate) fn of<'a>(
        length: usize,
        pairs: impl Iterator<Item = (u32, &'a str)>,
        orders: &[Option<&[u32]>],
    ) -> Self {
        let mut known: HashMap<&str, u32> = HashMap::new();
        let mut terms: Vec<&str> = Vec::new();
        let mut found: Vec<(u32, u32)> = Vec::new();
        for (row, text) in pairs {
            let number = *known.entry(text).or_insert_with(|| {
                terms.push(text);
                terms.len() as u32 - 1
            });
            found.push((row, number));
        }
        let mut sorted: Vec<u32> = (0..terms.len() as u32).collect();
        sorted.sort_unstable_by_key(|number| terms[*number as usize]);
        let mut field = Self::default();
        let mut renumbered = vec![0; terms.len()];
        for (place, number) in (0..).zip(&sorted) {
            field.texts.push_str(terms[*number as usize]);
            field.ends.push(field.texts.len() as u32);
            renumbered[*number as usize] = place;
        }
        field.texts.shrink_to_fit();
        found.iter_mut().for_each(|(_, term)| *term = renumbered[*term as usize]);
        field.terms = RowTerms::from_pairs(length, &found);
        drop(found);
        let mut counts = vec![0_u32; terms.len()];
        for row in 0..length as u32 {
            field.terms.of(row).iter().for_each(|term| counts[*term as usize] += 1);
        }
        field.starts.push(0);
        let mut total = 0;
        field.starts.extend(counts.into_iter().map(|count| {
            total += count;
            total
        }));
        field.places = orders.iter().map(|rows| field.places_in(length, *rows)).collect();
        field
    }

    fn places_in(&self, length: usize, rows: Option<&[u32]>) -> Vec<u32> {
        let mut next = self.starts.clone();
        let mut places = vec![0; self.starts.last().copied().unwrap_or(0) as usize];
        for place in 0..length as u32 {
            for term in self.terms.of(rows.map_or(place, |rows| rows[place as usize])) {
                let next = &mut next[*term as usize];
                places[*next as usize] = place;
                *next += 1;
            }
        }
        places
    }

    fn term(&self, number: usize) -> &str {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.texts[start as usize..self.ends[number] as usize]
    }

    /// The terms of a row.
    pub(crate) fn terms_of(&self, row: u32) -> impl Iterator<Item = &str> {
        self.terms.of(row).iter().map(|term| self.term(*term as usize))
    }

    fn first(&self, is_before: impl Fn(&str) -> bool) -> u32 {
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = (low + high) / 2;
            if is_before(self.term(middle)) { low = middle + 1 } else { high = middle }
        }
        low as u32
    }

    fn any_of(&self, ranges: Vec<Range<u32>>) -> AnyOf {
        let rows = |range: &Range<u32>| {
            self.starts[range.end as usize] as usize - self.starts[range.start as usize] as usize
        };
        let (rows, terms) = (ranges.iter().map(rows).sum(), ranges.iter().map(Range::len).sum());
        AnyOf { ranges, rows, terms }
    }

    /// The terms among these that there are.
    pub(crate) fn these<'t>(&self, texts: impl IntoIterator<Item = &'t String>) -> AnyOf {
        let numbers = texts.into_iter().filter_map(|text| {
            let number = self.first(|term| term < text.as_str());
            let is_there =
                (number as usize) < self.ends.len() && self.term(number as usize) == text;
            is_there.then_some(number..number + 1)
        });
        let mut ranges: Vec<_> = numbers.collect();
        ranges.sort_unstable_by_key(|range| range.start);
        ranges.dedup();
        self.any_of(ranges)
    }

    /// All terms that begin so.
    pub(crate) fn beginning(&self, text: &str) -> AnyOf {
        let from = self.first(|term| term < text);
        let until = self.first(|term| term < text || term.starts_with(text));
        self.any_of(std::iter::once(from..until).collect())
    }

    /// Whether a row has any of them.
    pub(crate) fn has(&self, row: u32, wanted: &AnyOf) -> bool {
        let is_wanted = |term: &u32| match &wanted.ranges[..] {
            [range] => range.contains(term),
            ranges => {
                let before = ranges.partition_point(|range| range.end <= *term);
                ranges.get(before).is_some_and(|range| range.contains(term))
            }
        };
        self.terms.of(row).iter().any(is_wanted)
    }

    /// The places of the rows of each, in an order.
    pub(crate) fn lists<'f>(
        &'f self,
        order: usize,
        wanted: &AnyOf,
    ) -> impl Iterator<Item = &'f [u32]> {
        let places = &self.places[order];
        wanted.ranges.iter().flat_map(Range::clone).map(|term| {
            let (start, end) = (self.starts[term as usize], self.starts[term as usize + 1]);
            &places[start as usize..end as usize]
        })
    }

    /// Bytes in memory, about.
    pub(crate) fn weight(&self) -> usize {
        let places: usize = self.places.iter().map(Vec::len).sum();
        self.texts.len() + (self.ends.len() + self.starts.len() + places) * 4 + self.terms.weight()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn rows_are_found_by_their_terms(
            rows in prop::collection::vec(prop::collection::vec("[a-c豆]{1,3}", 0..5), 0..40),
            most in 1_usize..5,
            wanted in "[a-c豆]{0,3}",
            others in prop::collection::btree_set("[a-c豆]{1,2}", 0..3),
        ) {
            let pairs = || (0_u32..).zip(&rows).flat_map(|(row, terms)| {
                terms.iter().take(most).map(move |term| (row, term.as_str()))
            });
            let reversed: Vec<u32> = (0..rows.len() as u32).rev().collect();
            let field = Field::of(rows.len(), pairs(), &[None, Some(&reversed)]);
            let check = |any_of: &AnyOf, has: &dyn Fn(&str) -> bool| -> Result<(), TestCaseError> {
                let expected: BTreeSet<u32> =
                    pairs().filter(|(_, term)| has(term)).map(|(row, _)| row).collect();
                for (order, row_at) in [(0, None), (1, Some(&reversed))] {
                    let lists = field.lists(order, any_of);
                    let mut found = BTreeSet::new();
                    for list in lists {
                        prop_assert!(list.is_sorted_by(|one, other| one < other));
                        found.extend(list.iter().map(|place| {
                            row_at.map_or(*place, |rows: &Vec<u32>| rows[*place as usize])
                        }));
                    }
                    prop_assert_eq!(&found, &expected);
                }
                for row in 0..rows.len() as u32 {
                    prop_assert_eq!(field.has(row, any_of), expected.contains(&row));
                }
                prop_assert!(any_of.rows >= expected.len());
                Ok(())
            };
            check(&field.beginning(&wanted), &|term| term.starts_with(&wanted))?;
            check(&field.these(&others), &|term| others.contains(term))?;
        }
    }
}

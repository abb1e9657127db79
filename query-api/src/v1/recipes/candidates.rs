//! Who answers every question: the answers to each, which are in the order of ids, joined by leaps.
//!
//! Where one question's answers lack an id, all others go on at the next that they have. Two answers
//! of a million recipes each are then read at most once, in long runs, to find out that nobody gives
//! both; and one page reads a part of that only.

use super::{AHEAD, cache::Answers};
use crate::v1::store_problem;
use almanac_edge::Problem;
use almanac_read_store::{ReadStore, Slice, Table};
use almanac_tables::recipes::listed_buckets;
use futures::TryStreamExt;
use std::sync::Arc;
use uuid::Uuid;

/// Reads of the questions' tables for one page; more than there may be questions, so that each page
/// gets further.
const MAX_READS: usize = 128;
/// Rows of such a read: fewer where leaps are wide, and most of what a read brings is leapt over.
const MIN_ROWS: usize = 64;
const MAX_ROWS: usize = 1_024;

/// The answers to one question, from some id on.
pub(super) struct Side<'a> {
    table: &'a Table,
    answer: &'a str,
    at_hand: Arc<Answers>,
    place: usize,
    /// How often something was looked for in what is at hand.
    visits: usize,
}

enum Sought {
    Found(Uuid),
    None,
    /// Behind what is at hand: only the table knows.
    Beyond,
}

impl<'a> Side<'a> {
    /// `first` are the first answers that there are.
    pub(super) fn new(table: &'a Table, answer: &'a str, first: Arc<Answers>) -> Self {
        Self { table, answer, at_hand: first, place: 0, visits: 0 }
    }

    /// The first answer that is not below `target`.
    fn seek(&mut self, target: Uuid) -> Sought {
        self.visits += 1;
        let ids = &self.at_hand.ids;
        self.place += ids[self.place..].partition_point(|id| *id < target);
        match ids.get(self.place) {
            Some(id) => Sought::Found(*id),
            None if self.at_hand.is_complete => Sought::None,
            None => Sought::Beyond,
        }
    }

    async fn read(&mut self, store: &dyn ReadStore, from: Uuid) -> Result<(), Problem> {
        let limit = (self.visits * MIN_ROWS).min(MAX_ROWS);
        let read = Answers::read(store, self.table, self.answer, Some(from), limit).await?;
        (self.at_hand, self.place, self.visits) = (Arc::new(read), 0, 0);
        Ok(())
    }
}

enum Leap {
    /// Everybody has the id.
    Match,
    /// Nobody between is had by all.
    To(Uuid),
    /// Nor is anybody later.
    End,
    /// Nothing is read any more.
    Spent,
}

/// Looks for recipes that answer every question, in the order of their ids.
pub(super) struct Candidates<'a> {
    store: &'a dyn ReadStore,
    listed: &'a Table,
    sides: Vec<Side<'a>>,
    /// The least id that was not looked at.
    next: Option<Uuid>,
    reads_left: usize,
}

impl<'a> Candidates<'a> {
    /// Those after `after`. Without any question that is all recipes, as `listed` has them.
    pub(super) fn new(
        store: &'a dyn ReadStore,
        listed: &'a Table,
        mut sides: Vec<Side<'a>>,
        after: Option<Uuid>,
    ) -> Self {
        // The one that fewest answer leads: its leaps are the widest.
        sides.sort_by_key(|side| (!side.at_hand.is_complete, side.at_hand.ids.len()));
        let next = after.map_or(Some(Uuid::nil()), successor);
        Self { store, listed, sides, next, reads_left: MAX_READS }
    }

    /// The next ids. Fewer than `wanted` are the last ones, or as many as one page reads for.
    pub(super) async fn take(&mut self, wanted: usize) -> Result<Vec<Uuid>, Problem> {
        if self.sides.is_empty() {
            return self.take_listed(wanted).await;
        }
        let mut found = Vec::new();
        while let Some(target) = self.next
            && found.len() < wanted
        {
            match self.leap(target).await? {
                Leap::Match => {
                    found.push(target);
                    self.next = successor(target);
                }
                Leap::To(further) => self.next = Some(further),
                Leap::End => self.next = None,
                Leap::Spent => break,
            }
        }
        Ok(found)
    }

    /// The id up to which everything was looked at; `None` when nothing comes any more.
    pub(super) fn through(&self) -> Option<Uuid> {
        self.next.map(|next| Uuid::from_u128(next.as_u128().saturating_sub(1)))
    }

    async fn leap(&mut self, target: Uuid) -> Result<Leap, Problem> {
        for side in &mut self.sides {
            let mut sought = side.seek(target);
            if matches!(sought, Sought::Beyond) {
                if self.reads_left == 0 {
                    return Ok(Leap::Spent);
                }
                self.reads_left -= 1;
                side.read(self.store, target).await?;
                sought = side.seek(target);
            }
            match sought {
                Sought::Found(id) if id == target => {}
                Sought::Found(id) => return Ok(Leap::To(id)),
                Sought::None | Sought::Beyond => return Ok(Leap::End),
            }
        }
        Ok(Leap::Match)
    }

    async fn take_listed(&mut self, wanted: usize) -> Result<Vec<Uuid>, Problem> {
        let Some(next) = self.next else { return Ok(Vec::new()) };
        let slice = Slice { from: Some(next.to_string()), limit: wanted, ..Slice::all() };
        let slices = self.store.slices(self.listed, listed_buckets().collect(), &slice, AHEAD);
        let rows: Vec<_> = slices.try_collect().await.map_err(|error| store_problem(&error))?;
        let rows = rows.iter().flat_map(|(_, rows)| rows);
        let mut ids: Vec<Uuid> = rows.filter_map(|row| row.clustering.parse().ok()).collect();
        ids.sort_unstable();
        ids.truncate(wanted);
        let last = ids.last().filter(|_| ids.len() == wanted);
        self.next = last.and_then(|last| successor(*last));
        Ok(ids)
    }
}

pub(super) fn successor(id: Uuid) -> Option<Uuid> {
    id.as_u128().checked_add(1).map(Uuid::from_u128)
}

#[cfg(test)]
mod tests {
    use super::*;
    use almanac_read_store::{Change, Write, embedded::EmbeddedStore};
    use almanac_tables::recipes::answer_partition;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn table(name: &str) -> Table {
        Table::new(name, 1).unwrap()
    }

    fn text(id: u128) -> String {
        Uuid::from_u128(id).to_string()
    }

    async fn store(answers: &[(&str, &BTreeSet<u128>)]) -> (tempfile::TempDir, EmbeddedStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(folder.path(), 1 << 20).unwrap();
        store.create_table(&table("tags")).await.unwrap();
        store.create_table(&table("listed")).await.unwrap();
        let write = |name: &str, partition: String, id: u128| {
            let clustering = text(id);
            let change = Change::Put { partition, clustering, timestamp: 1, body: "{}".into() };
            Write { table: table(name), change }
        };
        for (answer, ids) in answers {
            let writes = ids.iter().flat_map(|&id| {
                let listed = write("listed", format!("{:x}", id & 0xf), id);
                [write("tags", answer_partition(answer, &text(id)), id), listed]
            });
            store.write(writes.collect()).await.unwrap();
        }
        (folder, store)
    }

    /// All that is found by whoever follows pages to their end, and how many there were.
    async fn found(
        store: &EmbeddedStore,
        answers: &[&str],
        wanted: usize,
        kept: usize,
        reads: usize,
    ) -> (Vec<u128>, usize) {
        let (tags, listed) = (table("tags"), table("listed"));
        let (mut found, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let mut sides = Vec::new();
            for &answer in answers {
                let first = Answers::read(store, &tags, answer, None, kept).await.unwrap();
                sides.push(Side::new(&tags, answer, Arc::new(first)));
            }
            let mut candidates = Candidates::new(store, &listed, sides, after);
            candidates.reads_left = reads;
            pages += 1;
            let ids = candidates.take(wanted).await.unwrap();
            assert!(ids.len() <= wanted);
            found.extend(ids.iter().map(Uuid::as_u128));
            let through = candidates.through();
            assert!(through.is_none() || through > after, "a page that leads nowhere");
            after = through;
            if after.is_none() {
                return (found, pages);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn what_is_found_is_what_all_have(
            one in proptest::collection::btree_set(0_u128..1_500, 0..600),
            two in proptest::collection::btree_set(0_u128..1_500, 0..600),
            three in proptest::collection::btree_set(700_u128..3_000, 0..900),
            wanted in 1_usize..60,
            kept in 1_usize..100,
            // One for each question is what a page needs to get further.
            reads in 3_usize..8,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let sets = [("one", &one), ("two", &two), ("three", &three)];
                let (_folder, store) = store(&sets).await;
                let two_of_all = one.intersection(&two).copied().collect::<Vec<_>>();
                let all_of_all: Vec<_> =
                    two_of_all.iter().copied().filter(|id| three.contains(id)).collect();
                let union: BTreeSet<_> = one.iter().chain(&two).chain(&three).copied().collect();
                for (answers, expected) in [
                    (&["one"][..], one.iter().copied().collect()),
                    (&["one", "two"], two_of_all),
                    (&["three", "one", "two"], all_of_all),
                    (&["one", "nobody"], Vec::new()),
                    (&[], union.into_iter().collect()),
                ] {
                    let (found, _) = found(&store, answers, wanted, kept, reads).await;
                    assert_eq!(found, expected, "{answers:?}");
                }
            });
        }
    }

    #[tokio::test]
    async fn answers_without_a_recipe_in_common_are_not_read_one_by_one() {
        // By turns, with last digits that spread them over all partitions.
        let id = |number: u128| number << 4 | (number / 2) & 0xf;
        let even = (0..20_000).map(|number| id(2 * number)).collect();
        let odd = (0..20_000).map(|number| id(2 * number + 1)).collect();
        let (_folder, store) = store(&[("even", &even), ("odd", &odd)]).await;
        let (common, pages) = found(&store, &["even", "odd"], 51, 4_096, MAX_READS).await;
        assert_eq!((common, pages), (Vec::new(), 1), "forty reads are enough");
        // Of what one page may read, nothing is left for the second half.
        let (common, pages) = found(&store, &["even", "odd"], 51, 4_096, 20).await;
        assert_eq!((common, pages), (Vec::new(), 2));
    }

    #[tokio::test]
    async fn the_last_id_of_all_ends_the_search() {
        let ids = BTreeSet::from([0, u128::MAX]);
        let (_folder, store) = store(&[("one", &ids)]).await;
        assert_eq!(found(&store, &["one"], 1, 1, 1).await.0, [0, u128::MAX]);
        assert_eq!(found(&store, &[], 1, 1, 1).await.0, [0, u128::MAX]);
    }
}

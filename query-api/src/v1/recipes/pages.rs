//! First pages of single questions as they are sent: the rows of a partition, joined once.
//!
//! A page is good while every generation it was made of is still the one.

use super::Recipes;
use super::cache::{RecipeCache, Slot};
use bytes::Bytes;
use std::sync::Arc;

pub(crate) struct Page {
    pub(super) body: Bytes,
    pub(super) tag: String,
    pub(super) sources: Sources,
}

/// What a page is being made of. Each source is noted before it is looked at, so that a change
/// meanwhile shows.
#[derive(Default)]
pub(crate) struct Sources(Vec<(Slot, u32)>);

impl Sources {
    pub(super) fn note(&mut self, cache: &RecipeCache, slot: Slot) {
        self.0.push((slot, cache.generation(slot)));
    }

    fn are_unchanged(&self, cache: &RecipeCache) -> bool {
        self.0.iter().all(|(slot, seen)| cache.generation(*slot) == *seen)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl RecipeCache {
    /// The page that answers this query, if it is kept and fresh.
    pub(super) fn page(&self, state: &Recipes, query: &str) -> Option<Arc<Page>> {
        let is_fed = state.is_fed();
        let page = self.pages.get(query).filter(|_| is_fed)?;
        page.sources.are_unchanged(self).then_some(page)
    }

    pub(super) fn keep_page(&self, query: &str, page: Page) {
        self.pages.insert(query.into(), Arc::new(page));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use almanac_schemas::projections::TableChangeRecord;
    use almanac_tables::recipes::Question;
    use uuid::Uuid;

    #[test]
    fn any_change_of_a_source_ends_a_page() {
        let cache = RecipeCache::new(1 << 20);
        let (shown, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let noted = || {
            let mut sources = Sources::default();
            sources.note(&cache, Slot::of_answer(Question::Tag, "quick"));
            sources.note(&cache, Slot::of_document(&shown));
            sources
        };
        let change = |table: &str, partitions: &[&str], keys: &[Uuid]| {
            let sources = noted();
            cache.changed(&TableChangeRecord {
                table: table.to_owned(),
                partitions: partitions.iter().map(|&one| one.to_owned()).collect(),
                keys: keys.iter().map(Uuid::to_string).collect(),
            });
            sources.are_unchanged(&cache)
        };
        assert!(change("recipes", &[], &[other]));
        assert!(change("recipes_by_tag", &["slow/3"], &[]));
        assert!(!change("recipes", &[], &[shown]));
        assert!(!change("recipes_by_tag", &["quick/3"], &[]));
    }
}

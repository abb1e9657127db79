//! Recipes and answers to questions in memory, as far as the change feed keeps them fresh.
//!
//! An entry is good while the generation of its slot is the one it was loaded under. The feed
//! moves generations on before anybody learns that newer rows are there, so that a load which a
//! change overtook is never served to who waited for that change.

use super::{AHEAD, Recipes, pages::Page};
use crate::v1::store_problem;
use almanac_domain::recipes::Knowledge;
use almanac_edge::Problem;
use almanac_read_store::{ReadStore, Slice, Table};
use almanac_schemas::{json::recipes as json, projections::TableChangeRecord};
use almanac_tables::recipes::{Question, answer_of, answer_partitions, id_bucket};
use bytes::Bytes;
use foldhash::quality::RandomState;
use futures::TryStreamExt;
use http::HeaderValue;
use quick_cache::{Weighter, sync::Cache};
use serde::Deserialize;
use std::{
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Ids of one answer that are kept; the others are read when they are asked for.
const KEPT_IDS: usize = 4_096;
const SLOTS: usize = 1 << 16;

/// One of as many generations as a `u16` tells apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot(u16);

impl Slot {
    pub(super) fn of_document(id: &Uuid) -> Self {
        Self::of(u64::MAX, id.as_bytes())
    }

    pub(super) fn of_answer(question: Question, answer: &str) -> Self {
        Self::of(question as u64, answer.as_bytes())
    }

    fn of(table: u64, key: &[u8]) -> Self {
        Self(xxh3_64_with_seed(key, table) as u16)
    }
}

const WORD: u64 = 8;

/// A recipe as it is served.
pub(crate) struct Document {
    pub(super) body: Bytes,
    pub(crate) tag: HeaderValue,
    /// What is still known of one that is deleted.
    pub(super) deleted: Option<Deleted>,
}

#[derive(Deserialize)]
pub(super) struct Deleted {
    pub(super) owner: String,
    thumbnail: Option<String>,
}

impl Document {
    pub(super) fn parse(body: Bytes) -> Self {
        let deleted = body.starts_with(b"{\"deleted\":true");
        // One that cannot be read is nobody's.
        let nobodys = || Deleted { owner: String::new(), thumbnail: None };
        let deleted = deleted.then(|| serde_json::from_slice(&body).unwrap_or_else(|_| nobodys()));
        let text = std::str::from_utf8(&body).unwrap_or_default();
        let version = text.split("\"version\":").nth(1);
        let version = version.and_then(|rest| rest.split([',', '}']).next()).unwrap_or("0");
        let tag = HeaderValue::try_from(format!("\"{version}\""));
        Self { tag: tag.unwrap_or(HeaderValue::from_static("\"0\"")), body, deleted }
    }

    /// Nothing of one that is deleted.
    pub(super) fn version(&self) -> Option<u64> {
        self.deleted.is_none().then(|| self.newest())
    }

    /// The number of its newest event, deleted or not.
    pub(super) fn newest(&self) -> u64 {
        let tag = self.tag.to_str().unwrap_or_default();
        tag.trim_matches('"').parse().unwrap_or_default()
    }

    /// Hash of its picture. What stands before the name is ours: no text of a user comes earlier.
    pub(super) fn thumbnail(&self) -> Option<&str> {
        if let Some(deleted) = &self.deleted {
            return deleted.thumbnail.as_deref();
        }
        let text = std::str::from_utf8(&self.body).ok()?;
        let (ours, _) = text.split_once(",\"name\":")?;
        ours.split_once("/thumbnail?v=")?.1.split('"').next()
    }

    pub(super) fn known(&self) -> Option<Knowledge> {
        json::read_rendered(std::str::from_utf8(&self.body).ok()?)
    }
}

/// Which recipes answer a question in a certain way, in the order of their ids.
pub(super) struct Answers {
    pub(super) ids: Vec<Uuid>,
    /// Otherwise there are more after the last.
    pub(super) is_complete: bool,
}

impl Answers {
    /// About `limit`, from an id on.
    pub(super) async fn read(
        store: &dyn ReadStore,
        table: &Table,
        answer: &str,
        from: Option<Uuid>,
        limit: usize,
    ) -> Result<Self, Problem> {
        let partitions: Vec<String> = answer_partitions(answer).collect();
        // Ids are spread evenly: each partition has about its part.
        let part = limit.div_ceil(partitions.len());
        let from = from.map(|from| from.to_string());
        let slice = Slice { from, limit: part, ..Slice::all() };
        let runs: Vec<_> = store
            .slices(table, partitions, &slice, AHEAD)
            .try_collect()
            .await
            .map_err(|error| store_problem(&error))?;
        let mut ids: Vec<Uuid> = Vec::with_capacity(runs.iter().map(|(_, rows)| rows.len()).sum());
        // What lies behind the end of a run that was cut is not known.
        let mut known_through: Option<Uuid> = None;
        for (_, rows) in &runs {
            ids.extend(rows.iter().filter_map(|row| row.clustering.parse::<Uuid>().ok()));
            if rows.len() == part
                && let Some(&end) = ids.last()
            {
                known_through = Some(known_through.map_or(end, |through| through.min(end)));
            }
        }
        ids.sort_unstable();
        if let Some(through) = known_through {
            ids.truncate(ids.partition_point(|id| *id <= through));
        }
        Ok(Self { is_complete: known_through.is_none(), ids })
    }
}

#[derive(Clone)]
struct Entry<V> {
    generation: u32,
    value: V,
}

type AnswerKey = (Question, Box<str>);

#[derive(Clone)]
pub(super) struct Weights;

impl Weighter<Uuid, Entry<Arc<Document>>> for Weights {
    fn weight(&self, _: &Uuid, entry: &Entry<Arc<Document>>) -> u64 {
        entry.value.body.len() as u64 + 20 * WORD
    }
}

impl Weighter<AnswerKey, Entry<Arc<Answers>>> for Weights {
    fn weight(&self, key: &AnswerKey, entry: &Entry<Arc<Answers>>) -> u64 {
        (key.1.len() + 16 * entry.value.ids.len()) as u64 + 20 * WORD
    }
}

impl Weighter<Box<str>, Arc<Page>> for Weights {
    fn weight(&self, query: &Box<str>, page: &Arc<Page>) -> u64 {
        (query.len() + page.body.len() + 8 * page.sources.len()) as u64 + 20 * WORD
    }
}

pub(crate) struct RecipeCache {
    generations: Box<[AtomicU32]>,
    documents: Weighted<Uuid, Entry<Arc<Document>>>,
    answers: Weighted<AnswerKey, Entry<Arc<Answers>>>,
    pub(super) pages: Weighted<Box<str>, Arc<Page>>,
}

type Weighted<K, V> = Cache<K, V, Weights, RandomState>;

/// Holds so many bytes; an entry has about `each`.
fn cache<K: Eq + Hash, V: Clone>(bytes: u64, each: u64) -> Weighted<K, V>
where
    Weights: Weighter<K, V>,
{
    let entries = (bytes / each).clamp(64, 1 << 22) as usize;
    Cache::with(entries, bytes, Weights, RandomState::default(), Default::default())
}

impl RecipeCache {
    pub(crate) fn new(bytes: usize) -> Self {
        let bytes = bytes as u64;
        Self {
            generations: (0..SLOTS).map(|_| AtomicU32::new(0)).collect(),
            documents: cache(bytes / 2, 1_024),
            answers: cache(bytes / 4, 512),
            pages: cache(bytes / 4, 16_384),
        }
    }

    pub(super) fn generation(&self, slot: Slot) -> u32 {
        self.generations[usize::from(slot.0)].load(Ordering::Acquire)
    }

    fn end_generation(&self, slot: Slot) {
        self.generations[usize::from(slot.0)].fetch_add(1, Ordering::AcqRel);
    }

    /// Takes in what the change feed says of one table.
    pub(crate) fn changed(&self, change: &TableChangeRecord) {
        for id in change.keys.iter().filter_map(|key| key.parse().ok()) {
            self.end_generation(Slot::of_document(&id));
        }
        if let Some(question) = Question::of_table(&change.table) {
            for partition in &change.partitions {
                self.end_generation(Slot::of_answer(question, answer_of(partition)));
            }
        }
    }

    /// Forgets everything: changes may have been missed.
    pub(crate) fn clear(&self) {
        for generation in &self.generations {
            generation.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// A recipe, if it is in memory and fresh.
    pub(super) fn kept(&self, state: &Recipes, id: Uuid) -> Option<Arc<Document>> {
        let is_fed = state.is_fed();
        let entry = self.documents.get(&id).filter(|_| is_fed)?;
        (entry.generation == self.generation(Slot::of_document(&id))).then_some(entry.value)
    }

    /// A recipe, from memory or from its row; `None` when there never was one.
    pub(crate) async fn document(
        &self,
        state: &Recipes,
        id: Uuid,
    ) -> Result<Option<Arc<Document>>, Problem> {
        let generation = self.generation(Slot::of_document(&id));
        if let Some(document) = self.kept(state, id) {
            return Ok(Some(document));
        }
        let text = id.to_string();
        let found = state.store.get(&state.tables.recipes, id_bucket(&text), &text).await;
        let Some(row) = found.map_err(|error| store_problem(&error))? else { return Ok(None) };
        // The row may share its memory with others that came along with it, which would all stay.
        let body = Bytes::copy_from_slice(&row.body);
        let value = Arc::new(Document::parse(body));
        state.index.seen(id, &value);
        self.documents.insert(id, Entry { generation, value: value.clone() });
        Ok(Some(value))
    }

    /// Who answers, if that is in memory and fresh.
    pub(super) fn kept_answers(
        &self,
        state: &Recipes,
        question: Question,
        answer: &str,
    ) -> Option<Arc<Answers>> {
        let is_fed = state.is_fed();
        let entry = self.answers.get(&(question, answer.into())).filter(|_| is_fed)?;
        let generation = self.generation(Slot::of_answer(question, answer));
        (entry.generation == generation).then_some(entry.value)
    }

    /// Who answers, from memory or from the question's table.
    pub(super) async fn answers(
        &self,
        state: &Recipes,
        question: Question,
        answer: &str,
    ) -> Result<Arc<Answers>, Problem> {
        let generation = self.generation(Slot::of_answer(question, answer));
        if let Some(kept) = self.kept_answers(state, question, answer) {
            return Ok(kept);
        }
        let key = (question, answer.into());
        let table = state.tables.of_question(question);
        let value = Arc::new(Answers::read(&*state.store, table, answer, None, KEPT_IDS).await?);
        self.answers.insert(key, Entry { generation, value: value.clone() });
        Ok(value)
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        self.documents.weight() + self.answers.weight() + self.pages.weight()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_before_the_name_is_ours() {
        let hash = "00ff";
        let body = format!(
            "{{\"id\":\"a\",\"version\":12,\"thumbnail\":\"/v1/recipes/a/thumbnail?v={hash}\",\"name\":\"x\"}}"
        );
        let document = Document::parse(body.into());
        assert_eq!(document.thumbnail(), Some(hash));
        assert_eq!(document.tag, "\"12\"");
        let sly = "{\"id\":\"a\",\"version\":1,\"thumbnail\":null,\"name\":\"/thumbnail?v=1\"}";
        assert_eq!(Document::parse(sly.into()).thumbnail(), None);
        let gone = r#"{"deleted":true,"id":"a","version":2,"thumbnail":"00ff","owner":"m\"a"}"#;
        let gone = Document::parse(gone.into());
        assert_eq!((gone.thumbnail(), &gone.tag), (Some(hash), &HeaderValue::from_static("\"2\"")));
        assert_eq!(gone.deleted.unwrap().owner, "m\"a");
    }

    #[test]
    fn changes_end_what_was_loaded_before() {
        let cache = RecipeCache::new(1 << 20);
        let id = Uuid::from_u128(1);
        let generation = |cache: &RecipeCache| {
            let answer = cache.generation(Slot::of_answer(Question::Tag, "quick"));
            (cache.generation(Slot::of_document(&id)), answer)
        };
        let before = generation(&cache);
        cache.changed(&TableChangeRecord {
            table: "recipes".to_owned(),
            partitions: Vec::new(),
            keys: vec![id.to_string(), "no id".to_owned()],
        });
        assert_eq!(generation(&cache), (before.0 + 1, before.1));
        cache.changed(&TableChangeRecord {
            table: "recipes_by_tag".to_owned(),
            partitions: vec!["quick/3".to_owned()],
            keys: Vec::new(),
        });
        assert_eq!(generation(&cache), (before.0 + 1, before.1 + 1));
        cache.clear();
        assert_eq!(generation(&cache), (before.0 + 2, before.1 + 2));
    }
}

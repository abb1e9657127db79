//! What recipes are written in: units, limits, and the words in use.

use super::AHEAD;
use super::Recipes;
use crate::v1::store_problem;
use almanac_domain::{
    recipes::{Difficulty, Unit, limits},
    text,
};
use almanac_edge::{
    Problem, conditional,
    query::{Parameters, bad},
};
use almanac_read_store::{ReadStore, Slice};
use almanac_tables::recipes::{Question, vocabulary};
use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use futures::TryStreamExt;
use http::HeaderMap;
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// Words of each kind in one answer; `prefix` narrows them.
const MAX_WORDS: usize = 500;
/// Rows read of each partition at once, and how often for one kind of words.
const PART: usize = 128;
const ROUNDS: usize = 16;
/// Words of one kind that are looked for among recipes. Each is remembered, so that asking again
/// gets further.
const CHECKS: usize = 32;

pub(crate) async fn vocabulary(
    State(state): State<Arc<Recipes>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let parameters = Parameters::parse(query.as_deref(), &["prefix"])?;
    let prefix = parameters.one("prefix")?.unwrap_or_default();
    if prefix.chars().count() > limits::WORD {
        let detail = format!("it must not be longer than {} characters", limits::WORD);
        return Err(bad("prefix", &detail));
    }
    let prefix = text::fold(prefix);
    let units: Vec<_> = Unit::ALL
        .iter()
        .map(|unit| json!({"unit": unit.as_str(), "meaning": unit.meaning()}))
        .collect();
    let limits: Map<String, Value> =
        limits::ALL.iter().map(|(name, limit)| ((*name).to_owned(), (*limit).into())).collect();
    let difficulties = Difficulty::ALL.map(Difficulty::as_str);
    let mut body = json!({"units": units, "difficulties": difficulties, "limits": limits});
    let _turn = state.turn(&headers).await?;
    let mut is_cut = false;
    for (question, name) in Question::PUBLISHED {
        let (words, has_more) = in_use(&state, question, name, &prefix).await?;
        body[format!("{name}s")] = words.into();
        is_cut |= has_more;
    }
    body["has_more"] = is_cut.into();
    Ok(conditional::json(&headers, body.to_string()))
}

/// The words that some recipe answers with now, and whether there are more.
async fn in_use(
    state: &Recipes,
    question: Question,
    kind: &str,
    prefix: &str,
) -> Result<(Vec<String>, bool), Problem> {
    let mut words = Vec::new();
    let mut checks = CHECKS;
    let mut from = prefix.to_owned();
    for _ in 0..ROUNDS {
        let (found, next) = read(state, kind, prefix, from).await?;
        for (word, is_in_use) in found {
            let is_in_use = match is_in_use {
                true => true,
                // Some recipe that nothing tells of here may still have it.
                false => match is_answered(state, question, &word, &mut checks).await? {
                    Some(is_answered) => is_answered,
                    None => return Ok((words, true)),
                },
            };
            if is_in_use {
                if words.len() == MAX_WORDS {
                    return Ok((words, true));
                }
                words.push(word);
            }
        }
        match next {
            Some(next) => from = next,
            None => return Ok((words, false)),
        }
    }
    Ok((words, true))
}

/// Words from `from` on, in order, each with whether some row says that it is in use; and where to
/// go on when there may be more.
async fn read(
    state: &Recipes,
    kind: &str,
    prefix: &str,
    from: String,
) -> Result<(BTreeMap<String, bool>, Option<String>), Problem> {
    // A word has a row for each source partition at most, so that every round gets further.
    let part = PART.max(2 * state.progress.partitions() as usize);
    let slice = Slice { from: Some(from), limit: part, ..Slice::prefix(prefix) };
    let partitions = vocabulary::partitions(kind).collect();
    let store: &dyn ReadStore = &*state.store;
    let runs = store.slices(&state.tables.vocabulary, partitions, &slice, AHEAD);
    let runs: Vec<_> = runs.try_collect().await.map_err(|error| store_problem(&error))?;
    let mut words: BTreeMap<String, bool> = BTreeMap::new();
    let mut next: Option<String> = None;
    for (_, rows) in runs {
        let is_cut = rows.len() == part;
        let mut last = None;
        for row in rows {
            let Some((word, is_in_use)) = vocabulary::read(&row.clustering, &row.body) else {
                continue;
            };
            last = Some(word.clone());
            *words.entry(word).or_default() |= is_in_use;
        }
        // Of the last word of a run that was cut, and of what follows, not all is known.
        if is_cut && let Some(last) = last {
            next = Some(next.map_or(last.clone(), |next| next.min(last)));
        }
    }
    if let Some(next) = &next {
        drop(words.split_off(next));
    }
    Ok((words, next))
}

/// Whether some recipe has the word; `None` when that is not in memory, and no more may be looked at.
async fn is_answered(
    state: &Recipes,
    question: Question,
    word: &str,
    checks: &mut usize,
) -> Result<Option<bool>, Problem> {
    let answers = match state.cache.kept_answers(state, question, word) {
        Some(kept) => kept,
        None if *checks == 0 => return Ok(None),
        None => {
            *checks -= 1;
            state.cache.answers(state, question, word).await?
        }
    };
    Ok(Some(!answers.ids.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Installation, installation};
    use std::sync::atomic::Ordering;

    async fn put(
        installation: &Installation,
        kind: &str,
        word: &str,
        partition: u32,
        in_use: bool,
    ) {
        let row = vocabulary::row(kind, word, partition, in_use);
        let table = &installation.recipes.tables.vocabulary;
        let (partition, key, body) = row;
        installation.store.put(table, &partition, &key, 1, body).await;
    }

    async fn ask(installation: &Installation, prefix: &str) -> (Vec<String>, bool) {
        in_use(&installation.recipes, Question::Tag, "tag", prefix).await.unwrap()
    }

    #[tokio::test]
    async fn many_words_take_few_slices() {
        let installation = installation().await;
        for number in 0..700 {
            for partition in 0..2 {
                put(&installation, "tag", &format!("w{number:03}"), partition, true).await;
            }
        }
        let (words, has_more) = ask(&installation, "").await;
        let expected: Vec<String> = (0..MAX_WORDS).map(|number| format!("w{number:03}")).collect();
        assert_eq!((words, has_more), (expected, true));
        let slices = installation.store.slices.swap(0, Ordering::Relaxed);
        assert!(slices <= 16, "{slices} slices");
        let (words, has_more) = ask(&installation, "w69").await;
        assert_eq!((words.len(), has_more), (10, false));
        let slices = installation.store.slices.swap(0, Ordering::Relaxed);
        assert!(slices <= 8, "{slices} slices");
    }

    #[tokio::test]
    async fn words_that_were_dropped_are_looked_for_within_bounds() {
        let installation = installation().await;
        for number in 0..40 {
            put(&installation, "tag", &format!("gone{number:02}"), 0, false).await;
        }
        put(&installation, "tag", "kept", 0, false).await;
        put(&installation, "tag", "kept", 1, false).await;
        put(&installation, "tag", "used", 0, false).await;
        put(&installation, "tag", "used", 1, true).await;
        // A recipe that nothing tells of here has this one.
        let id = uuid::Uuid::from_u128(1).to_string();
        let table = installation.recipes.tables.of_question(Question::Tag);
        let partition = almanac_tables::recipes::answer_partition("kept", &id);
        installation.store.put(table, &partition, &id, 1, "{}").await;
        installation.state.feed_alive.store(true, Ordering::Relaxed);

        let (words, has_more) = ask(&installation, "").await;
        assert_eq!((words.len(), has_more), (0, true), "as far as one answer looks");
        let slices = installation.store.slices.load(Ordering::Relaxed);
        assert!(slices <= 8 + CHECKS * 8, "{slices} slices");
        // What was found out is remembered.
        let (words, has_more) = ask(&installation, "").await;
        assert_eq!(words, ["kept", "used"]);
        assert!(!has_more);
    }
}

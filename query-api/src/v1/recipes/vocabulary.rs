//! What recipes are written in: units, limits, and the words in use.

use super::AHEAD;
use crate::{state::ApiState, v1::store_problem};
use almanac_domain::{
    recipes::{Difficulty, Unit, limits},
    text,
};
use almanac_edge::{
    Problem, conditional,
    query::{Parameters, bad},
};
use almanac_projector::recipes::Question;
use almanac_read_store::Slice;
use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use futures::{StreamExt, TryStreamExt};
use http::HeaderMap;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Words of each kind in one answer; `prefix` narrows them.
const MAX_WORDS: usize = 500;

pub(crate) async fn vocabulary(
    State(state): State<Arc<ApiState>>,
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
    let _turn = state.turn().await?;
    let mut is_cut = false;
    for (question, name) in Question::PUBLISHED {
        let (words, has_more) = in_use(&state, question, name, &prefix).await?;
        body[format!("{name}s")] = words.into();
        is_cut |= has_more;
    }
    body["has_more"] = is_cut.into();
    Ok(conditional::json(&headers, body.to_string()))
}

/// The words that some recipe answers with now, of those that were ever used.
async fn in_use(
    state: &ApiState,
    question: Question,
    name: &str,
    prefix: &str,
) -> Result<(Vec<String>, bool), Problem> {
    let slice = Slice { limit: MAX_WORDS + 1, ..Slice::prefix(prefix) };
    let rows = state.store.slice(&state.recipes.vocabulary, name, &slice).await;
    let mut rows = rows.map_err(|error| store_problem(&error))?;
    let has_more = rows.len() > MAX_WORDS;
    rows.truncate(MAX_WORDS);
    let words = futures::stream::iter(rows)
        .map(|row| async {
            let answers = state.recipe_cache.answers(state, question, &row.clustering).await?;
            Ok::<_, Problem>((!answers.ids.is_empty()).then_some(row.clustering))
        })
        .buffered(AHEAD);
    let words: Vec<Option<String>> = words.try_collect().await?;
    Ok((words.into_iter().flatten().collect(), has_more))
}

//! `/v1/recipes`: single recipes, their history, and questions that combine.

use super::{cursor, store_problem};
use crate::state::ApiState;
use almanac_domain::{recipes::limits, text};
use almanac_edge::{
    Problem, ProblemType, conditional,
    query::{Parameters, bad},
};
use almanac_projector::{
    history,
    recipes::{Question, history_bucket, id_bucket, listed_buckets},
};
use almanac_read_store::Slice;
use almanac_schemas::json::recipes as json;
use axum::{
    body::Body,
    extract::{Path, RawQuery, State},
    response::Response,
};
use futures::{StreamExt, TryStreamExt};
use http::HeaderMap;
use std::{collections::BTreeSet, sync::Arc};
use uuid::Uuid;

/// Reads under way at once for one request.
const AHEAD: usize = 8;
/// Candidates that one page looks at; then it ends, however short, with a cursor to go on.
const MAX_SCANNED: usize = 5_000;

fn missing() -> Problem {
    Problem::new(ProblemType::NotFound, "there is no recipe with this id")
}

fn parse_id(id: &str) -> Result<String, Problem> {
    Ok(id.parse::<Uuid>().map_err(|_| missing())?.to_string())
}

/// The row of a recipe; `Err` when it is deleted or was never there.
async fn row(state: &ApiState, id: &str) -> Result<String, Problem> {
    let found = state.store.get(&state.recipes.recipes, id_bucket(id), id).await;
    let row = found.map_err(|error| store_problem(&error))?.ok_or_else(missing)?;
    let body = String::from_utf8(row.body.to_vec()).map_err(|error| Problem::internal(&error))?;
    if body.starts_with("{\"deleted\":true") {
        return Err(Problem::new(ProblemType::Gone, "the recipe was deleted"));
    }
    Ok(body)
}

pub(crate) async fn one(
    State(state): State<Arc<ApiState>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let parameters = Parameters::parse(query.as_deref(), &["serves", "version"])?;
    let id = parse_id(&id)?;
    let number = |name: &str, most: u64| match parameters.one(name)? {
        None => Ok(None),
        Some(text) => match text.parse() {
            Ok(number) if (1..=most).contains(&number) => Ok(Some(number)),
            _ => Err(bad(name, &format!("it must be a number from 1 to {most}"))),
        },
    };
    let serves = number("serves", limits::SERVES as u64)?;
    let version: Option<u64> = number("version", u64::MAX)?;
    let mut body = match version {
        None => row(&state, &id).await?,
        Some(version) => old(&state, &id, version).await?,
    };
    if let Some(serves) = serves {
        let damaged = || Problem::internal(&format!("row of recipe {id} cannot be read"));
        let known = json::read_rendered(&body).ok_or_else(damaged)?;
        let scaled = known.recipe.scaled(u32::try_from(serves).unwrap_or(u32::MAX));
        let scaled = scaled.ok_or_else(|| {
            let detail = "the recipe does not say whom it serves, so that it cannot be scaled";
            Problem::new(ProblemType::Conflict, detail)
        })?;
        let known = almanac_domain::recipes::Knowledge { recipe: scaled, ..known };
        body = json::render(&id, &known);
        return Ok(conditional::json(&headers, body));
    }
    let version = body.split("\"version\":").nth(1).and_then(|rest| rest.split([',', '}']).next());
    let tag = format!("\"{}\"", version.unwrap_or("0"));
    Ok(conditional::tagged(&headers, &tag, || Body::from(body)))
}

/// The recipe as it was after one of its events.
async fn old(state: &ApiState, id: &str, version: u64) -> Result<String, Problem> {
    let (bucket, key) = (history_bucket(id, version), history::key(id, version));
    let found = state.store.get(&state.recipes.history, &bucket, &key).await;
    let row = found.map_err(|error| store_problem(&error))?;
    let row = row.ok_or_else(|| {
        Problem::new(ProblemType::NotFound, "there is no such version of a recipe with this id")
    })?;
    let text = std::str::from_utf8(&row.body).map_err(|error| Problem::internal(&error))?;
    let recipe = text.split_once(RECIPE).map(|(_, recipe)| &recipe[..recipe.len() - 1]);
    recipe.map(str::to_owned).ok_or_else(|| Problem::internal(&"a row of history has no recipe"))
}

/// What stands before the recipe in a row of history: names of fields hold no such thing.
const RECIPE: &str = ",\"recipe\":";

pub(crate) async fn history(
    State(state): State<Arc<ApiState>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let parameters = Parameters::parse(query.as_deref(), &["limit", "cursor"])?;
    let limit = parameters.limit()?;
    let id = parse_id(&id)?;
    let first = match parameters.one("cursor")? {
        Some(text) => cursor::decode(&id, text)?.parse().unwrap_or(0_u64).saturating_add(1),
        None => 1,
    };
    let bucket = |version| history_bucket(&id, version);
    let rows = super::history::rows(&state, &state.recipes.history, bucket, &id, first, limit);
    let rows = rows.await?;
    let mut items: Vec<String> = rows
        .iter()
        .filter_map(|row| {
            let text = std::str::from_utf8(&row.body).ok()?;
            Some(format!("{}}}", text.split_once(RECIPE)?.0))
        })
        .collect();
    if items.is_empty() && first == 1 {
        return Err(missing());
    }
    let more = items.len() > limit;
    items.truncate(limit);
    let last = first + items.len() as u64 - u64::from(!items.is_empty());
    let next = if more {
        format!("\"{}\"", cursor::encode(&id, &last.to_string()))
    } else {
        "null".into()
    };
    let body = format!("{{\"items\":[{}],\"next_cursor\":{next}}}", items.join(","));
    Ok(conditional::json(&headers, body))
}

const KNOWN: &[&str] = &[
    "ingredient",
    "without_ingredient",
    "author",
    "difficulty",
    "tool",
    "tag",
    "max_total_time",
    "q",
    "limit",
    "cursor",
];

/// What is asked for.
struct Asked {
    /// Each must be answered.
    questions: Vec<(Question, String)>,
    without: BTreeSet<String>,
    max_total_s: Option<u32>,
}

impl Asked {
    fn parse(parameters: &Parameters) -> Result<Self, Problem> {
        const MAX_QUESTIONS: usize = 20;
        let mut questions = Vec::new();
        for (name, question) in [
            ("ingredient", Question::Ingredient),
            ("author", Question::Author),
            ("difficulty", Question::Difficulty),
            ("tool", Question::Tool),
            ("tag", Question::Tag),
        ] {
            for value in parameters.all(name) {
                let folded = text::fold(value);
                if folded.is_empty() || value.len() > 400 {
                    return Err(bad(name, "it must not be blank or longer than 400 bytes"));
                }
                questions.push((question, folded));
            }
        }
        if let Some(wanted) = parameters.one("q")? {
            questions.extend(text::words(wanted).into_iter().map(|word| (Question::Word, word)));
        }
        let without: BTreeSet<String> =
            parameters.all("without_ingredient").map(text::fold).collect();
        if questions.len() > MAX_QUESTIONS || without.len() > MAX_QUESTIONS {
            let detail = format!("at most {MAX_QUESTIONS} questions combine");
            return Err(Problem::new(ProblemType::BadRequest, detail));
        }
        let max_total_s = match parameters.one("max_total_time")? {
            None => None,
            Some(text) => Some(json::duration_seconds(text).ok_or_else(|| {
                bad("max_total_time", "it must be an ISO 8601 duration such as PT30M")
            })?),
        };
        Ok(Self { questions, without, max_total_s })
    }

    /// What the tables of the questions do not tell. Unknown times fail.
    fn accepts(&self, body: &str) -> bool {
        if self.without.is_empty() && self.max_total_s.is_none() {
            return true;
        }
        let Some(known) = json::read_rendered(body) else { return false };
        let ingredients = Question::Ingredient.answers(&known.recipe);
        ingredients.is_disjoint(&self.without)
            && self
                .max_total_s
                .is_none_or(|most| known.recipe.times.total_s().is_some_and(|total| total <= most))
    }
}

pub(crate) async fn list(
    State(state): State<Arc<ApiState>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let parameters = Parameters::parse(query.as_deref(), KNOWN)?;
    let limit = parameters.limit()?;
    let asked = Asked::parse(&parameters)?;
    let bound = super::filters_text(query.as_deref().unwrap_or_default());
    let mut after = match parameters.one("cursor")? {
        Some(text) => Some(cursor::decode(&bound, text)?),
        None => None,
    };
    let (mut items, mut scanned, mut more) = (Vec::new(), 0, true);
    while more && items.len() < limit && scanned < MAX_SCANNED {
        let wanted = limit + 1;
        let ids = candidates(&state, &asked, after.as_deref(), wanted).await?;
        more = ids.len() == wanted;
        scanned += ids.len();
        let bodies = futures::stream::iter(ids)
            .map(|id| async {
                match row(&state, &id).await {
                    Ok(body) => Ok((id, Some(body))),
                    // Deleted between the two reads.
                    Err(problem) if problem.status().is_client_error() => Ok((id, None)),
                    Err(problem) => Err(problem),
                }
            })
            .buffered(AHEAD);
        let mut bodies = std::pin::pin!(bodies);
        while let Some((id, body)) = bodies.try_next().await? {
            if items.len() == limit {
                more = true;
                break;
            }
            after = Some(id);
            items.extend(body.filter(|body| asked.accepts(body)));
        }
    }
    let next = match after.filter(|_| more) {
        Some(after) => format!("\"{}\"", cursor::encode(&bound, &after)),
        None => "null".to_owned(),
    };
    let body = format!("{{\"items\":[{}],\"next_cursor\":{next}}}", items.join(","));
    Ok(conditional::json(&headers, body))
}

/// Ids after `after`, in order, that answer every question; at most `wanted`.
async fn candidates(
    state: &ApiState,
    asked: &Asked,
    after: Option<&str>,
    wanted: usize,
) -> Result<Vec<String>, Problem> {
    let tables = &state.recipes;
    // Greater than the last: no id ends in the smallest character.
    let from = after.map(|after| format!("{after}\u{1}"));
    let bounded = Slice { from, limit: wanted, ..Slice::all() };
    let Some(((question, answer), others)) = asked.questions.split_first() else {
        let buckets = listed_buckets().collect();
        let slices = state.store.slices(&tables.listed, buckets, &bounded, AHEAD);
        let rows: Vec<_> = slices.try_collect().await.map_err(|error| store_problem(&error))?;
        let mut ids: Vec<String> =
            rows.into_iter().flat_map(|(_, rows)| rows).map(|row| row.clustering).collect();
        ids.sort();
        ids.truncate(wanted);
        return Ok(ids);
    };
    let mut found = Vec::new();
    let mut slice = bounded;
    loop {
        let rows = state.store.slice(tables.of_question(*question), answer, &slice).await;
        let rows = rows.map_err(|error| store_problem(&error))?;
        let is_last = rows.len() < slice.limit;
        let Some(last) = rows.last().map(|row| row.clustering.clone()) else { return Ok(found) };
        for row in rows {
            let mut answers = true;
            for (question, answer) in others {
                let table = tables.of_question(*question);
                let other = state.store.get(table, answer, &row.clustering).await;
                answers &= other.map_err(|error| store_problem(&error))?.is_some();
                if !answers {
                    break;
                }
            }
            if answers {
                found.push(row.clustering);
            }
            if found.len() == wanted {
                return Ok(found);
            }
        }
        if is_last {
            return Ok(found);
        }
        slice.from = Some(format!("{last}\u{1}"));
    }
}

/// Units, limits, and nothing that depends on what was written.
pub(crate) async fn vocabulary(headers: HeaderMap) -> Response {
    use almanac_domain::recipes::{Difficulty, Unit};
    let units: Vec<_> = Unit::ALL
        .iter()
        .map(|unit| serde_json::json!({"unit": unit.as_str(), "meaning": unit.meaning()}))
        .collect();
    let limits: serde_json::Map<String, serde_json::Value> =
        limits::ALL.iter().map(|(name, limit)| ((*name).to_owned(), (*limit).into())).collect();
    let difficulties = Difficulty::ALL.map(Difficulty::as_str);
    let body = serde_json::json!({"units": units, "difficulties": difficulties, "limits": limits});
    conditional::json(&headers, body.to_string())
}

//! Recipes that answer several questions at once.

use super::{
    AHEAD,
    cache::Slot,
    candidates::{Candidates, Side},
    pages::{Page, Sources},
};
use crate::{
    state::ApiState,
    v1::{cursor, filter::wanted, filters_text, recipes::cache::Document},
};
use almanac_domain::{
    recipes::limits,
    text::{self, Wanted},
};
use almanac_edge::{
    Problem, ProblemType, conditional,
    query::{Parameters, bad},
};
use almanac_projector::recipes::{Question, VERSION};
use almanac_schemas::json::recipes as json;
use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    response::Response,
};
use futures::TryStreamExt;
use std::{collections::BTreeSet, sync::Arc};
use uuid::Uuid;
use xxhash_rust::xxh3::Xxh3;

/// Candidates that one page looks at; then it ends, however short, with a cursor to go on.
const MAX_SCANNED: usize = 5_000;
/// Recipes read at once: one may have a quarter of a megabyte.
const AT_ONCE: usize = 64;

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

/// What a recipe may answer, folded.
fn answer(name: &'static str, value: &str) -> Result<String, Problem> {
    let folded = text::fold(value);
    // No answer of a recipe is longer than its author's name.
    if folded.is_empty() || value.chars().count() > limits::AUTHOR {
        let limit = limits::AUTHOR;
        return Err(bad(name, &format!("it must not be blank or longer than {limit} characters")));
    }
    Ok(folded)
}

/// What is asked for.
struct Asked {
    /// Each must be answered.
    questions: Vec<(Question, String)>,
    without: BTreeSet<String>,
    /// What of the words the tables do not tell.
    wanted: Wanted,
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
                questions.push((question, answer(name, value)?));
            }
        }
        let wanted = wanted(parameters)?;
        questions.extend(wanted.terms().into_iter().map(|term| (Question::Word, term)));
        // To ask twice for the same is to ask once.
        questions.sort();
        questions.dedup();
        let without = "without_ingredient";
        let without: BTreeSet<String> = parameters
            .all(without)
            .map(|value| answer(without, value))
            .collect::<Result<_, _>>()?;
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
        Ok(Self { questions, without, wanted, max_total_s })
    }

    fn is_answered_by_tables(&self) -> bool {
        self.without.is_empty() && self.max_total_s.is_none() && !self.wanted.needs_the_texts()
    }

    /// What the tables of the questions do not tell. Unknown times fail.
    fn accepts(&self, document: &Document) -> bool {
        if self.is_answered_by_tables() {
            return true;
        }
        let Some(known) = document.known() else { return false };
        let ingredients = Question::Ingredient.answers(&known.recipe);
        let texts = [Some(&known.recipe.name), known.recipe.description.as_ref()];
        ingredients.is_disjoint(&self.without)
            && self.wanted.runs_are_in(texts.into_iter().flatten().map(String::as_str))
            && self
                .max_total_s
                .is_none_or(|most| known.recipe.times.total_s().is_some_and(|total| total <= most))
    }
}

pub(crate) async fn list(
    State(state): State<Arc<ApiState>>,
    request: Request,
) -> Result<Response, Problem> {
    let cache = &state.recipe_cache;
    let query = request.uri().query().unwrap_or_default();
    // Where there is no room for one that is kept, a shorter one is made.
    if let Some(page) = cache.page(&state, query)
        && let Some(body) = state.answers.share(&page.body)
    {
        return Ok(conditional::tagged(request.headers(), &page.tag, || Body::from(body)));
    }
    let parameters = Parameters::parse(Some(query), KNOWN)?;
    let limit = parameters.limit()?;
    let asked = Asked::parse(&parameters)?;
    let bound = filters_text(query);
    let after: Option<Uuid> = match parameters.one("cursor")? {
        Some(text) => Some(cursor::decode(&bound, text)?),
        None => None,
    };
    // What most ask for is one partition from its beginning: those rows are kept joined.
    let single = match &asked.questions[..] {
        [single] if after.is_none() && asked.is_answered_by_tables() => Some(single),
        _ => None,
    };
    let _turn = state.turn(request.headers()).await?;
    let mut sources = Sources::default();
    if let Some((question, answer)) = single {
        sources.note(cache, Slot::of_answer(*question, answer));
    }
    let mut candidates = candidates(&state, &asked, after).await?;
    let (mut items, mut room, mut scanned) = (Vec::new(), state.answers.page(), 0);
    let mut last = None;
    // Up to where the page goes, if another one follows.
    let through = 'page: loop {
        let wanted = (limit + 1 - items.len()).min(AT_ONCE);
        let ids = candidates.take(wanted).await?;
        let is_short = ids.len() < wanted;
        scanned += ids.len();
        if single.is_some() {
            ids.iter().for_each(|id| sources.note(cache, Slot::of_document(id)));
        }
        for (id, document) in documents(&state, ids).await? {
            // Deleted between the two reads, perhaps.
            let document = document.filter(|one| one.deleted.is_none() && asked.accepts(one));
            let bytes = document.as_ref().map_or(0, |document| document.body.len() + 1);
            if items.len() == limit || !room.add(bytes) {
                break 'page last;
            }
            last = Some(id);
            items.extend(document.map(|document| (id, document)));
        }
        if is_short || scanned >= MAX_SCANNED {
            break candidates.through();
        }
    };
    let next = cursor::next(&bound, through);
    let tag = tag_of(&items, &next);
    let body = Bytes::from(page(&items, &next));
    // What was cut short for want of memory is not what others are to be given.
    let is_kept = single.is_some() && !room.is_short();
    let sent = room.hold(body.clone())?;
    let response = conditional::tagged(request.headers(), &tag, || Body::from(sent));
    if is_kept {
        cache.keep_page(query, Page { body, tag, sources });
    }
    Ok(response)
}

async fn candidates<'a>(
    state: &'a ApiState,
    asked: &'a Asked,
    after: Option<Uuid>,
) -> Result<Candidates<'a>, Problem> {
    let mut sides = Vec::with_capacity(asked.questions.len());
    for (question, answer) in &asked.questions {
        let first = state.recipe_cache.answers(state, *question, answer).await?;
        sides.push(Side::new(state.recipes.of_question(*question), answer, first));
    }
    Ok(Candidates::new(&*state.store, &state.recipes.listed, sides, after))
}

/// Those in memory, and the others read together.
async fn documents(
    state: &ApiState,
    ids: Vec<Uuid>,
) -> Result<Vec<(Uuid, Option<Arc<Document>>)>, Problem> {
    let mut found: Vec<(Uuid, Option<Arc<Document>>)> =
        ids.into_iter().map(|id| (id, state.recipe_cache.kept(state, id))).collect();
    if found.iter().all(|(_, document)| document.is_some()) {
        return Ok(found);
    }
    let missing = found.iter_mut().filter(|(_, document)| document.is_none());
    let loads = futures::stream::iter(missing.map(Ok::<_, Problem>));
    loads
        .try_for_each_concurrent(AHEAD, async |(id, document)| {
            *document = state.recipe_cache.document(state, *id).await?;
            Ok(())
        })
        .await?;
    Ok(found)
}

/// What a page shows follows from its recipes and their versions.
fn tag_of(items: &[(Uuid, Arc<Document>)], next: &str) -> String {
    let mut hash = Xxh3::with_seed(u64::from(VERSION));
    for (id, document) in items {
        hash.update(id.as_bytes());
        hash.update(document.tag.as_bytes());
    }
    hash.update(next.as_bytes());
    conditional::tag_of(hash.digest128())
}

fn page(items: &[(Uuid, Arc<Document>)], next: &str) -> Vec<u8> {
    let bytes: usize = items.iter().map(|(_, item)| item.body.len() + 1).sum();
    let mut body = Vec::with_capacity(bytes + next.len() + 40);
    body.extend_from_slice(b"{\"items\":[");
    for (place, (_, item)) in items.iter().enumerate() {
        if place > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&item.body);
    }
    body.extend_from_slice(b"],\"next_cursor\":");
    body.extend_from_slice(next.as_bytes());
    body.push(b'}');
    body
}

//! Recipes that answer several questions at once.

use super::{
    AHEAD, Recipes,
    cache::{Document, Slot},
    candidates::{Candidates, Side, successor},
    index::Search,
    pages::{Page, Sources},
};
use crate::v1::{cursor, filter::wanted, filters_text};
use almanac_domain::{
    recipes::{Recipe, limits},
    text::{self, Wanted},
};
use almanac_edge::{
    Problem, ProblemType, conditional, note_nothing_found,
    query::{Parameters, bad},
};
use almanac_schemas::json::recipes as json;
use almanac_tables::recipes::{Question, VERSION};
use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    response::Response,
};
use futures::TryStreamExt;
use http::HeaderMap;
use std::{collections::BTreeSet, sync::Arc};
use uuid::Uuid;
use xxhash_rust::xxh3::Xxh3;

/// Candidates that one page looks at; then it ends, however short, with a cursor to go on.
const MAX_SCANNED: usize = 5_000;
/// Rows of the index that a list looks at before others have their turn.
const LOOKED_AT: usize = 5_000;
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
pub(super) struct Asked {
    /// Each must be answered.
    pub(super) questions: Vec<(Question, String)>,
    pub(super) without: BTreeSet<String>,
    /// Words, or beginnings of them, of name and description.
    pub(super) wanted: Wanted,
    pub(super) max_total_s: Option<u32>,
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
        // To ask twice for the same is to ask once.
        questions.sort();
        questions.dedup();
        let without = "without_ingredient";
        let without: BTreeSet<String> = parameters
            .all(without)
            .map(|value| answer(without, value))
            .collect::<Result<_, _>>()?;
        if questions.len() + wanted.terms().len() > MAX_QUESTIONS || without.len() > MAX_QUESTIONS {
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
        self.without.is_empty() && self.max_total_s.is_none() && self.wanted.is_empty()
    }

    /// Whether a recipe answers everything. Unknown times fail.
    pub(super) fn accepts(&self, document: &Document) -> bool {
        let Some(known) = document.known() else { return false };
        let recipe = &known.recipe;
        let answers =
            |(question, answer): &(Question, String)| question.answers(recipe).contains(answer);
        let total = recipe.times.total_s();
        self.questions.iter().all(answers)
            && Question::Ingredient.answers(recipe).is_disjoint(&self.without)
            && self.max_total_s.is_none_or(|most| total.is_some_and(|total| total <= most))
            && self.has_words(recipe)
    }

    fn has_words(&self, recipe: &Recipe) -> bool {
        let description = recipe.description.as_deref().unwrap_or_default();
        // No word and no part of one goes on behind the end of a line.
        self.wanted.begins_in(&format!("{}\n{description}", recipe.name))
    }
}

/// Where the recipes of a page come from.
enum Source<'a> {
    Index(Indexed<'a>),
    Tables(Candidates<'a>),
}

/// What the index finds, and beside it recipes that changed since, whatever they answer.
struct Indexed<'a> {
    search: Search<'a>,
    changed: &'a BTreeSet<Uuid>,
    /// The least id that was not looked at.
    next: Option<Uuid>,
    /// What was found and not taken.
    found: Option<Option<Uuid>>,
}

impl Indexed<'_> {
    async fn find(&mut self, state: &Recipes) -> Option<Uuid> {
        let mut found = self.found.take().or_else(|| self.search.next(LOOKED_AT));
        while found.is_none() {
            found = state.look(|| self.search.next(LOOKED_AT)).await;
        }
        found.flatten()
    }

    /// The next ids; fewer than `wanted` are the last ones.
    async fn take(&mut self, state: &Recipes, wanted: usize) -> Vec<Uuid> {
        let mut ids = Vec::new();
        while let Some(next) = self.next
            && ids.len() < wanted
        {
            let changed = self.changed.range(next..).next().copied();
            let id = match (self.find(state).await, changed) {
                (Some(found), Some(changed)) if changed < found => {
                    self.found = Some(Some(found));
                    changed
                }
                // Of one that changed, the index knows what was.
                (Some(found), _) => found,
                (None, Some(changed)) => {
                    self.found = Some(None);
                    changed
                }
                (None, None) => {
                    self.next = None;
                    break;
                }
            };
            ids.push(id);
            self.next = successor(id);
        }
        ids
    }
}

impl Source<'_> {
    async fn take(&mut self, state: &Recipes, wanted: usize) -> Result<Vec<Uuid>, Problem> {
        match self {
            Self::Index(indexed) => Ok(indexed.take(state, wanted).await),
            Self::Tables(candidates) => candidates.take(wanted).await,
        }
    }

    /// The id up to which everything was looked at; `None` when nothing comes any more.
    fn through(&self) -> Option<Uuid> {
        match self {
            Self::Index(indexed) => {
                indexed.next.map(|next| Uuid::from_u128(next.as_u128().saturating_sub(1)))
            }
            Self::Tables(candidates) => candidates.through(),
        }
    }

    /// Whether the recipe answers what is asked, as far as it was not known before.
    fn accepts(&self, id: Uuid, document: &Document, asked: &Asked) -> bool {
        match self {
            Self::Tables(_) => asked.is_answered_by_tables() || asked.accepts(document),
            Self::Index(indexed) if indexed.changed.contains(&id) => asked.accepts(document),
            Self::Index(_) if asked.wanted.needs_the_texts() => {
                document.known().is_some_and(|known| asked.has_words(&known.recipe))
            }
            Self::Index(_) => true,
        }
    }
}

pub(crate) async fn list(
    State(state): State<Arc<Recipes>>,
    request: Request,
) -> Result<Response, Problem> {
    let cache = &state.cache;
    let query = request.uri().query().unwrap_or_default();
    // Where there is no room for one that is kept, a shorter one is made.
    if let Some(page) = cache.page(&state, query)
        && let Some(body) = state.answers.share(&page.body)
    {
        let found_nothing = body[..] == *FOUND_NOTHING;
        return Ok(answered(request.headers(), &page.tag, body, found_nothing));
    }
    let parameters = Parameters::parse(Some(query), KNOWN)?;
    let limit = parameters.limit()?;
    let asked = Asked::parse(&parameters)?;
    let bound = filters_text(query);
    let after: Option<Uuid> = cursor::after(&parameters, &bound)?;
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
    let at_hand = state.index.at_hand().filter(|_| state.is_fed());
    let mut source = match &at_hand {
        Some((snapshot, changed)) => {
            let next = after.map_or(Some(Uuid::nil()), successor);
            let search = snapshot.search(&asked, next.unwrap_or(Uuid::max()));
            Source::Index(Indexed { search, changed, next, found: None })
        }
        None => Source::Tables(candidates(&state, &asked, after).await?),
    };
    let (mut items, mut room, mut scanned) = (Vec::new(), state.answers.page(), 0);
    let mut last = None;
    // Up to where the page goes, if another one follows.
    let through = 'page: loop {
        let wanted = (limit + 1 - items.len()).min(AT_ONCE);
        let ids = source.take(&state, wanted).await?;
        let is_short = ids.len() < wanted;
        scanned += ids.len();
        if single.is_some() {
            ids.iter().for_each(|id| sources.note(cache, Slot::of_document(id)));
        }
        for (id, document) in documents(&state, ids).await? {
            // Deleted between the two reads, perhaps.
            let document =
                document.filter(|one| one.deleted.is_none() && source.accepts(id, one, &asked));
            let bytes = document.as_ref().map_or(0, |document| document.body.len() + 1);
            if items.len() == limit || !room.add(bytes) {
                break 'page last;
            }
            last = Some(id);
            items.extend(document.map(|document| (id, document)));
        }
        if is_short || scanned >= MAX_SCANNED {
            break source.through();
        }
    };
    let next = cursor::next(&bound, through);
    let tag = tag_of(&items, &next);
    let body = Bytes::from(page(&items, &next));
    let found_nothing = after.is_none() && body[..] == *FOUND_NOTHING;
    // What was cut short for want of memory is not what others are to be given.
    let is_kept = single.is_some() && !room.is_short();
    let sent = room.hold(body.clone())?;
    let response = answered(request.headers(), &tag, sent, found_nothing);
    if is_kept {
        cache.keep_page(query, Page { body, tag, sources });
    }
    Ok(response)
}

async fn candidates<'a>(
    state: &'a Recipes,
    asked: &'a Asked,
    after: Option<Uuid>,
) -> Result<Candidates<'a>, Problem> {
    let mut sides = Vec::with_capacity(asked.questions.len());
    for (question, answer) in &asked.questions {
        let first = state.cache.answers(state, *question, answer).await?;
        sides.push(Side::new(state.tables.of_question(*question), answer, first));
    }
    Ok(Candidates::new(&*state.store, &state.tables.listed, sides, after))
}

/// Those in memory, and the others read together.
async fn documents(
    state: &Recipes,
    ids: Vec<Uuid>,
) -> Result<Vec<(Uuid, Option<Arc<Document>>)>, Problem> {
    let mut found: Vec<(Uuid, Option<Arc<Document>>)> =
        ids.into_iter().map(|id| (id, state.cache.kept(state, id))).collect();
    if found.iter().all(|(_, document)| document.is_some()) {
        return Ok(found);
    }
    let missing = found.iter_mut().filter(|(_, document)| document.is_none());
    let loads = futures::stream::iter(missing.map(Ok::<_, Problem>));
    loads
        .try_for_each_concurrent(AHEAD, async |(id, document)| {
            *document = state.cache.document(state, *id).await?;
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

/// A first page of nothing.
const FOUND_NOTHING: &[u8] = b"{\"items\":[],\"next_cursor\":null}";

fn answered(headers: &HeaderMap, tag: &str, body: Bytes, found_nothing: bool) -> Response {
    let mut response = conditional::tagged(headers, tag, || Body::from(body));
    if found_nothing {
        note_nothing_found(&mut response);
    }
    response
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

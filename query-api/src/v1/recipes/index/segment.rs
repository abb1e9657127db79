//! Recipes by what they answer, in the order of their ids. Never changed once made.

use super::super::list::Asked;
use crate::index::{AnyOf, Field, Intersection, Union};
use almanac_domain::recipes::Recipe;
use almanac_tables::recipes::Question;
use std::{ops::Range, sync::Arc};
use uuid::Uuid;

const FIELDS: usize = Question::ALL.len();
/// In place of a total time that is not known.
const UNKNOWN: u32 = u32::MAX;
/// Filters that many more recipes pass than another one are compared, not joined.
const TOO_MANY: usize = 8;

/// What is indexed of a recipe.
pub(super) struct Item {
    pub(super) id: Uuid,
    version: u64,
    answers: [Vec<String>; FIELDS],
    total_s: u32,
}

impl Item {
    pub(super) fn of(id: Uuid, version: u64, recipe: &Recipe) -> Self {
        let answers = Question::ALL.map(|question| question.answers(recipe).into_iter().collect());
        Self { id, version, answers, total_s: recipe.times.total_s().unwrap_or(UNKNOWN) }
    }
}

pub(super) struct Segment {
    ids: Vec<Uuid>,
    versions: Vec<u64>,
    fields: [Field; FIELDS],
    total_s: Vec<u32>,
}

impl Segment {
    pub(super) fn of(mut items: Vec<Item>) -> Self {
        items.sort_unstable_by_key(|item| item.id);
        let field = |question: Question| {
            let numbered = (0_u32..).zip(&items);
            let pairs = numbered.flat_map(|(row, item)| {
                item.answers[question as usize].iter().map(move |text| (row, text.as_str()))
            });
            Field::of(items.len(), pairs, &[None])
        };
        Self {
            fields: Question::ALL.map(field),
            ids: items.iter().map(|item| item.id).collect(),
            versions: items.iter().map(|item| item.version).collect(),
            total_s: items.iter().map(|item| item.total_s).collect(),
        }
    }

    /// Of what is left of several.
    pub(super) fn merged(lives: &[Live]) -> Self {
        let rows = |place: usize| {
            let live = &lives[place];
            (0..live.segment.len() as u32)
                .filter(|row| !live.is_gone(*row))
                .map(move |row| (place, row))
        };
        let mut sources: Vec<(usize, u32)> = (0..lives.len()).flat_map(rows).collect();
        let id = |(place, row): (usize, u32)| lives[place].segment.ids[row as usize];
        sources.sort_unstable_by_key(|source| id(*source));
        let field = |question: Question| {
            let numbered = (0_u32..).zip(&sources);
            let pairs = numbered.flat_map(|(number, (place, row))| {
                let field = &lives[*place].segment.fields[question as usize];
                field.terms_of(*row).map(move |term| (number, term))
            });
            Field::of(sources.len(), pairs, &[None])
        };
        Self {
            fields: Question::ALL.map(field),
            ids: sources.iter().map(|source| id(*source)).collect(),
            versions: sources
                .iter()
                .map(|(place, row)| lives[*place].segment.versions[*row as usize])
                .collect(),
            total_s: sources
                .iter()
                .map(|(place, row)| lives[*place].segment.total_s[*row as usize])
                .collect(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Bytes in memory, about.
    fn weight(&self) -> usize {
        self.fields.iter().map(Field::weight).sum::<usize>() + self.ids.len() * 28 + 1_000
    }
}

/// A segment, and which of its recipes are newer elsewhere.
#[derive(Clone)]
pub(super) struct Live {
    pub(super) segment: Arc<Segment>,
    /// A bit for each row; nothing where none is gone.
    gone: Arc<Vec<u64>>,
}

impl Live {
    pub(super) fn new(segment: Segment) -> Self {
        Self { segment: Arc::new(segment), gone: Arc::default() }
    }

    fn is_gone(&self, row: u32) -> bool {
        self.gone.get(row as usize / 64).is_some_and(|bits| bits >> (row % 64) & 1 == 1)
    }

    /// Without some recipes.
    pub(super) fn without(&self, ids: &[Uuid]) -> Self {
        let rows = ids.iter().filter_map(|id| self.segment.ids.binary_search(id).ok());
        let mut gone = None::<Vec<u64>>;
        for row in rows {
            let bits = gone.get_or_insert_with(|| self.gone.to_vec());
            bits.resize(self.segment.len().div_ceil(64), 0);
            bits[row / 64] |= 1 << (row % 64);
        }
        let gone = gone.map_or_else(|| self.gone.clone(), Arc::new);
        Self { segment: self.segment.clone(), gone }
    }

    /// The version of a recipe that is not newer elsewhere.
    pub(super) fn version_of(&self, id: Uuid) -> Option<u64> {
        let row = self.segment.ids.binary_search(&id).ok()?;
        (!self.is_gone(row as u32)).then(|| self.segment.versions[row])
    }

    /// How many recipes are left of it.
    pub(super) fn left(&self) -> usize {
        let gone: u32 = self.gone.iter().map(|bits| bits.count_ones()).sum();
        self.segment.len() - gone as usize
    }

    pub(super) fn weight(&self) -> usize {
        self.segment.weight() + self.gone.len() * 8
    }
}

enum Stage<'s> {
    Join(Intersection<'s>),
    Rows(Range<u32>),
}

/// The recipes of a segment that are asked for, in the order of their ids.
pub(super) struct Scan<'s> {
    live: &'s Live,
    /// Terms that recipes must have, those that fewest have first, and those that they must not have.
    terms: Vec<(&'s Field, AnyOf)>,
    without: AnyOf,
    most_s: Option<u32>,
    /// How many of the terms are joined.
    joined: usize,
    stage: Stage<'s>,
}

impl<'s> Scan<'s> {
    /// Those from an id on.
    pub(super) fn new(live: &'s Live, asked: &Asked, from: Uuid) -> Self {
        let segment = &*live.segment;
        let field = |question: Question| &segment.fields[question as usize];
        let mut terms: Vec<(&Field, AnyOf)> = asked
            .questions
            .iter()
            .map(|(question, answer)| (field(*question), field(*question).these([answer])))
            .collect();
        let words = field(Question::Word);
        terms.extend(asked.wanted.words().iter().map(|word| (words, words.beginning(word))));
        let runs = asked.wanted.terms_of_runs();
        terms.extend(runs.iter().map(|term| (words, words.these([term]))));
        terms.sort_by_key(|(_, any_of)| any_of.rows);
        let from = segment.ids.partition_point(|id| *id < from);
        let length = segment.len();
        let fewest = terms.first().map_or(usize::MAX, |(_, any_of)| any_of.rows);
        // Where many recipes have one of many words, the next ones are near.
        let is_dense = |any_of: &AnyOf| any_of.terms > 64 && any_of.rows > length / 16;
        let (mut joined, mut lists) = (0, 0);
        for (_, any_of) in terms.iter().take_while(|(_, any_of)| !is_dense(any_of)) {
            if any_of.rows / TOO_MANY > fewest || lists + any_of.terms > fewest.max(1_000) {
                break;
            }
            (joined, lists) = (joined + 1, lists + any_of.terms);
        }
        let stage = if fewest == 0 {
            Stage::Rows(0..0)
        } else if joined == 0 {
            Stage::Rows(from as u32..length as u32)
        } else {
            let unions = terms[..joined].iter();
            let unions = unions.map(|(field, any_of)| Union::new(field.lists(0, any_of))).collect();
            let near = 100 * length / fewest;
            Stage::Join(Intersection::new(unions, (from, length), false, near))
        };
        Self {
            live,
            without: field(Question::Ingredient).these(&asked.without),
            terms,
            most_s: asked.max_total_s,
            joined,
            stage,
        }
    }

    fn accepts(&self, row: u32) -> bool {
        let segment = &*self.live.segment;
        !self.live.is_gone(row)
            && self.terms[self.joined..].iter().all(|(field, any_of)| field.has(row, any_of))
            && !segment.fields[Question::Ingredient as usize].has(row, &self.without)
            && self.most_s.is_none_or(|most| {
                let total = segment.total_s[row as usize];
                total != UNKNOWN && total <= most
            })
    }

    /// The next one, or that there is none; nothing where that takes more than `budget` allows.
    pub(super) fn next(&mut self, budget: &mut usize) -> Option<Option<Uuid>> {
        while *budget > 0 {
            *budget -= 1;
            let row = match &mut self.stage {
                Stage::Rows(rows) => rows.next(),
                Stage::Join(join) => match join.next_in_window() {
                    Some(place) => Some(place as u32),
                    None => match join.next_window() {
                        Some(looked) => {
                            *budget = budget.saturating_sub(looked / TOO_MANY);
                            continue;
                        }
                        None => None,
                    },
                },
            };
            let Some(row) = row else { return Some(None) };
            if self.accepts(row) {
                return Some(Some(self.live.segment.ids[row as usize]));
            }
        }
        None
    }
}

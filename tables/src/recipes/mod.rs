//! Projection `recipes`: single recipes, their history, and a table for each question.
//!
//! Ids begin with the time they were made, so buckets are taken from their end.

pub mod vocabulary;

use crate::{
    history, last_digits,
    layout::{Announced, Edition, History, Keys, Layout, Projected},
};
use almanac_domain::{recipes::Recipe, text};
use almanac_read_store::{StoreResult, Table};
use std::collections::BTreeSet;

pub const PROJECTION: &str = "recipes";
pub const VERSION: u32 = 7;

/// What a recipe can be asked for by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Question {
    Ingredient,
    Author,
    Difficulty,
    Tool,
    Tag,
    /// Of name and description: words, and parts of what is written without spaces.
    Word,
}

impl Question {
    pub const ALL: [Self; 6] =
        [Self::Ingredient, Self::Author, Self::Difficulty, Self::Tool, Self::Tag, Self::Word];

    /// Those whose answers in use are published, with their names there.
    pub const PUBLISHED: [(Self, &str); 3] =
        [(Self::Ingredient, "ingredient"), (Self::Tool, "tool"), (Self::Tag, "tag")];

    /// Reads the name of a question's table.
    pub fn of_table(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|question| question.table() == name)
    }

    fn table(self) -> &'static str {
        match self {
            Self::Ingredient => "recipes_by_ingredient",
            Self::Author => "recipes_by_author",
            Self::Difficulty => "recipes_by_difficulty",
            Self::Tool => "recipes_by_tool",
            Self::Tag => "recipes_by_tag",
            Self::Word => "recipes_by_word",
        }
    }

    /// The answers that a recipe gives, folded. What folds to nothing, such as an author's name of
    /// spaces, is none: nobody can ask for it.
    pub fn answers(self, recipe: &Recipe) -> BTreeSet<String> {
        let fold_all = |texts: &[String]| -> BTreeSet<_> {
            texts.iter().map(|text| text::fold(text)).collect()
        };
        let mut answers: BTreeSet<String> = match self {
            Self::Ingredient => {
                recipe.ingredients.iter().map(|item| text::fold(&item.ingredient)).collect()
            }
            Self::Author => recipe.author.iter().map(|author| text::fold(author)).collect(),
            Self::Difficulty => {
                recipe.difficulty.iter().map(|one| text::fold(one.as_str())).collect()
            }
            Self::Tool => fold_all(&recipe.tools),
            Self::Tag => fold_all(&recipe.tags),
            Self::Word => {
                let description = recipe.description.as_deref().unwrap_or_default();
                [recipe.name.as_str(), description].into_iter().flat_map(text::terms).collect()
            }
        };
        answers.remove("");
        answers
    }
}

/// The tables of the projection.
#[derive(Clone, Debug)]
pub struct Tables {
    /// The recipe, or that it is deleted.
    pub recipes: Table,
    /// The event.
    pub history: Table,
    /// `{}`
    pub listed: Table,
    /// The picture, in base64.
    pub thumbnails: Table,
    /// Whether the newest event of the source partition took the word up.
    pub vocabulary: Table,
    /// `{}`
    questions: Vec<Table>,
    layout: Layout,
}

impl Tables {
    pub fn of(edition: impl Into<Edition>) -> StoreResult<Self> {
        use Announced::{Nothing, Partitions, Rows};
        let mut declare = Layout::new(PROJECTION, edition, &[almanac_schemas::recipes::TOPIC]);
        let id = Keys("last two hex digits of the id", "id");
        let event = Keys("the same, sixteenth part of the version", "id, version");
        let listed = Keys("last hex digit of the id", "id");
        let picture = Keys("id", "`newest`");
        let word = Keys("kind of word, and an eighth of the words", "word, source partition");
        let answer = Keys("what is asked for, folded, and an eighth of the ids", "id");
        let mut question = |question: Question| declare.table(question.table(), answer, Partitions);
        let questions =
            Question::ALL.into_iter().map(&mut question).collect::<StoreResult<Vec<Table>>>()?;
        Ok(Self {
            recipes: declare.table("recipes", id, Rows)?,
            history: declare.table("recipe_history", event, Nothing)?,
            listed: declare.table("recipes_listed", listed, Nothing)?,
            thumbnails: declare.table("recipe_thumbnails", picture, Nothing)?,
            vocabulary: declare.repeated("recipe_vocabulary", word, Nothing)?,
            questions,
            layout: declare,
        })
    }

    pub fn of_question(&self, question: Question) -> &Table {
        &self.questions[question as usize]
    }
}

impl Projected for Tables {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn history(&self) -> Option<History<'_>> {
        Some(History { table: &self.history, bucket: history_bucket })
    }
}

/// Partitions over which the recipes that give one answer are spread. Some answers are given by
/// nearly all recipes: this keeps their partitions below 100 MB up to ten million of them, and lets
/// more than one node take their writes.
const SPREAD: u32 = 8;

/// The partition of a recipe among those of an answer that it gives.
pub fn answer_partition(answer: &str, id: &str) -> String {
    let digit = id.chars().next_back().and_then(|last| last.to_digit(16)).unwrap_or(0);
    format!("{answer}/{}", digit % SPREAD)
}

/// All partitions of an answer.
pub fn answer_partitions(answer: &str) -> impl Iterator<Item = String> {
    (0..SPREAD).map(move |part| format!("{answer}/{part}"))
}

/// The answer of a partition.
pub fn answer_of(partition: &str) -> &str {
    partition.rsplit_once('/').map_or(partition, |(answer, _)| answer)
}

/// The partition of a recipe in `recipes`.
pub fn id_bucket(id: &str) -> &str {
    last_digits(id, 2)
}

/// All partitions of `recipes`.
pub fn id_buckets() -> impl Iterator<Item = String> {
    (0..=u8::MAX).map(|digits| format!("{digits:02x}"))
}

/// The partition of a recipe in `recipes_listed`.
pub fn listed_bucket(id: &str) -> &str {
    last_digits(id, 1)
}

/// All partitions of `recipes_listed`.
pub fn listed_buckets() -> impl Iterator<Item = String> {
    (0..16).map(|digit| format!("{digit:x}"))
}

/// The clustering key of a recipe's only row in `recipe_thumbnails`.
pub const THUMBNAIL: &str = "newest";

/// The partition of one event in `recipe_history`.
pub fn history_bucket(id: &str, version: u64) -> String {
    history::bucket(id_bucket(id), version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_of_an_answer_is_read_and_known_by_its_answer() {
        for answer in ["salt", "half/half", "1/2"] {
            let all: BTreeSet<String> = answer_partitions(answer).collect();
            let written: BTreeSet<String> = "0123456789abcdef"
                .chars()
                .map(|end| answer_partition(answer, &format!("0{end}")))
                .collect();
            assert_eq!(written, all);
            assert!(all.iter().all(|partition| answer_of(partition) == answer));
        }
    }
}

//! Projection `recipes`: single recipes, their history, and a table for each question.
//!
//! | table | partition | clustering | body |
//! |---|---|---|---|
//! | `recipes` | last two hex digits of the id | id | the recipe, or that it is deleted |
//! | `recipe_history` | the same, sixteenth part of the version | id, version | the event |
//! | `recipes_listed` | last hex digit of the id | id | `{}` |
//! | `recipes_by_…` | what is asked for, folded, and an eighth of the ids | id | `{}` |
//! | `recipe_thumbnails` | id | `newest` | the picture, in base64 |
//! | `recipe_vocabulary` | ingredient, tool or tag, and an eighth of the words | word, source partition | whether the newest event there took it up |
//!
//! Ids begin with the time they were made, so buckets are taken from their end.

mod fold;
pub mod vocabulary;

use crate::{
    history,
    projection::{Announced, FoldError, Folded, Projection},
};
use almanac_domain::{recipes::Recipe, text};
use almanac_read_store::{StoreResult, Table};
use almanac_schemas::Decoded;
use std::collections::BTreeSet;

pub const PROJECTION: &str = "recipes";
pub const VERSION: u32 = 6;

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
    pub recipes: Table,
    pub history: Table,
    pub listed: Table,
    pub thumbnails: Table,
    pub vocabulary: Table,
    questions: Vec<Table>,
    parked: Table,
}

impl Tables {
    pub fn of(version: u32) -> StoreResult<Self> {
        let questions = Question::ALL.map(|question| Table::new(question.table(), version));
        Ok(Self {
            recipes: Table::new("recipes", version)?,
            history: Table::new("recipe_history", version)?,
            listed: Table::new("recipes_listed", version)?,
            thumbnails: Table::new("recipe_thumbnails", version)?,
            vocabulary: Table::new("recipe_vocabulary", version)?,
            questions: questions.into_iter().collect::<StoreResult<_>>()?,
            parked: Table::new("recipes_parked_keys", version)?,
        })
    }

    pub fn of_question(&self, question: Question) -> &Table {
        &self.questions[question as usize]
    }
}

impl Projection for Tables {
    fn name(&self) -> &'static str {
        PROJECTION
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn topic(&self) -> &'static str {
        almanac_schemas::recipes::TOPIC
    }

    fn tables(&self) -> Vec<&Table> {
        let own = [&self.recipes, &self.history, &self.listed, &self.parked];
        let own = own.into_iter().chain([&self.thumbnails, &self.vocabulary]);
        own.chain(&self.questions).collect()
    }

    fn parked(&self) -> &Table {
        &self.parked
    }

    fn announced(&self, table: &Table) -> Announced {
        if *table == self.recipes || *table == self.parked {
            Announced::Rows
        } else if self.questions.contains(table) {
            Announced::Partitions
        } else {
            Announced::Nothing
        }
    }

    fn is_repeated(&self, table: &Table) -> bool {
        *table == self.vocabulary
    }

    fn fold(
        &self,
        decoded: &Decoded<'_>,
        source_partition: u32,
        position: u64,
    ) -> Result<Folded, FoldError> {
        fold::fold(self, decoded, source_partition, position)
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

fn last_digits(id: &str, digits: usize) -> &str {
    id.get(id.len().saturating_sub(digits)..).unwrap_or(id)
}

/// The partition of a recipe in `recipes`.
pub fn id_bucket(id: &str) -> &str {
    last_digits(id, 2)
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

//! A recipe whose every part was checked.

use super::{Quantity, System};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    pub name: String,
    pub description: Option<String>,
    /// As it is displayed: not the owner, who is whoever made the recipe.
    pub author: Option<String>,
    pub difficulty: Option<Difficulty>,
    pub calories: Option<u32>,
    pub tags: Vec<String>,
    pub ingredients: Vec<Ingredient>,
    pub steps: Vec<Step>,
    pub serves: Option<Range>,
    pub tools: Vec<String>,
    pub notes: Vec<String>,
    pub times: Times,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ingredient {
    pub ingredient: String,
    pub section: Option<String>,
    pub preparation: Option<String>,
    /// `None` is "to taste".
    pub quantity: Option<Quantity>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub text: String,
    /// Names of ingredients that the recipe lists.
    pub ingredients: Vec<String>,
    pub duration_s: Option<u32>,
}

/// Both inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub min: u32,
    pub max: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    pub preparation_s: Option<u32>,
    pub cooking_s: Option<u32>,
}

impl Times {
    /// `None` when either is unknown: an unknown time is not zero.
    pub fn total_s(&self) -> Option<u32> {
        Some(self.preparation_s? + self.cooking_s?)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difficulty {
    Easy,
    Medium,
    Hard,
}

impl Difficulty {
    pub const ALL: [Self; 3] = [Self::Easy, Self::Medium, Self::Hard];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Easy => "EASY",
            Self::Medium => "MEDIUM",
            Self::Hard => "HARD",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == text)
    }
}

/// What of a recipe can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    Name,
    Description,
    Author,
    Difficulty,
    Calories,
    Tags,
    Ingredients,
    Steps,
    Serves,
    Tools,
    Notes,
    Times,
}

impl Field {
    /// The name in the public API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Description => "description",
            Self::Author => "author",
            Self::Difficulty => "difficulty",
            Self::Calories => "calories",
            Self::Tags => "tags",
            Self::Ingredients => "ingredients",
            Self::Steps => "steps",
            Self::Serves => "serves",
            Self::Tools => "tools",
            Self::Notes => "notes",
            Self::Times => "times",
        }
    }
}

impl Recipe {
    /// The fields in which the two differ.
    pub fn differences(&self, other: &Self) -> Vec<Field> {
        let comparisons = [
            (Field::Name, self.name != other.name),
            (Field::Description, self.description != other.description),
            (Field::Author, self.author != other.author),
            (Field::Difficulty, self.difficulty != other.difficulty),
            (Field::Calories, self.calories != other.calories),
            (Field::Tags, self.tags != other.tags),
            (Field::Ingredients, self.ingredients != other.ingredients),
            (Field::Steps, self.steps != other.steps),
            (Field::Serves, self.serves != other.serves),
            (Field::Tools, self.tools != other.tools),
            (Field::Notes, self.notes != other.notes),
            (Field::Times, self.times != other.times),
        ];
        comparisons.into_iter().filter_map(|(field, differs)| differs.then_some(field)).collect()
    }

    /// The same for so many people, in units of a system, or both. Quantities scale from the smaller
    /// number that it serves.
    pub fn adjusted(&self, people: Option<u32>, units: Option<System>) -> Result<Self, Unfit> {
        let (wanted, given) = match people {
            Some(people) => (people, self.serves.ok_or(Unfit::ServesUnknown)?.min),
            None => (1, 1),
        };
        let mut adjusted = self.clone();
        for (place, ingredient) in adjusted.ingredients.iter_mut().enumerate() {
            if let Some(quantity) = &mut ingredient.quantity {
                let amount = quantity.adjusted(wanted, given, units);
                *quantity = amount.ok_or(Unfit::Amount { place })?;
            }
        }
        if let Some(people) = people {
            adjusted.serves = Some(Range { min: people, max: people });
        }
        Ok(adjusted)
    }
}

/// Why a recipe cannot be for other people or in other units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("the recipe does not say whom it serves, so that it cannot be scaled")]
    ServesUnknown,
    #[error(
        "ingredient {place} (counted from 0) would have less than 0.000001 or more than nine digits, which no quantity may have"
    )]
    Amount { place: usize },
}

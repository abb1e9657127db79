//! Records of `recipes.events`, and recipes in them.

use crate::codec::{Codec, CodecError};
use almanac_domain::recipes::{
    Amount, Difficulty, Event, Fact, Ingredient, Knowledge, Quantity, Range, Recipe, Step, Times,
    Unit,
};
use bytes::Bytes;
use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

/// Name of the context in commands, tokens and progress.
pub const CONTEXT: &str = "recipes";
pub const TOPIC: &str = "recipes.events";
pub const CREATED: &str = "almanac.recipes.RecipeCreated";
pub const REVISED: &str = "almanac.recipes.RecipeRevised";
pub const DELETED: &str = "almanac.recipes.RecipeDeleted";
pub const RESTORED: &str = "almanac.recipes.RecipeRestored";
pub const THUMBNAIL_SET: &str = "almanac.recipes.RecipeThumbnailSet";
pub const THUMBNAIL_REMOVED: &str = "almanac.recipes.RecipeThumbnailRemoved";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipeRecord {
    pub name: String,
    pub description: Option<String>,
    pub author: Option<String>,
    pub difficulty: Option<String>,
    pub calories: Option<i64>,
    pub tags: Vec<String>,
    pub ingredients: Vec<IngredientRecord>,
    pub steps: Vec<StepRecord>,
    pub serves_min: Option<i64>,
    pub serves_max: Option<i64>,
    pub tools: Vec<String>,
    pub notes: Vec<String>,
    pub preparation_s: Option<i64>,
    pub cooking_s: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngredientRecord {
    pub ingredient: String,
    pub section: Option<String>,
    pub preparation: Option<String>,
    pub quantity: Option<QuantityRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuantityRecord {
    pub value: Option<String>,
    pub min: Option<String>,
    pub max: Option<String>,
    pub unit: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    pub text: String,
    pub ingredients: Vec<String>,
    pub duration_s: Option<i64>,
}

/// Any of the events of a recipe; which one, the name of the record says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipeEventRecord {
    pub id: String,
    pub version: i64,
    pub occurred_at: i64,
    pub created_at: i64,
    pub owner: String,
    pub recipe: RecipeRecord,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<RecipeRecord>,
    #[serde(default)]
    pub thumbnail: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "serde_bytes")]
    pub image: Option<Vec<u8>>,
}

/// A recipe's picture, as its event and its table hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    pub content_type: String,
    pub width: u32,
    pub height: u32,
    pub image: Vec<u8>,
}

impl Picture {
    /// Stands for the picture in addresses and entity tags.
    pub fn hash(&self) -> String {
        format!("{:032x}", xxh3_128(&self.image))
    }
}

impl From<&Recipe> for RecipeRecord {
    fn from(recipe: &Recipe) -> Self {
        Self {
            name: recipe.name.clone(),
            description: recipe.description.clone(),
            author: recipe.author.clone(),
            difficulty: recipe.difficulty.map(|difficulty| difficulty.as_str().to_owned()),
            calories: recipe.calories.map(i64::from),
            tags: recipe.tags.clone(),
            ingredients: recipe.ingredients.iter().map(IngredientRecord::from).collect(),
            steps: recipe
                .steps
                .iter()
                .map(|step| StepRecord {
                    text: step.text.clone(),
                    ingredients: step.ingredients.clone(),
                    duration_s: step.duration_s.map(i64::from),
                })
                .collect(),
            serves_min: recipe.serves.map(|serves| i64::from(serves.min)),
            serves_max: recipe.serves.map(|serves| i64::from(serves.max)),
            tools: recipe.tools.clone(),
            notes: recipe.notes.clone(),
            preparation_s: recipe.times.preparation_s.map(i64::from),
            cooking_s: recipe.times.cooking_s.map(i64::from),
        }
    }
}

impl From<&Ingredient> for IngredientRecord {
    fn from(ingredient: &Ingredient) -> Self {
        let quantity = ingredient.quantity.map(|quantity| {
            let unit = quantity.unit.as_str().to_owned();
            let (value, min, max) = match quantity.amount {
                Amount::Exact(value) => (Some(value), None, None),
                Amount::Between(min, max) => (None, Some(min), Some(max)),
            };
            let text = |amount: Option<Decimal>| amount.map(|amount| amount.to_string());
            QuantityRecord { value: text(value), min: text(min), max: text(max), unit }
        });
        Self {
            ingredient: ingredient.ingredient.clone(),
            section: ingredient.section.clone(),
            preparation: ingredient.preparation.clone(),
            quantity,
        }
    }
}

impl RecipeRecord {
    /// `None` when a value is outside the domain, which nothing that we wrote is.
    pub fn to_domain(&self) -> Option<Recipe> {
        let number = |value: Option<i64>| match value {
            Some(value) => u32::try_from(value).ok().map(Some),
            None => Some(None),
        };
        let difficulty = match &self.difficulty {
            Some(text) => Some(Difficulty::parse(text)?),
            None => None,
        };
        let serves = match (number(self.serves_min)?, number(self.serves_max)?) {
            (Some(min), Some(max)) => Some(Range { min, max }),
            _ => None,
        };
        let steps = self.steps.iter().map(|step| {
            let (text, ingredients) = (step.text.clone(), step.ingredients.clone());
            Some(Step { text, ingredients, duration_s: number(step.duration_s)? })
        });
        Some(Recipe {
            name: self.name.clone(),
            description: self.description.clone(),
            author: self.author.clone(),
            difficulty,
            calories: number(self.calories)?,
            tags: self.tags.clone(),
            ingredients: self
                .ingredients
                .iter()
                .map(IngredientRecord::to_domain)
                .collect::<Option<_>>()?,
            steps: steps.collect::<Option<_>>()?,
            serves,
            tools: self.tools.clone(),
            notes: self.notes.clone(),
            times: Times {
                preparation_s: number(self.preparation_s)?,
                cooking_s: number(self.cooking_s)?,
            },
        })
    }
}

impl IngredientRecord {
    fn to_domain(&self) -> Option<Ingredient> {
        let quantity = match &self.quantity {
            Some(quantity) => {
                let amount = match (&quantity.value, &quantity.min, &quantity.max) {
                    (Some(value), None, None) => Amount::Exact(value.parse().ok()?),
                    (None, Some(min), Some(max)) => {
                        Amount::Between(min.parse().ok()?, max.parse().ok()?)
                    }
                    _ => return None,
                };
                Some(Quantity { amount, unit: Unit::parse(&quantity.unit)? })
            }
            None => None,
        };
        Some(Ingredient {
            ingredient: self.ingredient.clone(),
            section: self.section.clone(),
            preparation: self.preparation.clone(),
            quantity,
        })
    }
}

/// CloudEvents type of an event of a recipe.
pub fn event_type(fact: &Fact) -> &'static str {
    match fact {
        Fact::Created => "recipe.created",
        Fact::Revised { .. } => "recipe.revised",
        Fact::Deleted => "recipe.deleted",
        Fact::Restored => "recipe.restored",
        Fact::ThumbnailSet => "recipe.thumbnail_set",
        Fact::ThumbnailRemoved => "recipe.thumbnail_removed",
    }
}

impl RecipeEventRecord {
    pub fn from_domain(id: &str, event: &Event) -> Self {
        let (changed, before) = match &event.fact {
            Fact::Revised { changed, before } => {
                let names = changed.iter().map(|field| field.as_str().to_owned()).collect();
                (Some(names), Some(before.as_ref().into()))
            }
            _ => (None, None),
        };
        Self {
            id: id.to_owned(),
            version: event.after.version as i64,
            occurred_at: event.occurred_at.as_millisecond(),
            created_at: event.after.created_at.as_millisecond(),
            owner: event.after.owner.clone(),
            recipe: (&event.after.recipe).into(),
            changed,
            before,
            thumbnail: event.after.thumbnail.clone(),
            content_type: None,
            width: None,
            height: None,
            image: None,
        }
    }

    fn with_picture(self, picture: &Picture) -> Self {
        let pixels = |number: u32| Some(i32::try_from(number).unwrap_or(i32::MAX));
        Self {
            content_type: Some(picture.content_type.clone()),
            width: pixels(picture.width),
            height: pixels(picture.height),
            image: Some(picture.image.clone()),
            ..self
        }
    }

    /// The picture that the event set.
    pub fn into_picture(self) -> Option<Picture> {
        Some(Picture {
            content_type: self.content_type?,
            width: u32::try_from(self.width?).ok()?,
            height: u32::try_from(self.height?).ok()?,
            image: self.image?,
        })
    }

    /// What is known after the event; `record` is the record's name.
    pub fn knowledge(&self, record: &str) -> Option<Knowledge> {
        Some(Knowledge {
            version: u64::try_from(self.version).ok()?,
            recipe: self.recipe.to_domain()?,
            owner: self.owner.clone(),
            thumbnail: self.thumbnail.clone(),
            is_deleted: record == DELETED,
            created_at: Timestamp::from_millisecond(self.created_at).ok()?,
            updated_at: Timestamp::from_millisecond(self.occurred_at).ok()?,
        })
    }
}

/// Encodes an event under the newest schema of its record; one that sets a picture needs that.
pub fn encode(
    codec: &Codec,
    id: &str,
    event: &Event,
    picture: Option<&Picture>,
) -> Result<Bytes, CodecError> {
    let record = match event.fact {
        Fact::Created => CREATED,
        Fact::Revised { .. } => REVISED,
        Fact::Deleted => DELETED,
        Fact::Restored => RESTORED,
        Fact::ThumbnailSet => THUMBNAIL_SET,
        Fact::ThumbnailRemoved => THUMBNAIL_REMOVED,
    };
    let encoded = RecipeEventRecord::from_domain(id, event);
    match picture {
        Some(picture) if event.fact == Fact::ThumbnailSet => {
            codec.encode(record, &encoded.with_picture(picture))
        }
        _ => codec.encode(record, &encoded),
    }
}

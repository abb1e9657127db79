//! Recipes: what users write.
//!
//! A [`Draft`] is what somebody wants a recipe to be; [`Draft::check`] makes a [`Recipe`] of it or
//! names everything that is wrong with it. [`decide`] holds a command against what is known of the
//! recipe and answers with a refusal or an event, which holds what is known after it: to fold events is
//! to take the newest.

mod decide;
mod draft;
pub mod limits;
mod quantity;
mod recipe;

pub use decide::{Command, Event, Fact, Knowledge, decide};
pub use draft::{Draft, IngredientDraft, QuantityDraft, StepDraft};
pub use quantity::{Amount, Quantity, System, Unit};
pub use recipe::{Difficulty, Field, Ingredient, Range, Recipe, Step, Times, Unfit};

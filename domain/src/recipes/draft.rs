//! What somebody wants a recipe to be, before anything of it was checked.

use super::{Amount, Difficulty, Ingredient, Quantity, Range, Recipe, Step, Times, Unit, limits};
use crate::{
    check::{Check, Fault},
    text::fold,
};
use rust_decimal::Decimal;
use std::collections::BTreeSet;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    pub name: Option<String>,
    pub description: Option<String>,
    pub author: Option<String>,
    pub difficulty: Option<String>,
    pub calories: Option<i64>,
    pub tags: Vec<String>,
    pub ingredients: Vec<IngredientDraft>,
    pub steps: Vec<StepDraft>,
    pub serves: Option<(i64, i64)>,
    pub tools: Vec<String>,
    pub notes: Vec<String>,
    pub preparation_s: Option<i64>,
    pub cooking_s: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IngredientDraft {
    pub ingredient: Option<String>,
    pub section: Option<String>,
    pub preparation: Option<String>,
    pub quantity: Option<QuantityDraft>,
}

/// Either a value, or a smallest and a largest one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuantityDraft {
    pub value: Option<Decimal>,
    pub min: Option<Decimal>,
    pub max: Option<Decimal>,
    pub unit: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepDraft {
    pub text: Option<String>,
    pub ingredients: Vec<String>,
    pub duration_s: Option<i64>,
}

impl Draft {
    /// A recipe, or all that is wrong at once.
    pub fn check(self) -> Result<Recipe, Vec<Fault>> {
        let (recipe, mut faults) = self.examine();
        if !faults.is_empty() {
            faults.sort();
            return Err(faults);
        }
        Ok(recipe)
    }

    /// A recipe that was checked when it was written. Rules that have become stricter since, by
    /// another version of Unicode for example, are none for it.
    pub fn recall(self) -> Recipe {
        self.examine().0
    }

    /// Where there are faults, the recipe is made of what is left.
    fn examine(self) -> (Recipe, Vec<Fault>) {
        let mut check = Check::default();
        let name = check.required(&["name"], self.name, limits::NAME);
        let description = check.optional(&["description"], self.description, limits::DESCRIPTION);
        let author = check.optional(&["author"], self.author, limits::AUTHOR);
        let difficulty = self.difficulty.and_then(|text| {
            let known = Difficulty::parse(&text);
            if known.is_none() {
                check.fault(&["difficulty"], "it must be EASY, MEDIUM or HARD");
            }
            known
        });
        let calories = check.number(&["calories"], self.calories, 0, limits::CALORIES);
        let tags = check.words("tags", self.tags, limits::TAGS);
        let tools = check.words("tools", self.tools, limits::TOOLS);
        check.count("notes", self.notes.len(), 0, limits::NOTES);
        let mut notes = Vec::new();
        for (place, note) in self.notes.into_iter().enumerate().take(limits::NOTES) {
            notes.push(check.required(&["notes", &place.to_string()], Some(note), limits::NOTE));
        }
        let ingredients = check.ingredients(self.ingredients);
        let steps = check.steps(self.steps, &ingredients);
        let serves = self.serves.and_then(|(min, max)| {
            let min = check.number(&["serves", "min"], Some(min), 1, limits::SERVES);
            let max = check.number(&["serves", "max"], Some(max), 1, limits::SERVES);
            let range = Range { min: min?, max: max? };
            if range.min > range.max {
                check.fault(&["serves"], "min must not be greater than max");
            }
            Some(range)
        });
        let times = Times {
            preparation_s: check.seconds(&["times", "preparation"], self.preparation_s),
            cooking_s: check.seconds(&["times", "cooking"], self.cooking_s),
        };
        let recipe = Recipe {
            name,
            description,
            author,
            difficulty,
            calories,
            tags,
            ingredients,
            steps,
            serves,
            tools,
            notes,
            times,
        };
        (recipe, check.faults)
    }
}

impl Check {
    fn seconds(&mut self, place: &[&str], value: Option<i64>) -> Option<u32> {
        let value = value?;
        if !(0..=limits::SECONDS).contains(&value) {
            let days = limits::SECONDS / 86_400;
            self.fault(place, format!("it must not be negative or longer than {days} days"));
        }
        u32::try_from(value).ok()
    }

    /// Short names that questions are asked by; one that says the same as another is a mistake.
    fn words(&mut self, name: &str, words: Vec<String>, limit: usize) -> Vec<String> {
        self.count(name, words.len(), 0, limit);
        let mut seen = BTreeSet::new();
        let mut checked = Vec::new();
        for (place, word) in words.into_iter().enumerate().take(limit) {
            let place = place.to_string();
            let word = self.word(&[name, &place], Some(word));
            if !seen.insert(fold(&word)) && !word.trim().is_empty() {
                self.fault(&[name, &place], "it is there twice");
            }
            checked.push(word);
        }
        checked
    }

    fn word(&mut self, place: &[&str], word: Option<String>) -> String {
        let word = self.required(place, word, limits::WORD);
        if !word.trim().is_empty() && fold(&word).is_empty() {
            self.fault(place, "it holds nothing but separators");
        }
        word
    }

    fn ingredients(&mut self, drafts: Vec<IngredientDraft>) -> Vec<Ingredient> {
        self.count("ingredients", drafts.len(), 1, limits::INGREDIENTS);
        let mut checked = Vec::new();
        for (place, draft) in drafts.into_iter().enumerate().take(limits::INGREDIENTS) {
            let place = place.to_string();
            let at = |name| ["ingredients", place.as_str(), name];
            let ingredient = self.word(&at("ingredient"), draft.ingredient);
            let section = self.optional(&at("section"), draft.section, limits::SECTION);
            let preparation =
                self.optional(&at("preparation"), draft.preparation, limits::PREPARATION);
            let quantity = draft.quantity.and_then(|quantity| self.quantity(&place, quantity));
            checked.push(Ingredient { ingredient, section, preparation, quantity });
        }
        checked
    }

    fn quantity(&mut self, ingredient: &str, draft: QuantityDraft) -> Option<Quantity> {
        let place = |name: &'static str| ["ingredients", ingredient, "quantity", name];
        let unit = draft.unit.as_deref().and_then(Unit::parse);
        if unit.is_none() {
            self.fault(&place("unit"), "it must be one of the published units");
        }
        for (name, value) in [("value", draft.value), ("min", draft.min), ("max", draft.max)] {
            let Some(value) = value else { continue };
            let normal = value.normalize();
            let ceiling = Decimal::from(10_i64.pow(limits::QUANTITY_DIGITS));
            if normal <= Decimal::ZERO {
                self.fault(&place(name), "it must be greater than zero");
            } else if normal >= ceiling || normal.scale() > limits::QUANTITY_DECIMALS {
                self.fault(
                    &place(name),
                    format!(
                        "it must have at most {} digits before and {} after the point",
                        limits::QUANTITY_DIGITS,
                        limits::QUANTITY_DECIMALS
                    ),
                );
            }
        }
        let amount = match (draft.value, draft.min, draft.max) {
            (Some(value), None, None) => Some(Amount::Exact(value)),
            (None, Some(min), Some(max)) => {
                if min > max {
                    let quantity = ["ingredients", ingredient, "quantity"];
                    self.fault(&quantity, "min must not be greater than max");
                }
                Some(Amount::Between(min, max))
            }
            _ => {
                let quantity = ["ingredients", ingredient, "quantity"];
                self.fault(&quantity, "it must have either value, or min and max");
                None
            }
        };
        Some(Quantity { amount: amount?, unit: unit? })
    }

    fn steps(&mut self, drafts: Vec<StepDraft>, ingredients: &[Ingredient]) -> Vec<Step> {
        self.count("steps", drafts.len(), 1, limits::STEPS);
        let listed: BTreeSet<String> =
            ingredients.iter().map(|ingredient| fold(&ingredient.ingredient)).collect();
        let mut checked = Vec::new();
        for (number, draft) in drafts.into_iter().enumerate().take(limits::STEPS) {
            let number = number.to_string();
            let text = self.required(&["steps", &number, "text"], draft.text, limits::STEP_TEXT);
            for (place, used) in draft.ingredients.iter().enumerate() {
                if place >= limits::INGREDIENTS {
                    let rule = format!("there are more than {}", limits::INGREDIENTS);
                    self.fault(&["steps", &number, "ingredients"], rule);
                    break;
                }
                if !listed.contains(&fold(used)) {
                    let place =
                        ["steps", &number, "ingredients", &place.to_string()].map(str::to_owned);
                    let rule = "the recipe does not list this ingredient".to_owned();
                    self.faults.push(Fault { place: place.to_vec(), rule });
                }
            }
            let duration_s = self.seconds(&["steps", &number, "duration"], draft.duration_s);
            checked.push(Step { text, ingredients: draft.ingredients, duration_s });
        }
        checked
    }
}

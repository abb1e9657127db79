//! From schema.org to a recipe.

use super::{ingredient, text};
use crate::json::walk::{NotJson, parse};
use almanac_domain::{
    Fault,
    recipes::{Draft, Recipe, StepDraft, limits},
};
use jiff::Span;
use serde_json::{Map, Value};

/// Whether a document holds a recipe, with faults or without.
pub fn holds_recipe(body: &[u8]) -> bool {
    serde_json::from_slice(body).is_ok_and(|document: Value| find(&document).is_some())
}

/// The first recipe of a document, which may hold a graph of many things, or all that is wrong with it.
pub fn read(body: &[u8]) -> Result<Result<Recipe, Vec<Fault>>, NotJson> {
    let document: Value = serde_json::from_str(parse(body)?.get()).unwrap_or_default();
    Ok(match find(&document) {
        Some(found) => draft(found).check(),
        None => {
            let rule = "it holds no Recipe of schema.org".to_owned();
            Err(vec![Fault { place: Vec::new(), rule }])
        }
    })
}

/// Pages carry lists, graphs and things in things.
fn find(value: &Value) -> Option<&Map<String, Value>> {
    match value {
        Value::Array(all) => all.iter().find_map(find),
        Value::Object(object) if object.get("@type").is_some_and(is_recipe) => Some(object),
        Value::Object(object) => ["@graph", "mainEntity", "mainEntityOfPage"]
            .iter()
            .find_map(|name| find(object.get(*name)?)),
        _ => None,
    }
}

fn is_recipe(kind: &Value) -> bool {
    match kind {
        Value::String(kind) => kind.rsplit(['/', ':', '#']).next() == Some("Recipe"),
        Value::Array(all) => all.iter().any(is_recipe),
        _ => false,
    }
}

fn draft(found: &Map<String, Value>) -> Draft {
    let null = Value::Null;
    let property = |name: &str| found.get(name).unwrap_or(&null);
    let mut notes = Vec::new();
    let mut seconds = |name: &str| {
        let said = text::of(property(name))?;
        let seconds = duration(&said);
        if seconds.is_none() {
            notes.push(format!("{name}: {said}"));
        }
        // Pages write a time of zero for one that they do not know.
        seconds.filter(|seconds| *seconds > 0)
    };
    let (preparation_s, cooking_s) = (seconds("prepTime"), seconds("cookTime"));
    let total_s = seconds("totalTime");
    // Stated where it says more than the others do.
    if preparation_s.zip(cooking_s).map(|(one, other)| one + other) != total_s
        && let (Some(_), Some(said)) = (total_s, text::of(property("totalTime")))
    {
        notes.push(format!("totalTime: {said}"));
    }
    let served = text::all(property("recipeYield"));
    let serves = served.iter().find_map(|said| people(said));
    if serves.is_none()
        && let Some(said) = served.first()
    {
        notes.push(format!("recipeYield: {said}"));
    }
    let said = text::of(property("nutrition").get("calories").unwrap_or(&null));
    let calories = said.as_deref().and_then(calories);
    if let Some(said) = said.filter(|_| calories.is_none()) {
        notes.push(format!("calories: {said}"));
    }
    let mut tags = Words::default();
    for name in ["recipeCategory", "recipeCuisine", "keywords"] {
        for said in text::all(property(name)) {
            said.split(',').for_each(|word| tags.add(word, limits::TAGS));
        }
    }
    let mut tools = Words::default();
    text::all(property("tool")).iter().for_each(|tool| tools.add(tool, limits::TOOLS));
    notes.extend(tags.left("keywords").into_iter().chain(tools.left("tool")));
    let lines = match property("recipeIngredient") {
        Value::Null => text::all(property("ingredients")),
        given => text::all(given),
    };
    let authors = text::all(property("author"));
    Draft {
        name: text::of(property("name")),
        description: text::of(property("description")),
        author: (!authors.is_empty()).then(|| authors.join(", ")),
        difficulty: None,
        calories,
        tags: tags.taken,
        ingredients: lines.iter().map(|line| ingredient::read(line)).collect(),
        steps: steps(property("recipeInstructions")),
        serves,
        tools: tools.taken,
        notes,
        preparation_s,
        cooking_s,
    }
}

/// Words of which each is there once, as far as there is room.
#[derive(Default)]
struct Words {
    taken: Vec<String>,
    left: Vec<String>,
}

impl Words {
    fn add(&mut self, word: &str, most: usize) {
        let word = word.trim();
        let is_known = self.taken.iter().any(|known| known.to_lowercase() == word.to_lowercase());
        if word.is_empty() || is_known {
            return;
        }
        let fits = self.taken.len() < most && word.chars().count() <= limits::WORD;
        let words = if fits { &mut self.taken } else { &mut self.left };
        words.push(word.to_owned());
    }

    fn left(&self, name: &str) -> Option<String> {
        (!self.left.is_empty()).then(|| format!("{name}: {}", self.left.join(", ")))
    }
}

/// A text with a line for each, a list of texts or steps, or sections of them.
fn steps(value: &Value) -> Vec<StepDraft> {
    let mut steps = Vec::new();
    add_steps(value, &mut steps);
    steps
}

fn add_steps(value: &Value, steps: &mut Vec<StepDraft>) {
    match value {
        Value::String(text) => {
            steps.extend(text::lines(text).into_iter().map(|line| step(line, None)))
        }
        Value::Array(all) => all.iter().for_each(|one| add_steps(one, steps)),
        Value::Object(object) => {
            let first = steps.len();
            if let Some(items) = object.get("itemListElement") {
                add_steps(items, steps);
            }
            let name = object.get("name").and_then(text::of);
            if steps.len() == first {
                let said = object.get("text").and_then(text::of).or(name);
                let seconds = object.get("timeRequired").and_then(text::of);
                let seconds =
                    seconds.and_then(|said| duration(&said)).filter(|seconds| *seconds > 0);
                steps.extend(said.map(|said| step(said, seconds)));
            } else if let (Some(name), Some(StepDraft { text: Some(said), .. })) =
                (name, steps.get_mut(first))
            {
                *said = format!("{name}: {said}");
            }
        }
        _ => {}
    }
}

fn step(text: String, duration_s: Option<i64>) -> StepDraft {
    StepDraft { text: Some(text), ingredients: Vec::new(), duration_s }
}

/// "PT1H30M", "P0DT90M", "1 hour 30 minutes", "45 mins".
fn duration(said: &str) -> Option<i64> {
    let span: Span = said.to_lowercase().replace(" and ", " ").parse().ok()?;
    if span.get_years() != 0 || span.get_months() != 0 {
        return None;
    }
    let total = span.total((jiff::Unit::Second, jiff::SpanRelativeTo::days_are_24_hours())).ok()?;
    (0.0..=limits::SECONDS as f64).contains(&total).then_some(total as i64)
}

/// "4", "4 servings", "serves 4-6", "4 to 6 people"; "24 cookies" are no people.
fn people(said: &str) -> Option<(i64, i64)> {
    const WORDS: [&str; 12] = [
        "serves", "serving", "servings", "person", "persons", "people", "portion", "portions",
        "for", "makes", "to", "yield",
    ];
    let said = said.to_lowercase().replace(['-', '\u{2013}', ':'], " ");
    let mut numbers = Vec::new();
    let mut is_of_people = true;
    for word in said.split_whitespace() {
        match word.parse::<i64>() {
            Ok(number) => numbers.push(number),
            Err(_) => is_of_people &= WORDS.contains(&word),
        }
    }
    match (is_of_people, &*numbers) {
        (true, [one]) => Some((*one, *one)),
        (true, [low, high]) if low <= high => Some((*low, *high)),
        _ => None,
    }
}

/// "270", "270 kcal", "270 calories".
fn calories(said: &str) -> Option<i64> {
    let said = said.to_lowercase();
    let (number, unit) = match said.find(|one: char| !one.is_ascii_digit() && one != '.') {
        Some(end) => (&said[..end], said[end..].trim()),
        None => (&*said, ""),
    };
    let number = number.strip_suffix(".0").unwrap_or(number).parse().ok()?;
    matches!(unit, "" | "kcal" | "cal" | "calorie" | "calories").then_some(number)
}

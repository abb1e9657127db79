//! From a recipe to schema.org.

use crate::json::recipes::duration;
use almanac_domain::recipes::{Amount, Ingredient, Knowledge, Range, Unit};
use serde_json::{Map, Value, json};

/// What schema.org has no property for (difficulty, sections, the ingredients of a step) is left out.
pub fn render(id: &str, known: &Knowledge) -> String {
    let recipe = &known.recipe;
    let mut out = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            out.insert(name.to_owned(), value);
        }
    };
    put("@context", Some("https://schema.org".into()));
    put("@type", Some("Recipe".into()));
    put("@id", Some(format!("urn:uuid:{id}").into()));
    put("version", Some(known.version.into()));
    put("name", Some((&*recipe.name).into()));
    put("description", recipe.description.as_deref().map(Value::from));
    let author = |name: &String| json!({ "@type": "Person", "name": name });
    put("author", recipe.author.as_ref().map(author));
    put("datePublished", Some(format!("{:.0}", known.created_at).into()));
    put("dateModified", Some(format!("{:.0}", known.updated_at).into()));
    let image = |hash: &String| format!("/v1/recipes/{id}/thumbnail?v={hash}").into();
    put("image", known.thumbnail.as_ref().map(image));
    let time = |seconds: Option<u32>| seconds.map(|seconds| duration(seconds).into());
    put("prepTime", time(recipe.times.preparation_s));
    put("cookTime", time(recipe.times.cooking_s));
    put("totalTime", time(recipe.times.total_s()));
    put("recipeYield", recipe.serves.map(served));
    let calories = |number| json!({ "@type": "NutritionInformation", "calories": format!("{number} calories") });
    put("nutrition", recipe.calories.map(calories));
    put("keywords", (!recipe.tags.is_empty()).then(|| json!(recipe.tags)));
    let tool = |name: &String| json!({ "@type": "HowToTool", "name": name });
    let tools: Vec<Value> = recipe.tools.iter().map(tool).collect();
    put("tool", (!tools.is_empty()).then(|| tools.into()));
    let lines: Vec<String> = recipe.ingredients.iter().map(line).collect();
    put("recipeIngredient", Some(json!(lines)));
    let step = |step: &almanac_domain::recipes::Step| {
        let mut value = json!({ "@type": "HowToStep", "text": step.text });
        if let Some(seconds) = step.duration_s {
            value["timeRequired"] = duration(seconds).into();
        }
        value
    };
    put("recipeInstructions", Some(recipe.steps.iter().map(step).collect()));
    put(
        "comment",
        (!recipe.notes.is_empty()).then(|| {
            let note = |note: &String| json!({ "@type": "Comment", "text": note });
            recipe.notes.iter().map(note).collect()
        }),
    );
    Value::Object(out).to_string()
}

fn served(range: Range) -> Value {
    match range.min == range.max {
        true => format!("{} servings", range.min).into(),
        false => format!("{}-{} servings", range.min, range.max).into(),
    }
}

/// As the reader of such lines understands it again.
fn line(item: &Ingredient) -> String {
    let mut line = String::new();
    if let Some(quantity) = &item.quantity {
        line = match quantity.amount {
            Amount::Exact(value) => value.to_string(),
            Amount::Between(low, high) => format!("{low}-{high}"),
        };
        line.push(' ');
        if quantity.unit != Unit::Piece {
            line.push_str(&quantity.unit.as_str().to_lowercase().replace('_', " "));
            line.push(' ');
        }
    }
    line.push_str(&item.ingredient);
    if let Some(preparation) = &item.preparation {
        line.push_str(", ");
        line.push_str(preparation);
    }
    line
}

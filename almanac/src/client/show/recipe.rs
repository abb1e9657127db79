//! A recipe as text.

use super::{clean, items, text};
use serde_json::Value;
use std::fmt::Write;

fn quantity(quantity: &Value) -> String {
    let unit = text(quantity, "unit").to_lowercase();
    match (&quantity["value"], &quantity["min"], &quantity["max"]) {
        (Value::Number(value), _, _) => format!("{value} {unit} "),
        (_, Value::Number(min), Value::Number(max)) => format!("{min} to {max} {unit} "),
        _ => String::new(),
    }
}

pub(super) fn render(recipe: &Value) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{}", clean(text(recipe, "name")));
    let mut facts = Vec::new();
    for name in ["author", "difficulty"] {
        facts.extend(recipe[name].as_str().map(clean));
    }
    let (min, max) = (&recipe["serves"]["min"], &recipe["serves"]["max"]);
    if !min.is_null() {
        facts.push(if min == max {
            format!("serves {min}")
        } else {
            format!("serves {min} to {max}")
        });
    }
    for (name, label) in [("preparation", "preparation"), ("cooking", "cooking")] {
        facts.extend(recipe["times"][name].as_str().map(|time| format!("{label} {time}")));
    }
    if !recipe["calories"].is_null() {
        facts.push(format!("{} kcal", recipe["calories"]));
    }
    if !facts.is_empty() {
        let _ = writeln!(out, "{}", facts.join(" · "));
    }
    if let Some(description) = recipe["description"].as_str() {
        let _ = writeln!(out, "\n{}", clean(description));
    }
    out.push('\n');
    for item in items(recipe, "ingredients") {
        let preparation = item["preparation"].as_str().map(|text| format!(", {}", clean(text)));
        let (amount, name) = (quantity(&item["quantity"]), clean(text(item, "ingredient")));
        let _ = writeln!(out, "  - {amount}{name}{}", preparation.unwrap_or_default());
    }
    out.push('\n');
    for (number, step) in items(recipe, "steps").enumerate() {
        let _ = writeln!(out, "  {}. {}", number + 1, clean(text(step, "text")));
    }
    for note in items(recipe, "notes").filter_map(Value::as_str) {
        let _ = writeln!(out, "\n  {}", clean(note));
    }
    let labels = |name: &str| {
        items(recipe, name).filter_map(Value::as_str).map(clean).collect::<Vec<_>>().join(", ")
    };
    for (name, label) in [("tools", "tools"), ("tags", "tags")] {
        let all = labels(name);
        if !all.is_empty() {
            let _ = writeln!(out, "\n  {label}: {all}");
        }
    }
    let _ = writeln!(out, "\n{} version {}", text(recipe, "id"), recipe["version"]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn recipes_are_text() {
        let recipe = json!({
            "id": "1", "version": 3, "name": "Stew\u{1b}[31m", "author": "Mary",
            "difficulty": "EASY", "calories": null, "description": null,
            "serves": {"min": 2, "max": 4}, "times": {"preparation": "PT5M", "cooking": null},
            "ingredients": [
                {"ingredient": "THYME", "preparation": "cut", "quantity": {"value": 10.5, "unit": "G"}},
                {"ingredient": "SALT", "preparation": null, "quantity": null},
            ],
            "steps": [{"text": "Stir."}], "notes": ["Well."], "tools": ["POT"], "tags": [],
        });
        assert_eq!(
            render(&recipe),
            "Stew\u{fffd}[31m\nMary · EASY · serves 2 to 4 · preparation PT5M\n\n  - 10.5 g THYME, cut\n  - SALT\n\n  1. Stir.\n\n  Well.\n\n  tools: POT\n\n1 version 3\n"
        );
    }
}

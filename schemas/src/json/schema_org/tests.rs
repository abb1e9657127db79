use super::{ingredient, read, render};
use crate::json::recipes;
use almanac_domain::recipes::{IngredientDraft, Knowledge};
use serde_json::{Value, json};

/// Amount, unit, name and preparation as words.
fn shown(line: &str) -> [String; 3] {
    let IngredientDraft { ingredient, preparation, quantity, .. } = ingredient::read(line);
    let quantity = quantity.map(|quantity| {
        let number = |value: Option<rust_decimal::Decimal>| value.map(|value| value.to_string());
        let values = [quantity.value, quantity.min, quantity.max].into_iter().filter_map(number);
        format!("{} {}", values.collect::<Vec<_>>().join("-"), quantity.unit.unwrap_or_default())
    });
    [quantity.unwrap_or_default(), ingredient.unwrap_or_default(), preparation.unwrap_or_default()]
}

#[test]
fn lines_of_ingredients_are_read_as_pages_write_them() {
    let cases = [
        ("1 1/2 cups flour, sifted", ["1.5 CUP", "flour", "sifted"]),
        ("1½ cups flour", ["1.5 CUP", "flour", ""]),
        ("¾ tsp. salt", ["0.75 TSP", "salt", ""]),
        ("2-3 cloves of garlic", ["2-3 CLOVE", "garlic", ""]),
        ("2 – 3 Tablespoons olive oil", ["2-3 TBSP", "olive oil", ""]),
        ("1 to 2 fl. oz. lemon juice", ["1-2 FL_OZ", "lemon juice", ""]),
        ("200g butter (softened)", ["200 G", "butter", "softened"]),
        ("1,5 kg Kartoffeln", ["1.5 KG", "Kartoffeln", ""]),
        ("0.125 l milk", ["0.125 L", "milk", ""]),
        ("1 (14 oz) can tomatoes, chopped", ["1 CAN", "tomatoes", "14 oz, chopped"]),
        ("2 large eggs", ["2 PIECE", "large eggs", ""]),
        ("4 bunches of parsley", ["4 BUNCH", "parsley", ""]),
        ("salt and pepper to taste", ["", "salt and pepper to taste", ""]),
        ("a pinch of salt", ["", "a pinch of salt", ""]),
        // No finite decimal, or one that could be read two ways: text.
        ("1/3 cup sugar", ["", "sugar", "1/3 cup"]),
        ("⅔ cup of sugar", ["", "sugar", "⅔ cup"]),
        ("1,000 g flour", ["", "1,000 g flour", ""]),
        ("3-2 cups flour", ["", "flour", "3-2 cups"]),
        ("0 cups flour", ["", "flour", "0 cups"]),
        ("1/0 cup flour", ["", "1/0 cup flour", ""]),
        ("7-up", ["", "7-up", ""]),
        ("500 g", ["", "500 g", ""]),
        ("99999999999 cups flour", ["", "99999999999 cups flour", ""]),
        ("", ["", "", ""]),
        ("½", ["", "½", ""]),
    ];
    for (line, expected) in cases {
        assert_eq!(shown(line), expected, "{line}");
    }
}

fn from(document: &Value) -> Value {
    let recipe = read(document.to_string().as_bytes()).unwrap().unwrap();
    serde_json::from_str(&recipes::body(&recipe)).unwrap()
}

#[test]
fn a_page_is_read_with_all_it_says() {
    let page = json!([{"@type": "WebSite"}, {"@context": "https://schema.org", "@graph": [
    {"@type": "Organization", "name": "A kitchen"},
    {
        "@type": ["Recipe", "NewsArticle"],
        "name": "Mac &amp; cheese",
        "description": "<p>Creamy.<br>Quick&nbsp;too.</p>",
        "author": [{"@type": "Person", "name": "Mary"}, {"@type": "Person", "name": "Joe"}],
        "prepTime": "PT0H20M", "cookTime": "1 hour 5 mins", "totalTime": "PT2H",
        "recipeYield": ["6", "6 servings"],
        "nutrition": {"@type": "NutritionInformation", "calories": "270 kcal"},
        "recipeCategory": "Dinner", "recipeCuisine": ["Italian"], "keywords": "quick, dinner, pasta",
        "tool": [{"@type": "HowToTool", "name": "Pot"}],
        "recipeIngredient": ["250 g macaroni", "1/2 cup&nbsp;cheddar, grated", "Salt"],
        "recipeInstructions": [
            {"@type": "HowToSection", "name": "Pasta", "itemListElement": [
                {"@type": "HowToStep", "text": "Boil &#39;em.", "timeRequired": "PT8M"},
                {"@type": "HowToStep", "name": "Drain."}]},
            {"@type": "HowToSection", "name": "Sauce", "itemListElement": {
                "@type": "HowToStep", "itemListElement": [{"@type": "HowToDirection", "text": "Melt."}]}},
            "Mix if T < 50 °C."],
    }]}]);
    let piece = |ingredient: &str, preparation: Option<&str>, quantity: Value| json!({"ingredient": ingredient, "section": null, "preparation": preparation, "quantity": quantity});
    let step = |text: &str, duration: Option<&str>| json!({"text": text, "ingredients": [], "duration": duration});
    let expected = json!({
        "name": "Mac & cheese", "description": "Creamy. Quick too.", "author": "Mary, Joe",
        "difficulty": null, "calories": 270, "tags": ["Dinner", "Italian", "quick", "pasta"],
        "ingredients": [
            piece("macaroni", None, json!({"value": 250, "unit": "G"})),
            piece("cheddar", Some("grated"), json!({"value": 0.5, "unit": "CUP"})),
            piece("Salt", None, Value::Null)],
        "steps": [step("Pasta: Boil 'em.", Some("PT8M")), step("Drain.", None),
            step("Sauce: Melt.", None), step("Mix if T < 50 °C.", None)],
        "serves": {"min": 6, "max": 6}, "tools": ["Pot"], "notes": ["totalTime: PT2H"],
        "times": {"preparation": "PT20M", "cooking": "PT1H5M"},
    });
    assert_eq!(from(&page), expected);
}

#[test]
fn what_cannot_be_read_exactly_is_kept_as_text() {
    let page = json!({
        "@type": "http://schema.org/Recipe", "name": "Cookies", "prepTime": "a while", "cookTime": "PT0S",
        "recipeYield": "24 cookies", "nutrition": {"calories": "about 90"},
        "recipeIngredient": "flour", "recipeInstructions": "<li>Mix.</li><li>Bake.</li>\n\nEat.",
    });
    let read = from(&page);
    let notes = ["prepTime: a while", "recipeYield: 24 cookies", "calories: about 90"];
    assert_eq!(read["notes"], json!(notes));
    assert_eq!(read["times"], json!({"preparation": null, "cooking": null}));
    assert_eq!(read["serves"], Value::Null);
    let texts: Vec<&Value> =
        read["steps"].as_array().unwrap().iter().map(|step| &step["text"]).collect();
    assert_eq!(texts, ["Mix.", "Bake.", "Eat."]);
    for (said, expected) in
        [("Serves 4-6", json!({"min": 4, "max": 6})), ("for 2 people", json!({"min": 2, "max": 2}))]
    {
        let mut page = page.clone();
        page["recipeYield"] = said.into();
        assert_eq!(from(&page)["serves"], expected, "{said}");
    }
}

#[test]
fn what_holds_no_recipe_or_a_broken_one_is_refused_by_name() {
    assert!(read(b"{").is_err());
    for nothing in ["[]", "null", "{\"@type\":\"Person\"}", "{\"@graph\":[{}]}"] {
        let faults = read(nothing.as_bytes()).unwrap().unwrap_err();
        assert_eq!(faults[0].rule, "it holds no Recipe of schema.org", "{nothing}");
    }
    let faults = read(b"{\"@type\":\"Recipe\"}").unwrap().unwrap_err();
    let places: Vec<String> = faults.iter().map(|fault| fault.place.join("/")).collect();
    assert_eq!(places, ["ingredients", "name", "steps"]);
}

#[test]
fn what_is_written_is_read_back() {
    let body = r#"{"name":"Thyme butter","description":"Good.","author":"Mary","difficulty":null,"calories":420,"tags":["quick"],"ingredients":[{"ingredient":"FRESH_THYME","section":null,"preparation":"destalked","quantity":{"value":10.5,"unit":"G"}},{"ingredient":"EGG","section":null,"preparation":null,"quantity":{"value":2,"unit":"PIECE"}},{"ingredient":"CREAM","section":null,"preparation":null,"quantity":{"min":1,"max":2,"unit":"FL_OZ"}},{"ingredient":"SALT","section":null,"preparation":null,"quantity":null}],"steps":[{"text":"Stir.","ingredients":[],"duration":"PT2M"}],"serves":{"min":2,"max":4},"tools":["POT"],"notes":[],"times":{"preparation":"PT5M","cooking":"PT5M"}}"#;
    let recipe = recipes::read(body.as_bytes()).unwrap().unwrap();
    let known = Knowledge {
        version: 3,
        recipe: recipe.clone(),
        owner: "mary".to_owned(),
        thumbnail: Some("00ff".to_owned()),
        is_deleted: false,
        created_at: "2025-08-20T12:00:00.5Z".parse().unwrap(),
        updated_at: "2025-08-21T12:00:00Z".parse().unwrap(),
    };
    let written = render("0198c5a0-0000-7000-8000-00000000000a", &known);
    assert_eq!(read(written.as_bytes()).unwrap().unwrap(), recipe, "{written}");
    let written: Value = serde_json::from_str(&written).unwrap();
    assert_eq!(written["totalTime"], "PT10M");
    assert_eq!(written["recipeIngredient"][0], "10.5 g FRESH_THYME, destalked");
    assert!(!written.to_string().contains("\"mary\""), "the owner is nobody's business");
}

//! The public JSON of a recipe.

use super::{
    server_made::ServerMade,
    walk::{NotJson, Object, Part, Walk, merged, parse},
};
use almanac_domain::{
    Fault,
    recipes::{
        Amount, Draft, IngredientDraft, Knowledge, Quantity, QuantityDraft, Recipe, StepDraft,
    },
};
use serde_json::value::RawValue;
use std::fmt::Write;

/// A recipe from a body, or all that is wrong with it.
pub fn read(body: &[u8]) -> Result<Result<Recipe, Vec<Fault>>, NotJson> {
    let raw = parse(body)?;
    let mut walk = Walk::default();
    let Some(object) = walk.object(raw, &PROPERTIES) else { return Ok(Err(walk.faults)) };
    Ok(checked(walk, &object))
}

/// The same from the body of a recipe that there is: what a client got may be sent back whole.
pub fn read_revision(body: &[u8]) -> Result<Result<(Recipe, ServerMade), Vec<Fault>>, NotJson> {
    let raw = parse(body)?;
    let mut walk = Walk::default();
    let Some(object) = walk.object(raw, &ALL_PROPERTIES) else { return Ok(Err(walk.faults)) };
    let mut server_made = ServerMade::default();
    server_made.take(&[], &object, &SERVER_MADE);
    Ok(checked(walk, &object).map(|recipe| (recipe, server_made)))
}

fn checked(mut walk: Walk, object: &Object<'_>) -> Result<Recipe, Vec<Fault>> {
    let draft = draft(&mut walk, object);
    merged(walk.faults, draft.check())
}

const SERVER_MADE: [&str; 5] = ["id", "version", "created_at", "updated_at", "thumbnail"];

const ALL_PROPERTIES: [&str; SERVER_MADE.len() + PROPERTIES.len()] = {
    let mut all = [""; SERVER_MADE.len() + PROPERTIES.len()];
    let (ours, theirs) = all.split_at_mut(SERVER_MADE.len());
    ours.copy_from_slice(&SERVER_MADE);
    theirs.copy_from_slice(&PROPERTIES);
    all
};

const PROPERTIES: [&str; 12] = [
    "name",
    "description",
    "author",
    "difficulty",
    "calories",
    "tags",
    "ingredients",
    "steps",
    "serves",
    "tools",
    "notes",
    "times",
];

fn draft(walk: &mut Walk, body: &Object<'_>) -> Draft {
    let mut texts = |name| {
        walk.property(body, name, |walk, raw| walk.list(raw, Walk::text)).unwrap_or_default()
    };
    let (tags, tools, notes) = (texts("tags"), texts("tools"), texts("notes"));
    let mut text = |name| walk.property(body, name, Walk::text);
    let (name, description) = (text("name"), text("description"));
    let (author, difficulty) = (text("author"), text("difficulty"));
    let times = walk.property(body, "times", |walk, raw| {
        let times = walk.object(raw, &["preparation", "cooking"])?;
        let mut seconds = |name| walk.property(&times, name, Walk::seconds);
        Some((seconds("preparation"), seconds("cooking")))
    });
    let (preparation_s, cooking_s) = times.unwrap_or_default();
    Draft {
        name,
        description,
        author,
        difficulty,
        calories: walk.property(body, "calories", Walk::whole),
        tags,
        ingredients: walk
            .property(body, "ingredients", |walk, raw| walk.list(raw, ingredient))
            .unwrap_or_default(),
        steps: walk.property(body, "steps", |walk, raw| walk.list(raw, step)).unwrap_or_default(),
        serves: walk.property(body, "serves", serves),
        tools,
        notes,
        preparation_s,
        cooking_s,
    }
}

fn serves(walk: &mut Walk, raw: &RawValue) -> Option<(i64, i64)> {
    let serves = walk.object(raw, &["min", "max"])?;
    let mut number = |name| {
        let found = walk.property(&serves, name, Walk::whole);
        if found.is_none() && serves.get(name).is_none() {
            walk.at(Part::Name(name), |walk| walk.fault("it is required"));
        }
        found
    };
    number("min").zip(number("max"))
}

/// An item is handed on even where parts of it could not be read, so that the places of the others
/// stay what they are.
fn ingredient(walk: &mut Walk, raw: &RawValue) -> Option<IngredientDraft> {
    let known = ["ingredient", "section", "preparation", "quantity"];
    let Some(item) = walk.object(raw, &known) else { return Some(IngredientDraft::default()) };
    let mut text = |name| walk.property(&item, name, Walk::text);
    Some(IngredientDraft {
        ingredient: text("ingredient"),
        section: text("section"),
        preparation: text("preparation"),
        quantity: walk.property(&item, "quantity", quantity),
    })
}

fn quantity(walk: &mut Walk, raw: &RawValue) -> Option<QuantityDraft> {
    let quantity: Object<'_> = walk.object(raw, &["value", "min", "max", "unit"])?;
    let unit = walk.property(&quantity, "unit", Walk::text);
    let mut decimal = |name| walk.property(&quantity, name, Walk::decimal);
    Some(QuantityDraft { value: decimal("value"), min: decimal("min"), max: decimal("max"), unit })
}

fn step(walk: &mut Walk, raw: &RawValue) -> Option<StepDraft> {
    let known = ["text", "ingredients", "duration"];
    let Some(item) = walk.object(raw, &known) else { return Some(StepDraft::default()) };
    Some(StepDraft {
        text: walk.property(&item, "text", Walk::text),
        ingredients: walk
            .property(&item, "ingredients", |walk, raw| walk.list(raw, Walk::text))
            .unwrap_or_default(),
        duration_s: walk.property(&item, "duration", Walk::seconds),
    })
}

/// The recipe with id, version and times.
pub fn render(id: &str, known: &Knowledge) -> String {
    let mut out = String::with_capacity(1_024);
    let _ = write!(out, "{{\"id\":\"{id}\",\"version\":{}", known.version);
    let _ = write!(out, ",\"created_at\":\"{:.3}\"", known.created_at);
    let _ = write!(out, ",\"updated_at\":\"{:.3}\",", known.updated_at);
    match &known.thumbnail {
        Some(hash) => {
            let _ = write!(out, "\"thumbnail\":\"/v1/recipes/{id}/thumbnail?v={hash}\",");
        }
        None => out.push_str("\"thumbnail\":null,"),
    }
    put_recipe(&mut out, &known.recipe);
    out.push('}');
    out
}

/// The recipe as a client would send it.
pub fn body(recipe: &Recipe) -> String {
    let mut out = String::from("{");
    put_recipe(&mut out, recipe);
    out.push('}');
    out
}

/// Reads what [`render`] wrote.
pub fn read_rendered(text: &str) -> Option<Knowledge> {
    let raw = parse(text.as_bytes()).ok()?;
    let mut walk = Walk::default();
    let object = walk.object(raw, &ALL_PROPERTIES)?;
    let ours = |name| object.get(name).map(RawValue::get);
    let version = serde_json::from_str(ours("version")?).ok()?;
    let created_at = serde_json::from_str(ours("created_at")?).ok()?;
    let updated_at = serde_json::from_str(ours("updated_at")?).ok()?;
    let address: Option<String> = serde_json::from_str(ours("thumbnail")?).ok()?;
    let thumbnail = address.and_then(|text| Some(text.split_once("?v=")?.1.to_owned()));
    let draft = draft(&mut walk, &object);
    // It was checked when it was written, by the rules of that time.
    let recipe = walk.faults.is_empty().then(|| draft.recall())?;
    let owner = String::new();
    Some(Knowledge { version, recipe, owner, thumbnail, is_deleted: false, created_at, updated_at })
}

/// Seconds of a duration in a query.
pub fn duration_seconds(text: &str) -> Option<u32> {
    let quoted = serde_json::to_string(text).ok()?;
    let raw: &RawValue = serde_json::from_str(&quoted).ok()?;
    u32::try_from(Walk::default().seconds(raw)?).ok()
}

fn put_recipe(out: &mut String, recipe: &Recipe) {
    put(out, "name", Some(&recipe.name));
    put(out, ",description", recipe.description.as_deref());
    put(out, ",author", recipe.author.as_deref());
    put(out, ",difficulty", recipe.difficulty.map(|difficulty| difficulty.as_str()));
    put_number(out, ",calories", recipe.calories);
    put_list(out, ",tags", &recipe.tags, |out, tag| put_text(out, tag));
    put_list(out, ",ingredients", &recipe.ingredients, |out, item| {
        out.push('{');
        put(out, "ingredient", Some(&item.ingredient));
        put(out, ",section", item.section.as_deref());
        put(out, ",preparation", item.preparation.as_deref());
        out.push_str(",\"quantity\":");
        match &item.quantity {
            Some(quantity) => put_quantity(out, quantity),
            None => out.push_str("null"),
        }
        out.push('}');
    });
    put_list(out, ",steps", &recipe.steps, |out, step| {
        out.push('{');
        put(out, "text", Some(&step.text));
        put_list(out, ",ingredients", &step.ingredients, |out, used| put_text(out, used));
        put(out, ",duration", step.duration_s.map(duration).as_deref());
        out.push('}');
    });
    match recipe.serves {
        Some(serves) => {
            let _ = write!(out, ",\"serves\":{{\"min\":{},\"max\":{}}}", serves.min, serves.max);
        }
        None => out.push_str(",\"serves\":null"),
    }
    put_list(out, ",tools", &recipe.tools, |out, tool| put_text(out, tool));
    put_list(out, ",notes", &recipe.notes, |out, note| put_text(out, note));
    out.push_str(",\"times\":{");
    put(out, "preparation", recipe.times.preparation_s.map(duration).as_deref());
    put(out, ",cooking", recipe.times.cooking_s.map(duration).as_deref());
    out.push('}');
}

fn put_quantity(out: &mut String, quantity: &Quantity) {
    let _ = match quantity.amount {
        Amount::Exact(value) => write!(out, "{{\"value\":{value}"),
        Amount::Between(min, max) => write!(out, "{{\"min\":{min},\"max\":{max}"),
    };
    let _ = write!(out, ",\"unit\":\"{}\"}}", quantity.unit.as_str());
}

pub(super) fn duration(seconds: u32) -> String {
    let (hours, minutes, seconds) = (seconds / 3_600, seconds % 3_600 / 60, seconds % 60);
    let mut text = String::from("PT");
    for (number, letter) in [(hours, 'H'), (minutes, 'M'), (seconds, 'S')] {
        if number > 0 {
            let _ = write!(text, "{number}{letter}");
        }
    }
    if text.len() == 2 {
        text.push_str("0S");
    }
    text
}

/// `name` may begin with the comma that separates it from what is before.
fn put_name(out: &mut String, name: &str) {
    let bare = name.trim_start_matches(',');
    out.push_str(&name[..name.len() - bare.len()]);
    let _ = write!(out, "\"{bare}\":");
}

fn put(out: &mut String, name: &str, value: Option<&str>) {
    put_name(out, name);
    match value {
        Some(value) => put_text(out, value),
        None => out.push_str("null"),
    }
}

fn put_number(out: &mut String, name: &str, value: Option<u32>) {
    put_name(out, name);
    match value {
        Some(value) => {
            let _ = write!(out, "{value}");
        }
        None => out.push_str("null"),
    }
}

fn put_text(out: &mut String, text: &str) {
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

fn put_list<T>(out: &mut String, name: &str, items: &[T], mut item: impl FnMut(&mut String, &T)) {
    put_name(out, name);
    out.push('[');
    for (place, one) in items.iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        item(out, one);
    }
    out.push(']');
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"{"name":"Crème brûlée","description":null,"author":"Mary","difficulty":"EASY","calories":420,"tags":["quick"],"ingredients":[{"ingredient":"FRESH_THYME","section":null,"preparation":"destalked","quantity":{"value":10.50,"unit":"G"}},{"ingredient":"GARLIC_CLOVE","section":"sauce","preparation":null,"quantity":{"min":1,"max":2.5,"unit":"CLOVE"}},{"ingredient":"SALT","section":null,"preparation":null,"quantity":null}],"steps":[{"text":"Cook \"it\".","ingredients":["FRESH_THYME"],"duration":"PT1H2M3S"}],"serves":{"min":2,"max":4},"tools":["INSTANT_POT"],"notes":["\u202e is kept"],"times":{"preparation":"PT5M","cooking":null}}"#;

    #[test]
    fn what_is_read_is_rendered_to_the_digit() {
        let recipe = read(WHOLE.as_bytes()).unwrap().unwrap();
        let known = known(recipe.clone());
        let rendered = render(ID, &known);
        let ours = rendered.find("\"name\"").unwrap();
        assert_eq!(format!("{{{}", &rendered[ours..]), WHOLE.replace("\\u202e", "\u{202e}"));
        assert_eq!(read_rendered(&rendered), Some(known));
        assert_eq!(recipe.times.total_s(), None);
    }

    #[test]
    fn of_a_name_that_is_there_twice_the_last_counts() {
        let once = read(WHOLE.as_bytes()).unwrap().unwrap();
        for first in ["{\"name\":\"first\",", "{\"n\\u0061me\":7,"] {
            let twice = WHOLE.replacen('{', first, 1);
            assert_eq!(read(twice.as_bytes()).unwrap().unwrap(), once, "{first}");
        }
    }

    const ID: &str = "0198c5a0-0000-7000-8000-00000000000a";

    fn known(recipe: Recipe) -> Knowledge {
        let time = |text: &str| text.parse().unwrap();
        Knowledge {
            version: 12,
            recipe,
            owner: String::new(),
            thumbnail: Some("00ff".to_owned()),
            is_deleted: false,
            created_at: time("2025-08-20T12:00:00.5Z"),
            updated_at: time("2025-08-21T12:00:00Z"),
        }
    }

    #[test]
    fn what_was_got_can_be_sent_back() {
        let known = known(read(WHOLE.as_bytes()).unwrap().unwrap());
        let got = render(ID, &known);
        let faults_of = |body: &str| {
            let (recipe, server_made) = read_revision(body.as_bytes()).unwrap().unwrap();
            assert_eq!(recipe, known.recipe);
            let faults = server_made.differences(&render(ID, &known));
            faults.into_iter().map(|fault| fault.place.concat()).collect::<Vec<_>>()
        };
        assert_eq!(faults_of(&got), [""; 0]);
        for (written, otherwise) in [
            ("\"version\":12", "\"version\":1.2e1"),
            ("2025-08-20T12:00:00.500Z", "2025-08-20T14:00:00.5+02:00"),
            (ID, "0198C5A0-0000-7000-8000-00000000000A"),
            ("\"version\":12,", ""),
        ] {
            assert!(got.contains(written));
            assert_eq!(faults_of(&got.replacen(written, otherwise, 1)), [""; 0], "{otherwise}");
        }
        for (written, otherwise, name) in [
            ("\"version\":12", "\"version\":13", "version"),
            ("\"version\":12", "\"version\":\"12\"", "version"),
            ("2025-08-20T12:00:00.500Z", "2025-08-20T12:00:00.501Z", "created_at"),
            ("2025-08-21T12:00:00.000Z", "soon", "updated_at"),
            (ID, "0198c5a0-0000-7000-8000-00000000000b", "id"),
            ("?v=00ff", "?v=00fe", "thumbnail"),
        ] {
            assert!(got.contains(written));
            assert_eq!(faults_of(&got.replacen(written, otherwise, 1)), [name]);
        }
        let none = format!("{{\"thumbnail\":null,{}", &WHOLE[1..]);
        assert_eq!(faults_of(&none), ["thumbnail"]);
        let in_post = read(got.as_bytes()).unwrap().unwrap_err();
        assert_eq!(in_post.len(), SERVER_MADE.len(), "{in_post:?}");
    }

    #[test]
    fn integers_are_those_of_json_schema() {
        let once = read(WHOLE.as_bytes()).unwrap().unwrap();
        for calories in ["420.0", "42e1", "4.2E+2", "420.000000000000000000000000000000000000"] {
            let body = WHOLE.replacen("420", calories, 1).replacen("\"min\":2", "\"min\":2.0", 1);
            assert_eq!(read(body.as_bytes()).unwrap().unwrap(), once, "{calories}");
        }
        for calories in ["420.5", "42e-2", "1e400", "\"420\"", "true"] {
            let body = WHOLE.replacen("420", calories, 1);
            assert!(faults(&body)[0].starts_with("calories: "), "{calories}");
        }
        // Zeros behind the last digit that counts are no more digits.
        let body = WHOLE.replacen("10.50", &format!("10.5{}", "0".repeat(40)), 1);
        assert_eq!(read(body.as_bytes()).unwrap().unwrap(), once);
    }

    #[test]
    fn ways_to_write_an_ingredient_are_one() {
        for (listed, used) in [("Crème fraîche", "cre\u{300}me frai\u{302}che"), ("İncir", "INCIR")]
        {
            let body = WHOLE.replacen("FRESH_THYME", listed, 1).replacen(
                "[\"FRESH_THYME\"]",
                &format!("[\"{used}\"]"),
                1,
            );
            assert!(read(body.as_bytes()).unwrap().is_ok(), "{listed} {used}");
        }
    }

    /// Two tags that were different by an earlier fold, and are alike by this one.
    #[test]
    fn what_was_stored_is_read_by_the_rules_of_its_time() {
        let mut recipe = read(WHOLE.as_bytes()).unwrap().unwrap();
        recipe.tags = vec!["Straße".to_owned(), "Strasse".to_owned()];
        let known = known(recipe);
        assert_eq!(read_rendered(&render(ID, &known)), Some(known));
    }

    fn faults(body: &str) -> Vec<String> {
        let faults = read(body.as_bytes()).unwrap().unwrap_err();
        faults
            .into_iter()
            .map(|fault| format!("{}: {}", fault.place.join("/"), fault.rule))
            .collect()
    }

    #[test]
    fn everything_that_does_not_fit_is_named_at_once() {
        let found = faults(
            r#"{"name":7,"colour":"red","colour":"blue","calories":1.5,"tags":"quick","ingredients":[{"ingredient":"salt","quantity":{"value":1e400,"unit":"G","x":1}},[],{"ingredient":"a"}],"steps":[{"text":"x","duration":"P1M"},{"text":"\ud800"}],"serves":{"min":1},"times":{"cooking":"soon"}}"#,
        );
        let places: Vec<&str> =
            found.iter().map(|fault| fault.split(": ").next().unwrap()).collect();
        assert_eq!(
            places,
            [
                "calories",
                "colour",
                "ingredients/0/quantity/value",
                "ingredients/0/quantity/x",
                "ingredients/1",
                "name",
                "serves/max",
                "steps/0/duration",
                "steps/1/text",
                "tags",
                "times/cooking",
            ],
            "{found:#?}"
        );
        assert_eq!(faults("[]"), [": it must be an object"]);
        assert_eq!(
            faults("{}"),
            [
                "ingredients: at least one is required",
                "name: it is required and must not be blank",
                "steps: at least one is required"
            ]
        );
    }

    #[test]
    fn what_is_no_json_is_told_apart() {
        for body in ["", "{", "{\"a\":NaN}", "\u{feff}{}", "{} {}", "\0"] {
            assert!(matches!(read(body.as_bytes()), Err(NotJson::Syntax(_))), "{body:?}");
        }
        assert!(matches!(read(b"\"\xff\""), Err(NotJson::Syntax(_))));
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(matches!(read(deep.as_bytes()), Err(NotJson::TooDeep { .. })));
    }
}

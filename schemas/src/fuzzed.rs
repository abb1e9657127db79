//! Records, tokens and documents as strangers may write them.

use crate::{BuiltInRegistry, Codec, Token, files::SchemaFile, json};
use almanac_fuzzing::fuzz;
use std::sync::Arc;

const RECIPE: &[u8] = include_bytes!("../../tests/data/recipe.json");

/// What stands behind the id of any of our schemas is read or refused, within its bytes.
#[test]
fn any_bytes_are_a_record_or_none() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let codec = runtime.block_on(Codec::new(Arc::new(BuiltInRegistry))).unwrap();
    let headed = |file: &SchemaFile| {
        let id = codec.id_of(file.record).unwrap().to_be_bytes();
        [&[0][..], &id, &[2; 60]].concat()
    };
    let seeds: Vec<Vec<u8>> = SchemaFile::all_newest().map(headed).collect();
    fuzz("records", seeds, |bytes: &[u8]| {
        // Where the registry knows no schema, there is nothing to read.
        let Ok(decoded) = runtime.block_on(codec.decode(bytes)) else { return };
        if let Ok(value) = decoded.read::<serde_json::Value>() {
            assert!(value.to_string().len() < 64 << 20, "{} of {}", decoded.record(), bytes.len());
        }
    });
}

/// A token has one text.
#[test]
fn any_text_is_a_token_or_none() {
    let token = "schedules.01890a5dac96774bbcceb302099a8057-3-17";
    assert!(token.parse::<Token>().is_ok());
    fuzz("consistency-tokens", [token], |bytes: &[u8]| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        if let Ok(token) = text.parse::<Token>() {
            assert_eq!(token.to_string(), text);
        }
    });
}

/// What is read of a recipe is read again from how it is shown.
#[test]
fn any_body_is_a_recipe_or_faults() {
    fuzz("recipes", [RECIPE], |bytes: &[u8]| {
        let _ = json::recipes::read_revision(bytes);
        if let Ok(Ok(recipe)) = json::recipes::read(bytes) {
            let again = json::recipes::read(json::recipes::body(&recipe).as_bytes());
            assert_eq!(again.unwrap(), Ok(recipe));
        }
    });
}

#[test]
fn any_page_holds_a_recipe_or_none() {
    let page = br#"{"@context":"https://schema.org","@type":"Recipe","name":"Soup","totalTime":"PT1H30M",
        "recipeYield":"2-4 servings","recipeIngredient":["1 1/2 cups of salt","2\u2013 3 eggs"],
        "recipeInstructions":[{"@type":"HowToSection","itemListElement":[{"@type":"HowToStep","text":"Eat."}]}],
        "nutrition":{"calories":"420 kcal"},"author":[{"name":"Mary"}]}"#;
    assert!(json::schema_org::read(page).unwrap().is_ok());
    fuzz("recipe-pages", [&page[..], RECIPE], |bytes: &[u8]| {
        if let Ok(Ok(recipe)) = json::schema_org::read(bytes) {
            let again = json::recipes::read(json::recipes::body(&recipe).as_bytes());
            assert_eq!(again.unwrap(), Ok(recipe), "what is taken of others can be written");
        }
    });
}

#[test]
fn any_body_is_a_request_or_faults() {
    let schedule = br#"{"name":"a","location":{"lat":61.5,"lon":4.8},"repeat_every":"PT1H","tasks":[
        {"id":"lift","duration":"PT4H","contingency":"PT1H","predecessors":["mobilise"],
         "limits":[{"variable":"wave_height_m","max":2.0,"min":0.1}]},{"id":"mobilise","duration":"PT2H"}]}"#;
    let inline = include_bytes!("../../tests/data/weather/case-forecast.json");
    let analysis = format!(
        r#"{{"schedule":{},"forecast":{},"options":{{"between":"hold","start_from":"2025-08-20T00:00:00Z"}}}}"#,
        std::str::from_utf8(schedule).unwrap(),
        std::str::from_utf8(inline).unwrap()
    );
    let patch = br#"{"name":null,"tasks":[]}"#;
    // JSON, although no number of this program is as large.
    let large = b"1e400";
    fuzz(
        "requests",
        [&schedule[..], analysis.as_bytes(), &patch[..], &large[..]],
        |bytes: &[u8]| {
            let _ = json::weather::read_analysis(bytes);
            let _ = json::weather::read_schedule(bytes);
            let _ = json::canonical(bytes);
            if let Ok(merged) = json::merge_patch(schedule, bytes) {
                assert!(serde_json::from_str::<serde::de::IgnoredAny>(&merged).is_ok(), "{merged}");
            }
        },
    );
}

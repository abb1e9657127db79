//! Events of recipes.

use crate::samples::now;
use almanac_domain::{
    aggregate::{Caller, Expected},
    recipes::{self as recipe_domain, Command, Draft, IngredientDraft, QuantityDraft, StepDraft},
};
use almanac_schemas::recipes;

pub(crate) const RECIPE_ID: &str = "0198c5a0-0000-7000-8000-000000000001";

pub(crate) fn picture() -> recipes::Picture {
    recipes::Picture {
        content_type: "image/jpeg".to_owned(),
        width: 640,
        height: 480,
        image: vec![0, 255, 1],
    }
}

/// One event of each kind, of a recipe with every part that there is.
pub(crate) fn recipe_events() -> Vec<(&'static str, recipe_domain::Event)> {
    let quantity = |value: &str| QuantityDraft {
        value: value.parse().ok(),
        unit: Some("G".to_owned()),
        ..QuantityDraft::default()
    };
    let ingredient = |name: &str, quantity| IngredientDraft {
        ingredient: Some(name.to_owned()),
        section: Some("sauce".to_owned()),
        preparation: Some("destalked".to_owned()),
        quantity,
    };
    let between = QuantityDraft {
        min: "1".parse().ok(),
        max: "2.50".parse().ok(),
        unit: Some("CLOVE".to_owned()),
        ..QuantityDraft::default()
    };
    let draft = Draft {
        name: Some("Crème brûlée".to_owned()),
        description: Some("Burnt on purpose.".to_owned()),
        author: Some("Mary".to_owned()),
        difficulty: Some("HARD".to_owned()),
        calories: Some(420),
        tags: vec!["quick".to_owned()],
        ingredients: vec![
            ingredient("FRESH_THYME", Some(quantity("10.50"))),
            ingredient("GARLIC_CLOVE", Some(between)),
            ingredient("SALT", None),
        ],
        steps: vec![StepDraft {
            text: Some("Burn.".to_owned()),
            ingredients: vec!["SALT".to_owned()],
            duration_s: Some(120),
        }],
        serves: Some((2, 4)),
        tools: vec!["TORCH".to_owned()],
        notes: vec!["Careful.".to_owned()],
        preparation_s: Some(300),
        cooking_s: None,
    };
    let revised = Draft { name: Some("Crème".to_owned()), ..draft.clone() };
    let caller = Caller { subject: "mary".to_owned(), is_admin: false };
    let commands = [
        (recipes::CREATED, Command::Create { recipe: Box::new(draft.check().unwrap()) }),
        (recipes::REVISED, Command::Revise { recipe: Box::new(revised.check().unwrap()) }),
        (recipes::DELETED, Command::Delete),
        (recipes::RESTORED, Command::Restore),
        (recipes::THUMBNAIL_SET, Command::SetThumbnail { hash: "00ff".to_owned() }),
        (recipes::THUMBNAIL_REMOVED, Command::RemoveThumbnail),
    ];
    let mut known = None;
    let mut events = Vec::new();
    for (record, command) in commands {
        let any = Expected::Any;
        let event = recipe_domain::decide(known.as_ref(), command, &caller, &any, now());
        let event = event.unwrap().unwrap();
        known = Some(event.after.clone());
        events.push((record, event));
    }
    events
}

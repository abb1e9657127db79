//! Recipes: given events, when a command comes, then events or a refusal; and what always holds.

use almanac_domain::{
    aggregate::{Caller, Expected, Refusal},
    recipes::{
        Command, Draft, Event, Fact, Field, IngredientDraft, Knowledge, QuantityDraft, Recipe,
        StepDraft, Unfit, decide, limits,
    },
};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

fn draft(name: &str) -> Draft {
    Draft {
        name: Some(name.to_owned()),
        ingredients: vec![IngredientDraft {
            ingredient: Some("FRESH_THYME".to_owned()),
            quantity: Some(QuantityDraft {
                value: "10.5".parse().ok(),
                unit: Some("G".to_owned()),
                ..QuantityDraft::default()
            }),
            ..IngredientDraft::default()
        }],
        steps: vec![StepDraft {
            text: Some("Cook.".to_owned()),
            ingredients: vec!["fresh thyme".to_owned()],
            duration_s: Some(120),
        }],
        serves: Some((2, 4)),
        ..Draft::default()
    }
}

fn recipe(name: &str) -> Recipe {
    draft(name).check().unwrap()
}

fn create(name: &str) -> Command {
    Command::Create { recipe: Box::new(recipe(name)) }
}

fn revise(name: &str) -> Command {
    Command::Revise { recipe: Box::new(recipe(name)) }
}

fn picture(hash: &str) -> Command {
    Command::SetThumbnail { hash: hash.to_owned() }
}

fn mary() -> Caller {
    Caller { subject: "mary".to_owned(), is_admin: false }
}

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn given(commands: impl IntoIterator<Item = Command>) -> Option<Knowledge> {
    commands.into_iter().fold(None, |known, command| {
        let event = decide(known.as_ref(), command, &mary(), &Expected::Any, now()).unwrap();
        event.map(|event| event.after).or(known)
    })
}

fn when(
    known: &Option<Knowledge>,
    command: Command,
    caller: &Caller,
    expected: Expected,
) -> Result<Option<Event>, Refusal> {
    decide(known.as_ref(), command, caller, &expected, now())
}

#[test]
fn a_recipe_lives() {
    let known = given([create("a"), revise("b"), Command::Delete, Command::Restore]);
    let known = known.unwrap();
    assert_eq!((known.version, known.is_deleted, known.recipe.name.as_str()), (4, false, "b"));
    assert_eq!(known.owner, "mary");
    let event = when(&Some(known), revise("c"), &mary(), Expected::Any).unwrap().unwrap();
    let Fact::Revised { changed, before } = &event.fact else { panic!("{event:?}") };
    assert_eq!(changed, &[Field::Name]);
    assert_eq!(before.name, "b");
}

#[test]
fn what_is_so_already_is_no_event() {
    let known = given([create("a")]);
    assert_eq!(when(&known, revise("a"), &mary(), Expected::Any), Ok(None));
    assert_eq!(when(&known, Command::Restore, &mary(), Expected::Any), Ok(None));
    let known = given([create("a"), picture("1")]);
    assert_eq!(when(&known, picture("1"), &mary(), Expected::Any), Ok(None));
}

#[test]
fn a_picture_stays_through_what_follows() {
    let known = given([create("a"), picture("1"), revise("b"), Command::Delete]).unwrap();
    assert_eq!((known.version, known.thumbnail.as_deref()), (4, Some("1")));
    let refused = when(&Some(known), picture("2"), &mary(), Expected::Any);
    assert_eq!(refused, Err(Refusal::Deleted { version: 4 }));
}

#[test]
fn a_picture_is_taken_away() {
    let known = given([create("a"), picture("1"), Command::RemoveThumbnail]);
    assert_eq!(
        known.as_ref().map(|known| (known.version, known.thumbnail.clone())),
        Some((3, None))
    );
    let again = when(&known, Command::RemoveThumbnail, &mary(), Expected::Any);
    assert_eq!(again, Ok(None), "there is none any more");
    let set = when(&known, picture("1"), &mary(), Expected::Any).unwrap().unwrap();
    assert_eq!((set.fact, set.after.version), (Fact::ThumbnailSet, 4));
}

#[test]
fn refusals_say_why() {
    let stranger = Caller { subject: "tom".to_owned(), is_admin: false };
    let admin = Caller { is_admin: true, ..stranger.clone() };
    let (none, known) = (None, given([create("a"), revise("b")]));
    let gone = given([create("a"), Command::Delete]);
    let versions = |versions: &[u64]| Expected::Versions(versions.to_vec());
    for (known, command, caller, expected, refusal) in [
        (&none, revise("a"), &mary(), Expected::Any, Refusal::Unknown),
        (&none, Command::Delete, &mary(), Expected::Any, Refusal::Unknown),
        (&none, create("a"), &mary(), versions(&[1]), Refusal::Unknown),
        (&known, create("a"), &mary(), Expected::Any, Refusal::Exists { version: 2 }),
        (&known, revise("c"), &stranger, Expected::Any, Refusal::NotAllowed),
        (&known, revise("c"), &mary(), versions(&[1]), Refusal::Stale { current: 2 }),
        (&known, revise("c"), &mary(), versions(&[]), Refusal::Stale { current: 2 }),
        (&known, Command::Delete, &mary(), versions(&[1, 3]), Refusal::Stale { current: 2 }),
        (&gone, revise("c"), &mary(), Expected::Any, Refusal::Deleted { version: 2 }),
        (&known, picture("1"), &stranger, Expected::Any, Refusal::NotAllowed),
        (&none, picture("1"), &mary(), Expected::Any, Refusal::Unknown),
        (&none, Command::RemoveThumbnail, &mary(), Expected::Any, Refusal::Unknown),
        (&known, Command::RemoveThumbnail, &stranger, Expected::Any, Refusal::NotAllowed),
        (&known, Command::RemoveThumbnail, &mary(), versions(&[1]), Refusal::Stale { current: 2 }),
        (&gone, Command::RemoveThumbnail, &mary(), Expected::Any, Refusal::Deleted { version: 2 }),
        (&gone, Command::Delete, &mary(), Expected::Any, Refusal::Deleted { version: 2 }),
        (&gone, Command::Restore, &stranger, Expected::Any, Refusal::NotAllowed),
        (&gone, Command::Restore, &mary(), versions(&[1]), Refusal::Stale { current: 2 }),
    ] {
        assert_eq!(when(known, command, caller, expected), Err(refusal));
    }
    assert!(when(&known, revise("c"), &admin, versions(&[2, 9])).unwrap().is_some());
    assert_eq!(
        when(&gone, Command::Restore, &mary(), Expected::Any).unwrap().unwrap().after.version,
        3
    );
}

#[test]
fn a_clock_that_jumps_back_moves_no_event_back() {
    let known = given([create("a")]);
    let earlier = now() - SignedDuration::from_hours(5);
    let event =
        decide(known.as_ref(), revise("b"), &mary(), &Expected::Any, earlier).unwrap().unwrap();
    assert_eq!(event.occurred_at, now());
}

#[test]
fn every_fault_is_named_at_once() {
    let bad = Draft {
        name: Some("  ".to_owned()),
        description: Some("x".repeat(limits::DESCRIPTION + 1)),
        author: Some("\u{0}".to_owned()),
        difficulty: Some("easy".to_owned()),
        calories: Some(-1),
        tags: vec!["quick".to_owned(), "Quick_".to_owned(), "__".to_owned()],
        ingredients: vec![
            IngredientDraft {
                ingredient: Some("salt".to_owned()),
                quantity: Some(QuantityDraft {
                    value: "0".parse().ok(),
                    min: "1".parse().ok(),
                    unit: Some("g".to_owned()),
                    ..QuantityDraft::default()
                }),
                ..IngredientDraft::default()
            },
            IngredientDraft::default(),
        ],
        steps: vec![StepDraft {
            text: None,
            ingredients: vec!["SALT".to_owned(), "pepper".to_owned()],
            duration_s: Some(-1),
        }],
        serves: Some((4, 2)),
        cooking_s: Some(i64::MAX),
        notes: vec![String::new()],
        ..Draft::default()
    };
    let faults = bad.check().unwrap_err();
    let places: Vec<String> = faults.iter().map(|fault| fault.place.join("/")).collect();
    assert_eq!(
        places,
        [
            "author",
            "calories",
            "description",
            "difficulty",
            "ingredients/0/quantity",
            "ingredients/0/quantity/unit",
            "ingredients/0/quantity/value",
            "ingredients/1/ingredient",
            "name",
            "notes/0",
            "serves",
            "steps/0/duration",
            "steps/0/ingredients/1",
            "steps/0/text",
            "tags/1",
            "tags/2",
            "times/cooking",
        ]
    );
    let empty: Vec<_> = Draft::default().check().unwrap_err();
    let places: Vec<String> = empty.iter().map(|fault| fault.place.join("/")).collect();
    assert_eq!(places, ["ingredients", "name", "steps"]);
}

#[test]
fn quantities_scale_exactly() {
    let recipe = recipe("a");
    let scaled = recipe.adjusted(Some(6), None).unwrap();
    assert_eq!(
        format!("{:?}", scaled.ingredients[0].quantity),
        format!("{:?}", recipe.ingredients[0].quantity).replace("10.5", "31.5")
    );
    assert_eq!(scaled.serves.map(|serves| (serves.min, serves.max)), Some((6, 6)));
    let unknown = Recipe { serves: None, ..recipe };
    assert_eq!(unknown.adjusted(Some(6), None), Err(Unfit::ServesUnknown));
}

fn any_command() -> impl Strategy<Value = Command> {
    prop_oneof![
        "[a-c]".prop_map(|name| create(&name)),
        "[a-c]".prop_map(|name| revise(&name)),
        Just(Command::Delete),
        Just(Command::Restore),
        "[1-2]".prop_map(|hash| picture(&hash)),
    ]
}

proptest! {
    /// Every accepted command is the next version, every refused one changes nothing, versions
    /// that are expected are those that are there, and folding an event twice is folding it once.
    #[test]
    fn versions_follow_each_other(
        steps in prop::collection::vec((any_command(), prop::option::of(0_u64..6), 0_u8..3), 1..40)
    ) {
        let mut known: Option<Knowledge> = None;
        for (number, (command, expected, who)) in steps.into_iter().enumerate() {
            let caller = match who {
                0 => mary(),
                1 => Caller { subject: "tom".to_owned(), is_admin: false },
                _ => Caller { subject: "root".to_owned(), is_admin: true },
            };
            let version = known.as_ref().map_or(0, |known| known.version);
            let wanted = expected.map_or(Expected::Any, |version| Expected::Versions(vec![version]));
            let at = now() + SignedDuration::from_secs(number as i64 * if who == 1 { -1 } else { 1 });
            match decide(known.as_ref(), command, &caller, &wanted, at) {
                Ok(Some(event)) => {
                    prop_assert_eq!(event.after.version, version + 1);
                    prop_assert!(expected.is_none_or(|expected| expected == version));
                    if let Some(known) = &known {
                        prop_assert!(caller.is_admin || caller.subject == known.owner);
                        prop_assert!(event.occurred_at >= known.updated_at);
                        prop_assert_eq!(&event.after.owner, &known.owner);
                        prop_assert_eq!(event.after.created_at, known.created_at);
                    }
                    known = Some(event.after);
                }
                Ok(None) => prop_assert!(known.is_some()),
                Err(Refusal::Stale { current }) => {
                    prop_assert_eq!(current, version);
                    prop_assert!(expected != Some(version));
                }
                Err(_) => {}
            }
        }
    }
}

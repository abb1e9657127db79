//! The index is held against the tables: whatever is asked, both have the same answer.

use super::*;
use crate::testing::{Installation, installation};
use almanac_domain::recipes::{Draft, IngredientDraft, Recipe, StepDraft};
use almanac_schemas::recipes::{CREATED, DELETED, REVISED, RecipeEventRecord};
use proptest::prelude::*;

const WORDS: [&str; 7] = ["Soup", "Soufflé", "Sour", "麻婆豆腐", "stew", "Jalapeño", "x"];
const INGREDIENTS: [&str; 5] = ["SALT", "salt_flakes", "Thyme", "GARLIC CLOVE", "tofu"];

/// A recipe as tests make it: everything small, so that much is alike.
#[derive(Clone, Debug)]
struct Made {
    name: Vec<usize>,
    description: Option<usize>,
    ingredients: Vec<usize>,
    tag: Option<u8>,
    author: Option<u8>,
    difficulty: Option<usize>,
    times: (Option<i64>, Option<i64>),
}

fn made() -> impl Strategy<Value = Made> {
    let words = prop::collection::vec(0..WORDS.len(), 1..4);
    let ingredients = prop::collection::btree_set(0..INGREDIENTS.len(), 1..4);
    let minutes = || prop::option::weighted(0.8, 0_i64..4);
    (
        words,
        prop::option::of(0..WORDS.len()),
        ingredients,
        prop::option::of(0_u8..3),
        prop::option::of(0_u8..2),
        prop::option::of(0_usize..3),
        (minutes(), minutes()),
    )
        .prop_map(|(name, description, ingredients, tag, author, difficulty, times)| Made {
            name,
            description,
            ingredients: ingredients.into_iter().collect(),
            tag,
            author,
            difficulty,
            times,
        })
}

impl Made {
    fn recipe(&self) -> Recipe {
        let text =
            |words: &[usize]| words.iter().map(|word| WORDS[*word]).collect::<Vec<_>>().join(" ");
        let ingredients = self.ingredients.iter().map(|one| IngredientDraft {
            ingredient: Some(INGREDIENTS[*one].to_owned()),
            ..IngredientDraft::default()
        });
        let draft = Draft {
            name: Some(text(&self.name)),
            description: self.description.map(|word| text(&[word])),
            author: self.author.map(|one| format!("Author {one}")),
            difficulty: self.difficulty.map(|one| ["EASY", "MEDIUM", "HARD"][one].to_owned()),
            tags: self.tag.iter().map(|tag| format!("tag{tag}")).collect(),
            ingredients: ingredients.collect(),
            steps: vec![StepDraft { text: Some("Boil it.".to_owned()), ..StepDraft::default() }],
            preparation_s: self.times.0.map(|minutes| minutes * 60),
            cooking_s: self.times.1.map(|minutes| minutes * 60),
            ..Draft::default()
        };
        draft.check().unwrap()
    }
}

/// What was folded of each recipe, and its version; nothing of one that is deleted.
#[derive(Default)]
struct Written(BTreeMap<u128, (i64, Option<Recipe>)>);

impl Written {
    /// Creates, revises or deletes a recipe, as commands would, and names it as the feed does.
    async fn put(&mut self, installation: &Installation, number: u128, made: Option<&Made>) {
        let id = Uuid::from_u128(number * 0x1_0003).to_string();
        let (version, before) = self.0.get(&number).cloned().unwrap_or_default();
        // One that was deleted stays so.
        if version > 0 && before.is_none() || version == 0 && made.is_none() {
            return;
        }
        let recipe = made.map(Made::recipe);
        let (kind, shown) = match (&recipe, &before) {
            (Some(recipe), None) => (CREATED, recipe.clone()),
            (Some(recipe), Some(_)) => (REVISED, recipe.clone()),
            (None, Some(before)) => (DELETED, before.clone()),
            (None, None) => return,
        };
        let is_revised = kind == REVISED;
        let event = RecipeEventRecord {
            id: id.clone(),
            version: version + 1,
            occurred_at: 1_000 * (version + 1),
            created_at: 1_000,
            owner: "mary".to_owned(),
            recipe: (&shown).into(),
            changed: is_revised.then(|| vec!["name".to_owned()]),
            before: before.as_ref().filter(|_| is_revised).map(Into::into),
            thumbnail: None,
            content_type: None,
            width: None,
            height: None,
            image: None,
        };
        installation.fold(&installation.recipes.tables, kind, &event).await;
        self.0.insert(number, (version + 1, recipe));
        installation.recipes.index.changed([id].iter());
        installation.recipes.cache.clear();
    }
}

async fn settle(installation: &Installation) {
    let recipes = &installation.recipes;
    while recipes.index.follow_once(recipes).await.unwrap() {}
    assert!(recipes.index.at_hand().is_some_and(|(_, changed)| changed.is_empty()));
}

/// All pages, as long as the index or the tables answer.
async fn pages(installation: &Installation, query: &str, is_fed: bool) -> Vec<serde_json::Value> {
    installation.state.feed_alive.store(is_fed, Ordering::Relaxed);
    let (mut items, mut cursor) = (Vec::new(), String::new());
    loop {
        let answer = installation.get(&format!("/v1/recipes?{query}{cursor}"), &[]).await.json();
        items.extend(answer["items"].as_array().unwrap().iter().cloned());
        match answer["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return items,
        }
    }
}

fn question() -> impl Strategy<Value = String> {
    let ingredient = |name: &'static str| {
        (0..INGREDIENTS.len()).prop_map(move |one| {
            format!("{name}={}", INGREDIENTS[one].replace(' ', "+").to_lowercase())
        })
    };
    let one = prop_oneof![
        ingredient("ingredient"),
        ingredient("without_ingredient"),
        (0_u8..3).prop_map(|tag| format!("tag=TAG{tag}")),
        (0_u8..2).prop_map(|one| format!("author=author+{one}")),
        prop::sample::select(vec!["difficulty=easy", "difficulty=HARD"]).prop_map(str::to_owned),
        (0_u8..8).prop_map(|minutes| format!("max_total_time=PT{minutes}M")),
        prop::sample::select(vec![
            "so",
            "sou",
            "soup",
            "jalapeno",
            "st+so",
            "豆腐",
            "婆豆腐",
            "麻腐",
            "x",
            "zz"
        ])
        .prop_map(|words| format!("q={words}")),
    ];
    let name = |one: &String| one.split('=').next().unwrap_or_default().to_owned();
    prop::collection::vec(one, 0..5).prop_map(move |mut parts| {
        parts.sort();
        parts.dedup_by(|one, other| {
            one == other
                || name(one) == name(other)
                    && !name(one).ends_with("ingredient")
                    && name(one) != "tag"
        });
        parts.join("&")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn answers_are_those_of_the_tables(
        first in prop::collection::vec(made(), 1..60),
        changes in prop::collection::vec((0_u128..64, prop::option::weighted(0.8, made())), 0..30),
        questions in prop::collection::vec(question(), 8),
        limit in 1_usize..20,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let installation = installation().await;
            let mut written = Written::default();
            for (number, made) in (0..).zip(&first) {
                written.put(&installation, number, Some(made)).await;
            }
            settle(&installation).await;
            let compare = async || {
                for question in &questions {
                    let query = format!("{question}&limit={limit}");
                    let query = query.trim_start_matches('&');
                    let indexed = pages(&installation, query, true).await;
                    assert_eq!(indexed, pages(&installation, query, false).await, "{query}");
                }
            };
            compare().await;
            for (number, made) in &changes {
                written.put(&installation, *number, made.as_ref()).await;
            }
            // Before they are indexed, and after.
            compare().await;
            settle(&installation).await;
            compare().await;
        });
    }
}

fn plain(name: usize) -> Made {
    Made {
        name: vec![name],
        description: None,
        ingredients: vec![0],
        tag: None,
        author: None,
        difficulty: None,
        times: (None, None),
    }
}

/// Who wrote a recipe finds it, indexed or not; and a deleted one is found by nobody.
#[tokio::test]
async fn a_change_is_seen_before_it_is_indexed() {
    let installation = installation().await;
    let mut written = Written::default();
    written.put(&installation, 1, Some(&plain(0))).await;
    settle(&installation).await;
    let found = async |query: &str| pages(&installation, query, true).await.len();
    assert_eq!((found("q=sou").await, found("q=st").await), (1, 0));
    written.put(&installation, 1, Some(&plain(4))).await;
    assert_eq!((found("q=sou").await, found("q=st").await), (0, 1));
    settle(&installation).await;
    assert_eq!((found("q=sou").await, found("q=st").await), (0, 1));
    written.put(&installation, 1, None).await;
    assert_eq!((found("q=st").await, found("").await), (0, 0));
    settle(&installation).await;
    assert_eq!((found("q=st").await, found("").await), (0, 0));
}

/// The feed comes after the rows: who saw a recipe on its own finds it in lists before that.
#[tokio::test]
async fn what_was_seen_is_found() {
    let installation = installation().await;
    let mut written = Written::default();
    written.put(&installation, 1, Some(&plain(0))).await;
    settle(&installation).await;
    written.put(&installation, 2, Some(&plain(4))).await;
    installation.recipes.index.changed.lock().clear();
    let found = async || pages(&installation, "q=st", true).await.len();
    assert_eq!(found().await, 0, "nobody was told");
    let id = Uuid::from_u128(2 * 0x1_0003);
    installation.get(&format!("/v1/recipes/{id}"), &[]).await.json();
    assert_eq!(found().await, 1);
    settle(&installation).await;
    assert_eq!(found().await, 1);

    // One that is seen while all are read, behind whoever reads them.
    let index = &installation.recipes.index;
    let before = index.snapshot.load_full().unwrap();
    index.missed();
    written.put(&installation, 3, Some(&plain(4))).await;
    index.changed.lock().clear();
    let id = Uuid::from_u128(3 * 0x1_0003);
    installation.get(&format!("/v1/recipes/{id}"), &[]).await.json();
    assert!(index.publish(before, index.missed.load(Ordering::Acquire)));
    assert_eq!(found().await, 2);
}

/// What does not fit is dropped, and what may have been missed is read anew.
#[tokio::test]
async fn an_index_that_lacks_something_answers_nothing() {
    let installation = installation().await;
    let recipes = &installation.recipes;
    assert!(recipes.index.at_hand().is_none(), "nothing was read yet");
    let mut written = Written::default();
    for number in 0..200 {
        written.put(&installation, number, Some(&plain(0))).await;
    }
    assert!(recipes.index.follow_once(recipes).await.unwrap());
    assert!(recipes.index.at_hand().is_none(), "too many are changed since it began");
    settle(&installation).await;
    recipes.index.missed();
    assert!(recipes.index.at_hand().is_none());
    settle(&installation).await;
    let small = RecipeIndex::new(1_000, Handle::current());
    assert!(small.follow_once(recipes).await.unwrap());
    assert!(!small.follow_once(recipes).await.unwrap(), "once and for all");
    assert!(small.at_hand().is_none() && small.used_bytes() == 0);
}

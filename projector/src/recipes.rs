//! From an event of `recipes.events` to row changes.

use crate::projection::{Event, FoldError, Folded, Projection, Rows};
use almanac_domain::recipes::Recipe;
use almanac_schemas::{
    json,
    recipes::{
        CREATED, DELETED, RESTORED, REVISED, RecipeEventRecord, THUMBNAIL_REMOVED, THUMBNAIL_SET,
        TOPIC,
    },
};
use almanac_tables::{
    history,
    recipes::{
        Question, THUMBNAIL, Tables, answer_partition, history_bucket, id_bucket, listed_bucket,
        vocabulary,
    },
};
use std::collections::BTreeSet;

impl Projection for Tables {
    fn fold(&self, event: &Event<'_>) -> Result<Folded, FoldError> {
        let record = event.decoded.record();
        let kind = match record {
            CREATED => "recipe.created",
            REVISED => "recipe.revised",
            DELETED => "recipe.deleted",
            RESTORED => "recipe.restored",
            THUMBNAIL_SET => "recipe.thumbnail_set",
            THUMBNAIL_REMOVED => "recipe.thumbnail_removed",
            _ => return Err(event.unknown(TOPIC)),
        };
        let mut rows = event.rows();
        let done =
            fold_event(self, (record, kind), event.decoded.read()?, event.partition, &mut rows);
        done.map(|()| rows.folded()).ok_or(FoldError::OutsideDomain)
    }
}

fn fold_event(
    tables: &Tables,
    (record, kind): (&str, &str),
    event: RecipeEventRecord,
    source_partition: u32,
    rows: &mut Rows,
) -> Option<()> {
    let known = event.knowledge(record)?;
    let id = event.id.as_str();
    // What the recipe answered before the event: the tables differ by what changed only.
    let before = match (record, &event.before) {
        (_, Some(before)) => Some(before.to_domain()?),
        (DELETED | THUMBNAIL_SET | THUMBNAIL_REMOVED, None) => Some(known.recipe.clone()),
        _ => None,
    };
    let after = (!known.is_deleted).then_some(&known.recipe);
    for question in Question::ALL {
        let table = tables.of_question(question);
        let answers = |recipe: Option<&Recipe>| -> BTreeSet<String> {
            recipe.map(|recipe| question.answers(recipe)).unwrap_or_default()
        };
        let (old, new) = (answers(before.as_ref()), answers(after));
        let word = |rows: &mut Rows, answer: &str, is_taken_up| {
            let row = vocabulary::row_of(question, answer, source_partition, is_taken_up);
            if let Some((partition, clustering, body)) = row {
                rows.put(&tables.vocabulary, partition, clustering, body);
            }
        };
        for gone in old.difference(&new) {
            rows.delete(table, answer_partition(gone, id), id);
            word(rows, gone, false);
        }
        for added in new.difference(&old) {
            word(rows, added, true);
            rows.put(table, answer_partition(added, id), id, "{}");
        }
    }
    let rendered = json::recipes::render(id, &known);
    let own = if known.is_deleted {
        rows.delete(&tables.listed, listed_bucket(id), id);
        // Who may still look at its history.
        let owner = serde_json::to_string(&known.owner).ok()?;
        let thumbnail = serde_json::to_string(&known.thumbnail).ok()?;
        let version = known.version;
        format!(
            "{{\"deleted\":true,\"id\":\"{id}\",\"version\":{version},\"thumbnail\":{thumbnail},\"owner\":{owner}}}"
        )
    } else {
        if matches!(record, CREATED | RESTORED) {
            rows.put(&tables.listed, listed_bucket(id), id, "{}");
        }
        rendered.clone()
    };
    let thumbnail = [String::from("thumbnail")];
    let changed = match record {
        THUMBNAIL_SET | THUMBNAIL_REMOVED => &thumbnail[..],
        _ => event.changed.as_deref().unwrap_or_default(),
    };
    let changed = serde_json::to_string(changed).ok()?;
    let body = format!(
        "{{\"version\":{},\"type\":\"{kind}\",\"occurred_at\":\"{:.3}\",\"changed\":{changed},\"recipe\":{rendered}}}",
        known.version, known.updated_at
    );
    let (bucket, key) = (history_bucket(id, known.version), history::key(id, known.version));
    rows.put(&tables.history, bucket, key, body);
    rows.put_own(&tables.recipes, id_bucket(id), id, own);
    if record == THUMBNAIL_REMOVED {
        rows.delete(&tables.thumbnails, id, THUMBNAIL);
    }
    if record == THUMBNAIL_SET {
        let id = id.to_owned();
        let picture = json::thumbnail::render(&event.into_picture()?);
        rows.put(&tables.thumbnails, id, THUMBNAIL, picture);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folding;
    use almanac_domain::recipes::{Draft, IngredientDraft, StepDraft};
    use almanac_tables::recipes::VERSION;

    fn recipe(ingredient: &str, tag: &str) -> Recipe {
        let draft = Draft {
            name: Some("Soup".to_owned()),
            tags: vec![tag.to_owned()],
            ingredients: vec![IngredientDraft {
                ingredient: Some(ingredient.to_owned()),
                ..IngredientDraft::default()
            }],
            steps: vec![StepDraft { text: Some("Boil it.".to_owned()), ..StepDraft::default() }],
            ..Draft::default()
        };
        draft.check().unwrap()
    }

    fn event(version: i64, recipe: &Recipe, before: Option<&Recipe>) -> RecipeEventRecord {
        RecipeEventRecord {
            id: "0190f3a2-0000-7000-8000-0000000000ab".to_owned(),
            version,
            occurred_at: 1_000 * version,
            created_at: 1_000,
            owner: "mary".to_owned(),
            recipe: recipe.into(),
            changed: before.map(|_| vec!["ingredients".to_owned()]),
            before: before.map(Into::into),
            thumbnail: None,
            content_type: None,
            width: None,
            height: None,
            image: None,
        }
    }

    #[tokio::test]
    async fn rows_follow_a_recipe_from_its_event_alone() {
        let mut folding = Folding::new(Tables::of(VERSION).unwrap()).await;
        let (salt, pepper) = (recipe("salt", "quick"), recipe("pepper", "quick"));
        folding.event(CREATED, &event(1, &salt, None)).await;
        let by_ingredient = |folding: &Folding<Tables>| -> Vec<String> {
            let rows = folding.of("recipes_by_ingredient");
            rows.into_iter().map(|(partition, ..)| partition).collect()
        };
        assert_eq!(by_ingredient(&folding), ["salt/3"]);
        assert_eq!(folding.of("recipes_listed").len(), 1);
        folding.event(REVISED, &event(2, &pepper, Some(&salt))).await;
        assert_eq!(by_ingredient(&folding), ["pepper/3"], "the old one is gone");
        assert_eq!(folding.of("recipes_by_tag").len(), 1, "what did not change stays");
        assert_eq!(folding.only("recipes")["version"], 2);
        folding.event(DELETED, &event(3, &pepper, None)).await;
        for table in ["recipes_by_ingredient", "recipes_by_tag", "recipes_listed"] {
            assert!(folding.of(table).is_empty(), "{table}");
        }
        assert_eq!(folding.only("recipes")["deleted"], true);
        assert_eq!(folding.of("recipe_history").len(), 3);
        folding.repeats().await;
    }
}

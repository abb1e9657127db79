//! From an event of `recipes.events` to row changes.

use super::{
    Question, THUMBNAIL, Tables, answer_partition, history_bucket, id_bucket, listed_bucket,
    vocabulary,
};
use crate::{
    history,
    projection::{FoldError, Folded},
};
use almanac_domain::recipes::Recipe;
use almanac_read_store::{Change, Table, Write, timestamp};
use almanac_schemas::{
    Decoded, json,
    recipes::{
        CREATED, DELETED, RESTORED, REVISED, RecipeEventRecord, THUMBNAIL_REMOVED, THUMBNAIL_SET,
        TOPIC,
    },
};
use std::collections::BTreeSet;

pub(super) fn fold(
    tables: &Tables,
    decoded: &Decoded<'_>,
    source_partition: u32,
    position: u64,
) -> Result<Folded, FoldError> {
    let record = decoded.record();
    let kind = match record {
        CREATED => "recipe.created",
        REVISED => "recipe.revised",
        DELETED => "recipe.deleted",
        RESTORED => "recipe.restored",
        THUMBNAIL_SET => "recipe.thumbnail_set",
        THUMBNAIL_REMOVED => "recipe.thumbnail_removed",
        other => {
            return Err(FoldError::UnknownRecord { record: other.to_owned(), topic: TOPIC });
        }
    };
    let event: RecipeEventRecord = decoded.read()?;
    let place = (source_partition, position);
    fold_event(tables, record, kind, event, place).ok_or(FoldError::OutsideDomain)
}

fn fold_event(
    tables: &Tables,
    record: &str,
    kind: &str,
    event: RecipeEventRecord,
    place: (u32, u64),
) -> Option<Folded> {
    let (_, position) = place;
    let known = event.knowledge(record)?;
    let id = event.id.as_str();
    // What the recipe answered before the event: the tables differ by what changed only.
    let before = match (record, &event.before) {
        (_, Some(before)) => Some(before.to_domain()?),
        (DELETED | THUMBNAIL_SET | THUMBNAIL_REMOVED, None) => Some(known.recipe.clone()),
        _ => None,
    };
    let after = (!known.is_deleted).then_some(&known.recipe);
    let mut folded = Folded::default();
    let put = |table: &Table, partition: &str, clustering: &str, body: String| Write {
        table: table.clone(),
        change: Change::Put {
            partition: partition.to_owned(),
            clustering: clustering.to_owned(),
            timestamp: timestamp(position, 0, true),
            body: body.into(),
        },
    };
    let delete_row = |table: &Table, partition: &str, clustering: &str| Write {
        table: table.clone(),
        change: Change::Delete {
            partition: partition.to_owned(),
            clustering: clustering.to_owned(),
            timestamp: timestamp(position, 0, false),
        },
    };
    let delete = |table: &Table, partition: &str| delete_row(table, partition, id);
    for question in Question::ALL {
        let table = tables.of_question(question);
        let answers = |recipe: Option<&Recipe>| -> BTreeSet<String> {
            recipe.map(|recipe| question.answers(recipe)).unwrap_or_default()
        };
        let (old, new) = (answers(before.as_ref()), answers(after));
        let gone = |answer: &String| delete(table, &answer_partition(answer, id));
        folded.index.extend(old.difference(&new).map(gone));
        let added: Vec<&String> = new.difference(&old).collect();
        let word = |answer: &String, is_taken_up| {
            vocabulary::write(&tables.vocabulary, question, answer, is_taken_up, place)
        };
        folded.index.extend(old.difference(&new).filter_map(|answer| word(answer, false)));
        folded.index.extend(added.iter().filter_map(|answer| word(answer, true)));
        let row = |answer: &String| put(table, &answer_partition(answer, id), id, "{}".to_owned());
        folded.index.extend(added.into_iter().map(row));
    }
    let rendered = json::recipes::render(id, &known);
    let own = if known.is_deleted {
        folded.index.push(delete(&tables.listed, listed_bucket(id)));
        // Who may still look at its history.
        let owner = serde_json::to_string(&known.owner).ok()?;
        let thumbnail = serde_json::to_string(&known.thumbnail).ok()?;
        let version = known.version;
        format!(
            "{{\"deleted\":true,\"id\":\"{id}\",\"version\":{version},\"thumbnail\":{thumbnail},\"owner\":{owner}}}"
        )
    } else {
        if matches!(record, CREATED | RESTORED) {
            folded.index.push(put(&tables.listed, listed_bucket(id), id, "{}".to_owned()));
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
    folded.index.push(put(&tables.history, &bucket, &key, body));
    folded.own.push(put(&tables.recipes, id_bucket(id), id, own));
    if record == THUMBNAIL_REMOVED {
        folded.index.push(delete_row(&tables.thumbnails, id, THUMBNAIL));
    }
    if record == THUMBNAIL_SET {
        let id = id.to_owned();
        let picture = json::thumbnail::render(&event.into_picture()?);
        folded.index.push(put(&tables.thumbnails, &id, THUMBNAIL, picture));
    }
    Some(folded)
}

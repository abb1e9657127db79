//! What became of an event in the tables: whether they are folded so far, and whether the row of history
//! is there. And the way back: at which offset an event stands, as its row of history tells.

use super::hops::{Hop, Kind};
use crate::{state::ApiState, v1::store_problem};
use almanac_edge::Problem;
use almanac_event_log::{Offset, StoredRecord};
use almanac_read_store::{Row, StoreResult, position_of};
use almanac_tables::{History, Projected, Source, history, parked, positions};
use serde_json::{Value, json};

/// By topics of events, the offsets of what may be the event with this number. Tables that do not answer
/// tell nothing.
pub(super) async fn offsets(
    state: &ApiState,
    key: &str,
    number: u64,
) -> Vec<(&'static str, Offset)> {
    let mut found = Vec::new();
    // Of other ids there are no rows.
    if !history::is_key(key) {
        return found;
    }
    for slot in &state.slots {
        let served = slot.live();
        let projection: &dyn Projected = served.model.projection();
        let (Some(history), Some(topic)) = (projection.history(), projection.topics().first())
        else {
            continue;
        };
        let row = of_event(state, &history, key, number).await;
        found.extend(row.ok().flatten().map(|row| (*topic, position_of(row.timestamp))));
    }
    found
}

/// The row of history of an event, in the table of its projection.
async fn of_event(
    state: &ApiState,
    history: &History<'_>,
    key: &str,
    number: u64,
) -> StoreResult<Option<Row>> {
    let bucket = (history.bucket)(key, number);
    state.store.get(history.table, &bucket, &history::key(key, number)).await
}

/// A hop for each projection that folds the topic of the event.
pub(super) async fn told(state: &ApiState, event: &StoredRecord) -> Result<Vec<Hop>, Problem> {
    let topic = event.topic.strip_prefix(&state.options.prefix).unwrap_or(&event.topic);
    let header = |name: &str| event.record.headers.get_str(name);
    let id = header("ce_id").unwrap_or_default();
    let sequence = header("ce_sequence").and_then(|text| text.parse::<u64>().ok());
    let key = String::from_utf8_lossy(&event.record.key).into_owned();
    let at_ms = Hop::event(event).at_ms;
    let mut hops = Vec::new();
    for one in &state.options.projections {
        let Some(topic) = one.topics.iter().copied().find(|name| *name == topic) else { continue };
        let edition = state.edition(one.name, one.fold);
        let source = Source { projection: one.name, edition, topic };
        let saved = positions::of_partition(&*state.store, &source, event.partition).await;
        let saved = saved.map_err(|error| store_problem(&error))?;
        let position = saved.map_or(0, |saved| saved.next_offset);
        let is_folded = position > event.offset;
        let parked = parked::of_partition(&*state.store, &source, event.partition).await;
        let parked = parked.map_err(|error| store_problem(&error))?;
        let name = parked::name(&event.record.key);
        let is_parked = parked
            .iter()
            .any(|one| one.is_set_aside() && one.name == name && one.offset() <= event.offset);
        let (table, has_row) = row(state, one.name, &key, sequence).await?;
        let what = match (is_parked, is_folded, has_row) {
            (true, ..) => "the key is parked: the event is passed over".to_owned(),
            (false, true, Some(false)) => "folded, and no row is there".to_owned(),
            (false, true, _) => "folded".to_owned(),
            (false, false, _) => format!("not folded yet: the tables are at offset {position}"),
        };
        hops.push(Hop {
            kind: Kind::Table,
            at_ms,
            place: None,
            table: Some(json!({
                "projection": one.name,
                "version": edition.to_string(),
                "name": table,
                "folded": is_folded,
                "parked": is_parked,
                "row": has_row,
            })),
            id: id.to_owned(),
            key: key.clone(),
            what: format!("{}: {what}", one.name),
            caused_by: Some(id.to_owned()),
        });
    }
    Ok(hops)
}

/// The table of history, and whether it has a row of the event; where the projection keeps none, neither.
async fn row(
    state: &ApiState,
    projection: &str,
    key: &str,
    number: Option<u64>,
) -> Result<(Value, Option<bool>), Problem> {
    let Some(number) = number.filter(|_| history::is_key(key)) else {
        return Ok((Value::Null, None));
    };
    for slot in &state.slots {
        let served = slot.live();
        let model: &dyn Projected = served.model.projection();
        let Some(history) = model.history().filter(|_| model.name() == projection) else {
            continue;
        };
        let row = of_event(state, &history, key, number).await;
        let row = row.map_err(|error| store_problem(&error))?;
        return Ok((history.table.name().into(), Some(row.is_some())));
    }
    Ok((Value::Null, None))
}

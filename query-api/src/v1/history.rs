//! Pages of the events of one aggregate, over the partitions that they are spread over, and what was the
//! newest of them at some time.

use super::store_problem;
use crate::{answers::Room, state::Shared};
use almanac_edge::{Problem, query::Parameters};
use almanac_errors::Words;
use almanac_read_store::{Slice, Table};
use almanac_tables::history;
use jiff::Timestamp;
use serde::Deserialize;

pub(super) struct Page {
    pub(super) items: Vec<String>,
    /// Number of the last of them, if there are more.
    pub(super) last: Option<u64>,
    /// Memory for it.
    pub(super) room: Room,
}

/// The events from number `first` on, as far as a page goes. `bucket` tells the partition of an
/// event by its number, `shown` what is shown of its row.
pub(super) async fn page(
    state: &Shared,
    table: &Table,
    bucket: impl Fn(u64) -> String,
    id: &str,
    (first, limit): (u64, usize),
    shown: impl Fn(&str) -> Option<String>,
) -> Result<Page, Problem> {
    let mut page = Page { items: Vec::new(), last: None, room: state.answers.page() };
    let mut next = first;
    loop {
        let slice = Slice {
            from: Some(history::key(id, next)),
            limit: limit + 1 - page.items.len(),
            ..Slice::prefix(&history::prefix(id))
        };
        let rows = state.store.slice(table, &bucket(next), &slice).await;
        let rows = rows.map_err(|error| store_problem(&error))?;
        let before = next;
        for row in &rows {
            let Some(number) = history::number(&row.clustering) else { continue };
            let item = std::str::from_utf8(&row.body).ok().and_then(&shown);
            let bytes = item.as_ref().map_or(0, |item| item.len() + 1);
            if page.items.len() == limit || !page.room.add(bytes) {
                return Ok(page);
            }
            page.last = Some(number);
            next = number + 1;
            page.items.extend(item);
        }
        if next == before {
            return Ok(Page { last: None, ..page });
        }
    }
}

/// The time that `as_of` asks about. A time to come means now, as none does.
pub(super) fn as_of(parameters: &Parameters) -> Result<Option<Timestamp>, Problem> {
    Ok(parameters.time("as_of")?.filter(|at| *at < Timestamp::now()))
}

/// What most rows of history say of their event.
#[derive(Deserialize)]
pub(super) struct Told<'a> {
    #[serde(rename = "type")]
    pub(super) kind: &'a str,
    pub(super) occurred_at: Timestamp,
}

impl<'a> Told<'a> {
    pub(super) fn read(row: &'a str) -> Option<Self> {
        serde_json::from_str(row).ok()
    }
}

/// The last event that is not after an instant: its number and its row. `newest` is the number of the
/// newest event, `time` tells when the event of a row occurred.
pub(super) async fn then(
    state: &Shared,
    table: &Table,
    bucket: impl Fn(u64) -> String,
    (id, newest): (&str, u64),
    at: Timestamp,
    time: impl Fn(&str) -> Option<Timestamp>,
) -> Result<Option<(u64, String)>, Problem> {
    // Events are numbered without gaps, and their times do not fall.
    let (mut known, mut after, mut found) = (0, newest.saturating_add(1), None);
    while after - known > 1 {
        let number = known + (after - known) / 2;
        let row = state.store.get(table, &bucket(number), &history::key(id, number)).await;
        let Some(row) = row.map_err(|error| store_problem(&error))? else {
            after = number;
            continue;
        };
        let text = std::str::from_utf8(&row.body).ok();
        let Some((text, time)) = text.and_then(|text| Some((text, time(text)?))) else {
            let damaged = format!("event {number} of {id} in {table} cannot be read");
            return Err(Problem::internal(&Words::from(damaged)));
        };
        if time <= at {
            (known, found) = (number, Some((number, text.to_owned())));
        } else {
            after = number;
        }
    }
    Ok(found)
}

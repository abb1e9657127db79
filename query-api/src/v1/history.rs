//! Pages of the events of one aggregate, over the partitions that they are spread over.

use super::store_problem;
use crate::{answers::Room, state::ApiState};
use almanac_edge::Problem;
use almanac_projector::history;
use almanac_read_store::{Slice, Table};

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
    state: &ApiState,
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

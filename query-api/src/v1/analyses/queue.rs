//! The place of an analysis among those that nobody works at yet: in the order in which workers take
//! them. Requests come before repeats, and callers take turns.

use super::Analyses;
use crate::v1::store_problem;
use almanac_edge::Problem;
use almanac_read_store::{ReadStore, Slice};
use almanac_tables::analyses::open_partitions;
use futures::TryStreamExt;
use jiff::{Timestamp, ToSpan};
use serde::Deserialize;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Mutex;

/// A reading of the queue serves everybody for so long.
const FRESH: Duration = Duration::from_millis(250);
const AHEAD: usize = 8;
/// What is open for longer than a day has other troubles than its place.
const DAYS: i64 = 1;

/// Places by id, from 1.
type Places = Arc<HashMap<String, usize>>;

#[derive(Default)]
pub(super) struct Queue {
    /// Who reads holds the lock: all who wait for it want to know the same.
    known: Mutex<Option<(Instant, Places)>>,
}

#[derive(Clone, Debug, Deserialize)]
struct Open {
    owner: String,
    origin: String,
    state: String,
}

impl Analyses {
    /// The place of an analysis in the queue, from 1; `None` once it is not in it.
    pub(super) async fn place(&self, id: &str) -> Result<Option<usize>, Problem> {
        let mut known = self.queue.known.lock().await;
        if let Some((at, places)) = &*known
            && at.elapsed() < FRESH
        {
            return Ok(places.get(id).copied());
        }
        let places = Arc::new(places(self.open().await?));
        let place = places.get(id).copied();
        *known = Some((Instant::now(), places));
        Ok(place)
    }

    /// Those that are open, in the order of their requests.
    async fn open(&self) -> Result<Vec<(String, Open)>, Problem> {
        let now = Timestamp::now();
        let days = (0..=DAYS).filter_map(|back| now.checked_sub((24 * back).hours()).ok());
        let partitions = days.flat_map(open_partitions).collect();
        let store: &dyn ReadStore = &*self.store;
        let slice = Slice::all();
        let rows: Vec<_> = store
            .slices(&self.tables.open, partitions, &slice, AHEAD)
            .try_collect()
            .await
            .map_err(|error| store_problem(&error))?;
        let mut rows: Vec<_> = rows.into_iter().flat_map(|(_, rows)| rows).collect();
        rows.sort_unstable_by(|one, other| one.clustering.cmp(&other.clustering));
        let open = rows.into_iter().filter_map(|row| {
            let (_, id) = row.clustering.split_once('/')?;
            Some((id.to_owned(), serde_json::from_slice(&row.body).ok()?))
        });
        Ok(open.collect())
    }
}

/// `open` is in the order of requests.
fn places(open: Vec<(String, Open)>) -> HashMap<String, usize> {
    let mut turns: HashMap<(bool, String), usize> = HashMap::new();
    let mut waiting: Vec<(bool, usize, usize, String)> = Vec::new();
    for (number, (id, open)) in open.into_iter().enumerate() {
        if open.state != "queued" {
            continue;
        }
        let is_repeat = open.origin == "repeat";
        let turn = turns.entry((is_repeat, open.owner)).or_default();
        waiting.push((is_repeat, *turn, number, id));
        *turn += 1;
    }
    waiting.sort_unstable();
    (1..).zip(waiting).map(|(place, (.., id))| (id, place)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_take_turns_and_repeats_come_last() {
        let open = [
            ("r", "mary", "repeat", "queued"),
            ("a1", "ann", "request", "queued"),
            ("a2", "ann", "request", "queued"),
            ("a3", "ann", "request", "running"),
            ("a4", "ann", "request", "queued"),
            ("b1", "bob", "request", "queued"),
        ];
        let open = open.map(|(id, owner, origin, state)| {
            let [owner, origin, state] = [owner, origin, state].map(str::to_owned);
            (id.to_owned(), Open { owner, origin, state })
        });
        let places = places(open.into());
        let mut order: Vec<_> = places.iter().map(|(id, place)| (*place, id.as_str())).collect();
        order.sort_unstable();
        assert_eq!(order, [(1, "a1"), (2, "b1"), (3, "a2"), (4, "a4"), (5, "r")]);
    }
}

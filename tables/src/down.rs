//! Why a partition of a projection stands still, kept beside its position so that it outlives the process that
//! met it. It is true for as long as the position stands where it says.

use crate::{
    Edition,
    positions::{Positions, corrupt, refused, table},
    source::{Source, rows_of},
};
use almanac_event_log::Offset;
use almanac_read_store::{Change, ReadStore, Slice, StoreResult, Write, timestamp};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Down {
    /// `event`, `schema`, `unknown_event`, `store`, `log`, `registry`, `too_many_parked` or `panic`.
    pub category: String,
    /// In milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// All events below are folded; the next one is not.
    pub position: Offset,
    /// Of the event that is at fault, if one is.
    pub offset: Option<Offset>,
    /// Its key, as far as it is shown.
    pub key: Option<String>,
    pub detail: String,
}

impl Down {
    /// Whether this is the same fault as another, met later.
    pub fn is_still(&self, earlier: &Self) -> bool {
        (&self.category, self.position, self.offset)
            == (&earlier.category, earlier.position, earlier.offset)
    }
}

fn partition_of(projection: &str, edition: Edition) -> String {
    format!("{}/down", rows_of(projection, edition))
}

/// The write that says it, or takes it back. Of several the latest stands.
pub fn write(
    source: &Source,
    partition: u32,
    down: Option<&Down>,
    now_ms: i64,
) -> StoreResult<Write> {
    let number = u64::try_from(now_ms).unwrap_or_default();
    let (place, rows) = (source.place(partition), partition_of(source.projection, source.edition));
    let change = match down {
        Some(down) => Change::Put {
            partition: rows,
            clustering: place,
            timestamp: timestamp(number, 0, true),
            body: serde_json::to_vec(down).map_err(refused)?.into(),
        },
        None => Change::Delete {
            partition: rows,
            clustering: place,
            timestamp: timestamp(number, 1, false),
        },
    };
    Ok(Write { table: table()?, change })
}

/// What an owner of the partition met.
pub async fn of_partition(
    store: &dyn ReadStore,
    source: &Source,
    partition: u32,
) -> StoreResult<Option<Down>> {
    let (table, rows) = (table()?, partition_of(source.projection, source.edition));
    let row = store.get(&table, &rows, &source.place(partition)).await?;
    let parsed = row.map(|row| serde_json::from_slice(&row.body));
    parsed.transpose().map_err(|error| corrupt(&table, error))
}

/// What of a projection stands still, by topic and partition: nothing that has moved on since.
pub async fn read(
    store: &dyn ReadStore,
    projection: &str,
    edition: impl Into<Edition>,
    positions: &Positions,
) -> StoreResult<Vec<((String, u32), Down)>> {
    let (table, rows) = (table()?, partition_of(projection, edition.into()));
    let mut found = Vec::new();
    for row in store.slice(&table, &rows, &Slice::all()).await? {
        let place = row.clustering.rsplit_once('/');
        let place = place.and_then(|(topic, partition)| Some((topic, partition.parse().ok()?)));
        let (topic, partition): (&str, u32) =
            place.ok_or_else(|| corrupt(&table, format!("key {:?}", row.clustering)))?;
        let down: Down =
            serde_json::from_slice(&row.body).map_err(|error| corrupt(&table, error))?;
        let place = (topic.to_owned(), partition);
        let reached = positions.get(&place).map_or(0, |position| position.next_offset);
        if reached <= down.position {
            found.push((place, down));
        }
    }
    Ok(found)
}

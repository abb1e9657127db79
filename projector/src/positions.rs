//! How far a projection is folded, kept in the read store beside its rows.

use almanac_event_log::{Offset, TopicId};
use almanac_read_store::{
    Change, ReadStore, Slice, StoreError, StoreResult, Table, Write, timestamp,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Of all projections; its rows name their version themselves.
const TABLE: &str = "projection_positions";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Positions of another incarnation of the topic mean nothing.
    pub topic_id: TopicId,
    pub next_offset: Offset,
    /// Of the newest event that a command caused: the position of that command.
    #[serde(default)]
    pub consistency_token: Option<String>,
    /// When the position moved here, in milliseconds since the Unix epoch.
    #[serde(default)]
    pub moved_at_ms: Option<i64>,
}

pub fn table() -> StoreResult<Table> {
    Table::new(TABLE, 1)
}

fn key(projection: &str, version: u32) -> String {
    format!("{projection}/{version}")
}

/// The write that saves a position. Positions only move forward: an older one loses by its
/// timestamp.
pub fn write(
    projection: &str,
    version: u32,
    partition: u32,
    position: &Position,
) -> StoreResult<Write> {
    let body = serde_json::to_vec(position).map_err(|error| StoreError::Refused {
        what: TABLE.to_owned(),
        detail: error.to_string(),
    })?;
    Ok(Write {
        table: table()?,
        change: Change::Put {
            partition: key(projection, version),
            clustering: format!("{partition:06}"),
            timestamp: timestamp(position.next_offset, 0, true),
            body: Bytes::from(body),
        },
    })
}

/// All positions of a projection, by partition.
pub async fn read(
    store: &dyn ReadStore,
    projection: &str,
    version: u32,
) -> StoreResult<BTreeMap<u32, Position>> {
    let table = table()?;
    let rows = store.slice(&table, &key(projection, version), &Slice::all()).await?;
    let mut positions = BTreeMap::new();
    for row in rows {
        let corrupt = |detail: String| StoreError::Corrupt { table: table.to_string(), detail };
        let partition =
            row.clustering.parse().map_err(|_| corrupt(format!("key {:?}", row.clustering)))?;
        let position =
            serde_json::from_slice(&row.body).map_err(|error| corrupt(error.to_string()))?;
        positions.insert(partition, position);
    }
    Ok(positions)
}

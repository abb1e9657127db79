//! How far projections are folded, kept in the read store beside their rows.

use crate::{
    Edition,
    source::{Source, rows_of},
};
use almanac_errors::Cause;
use almanac_event_log::{EventLog, Isolation, LogResult, Offset, TopicId};
use almanac_read_store::{
    Change, ReadStore, Row, Slice, StoreError, StoreResult, Table, Write, timestamp,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Of all projections; its rows name projection, version, topic and partition.
const TABLE: &str = "projection_positions";
const VERSION: u32 = 2;

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
    /// Of the keys and values of all events below, each with all before it: of a rebuild.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The hold that the owner stands still for, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_for: Option<i64>,
    /// Generation of the newest partial rebuild of the partition: its rows win over those before it.
    #[serde(default, skip_serializing_if = "is_none")]
    pub repairs: u16,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it so")]
fn is_none(repairs: &u16) -> bool {
    *repairs == 0
}

/// What the owners of a rebuild's partitions stand still for while its rows are compared: nothing once it
/// is let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Milliseconds since the Unix epoch; a later one counts.
    pub number: i64,
    pub is_held: bool,
}

const HOLD: &str = "hold";

/// The write that makes the owners stand still, or lets them go.
pub fn write_hold(source: &Source, hold: Hold) -> StoreResult<Write> {
    let body = serde_json::to_vec(&hold).map_err(refused)?;
    let number = u64::try_from(hold.number).unwrap_or_default();
    Ok(Write {
        table: table()?,
        change: Change::Put {
            partition: format!("{}/{HOLD}", source.rows()),
            clustering: HOLD.to_owned(),
            // To let go wins over the hold of the same number.
            timestamp: timestamp(number, u16::from(!hold.is_held), true),
            body: Bytes::from(body),
        },
    })
}

/// The hold of a rebuild, if there ever was one.
pub async fn hold(store: &dyn ReadStore, source: &Source) -> StoreResult<Option<Hold>> {
    let table = table()?;
    let row = store.get(&table, &format!("{}/{HOLD}", source.rows()), HOLD).await?;
    let parsed = row.map(|row| serde_json::from_slice(&row.body));
    parsed.transpose().map_err(|error| corrupt(&table, error))
}

pub fn table() -> StoreResult<Table> {
    Table::new(TABLE, VERSION)
}

/// The write that saves a position. Positions only move forward: an older one loses by its
/// timestamp.
pub fn write(source: &Source, partition: u32, position: &Position) -> StoreResult<Write> {
    let body = serde_json::to_vec(position).map_err(refused)?;
    Ok(Write {
        table: table()?,
        change: Change::Put {
            partition: source.rows(),
            clustering: source.place(partition),
            timestamp: timestamp(position.next_offset, 0, true),
            body: Bytes::from(body),
        },
    })
}

/// The position of one partition, if one was ever saved.
pub async fn of_partition(
    store: &dyn ReadStore,
    source: &Source,
    partition: u32,
) -> StoreResult<Option<Position>> {
    let table = table()?;
    let row = store.get(&table, &source.rows(), &source.place(partition)).await?;
    row.map(|row| parse(&table, &row)).transpose()
}

/// By topic and partition.
pub type Positions = BTreeMap<(String, u32), Position>;

/// Whether every partition has come as far as in these. Of a partition without records one generation may have
/// a position, that of its start, and another none: both have folded all of it. Projections fold topics that are
/// kept for ever, so that partitions start at 0.
pub fn are_as_far(reached: &Positions, those: &Positions) -> bool {
    those.iter().all(|(place, those)| {
        let reached = reached.get(place).map_or(0, |reached| reached.next_offset);
        reached >= those.next_offset
    })
}

/// What the positions of a topic's partitions come to once all is folded that is there now.
pub async fn ends(log: &dyn EventLog, topic: &str) -> LogResult<(TopicId, Vec<Offset>)> {
    let described = log.topic(topic).await?;
    let mut ends = Vec::with_capacity(described.partitions as usize);
    for partition in 0..described.partitions {
        let start = log.start(topic, partition).await?;
        let end = log.end(topic, partition, Isolation::Committed).await?;
        // Nobody folds what is not there, and so nobody saves that he did.
        ends.push(if end == start { 0 } else { end });
    }
    Ok((described.id, ends))
}

/// Where topics end, by topic and partition.
pub type Ends = BTreeMap<(&'static str, u32), Offset>;

/// The same of several topics, whose names get the prefix.
pub async fn ends_of(log: &dyn EventLog, prefix: &str, topics: &[&'static str]) -> LogResult<Ends> {
    let mut found = Ends::new();
    for topic in topics {
        let (_, of_topic) = ends(log, &format!("{prefix}{topic}")).await?;
        found.extend((0..).zip(of_topic).map(|(partition, end)| ((*topic, partition), end)));
    }
    Ok(found)
}

/// Whether everything below these ends is folded.
pub fn reach(positions: &Positions, ends: &Ends) -> bool {
    let mut ends = ends.iter().filter(|(_, end)| **end > 0);
    ends.all(|((topic, partition), end)| {
        let reached = positions.get(&((*topic).to_owned(), *partition));
        reached.is_some_and(|at| at.next_offset >= *end)
    })
}

/// All positions of a projection.
pub async fn read(
    store: &dyn ReadStore,
    projection: &str,
    edition: impl Into<Edition>,
) -> StoreResult<Positions> {
    let table = table()?;
    let rows = store.slice(&table, &rows_of(projection, edition.into()), &Slice::all()).await?;
    let mut positions = BTreeMap::new();
    for row in rows {
        let place = row.clustering.rsplit_once('/');
        let place = place.and_then(|(topic, partition)| Some((topic, partition.parse().ok()?)));
        let (topic, partition) =
            place.ok_or_else(|| corrupt(&table, format!("key {:?}", row.clustering)))?;
        positions.insert((topic.to_owned(), partition), parse(&table, &row)?);
    }
    Ok(positions)
}

pub(crate) fn refused(error: serde_json::Error) -> StoreError {
    StoreError::Refused { what: TABLE.to_owned(), source: error.into() }
}

fn parse(table: &Table, row: &Row) -> StoreResult<Position> {
    serde_json::from_slice(&row.body).map_err(|error| corrupt(table, error))
}

pub(crate) fn corrupt(table: &Table, cause: impl Into<Cause>) -> StoreError {
    StoreError::Corrupt { table: table.to_string(), source: cause.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offsets: &[(u32, Offset)]) -> Positions {
        let position = |next_offset| Position {
            topic_id: TopicId(uuid::Uuid::nil()),
            next_offset,
            consistency_token: None,
            moved_at_ms: None,
            digest: None,
            held_for: None,
            repairs: 0,
        };
        let places = offsets
            .iter()
            .map(|(partition, next)| (("recipes.events".to_owned(), *partition), position(*next)));
        places.collect()
    }

    /// A rebuild saves a position of partitions without records; live tables may never have.
    #[test]
    fn a_partition_without_records_is_folded_with_and_without_a_position() {
        let (rebuilt, live) = (at(&[(0, 0), (1, 7)]), at(&[(1, 7)]));
        assert!(are_as_far(&live, &rebuilt) && are_as_far(&rebuilt, &live));
        assert!(!are_as_far(&at(&[(1, 6)]), &live), "behind");
        assert!(!are_as_far(&at(&[]), &live), "of a partition with records nothing is folded");
    }
}

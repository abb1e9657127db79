//! How a row stands in fjall: its key is `partition NUL clustering`; its value is a mark (row or
//! tombstone), the write timestamp, and the body.

use crate::{Change, Row, Scanned, StoreError, StoreResult, Table, Write};
use bytes::{BufMut, Bytes, BytesMut};
use fjall::compaction::filter::{
    CompactionFilter, CompactionFilterResult, Context, Factory, ItemAccessor, Verdict,
};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Cassandra's default `gc_grace_seconds`.
pub const TOMBSTONE_GRACE: Duration = Duration::from_secs(10 * 24 * 3600);

const TOMBSTONE: u8 = 0;
const ROW: u8 = 1;
const HEADER: usize = 9;

pub(super) fn row_key(partition: &str, clustering: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(partition.len() + 1 + clustering.len());
    key.extend_from_slice(partition.as_bytes());
    key.push(0);
    key.extend_from_slice(clustering.as_bytes());
    key
}

pub(super) fn encode(write: &Write, now_s: u64) -> StoreResult<(Vec<u8>, Bytes)> {
    write.check()?;
    let (partition, clustering, timestamp, body) = match &write.change {
        Change::Put { partition, clustering, timestamp, body } => {
            (partition, clustering, timestamp, Some(body))
        }
        Change::Delete { partition, clustering, timestamp } => {
            (partition, clustering, timestamp, None)
        }
    };
    let size = body.map_or(8, |body| body.len());
    let mut value = BytesMut::with_capacity(HEADER + size);
    value.put_u8(if body.is_some() { ROW } else { TOMBSTONE });
    value.put_i64(*timestamp);
    match body {
        Some(body) => value.put_slice(body),
        None => value.put_u64(now_s),
    }
    Ok((row_key(partition, clustering), value.freeze()))
}

/// Whether a value replaces the one that is there: by timestamp, then tombstone over row, then
/// the greater body.
pub(super) fn stands_over(new: &[u8], current: &[u8]) -> bool {
    let order = |value: &[u8]| -> Option<(i64, bool)> {
        let timestamp = i64::from_be_bytes(value.get(1..HEADER)?.try_into().ok()?);
        Some((timestamp, value[0] == TOMBSTONE))
    };
    let (new_order, current_order) = (order(new), order(current));
    if new_order != current_order {
        return new_order > current_order;
    }
    new[0] == ROW && new[HEADER..] > current[HEADER..]
}

/// `None` for a tombstone.
pub(super) fn decode(table: &Table, clustering: &[u8], value: Bytes) -> StoreResult<Option<Row>> {
    let corrupt =
        |detail: &str| StoreError::Corrupt { table: table.to_string(), source: detail.into() };
    let header = value.get(..HEADER).ok_or_else(|| corrupt("value is too short"))?;
    match header[0] {
        TOMBSTONE => Ok(None),
        ROW => {
            let timestamp = i64::from_be_bytes(
                header[1..].try_into().map_err(|_| corrupt("value is too short"))?,
            );
            let clustering =
                std::str::from_utf8(clustering).map_err(|_| corrupt("key is not text"))?.to_owned();
            Ok(Some(Row { clustering, timestamp, body: value.slice(HEADER..) }))
        }
        _ => Err(corrupt("unknown mark")),
    }
}

/// The row under a key, with its partition; `None` for a tombstone.
pub(super) fn scanned(table: &Table, key: &[u8], value: Bytes) -> StoreResult<Option<Scanned>> {
    let corrupt =
        |detail: &str| StoreError::Corrupt { table: table.to_string(), source: detail.into() };
    let end = key.iter().position(|byte| *byte == 0).ok_or_else(|| corrupt("key has one part"))?;
    let Some(row) = decode(table, &key[end + 1..], value)? else { return Ok(None) };
    let partition = std::str::from_utf8(&key[..end]).map_err(|_| corrupt("key is not text"))?;
    Ok(Some(Scanned { token: 0, partition: partition.to_owned(), row }))
}

pub(super) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Drops tombstones past their grace while fjall compacts.
pub(super) struct TombstoneFilter;

impl Factory for TombstoneFilter {
    fn name(&self) -> &str {
        "tombstones"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        Box::new(Self)
    }
}

impl CompactionFilter for TombstoneFilter {
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> CompactionFilterResult {
        let value = item.value()?;
        let expired = value.len() == HEADER + 8
            && value[0] == TOMBSTONE
            && value[HEADER..].try_into().is_ok_and(|deleted: [u8; 8]| {
                u64::from_be_bytes(deleted) + TOMBSTONE_GRACE.as_secs() < unix_seconds()
            });
        Ok(if expired { Verdict::Remove } else { Verdict::Keep })
    }
}

//! Keys that are set aside because an event of theirs cannot be folded: in a table of their own,
//! under the partition of the log that they lie in.

use crate::projection::Projection;
use almanac_event_log::{Excerpt, StoredRecord};
use almanac_read_store::{Change, ReadStore, Row, Slice, StoreResult, Table, Write, timestamp};
use sha2::{Digest, Sha256};
use std::{borrow::Cow, collections::HashSet, fmt::Write as _};

/// Keys up to this length are parked under their own name.
const LONGEST: usize = 200;
/// What the name of any other key begins with.
const HASHED: &str = "sha256:";
/// Of the fault, in the row.
const REASON: usize = 1_000;

/// The name that a key is parked under: what cannot be a row's key, or would be a very long one,
/// is named by its hash.
pub fn name(key: &[u8]) -> Cow<'_, str> {
    let plain = std::str::from_utf8(key).ok().filter(|text| {
        text.len() <= LONGEST && !text.starts_with(HASHED) && !text.contains(char::is_control)
    });
    plain.map_or_else(|| hashed(key).into(), Cow::Borrowed)
}

fn hashed(key: &[u8]) -> String {
    let mut name = HASHED.to_owned();
    for byte in Sha256::digest(key) {
        let _ = write!(name, "{byte:02x}");
    }
    name
}

fn prefix(partition: u32) -> String {
    format!("{partition:06}/")
}

/// The name in a row of the table. Rows that an earlier version wrote may have longer ones.
fn name_of(row: &Row) -> Option<String> {
    let (_, name) = row.clustering.split_once('/')?;
    match name.strip_prefix(HASHED) {
        Some(_) => Some(name.to_owned()),
        None => Some(self::name(name.as_bytes()).into_owned()),
    }
}

/// Names of the keys of one partition.
pub(crate) async fn of_partition(
    store: &dyn ReadStore,
    projection: &dyn Projection,
    partition: u32,
) -> StoreResult<HashSet<String>> {
    let slice = Slice::prefix(&prefix(partition));
    let rows = store.slice(projection.parked(), projection.name(), &slice).await?;
    Ok(rows.iter().filter_map(name_of).collect())
}

/// Names of all keys that a projection has set aside; `table` is where it keeps them.
pub async fn all(
    store: &dyn ReadStore,
    table: &Table,
    projection: &str,
) -> StoreResult<HashSet<String>> {
    let rows = store.slice(table, projection, &Slice::all()).await?;
    Ok(rows.iter().filter_map(name_of).collect())
}

/// The row that sets a record's key aside.
pub(crate) fn write(projection: &dyn Projection, record: &StoredRecord, reason: &str) -> Write {
    let key = &record.record.key;
    let body = serde_json::json!({
        "offset": record.offset,
        "reason": Excerpt::of(reason).at_most(REASON).to_string(),
        "key": Excerpt::of(key).to_string(),
        "key_bytes": key.len(),
    });
    Write {
        table: projection.parked().clone(),
        change: Change::Put {
            partition: projection.name().to_owned(),
            clustering: format!("{}{}", prefix(record.partition), name(key)),
            timestamp: timestamp(record.offset, 0, true),
            body: body.to_string().into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_short_name_that_its_row_gives_back() {
        let long = [b'k'; 70_000];
        let exact = "é".repeat(LONGEST / 2);
        let keys: [&[u8]; 8] = [
            b"",
            b"0190f3a2-0000-7000-8000-000000000000",
            b"a/b",
            b"\xff\xfe",
            b"nul\0",
            b"sha256:00",
            exact.as_bytes(),
            &long,
        ];
        let mut names = HashSet::new();
        for key in keys {
            let name = name(key);
            assert!(name.len() <= LONGEST && !name.contains('\0'), "{name}");
            let row =
                Row { clustering: format!("{}{name}", prefix(3)), timestamp: 1, body: "{}".into() };
            assert_eq!(name_of(&row).as_deref(), Some(&*name));
            assert!(names.insert(name.into_owned()), "two keys have one name");
        }
        assert_eq!(name(b"a/b"), "a/b");
        assert_eq!(name(exact.as_bytes()), exact);
        assert!(name(&long).starts_with(HASHED) && name(b"\xff\xfe").starts_with(HASHED));
        // A row of an earlier version.
        let old = format!("{}{}", prefix(3), "k".repeat(10_000));
        let row = Row { clustering: old, timestamp: 1, body: "{}".into() };
        assert_eq!(name_of(&row), Some(hashed(&[b'k'; 10_000])));
    }
}

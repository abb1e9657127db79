//! What readers are told after a fold: which partitions and rows of which tables are others than
//! before, and how far the rows are folded.

use crate::projection::Folded;
use almanac_event_log::Offset;
use almanac_read_store::StoreResult;
use almanac_schemas::projections::{PartitionsChangedRecord, TableChangeRecord};
use almanac_tables::{Announced, Layout, Source, parked};
use std::collections::BTreeSet;

/// Bytes of names in one announcement: a record stays well below 1 MB.
const MAX_ANNOUNCED: usize = 256 << 10;

/// Table, what of it is announced, and the key.
type Changed<'a> = (&'a str, Announced, &'a str);

/// Up to where the rows are folded.
pub(crate) struct Through<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: u32,
    pub(crate) position: Offset,
    /// Of the newest command whose event is folded.
    pub(crate) token: Option<&'a str>,
    /// Id of the tables that the rows are in.
    pub(crate) tables: &'a str,
}

/// What of the folded rows readers keep, each once.
pub(crate) fn changes<'a>(layout: &Layout, folded: &'a Folded) -> StoreResult<Vec<Changed<'a>>> {
    let parked = parked::table()?;
    let mut changed = BTreeSet::new();
    for write in folded.index.iter().chain(&folded.own) {
        let announced = match write.table == parked {
            true => Announced::Partitions,
            false => layout.announced(&write.table),
        };
        let key = match announced {
            Announced::Nothing => continue,
            Announced::Partitions => write.change.partition(),
            Announced::Rows => write.change.clustering(),
        };
        changed.insert((write.table.name(), announced, key));
    }
    Ok(changed.into_iter().collect())
}

/// In records that stay small, at least one. Only the last tells the token: whoever has seen it
/// has seen the others.
pub(crate) fn records(
    source: &Source,
    changed: &[Changed<'_>],
    through: &Through<'_>,
) -> Vec<PartitionsChangedRecord> {
    let mut records: Vec<PartitionsChangedRecord> = chunks(changed)
        .map(|some| PartitionsChangedRecord {
            projection: source.projection.to_owned(),
            version: source.edition.version as i32,
            generation: source.edition.generation as i32,
            source_topic: through.topic.to_owned(),
            source_partition: through.partition as i32,
            position: through.position as i64,
            tables: by_table(some),
            consistency_token: None,
            tables_id: Some(through.tables.to_owned()),
        })
        .collect();
    if let Some(last) = records.last_mut() {
        last.consistency_token = through.token.map(str::to_owned);
    }
    records
}

fn by_table(changed: &[Changed<'_>]) -> Vec<TableChangeRecord> {
    let tables = changed.chunk_by(|one, other| one.0 == other.0);
    tables
        .map(|some| {
            let names = |wanted: Announced| {
                let some = some.iter().filter(move |(_, kind, _)| *kind == wanted);
                some.map(|(_, _, name)| (*name).to_owned()).collect()
            };
            TableChangeRecord {
                table: some[0].0.to_owned(),
                partitions: names(Announced::Partitions),
                keys: names(Announced::Rows),
            }
        })
        .collect()
}

/// What is announced, cut where a record would grow too large; one empty piece when it is nothing.
fn chunks<'a>(changed: &'a [Changed<'a>]) -> impl Iterator<Item = &'a [Changed<'a>]> {
    let mut rest = Some(changed);
    std::iter::from_fn(move || {
        let now = rest.take()?;
        let mut bytes = 0;
        let fits = now.iter().take_while(|(_, _, name)| {
            bytes += name.len() + 8;
            bytes <= MAX_ANNOUNCED
        });
        let (some, others) = now.split_at(fits.count().max(1).min(now.len()));
        rest = (!others.is_empty()).then_some(others);
        Some(some)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_are_cut_and_complete() {
        let long = "x".repeat(MAX_ANNOUNCED / 3);
        let changed: Vec<_> = (0..10).map(|_| ("t", Announced::Rows, long.as_str())).collect();
        let cut: Vec<usize> = chunks(&changed).map(<[_]>::len).collect();
        assert_eq!(cut, [2, 2, 2, 2, 2]);
        let huge = "x".repeat(MAX_ANNOUNCED * 2);
        let changed = [("t", Announced::Rows, huge.as_str()), ("t", Announced::Rows, "y")];
        assert_eq!(chunks(&changed).map(<[_]>::len).collect::<Vec<_>>(), [1, 1]);
        assert_eq!(chunks(&[]).map(<[_]>::len).collect::<Vec<_>>(), [0]);
    }
}

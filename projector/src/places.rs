//! Where the events of a key lie in their partition, so that repairing it reads those and not all that lies
//! between.

use crate::{faults::Failed, mender::WAIT, run::Run};
use almanac_event_log::{Offset, ReadLimit};
use almanac_read_store::{Slice, position_of};
use almanac_tables::history;
use std::ops::Range;

/// Events that lie closer are read in one go: opening a reader takes as long as reading so many.
const CLOSE: Offset = 500;
/// A key with more runs than this is found by reading its partition.
const MAX_RUNS: usize = 200;

impl Run<'_> {
    /// Ranges of offsets that hold all events of a key below `until`. Nothing where only the whole partition
    /// tells: the projection keeps no history, a row of the history is missing, or a row of the key is newer
    /// than the history.
    pub(crate) async fn places(
        &self,
        key: &str,
        until: Offset,
    ) -> Result<Option<Vec<Range<Offset>>>, Failed> {
        let Some(offsets) = self.offsets(key).await? else { return Ok(None) };
        let Some(newest) = offsets.iter().max().copied().filter(|newest| *newest < until) else {
            return Ok(None);
        };
        let runs = runs(offsets);
        let is_whole = runs.len() <= MAX_RUNS && self.is_newest(key, newest).await?;
        Ok(is_whole.then_some(runs))
    }

    async fn offsets(&self, key: &str) -> Result<Option<Vec<Offset>>, Failed> {
        let history = self.projector.projection.history();
        let Some(history) = history.filter(|_| history::is_key(key)) else { return Ok(None) };
        let (mut offsets, mut number) = (Vec::new(), 1);
        let slice = Slice::prefix(&history::prefix(key));
        loop {
            let bucket = (history.bucket)(key, number);
            for row in self.projector.store.slice(history.table, &bucket, &slice).await? {
                if history::number(&row.clustering) != Some(number) {
                    return Ok(None);
                }
                offsets.push(position_of(row.timestamp));
                number += 1;
            }
            if (history.bucket)(key, number) == bucket {
                return Ok((!offsets.is_empty()).then_some(offsets));
            }
        }
    }

    /// Whether the event there is of the key, and none of the key's own rows is of a later one.
    async fn is_newest(&self, key: &str, offset: Offset) -> Result<bool, Failed> {
        let mut reader = self.events(offset, offset + 1).await?;
        let limit = ReadLimit { records: 1, ..self.limit() };
        let batch = reader.next(limit, WAIT).await?;
        let Some(record) = batch.records.first() else { return Ok(false) };
        if *almanac_tables::parked::name(&record.record.key) != *key {
            return Ok(false);
        }
        let Ok(folded) = self.fold_one(record, 0).await? else { return Ok(false) };
        for write in &folded.own {
            let (partition, clustering) = (write.change.partition(), write.change.clustering());
            let row = self.projector.store.get(&write.table, partition, clustering).await?;
            if row.is_some_and(|row| position_of(row.timestamp) > offset) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn runs(mut offsets: Vec<Offset>) -> Vec<Range<Offset>> {
    offsets.sort_unstable();
    let mut runs: Vec<Range<Offset>> = Vec::new();
    for offset in offsets {
        match runs.last_mut() {
            Some(run) if offset < run.end + CLOSE => run.end = run.end.max(offset + 1),
            _ => runs.push(offset..offset + 1),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_that_lie_close_are_read_together() {
        let places = |offsets: &[Offset]| {
            let runs = runs(offsets.to_vec()).into_iter();
            runs.map(|run| (run.start, run.end)).collect::<Vec<_>>()
        };
        assert_eq!(places(&[7, 3, 7]), [(3, 8)]);
        assert_eq!(places(&[CLOSE, 0]), [(0, CLOSE + 1)]);
        assert_eq!(places(&[0, CLOSE + 1]), [(0, 1), (CLOSE + 1, CLOSE + 2)]);
    }
}

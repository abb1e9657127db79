//! Reading records by their positions.

use crate::{EventLog, LogResult, Offset, ReadLimit, StoredRecord};
use std::time::Duration;

const LIMIT: ReadLimit = ReadLimit { records: 1_000, bytes: 4 << 20 };
const WAIT: Duration = Duration::from_secs(5);

/// The records from `first` to `last`, both included, of those that there are. It may wait for as long
/// as the log does not answer.
pub async fn read_range(
    log: &dyn EventLog,
    topic: &str,
    partition: u32,
    first: Offset,
    last: Offset,
) -> LogResult<Vec<StoredRecord>> {
    let mut reader = log.read_to(topic, partition, first, last.saturating_add(1)).await?;
    let mut found = Vec::new();
    loop {
        let batch = reader.next(LIMIT, WAIT).await?;
        let is_end = batch.records.is_empty() && !batch.at_end.is_empty();
        found.extend(batch.records.into_iter().take_while(|stored| stored.offset <= last));
        if is_end || found.last().is_some_and(|stored| stored.offset == last) {
            return Ok(found);
        }
    }
}

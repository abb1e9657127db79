//! Records that none of ours wrote. A topic is open to whoever may write to it, and one record of a
//! stranger must not stop what reads it: what has a key that none of ours has is passed over, said and
//! counted.

use almanac_event_log::{Offset, StoredRecord};
use parking_lot::Mutex;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use std::{collections::HashMap, fmt, sync::Arc};
use uuid::Uuid;

/// Of a key that is none of ours: so much is logged.
const SHOWN: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    reader: String,
    topic: String,
    partition: u32,
}

/// Clones share what they counted.
#[derive(Clone, Default)]
pub struct Foreign {
    records: Family<Labels, Counter>,
    /// The newest record that was counted: a fold that is repeated counts none twice.
    newest: Arc<Mutex<HashMap<Labels, Offset>>>,
}

impl fmt::Debug for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Foreign").finish_non_exhaustive()
    }
}

impl Foreign {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "almanac_foreign_records",
            "Records passed over because their keys are none that Almanac writes, by who read them",
            self.records.clone(),
        );
    }

    /// Notes that a record is passed over. The first of a partition is said, the others are counted.
    pub fn pass_over(&self, reader: &str, stored: &StoredRecord) {
        let labels = Labels {
            reader: reader.to_owned(),
            topic: stored.topic.to_string(),
            partition: stored.partition,
        };
        let before = {
            let mut newest = self.newest.lock();
            let before = newest.get(&labels).copied();
            if before.is_some_and(|before| stored.offset <= before) {
                return;
            }
            newest.insert(labels.clone(), stored.offset);
            before
        };
        self.records.get_or_create(&labels).inc();
        if before.is_none() {
            let key = &stored.record.key;
            tracing::warn!(
                reader, topic = %stored.topic, partition = stored.partition, offset = stored.offset,
                key_bytes = key.len(), key = %key[..key.len().min(SHOWN)].escape_ascii(),
                "passing over a record whose key is none that Almanac writes; more of them in this \
                 partition are counted in almanac_foreign_records_total"
            );
        }
    }

    pub fn count(&self, reader: &str, topic: &str, partition: u32) -> u64 {
        let labels = Labels { reader: reader.to_owned(), topic: topic.to_owned(), partition };
        self.records.get(&labels).map_or(0, |counter| counter.get())
    }
}

/// A key that is the id of an aggregate: a UUID as we write them, hyphenated and in lower case.
pub fn is_uuid(key: &[u8]) -> bool {
    key.len() == 36 && !key.iter().any(u8::is_ascii_uppercase) && Uuid::try_parse_ascii(key).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use almanac_event_log::{Headers, Record};

    #[test]
    fn each_record_counts_once_and_only_its_first_reader_matters_to_it() {
        let foreign = Foreign::default();
        let record = |partition, offset| StoredRecord {
            topic: "topic".into(),
            partition,
            offset,
            record: Record {
                key: vec![0xff; 70_000].into(),
                value: None,
                headers: Headers::default(),
                timestamp_ms: 0,
            },
        };
        for offset in [3, 4, 3, 4, 9] {
            foreign.pass_over("one", &record(0, offset));
        }
        foreign.pass_over("other", &record(0, 3));
        let counted = |reader, partition| foreign.count(reader, "topic", partition);
        assert_eq!((counted("one", 0), counted("other", 0), counted("one", 1)), (3, 1, 0));
    }

    #[test]
    fn keys_of_aggregates_are_uuids_as_we_write_them() {
        for ours in ["01890a5d-ac96-774b-bcce-b302099a8057", "00000000-0000-0000-0000-000000000001"]
        {
            assert!(is_uuid(ours.as_bytes()), "{ours}");
        }
        for foreign in [
            "",
            "hello",
            "01890A5D-AC96-774B-BCCE-B302099A8057",
            "01890a5dac96774bbcceb302099a8057",
            "newest-token",
        ] {
            assert!(!is_uuid(foreign.as_bytes()), "{foreign}");
        }
    }
}

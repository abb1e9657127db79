//! Where the events of one aggregate stand in a table of history: numbered from 1 without gaps, and
//! in further partitions as they grow, so that none grows for ever.

/// Events of one aggregate that stand in one partition.
const RUN: u64 = 16;

/// The partition of an event; `id_bucket` is that of its aggregate.
pub(crate) fn bucket(id_bucket: &str, number: u64) -> String {
    format!("{id_bucket}/{:06}", number / RUN)
}

/// Whether this can be the id of an aggregate: what else is asked for must not become a key of the store.
pub fn is_key(id: &str) -> bool {
    uuid::Uuid::try_parse(id).is_ok()
}

/// What the clustering keys of all events of an aggregate start with.
pub fn prefix(id: &str) -> String {
    format!("{id}/")
}

/// The clustering key of an event.
pub fn key(id: &str, number: u64) -> String {
    format!("{id}/{number:012}")
}

/// The number in a clustering key.
pub fn number(clustering: &str) -> Option<u64> {
    clustering.rsplit_once('/')?.1.parse().ok()
}

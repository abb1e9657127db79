//! Folds without servers: events are encoded, decoded and folded as the role does it, and their writes
//! are applied as a read store does.

use crate::{Event, FoldError, Folded, Projection};
use almanac_read_store::{Change, Write};
use almanac_schemas::{BuiltInRegistry, Codec};
use bytes::Bytes;
use serde::Serialize;
use std::{collections::BTreeMap, sync::Arc};

/// Table, partition and clustering key.
pub(crate) type Key = (String, String, String);

/// Folds the events of one partition into rows.
pub(crate) struct Folding<P> {
    codec: Codec,
    projection: P,
    /// What was read, for folding it once more.
    events: Vec<Bytes>,
    rows: BTreeMap<Key, (i64, Option<Bytes>)>,
}

impl<P: Projection> Folding<P> {
    pub(crate) async fn new(projection: P) -> Self {
        let codec = Codec::new(Arc::new(BuiltInRegistry)).await.unwrap();
        Self { codec, projection, events: Vec::new(), rows: BTreeMap::new() }
    }

    pub(crate) fn codec(&self) -> &Codec {
        &self.codec
    }

    /// Folds one more event.
    pub(crate) async fn event(&mut self, record: &'static str, value: &impl Serialize) {
        let value = self.codec.encode(record, value).unwrap();
        self.value(value).await.unwrap();
    }

    pub(crate) async fn value(&mut self, value: Bytes) -> Result<(), FoldError> {
        self.events.push(value);
        self.fold(self.events.len() - 1).await
    }

    async fn fold(&mut self, place: usize) -> Result<(), FoldError> {
        let decoded = self.codec.decode(&self.events[place]).await.unwrap();
        let event = Event { decoded: &decoded, partition: 3, position: place as u64, repair: 0 };
        let Folded { index, own } = self.projection.fold(&event)?;
        for write in index.into_iter().chain(own) {
            write.check().unwrap();
            self.apply(write);
        }
        Ok(())
    }

    fn apply(&mut self, write: Write) {
        let declared = self.projection.layout().tables().any(|one| one.table == write.table);
        assert!(declared, "{} is not declared", write.table);
        let table = write.table.name().to_owned();
        let (partition, clustering, timestamp, body) = match write.change {
            Change::Put { partition, clustering, timestamp, body } => {
                (partition, clustering, timestamp, Some(body))
            }
            Change::Delete { partition, clustering, timestamp } => {
                (partition, clustering, timestamp, None)
            }
        };
        let row = self.rows.entry((table, partition, clustering)).or_insert((i64::MIN, None));
        if row.0 < timestamp {
            *row = (timestamp, body);
        }
    }

    /// Every row that is there now: its key, and its body as text.
    pub(crate) fn rows(&self) -> BTreeMap<Key, String> {
        let texts = self.rows.iter().filter_map(|(key, (_, body))| {
            let body = body.as_ref()?;
            Some((key.clone(), String::from_utf8(body.to_vec()).unwrap()))
        });
        texts.collect()
    }

    /// Partition, clustering key and body of the rows of a table.
    pub(crate) fn of(&self, table: &str) -> Vec<(String, String, String)> {
        let rows = self.rows().into_iter().filter(|((name, ..), _)| name == table);
        rows.map(|((_, partition, key), body)| (partition, key, body)).collect()
    }

    /// The body of the only row of a table.
    pub(crate) fn only(&self, table: &str) -> serde_json::Value {
        let rows = self.of(table);
        assert_eq!(rows.len(), 1, "{table}: {rows:?}");
        serde_json::from_str(&rows[0].2).unwrap()
    }

    /// A fold that is interrupted and repeated ends in the same rows, in whatever order they are
    /// written.
    pub(crate) async fn repeats(&mut self) {
        let before = self.rows();
        for place in (0..self.events.len()).rev().chain(0..self.events.len()) {
            let _ = self.fold(place).await;
        }
        assert_eq!(self.rows(), before);
    }
}

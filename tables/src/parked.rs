//! Keys that are set aside because an event of theirs cannot be folded: in one table for all
//! projections, under the topic and partition that they lie in.

use crate::{
    Edition, hex,
    source::{Source, rows_of},
};
use almanac_event_log::{Excerpt, Offset, StoredRecord};
use almanac_read_store::{
    Change, ReadStore, Row, Slice, StoreError, StoreResult, Table, Write, timestamp,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::borrow::Cow;

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
    format!("{HASHED}{}", hex(&Sha256::digest(key)))
}

/// The table of all projections.
pub const TABLE: &str = "projection_parked";

pub fn table() -> StoreResult<Table> {
    Table::new(TABLE, 1)
}

/// What kind of fault keeps an event from being folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// Its content: no record at all, or a value outside the domain, or one that no row takes.
    Event,
    /// The schema that it names is not known, or does not fit.
    Schema,
    /// A record that the projection does not know.
    UnknownEvent,
    /// The fold panicked on it.
    Panic,
}

impl Category {
    pub const ALL: [Self; 4] = [Self::Event, Self::Schema, Self::UnknownEvent, Self::Panic];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Schema => "schema",
            Self::UnknownEvent => "unknown_event",
            Self::Panic => "panic",
        }
    }
}

/// Why an event cannot be folded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub category: Category,
    pub detail: String,
}

/// An event that an operator had passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discarded {
    pub offset: Offset,
    pub reason: String,
}

/// Discarded events that are told of, of one key: the newest.
const DISCARDED: usize = 20;

/// What stands in a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Body {
    offset: Offset,
    reason: String,
    key: String,
    key_bytes: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    category: Option<Category>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at_ms: Option<i64>,
    /// Of the newest event that was passed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<Offset>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    discarded: Vec<Discarded>,
    /// Nothing is missing any more but what was discarded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_mended: bool,
}

/// A key that is set aside, or was until an event of it was discarded.
///
/// Of its row the write of the greatest position stands, and each event that is passed over is such a
/// write: so whoever takes the row away, having folded all events below a position, cannot take away what
/// another owner passed over from there on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    pub topic: String,
    pub partition: u32,
    /// What it is parked under.
    pub name: String,
    clustering: String,
    timestamp: i64,
    body: Body,
}

impl Parked {
    /// For a key whose event cannot be folded.
    pub fn new(source: &Source, record: &StoredRecord, fault: &Fault, at_ms: i64) -> Self {
        let key = &record.record.key;
        let name = name(key).into_owned();
        Self {
            topic: source.topic.to_owned(),
            partition: record.partition,
            clustering: format!("{}/{name}", source.place(record.partition)),
            timestamp: timestamp(record.offset, 0, true),
            body: Body {
                offset: record.offset,
                reason: Excerpt::of(&*fault.detail).at_most(REASON).to_string(),
                key: Excerpt::of(key).to_string(),
                key_bytes: key.len(),
                category: Some(fault.category),
                at_ms: Some(at_ms),
                last: None,
                discarded: Vec::new(),
                is_mended: false,
            },
            name,
        }
    }

    /// Earlier versions wrote longer names.
    fn read(row: &Row) -> Option<Self> {
        // Behind the topic and its partition.
        let mut parts = row.clustering.splitn(3, '/');
        let (topic, partition, named) = (parts.next()?, parts.next()?, parts.next()?);
        let name = match named.strip_prefix(HASHED) {
            Some(_) => named.to_owned(),
            None => name(named.as_bytes()).into_owned(),
        };
        let none = || Body {
            offset: u64::try_from(row.timestamp >> 10).unwrap_or_default(),
            reason: String::new(),
            key: name.clone(),
            key_bytes: named.len(),
            category: None,
            at_ms: None,
            last: None,
            discarded: Vec::new(),
            is_mended: false,
        };
        Some(Self {
            topic: topic.to_owned(),
            partition: partition.parse().ok()?,
            clustering: row.clustering.clone(),
            timestamp: row.timestamp,
            body: serde_json::from_slice(&row.body).unwrap_or_else(|_| none()),
            name,
        })
    }

    /// Of the first event that is missing in the tables.
    pub fn offset(&self) -> Offset {
        self.body.offset
    }

    /// Of the newest event that was passed over because of it.
    pub fn last(&self) -> Offset {
        self.body.last.unwrap_or(self.body.offset)
    }

    /// Rows of earlier versions do not say.
    pub fn category(&self) -> Option<Category> {
        self.body.category
    }

    pub fn fault(&self) -> &str {
        &self.body.reason
    }

    /// When it was set aside, in milliseconds since the Unix epoch.
    pub fn at_ms(&self) -> Option<i64> {
        self.body.at_ms
    }

    pub fn key_bytes(&self) -> usize {
        self.body.key_bytes
    }

    pub fn discarded(&self) -> &[Discarded] {
        &self.body.discarded
    }

    /// Whether its later events are passed over.
    pub fn is_set_aside(&self) -> bool {
        !self.body.is_mended
    }

    /// One more of its events is passed over.
    pub fn pass_over(&mut self, offset: Offset) {
        self.body.last = Some(offset.max(self.last()));
        self.timestamp = self.timestamp.max(timestamp(offset, 0, true));
    }

    /// Its first event is passed over for good.
    pub fn discard(&mut self) {
        let (offset, reason) = (self.body.offset, self.body.reason.clone());
        self.body.discarded.push(Discarded { offset, reason });
        let more = self.body.discarded.len().saturating_sub(DISCARDED);
        self.body.discarded.drain(..more);
    }

    /// What an earlier row of the key said of discarded events stays true.
    pub fn after(&mut self, earlier: &Self) {
        self.body.discarded.clone_from(&earlier.body.discarded);
        self.timestamp = self.timestamp.max(earlier.timestamp + 1);
    }

    /// Its events up to this one are folded, or discarded, and this one cannot be: it stays set aside since
    /// when it was.
    pub fn fail_at(&mut self, offset: Offset, fault: &Fault) {
        self.body.offset = offset;
        self.body.reason = Excerpt::of(&*fault.detail).at_most(REASON).to_string();
        self.body.category = Some(fault.category);
        self.body.last = Some(offset.max(self.last()));
        self.timestamp = (self.timestamp + 1).max(timestamp(self.last(), 0, true));
    }

    pub fn write(&self, source: &Source) -> StoreResult<Write> {
        let body = serde_json::to_string(&self.body).map_err(|error| StoreError::Refused {
            what: "projection_parked".to_owned(),
            source: error.into(),
        })?;
        Ok(Write {
            table: table()?,
            change: Change::Put {
                partition: source.rows(),
                clustering: self.clustering.clone(),
                timestamp: self.timestamp,
                body: body.into(),
            },
        })
    }

    /// All its events below `position` are folded, or discarded. The write loses to that of any event that
    /// is passed over from there on, and wins over all before.
    pub fn mended(mut self, source: &Source, position: Offset) -> StoreResult<(Self, Write)> {
        self.timestamp = (self.timestamp + 1).max(timestamp(position, 0, false));
        self.body.is_mended = true;
        if !self.body.discarded.is_empty() {
            let write = self.write(source)?;
            return Ok((self, write));
        }
        let change = Change::Delete {
            partition: source.rows(),
            clustering: self.clustering.clone(),
            timestamp: self.timestamp,
        };
        let table = table()?;
        Ok((self, Write { table, change }))
    }
}

/// The keys of one partition.
pub async fn of_partition(
    store: &dyn ReadStore,
    source: &Source,
    partition: u32,
) -> StoreResult<Vec<Parked>> {
    let slice = Slice::prefix(&format!("{}/", source.place(partition)));
    let rows = store.slice(&table()?, &source.rows(), &slice).await?;
    Ok(rows.iter().filter_map(Parked::read).collect())
}

/// All keys of a version of a projection.
pub async fn all(
    store: &dyn ReadStore,
    projection: &str,
    edition: impl Into<Edition>,
) -> StoreResult<Vec<Parked>> {
    let rows = store.slice(&table()?, &rows_of(projection, edition.into()), &Slice::all()).await?;
    Ok(rows.iter().filter_map(Parked::read).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use almanac_event_log::{Headers, Record};
    use almanac_read_store::embedded::EmbeddedStore;
    use std::collections::HashSet;

    const SOURCE: Source = Source {
        projection: "letters",
        edition: Edition { version: 1, generation: 0 },
        topic: "letters.events",
    };

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
            let clustering = format!("{}/{name}", SOURCE.place(3));
            let row = Row { clustering, timestamp: 1, body: "{}".into() };
            assert_eq!(Parked::read(&row).unwrap().name, name);
            assert!(names.insert(name.into_owned()), "two keys have one name");
        }
        assert_eq!(name(b"a/b"), "a/b");
        assert_eq!(name(exact.as_bytes()), exact);
        assert!(name(&long).starts_with(HASHED) && name(b"\xff\xfe").starts_with(HASHED));
        // A row of an earlier version.
        let old = format!("{}/{}", SOURCE.place(3), "k".repeat(10_000));
        let row = Row { clustering: old, timestamp: 1, body: "{}".into() };
        assert_eq!(Parked::read(&row).unwrap().name, hashed(&[b'k'; 10_000]));
    }

    fn parked_at(offset: Offset) -> Parked {
        let record =
            Record { key: "k".into(), value: None, headers: Headers::default(), timestamp_ms: 0 };
        let record = StoredRecord { topic: SOURCE.topic.into(), partition: 3, offset, record };
        let fault = Fault { category: Category::Event, detail: "no event".to_owned() };
        Parked::new(&SOURCE, &record, &fault, 1_000)
    }

    /// Whatever order the writes arrive in: an owner that was replaced and folded a key to its end takes
    /// nothing away from the one that passed over an event behind that.
    #[tokio::test]
    async fn a_stale_owner_unparks_no_further_than_it_folded() {
        for passed_over in [None, Some(19), Some(20), Some(30)] {
            for is_stale_last in [true, false] {
                let folder = tempfile::tempdir().unwrap();
                let store = EmbeddedStore::open(folder.path(), 1 << 20).unwrap();
                store.create_table(&table().unwrap()).await.unwrap();
                let parked = parked_at(7);
                store.write(vec![parked.write(&SOURCE).unwrap()]).await.unwrap();
                let mut other = parked.clone();
                let (_, stale) = parked.mended(&SOURCE, 20).unwrap();
                let mut writes = vec![stale];
                if let Some(offset) = passed_over {
                    other.pass_over(offset);
                    writes.insert(usize::from(!is_stale_last), other.write(&SOURCE).unwrap());
                }
                for write in writes {
                    store.write(vec![write]).await.unwrap();
                }
                let found = of_partition(&store, &SOURCE, 3).await.unwrap();
                let is_parked = passed_over.is_some_and(|offset| offset >= 20);
                assert_eq!(!found.is_empty(), is_parked, "{passed_over:?} {is_stale_last}");
                assert!(found.iter().all(|one| one.offset() == 7), "from its first event on");
            }
        }
    }

    #[tokio::test]
    async fn a_key_is_parked_again_and_mended_at_the_same_position() {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(folder.path(), 1 << 20).unwrap();
        store.create_table(&table().unwrap()).await.unwrap();
        let mut parked = parked_at(7);
        let fault = Fault { category: Category::Schema, detail: "another".to_owned() };
        for _ in 0..3 {
            store.write(vec![parked.write(&SOURCE).unwrap()]).await.unwrap();
            parked = of_partition(&store, &SOURCE, 3).await.unwrap().pop().unwrap();
            parked.fail_at(7, &fault);
        }
        assert_eq!((parked.fault(), parked.at_ms()), ("another", Some(1_000)));
        parked.discard();
        let (_, write) = parked.mended(&SOURCE, 8).unwrap();
        store.write(vec![write]).await.unwrap();
        let mark = of_partition(&store, &SOURCE, 3).await.unwrap().pop().unwrap();
        assert!(!mark.is_set_aside());
        assert_eq!(mark.discarded()[0].offset, 7, "what was discarded is told");
        // Its very next event cannot be folded either.
        let mut again = parked_at(8);
        again.after(&mark);
        store.write(vec![again.write(&SOURCE).unwrap()]).await.unwrap();
        let found = of_partition(&store, &SOURCE, 3).await.unwrap().pop().unwrap();
        assert_eq!((found.is_set_aside(), found.offset()), (true, 8));
        assert_eq!(found.discarded().len(), 1);
    }
}

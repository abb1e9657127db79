//! Rebuilt tables held against the live ones, row by row.
//!
//! The digest of a table is the sum of the hashes of its rows, keys and bodies alone, so that it does not
//! depend on their order, nor on where in a log they come from. Rows that change while both are read look
//! different for a moment: they are looked at again, once the rebuild is as far as the live tables.

use almanac_read_store::{Part, ReadStore, Row, Scanned, StoreError, StoreResult, Table};
use almanac_tables::{Layout, RowPositions};
use futures::TryStreamExt;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{cmp::Ordering, sync::Arc};
use tokio::task::JoinSet;

/// Parts that a table is read in, and how many at once: readers go before.
const PARTS: u32 = 16;
const AT_ONCE: u32 = 2;
/// Rows that are looked at again.
const MAX_SUSPECTS: usize = 10_000;
/// Differences that are named, and bytes of a value in one.
const MAX_NAMED: usize = 100;
const MAX_VALUE: usize = 200;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) rows: u64,
    digest: u128,
}

impl Sum {
    fn add(&mut self, hash: u128) {
        self.rows += 1;
        self.digest = self.digest.wrapping_add(hash);
    }

    fn take_away(&mut self, hash: u128) {
        self.rows -= 1;
        self.digest = self.digest.wrapping_sub(hash);
    }

    fn with(&mut self, other: Self) {
        self.rows += other.rows;
        self.digest = self.digest.wrapping_add(other.digest);
    }

    pub(crate) fn digest(&self) -> String {
        format!("{:032x}", self.digest)
    }
}

/// A table, live and rebuilt, and where its rows tell positions.
#[derive(Debug)]
struct Tables(Table, Table, RowPositions);

/// A row that was not the same in both.
#[derive(Clone, Debug)]
pub(crate) struct Suspect {
    tables: Arc<Tables>,
    partition: String,
    clustering: String,
    /// Hash of the rebuilt row, as it counts in the sum.
    rebuilt: Option<u128>,
    /// The rows as they were looked at last.
    seen: Pair,
}

type Pair = (Option<Row>, Option<Row>);

#[derive(Default)]
pub(crate) struct Compared {
    pub(crate) rebuilt: Sum,
    pub(crate) suspects: Vec<Suspect>,
    /// There are more than are looked at again.
    pub(crate) is_cut: bool,
}

impl Compared {
    fn with(&mut self, other: Self) {
        self.rebuilt.with(other.rebuilt);
        let room = MAX_SUSPECTS - self.suspects.len();
        self.is_cut |= other.is_cut || other.suspects.len() > room;
        self.suspects.extend(other.suspects.into_iter().take(room));
    }

    fn suspect(&mut self, suspect: Suspect) {
        match self.suspects.len() < MAX_SUSPECTS {
            true => self.suspects.push(suspect),
            false => self.is_cut = true,
        }
    }
}

/// A column of a row that is not the same in both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Difference {
    pub(crate) table: String,
    pub(crate) partition: String,
    pub(crate) key: String,
    /// `row` where one of them lacks it, else the part of the body.
    pub(crate) column: String,
    pub(crate) live: Option<String>,
    pub(crate) rebuilt: Option<String>,
}

impl Tables {
    /// Of what a row says, whichever of both has it, and wherever its event stood in a log.
    fn hash(&self, partition: &str, row: &Row) -> u128 {
        let mut hash = Sha256::new();
        let key = match self.2 {
            RowPositions::Key => "",
            _ => row.clustering.as_str(),
        };
        for part in [self.0.name(), partition, key] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        match self.2 {
            RowPositions::Body(names) => hash.update(without(&row.body, names)),
            _ => hash.update(&row.body),
        }
        let hash = hash.finalize();
        hash.iter().take(16).fold(0, |number, byte| (number << 8) | u128::from(*byte))
    }
}

/// A body without the members of these names.
fn without(body: &[u8], names: &[&str]) -> Vec<u8> {
    fn strip(value: &mut Value, names: &[&str]) {
        match value {
            Value::Object(members) => {
                members.retain(|name, _| !names.contains(&name.as_str()));
                members.values_mut().for_each(|value| strip(value, names));
            }
            Value::Array(items) => items.iter_mut().for_each(|value| strip(value, names)),
            _ => {}
        }
    }
    match serde_json::from_slice(body) {
        Ok(mut value) => {
            strip(&mut value, names);
            value.to_string().into_bytes()
        }
        // It is held against others as it is.
        Err(_) => body.to_vec(),
    }
}

/// Reads both, table by table.
pub(crate) async fn compare(
    store: &Arc<dyn ReadStore>,
    live: &Layout,
    rebuilt: &Layout,
) -> StoreResult<Compared> {
    let mut all = Compared::default();
    for (live, rebuilt) in live.tables().zip(rebuilt.tables()) {
        let tables = Arc::new(Tables(live.table.clone(), rebuilt.table.clone(), rebuilt.positions));
        // Dropped with the set when this is given up.
        let mut lanes = JoinSet::new();
        for lane in 0..AT_ONCE {
            lanes.spawn(compare_parts(store.clone(), tables.clone(), lane));
        }
        while let Some(lane) = lanes.join_next().await {
            let compared = lane.map_err(|error| StoreError::Unavailable {
                what: format!("table {}", tables.1),
                source: error.into(),
            });
            all.with(compared??);
        }
    }
    Ok(all)
}

/// Every so many-th part.
async fn compare_parts(
    store: Arc<dyn ReadStore>,
    tables: Arc<Tables>,
    lane: u32,
) -> StoreResult<Compared> {
    let mut compared = Compared::default();
    let mut number = lane;
    while number < PARTS {
        let part = Part { number, of: PARTS };
        compared.with(compare_part(&*store, &tables, part).await?);
        number += AT_ONCE;
    }
    Ok(compared)
}

async fn compare_part(
    store: &dyn ReadStore,
    tables: &Arc<Tables>,
    part: Part,
) -> StoreResult<Compared> {
    let (mut live, mut rebuilt) = (store.scan(&tables.0, part), store.scan(&tables.1, part));
    let (mut next_live, mut next_rebuilt) = (live.try_next().await?, rebuilt.try_next().await?);
    let mut compared = Compared::default();
    loop {
        let order = match (&next_live, &next_rebuilt) {
            (None, None) => return Ok(compared),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(live), Some(rebuilt)) => live.place().cmp(&rebuilt.place()),
        };
        let of_live = if order.is_le() { next_live.take() } else { None };
        let of_rebuilt = if order.is_ge() { next_rebuilt.take() } else { None };
        let counted = of_rebuilt.as_ref().map(|found| tables.hash(&found.partition, &found.row));
        if let Some(hash) = counted {
            compared.rebuilt.add(hash);
        }
        let is_same = match (&of_live, &of_rebuilt) {
            (Some(live), Some(rebuilt)) => live.row.body == rebuilt.row.body,
            _ => false,
        };
        if of_live.is_some() {
            next_live = live.try_next().await?;
        }
        if of_rebuilt.is_some() {
            next_rebuilt = rebuilt.try_next().await?;
        }
        if !is_same {
            compared.suspect(suspect(tables, of_live, of_rebuilt, counted));
        }
    }
}

fn suspect(
    tables: &Arc<Tables>,
    live: Option<Scanned>,
    rebuilt: Option<Scanned>,
    counted: Option<u128>,
) -> Suspect {
    let key = live.as_ref().or(rebuilt.as_ref());
    let key = key.map(|found| (found.partition.clone(), found.row.clustering.clone()));
    let (partition, clustering) = key.unwrap_or_default();
    let seen = (live.map(|found| found.row), rebuilt.map(|found| found.row));
    Suspect { tables: tables.clone(), partition, clustering, rebuilt: counted, seen }
}

/// Whether two rows are the same to readers.
fn are_same(pair: &Pair) -> bool {
    pair.0.as_ref().map(|row| &row.body) == pair.1.as_ref().map(|row| &row.body)
}

/// What the suspects turn out to be.
pub(crate) struct Settled {
    open: Vec<Suspect>,
    is_first: bool,
    /// The rows that are not the same, as hashes of the live one and of the rebuilt one.
    pub(crate) different: Vec<(Option<u128>, Option<u128>)>,
    pub(crate) named: Vec<Difference>,
}

impl Settled {
    pub(crate) fn of(open: Vec<Suspect>) -> Self {
        Self { open, is_first: true, different: Vec::new(), named: Vec::new() }
    }

    /// Rows that went on changing, so that they could not be compared.
    pub(crate) fn unsettled(&self) -> usize {
        self.open.len()
    }

    /// Looks at all that is open once more. Since the look before, both tables must have folded everything that
    /// either of them held then: rows that are as they were differ. Rows that go on changing stay open, unless this
    /// is the last time.
    pub(crate) async fn look(&mut self, store: &dyn ReadStore, is_last: bool) -> StoreResult<()> {
        let mut open = Vec::new();
        for mut suspect in std::mem::take(&mut self.open) {
            let (live, rebuilt) = (&suspect.tables.0, &suspect.tables.1);
            let (partition, clustering) = (&suspect.partition, &suspect.clustering);
            let now = (
                store.get(live, partition, clustering).await?,
                store.get(rebuilt, partition, clustering).await?,
            );
            if are_same(&now) {
                continue;
            }
            // The same event wrote both, and not the same; or no event is to come that would make them so.
            let of_one_event = match &now {
                (Some(live), Some(rebuilt)) => live.timestamp == rebuilt.timestamp,
                _ => false,
            };
            let rests = !self.is_first && now == suspect.seen;
            suspect.seen = now;
            match of_one_event || rests || is_last {
                true => self.add(&suspect),
                false => open.push(suspect),
            }
        }
        (self.open, self.is_first) = (open, false);
        Ok(())
    }

    fn add(&mut self, suspect: &Suspect) {
        let live = suspect.seen.0.as_ref();
        let live = live.map(|row| suspect.tables.hash(&suspect.partition, row));
        self.different.push((live, suspect.rebuilt));
        for (column, live, rebuilt) in columns(&suspect.seen) {
            if self.named.len() == MAX_NAMED {
                return;
            }
            self.named.push(Difference {
                table: suspect.tables.0.name().to_owned(),
                partition: suspect.partition.clone(),
                key: suspect.clustering.clone(),
                column,
                live,
                rebuilt,
            });
        }
    }

    /// What the live tables came to where the rebuilt ones came to this.
    pub(crate) fn live_of(&self, rebuilt: Sum) -> Sum {
        let mut live = rebuilt;
        for (of_live, of_rebuilt) in &self.different {
            of_rebuilt.iter().for_each(|hash| live.take_away(*hash));
            of_live.iter().for_each(|hash| live.add(*hash));
        }
        live
    }
}

fn cut(text: &str) -> String {
    let end = (0..=MAX_VALUE.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    let cut = &text[..end.unwrap_or(0)];
    if cut.len() < text.len() { format!("{cut}…") } else { cut.to_owned() }
}

/// The parts of two rows that are not the same, each with both values.
fn columns(pair: &Pair) -> Vec<(String, Option<String>, Option<String>)> {
    let text =
        |row: &Option<Row>| row.as_ref().map(|row| String::from_utf8_lossy(&row.body).into_owned());
    let (live, rebuilt) = (text(&pair.0), text(&pair.1));
    let shown = |value: &Option<String>| value.as_deref().map(cut);
    let (Some(of_live), Some(of_rebuilt)) = (&live, &rebuilt) else {
        return vec![("row".to_owned(), shown(&live), shown(&rebuilt))];
    };
    let members = |text: &str| serde_json::from_str::<serde_json::Map<String, Value>>(text).ok();
    let (Some(live_members), Some(rebuilt_members)) = (members(of_live), members(of_rebuilt))
    else {
        return vec![("body".to_owned(), shown(&live), shown(&rebuilt))];
    };
    let mut names: Vec<&String> = live_members.keys().chain(rebuilt_members.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let differing: Vec<_> = names
        .into_iter()
        .map(|name| (name, live_members.get(name), rebuilt_members.get(name)))
        .filter(|(_, live, rebuilt)| live != rebuilt)
        .map(|(name, live, rebuilt)| {
            let shown = |value: Option<&Value>| value.map(|value| cut(&value.to_string()));
            (format!("body.{name}"), shown(live), shown(rebuilt))
        })
        .collect();
    // The same members, written otherwise.
    if differing.is_empty() {
        vec![("body".to_owned(), shown(&live), shown(&rebuilt))]
    } else {
        differing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use almanac_read_store::{Change, Write, embedded::EmbeddedStore, timestamp};
    use almanac_tables::{Announced, Edition, Keys};

    fn layout(generation: u32) -> Layout {
        let mut layout = Layout::new("letters", Edition { version: 1, generation }, &[]);
        layout.table("letters", Keys("first letter", "word"), Announced::Nothing).unwrap();
        layout
    }

    fn put(layout: &Layout, key: &str, position: u64, body: &str) -> Write {
        let change = Change::Put {
            partition: key[..1].to_owned(),
            clustering: key.to_owned(),
            timestamp: timestamp(position, 0, true),
            body: body.to_owned().into(),
        };
        Write { table: layout.tables().next().unwrap().table.clone(), change }
    }

    async fn settled(store: &dyn ReadStore, compared: &Compared) -> Settled {
        let mut settled = Settled::of(compared.suspects.clone());
        while settled.unsettled() > 0 {
            settled.look(store, false).await.unwrap();
        }
        settled
    }

    /// A row that somebody else changed is named by its column; one that was deleted or made up, as a
    /// row. Rows that only wait for an event are none.
    #[tokio::test]
    async fn what_differs_is_named_and_what_is_on_its_way_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let inner = EmbeddedStore::open(folder.path(), 1 << 20).unwrap();
        let store: Arc<dyn ReadStore> = Arc::new(inner);
        let (live, rebuilt) = (layout(0), layout(1));
        for layout in [&live, &rebuilt] {
            store.create_table(&layout.tables().next().unwrap().table).await.unwrap();
            let rows = [("ant", r#"{"n":1,"legs":6}"#), ("bee", r#"{"n":2}"#), ("cat", "{}")];
            let rows = (1..).zip(rows).map(|(at, (key, body))| put(layout, key, at, body));
            store.write(rows.collect()).await.unwrap();
        }
        let same = compare(&store, &live, &rebuilt).await.unwrap();
        assert_eq!((same.rebuilt.rows, same.suspects.len()), (3, 0));
        // Behind everybody's back, without another position.
        // Of two of one timestamp the greater stands.
        let body = r#"{"n":9}"#;
        store.write(vec![put(&live, "bee", 2, body), put(&live, "dog", 9, "{}")]).await.unwrap();
        // The live tables are an event ahead.
        store.write(vec![put(&live, "ant", 7, r#"{"n":7}"#)]).await.unwrap();
        let found = compare(&store, &live, &rebuilt).await.unwrap();
        assert_eq!((found.rebuilt, found.suspects.len()), (same.rebuilt, 3));
        store.write(vec![put(&rebuilt, "ant", 7, r#"{"n":7}"#)]).await.unwrap();
        let settled = settled(&*store, &found).await;
        let named: Vec<_> =
            settled.named.iter().map(|one| (one.key.as_str(), one.column.as_str())).collect();
        assert_eq!(named, [("bee", "body.n"), ("dog", "row")]);
        assert_eq!(settled.named[0].live.as_deref(), Some("9"));
        let live_sum = settled.live_of(found.rebuilt);
        assert_eq!(live_sum.rows, 4);
        assert_ne!(live_sum.digest(), found.rebuilt.digest());
    }

    /// The same events, at other offsets of another topic.
    #[test]
    fn digests_do_not_depend_on_positions() {
        let table = Table::new("analyses", 1).unwrap();
        let row = |key: &str, body: &str| Row {
            clustering: key.to_owned(),
            timestamp: timestamp(1, 0, true),
            body: body.to_owned().into(),
        };
        let of = |positions| Tables(table.clone(), table.clone(), positions);
        let hash = |positions, key: &str, body: &str| of(positions).hash("p", &row(key, body));
        let (key, body) = (RowPositions::Key, RowPositions::Body(&["offset"]));
        assert_eq!(hash(key, "1", "{}"), hash(key, "2", "{}"));
        assert_ne!(hash(key, "1", "{}"), hash(key, "1", "[]"));
        let (one, other) = (r#"{"a":[{"offset":1,"b":2}]}"#, r#"{"a":[{"offset":7,"b":2}]}"#);
        assert_eq!(hash(body, "1", one), hash(body, "1", other));
        assert_ne!(hash(body, "1", one), hash(body, "2", one));
        assert_ne!(hash(body, "1", one), hash(body, "1", r#"{"a":[{"offset":1,"b":3}]}"#));
        assert_ne!(hash(RowPositions::Nowhere, "1", one), hash(RowPositions::Nowhere, "1", other));
    }

    /// The digest of the live tables follows from what differs: it is that of a scan of its own.
    #[tokio::test]
    async fn digests_depend_on_rows_alone() {
        let folder = tempfile::tempdir().unwrap();
        let inner = EmbeddedStore::open(folder.path(), 1 << 20).unwrap();
        let store: Arc<dyn ReadStore> = Arc::new(inner);
        let (one, other) = (layout(0), layout(1));
        for layout in [&one, &other] {
            store.create_table(&layout.tables().next().unwrap().table).await.unwrap();
        }
        // Other positions, another order.
        let rows: Vec<_> = (0..50).map(|n| put(&one, &format!("k{n}"), n, "{}")).collect();
        store.write(rows).await.unwrap();
        let rows = (0..50).rev().map(|n| put(&other, &format!("k{n}"), 100 - n, "{}")).collect();
        store.write(rows).await.unwrap();
        store.write(vec![put(&one, "k7", 500, r#"{"x":1}"#)]).await.unwrap();
        let forth = compare(&store, &one, &other).await.unwrap();
        let back = compare(&store, &other, &one).await.unwrap();
        assert_eq!(settled(&*store, &forth).await.live_of(forth.rebuilt), back.rebuilt);
        assert_eq!(settled(&*store, &back).await.live_of(back.rebuilt), forth.rebuilt);
    }
}

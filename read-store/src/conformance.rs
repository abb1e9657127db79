//! The suite that every adapter of [`ReadStore`] passes. Each check takes a fresh table, so that
//! one server serves all of them. A failed check panics, as in any test.

use crate::{
    Change, Direction, MAX_KEY_BYTES, MAX_ROW_BYTES, Part, ReadStore, Retry, Row, Scanned, Slice,
    StoreError, Table, Write, timestamp,
};
use bytes::Bytes;
use futures::TryStreamExt;
use std::sync::atomic::{AtomicU32, Ordering};

/// Makes a test of every check, so that one failure hides no other. `$open` is an asynchronous function
/// that opens an adapter: a store, and whatever has to live as long as it.
#[macro_export]
macro_rules! read_store_conformance {
    ($open:path) => {
        $crate::read_store_conformance! { $open =>
            tables_are_created_listed_and_dropped
            rows_are_read_back
            slices_have_bounds_directions_and_limits
            many_partitions_come_in_order
            a_new_table_serves_many_at_once
            the_newest_write_stands_whatever_the_order
            ties_are_settled_alike
            a_delete_stays_against_late_writes
            a_stale_owner_moves_no_row_back
            changes_of_one_call_meet_their_own
            large_writes_are_split
            loads_are_writes_of_many_rows
            scans_come_upon_every_row_in_one_order
            bad_input_is_refused
            what_cannot_be_a_row_is_refused
        }
    };
    ($open:path => $($check:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $check() {
            let (store, _kept) = $open().await;
            $crate::conformance::$check(&store).await;
        }
    )*};
}

static NEXT: AtomicU32 = AtomicU32::new(1);

async fn fresh(store: &dyn ReadStore, name: &str) -> Table {
    let table = Table::new(name, NEXT.fetch_add(1, Ordering::Relaxed)).unwrap();
    store.drop_table(&table).await.unwrap();
    store.create_table(&table).await.unwrap();
    table
}

fn put(table: &Table, partition: &str, clustering: &str, timestamp: i64, body: &str) -> Write {
    Write {
        table: table.clone(),
        change: Change::Put {
            partition: partition.to_owned(),
            clustering: clustering.to_owned(),
            timestamp,
            body: Bytes::copy_from_slice(body.as_bytes()),
        },
    }
}

fn delete(table: &Table, partition: &str, clustering: &str, timestamp: i64) -> Write {
    let (partition, clustering) = (partition.to_owned(), clustering.to_owned());
    Write { table: table.clone(), change: Change::Delete { partition, clustering, timestamp } }
}

async fn body(store: &dyn ReadStore, table: &Table, partition: &str, key: &str) -> Option<String> {
    let row = store.get(table, partition, key).await.unwrap()?;
    Some(String::from_utf8(row.body.to_vec()).unwrap())
}

pub async fn tables_are_created_listed_and_dropped(store: &dyn ReadStore) {
    let table = fresh(store, "listed").await;
    store.create_table(&table).await.expect("creating again does nothing");
    assert!(store.tables().await.unwrap().contains(&table));
    let id = store.table_id(&table).await.unwrap();
    store.write(vec![put(&table, "p", "k", 1, "{}")]).await.unwrap();
    assert_eq!(store.table_id(&table).await.unwrap(), id, "whatever is in it");
    store.drop_table(&table).await.unwrap();
    let gone = store.table_id(&table).await.unwrap_err();
    assert!(matches!(gone, StoreError::UnknownTable { .. }), "{gone}");
    assert!(!store.tables().await.unwrap().contains(&table));
    store.drop_table(&table).await.expect("dropping again does nothing");
    store.create_table(&table).await.unwrap();
    assert_eq!(body(store, &table, "p", "k").await, None, "a new table is empty");
    assert_ne!(store.table_id(&table).await.unwrap(), id, "a new table is another one");
    store.drop_table(&table).await.unwrap();
    assert!(store.slice(&table, "p", &Slice::all()).await.is_err());
}

pub async fn rows_are_read_back(store: &dyn ReadStore) {
    let table = fresh(store, "rows").await;
    let text = "{\"title\":\"Ñandú – “x” 🎭\"}";
    store.write(vec![put(&table, "día", "k/1", 7, text)]).await.unwrap();
    let row = store.get(&table, "día", "k/1").await.unwrap().unwrap();
    let expected = Row { clustering: "k/1".to_owned(), timestamp: 7, body: Bytes::from(text) };
    assert_eq!(row, expected);
    assert_eq!(store.get(&table, "día", "k/2").await.unwrap(), None);
    assert_eq!(store.get(&table, "dí", "k/1").await.unwrap(), None);
    assert!(store.slice(&table, "nothing", &Slice::all()).await.unwrap().is_empty());
}

pub async fn slices_have_bounds_directions_and_limits(store: &dyn ReadStore) {
    let table = fresh(store, "slices").await;
    let writes = (0..10).map(|n| put(&table, "p", &format!("k{n}"), 1, "x"));
    // Neighbouring partitions must not leak in.
    let around = [
        put(&table, "o", "k5", 1, "x"),
        put(&table, "p2", "k5", 1, "x"),
        put(&table, "q", "k5", 1, "x"),
    ];
    store.write(writes.chain(around).collect()).await.unwrap();
    let keys =
        |rows: Vec<Row>| -> Vec<String> { rows.into_iter().map(|row| row.clustering).collect() };
    let bound = |key: &str| Some(key.to_owned());

    let all = keys(store.slice(&table, "p", &Slice::all()).await.unwrap());
    assert_eq!(all, (0..10).map(|n| format!("k{n}")).collect::<Vec<_>>());
    let middle = Slice { from: bound("k3"), until: bound("k6"), ..Slice::all() };
    assert_eq!(keys(store.slice(&table, "p", &middle).await.unwrap()), ["k3", "k4", "k5"]);
    let down = Slice { direction: Direction::Descending, limit: 2, ..middle.clone() };
    assert_eq!(keys(store.slice(&table, "p", &down).await.unwrap()), ["k5", "k4"]);
    let one = Slice { from: bound("k3x"), limit: 1, ..Slice::all() };
    assert_eq!(keys(store.slice(&table, "p", &one).await.unwrap()), ["k4"]);
    let reversed = Slice { from: bound("k6"), until: bound("k3"), ..Slice::all() };
    assert!(store.slice(&table, "p", &reversed).await.unwrap().is_empty());
    assert_eq!(keys(store.slice(&table, "p", &Slice::prefix("k7")).await.unwrap()), ["k7"]);
    for (from, until, limit, expected) in [
        (None, None, 0, &[][..]),
        (None, None, 3, &["k0", "k1", "k2"]),
        (None, bound("k2"), 3, &["k0", "k1"]),
        (bound("k8"), None, 3, &["k8", "k9"]),
        (bound("k1"), bound("k9"), 2, &["k1", "k2"]),
        (bound("k8"), None, i32::MAX as usize + 1, &["k8", "k9"]),
    ] {
        let slice = Slice { from, until, limit, ..Slice::all() };
        assert_eq!(keys(store.slice(&table, "p", &slice).await.unwrap()), expected, "{slice:?}");
    }
}

pub async fn many_partitions_come_in_order(store: &dyn ReadStore) {
    let table = fresh(store, "many").await;
    let names: Vec<String> = (0..40).map(|n| format!("2021-01-{n:02}")).collect();
    let writes =
        names.iter().enumerate().map(|(n, name)| put(&table, name, "k", 1, &n.to_string()));
    store.write(writes.collect()).await.unwrap();
    let slice = Slice::all();
    let found: Vec<(String, Vec<Row>)> =
        store.slices(&table, names.clone(), &slice, 8).try_collect().await.unwrap();
    assert_eq!(found.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), names);
    for (n, (_, rows)) in found.iter().enumerate() {
        assert_eq!(rows[0].body, n.to_string());
    }
}

/// The first use of a table may come from many callers together, each with statements that the
/// server sees for the first time.
pub async fn a_new_table_serves_many_at_once(store: &dyn ReadStore) {
    for _ in 0..8 {
        let table = fresh(store, "crowd").await;
        let names: Vec<String> = (0..48).map(|n| format!("p{n}")).collect();
        let writing = names.iter().map(|name| store.write(vec![put(&table, name, "k", 1, "{}")]));
        futures::future::try_join_all(writing).await.unwrap();
        let found: Vec<(String, Vec<Row>)> =
            store.slices(&table, names, &Slice::all(), 48).try_collect().await.unwrap();
        assert!(found.iter().all(|(_, rows)| rows.len() == 1));
        store.drop_table(&table).await.unwrap();
    }
}

/// All orders of the same writes, each also repeated, end in the same rows.
pub async fn the_newest_write_stands_whatever_the_order(store: &dyn ReadStore) {
    let table = fresh(store, "orders").await;
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for (number, order) in orders.iter().enumerate() {
        let key = format!("k{number}");
        let history = [
            put(&table, "p", &key, timestamp(1, 0, true), "first"),
            delete(&table, "p", &key, timestamp(2, 0, false)),
            put(&table, "p", &key, timestamp(3, 0, true), "third"),
        ];
        for repeat in order.iter().chain(order) {
            store.write(vec![history[*repeat].clone()]).await.unwrap();
        }
        assert_eq!(body(store, &table, "p", &key).await.as_deref(), Some("third"), "{order:?}");
    }
}

pub async fn ties_are_settled_alike(store: &dyn ReadStore) {
    let table = fresh(store, "ties").await;
    for (key, writes) in [("a", ["x", "y"]), ("b", ["y", "x"])] {
        for text in writes {
            store.write(vec![put(&table, "p", key, 9, text)]).await.unwrap();
        }
        assert_eq!(body(store, &table, "p", key).await.as_deref(), Some("y"), "greater body");
    }
    store.write(vec![put(&table, "p", "c", 9, "x")]).await.unwrap();
    store.write(vec![delete(&table, "p", "c", 9)]).await.unwrap();
    store.write(vec![put(&table, "p", "c", 9, "x")]).await.unwrap();
    assert_eq!(body(store, &table, "p", "c").await, None, "a delete beats a write at a tie");
    // The same event deletes one place and writes another; when both are one, the write stays.
    store.write(vec![put(&table, "p", "d", timestamp(4, 0, true), "x")]).await.unwrap();
    store.write(vec![delete(&table, "p", "d", timestamp(4, 0, false))]).await.unwrap();
    assert_eq!(body(store, &table, "p", "d").await.as_deref(), Some("x"));
    // A repair of the same position wins over what it repairs.
    store.write(vec![put(&table, "p", "d", timestamp(4, 1, true), "mended")]).await.unwrap();
    store.write(vec![put(&table, "p", "d", timestamp(4, 0, true), "x")]).await.unwrap();
    assert_eq!(body(store, &table, "p", "d").await.as_deref(), Some("mended"));
}

pub async fn a_delete_stays_against_late_writes(store: &dyn ReadStore) {
    let table = fresh(store, "late").await;
    store.write(vec![delete(&table, "p", "k", timestamp(8, 0, false))]).await.unwrap();
    store.write(vec![put(&table, "p", "k", timestamp(6, 0, true), "late")]).await.unwrap();
    assert_eq!(body(store, &table, "p", "k").await, None);
    assert!(store.slice(&table, "p", &Slice::all()).await.unwrap().is_empty());
}

pub async fn changes_of_one_call_meet_their_own(store: &dyn ReadStore) {
    let table = fresh(store, "own").await;
    let writes = vec![
        put(&table, "p", "k", timestamp(2, 0, true), "second"),
        put(&table, "p", "k", timestamp(1, 0, true), "first"),
        delete(&table, "p", "gone", timestamp(2, 0, false)),
        put(&table, "p", "gone", timestamp(1, 0, true), "first"),
    ];
    store.write(writes).await.unwrap();
    assert_eq!(body(store, &table, "p", "k").await.as_deref(), Some("second"));
    assert_eq!(body(store, &table, "p", "gone").await, None);
}

pub async fn large_writes_are_split(store: &dyn ReadStore) {
    let table = fresh(store, "large").await;
    let text = "x".repeat(3_000);
    let writes: Vec<Write> =
        (0..600).map(|n| put(&table, "p", &format!("{n:04}"), 1, &text)).collect();
    store.write(writes).await.unwrap();
    assert_eq!(store.slice(&table, "p", &Slice::all()).await.unwrap().len(), 600);
    let huge = "y".repeat(900_000);
    store.write(vec![put(&table, "q", "k", 1, &huge)]).await.unwrap();
    assert_eq!(body(store, &table, "q", "k").await.map(|text| text.len()), Some(900_000));
}

/// In whatever order, beside rows that are there, and with all rules of a write.
pub async fn loads_are_writes_of_many_rows(store: &dyn ReadStore) {
    let table = fresh(store, "load").await;
    let of = |n: u64| (format!("p{}", n / 1_000), format!("{n:05}"));
    let row = |n: u64, position: u64| {
        let (partition, key) = of(n);
        put(&table, &partition, &key, timestamp(position, 0, true), &position.to_string())
    };
    store.write(vec![row(3_500, 9_000)]).await.unwrap();
    // Every row twice, the later one first; the last thousand is deleted again.
    let rows = (0..5_000).rev().flat_map(|n| [row(n, n + 1), row(n, n)]);
    let deletes = (4_000..5_000).map(|n| {
        let (partition, key) = of(n);
        delete(&table, &partition, &key, timestamp(6_000, 0, false))
    });
    store.load(rows.chain(deletes).collect()).await.unwrap();
    for (partition, rows) in [("p0", 1_000), ("p3", 1_000), ("p4", 0)] {
        let found = store.slice(&table, partition, &Slice::all()).await.unwrap();
        assert_eq!(found.len(), rows, "{partition}");
    }
    assert_eq!(body(store, &table, "p3", "03499").await.as_deref(), Some("3500"));
    assert_eq!(body(store, &table, "p3", "03500").await.as_deref(), Some("9000"));
    // Once more, and older.
    store.load((0..100).map(|n| row(n, n)).collect()).await.unwrap();
    assert_eq!(body(store, &table, "p0", "00050").await.as_deref(), Some("51"));
    // What comes after a load competes with it by timestamp as usual.
    store.write(vec![row(2_000, 1_999), row(4_500, 4_500)]).await.unwrap();
    assert_eq!(body(store, &table, "p2", "02000").await.as_deref(), Some("2001"));
    assert_eq!(body(store, &table, "p4", "04500").await, None);
    store.write(vec![row(2_000, 7_000)]).await.unwrap();
    assert_eq!(body(store, &table, "p2", "02000").await.as_deref(), Some("7000"));
    store.load(Vec::new()).await.unwrap();
}

pub async fn bad_input_is_refused(store: &dyn ReadStore) {
    let nowhere = Table::new("nowhere", 1).unwrap();
    store.drop_table(&nowhere).await.unwrap();
    let error = store.write(vec![put(&nowhere, "p", "k", 1, "x")]).await.unwrap_err();
    assert!(matches!(error, StoreError::UnknownTable { .. }), "{error}");
    assert!(error.to_string().contains("nowhere_v1"), "{error}");
}

/// By both engines alike, for ever, and with all of the call.
pub async fn what_cannot_be_a_row_is_refused(store: &dyn ReadStore) {
    let table = fresh(store, "faults").await;
    let longest = "k".repeat(MAX_KEY_BYTES / 2);
    let too_long = "k".repeat(MAX_KEY_BYTES);
    let bad_keys = [("", "k"), ("p\0", "k"), ("p", "k\0"), (&too_long, "k"), ("p", &too_long)];
    let refused = async |write: Write| -> StoreError {
        let error = store.write(vec![put(&table, "p", "good", 1, "{}"), write]).await.unwrap_err();
        assert_eq!(error.retry(), Retry::Never, "{error}");
        assert!(error.to_string().contains(&table.to_string()), "{error}");
        error
    };
    for (partition, clustering) in bad_keys {
        for write in
            [put(&table, partition, clustering, 1, "{}"), delete(&table, partition, clustering, 1)]
        {
            assert!(matches!(refused(write).await, StoreError::BadKey { .. }));
        }
        assert_eq!(store.get(&table, partition, clustering).await.unwrap(), None);
    }
    for partition in ["", "p\0", &format!("{too_long}k")] {
        assert!(store.slice(&table, partition, &Slice::all()).await.unwrap().is_empty());
    }
    let slice = Slice { from: Some(too_long.clone()), ..Slice::all() };
    let error = store.slice(&table, "p", &slice).await.unwrap_err();
    assert!(matches!(error, StoreError::BadKey { .. }), "{error}");
    let slice = Slice { from: Some("\0".to_owned()), ..Slice::all() };
    assert!(store.slice(&table, "p", &slice).await.unwrap().is_empty(), "a bound is no key");
    let mut not_text = put(&table, "p", "k", 1, "");
    if let Change::Put { body, .. } = &mut not_text.change {
        *body = Bytes::from_static(b"\xff");
    }
    assert!(matches!(refused(not_text).await, StoreError::NotText { .. }));
    let too_large = put(&table, "p", "k", 1, &"x".repeat(MAX_ROW_BYTES + 1));
    assert!(matches!(refused(too_large).await, StoreError::RowTooLarge { .. }));
    assert_eq!(body(store, &table, "p", "good").await, None, "nothing of the call is applied");

    // What stands at the limits is taken.
    let largest = "x".repeat(MAX_ROW_BYTES);
    store.write(vec![put(&table, &longest, &longest, 1, "{}")]).await.unwrap();
    store.write(vec![put(&table, "p", "", 1, &largest)]).await.unwrap();
    assert_eq!(body(store, &table, &longest, &longest).await.as_deref(), Some("{}"));
    assert!(body(store, &table, "p", "").await.is_some_and(|body| body == largest));
}

/// Two tables with the same rows are compared row by row, in whatever parts.
pub async fn scans_come_upon_every_row_in_one_order(store: &dyn ReadStore) {
    let (table, other) = (fresh(store, "scanned").await, fresh(store, "scanned").await);
    let rebuilt = table.clone().of_generation(1);
    store.drop_table(&rebuilt).await.unwrap();
    store.create_table(&rebuilt).await.unwrap();
    let keys = (0..40).flat_map(|partition| (0..30).map(move |row| (partition, row)));
    let row = |table: &Table, (partition, row): (u32, u32)| {
        put(table, &format!("p{partition}"), &format!("c{row:03}"), 5, &row.to_string())
    };
    for table in [&table, &rebuilt] {
        store.write(keys.clone().map(|key| row(table, key)).collect()).await.unwrap();
        let change =
            Change::Delete { partition: "p1".into(), clustering: "c000".into(), timestamp: 9 };
        store.write(vec![Write { table: table.clone(), change }]).await.unwrap();
    }
    store.write(vec![row(&other, (1, 1))]).await.unwrap();
    let scan = async |table: &Table, of: u32| {
        let mut rows: Vec<Scanned> = Vec::new();
        for number in 0..of {
            let part: Vec<Scanned> =
                store.scan(table, Part { number, of }).try_collect().await.unwrap();
            assert!(part.is_sorted_by(|one, next| one.place() < next.place()));
            rows.extend(part);
        }
        rows
    };
    let all = scan(&table, 1).await;
    assert_eq!(all.len(), 40 * 30 - 1, "all but the one that was deleted");
    assert!(all.is_sorted_by(|one, next| one.place() < next.place()));
    assert_eq!(scan(&table, 7).await, all, "no row is in two parts or in none");
    assert_eq!(scan(&rebuilt, 3).await, all, "the same rows lie alike in every table");
    assert_eq!(scan(&other, 2).await.len(), 1);
    let missing = Table::new("scanned_nowhere", 1).unwrap();
    let none: Result<Vec<Scanned>, StoreError> =
        store.scan(&missing, Part { number: 0, of: 1 }).try_collect().await;
    assert!(matches!(none, Err(StoreError::UnknownTable { .. })), "{none:?}");
}

/// An owner of a partition that was paused, and wakes up after another took over and folded further, writes
/// what it had read before. With write timestamps by arrival, as a server gives them, it moves rows back;
/// with those of positions it does not.
pub async fn a_stale_owner_moves_no_row_back(store: &dyn ReadStore) {
    let table = fresh(store, "fenced").await;
    let mut arrivals = 0;
    let mut arrival = |_: u64| {
        arrivals += 1;
        arrivals
    };
    let mut position = |at: u64| timestamp(at, 0, true);
    type Stamp<'a> = &'a mut dyn FnMut(u64) -> i64;
    let unprotected: (&str, Stamp<'_>, &str) = ("unprotected", &mut arrival, "5");
    let protected: (&str, Stamp<'_>, &str) = ("protected", &mut position, "9");
    for (row, stamp, stands) in [unprotected, protected] {
        // The stale owner has read up to 5 when it is paused; its successor folds 4 to 9.
        let successor = (4..=9).map(|at: u64| (at, at.to_string()));
        for (at, body) in successor.chain([(4, "4".to_owned()), (5, "5".to_owned())]) {
            store.write(vec![put(&table, "p", row, stamp(at), &body)]).await.unwrap();
        }
        let found = store.get(&table, "p", row).await.unwrap().unwrap();
        assert_eq!(found.body, stands, "{row}");
    }
}

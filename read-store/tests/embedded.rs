//! The embedded store: the port's suite, survival, and a model.

use almanac_read_store::{Change, ReadStore, Slice, Table, Write, embedded::EmbeddedStore};
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeMap;

async fn opened() -> (EmbeddedStore, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (EmbeddedStore::open(folder.path(), 16 << 20).unwrap(), folder)
}

almanac_read_store::read_store_conformance!(opened);

#[tokio::test]
async fn rows_and_tombstones_survive_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let table = Table::new("kept", 1).unwrap();
    let change = |timestamp, body: Option<&str>| {
        let (partition, clustering) = ("p".to_owned(), "k".to_owned());
        let change = match body {
            Some(body) => {
                let body = Bytes::copy_from_slice(body.as_bytes());
                Change::Put { partition, clustering, timestamp, body }
            }
            None => Change::Delete { partition, clustering, timestamp },
        };
        vec![Write { table: table.clone(), change }]
    };
    {
        let store = EmbeddedStore::open(folder.path(), 16 << 20).unwrap();
        store.create_table(&table).await.unwrap();
        store.write(change(1, Some("x"))).await.unwrap();
        store.write(change(5, None)).await.unwrap();
    }
    let store = EmbeddedStore::open(folder.path(), 16 << 20).unwrap();
    assert_eq!(store.tables().await.unwrap(), std::slice::from_ref(&table));
    store.write(change(4, Some("late"))).await.unwrap();
    assert_eq!(store.get(&table, "p", "k").await.unwrap(), None);
    store.write(change(6, Some("new"))).await.unwrap();
    assert_eq!(store.get(&table, "p", "k").await.unwrap().unwrap().body, "new");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Any writes in any grouping, some of them loads, end in what a map with the port's rules holds,
    /// also after the store was opened again.
    #[test]
    fn behaves_like_a_map(
        writes in prop::collection::vec((0..3_u8, 0..4_u8, 0..6_i64, prop::option::of(0..3_u8)), 1..60),
        group in 1..7_usize,
        loads in prop::collection::vec(any::<bool>(), 60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let store = EmbeddedStore::open(folder.path(), 16 << 20).unwrap();
            let table = Table::new("model", 1).unwrap();
            store.create_table(&table).await.unwrap();
            // A delete beats a write at a tie, then the greater body wins: the order of this key.
            let mut model: BTreeMap<(u8, u8), (i64, bool, u8)> = BTreeMap::new();
            for (chunk, is_load) in writes.chunks(group).zip(loads) {
                let mut call = Vec::new();
                for (partition, key, timestamp, body) in chunk {
                    let rank = (*timestamp, body.is_none(), body.unwrap_or(0));
                    let entry = model.entry((*partition, *key)).or_insert(rank);
                    *entry = (*entry).max(rank);
                    let (partition, clustering) = (partition.to_string(), key.to_string());
                    let change = match body {
                        Some(body) => Change::Put {
                            partition, clustering, timestamp: *timestamp,
                            body: Bytes::from(body.to_string()),
                        },
                        None => Change::Delete { partition, clustering, timestamp: *timestamp },
                    };
                    call.push(Write { table: table.clone(), change });
                }
                match is_load {
                    true => store.load(call).await.unwrap(),
                    false => store.write(call).await.unwrap(),
                }
            }
            drop(store);
            let store = EmbeddedStore::open(folder.path(), 16 << 20).unwrap();
            for partition in 0..3_u8 {
                let rows = store.slice(&table, &partition.to_string(), &Slice::all()).await.unwrap();
                let found: Vec<(String, i64, String)> = rows
                    .into_iter()
                    .map(|row| (row.clustering, row.timestamp, String::from_utf8(row.body.to_vec()).unwrap()))
                    .collect();
                let expected: Vec<(String, i64, String)> = model
                    .iter()
                    .filter(|((of, _), (_, deleted, _))| *of == partition && !deleted)
                    .map(|((_, key), (timestamp, _, body))| (key.to_string(), *timestamp, body.to_string()))
                    .collect();
                assert_eq!(found, expected);
            }
        });
    }
}

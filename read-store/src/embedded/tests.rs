use super::*;
use crate::Change;
use std::error::Error;

#[test]
fn what_the_engine_says_is_the_source() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = EmbeddedStore::open(file.path(), 1 << 20).err().unwrap();
    assert!(matches!(error, StoreError::Storage { action: "open", .. }), "{error:?}");
    assert!(error.source().unwrap().is::<fjall::Error>(), "{error:?}");
}

/// Tables that are each not full make no room by themselves.
#[tokio::test]
async fn many_tables_together_stay_within_the_bound() {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(folder.path(), 1 << 20).unwrap();
    let share = MEMTABLE_BYTES / 2;
    let tables = (0..WRITE_BUFFER_BYTES / share + 4)
        .map(|number| Table::new(&format!("t{number}"), 1).unwrap());
    for table in tables {
        store.create_table(&table).await.unwrap();
        let row = |row: u64| Write {
            table: table.clone(),
            change: Change::Put {
                partition: "p".to_owned(),
                clustering: row.to_string(),
                timestamp: 1,
                body: vec![b'x'; 64 << 10].into(),
            },
        };
        store.write((0..share >> 16).map(row).collect()).await.unwrap();
    }
    let until = Instant::now() + Duration::from_secs(60);
    while store.0.database.write_buffer_size() > WRITE_BUFFER_BYTES {
        assert!(Instant::now() < until, "the memtables keep more than they may");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let rows = store.slice(&Table::new("t0", 1).unwrap(), "p", &Slice::all()).await.unwrap();
    assert_eq!(rows.len() as u64, share >> 16);
}

/// Reads wait for those before them; writes, which are few and what folds go by, do not.
#[tokio::test]
async fn a_bounded_number_of_reads_is_under_way() {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(folder.path(), 1 << 20).unwrap();
    let table = Table::new("t", 1).unwrap();
    store.create_table(&table).await.unwrap();
    let turns = store.0.reading.clone();
    let all = turns.acquire_many(reads_at_once() as u32).await.unwrap();
    let (get, slice) = (store.get(&table, "p", "c"), Slice::all());
    let slice = store.slice(&table, "p", &slice);
    let mut reads = std::pin::pin!(futures::future::join(get, slice));
    let change = Change::Put {
        partition: "p".to_owned(),
        clustering: "c".to_owned(),
        timestamp: 1,
        body: "b".into(),
    };
    let write = store.write(vec![Write { table: table.clone(), change }]);
    tokio::select! {
        biased;
        _ = &mut reads => panic!("read with all turns taken"),
        written = write => written.unwrap(),
    }
    drop(all);
    let (got, rows) = reads.await;
    assert_eq!(got.unwrap().unwrap().body, "b");
    assert_eq!(rows.unwrap().len(), 1);
}

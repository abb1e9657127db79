//! What can only be made to happen from within: disks that fail, writers that are held up.

use super::*;
use crate::{
    Retry,
    conformance::{append, assigned, everything, group_options, position, spec},
};
use std::{
    error::Error as _,
    io,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

/// A log whose disk cannot be synced while the switch is on.
fn failing(folder: &std::path::Path) -> (EmbeddedLog, Arc<AtomicBool>) {
    let fails = Arc::<AtomicBool>::default();
    let asked = fails.clone();
    let sync: SyncFile = Box::new(move |file| match asked.load(Ordering::SeqCst) {
        true => Err(io::ErrorKind::StorageFull.into()),
        false => file.sync_data(),
    });
    (EmbeddedLog::open_with(EmbeddedOptions::new(folder), sync).unwrap(), fails)
}

#[tokio::test]
async fn what_a_failed_sync_leaves_is_unknown_and_then_settled() {
    let folder = tempfile::tempdir().unwrap();
    let (log, fails) = failing(folder.path());
    let buffered = TopicSpec { durability: crate::Durability::Buffered, ..spec("news", 1) };
    log.ensure_topics(&[spec("facts", 1), buffered]).await.unwrap();
    let topic: Arc<str> = "facts".into();
    let write = async |text| log.append(vec![append(&topic, 0, text)]).await;
    write("a").await.unwrap();
    log.append(vec![append(&"news".into(), 0, "kept")]).await.unwrap();
    fails.store(true, Ordering::SeqCst);
    let error = write("b").await.unwrap_err();
    assert_eq!(error.retry(), Retry::Unknown, "{error}");
    let failed = error.source().unwrap().downcast_ref::<LogError>().unwrap();
    assert!(matches!(failed, LogError::Io { action: "sync", .. }), "{failed:?}");
    assert!(failed.source().unwrap().is::<std::io::Error>(), "{failed:?}");
    let error = write("c").await.unwrap_err();
    assert_eq!(error.retry(), Retry::Later, "{error}");
    assert!(error.to_string().contains("00000001.log"), "{error}");
    assert_eq!(everything(&log, "facts", 0).await, ["a"], "nobody reads what may go away");
    let error = log.ensure_topics(&[spec("later", 1)]).await.unwrap_err();
    assert_eq!(error.retry(), Retry::Later, "{error}");

    fails.store(false, Ordering::SeqCst);
    assert_eq!(write("d").await.unwrap(), [Some(1)]);
    log.ensure_topics(&[spec("later", 1)]).await.unwrap();
    assert_eq!(everything(&log, "facts", 0).await, ["a", "d"]);
    drop(log);
    let log = EmbeddedLog::open(EmbeddedOptions::new(folder.path())).unwrap();
    assert_eq!(everything(&log, "facts", 0).await, ["a", "d"]);
    assert_eq!(everything(&log, "news", 0).await, ["kept"]);
}

/// Why nobody may be told that it was not written.
#[tokio::test]
async fn what_a_failed_sync_leaves_may_be_there_after_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let (log, fails) = failing(folder.path());
    log.ensure_topics(&[spec("facts", 1)]).await.unwrap();
    fails.store(true, Ordering::SeqCst);
    let error = log.append(vec![append(&"facts".into(), 0, "a")]).await.unwrap_err();
    assert_eq!(error.retry(), Retry::Unknown);
    // What a process that is killed now leaves.
    let left = tempfile::tempdir().unwrap();
    let file = segment::log_path(folder.path(), 1);
    fs::copy(file, segment::log_path(left.path(), 1)).unwrap();
    let log = EmbeddedLog::open(EmbeddedOptions::new(left.path())).unwrap();
    assert_eq!(everything(&log, "facts", 0).await, ["a"]);
}

async fn owner(log: &EmbeddedLog) -> (Box<dyn GroupMember>, Ownership) {
    log.ensure_topics(&[spec("input", 1), spec("facts", 1)]).await.unwrap();
    let mut member = log.join(group_options("group", "input", "one")).await.unwrap();
    let owned = assigned(&mut *member).await.remove(0);
    (member, owned)
}

#[tokio::test]
async fn a_transaction_whose_sync_failed_starts_its_owner_over() {
    let folder = tempfile::tempdir().unwrap();
    let (log, fails) = failing(folder.path());
    let (_member, owned) = owner(&log).await;
    let input = position(&"input".into(), 0, 1);
    let mut transactor = log.transactor("tx", &owned).await.unwrap();
    fails.store(true, Ordering::SeqCst);
    let appends = || vec![append(&"facts".into(), 0, "a")];
    let error = transactor.commit(appends(), input.clone()).await.unwrap_err();
    assert_eq!(error.retry(), Retry::StartOver, "{error}");
    // While nobody knows whether it is there, nobody takes over.
    let error = log.transactor("tx", &owned).await.err().unwrap();
    assert_eq!(error.retry(), Retry::Later, "{error}");
    fails.store(false, Ordering::SeqCst);
    let mut next = log.transactor("tx", &owned).await.unwrap();
    assert_eq!(log.committed(&owned).await.unwrap(), None);
    next.commit(appends(), input).await.unwrap();
    assert_eq!(everything(&log, "facts", 0).await, ["a"]);
}

/// A write that has passed its check is not fenced any more: who comes next waits for it, and finds
/// it below the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_transactor_waits_for_what_the_old_one_has_under_way() {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(EmbeddedOptions::new(folder.path())).unwrap();
    let (_member, owned) = owner(&log).await;
    let mut old = log.transactor("tx", &owned).await.unwrap();
    let file = segment::log_path(folder.path(), 1);
    let length = || fs::metadata(&file).unwrap().len();
    let before = length();

    // The writer checks, writes, and then wants this lock for showing what it wrote.
    let held = log.0.index.clone();
    let (let_go, is_let_go) = std::sync::mpsc::channel::<()>();
    let (holds, is_held) = std::sync::mpsc::channel::<()>();
    let holding = std::thread::spawn(move || {
        let _held = held.read();
        holds.send(()).unwrap();
        let _ = is_let_go.recv();
    });
    is_held.recv().unwrap();
    let committing = tokio::spawn(async move {
        old.commit(vec![append(&"facts".into(), 0, "old")], position(&"input".into(), 0, 1)).await
    });
    while length() == before {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut taking_over = Box::pin(log.transactor("tx", &owned));
    assert!(futures::poll!(&mut taking_over).is_pending(), "the old one is not done");
    let_go.send(()).unwrap();
    let mut new = taking_over.await.unwrap();
    assert_eq!(log.end("facts", 0, Isolation::Uncommitted).await.unwrap(), 1);
    assert_eq!(log.committed(&owned).await.unwrap(), Some(1));
    committing.await.unwrap().expect("it passed its check before it was fenced");
    holding.join().unwrap();
    new.commit(Vec::new(), position(&"input".into(), 0, 1)).await.unwrap();
}

/// What a log of many segments costs while nobody reads it, and when somebody reads all of it.
#[tokio::test(flavor = "multi_thread")]
async fn memory_and_open_files_do_not_grow_with_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions {
        segment_bytes: 4_096,
        tail_bytes: 0,
        open_files: 4,
        ..EmbeddedOptions::new(folder.path())
    };
    let written: Vec<String> = (0..1_500).map(|n| format!("record {n}")).collect();
    let mut log = EmbeddedLog::open(options.clone()).unwrap();
    log.ensure_topics(&[spec("facts", 2)]).await.unwrap();
    for text in &written {
        let both = [0, 1].map(|partition| append(&"facts".into(), partition, text));
        log.append(both.to_vec()).await.unwrap();
    }
    for _ in 0..2 {
        {
            let index = log.0.index.read();
            assert!(index.segments.len() > 40, "{} segments", index.segments.len());
            let partitions = index.topics.iter().flat_map(|topic| &topic.partitions);
            let runs = partitions.flat_map(|partition| &partition.runs);
            let in_memory = runs.map(|run| match &run.blocks {
                index::Blocks::Memory(blocks) => blocks.len(),
                index::Blocks::File { .. } => 0,
            });
            let in_memory: usize = in_memory.sum();
            assert!(in_memory < 100, "{in_memory} of 3,000 blocks");
        }
        for partition in 0..2 {
            assert_eq!(everything(&log, "facts", partition).await, written);
        }
        for from in (0..1_500).step_by(97) {
            let mut reader = log.read_to("facts", 1, from, from + 1).await.unwrap();
            let limit = crate::ReadLimit { records: 10, bytes: 1 << 20 };
            let batch = reader.next(limit, Duration::from_secs(10)).await.unwrap();
            assert_eq!(batch.records.len(), 1);
            assert_eq!(batch.records[0].offset, from);
        }
        assert!(log.0.index.read().files.count() <= 4);
        drop(log);
        log = EmbeddedLog::open(options.clone()).unwrap();
    }
}

/// The cleaner replaces files while they are read; no reader takes one version's places for another's.
#[tokio::test(flavor = "multi_thread")]
async fn readers_go_on_while_segments_are_rewritten() {
    let folder = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions {
        segment_bytes: 4_096,
        tail_bytes: 0,
        open_files: 2,
        ..EmbeddedOptions::new(folder.path())
    };
    let log = EmbeddedLog::open(options).unwrap();
    let state = TopicSpec { retention: crate::Retention::Compacted, ..spec("state", 1) };
    log.ensure_topics(&[spec("facts", 1), state]).await.unwrap();
    let writing = {
        let log = log.clone();
        tokio::spawn(async move {
            for n in 0..1_500 {
                let mut put = append(&"state".into(), 0, &format!("{n:0>200}"));
                put.record.key = format!("key {}", n % 3).into();
                let fact = append(&"facts".into(), 0, &n.to_string());
                log.append(vec![put, fact]).await.unwrap();
            }
        })
    };
    let mut rounds = 0;
    while !writing.is_finished() || rounds < 3 {
        let facts = everything(&log, "facts", 0).await;
        let wanted: Vec<String> = (0..facts.len()).map(|n| n.to_string()).collect();
        assert_eq!(facts, wanted);
        for value in everything(&log, "state", 0).await {
            assert_eq!(value.len(), 200, "{value}");
        }
        rounds += 1;
    }
    writing.await.unwrap();
}

/// A disk that takes its time over an index file holds up neither who writes nor who reads. A FIFO
/// stands in for it: opening one waits for somebody who reads it.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_while_the_cleaner_writes() {
    use std::os::unix::fs::OpenOptionsExt;
    const PATIENCE: Duration = Duration::from_secs(60);
    let folder = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions {
        segment_bytes: 4_096,
        tail_bytes: 0,
        ..EmbeddedOptions::new(folder.path())
    };
    let log = EmbeddedLog::open(options).unwrap();
    let state = TopicSpec {
        retention: crate::Retention::Compacted,
        durability: crate::Durability::Buffered,
        ..spec("state", 1)
    };
    log.ensure_topics(&[state]).await.unwrap();
    let put = async |n: usize| {
        let mut put = append(&"state".into(), 0, &format!("{n:0>200}"));
        put.record.key = format!("key {}", n % 100).into();
        let appending = tokio::time::timeout(PATIENCE, log.append(vec![put]));
        appending.await.expect("nobody holds it up").unwrap();
    };
    for n in 0..100 {
        put(n).await;
    }
    // From here on what the first segment holds is superseded, and it is rewritten.
    let draft = folder.path().join("00000001.idx.new");
    assert!(std::process::Command::new("mkfifo").arg(&draft).status().unwrap().success());
    for n in 100..3_000 {
        put(n).await;
    }
    assert!(everything(&log, "state", 0).await.last().unwrap().ends_with("2999"));
    const O_NONBLOCK: i32 = 0o4000;
    let reading = fs::OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(&draft).unwrap();
    let deadline = std::time::Instant::now() + PATIENCE;
    while draft.exists() {
        assert!(std::time::Instant::now() < deadline, "the cleaner never came here");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(reading);
}

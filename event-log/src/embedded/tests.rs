//! What can only be made to happen from within: disks that fail, writers that are held up.

use super::*;
use crate::{
    Retry,
    conformance::{append, assigned, everything, group_options, position, spec},
};
use std::{
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
    assert_eq!(write("b").await.unwrap_err().retry(), Retry::Unknown);
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

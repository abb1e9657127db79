//! The runtime on the embedded log: every input is handled once, whoever owns its partition.

use almanac_event_log::{
    Append, EventLog, ReadLimit, Retention, TopicId, TopicSpec,
    conformance::{append, everything, spec, text},
    embedded::{EmbeddedLog, EmbeddedOptions},
};
use almanac_processor::{
    Change, GatherLimits, GatheredState, LocalState, Owned, ProcessorError, ProcessorOptions, Role,
    RoleError, StateError, StateFolder, run,
};
use async_trait::async_trait;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio_util::sync::CancellationToken;

const PARTITIONS: u32 = 4;
const LIMIT: ReadLimit = ReadLimit { records: 7, bytes: 1 << 20 };

/// Copies input to output, and fails now and then.
struct Copy {
    batches: AtomicU32,
}

#[async_trait]
impl Role for Copy {
    async fn own(&self, owned: Owned) -> Result<(), RoleError> {
        let mut input = owned.take_over().await?;
        let mut reader = input.reader(&*owned.log).await?;
        loop {
            let batch = tokio::select! {
                () = owned.cancelled.cancelled() => return Ok(()),
                batch = reader.next(LIMIT, Duration::from_secs(1)) => batch?,
            };
            let Some(last) = batch.records.last() else { continue };
            let next_offset = last.offset + 1;
            if self.batches.fetch_add(1, Ordering::SeqCst) % 11 == 10 {
                return Err(RoleError::other("made to fail"));
            }
            let copies: Vec<Append> = batch
                .records
                .iter()
                .map(|record| append(&"output".into(), record.partition, &text(record)))
                .collect();
            input.commit(copies, next_offset).await?;
        }
    }
}

fn start(
    log: &EmbeddedLog,
    instance: &str,
) -> (CancellationToken, tokio::task::JoinHandle<Result<(), ProcessorError>>) {
    let stop = CancellationToken::new();
    let options = ProcessorOptions {
        restart_pause: Duration::from_millis(1),
        session_timeout: Duration::from_secs(2),
        ..ProcessorOptions::new("copy", "input", instance)
    };
    let role = Arc::new(Copy { batches: AtomicU32::new(0) });
    let task = tokio::spawn(run(Arc::new(log.clone()), options, role, stop.clone()));
    (stop, task)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_input_is_handled_once_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(EmbeddedOptions::new(folder.path())).unwrap();
    log.ensure_topics(&[spec("input", PARTITIONS), spec("output", PARTITIONS)]).await.unwrap();
    let mut members = vec![start(&log, "one")];
    for round in 0..20_u32 {
        let inputs = (0..40)
            .map(|n| append(&"input".into(), n % PARTITIONS, &format!("{round}.{n}")))
            .collect();
        log.append(inputs).await.unwrap();
        // Members come and go; sometimes without saying so.
        match round % 4 {
            0 => members.push(start(&log, &format!("member {round}"))),
            1 => members.remove(0).0.cancel(),
            2 => members.push(start(&log, &format!("member {round}"))),
            _ => members.remove(0).1.abort(),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    for partition in 0..PARTITIONS {
        let expected: Vec<String> = (0..20)
            .flat_map(|round| (0..40).map(move |n| (round, n)))
            .filter(|(_, n)| n % PARTITIONS == partition)
            .map(|(round, n)| format!("{round}.{n}"))
            .collect();
        loop {
            let found = everything(&log, "output", partition).await;
            if found.len() >= expected.len() || tokio::time::Instant::now() > deadline {
                assert_eq!(found, expected);
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Nobody handled the input for longer than it is kept: the partition goes on with what is left.
#[tokio::test(flavor = "multi_thread")]
async fn what_retention_removed_does_not_stop_a_partition() {
    let folder = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions { segment_bytes: 4_096, ..EmbeddedOptions::new(folder.path()) };
    let input = TopicSpec { retention: Retention::For(Duration::from_secs(1)), ..spec("input", 1) };
    let log = EmbeddedLog::open(options.clone()).unwrap();
    log.ensure_topics(&[input, spec("output", 1)]).await.unwrap();
    let handled = async |log: &EmbeddedLog, last: &str| {
        let (stop, task) = start(log, "one");
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        while everything(log, "output", 0).await.last().is_none_or(|found| found != last) {
            assert!(tokio::time::Instant::now() < deadline, "{last} is not handled");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.cancel();
        task.await.unwrap().unwrap();
    };
    log.append(vec![append(&"input".into(), 0, "before")]).await.unwrap();
    handled(&log, "before").await;
    // The time in these records lies in 2021: their retention has long passed.
    for n in 0..300 {
        log.append(vec![append(&"input".into(), 0, &format!("{n:0>200}"))]).await.unwrap();
    }
    // Closing waits for the cleaner.
    drop(log);
    let log = EmbeddedLog::open(options).unwrap();
    let start = log.start("input", 0).await.unwrap();
    assert!(start > 1, "records were removed that nobody handled");
    log.append(vec![append(&"input".into(), 0, "after")]).await.unwrap();
    handled(&log, "after").await;
    let copied = everything(&log, "output", 0).await;
    let [before, left @ .., _] = &*copied else { panic!("{copied:?}") };
    assert_eq!(before, "before");
    assert!(
        left.is_sorted_by(|one, next| one < next),
        "what was left, once and in order: {left:?}"
    );
}

const TOPIC: TopicId = TopicId(uuid::Uuid::from_u128(7));

/// Local states in a folder of their own, which goes when the first is dropped.
fn folder() -> (tempfile::TempDir, StateFolder) {
    let folder = tempfile::tempdir().unwrap();
    let states = StateFolder::open(folder.path()).unwrap();
    (folder, states)
}

#[tokio::test]
async fn local_state_knows_its_topic_and_its_place() {
    let (_folder, states) = folder();
    let other = TopicId(uuid::Uuid::from_u128(8));
    let (state, position) = states.partition(0, TOPIC, 100).unwrap();
    assert_eq!(position, 0);
    state.apply([(b"a".to_vec(), Some(b"1".to_vec()))], Some(40)).unwrap();
    state.apply([(b"b".to_vec(), Some(b"2".to_vec()))], None).unwrap();
    drop(state);
    let (state, position) = states.partition(0, TOPIC, 100).unwrap();
    assert_eq!((position, state.get(b"a").unwrap().as_deref()), (40, Some(&b"1"[..])));
    assert_eq!(state.scan(b"").count(), 2);
    drop(state);
    // Ahead of the log, or of another topic, it is doubtful and starts anew.
    let (state, position) = states.partition(0, TOPIC, 39).unwrap();
    assert_eq!((position, state.get(b"a").unwrap()), (0, None));
    state.apply([(b"a".to_vec(), Some(b"1".to_vec()))], Some(40)).unwrap();
    drop(state);
    let (state, position) = states.partition(0, other, 100).unwrap();
    assert_eq!((position, state.get(b"a").unwrap()), (0, None));
}

#[tokio::test]
async fn a_state_waits_for_who_held_it_before() {
    let (_folder, states) = folder();
    let (former, _) = states.partition(0, TOPIC, 100).unwrap();
    let next = states.clone();
    let next = tokio::task::spawn_blocking(move || next.partition(0, TOPIC, 100));
    let _other = states.partition(1, TOPIC, 100).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!next.is_finished());
    former.apply([("a", Some("late"))], Some(3)).unwrap();
    drop(former);
    let (state, position) = next.await.unwrap().unwrap();
    assert_eq!((position, state.get(b"a").unwrap().as_deref()), (3, Some(&b"late"[..])));
}

fn nothing(_: &LocalState) -> Result<Vec<Change>, StateError> {
    Ok(Vec::new())
}

#[tokio::test]
async fn gathered_changes_are_seen_at_once_and_written_together() {
    let (_folder, states) = folder();
    let (state, _) = states.partition(0, TOPIC, 100).unwrap();
    let limits = GatherLimits { changes: 3, bytes: 1_000, age: Duration::from_secs(3600) };
    let state = GatheredState::new(state, limits);
    let put = |key: &str, value: &str| (key.as_bytes().to_vec(), Some(value.as_bytes().to_vec()));
    let seen =
        |key: &str| state.get(key.as_bytes()).unwrap().map(|v| String::from_utf8(v).unwrap());

    state.take([put("a", "1"), put("b", "1")], Some(2));
    state.flush_due(nothing).await.unwrap();
    assert_eq!(seen("a").as_deref(), Some("1"));
    assert_eq!(state.on_disk().get(b"a").unwrap(), None);

    state.take([put("c", "1")], Some(3));
    state.flush_due(nothing).await.unwrap();
    // Whether or not the write has ended: newer changes stand over it, a removal as well.
    state.take([put("a", "2"), (b"b".to_vec(), None)], Some(4));
    assert_eq!(
        (seen("a").as_deref(), seen("b"), seen("c").as_deref()),
        (Some("2"), None, Some("1"))
    );

    // Another write waits for the one before.
    state.take([put("d", "1")], None);
    state.flush_due(nothing).await.unwrap();
    drop(state);
    let (state, position) = states.partition(0, TOPIC, 100).unwrap();
    let on_disk = |key: &str| state.get(key.as_bytes()).unwrap().map(|value| value.to_vec());
    assert_eq!(position, 4);
    assert_eq!(on_disk("a").as_deref(), Some(&b"2"[..]));
    assert_eq!((on_disk("b"), on_disk("d").as_deref()), (None, Some(&b"1"[..])));
}

#[tokio::test]
async fn what_has_gathered_stands_over_what_goes_with_it() {
    let (_folder, states) = folder();
    let (state, _) = states.partition(0, TOPIC, 100).unwrap();
    state.apply([("kept", Some("1")), ("gone", Some("1"))], Some(1)).unwrap();
    let limits = GatherLimits { changes: 1, ..GatherLimits::default() };
    let state = GatheredState::new(state, limits);
    state.take([(b"kept".to_vec(), Some(b"2".to_vec()))], Some(2));
    let everything = |on_disk: &LocalState| {
        on_disk.scan(b"").map(|entry| Ok((entry?.0.to_vec(), None))).collect()
    };
    state.flush_due(everything).await.unwrap();
    drop(state);
    let (state, position) = states.partition(0, TOPIC, 100).unwrap();
    assert_eq!((position, state.get(b"gone").unwrap()), (2, None));
    assert_eq!(state.get(b"kept").unwrap().as_deref(), Some(&b"2"[..]));
}

/// A thread that serves does not wait for the disk: what memory has is there at once, the rest comes
/// from elsewhere.
#[test]
fn what_is_on_disk_is_read_elsewhere() {
    // The only thread that may block is busy.
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.max_blocking_threads(1).build().unwrap();
    let (release, busy) = std::sync::mpsc::channel::<()>();
    runtime.spawn_blocking(move || busy.recv());
    runtime.block_on(reads_elsewhere(release));
}

async fn reads_elsewhere(release: std::sync::mpsc::Sender<()>) {
    let (_folder, states) = folder();
    let (state, _) = states.partition(0, TOPIC, 100).unwrap();
    state.apply([("old", Some("1")), ("both", Some("1"))], Some(1)).unwrap();
    let state = GatheredState::new(state, GatherLimits::default());
    let value = |text: &str| Some(text.as_bytes().to_vec());
    state.take([(b"new".to_vec(), value("2")), (b"both".to_vec(), value("2"))], Some(2));
    let all =
        |keys: &[&str]| state.get_all(keys.iter().map(|key| key.as_bytes().to_vec()).collect());

    let in_memory = futures::poll!(std::pin::pin!(all(&["new", "both"])));
    let std::task::Poll::Ready(found) = in_memory else { panic!("it need not wait") };
    assert_eq!(found.unwrap().len(), 2);
    let mut reading = std::pin::pin!(all(&["new", "old", "both", "absent"]));
    assert!(futures::poll!(&mut reading).is_pending(), "it reads on the thread that asks");
    release.send(()).unwrap();
    let found = reading.await.unwrap();
    assert_eq!((&found[&b"old"[..]], &found[&b"both"[..]]), (&value("1"), &value("2")));
    assert_eq!((&found[&b"new"[..]], &found[&b"absent"[..]]), (&value("2"), &None));
}

#[tokio::test]
async fn a_doubted_state_is_folded_again_once() {
    let (_folder, states) = folder();
    let (state, _) = states.partition(0, TOPIC, 100).unwrap();
    state.apply([("a", Some("1"))], Some(40)).unwrap();
    assert!(matches!(state.doubt("a test"), Err(StateError::Damaged { .. })));
    // What is still under way leaves no position behind.
    state.apply([("b", Some("1"))], Some(41)).unwrap();
    assert!(state.doubt("it is still the same state").is_err());
    drop(state);
    let (state, position) = states.partition(0, TOPIC, 100).unwrap();
    assert_eq!((position, state.get(b"a").unwrap(), state.get(b"b").unwrap()), (0, None, None));
    state.apply([("a", Some("1"))], Some(40)).unwrap();
    state.doubt("the log has it like that").unwrap();
    drop(state);
    assert_eq!(states.partition(0, TOPIC, 100).unwrap().1, 40);
    // Of another partition nothing is known yet.
    assert!(states.partition(1, TOPIC, 100).unwrap().0.doubt("a test").is_err());
}

#[tokio::test]
async fn keys_that_the_store_cannot_take_are_refused() {
    let (_folder, states) = folder();
    let (state, _) = states.partition(0, TOPIC, 100).unwrap();
    for bytes in [0, 70_000] {
        let refused = state.apply([(vec![b'x'; bytes], Some("1"))], Some(1)).unwrap_err();
        assert!(matches!(refused, StateError::BadKey { bytes: found, .. } if found == bytes));
    }
}

/// Local state whose files are damaged is removed, and everything else stands.
#[test]
fn damaged_files_of_local_state_start_anew() {
    let folder = tempfile::tempdir().unwrap();
    let states = StateFolder::open(folder.path()).unwrap();
    let (state, _) = states.partition(0, TOPIC, 100).unwrap();
    state.apply([("a", Some("1"))], Some(40)).unwrap();
    drop((state, states));
    let is_locked = || loop {
        match StateFolder::open(folder.path()) {
            // The store's own threads let go of it in their time.
            Err(StateError::InUse { .. }) => std::thread::sleep(Duration::from_millis(5)),
            opened => return opened,
        }
    };
    assert_eq!(is_locked().unwrap().partition(0, TOPIC, 100).unwrap().1, 40);
    drop(is_locked().unwrap());
    for file in walk(folder.path()) {
        let is_lock = file.file_name().is_some_and(|name| name == "lock");
        if !is_lock {
            let length = std::fs::metadata(&file).unwrap().len() as usize;
            std::fs::write(&file, vec![0x5a; length]).unwrap();
        }
    }
    let (_, position) = is_locked().unwrap().partition(0, TOPIC, 100).unwrap();
    assert_eq!(position, 0);
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

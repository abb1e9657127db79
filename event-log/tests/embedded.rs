//! The embedded log: the port's suite, and what only files can suffer.

use almanac_event_log::{
    EventLog, Isolation, LogError, ReadLimit, Retention, TopicSpec,
    conformance::{append, everything, spec, text},
    embedded::{EmbeddedLog, EmbeddedOptions},
};
use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

fn open(folder: &Path) -> EmbeddedLog {
    EmbeddedLog::open(EmbeddedOptions::new(folder)).unwrap()
}

fn small_segments(folder: &Path) -> EmbeddedOptions {
    // Read from the files, where the default reads what is new from memory.
    EmbeddedOptions { segment_bytes: 4_096, tail_bytes: 0, ..EmbeddedOptions::new(folder) }
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    found.sort();
    found
}

fn flip_byte(file: &Path, position: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], position).unwrap();
}

async fn fill(log: &EmbeddedLog, topic: &str, count: usize) {
    log.ensure_topics(&[spec(topic, 1)]).await.unwrap();
    for n in 0..count {
        log.append(vec![append(&topic.into(), 0, &format!("record {n}"))]).await.unwrap();
    }
}

fn records(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("record {n}")).collect()
}

mod contract {
    use super::*;

    async fn opened() -> (EmbeddedLog, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        (open(folder.path()), folder)
    }

    almanac_event_log::event_log_conformance!(opened);
}

mod contract_with_tiny_segments {
    use super::*;

    async fn opened() -> (EmbeddedLog, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        (EmbeddedLog::open(small_segments(folder.path())).unwrap(), folder)
    }

    almanac_event_log::event_log_conformance!(opened);
}

#[tokio::test]
async fn everything_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    for (options, name) in [
        (EmbeddedOptions::new(folder.path().join("a")), "one"),
        (small_segments(&folder.path().join("b")), "many"),
    ] {
        let log = EmbeddedLog::open(options.clone()).unwrap();
        fill(&log, name, 200).await;
        let id = log.topic(name).await.unwrap().id;
        drop(log);
        let log = EmbeddedLog::open(options).unwrap();
        assert_eq!(log.topic(name).await.unwrap().id, id);
        assert_eq!(everything(&log, name, 0).await, records(200));
        let offsets = log.append(vec![append(&name.into(), 0, "next")]).await.unwrap();
        assert_eq!(offsets, [Some(200)]);
    }
}

#[tokio::test]
async fn a_second_opener_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _first = open(folder.path());
    let error = EmbeddedLog::open(EmbeddedOptions::new(folder.path())).err().unwrap();
    assert!(matches!(error, LogError::InUse { .. }), "{error}");
}

#[tokio::test]
async fn a_torn_tail_is_cut_off_at_every_length() {
    let folder = tempfile::tempdir().unwrap();
    fill(&open(folder.path()), "facts", 3).await;
    let file = segments(folder.path()).pop().unwrap();
    let whole = fs::read(&file).unwrap();
    let before_last = {
        let other = tempfile::tempdir().unwrap();
        fill(&open(other.path()), "facts", 2).await;
        fs::metadata(&segments(other.path())[0]).unwrap().len() as usize
    };
    for length in before_last + 1..whole.len() {
        fs::write(&file, &whole[..length]).unwrap();
        let log = open(folder.path());
        assert_eq!(everything(&log, "facts", 0).await, records(2), "torn at {length}");
    }
}

#[tokio::test]
async fn a_damaged_byte_is_named_wherever_it_is() {
    let folder = tempfile::tempdir().unwrap();
    fill(&open(folder.path()), "facts", 5).await;
    let file = segments(folder.path()).pop().unwrap();
    let whole = fs::read(&file).unwrap();
    let last_frame = whole.windows(4).rposition(|window| window == b"ALF1").unwrap();
    for position in (0..last_frame as u64).step_by(7) {
        fs::write(&file, &whole).unwrap();
        flip_byte(&file, position);
        let error = EmbeddedLog::open(EmbeddedOptions::new(folder.path())).err().unwrap();
        let LogError::Corrupt { file: named, .. } = &error else { panic!("{error}") };
        assert_eq!(named, &file);
        assert_eq!(fs::metadata(&file).unwrap().len(), whole.len() as u64, "nothing was cut off");
    }
}

/// Where each frame starts, and how much of the file was synced before it was written.
fn frames(file: &[u8]) -> Vec<(usize, usize)> {
    let starts = file.windows(4).enumerate().filter(|(_, window)| window == b"ALF1");
    let frames = starts.map(|(at, _)| {
        assert_eq!(file[at + 16], 4, "a frame begins with what was synced");
        (at, u64::from_le_bytes(file[at + 17..at + 25].try_into().unwrap()) as usize)
    });
    frames.collect()
}

/// A power failure in the middle of a sync leaves any part of what was written together.
#[tokio::test]
async fn what_was_not_synced_may_be_torn_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    fill(&log, "facts", 3).await;
    let topic: Arc<str> = "facts".into();
    let file = segments(folder.path()).pop().unwrap();
    // Those that wait while others are synced are written together, sooner or later.
    let mut count = 3;
    let (whole, frames, before) = loop {
        let some = (count..count + 50)
            .map(|n| log.append(vec![append(&topic, 0, &format!("record {n}"))]));
        for appended in futures::future::join_all(some).await {
            appended.unwrap();
        }
        count += 50;
        let whole = fs::read(&file).unwrap();
        let frames = frames(&whole);
        let group = frames.last().unwrap().1;
        let before = frames.iter().filter(|(at, _)| *at < group).count();
        if frames.len() - before > 1 {
            break (whole, frames, before);
        }
        assert!(count < 5_000, "never two together");
    };
    drop(log);
    let group = frames[before].0;
    // The topic's declaration is a frame as well.
    let kept = before - 1;

    flip_byte(&file, group as u64 + 30);
    let log = open(folder.path());
    assert_eq!(everything(&log, "facts", 0).await, records(kept));
    let offsets = log.append(vec![append(&topic, 0, "next")]).await.unwrap();
    assert_eq!(offsets, [Some(kept as u64)]);
    drop(log);

    fs::write(&file, &whole).unwrap();
    flip_byte(&file, frames[before - 1].0 as u64 + 30);
    let error = EmbeddedLog::open(EmbeddedOptions::new(folder.path())).err().unwrap();
    assert!(matches!(error, LogError::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn damage_in_a_sealed_segment_is_found_when_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(small_segments(folder.path())).unwrap();
    fill(&log, "facts", 200).await;
    drop(log);
    let file = segments(folder.path()).remove(1);
    let whole = fs::read(&file).unwrap();
    let record = whole.windows(6).rposition(|window| window == b"record").unwrap();
    flip_byte(&file, record as u64);
    let log = EmbeddedLog::open(small_segments(folder.path())).unwrap();
    let mut reader = log.read("facts", &[(0, 0)]).await.unwrap();
    let limit = ReadLimit { records: 1_000, bytes: 1 << 20 };
    let error = loop {
        match reader.next(limit, Duration::from_secs(10)).await {
            Ok(batch) => assert!(!batch.records.is_empty(), "the end must not be reached"),
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, LogError::Corrupt { file: named, .. } if *named == file), "{error}");
}

/// Compaction keeps the newest record of every key, facts stay whole, offsets never go back.
#[tokio::test]
async fn compaction_keeps_the_newest_of_every_key() {
    let folder = tempfile::tempdir().unwrap();
    let state = TopicSpec { retention: Retention::Compacted, ..spec("state", 1) };
    let brief = TopicSpec { retention: Retention::For(Duration::from_secs(1)), ..spec("brief", 1) };
    let log = EmbeddedLog::open(small_segments(folder.path())).unwrap();
    log.ensure_topics(&[state, brief, spec("facts", 1)]).await.unwrap();
    for n in 0..300 {
        let mut put = append(&"state".into(), 0, &format!("{n:0>200}"));
        put.record.key = format!("key {}", n % 3).into();
        // The time in these records lies in 2021: their retention has long passed.
        let brief = append(&"brief".into(), 0, &"x".repeat(200));
        let fact = append(&"facts".into(), 0, &n.to_string());
        log.append(vec![put, brief, fact]).await.unwrap();
    }
    let size = |folder: &Path| -> u64 {
        segments(folder).iter().map(|path| fs::metadata(path).unwrap().len()).sum()
    };
    // The cleaner works beside the writer; closing waits for it.
    drop(log);
    let cleaned = size(folder.path());
    assert!(cleaned < 300 * 200, "superseded and expired records are gone ({cleaned} bytes)");
    for _ in 0..2 {
        let log = EmbeddedLog::open(small_segments(folder.path())).unwrap();
        let facts: Vec<String> = (0..300).map(|n| n.to_string()).collect();
        assert_eq!(everything(&log, "facts", 0).await, facts);
        let state = everything(&log, "state", 0).await;
        for newest in ["297", "298", "299"] {
            assert!(state.iter().any(|value| value.ends_with(newest)), "{newest} is missing");
        }
        assert!(state.len() < 200, "{} of 300 state records are left", state.len());
        assert_eq!(log.end("state", 0, Isolation::Committed).await.unwrap(), 300);
        assert_eq!(log.end("brief", 0, Isolation::Committed).await.unwrap(), 300);
        let limit = ReadLimit { records: 10, bytes: 1 << 20 };
        let mut reader = log.read("brief", &[(0, 0)]).await.unwrap();
        let error = reader.next(limit, Duration::from_secs(1)).await.unwrap_err();
        assert!(
            matches!(error, LogError::OffsetOutOfRange { offset: 0, start: 1.., end: 300, .. }),
            "what was removed is not passed over in silence: {error}"
        );
    }
}

#[tokio::test]
async fn a_write_that_fails_leaves_the_log_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    fill(&log, "facts", 2).await;
    let oversized = append(&"facts".into(), 0, &"x".repeat(2_000_000));
    let error = log.append(vec![append(&"facts".into(), 0, "lost"), oversized]).await.unwrap_err();
    assert!(matches!(error, LogError::RecordTooLarge { .. }), "{error}");
    assert_eq!(everything(&log, "facts", 0).await, records(2));
    let mut reader = log.read("facts", &[(0, 1)]).await.unwrap();
    let limit = ReadLimit { records: 10, bytes: 1 << 20 };
    let batch = reader.next(limit, Duration::from_secs(1)).await.unwrap();
    assert_eq!(batch.records.iter().map(text).collect::<Vec<_>>(), ["record 1"]);
}

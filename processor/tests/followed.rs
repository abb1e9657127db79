//! A topic that is followed: nothing acknowledged is missed, and a restart goes on where it was.

use almanac_event_log::{
    EventLog, StoredRecord,
    conformance::{append, spec, text},
    embedded::{EmbeddedLog, EmbeddedOptions},
};
use almanac_processor::{
    Changes, Follow, Followed, GatherLimits, GatheredState, RoleError, StateFolder,
};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};

const PARTITIONS: u32 = 3;

/// Keeps the last text under its first letter.
#[derive(Default)]
struct Letters {
    /// Found on disk when following began.
    resumed: Mutex<usize>,
    folded: Mutex<Vec<String>>,
    taken: Mutex<Vec<String>>,
}

#[async_trait]
impl Follow for Letters {
    type Note = String;

    fn resumed(&self, states: &[GatheredState]) -> Result<(), RoleError> {
        *self.resumed.lock() = states.iter().map(|state| state.on_disk().scan(b"").count()).sum();
        Ok(())
    }

    async fn fold(
        &self,
        stored: &StoredRecord,
        changes: &mut Changes,
    ) -> Result<Option<String>, RoleError> {
        let text = text(stored);
        changes.push((text.as_bytes()[..1].to_vec(), Some(text.as_bytes().to_vec())));
        self.folded.lock().push(text.clone());
        Ok(Some(text))
    }

    fn taken(&self, notes: Vec<String>) {
        self.taken.lock().extend(notes);
    }
}

async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let log: Arc<dyn EventLog> =
        Arc::new(EmbeddedLog::open(EmbeddedOptions::new(folder.path().join("log"))).unwrap());
    log.ensure_topics(&[spec("letters", PARTITIONS)]).await.unwrap();
    let states = StateFolder::open(&folder.path().join("state")).unwrap();
    let followed = Arc::new(Followed::new(log.clone(), "letters".into(), PARTITIONS));
    let write = async |partition, text: &str| {
        log.append(vec![append(&"letters".into(), partition, text)]).await.unwrap();
    };
    write(1, "a1").await;
    assert_eq!(followed.get(1, b"a".to_vec()).await.unwrap(), None, "nobody follows yet");
    let start = || {
        let letters = Arc::new(Letters::default());
        let (followed, states, follow) = (followed.clone(), states.clone(), letters.clone());
        let flush = GatherLimits { age: Duration::ZERO, ..GatherLimits::default() };
        let task = tokio::spawn(async move { followed.follow(&states, flush, &follow).await });
        (letters, task)
    };
    let (letters, task) = start();
    until(|| followed.is_followed()).await;
    for round in 0..50 {
        let text = format!("b{round}");
        write(2, &text).await;
        followed.complete(2).await.unwrap();
        let known = followed.get(2, b"b".to_vec()).await.unwrap().unwrap();
        assert_eq!(known, Some(text.into_bytes()));
    }
    followed.complete(0).await.unwrap();
    assert_eq!(followed.get(0, b"b".to_vec()).await.unwrap(), Some(None), "another partition");
    until(|| letters.taken.lock().len() == 51).await;
    task.abort();
    let _ = task.await;
    assert!(!followed.is_followed());
    write(0, "c1").await;
    let (letters, task) = start();
    until(|| letters.taken.lock().contains(&"c1".to_owned())).await;
    // What had gathered and was not on disk is read from the log again; the rest is not.
    assert!(letters.folded.lock().len() < 52, "{:?}", letters.folded.lock());
    assert!(*letters.resumed.lock() > 0);
    task.abort();
}

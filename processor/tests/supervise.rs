//! Tasks that fail and panic: nothing of that goes unnoticed.

use almanac_errors::Words;
use almanac_event_log::{
    EventLog, ReadLimit,
    conformance::{append, everything, spec, text},
    embedded::{EmbeddedLog, EmbeddedOptions},
};
use almanac_processor::{
    Ending, Owned, ProcessorOptions, RestartLimits, Role, RoleError, Supervisor, TaskName, run,
};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio_util::sync::CancellationToken;

const SHORT: Duration = Duration::from_millis(1);

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Written {
    /// What is logged by this thread from now on.
    fn start() -> (Self, tracing::subscriber::DefaultGuard) {
        let written = Self::default();
        let writer = written.clone();
        let log =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        (written, tracing::subscriber::set_default(log))
    }

    fn lines(&self, part: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().clone()).unwrap();
        text.lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
    }
}

fn limits(panics: usize) -> RestartLimits {
    let within = Duration::from_secs(600);
    RestartLimits { panics, within, distrust: within, settled: Duration::from_millis(20) }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(SHORT).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect(what);
}

/// Copies input to output, and panics at a record that says so, for as often as it is to.
struct Fragile {
    panics: AtomicUsize,
}

#[async_trait]
impl Role for Fragile {
    async fn own(&self, owned: Owned) -> Result<(), RoleError> {
        let mut input = owned.take_over().await?;
        let mut reader = input.reader(&*owned.log).await?;
        loop {
            let limit = ReadLimit { records: 1, bytes: 1 << 20 };
            let batch = tokio::select! {
                () = owned.cancelled.cancelled() => return Ok(()),
                batch = reader.next(limit, Duration::from_secs(1)) => batch?,
            };
            let Some(record) = batch.records.last() else { continue };
            let left = self.panics.load(Ordering::SeqCst);
            if text(record) == "panic" && left > 0 {
                self.panics.store(left - 1, Ordering::SeqCst);
                panic!("cannot bear record {}", record.offset);
            }
            let copy = append(&"output".into(), record.partition, &text(record));
            input.commit(vec![copy], record.offset + 1).await?;
        }
    }
}

struct Stage {
    _folder: tempfile::TempDir,
    log: EmbeddedLog,
    supervisor: Supervisor,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<Result<(), almanac_processor::ProcessorError>>,
}

impl Stage {
    async fn start(panics: usize, limits: RestartLimits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(EmbeddedOptions::new(folder.path())).unwrap();
        log.ensure_topics(&[spec("input", 2), spec("output", 2)]).await.unwrap();
        let (supervisor, stop) = (Supervisor::new(limits), CancellationToken::new());
        let options = ProcessorOptions {
            restart_pause: SHORT,
            supervisor: supervisor.clone(),
            ..ProcessorOptions::new("fragile", "input", "one")
        };
        let role = Arc::new(Fragile { panics: AtomicUsize::new(panics) });
        let running = tokio::spawn(run(Arc::new(log.clone()), options, role, stop.clone()));
        Self { _folder: folder, log, supervisor, stop, running }
    }

    async fn send(&self, partition: u32, what: &str) {
        self.log.append(vec![append(&"input".into(), partition, what)]).await.unwrap();
    }

    async fn until_handled(&self, partition: u32, expected: &[&str]) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        while everything(&self.log, "output", partition).await != expected {
            assert!(tokio::time::Instant::now() < deadline, "{expected:?} is not handled");
            tokio::time::sleep(SHORT).await;
        }
    }
}

#[tokio::test]
async fn a_partition_whose_task_panicked_is_said_and_started_over() {
    let (written, _log) = Written::start();
    let limits = RestartLimits { settled: Duration::from_secs(3600), ..limits(3) };
    let stage = Stage::start(2, limits).await;
    for what in ["before", "panic", "after"] {
        stage.send(1, what).await;
    }
    stage.until_handled(1, &["before", "panic", "after"]).await;
    let said = written.lines("a task panicked");
    assert_eq!(said.len(), 2, "{said:#?}");
    for part in ["fragile", "topic=\"input\"", "partition=1", "cannot bear record 1"] {
        assert!(said[0].contains(part), "{part}: {said:#?}");
    }
    // It has not run for long since: nobody should rely on it yet.
    let failing = stage.supervisor.failing();
    assert_eq!(failing.len(), 1);
    assert!(failing[0].panicked);
    let waits_for = stage.supervisor.waits_for().unwrap();
    assert_eq!(waits_for, "fragile of input/1, which panicked");
    stage.stop.cancel();
    stage.running.await.unwrap().unwrap();
    assert!(stage.supervisor.failing().is_empty(), "what was stopped does not fail");
}

#[tokio::test]
async fn too_many_panics_end_the_processor_with_the_reason() {
    let (_written, _log) = Written::start();
    let stage = Stage::start(usize::MAX, limits(3)).await;
    stage.send(0, "fine").await;
    stage.until_handled(0, &["fine"]).await;
    stage.send(1, "panic").await;
    let ended = tokio::time::timeout(Duration::from_secs(60), stage.running).await.unwrap();
    let why = ended.unwrap().unwrap_err().to_string();
    for part in ["fragile of input/1", "cannot bear record 0", "the last of 4 panics"] {
        assert!(why.contains(part), "{part}: {why}");
    }
    assert!(!stage.stop.is_cancelled());
}

#[tokio::test]
async fn errors_are_started_over_for_as_long_as_they_last() {
    let (written, _log) = Written::start();
    let (supervisor, stop) = (Supervisor::new(limits(0)), CancellationToken::new());
    let runs = Arc::new(AtomicUsize::new(0));
    let task = TaskName::new("follower");
    let keeping = tokio::spawn({
        let (supervisor, stop, runs, task) =
            (supervisor.clone(), stop.clone(), runs.clone(), task.clone());
        async move {
            let start = || async {
                match runs.fetch_add(1, Ordering::SeqCst) {
                    0..19 => Err(Ending::again(&Words::from("the server is away"))),
                    // Nobody asked it to end: that is a failure as well.
                    19 => Ok(()),
                    _ => {
                        stop.cancelled().await;
                        Ok(())
                    }
                }
            };
            supervisor.keep(&task, &stop, Duration::from_micros(10), start).await
        }
    });
    until("twenty starts", || runs.load(Ordering::SeqCst) == 21).await;
    assert_eq!(
        supervisor.waits_for(),
        None,
        "an outage is nothing that another process is free of"
    );
    until("that it is mended", || supervisor.failing().is_empty()).await;
    assert_eq!(written.lines("the server is away").len(), 1, "the others are told once a minute");
    let mended = written.lines("run again");
    assert!(mended.len() == 1 && mended[0].contains("failures=20"), "{mended:#?}");
    assert!(!keeping.is_finished());
    stop.cancel();
    keeping.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_cannot_be_started_again_is_told_when_it_ends() {
    let (_written, _log) = Written::start();
    let (supervisor, stop) = (Supervisor::default(), CancellationToken::new());
    let task = TaskName::new("http");
    let died = supervisor.keep_once(&task, &stop, async {}).await.unwrap_err();
    assert_eq!(died.to_string(), "http ended: it ended by itself");
    let unready = supervisor.waits_for();
    assert_eq!(unready.as_deref(), Some("the end of this process, since http ended"));
    let panicking = async { panic!("no more {}", "sockets") };
    let died = supervisor.keep_once(&task, &stop, panicking).await.unwrap_err();
    assert_eq!(died.to_string(), "http panicked: no more sockets");
    let last = || async { Err(Ending::is_final(&Words::from("the topic is gone"))) };
    let died = supervisor.keep(&task, &stop, SHORT, last).await.unwrap_err();
    assert_eq!(died.to_string(), "http ended: the topic is gone");
    stop.cancel();
    supervisor.keep_once(&task, &stop, async {}).await.unwrap();
}

#[test]
fn a_process_is_ready_while_what_it_requires_holds() {
    let supervisor = Supervisor::default();
    let holds = Arc::new(AtomicUsize::new(0));
    let seen = holds.clone();
    supervisor.require("replies", move || seen.load(Ordering::SeqCst) > 0);
    assert_eq!(supervisor.waits_for().as_deref(), Some("replies"));
    holds.store(1, Ordering::SeqCst);
    assert_eq!(supervisor.waits_for(), None);
    holds.store(0, Ordering::SeqCst);
    assert_eq!(supervisor.waits_for().as_deref(), Some("replies"));
}

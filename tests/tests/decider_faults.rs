//! The decider under transactions that fail in every way they can, and as a zombie, with the log's
//! fencing and without it: the tests must be able to tell the two apart.

use almanac_command_api::{CommandApi, CommandApiOptions, DeciderOptions, Replies, Topics};
use almanac_edge::{Identity, identity::IdentityOptions};
use almanac_event_log::{
    Append, EventLog, Headers, InputPosition, Isolation, LogError, LogResult, Offset, ReadLimit,
    Record, StoredRecord, Transactor,
    embedded::{EmbeddedLog, EmbeddedOptions},
    kafka::KafkaLog,
    partitioner::partition_of,
};
use almanac_processor::{Foreign, GatherLimits, ProcessorError, ProcessorOptions, StateFolder};
use almanac_schemas::{
    BuiltInRegistry, Codec,
    commands::{COMMAND, CommandRecord, REPLY, ReplyRecord},
};
use almanac_tests::{
    decider,
    interposed::{Appends, Interposed},
    process::{PATIENCE, client},
    recipe, unique,
};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What happens to one transaction.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// It is refused, and may be tried again.
    Refused,
    /// It did not happen, and nobody knows.
    Lost,
    /// It happened, and nobody knows.
    AnswerLost,
    /// It never answers, and did not happen.
    Hangs,
}

const FAULTS: [Fault; 4] = [Fault::Refused, Fault::Lost, Fault::AnswerLost, Fault::Hangs];

/// Makes a log's transactions fail as they are told, or wait.
#[derive(Clone)]
struct Faulty {
    inner: Arc<dyn EventLog>,
    /// For each of the next transactions, whether and how it fails.
    faults: Arc<Mutex<VecDeque<Option<Fault>>>>,
    /// The next transaction waits until it is let go.
    holds_next: Arc<AtomicBool>,
    is_let_go: watch::Sender<bool>,
    is_fenced: bool,
}

impl Faulty {
    fn new(inner: Arc<dyn EventLog>, is_fenced: bool) -> Self {
        let faults = Arc::default();
        let (holds_next, is_let_go) = (Arc::default(), watch::Sender::new(false));
        Self { inner, faults, holds_next, is_let_go, is_fenced }
    }

    fn log(self) -> Arc<dyn EventLog> {
        let inner = self.inner.clone();
        Arc::new(Interposed::new(inner, move |transactor| {
            let inner = Arc::new(tokio::sync::Mutex::new(transactor));
            Box::new(FaultyTransactor { log: self.clone(), inner })
        }))
    }
}

struct FaultyTransactor {
    log: Faulty,
    inner: Arc<tokio::sync::Mutex<Box<dyn Transactor>>>,
}

#[async_trait]
impl Transactor for FaultyTransactor {
    async fn commit(
        &mut self,
        appends: Vec<Append>,
        input: InputPosition,
    ) -> LogResult<Vec<Option<Offset>>> {
        let fault = self.log.faults.lock().pop_front().flatten();
        let transactional_id = "faulty".to_owned();
        let source = format!("{fault:?}").into();
        match fault {
            None => {}
            Some(Fault::Refused) => {
                return Err(LogError::Unavailable { what: "a test".to_owned(), source });
            }
            Some(Fault::Lost) => return Err(LogError::Ambiguous { transactional_id, source }),
            Some(Fault::AnswerLost) => {
                self.inner.lock().await.commit(appends, input).await?;
                return Err(LogError::Ambiguous { transactional_id, source });
            }
            Some(Fault::Hangs) => {
                tokio::time::sleep(Duration::from_millis(300)).await;
                return Err(LogError::Ambiguous { transactional_id, source });
            }
        }
        // What is on its way to the log stays on its way when the process that sent it is given
        // up: the transaction goes on by itself.
        let (log, inner) = (self.log.clone(), self.inner.clone());
        let is_held = self.log.holds_next.swap(false, Ordering::SeqCst);
        let going = tokio::spawn(async move {
            if is_held {
                let _ = log.is_let_go.subscribe().wait_for(|is_let_go| *is_let_go).await;
            }
            if log.is_fenced || !is_held {
                inner.lock().await.commit(appends, input).await
            } else {
                log.inner.append(appends).await
            }
        });
        going.await.map_err(|_| LogError::Closed)?
    }
}

/// A decider and what it decides from.
struct Running {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), ProcessorError>>,
    _folder: tempfile::TempDir,
}

struct Stage {
    log: Arc<dyn EventLog>,
    codec: Arc<Codec>,
    topics: Topics,
    prefix: String,
}

impl Stage {
    async fn new(log: Arc<dyn EventLog>) -> Self {
        let prefix = format!("{}.", unique('d'));
        let topics = Topics::new(&prefix, 1);
        log.ensure_topics(&topics.specs(Duration::from_secs(86_400))).await.unwrap();
        let codec = Arc::new(Codec::new(Arc::new(BuiltInRegistry)).await.unwrap());
        Self { log, codec, topics, prefix }
    }

    fn start(&self, log: Faulty, instance: &str) -> Running {
        let folder = tempfile::tempdir().unwrap();
        let options = DeciderOptions { batch_commands: 5, ..DeciderOptions::default() };
        let decider = decider(self.topics.clone(), self.codec.clone(), folder.path(), options);
        let stop = CancellationToken::new();
        let options = ProcessorOptions {
            session_timeout: Duration::from_secs(6),
            restart_pause: Duration::from_millis(5),
            ..ProcessorOptions::new(
                &format!("{}decider", self.prefix),
                self.topics.commands(),
                instance,
            )
        };
        let run = almanac_processor::run(log.log(), options, Arc::new(decider), stop.clone());
        Running { stop, task: tokio::spawn(run), _folder: folder }
    }

    /// Sends a write of the recipe with this number.
    async fn send(&self, recipe: u64, verb: &str, name: &str) {
        let now = jiff::Timestamp::now().as_millisecond();
        let aggregate_id = Uuid::from_u128(recipe.into()).to_string();
        let body = serde_json::json!({
            "name": name, "ingredients": [{"ingredient": "salt"}], "steps": [{"text": "Eat."}],
        });
        let command = CommandRecord {
            request_id: Uuid::new_v4().to_string(),
            outcome_id: format!("key of {name}"),
            context: "recipes".to_owned(),
            aggregate_id: aggregate_id.clone(),
            verb: verb.to_owned(),
            caller: "mary".to_owned(),
            is_admin: false,
            issued_at: now,
            deadline: now + 120_000,
            expected: None,
            fingerprint: name.to_owned(),
            body: Some(body.to_string()),
            attachment: None,
        };
        let key: bytes::Bytes = aggregate_id.into();
        let partition = partition_of(&key, 1);
        let value = Some(self.codec.encode(COMMAND, &command).unwrap());
        let record = Record { key, value, headers: Headers::default(), timestamp_ms: now };
        let topic = self.topics.commands().into();
        self.log.append(vec![Append { topic, partition, record }]).await.unwrap();
    }

    async fn records(&self, topic: &str) -> Vec<StoredRecord> {
        let topic = format!("{}{topic}", self.prefix);
        let end = self.log.end(&topic, 0, Isolation::Committed).await.unwrap();
        let mut reader = self.log.read_to(&topic, 0, 0, end).await.unwrap();
        let mut records = Vec::new();
        loop {
            let limit = ReadLimit { records: 1_000, bytes: 4 << 20 };
            let batch = reader.next(limit, Duration::from_secs(1)).await.unwrap();
            let is_over = batch.records.is_empty();
            records.extend(batch.records);
            if is_over {
                return records;
            }
        }
    }

    async fn replies(&self) -> Vec<ReplyRecord> {
        let mut replies = Vec::new();
        for record in self.records("replies").await {
            let decoded = self.codec.decode(record.record.value.as_ref().unwrap()).await.unwrap();
            assert_eq!(decoded.record(), REPLY);
            replies.push(decoded.read().unwrap());
        }
        replies
    }

    async fn until_replies(&self, wanted: usize) -> Vec<ReplyRecord> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let replies = self.replies().await;
            if replies.len() >= wanted {
                return replies;
            }
            assert!(tokio::time::Instant::now() < deadline, "{} of {wanted}", replies.len());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Sequence numbers of the events, by recipe, in the order of the log.
    async fn sequences(&self) -> BTreeMap<Vec<u8>, Vec<u64>> {
        let mut found: BTreeMap<Vec<u8>, Vec<u64>> = BTreeMap::new();
        for record in self.records("recipes.events").await {
            let sequence = record.record.headers.get_str("ce_sequence").unwrap().parse().unwrap();
            found.entry(record.record.key.to_vec()).or_default().push(sequence);
        }
        found
    }
}

impl Running {
    async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap();
    }
}

fn embedded(folder: &tempfile::TempDir) -> Arc<dyn EventLog> {
    Arc::new(EmbeddedLog::open(EmbeddedOptions::new(folder.path())).unwrap())
}

fn cluster() -> Arc<dyn EventLog> {
    Arc::new(KafkaLog::connect(almanac_tests::kafka()).unwrap())
}

/// Every command is sent twice under its key; transactions fail in all ways meanwhile.
async fn all_faults(log: Arc<dyn EventLog>) {
    const RECIPES: u64 = 3;
    const WRITES: u64 = 60;
    let stage = Stage::new(log.clone()).await;
    let faulty = Faulty::new(log, true);
    for number in 0..24 {
        let fault = (number % 2 == 1).then(|| FAULTS[number / 2 % FAULTS.len()]);
        faulty.faults.lock().push_back(fault);
    }
    let running = stage.start(faulty.clone(), "one");
    for number in 0..WRITES {
        let verb = if number < RECIPES { "create" } else { "replace" };
        for _ in 0..2 {
            stage.send(number % RECIPES, verb, &format!("write {number}")).await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let replies = stage.until_replies(2 * WRITES as usize).await;
    assert_eq!(replies.len(), 2 * WRITES as usize, "each command is answered once");
    assert!(faulty.faults.lock().is_empty(), "all faults were met");
    let mut by_key: BTreeMap<&str, Vec<&ReplyRecord>> = BTreeMap::new();
    for reply in &replies {
        by_key.entry(&reply.outcome_id).or_default().push(reply);
    }
    for (key, replies) in by_key {
        let [first, again] = replies.as_slice() else { panic!("{key}: {replies:?}") };
        assert!(!first.replayed && again.replayed, "{key}");
        assert!(matches!(first.status, 200 | 201), "{key}: {first:?}");
        assert_eq!((first.status, first.version), (again.status, again.version), "{key}");
        assert_eq!(first.body, again.body, "{key}");
    }
    for (recipe, sequences) in stage.sequences().await {
        let expected: Vec<u64> = (1..=WRITES / RECIPES).collect();
        assert_eq!(sequences, expected, "{}", String::from_utf8_lossy(&recipe));
    }
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_transaction_leaves_one_outcome() {
    let folder = tempfile::tempdir().unwrap();
    all_faults(embedded(&folder)).await;
    all_faults(cluster()).await;
}

/// A decider decides a command and is given up before its transaction reaches the log; another
/// takes over and decides the command as well; then the first one's transaction arrives. Returns
/// how often the command had its event.
async fn zombie(log: Arc<dyn EventLog>, is_fenced: bool) -> usize {
    let stage = Stage::new(log.clone()).await;
    let first = Faulty::new(log.clone(), is_fenced);
    let zombie = stage.start(first.clone(), "one");
    stage.send(1, "create", "before").await;
    stage.until_replies(1).await;
    first.holds_next.store(true, Ordering::SeqCst);
    stage.send(1, "replace", "decided twice").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let successor = stage.start(Faulty::new(log, true), "two");
    stage.until_replies(2).await;
    first.is_let_go.send_replace(true);
    tokio::time::sleep(Duration::from_secs(2)).await;
    stage.send(1, "replace", "after").await;
    stage.until_replies(3).await;
    successor.end().await;
    zombie.end().await;
    let sequences = stage.sequences().await;
    let twos = sequences.values().flatten().filter(|sequence| **sequence == 2);
    twos.count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zombies_transaction_is_fenced_and_would_show_if_it_were_not() {
    let folder = tempfile::tempdir().unwrap();
    let log = embedded(&folder);
    assert_eq!(zombie(log.clone(), true).await, 1, "embedded");
    assert_eq!(zombie(log, false).await, 2, "embedded, the fencing taken away");
    assert_eq!(zombie(cluster(), true).await, 1, "kafka");
    assert_eq!(zombie(cluster(), false).await, 2, "kafka, the fencing taken away");
}

/// What becomes of the next append of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Appending {
    /// It is written, and nobody knows.
    AnswerLost,
    /// It is not written, and nobody knows.
    Lost,
    Refused,
    /// It is written once it is let go.
    Hangs,
}

/// A command that may have been written is answered with its address, where its outcome is told:
/// "try again" would make another recipe.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_may_be_written_is_answered_with_its_address() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(embedded(&folder)).await;
    let running = stage.start(Faulty::new(stage.log.clone(), true), "one");
    let appending = Arc::new(Mutex::new(Appending::Refused));
    let let_go = watch::Sender::new(false);
    let (next, is_let_go) = (appending.clone(), let_go.subscribe());
    let appends: Appends = Box::new(move |log, appends| {
        let (now, mut is_let_go) = (*next.lock(), is_let_go.clone());
        Box::pin(async move {
            let (what, source) = ("a record".to_owned(), format!("{now:?}").into());
            match now {
                Appending::Refused => return Err(LogError::Unavailable { what, source }),
                Appending::Lost => return Err(LogError::Unknown { what, source }),
                Appending::AnswerLost => {
                    log.append(appends).await?;
                    return Err(LogError::Unknown { what, source });
                }
                Appending::Hangs => {
                    let _ = is_let_go.wait_for(|is_let_go| *is_let_go).await;
                }
            }
            log.append(appends).await
        })
    });
    let log = Arc::new(Interposed::new(stage.log.clone(), |inner| inner).with_appends(appends));
    let identity = IdentityOptions { local_user: true, ..IdentityOptions::default() };
    let replies = Replies::new(100, GatherLimits::default());
    let api = CommandApi::new(
        log,
        stage.codec.clone(),
        stage.topics.clone(),
        replies.clone(),
        Arc::new(Identity::new(identity).unwrap()),
        CommandApiOptions::default(),
    );
    let router = almanac_command_api::routes(api.await.unwrap()).into_router();
    let state = StateFolder::open(&folder.path().join("replies")).unwrap();
    let follower = almanac_command_api::Follower {
        replies: replies.clone(),
        log: stage.log.clone(),
        codec: stage.codec.clone(),
        topics: stage.topics.clone(),
        folder: state,
        foreign: Foreign::default(),
    };
    let following = tokio::spawn(async move { follower.follow().await });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !replies.is_ready() {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    let post = async |how: Appending, name: &str| {
        *appending.lock() = how;
        let request = client().post(format!("{base}/v1/recipes"));
        let body = recipe(name, "SALT");
        let request = request.header("content-type", "application/json").body(body);
        request.header("prefer", "wait=1").send().await.unwrap()
    };
    let outcome = async |location: &str| -> serde_json::Value {
        let answer = client().get(format!("{base}{location}")).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    };
    let decided = async |location: &str| loop {
        let outcome = outcome(location).await;
        if outcome["state"] == "decided" {
            return outcome["outcome"]["status"].clone();
        }
        assert!(tokio::time::Instant::now() < deadline, "{outcome}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let address = |answer: &reqwest::Response| {
        let location = answer.headers()["location"].to_str().unwrap();
        assert!(location.starts_with("/v1/commands/"), "{location}");
        location.to_owned()
    };

    let refused = post(Appending::Refused, "Refused").await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "1");
    let lost = post(Appending::Lost, "Lost").await;
    assert_eq!(lost.status(), 202);
    assert_eq!(outcome(&address(&lost)).await["state"], "pending");
    // The answer to its command may come in time all the same.
    let answer_lost = post(Appending::AnswerLost, "Written").await;
    assert!([201, 202].contains(&answer_lost.status().as_u16()), "{}", answer_lost.status());
    if answer_lost.status() == 202 {
        assert_eq!(decided(&address(&answer_lost)).await, 201);
    }
    let hanging = post(Appending::Hangs, "Late").await;
    assert_eq!(hanging.status(), 202, "the wait bounds all waiting");
    assert_eq!(outcome(&address(&hanging)).await["state"], "pending");
    let_go.send(true).unwrap();
    assert_eq!(decided(&address(&hanging)).await, 201);
    assert_eq!(stage.records("recipes.events").await.len(), 2);

    serving.abort();
    following.abort();
    running.end().await;
}

//! What others do to Almanac's topics and groups: records with keys that are none of ours, and offsets
//! that another client commits in a decider's group.

use almanac_command_api::{DeciderOptions, Topics};
use almanac_event_log::{
    Append, EventLog, Headers, Isolation, ReadLimit, Record, StoredRecord,
    embedded::{EmbeddedLog, EmbeddedOptions},
    kafka::KafkaLog,
};
use almanac_processor::{Foreign, ProcessorError, ProcessorOptions};
use almanac_schemas::{
    BuiltInRegistry, Codec,
    commands::{COMMAND, CommandRecord, ReplyRecord},
};
use almanac_tests::{
    decider,
    logged::Logged,
    process::{Engine, Installation, PATIENCE},
    recipe, unique,
};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    consumer::{BaseConsumer, CommitMode, Consumer},
    producer::{BaseProducer, BaseRecord, Producer},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A decider of one partition, with the local state that it keeps.
struct Stage {
    log: Arc<dyn EventLog>,
    codec: Arc<Codec>,
    topics: Topics,
    prefix: String,
    foreign: Foreign,
}

struct Running {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), ProcessorError>>,
}

impl Running {
    async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap();
    }
}

fn command(recipe_id: u64, verb: &str, name: &str) -> CommandRecord {
    let now = jiff::Timestamp::now().as_millisecond();
    // Without a key of its own, which would keep it from being decided twice.
    let request_id = Uuid::now_v7().to_string();
    CommandRecord {
        outcome_id: request_id.clone(),
        request_id,
        context: "recipes".to_owned(),
        aggregate_id: Uuid::from_u128(recipe_id.into()).to_string(),
        verb: verb.to_owned(),
        caller: "mary".to_owned(),
        is_admin: false,
        issued_at: now,
        deadline: now + 120_000,
        expected: None,
        fingerprint: name.to_owned(),
        body: Some(recipe(name, "salt")),
        attachment: None,
    }
}

impl Stage {
    async fn new(log: Arc<dyn EventLog>) -> Self {
        let prefix = format!("{}.", unique('s'));
        let topics = Topics::new(&prefix, 1);
        log.ensure_topics(&topics.specs(Duration::from_secs(86_400))).await.unwrap();
        let codec = Arc::new(Codec::new(Arc::new(BuiltInRegistry)).await.unwrap());
        Self { log, codec, topics, prefix, foreign: Foreign::default() }
    }

    fn group(&self) -> String {
        format!("{}decider", self.prefix)
    }

    fn start(&self, state: &tempfile::TempDir) -> Running {
        let options = DeciderOptions::default();
        let decider = decider(self.topics.clone(), self.codec.clone(), state.path(), options);
        let stop = CancellationToken::new();
        let options = ProcessorOptions {
            session_timeout: Duration::from_secs(6),
            foreign: self.foreign.clone(),
            ..ProcessorOptions::new(&self.group(), self.topics.commands(), "one")
        };
        let run =
            almanac_processor::run(self.log.clone(), options, Arc::new(decider), stop.clone());
        Running { stop, task: tokio::spawn(run) }
    }

    async fn put(&self, topic: &str, key: impl Into<bytes::Bytes>, value: Option<bytes::Bytes>) {
        let topic = format!("{}{topic}", self.prefix).into();
        let record =
            Record { key: key.into(), value, headers: Headers::default(), timestamp_ms: 0 };
        self.log.append(vec![Append { topic, partition: 0, record }]).await.unwrap();
    }

    async fn send(&self, command: &CommandRecord) {
        let value = self.codec.encode(COMMAND, command).unwrap();
        self.put("commands", command.aggregate_id.clone(), Some(value)).await;
    }

    async fn records(&self, topic: &str) -> Vec<StoredRecord> {
        let topic = format!("{}{topic}", self.prefix);
        let end = self.log.end(&topic, 0, Isolation::Committed).await.unwrap();
        let mut reader = self.log.read_to(&topic, 0, 0, end).await.unwrap();
        let mut records = Vec::new();
        loop {
            let limit = ReadLimit { records: 1_000, bytes: 4 << 20 };
            let batch = reader.next(limit, Duration::from_secs(1)).await.unwrap();
            let is_over = !batch.at_end.is_empty();
            records.extend(batch.records);
            if is_over {
                return records;
            }
        }
    }

    /// The replies to these commands, once each has one.
    async fn answered(&self, commands: &[CommandRecord]) -> Vec<ReplyRecord> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let mut replies: Vec<ReplyRecord> = Vec::new();
            for record in self.records("replies").await {
                let Some(value) = &record.record.value else { continue };
                let Ok(decoded) = self.codec.decode(value).await else { continue };
                replies.push(decoded.read().unwrap());
            }
            let is_answered = |command: &CommandRecord| {
                replies.iter().any(|reply| reply.request_id == command.request_id)
            };
            if commands.iter().all(is_answered) {
                return replies;
            }
            assert!(tokio::time::Instant::now() < deadline, "not answered: {replies:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Sequence numbers of the events, by recipe, in the order of the log.
    async fn sequences(&self) -> BTreeMap<Vec<u8>, Vec<u64>> {
        let mut found: BTreeMap<Vec<u8>, Vec<u64>> = BTreeMap::new();
        for record in self.records("recipes.events").await {
            let Some(sequence) = record.record.headers.get_str("ce_sequence") else { continue };
            let sequences = found.entry(record.record.key.to_vec()).or_default();
            sequences.push(sequence.parse().unwrap());
        }
        found
    }
}

async fn contexts_apart(log: Arc<dyn EventLog>) {
    let stage = Stage::new(log).await;
    let schedule = |verb: &str, body: &str| CommandRecord {
        context: "schedules".to_owned(),
        body: Some(body.to_owned()),
        ..command(1, verb, "")
    };
    let body = r#"{"name": "Lift", "location": {"lat": 61, "lon": 4},
        "tasks": [{"id": "a", "duration": "PT1H"}]}"#;
    let commands = [
        command(1, "create", "salt"),
        // Another aggregate, with the same id.
        schedule("create", body),
        CommandRecord { context: "orders".to_owned(), ..command(1, "create", "salt") },
        schedule("start", r#"{"task": "a", "at": null}"#),
    ];
    let state = tempfile::tempdir().unwrap();
    let running = stage.start(&state);
    for one in &commands[..3] {
        stage.send(one).await;
    }
    stage.answered(&commands[..3]).await;
    running.end().await;
    let running = stage.start(&state);
    stage.send(&commands[3]).await;
    let replies = stage.answered(&commands).await;
    let outcomes = commands.iter().map(|command| {
        let reply = replies.iter().find(|reply| reply.request_id == command.request_id).unwrap();
        (reply.status, reply.version, reply.events_through)
    });
    assert_eq!(
        outcomes.collect::<Vec<_>>(),
        [
            (201, Some(1), Some(0)),
            (201, Some(1), Some(1)),
            (400, None, None),
            (200, Some(2), Some(3))
        ]
    );
    let last = replies.last().unwrap().through.clone().unwrap();
    let through = [("recipes", 0), ("schedules", 3)].map(|(name, at)| (name.to_owned(), at));
    assert_eq!(last, through.into());
    running.end().await;

    // Who takes over without any local state knows both contexts from the log.
    let state = tempfile::tempdir().unwrap();
    let running = stage.start(&state);
    let more = [command(1, "replace", "pepper"), schedule("delete", "")];
    for one in &more {
        stage.send(one).await;
    }
    let replies = stage.answered(&more).await;
    let version = |command: &CommandRecord| {
        let reply = replies.iter().find(|reply| reply.request_id == command.request_id);
        reply.and_then(|reply| reply.version)
    };
    assert_eq!((version(&more[0]), version(&more[1])), (Some(2), Some(3)));
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_context_decides_its_own_commands() {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(EmbeddedOptions::new(folder.path())).unwrap();
    contexts_apart(Arc::new(log)).await;
    contexts_apart(Arc::new(KafkaLog::connect(almanac_tests::kafka()).unwrap())).await;
}

/// A producer of somebody else: a record without any key.
fn send_without_key(topic: &str) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", almanac_tests::address("ALMANAC_TEST_KAFKA"))
        .create()
        .unwrap();
    producer.send(BaseRecord::<(), str>::to(topic).partition(0).payload("hello")).unwrap();
    producer.flush(PATIENCE).unwrap();
}

async fn foreign_keys(log: Arc<dyn EventLog>, is_kafka: bool) {
    let (logged, _log) = Logged::start();
    let stage = Stage::new(log).await;
    let topics = ["recipes.events", "replies", "commands"];
    let keys: [Vec<u8>; 3] = [Vec::new(), b"hello".to_vec(), vec![b'k'; 70_000]];
    for topic in topics {
        for key in &keys {
            stage.put(topic, key.clone(), Some("hello".into())).await;
        }
        stage.put(topic, "tombstone", None).await;
        if is_kafka {
            send_without_key(&format!("{}{topic}", stage.prefix));
        }
    }
    // Well-formed, and of a recipe that is another partition's, or of none.
    let elsewhere = stage.codec.encode(COMMAND, &command(7, "create", "elsewhere")).unwrap();
    stage.put("commands", Uuid::from_u128(8).to_string(), Some(elsewhere)).await;
    let nowhere = CommandRecord { aggregate_id: String::new(), ..command(7, "create", "nowhere") };
    let nowhere = stage.codec.encode(COMMAND, &nowhere).unwrap();
    stage.put("commands", "", Some(nowhere)).await;

    let state = tempfile::tempdir().unwrap();
    let running = stage.start(&state);
    let first = command(1, "create", "first");
    stage.send(&first).await;
    let replies = stage.answered(std::slice::from_ref(&first)).await;
    assert_eq!((replies.len(), replies[0].status), (1, 201));
    running.end().await;

    // Without local state everything is read again, and counted once.
    let state = tempfile::tempdir().unwrap();
    let running = stage.start(&state);
    let second = command(1, "replace", "second");
    stage.send(&second).await;
    let replies = stage.answered(std::slice::from_ref(&second)).await;
    assert_eq!((replies.len(), replies[1].version), (2, Some(2)));
    running.end().await;
    let each = keys.len() as u64 + 1 + u64::from(is_kafka);
    for (topic, expected) in [("recipes.events", each), ("replies", each), ("commands", each + 2)] {
        let topic = format!("{}{topic}", stage.prefix);
        assert_eq!(stage.foreign.count(&stage.group(), &topic, 0), expected, "{topic}");
        let said = logged.lines(&["none that Almanac writes", &format!("topic={topic} ")]);
        assert_eq!(said.len(), 1, "{said:#?}");
        assert!(said[0].contains("partition=0 offset=0"), "{said:#?}");
        assert!(said[0].len() < 600, "{said:#?}");
    }
}

#[tokio::test]
async fn keys_that_are_none_of_ours_stop_no_decider() {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(EmbeddedOptions::new(folder.path())).unwrap();
    foreign_keys(Arc::new(log), false).await;
    foreign_keys(Arc::new(KafkaLog::connect(almanac_tests::kafka()).unwrap()), true).await;
}

/// A console consumer in the decider's group: it commits this offset. While the group still counts its
/// own member, the broker refuses.
async fn commit_as_stranger(group: String, topic: String, offset: u64) {
    tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", almanac_tests::address("ALMANAC_TEST_KAFKA"))
            .set("group.id", group)
            .create()
            .unwrap();
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(&topic, 0, Offset::Offset(offset as i64)).unwrap();
        let deadline = std::time::Instant::now() + PATIENCE;
        while let Err(error) = consumer.commit(&offsets, CommitMode::Sync) {
            assert!(std::time::Instant::now() < deadline, "{error}");
            std::thread::sleep(Duration::from_millis(200));
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn offsets_that_a_stranger_commits_lose_no_command_and_decide_none_twice() {
    let (logged, _log) = Logged::start();
    let log = Arc::new(KafkaLog::connect(almanac_tests::kafka()).unwrap());
    let stage = Stage::new(log.clone()).await;
    let state = tempfile::tempdir().unwrap();
    let running = stage.start(&state);
    let mut commands = vec![command(1, "create", "one")];
    commands.extend((2..5).map(|number| command(1, "replace", &format!("write {number}"))));
    for command in &commands {
        stage.send(command).await;
    }
    stage.answered(&commands).await;
    running.end().await;
    assert!(logged.lines(&["ERROR"]).is_empty());

    // Behind commands that nobody decided; once with the local state there is, once without any.
    for state in [state, tempfile::tempdir().unwrap()] {
        let waiting = commands.len() as u64;
        for number in [1, 2] {
            commands.push(command(1, "replace", &format!("waiting {waiting}.{number}")));
            stage.send(&commands[commands.len() - 1]).await;
        }
        let end = log.end(stage.topics.commands(), 0, Isolation::Committed).await.unwrap();
        commit_as_stranger(stage.group(), stage.topics.commands().to_owned(), end).await;
        let before = logged.lines(&["ERROR"]).len();
        let running = stage.start(&state);
        stage.answered(&commands).await;
        running.end().await;
        let said = logged.lines(&["ERROR"]).split_off(before);
        assert_eq!(said.len(), 1, "{said:#?}");
        let (group, topic) = (stage.group(), stage.topics.commands());
        for part in [
            format!("group={group}"),
            format!("topic={topic}"),
            "partition=0".to_owned(),
            format!("committed={end}"),
            format!("written={waiting}"),
            format!("going_on_from={waiting}"),
        ] {
            assert!(said[0].contains(&part), "{part}: {said:#?}");
        }
    }

    // Back to the start: nothing is decided twice, with the local state or without.
    for state in [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()] {
        commit_as_stranger(stage.group(), stage.topics.commands().to_owned(), 0).await;
        let running = stage.start(&state);
        let name = format!("after {}", commands.len());
        commands.push(command(1, "replace", &name));
        stage.send(&commands[commands.len() - 1]).await;
        stage.answered(&commands).await;
        running.end().await;
    }
    let replies = stage.answered(&commands).await;
    assert_eq!(replies.len(), commands.len(), "each command has one reply");
    let sequences = stage.sequences().await;
    let expected: Vec<u64> = (1..=commands.len() as u64).collect();
    assert_eq!(sequences.into_values().collect::<Vec<_>>(), [expected]);
}

/// Whoever runs when a topic is deleted and made again ends and says so: what it keeps of the old one
/// means nothing. The next start takes the new one for what it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_ends_when_a_topic_is_made_again() {
    let installation = Installation::new(Engine::Cluster);
    let mut process = installation.up().await;
    let made = process.send("POST", "/v1/recipes", &[], recipe("Soup", "SALT")).await.unwrap();
    assert_eq!(made.status, 201, "{}", made.body);
    let topic = installation.topic("commands");
    let options = almanac_tests::kafka();
    let admin: AdminClient<_> = ClientConfig::new()
        .set("bootstrap.servers", options.bootstrap_servers.expose())
        .create()
        .unwrap();
    admin.delete_topics(&[&topic], &AdminOptions::new()).await.unwrap();
    let again = NewTopic::new(&topic, 4, TopicReplication::Fixed(1));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    // The old one is gone only some time after it was deleted.
    while admin.create_topics([&again], &AdminOptions::new()).await.unwrap()[0].is_err() {
        assert!(tokio::time::Instant::now() < deadline, "it cannot be made again");
    }
    while !process.has_ended() {
        assert!(tokio::time::Instant::now() < deadline, "it goes on: {}", process.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let log = process.log();
    let last = log.lines().last().unwrap_or_default();
    assert!(last.starts_with("almanac: ") && last.contains("deleted and made again"), "{log}");
    assert!(last.contains(&topic), "{last}");
}

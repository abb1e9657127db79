//! Kafka's own failures, one at a time: what design rules protect against, and that they do.

use almanac_errors::chain;
use almanac_event_log::{
    Append, EventLog, GroupMember, GroupOptions, Isolation, LogError, Ownership, ReadLimit, Retry,
    conformance::{append, assigned, everything, group_options, position, spec, topic, unique},
    kafka::{KafkaLog, KafkaOptions},
};
use almanac_processor::{Owned, ProcessorOptions, Role, RoleError};
use almanac_tests::{logged::Logged, process::PATIENCE};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    consumer::{BaseConsumer, Consumer},
    mocking::MockCluster,
    producer::{BaseProducer, BaseRecord, Producer},
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

fn log(options: KafkaOptions) -> Arc<dyn EventLog> {
    Arc::new(KafkaLog::connect(options).unwrap())
}

/// librdkafka accepts a transaction without offsets from a member that the group has forgotten:
/// it fences nothing. That is why the port's `commit` cannot be called without a position.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_without_a_position_fences_nothing() {
    let options = almanac_tests::kafka();
    let log = log(options.clone());
    let output = topic(&*log, "output", 1).await;
    let input = topic(&*log, "input", 1).await;
    let name = output.to_string();
    tokio::task::spawn_blocking(move || {
        // A consumer that never joined any group has no generation to be checked.
        let outsider: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", options.bootstrap_servers.expose())
            .set("group.id", unique("outsider"))
            .create()
            .unwrap();
        let metadata = outsider.group_metadata().unwrap();
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", options.bootstrap_servers.expose())
            .set("transactional.id", unique("careless"))
            .create()
            .unwrap();
        producer.init_transactions(Duration::from_secs(10)).unwrap();
        producer.begin_transaction().unwrap();
        producer.send(BaseRecord::<(), [u8]>::to(&name).payload(b"let through")).unwrap();
        producer
            .send_offsets_to_transaction(
                &TopicPartitionList::new(),
                &metadata,
                Duration::from_secs(10),
            )
            .expect("no offsets, no check");
        producer.commit_transaction(Duration::from_secs(10)).unwrap();
    })
    .await
    .unwrap();
    assert_eq!(everything(&*log, &output, 0).await, ["let through"]);
    assert_eq!(log.end(&input, 0, Isolation::Committed).await.unwrap(), 0);
}

/// A dead owner left a transaction open. The next owner's initialisation ends it at once, so the
/// take-over reads to the high watermark without waiting for its time-out.
#[tokio::test(flavor = "multi_thread")]
async fn take_over_passes_an_open_transaction() {
    let options = almanac_tests::kafka();
    let log = log(options.clone());
    let input = topic(&*log, "input", 1).await;
    let output = topic(&*log, "output", 1).await;
    let id = unique("tx");
    log.append(vec![append(&output, 0, "fact")]).await.unwrap();
    let (name, transactional_id) = (output.to_string(), id.clone());
    let dead = tokio::task::spawn_blocking(move || {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", options.bootstrap_servers.expose())
            .set("transactional.id", &transactional_id)
            .set("transaction.timeout.ms", "60000")
            .create()
            .unwrap();
        producer.init_transactions(Duration::from_secs(10)).unwrap();
        producer.begin_transaction().unwrap();
        producer.send(BaseRecord::<(), [u8]>::to(&name).payload(b"never committed")).unwrap();
        while producer.in_flight_count() > 0 {
            producer.poll(Duration::from_millis(10));
        }
        producer
    })
    .await
    .unwrap();
    let high = log.end(&output, 0, Isolation::Uncommitted).await.unwrap();
    let stable = log.end(&output, 0, Isolation::Committed).await.unwrap();
    assert_eq!((high, stable), (2, 1), "the open transaction pins readers");

    let mut member = log.join(group_options(&unique("group"), &input, "one")).await.unwrap();
    let owned = assigned(&mut *member).await.remove(0);
    let started = std::time::Instant::now();
    let mut transactor = log.transactor(&id, &owned).await.unwrap();
    assert_eq!(everything(&*log, &output, 0).await, ["fact"]);
    assert!(started.elapsed() < Duration::from_secs(20), "long before the time-out of 60 s");
    transactor.commit(vec![append(&output, 0, "next")], position(&input, 0, 0)).await.unwrap();
    assert_eq!(everything(&*log, &output, 0).await, ["fact", "next"]);
    drop(dead);
    member.leave().await.unwrap();
}

/// A mock cluster with a transactor on it, to break.
struct Broken {
    cluster: MockCluster<'static, rdkafka::producer::DefaultProducerContext>,
    log: Arc<dyn EventLog>,
    owned: Ownership,
    input: Arc<str>,
    output: Arc<str>,
    _member: Box<dyn GroupMember>,
}

impl Broken {
    async fn new() -> Self {
        let cluster = MockCluster::new(1).unwrap();
        let options = KafkaOptions {
            call_timeout: Duration::from_secs(3),
            watchdog: Duration::from_secs(5),
            ..KafkaOptions::new(cluster.bootstrap_servers())
        };
        for name in ["input", "output"] {
            cluster.create_topic(name, 1, 1).unwrap();
        }
        let log = log(options);
        let options = almanac_event_log::GroupOptions {
            session_timeout: Duration::from_secs(10),
            ..group_options("group", "input", "one")
        };
        let mut member = log.join(options).await.unwrap();
        let owned = assigned(&mut *member).await.remove(0);
        let (input, output) = ("input".into(), "output".into());
        Self { cluster, log, owned, input, output, _member: member }
    }

    /// Brokers that were slow are as quick as before, on new connections: what they still have to
    /// answer on the old ones is lost.
    fn answers_again(&self) {
        self.cluster.broker_round_trip_time(1, Duration::ZERO).unwrap();
        self.cluster.broker_down(1).unwrap();
        self.cluster.broker_up(1).unwrap();
    }

    fn appends(&self, text: &str) -> Vec<Append> {
        vec![append(&self.output, 0, text)]
    }
}

/// Errors at each call of a transaction. What can be retried inside is; after the others the
/// caller knows whether nothing was written or nothing is known, and a fresh transactor works.
#[tokio::test(flavor = "multi_thread")]
async fn every_transactional_call_may_fail() {
    use RDKafkaApiKey::{
        AddOffsetsToTxn, AddPartitionsToTxn, EndTxn, InitProducerId, Produce, TxnOffsetCommit,
    };
    use RDKafkaRespErr as Error;
    let cases: [(RDKafkaApiKey, RDKafkaRespErr, Option<Retry>); 14] = [
        (AddPartitionsToTxn, Error::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS, None),
        (
            AddPartitionsToTxn,
            Error::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
            Some(Retry::Later),
        ),
        (Produce, Error::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, None),
        (AddOffsetsToTxn, Error::RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS, None),
        (TxnOffsetCommit, Error::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION, Some(Retry::StartOver)),
        (TxnOffsetCommit, Error::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID, Some(Retry::StartOver)),
        (EndTxn, Error::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE, None),
        (EndTxn, Error::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, Some(Retry::StartOver)),
        (InitProducerId, Error::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS, None),
        // What brokers answer to a transactional id that was silent for longer than they remember it.
        (AddOffsetsToTxn, Error::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING, Some(Retry::Later)),
        (
            AddPartitionsToTxn,
            Error::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING,
            Some(Retry::Later),
        ),
        (
            AddOffsetsToTxn,
            Error::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            Some(Retry::StartOver),
        ),
        (TxnOffsetCommit, Error::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, Some(Retry::Later)),
        (Produce, Error::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, Some(Retry::Later)),
    ];
    let broken = Broken::new().await;
    for (number, (call, error, expected)) in cases.into_iter().enumerate() {
        broken.cluster.clear_request_errors(call);
        let id = format!("tx-{number}");
        if matches!(call, InitProducerId) {
            broken.cluster.request_errors(call, &[error, error]);
        }
        let mut transactor = broken.log.transactor(&id, &broken.owned).await.unwrap();
        broken.cluster.request_errors(call, &[error]);
        let result = transactor.commit(broken.appends("a"), position(&broken.input, 0, 1)).await;
        let found = result.as_ref().err().map(LogError::retry);
        assert_eq!(found, expected, "{call:?} {error:?}: {result:?}");
        broken.cluster.clear_request_errors(call);
        if found == Some(Retry::StartOver) {
            let again = transactor.commit(broken.appends("b"), position(&broken.input, 0, 1)).await;
            assert!(again.is_err(), "a transactor in doubt is not used again");
        } else {
            // Nothing was written, and the same call may succeed later.
            let input = || position(&broken.input, 0, 1);
            let mut last = transactor.commit(broken.appends("b"), input()).await;
            for _ in 0..10 {
                if last.is_ok() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
                last = transactor.commit(broken.appends("b"), input()).await;
            }
            assert!(last.is_ok(), "after {call:?} {error:?}: {last:?}");
        }
        let mut fresh = broken.log.transactor(&id, &broken.owned).await.unwrap();
        fresh
            .commit(broken.appends("c"), position(&broken.input, 0, 2))
            .await
            .unwrap_or_else(|failure| panic!("after {call:?} {error:?}: {failure}"));
    }
}

/// Answers that never come: the watchdog gives up, says that the outcome is unknown, and a fresh
/// transactor with the same id works once the brokers are back.
#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_call_is_abandoned() {
    let broken = Broken::new().await;
    let mut transactor = broken.log.transactor("tx", &broken.owned).await.unwrap();
    transactor.commit(broken.appends("a"), position(&broken.input, 0, 1)).await.unwrap();
    broken.cluster.broker_round_trip_time(1, Duration::from_secs(3_600)).unwrap();
    let error =
        transactor.commit(broken.appends("b"), position(&broken.input, 0, 2)).await.unwrap_err();
    assert_eq!(error.retry(), Retry::StartOver, "{error}");
    let again = transactor.commit(broken.appends("c"), position(&broken.input, 0, 2)).await;
    assert!(matches!(again, Err(LogError::Ambiguous { .. })), "{again:?}");

    broken.answers_again();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut fresh = loop {
        match broken.log.transactor("tx", &broken.owned).await {
            Ok(fresh) => break fresh,
            Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error}"),
        }
    };
    fresh.commit(broken.appends("d"), position(&broken.input, 0, 2)).await.unwrap();
    assert_eq!(everything(&*broken.log, &broken.output, 0).await, ["a", "d"]);
}

/// More appends than librdkafka has under way at once, to brokers that take a while: each caller's
/// records stand in its order, everywhere once, and where the caller was told.
#[tokio::test(flavor = "multi_thread")]
async fn appends_that_wait_for_each_other_keep_their_order() {
    const CALLERS: usize = 40;
    let broken = Broken::new().await;
    broken.cluster.broker_round_trip_time(1, Duration::from_millis(5)).unwrap();
    let callers = (0..CALLERS).map(|caller| {
        let (log, output) = (broken.log.clone(), broken.output.clone());
        tokio::spawn(async move {
            let mut told = Vec::new();
            for round in 0..5 {
                // One alone, and more in one call than go at once.
                for count in [1, 59] {
                    let texts: Vec<String> =
                        (0..count).map(|part| format!("{caller}.{round}.{count}.{part}")).collect();
                    let appends = texts.iter().map(|text| append(&output, 0, text)).collect();
                    let offsets = log.append(appends).await.unwrap();
                    told.extend(offsets.into_iter().map(Option::unwrap).zip(texts));
                }
            }
            told
        })
    });
    let mut all = Vec::new();
    for caller in futures::future::join_all(callers).await {
        let told = caller.unwrap();
        let swapped = told.windows(2).find(|pair| pair[0] >= pair[1]);
        assert_eq!(swapped, None, "a caller's records stand in its order");
        all.extend(told);
    }
    all.sort();
    let told: Vec<String> = all.into_iter().map(|(_, text)| text).collect();
    assert_eq!(told.len(), CALLERS * 5 * 60);
    assert_eq!(everything(&*broken.log, &broken.output, 0).await, told);
}

/// A refusal that librdkafka takes for final ends one of its clients, and no more than that.
#[tokio::test(flavor = "multi_thread")]
async fn appends_go_on_after_a_fatal_error() {
    let broken = Broken::new().await;
    let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
    broken.cluster.request_errors(RDKafkaApiKey::InitProducerId, &[refused; 8]);
    let log = log(KafkaOptions {
        call_timeout: Duration::from_secs(3),
        ..KafkaOptions::new(broken.cluster.bootstrap_servers())
    });
    let append = || log.append(broken.appends("fact"));
    let error = append().await.unwrap_err();
    assert_eq!(error.retry(), Retry::Later, "{error}");
    broken.cluster.clear_request_errors(RDKafkaApiKey::InitProducerId);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while let Err(error) = append().await {
        assert!(tokio::time::Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(everything(&*log, &broken.output, 0).await, ["fact"]);
}

/// Brokers that do not answer: what waits behind others is given up in the same time as they are,
/// and is not written later. Of what was sent nobody can say that.
#[tokio::test(flavor = "multi_thread")]
async fn appends_that_wait_are_given_up_in_time() {
    let broken = Broken::new().await;
    broken.log.append(broken.appends("before")).await.unwrap();
    broken.cluster.broker_round_trip_time(1, Duration::from_secs(3_600)).unwrap();
    let appends = (0..8).map(|number| {
        let (log, append) = (broken.log.clone(), broken.appends(&number.to_string()));
        async move { log.append(append).await }
    });
    let errors: Vec<LogError> =
        futures::future::join_all(appends).await.into_iter().map(Result::unwrap_err).collect();
    let (sent, waited) = errors.split_at(4);
    assert!(sent.iter().all(|error| error.retry() == Retry::Unknown), "{errors:?}");
    let is_given_up = |error: &LogError| matches!(error, LogError::TimedOut { .. });
    assert!(waited.iter().all(is_given_up), "{errors:?}");
    assert!(waited.iter().all(|error| error.retry() == Retry::Later), "{errors:?}");

    broken.answers_again();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while let Err(error) = broken.log.append(broken.appends("after")).await {
        assert!(tokio::time::Instant::now() < deadline, "{error}");
    }
    let written = everything(&*broken.log, &broken.output, 0).await;
    let written: Vec<&str> = written.iter().map(String::as_str).collect();
    // What was on its way when its time ran out may have been written, and no more than once.
    assert_eq!((written.first(), written.last()), (Some(&"before"), Some(&"after")), "{written:?}");
    for number in ["0", "1", "2", "3"] {
        assert!(written.iter().filter(|text| **text == number).count() <= 1, "{written:?}");
    }
    for number in ["4", "5", "6", "7"] {
        assert!(!written.contains(&number), "{written:?}");
    }
}

/// Retention overtook a position: the error says by how much, instead of passing over the gap.
#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_retention_overtook_is_an_error() {
    let options = almanac_tests::kafka();
    let log = log(options.clone());
    let topic = topic(&*log, "brief", 2).await;
    for number in 0..5 {
        log.append(vec![append(&topic, 1, &number.to_string())]).await.unwrap();
    }
    let admin: AdminClient<_> = ClientConfig::new()
        .set("bootstrap.servers", options.bootstrap_servers.expose())
        .create()
        .unwrap();
    let mut removed = TopicPartitionList::new();
    removed.add_partition_offset(&topic, 1, Offset::Offset(3)).unwrap();
    admin.delete_records(&removed, &AdminOptions::new()).await.unwrap();
    let limit = ReadLimit { records: 10, bytes: 1 << 20 };
    let mut reader = log.read(&topic, &[(0, 0), (1, 2)]).await.unwrap();
    let error = loop {
        match reader.next(limit, Duration::from_secs(10)).await {
            Ok(batch) => assert!(batch.records.is_empty(), "{batch:?}"),
            Err(error) => break error,
        }
    };
    let expected = format!("offset 2 of {topic}/1 is outside the log, which holds 3 to 5");
    assert_eq!(error.to_string(), expected);
    assert_eq!(everything(&*log, &topic, 1).await, ["3", "4"]);
}

async fn event(member: &mut dyn GroupMember) -> Result<(), LogError> {
    let event = tokio::time::timeout(PATIENCE, member.next()).await.expect("an event");
    // Dropped, a revocation is acknowledged.
    event.map(drop)
}

/// Two processes that were given the same instance take it from each other. The later one is told
/// which setting is wrong, and the other goes on.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_processes_with_one_instance_the_later_is_refused() {
    let older = log(almanac_tests::kafka());
    tokio::time::sleep(Duration::from_millis(5)).await;
    let newer = log(almanac_tests::kafka());
    let input = topic(&*older, "input", 2).await;
    let options = group_options(&unique("group"), &input, "one");
    let mut first = older.join(options.clone()).await.unwrap();
    assigned(&mut *first).await;
    let mut second = newer.join(options.clone()).await.unwrap();
    let fenced = loop {
        if let Err(error) = event(&mut *first).await {
            break error;
        }
    };
    assert_eq!(fenced.retry(), Retry::StartOver, "{fenced}");
    assert!(chain(&fenced).to_string().contains("`instance`"), "{fenced:?}");
    let mut first = older.join(options).await.unwrap();
    let refused = loop {
        if let Err(error) = event(&mut *second).await {
            break error;
        }
    };
    assert_eq!(refused.retry(), Retry::Never, "{refused}");
    let told = chain(&refused).to_string();
    assert!(told.contains("set `instance` to a name of its own"), "{told}");
    drop(second);
    let owned = assigned(&mut *first).await.remove(0);
    let mut transactor = older.transactor(&unique("tx"), &owned).await.unwrap();
    transactor.commit(Vec::new(), position(&input, owned.partition, 0)).await.unwrap();
    first.leave().await.unwrap();
}

/// Ends the process that runs it once it owns a partition.
struct UntilOwned(CancellationToken);

#[async_trait::async_trait]
impl Role for UntilOwned {
    async fn own(&self, _: Owned) -> Result<(), RoleError> {
        self.0.cancel();
        Ok(())
    }
}

/// A member that was killed keeps its partitions until its session times out. Whoever waits for them
/// tells why nothing happens.
#[tokio::test]
async fn waiting_for_a_killed_member_is_logged() {
    let (logged, _guard) = Logged::start();
    let log = log(almanac_tests::kafka());
    let input = topic(&*log, "input", 1).await;
    let group = unique("group");
    let killed = group_options(&group, &input, "killed");
    let session = Duration::from_secs(10);
    let mut killed = log.join(GroupOptions { session_timeout: session, ..killed }).await.unwrap();
    assigned(&mut *killed).await;
    drop(killed);
    let shutdown = CancellationToken::new();
    let role = Arc::new(UntilOwned(shutdown.clone()));
    let options = ProcessorOptions::new(&group, &input, "next");
    let running = almanac_processor::run(log.clone(), options, role, shutdown);
    tokio::time::timeout(PATIENCE, running).await.expect("a partition").unwrap();
    let told = logged.lines(&["waiting for the group to assign partitions", &group]);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("until its session times out"), "{told:?}");
}

/// A topic that was deleted and made again is another one: nothing of it is handed out to who read the
/// one before, however long it has become, and whoever asks is told its new id.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_made_again_is_another() {
    let options = KafkaOptions { silence: Duration::from_millis(500), ..almanac_tests::kafka() };
    let log = log(options.clone());
    let limit = ReadLimit { records: 10, bytes: 1 << 20 };
    for length in [2, 20] {
        let topic = topic(&*log, "again", 1).await;
        for number in 0..5 {
            log.append(vec![append(&topic, 0, &number.to_string())]).await.unwrap();
        }
        let first = log.topic(&topic).await.unwrap().id;
        let mut reader = log.read(&topic, &[(0, 3)]).await.unwrap();
        let mut read = 0;
        while read < 2 {
            read += reader.next(limit, PATIENCE).await.unwrap().records.len();
        }
        let admin: AdminClient<_> = ClientConfig::new()
            .set("bootstrap.servers", options.bootstrap_servers.expose())
            .create()
            .unwrap();
        admin.delete_topics(&[&*topic], &AdminOptions::new()).await.unwrap();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let is_again = async || {
            let made = log.ensure_topics(&[spec(&topic, 1)]).await;
            made.is_ok() && log.topic(&topic).await.is_ok_and(|found| found.id != first)
        };
        while !is_again().await {
            assert!(tokio::time::Instant::now() < deadline, "it cannot be made again");
        }
        // Written by others: what this process had under way belongs to the old one.
        let other = self::log(options.clone());
        let appends = (0..length).map(|number| append(&topic, 0, &format!("new {number}")));
        let appends: Vec<_> = appends.collect();
        while let Err(error) = other.append(appends.clone()).await {
            assert!(tokio::time::Instant::now() < deadline, "{error}");
        }
        let error = loop {
            match reader.next(limit, PATIENCE).await {
                Ok(batch) => assert!(batch.records.is_empty(), "of {length}: {batch:?}"),
                Err(error) => break error,
            }
        };
        let is_told =
            matches!(error, LogError::TopicReplaced { .. } | LogError::UnknownTopic { .. });
        assert!(is_told, "of {length}: {error}");
    }
}

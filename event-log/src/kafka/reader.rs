//! Readers: a thread per reader polls its consumer and hands batches over a short channel.

use super::poller::{HandOver, Poller, SharedConsumer, Signs, Source};
use crate::{LogError, LogReader, LogResult, Offset, ReadBatch, ReadLimit, StoredRecord};
use async_trait::async_trait;
use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::sync::mpsc;

pub(super) fn open(source: Source, from: &[(u32, Offset)]) -> LogResult<Box<dyn LogReader>> {
    let consumer = source.consumer(from)?;
    open_with(source, consumer, from)
}

fn open_with(
    source: Source,
    consumer: SharedConsumer,
    from: &[(u32, Offset)],
) -> LogResult<Box<dyn LogReader>> {
    let (sender, batches) = mpsc::channel(2);
    let signs = Arc::new(Signs::default());
    let is_bounded = source.until.is_some();
    let poller = Poller::new(source, consumer, from, signs.clone());
    std::thread::Builder::new()
        .name("kafka-reader".to_owned())
        .spawn(move || poller.run(&sender))
        .map_err(|error| LogError::Refused {
            what: "a thread for a kafka reader".to_owned(),
            source: error.into(),
        })?;
    Ok(Box::new(KafkaReader::new(batches, from.len(), is_bounded, signs)))
}

struct KafkaReader {
    batches: mpsc::Receiver<LogResult<HandOver>>,
    /// Records of the last hand-over that did not fit the caller's limit.
    left: VecDeque<StoredRecord>,
    at_end: Vec<usize>,
    /// Positions at the ends, as they arrived and as they were told.
    ends: Vec<Option<Offset>>,
    positions: Vec<Option<Offset>>,
    failed: Option<LogError>,
    /// Whether it reads to an offset and no further.
    is_bounded: bool,
    is_over: bool,
    signs: Arc<Signs>,
}

impl KafkaReader {
    fn new(
        batches: mpsc::Receiver<LogResult<HandOver>>,
        partitions: usize,
        is_bounded: bool,
        signs: Arc<Signs>,
    ) -> Self {
        Self {
            batches,
            left: VecDeque::new(),
            at_end: Vec::new(),
            ends: vec![None; partitions],
            positions: vec![None; partitions],
            failed: None,
            is_bounded,
            is_over: false,
            signs,
        }
    }

    /// Whether all that arrived has been handed out.
    fn has_nothing(&self) -> bool {
        self.left.is_empty() && self.at_end.is_empty() && !self.is_over
    }

    fn take(&mut self, HandOver { batch, ends }: HandOver) {
        self.left.extend(batch.records);
        for (place, position) in ends {
            self.ends[place] = Some(position);
        }
        for place in batch.at_end {
            if self.is_bounded {
                self.is_over = true;
            } else if !self.at_end.contains(&place) {
                self.at_end.push(place);
            }
        }
    }
}

impl Drop for KafkaReader {
    fn drop(&mut self) {
        self.signs.stop.store(true, Ordering::Relaxed);
    }
}

#[async_trait]
impl LogReader for KafkaReader {
    async fn next(&mut self, limit: ReadLimit, wait: Duration) -> LogResult<ReadBatch> {
        if self.has_nothing() && self.failed.is_none() {
            match tokio::time::timeout(wait, self.batches.recv()).await {
                Err(_) => return Ok(ReadBatch::default()),
                Ok(None) => return Err(LogError::Closed),
                Ok(Some(batch)) => self.take(batch?),
            }
        }
        // All that waits: what arrived while the caller was busy came in small pieces. An error
        // is told once what came before it has been handed out.
        while self.left.len() < limit.records && self.failed.is_none() {
            match self.batches.try_recv() {
                Ok(Ok(batch)) => self.take(batch),
                Ok(Err(error)) => self.failed = Some(error),
                Err(_) => break,
            }
        }
        if self.has_nothing()
            && let Some(error) = self.failed.take()
        {
            return Err(error);
        }
        let mut batch = ReadBatch::default();
        let mut bytes = 0;
        while batch.records.len() < limit.records && bytes < limit.bytes {
            let Some(record) = self.left.pop_front() else { break };
            bytes += record.record.size();
            batch.records.push(record);
        }
        if self.is_over && batch.records.is_empty() {
            batch.at_end = vec![0];
        } else if self.left.is_empty() {
            batch.at_end = std::mem::take(&mut self.at_end);
            self.positions.clone_from(&self.ends);
        }
        Ok(batch)
    }

    fn position(&self, place: usize) -> Option<Offset> {
        self.positions.get(place).copied().flatten()
    }

    fn cut_off(&self) -> Option<Duration> {
        self.signs.cut_off.lock().map(|since| since.elapsed())
    }
}

/// A reader of nothing.
pub(super) struct Finished;

#[async_trait]
impl LogReader for Finished {
    async fn next(&mut self, _: ReadLimit, _: Duration) -> LogResult<ReadBatch> {
        Ok(ReadBatch { records: Vec::new(), at_end: vec![0] })
    }

    fn position(&self, _: usize) -> Option<Offset> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        EventLog, Isolation,
        conformance::{append, text},
        kafka::{KafkaLog, KafkaOptions, asker::Asker, poller::Ahead},
    };
    use rdkafka::{mocking::MockCluster, producer::DefaultProducerContext};

    const LIMIT: ReadLimit = ReadLimit { records: 100, bytes: 1 << 20 };
    const PATIENCE: Duration = Duration::from_secs(60);

    struct Mocked {
        cluster: MockCluster<'static, DefaultProducerContext>,
        options: KafkaOptions,
        log: KafkaLog,
        topic: Arc<str>,
    }

    impl Mocked {
        fn new() -> Self {
            let cluster = MockCluster::new(1).unwrap();
            cluster.create_topic("facts", 1, 1).unwrap();
            let options = KafkaOptions {
                call_timeout: Duration::from_secs(3),
                silence: Duration::from_millis(300),
                ..KafkaOptions::new(cluster.bootstrap_servers())
            };
            let log = KafkaLog::connect(options.clone()).unwrap();
            Self { cluster, options, log, topic: "facts".into() }
        }

        async fn write(&self, texts: &[&str]) {
            let appends = texts.iter().map(|text| append(&self.topic, 0, text)).collect();
            self.log.append(appends).await.unwrap();
        }

        /// The mock cluster does not tell ids of topics.
        fn source(&self, until: Option<Offset>) -> Source {
            Source {
                asker: Arc::new(Asker::new(&self.options).unwrap()),
                options: self.options.clone(),
                topic: self.topic.clone(),
                id: None,
                until,
                ahead: Ahead::Much,
            }
        }
    }

    async fn read(reader: &mut dyn LogReader, count: usize) -> Vec<String> {
        let mut found = Vec::new();
        while found.len() < count {
            let batch = reader.next(LIMIT, PATIENCE).await.unwrap();
            assert!(batch.at_end.is_empty() || !batch.records.is_empty(), "it ended: {found:?}");
            found.extend(batch.records.iter().map(text));
        }
        found
    }

    /// An error that arrived together with what came before it waits for the next call.
    #[tokio::test]
    async fn an_error_is_told_after_what_came_before_it() {
        let (sender, batches) = mpsc::channel(2);
        let end = ReadBatch { records: Vec::new(), at_end: vec![0] };
        sender.send(Ok(HandOver { batch: end, ends: vec![(0, 7)] })).await.unwrap();
        let gone = LogError::UnknownTopic { topic: "facts".to_owned() };
        sender.send(Err(gone)).await.unwrap();
        drop(sender);
        let mut reader = KafkaReader::new(batches, 1, false, Arc::default());
        assert_eq!(reader.next(LIMIT, PATIENCE).await.unwrap().at_end, [0]);
        assert_eq!(reader.position(0), Some(7));
        let error = reader.next(LIMIT, PATIENCE).await.unwrap_err();
        assert!(matches!(error, LogError::UnknownTopic { .. }), "{error}");
    }

    /// A broker that has just become leader may say that a partition ends below what another one said
    /// a moment ago. That is not the end which was asked for.
    #[tokio::test(flavor = "multi_thread")]
    async fn an_end_below_the_one_that_was_asked_for_is_none() {
        let mocked = Mocked::new();
        mocked.write(&["0", "1", "2"]).await;
        let mut reader = open(mocked.source(Some(5)), &[(0, 0)]).unwrap();
        assert_eq!(read(&mut *reader, 3).await, ["0", "1", "2"]);
        let batch = reader.next(LIMIT, Duration::from_secs(1)).await.unwrap();
        assert!(batch.records.is_empty() && batch.at_end.is_empty(), "{batch:?}");
        mocked.write(&["3", "4", "5", "6"]).await;
        assert_eq!(read(&mut *reader, 2).await, ["3", "4"]);
        for _ in 0..2 {
            let batch = reader.next(LIMIT, PATIENCE).await.unwrap();
            assert!(batch.records.is_empty() && batch.at_end == [0], "{batch:?}");
        }
    }

    /// Statistics tell of an end that was fetched, and overtake the records below it: those are still to come.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_fetched_and_not_polled_is_not_reached() {
        let mocked = Mocked::new();
        mocked.write(&["0", "1", "2"]).await;
        let source = mocked.source(Some(3));
        let consumer = source.consumer(&[(0, 0)]).unwrap();
        let poller = Poller::new(source, consumer.clone(), &[(0, 0)], Arc::default());
        // Long enough that all of it is fetched, and that statistics tell of the end.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while consumer.poll(Duration::ZERO).is_none() {
            assert_eq!(poller.reached(), [0], "no record was polled yet");
            assert!(tokio::time::Instant::now() < deadline, "nothing is polled");
        }
    }

    /// A consumer of no brokers stands for one that lost them.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_silent_reader_that_is_behind_is_opened_anew() {
        let mocked = Mocked::new();
        mocked.write(&["0", "1", "2"]).await;
        assert_eq!(mocked.log.end("facts", 0, Isolation::Committed).await.unwrap(), 3);
        let mut lost = mocked.source(None);
        lost.options.bootstrap_servers = "127.0.0.1:1".into();
        let consumer = lost.consumer(&[(0, 1)]).unwrap();
        let source = mocked.source(None);
        let mut reader = open_with(source, consumer, &[(0, 1)]).unwrap();
        let found = tokio::time::timeout(PATIENCE, read(&mut *reader, 2)).await;
        assert_eq!(found.unwrap(), ["1", "2"]);
        assert_eq!(reader.cut_off(), None);
    }

    /// One that is not behind, too: it would hear of the next record late.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_reader_that_lost_its_brokers_is_opened_anew_before_it_is_behind() {
        let mocked = Mocked::new();
        mocked.write(&["0"]).await;
        let mut lost = mocked.source(None);
        lost.options.bootstrap_servers = "127.0.0.1:1".into();
        let consumer = lost.consumer(&[(0, 1)]).unwrap();
        let mut reader = open_with(mocked.source(None), consumer, &[(0, 1)]).unwrap();
        // Only a consumer that finds brokers tells of the end.
        let batch = reader.next(LIMIT, PATIENCE).await.unwrap();
        assert!(batch.records.is_empty() && batch.at_end == [0], "{batch:?}");
    }

    /// Brokers that do not answer are told of, and that they do again.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_reader_says_that_it_is_cut_off() {
        let mocked = Mocked::new();
        let mut reader = open(mocked.source(None), &[(0, 0)]).unwrap();
        let batch = reader.next(LIMIT, PATIENCE).await.unwrap();
        assert_eq!(batch.at_end, [0]);
        mocked.cluster.broker_down(1).unwrap();
        let until = async |is_cut_off: bool| {
            while reader.cut_off().is_some() != is_cut_off {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, until(true)).await.unwrap();
        mocked.cluster.broker_up(1).unwrap();
        tokio::time::timeout(PATIENCE, until(false)).await.unwrap();
    }
}

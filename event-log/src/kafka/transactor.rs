//! Transactions: one thread and one producer per transactional id.
//!
//! librdkafka's transactional calls block, and some of them can hang. Each call therefore runs on
//! the transactor's thread under a watchdog in the caller: past it, the thread is abandoned with
//! its producer and the outcome is unknown. The next producer with the same id fences it.

use super::{
    KafkaOptions, fenced, group::Generation, login::Login, produce_error, to_kafka_headers,
};
use crate::{Append, InputPosition, LogError, LogResult, Offset, Ownership, Transactor};
use almanac_errors::Cause;
use async_trait::async_trait;
use parking_lot::Mutex;
use rdkafka::{
    ClientContext, Message, Offset as KafkaOffset, TopicPartitionList,
    error::{KafkaError, RDKafkaErrorCode},
    message::DeliveryResult,
    producer::{BaseProducer, BaseRecord, Producer, ProducerContext, PurgeConfig},
};
use std::{sync::Arc, time::Duration};
use tokio::sync::{mpsc, oneshot};

struct Job {
    appends: Vec<Append>,
    input: InputPosition,
    reply: oneshot::Sender<LogResult<Vec<Option<Offset>>>>,
}

pub(super) async fn start(
    options: &KafkaOptions,
    transactional_id: &str,
    ownership: &Ownership,
) -> LogResult<Box<dyn Transactor>> {
    let transactional_id: Arc<str> = transactional_id.into();
    let generation =
        ownership.generation.clone().downcast::<Generation>().map_err(|_| LogError::Refused {
            what: format!("a transactor {transactional_id}"),
            source: "the ownership is of another log".into(),
        })?;
    let (jobs, receiver) = mpsc::channel(1);
    let (ready, is_ready) = oneshot::channel();
    let worker =
        Worker { options: options.clone(), transactional_id: transactional_id.clone(), generation };
    std::thread::Builder::new()
        .name("kafka-transactor".to_owned())
        .spawn(move || worker.run(ready, receiver))
        .map_err(|error| LogError::Refused {
            what: "a thread for a kafka transactor".to_owned(),
            source: error.into(),
        })?;
    let watchdog = options.watchdog;
    match tokio::time::timeout(watchdog, is_ready).await {
        Ok(Ok(ready)) => ready?,
        Ok(Err(_)) => return Err(LogError::Closed),
        Err(_) => {
            let what = format!("initialising transactions of {transactional_id}");
            return Err(LogError::TimedOut { what, after_ms: watchdog.as_millis() });
        }
    }
    Ok(Box::new(KafkaTransactor { transactional_id, jobs, watchdog, poisoned: false }))
}

struct KafkaTransactor {
    transactional_id: Arc<str>,
    jobs: mpsc::Sender<Job>,
    watchdog: Duration,
    poisoned: bool,
}

#[async_trait]
impl Transactor for KafkaTransactor {
    async fn commit(
        &mut self,
        appends: Vec<Append>,
        input: InputPosition,
    ) -> LogResult<Vec<Option<Offset>>> {
        let ambiguous = |source: Cause| LogError::Ambiguous {
            transactional_id: self.transactional_id.to_string(),
            source,
        };
        if self.poisoned {
            return Err(ambiguous("an earlier transaction ended in doubt".into()));
        }
        let (reply, answer) = oneshot::channel();
        let job = Job { appends, input, reply };
        // Until the answer is here the outcome is unknown, also when this call is cancelled.
        self.poisoned = true;
        let answered = tokio::time::timeout(self.watchdog, async {
            self.jobs.send(job).await.map_err(|_| LogError::Closed)?;
            answer.await.map_err(|_| LogError::Closed)
        })
        .await;
        let result = match answered {
            Err(_) => {
                let watchdog_ms = self.watchdog.as_millis();
                Err(ambiguous(format!("no answer within {watchdog_ms} ms").into()))
            }
            Ok(Err(_)) => Err(ambiguous("its thread ended".into())),
            Ok(Ok(result)) => result,
        };
        self.poisoned =
            result.as_ref().is_err_and(|error| error.retry() == crate::Retry::StartOver);
        result
    }
}

/// Collects delivery reports of the running transaction, by the place of each record in it.
#[derive(Default)]
struct Deliveries {
    offsets: Mutex<Vec<Option<Offset>>>,
    failure: Mutex<Option<(usize, KafkaError)>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, result: &DeliveryResult<'_>, place: Box<usize>) {
        match result {
            Ok(message) => {
                if let Some(offset) = self.offsets.lock().get_mut(*place) {
                    // A retry that the broker answers as a duplicate succeeds without an offset.
                    *offset = Offset::try_from(message.offset()).ok();
                }
            }
            Err((error, _)) => {
                self.failure.lock().get_or_insert((*place, error.clone()));
            }
        }
    }
}

struct Worker {
    options: KafkaOptions,
    transactional_id: Arc<str>,
    generation: Arc<Generation>,
}

impl Worker {
    fn run(self, ready: oneshot::Sender<LogResult<()>>, mut jobs: mpsc::Receiver<Job>) {
        let producer = match self.initialise() {
            Ok(producer) => producer,
            Err(error) => {
                let _ = ready.send(Err(error));
                return;
            }
        };
        if ready.send(Ok(())).is_err() {
            return;
        }
        let mut login = Login::default();
        while let Some(job) = jobs.blocking_recv() {
            login.renew(&self.options, producer.client());
            let result = self.transact(&producer, &job.appends, &job.input);
            let ends = result.as_ref().is_err_and(|error| error.retry() == crate::Retry::StartOver);
            let _ = job.reply.send(result);
            if ends {
                // librdkafka lacks KIP-890: a producer is not used again after any doubt.
                return;
            }
        }
    }

    fn initialise(&self) -> LogResult<BaseProducer<Deliveries>> {
        let unavailable = |error: KafkaError| LogError::Unavailable {
            what: format!("transactions of {}", self.transactional_id),
            source: error.into(),
        };
        let producer: BaseProducer<Deliveries> = self
            .options
            .transactional_producer(&self.transactional_id)
            .create_with_context(Deliveries::default())
            .map_err(unavailable)?;
        producer.init_transactions(self.options.call_timeout).map_err(unavailable)?;
        Ok(producer)
    }

    fn transact(
        &self,
        producer: &BaseProducer<Deliveries>,
        appends: &[Append],
        input: &InputPosition,
    ) -> LogResult<Vec<Option<Offset>>> {
        producer.begin_transaction().map_err(|error| self.doubt("begin", &error))?;
        // The position first. The broker refuses the request that opens a transaction while it
        // still writes the markers of the one before; librdkafka repeats that request after
        // `retry.backoff.ms` when it is about offsets, but after 20 ms when it is about partitions.
        let prepared =
            self.position(producer, input).and_then(|()| self.produce(producer, appends));
        if let Err(error) = prepared {
            return Err(self.abort(producer, error));
        }
        match producer.commit_transaction(self.options.call_timeout) {
            Ok(()) => {}
            Err(KafkaError::Transaction(error)) if error.txn_requires_abort() => {
                let failure = self.classify("commit", &KafkaError::Transaction(error));
                return Err(self.abort(producer, failure));
            }
            Err(error) => return Err(self.doubt("commit", &error)),
        }
        Ok(std::mem::take(&mut *producer.context().offsets.lock()))
    }

    fn position(
        &self,
        producer: &BaseProducer<Deliveries>,
        input: &InputPosition,
    ) -> LogResult<()> {
        let mut positions = TopicPartitionList::new();
        let offset = KafkaOffset::Offset(i64::try_from(input.next_offset).unwrap_or(i64::MAX));
        positions
            .add_partition_offset(&input.topic, input.partition as i32, offset)
            .map_err(|error| self.classify("position", &error))?;
        producer
            .send_offsets_to_transaction(
                &positions,
                &self.generation.metadata,
                self.options.call_timeout,
            )
            .map_err(|error| self.classify("position", &error))
    }

    fn produce(&self, producer: &BaseProducer<Deliveries>, appends: &[Append]) -> LogResult<()> {
        *producer.context().offsets.lock() = vec![None; appends.len()];
        *producer.context().failure.lock() = None;
        for (place, append) in appends.iter().enumerate() {
            let mut record = BaseRecord::with_opaque_to(&append.topic, Box::new(place))
                .partition(append.partition as i32)
                .key(append.record.key.as_ref())
                .timestamp(append.record.timestamp_ms)
                .headers(to_kafka_headers(&append.record));
            if let Some(value) = &append.record.value {
                record = record.payload(value.as_ref());
            }
            while let Err((error, again)) = producer.send(record) {
                if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                    return Err(produce_error(append, &error));
                }
                producer.poll(Duration::ZERO);
                std::thread::sleep(BETWEEN_POLLS);
                record = again;
            }
        }
        // Polled here and not in flush: the wrapper's flush and commit serve delivery reports at
        // a floor of 100 ms.
        await_deliveries(producer);
        if let Some((place, error)) = producer.context().failure.lock().take() {
            return Err(match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight) | None => {
                    self.classify("produce", &error)
                }
                _ if is_fence(&error) => self.classify("produce", &error),
                _ => produce_error(&appends[place], &error),
            });
        }
        Ok(())
    }

    /// Ends a transaction that failed before its commit. A clean abort means that nothing was
    /// written, so the cause decides; anything else is doubt.
    fn abort(&self, producer: &BaseProducer<Deliveries>, cause: LogError) -> LogError {
        // Aborting purges what is under way, but waits for delivery reports that only polling
        // serves; so purge and poll first.
        producer.purge(PurgeConfig::default().queue().inflight());
        await_deliveries(producer);
        match producer.abort_transaction(self.options.call_timeout) {
            Ok(()) => cause,
            Err(_) if matches!(cause, LogError::Fenced { .. }) => cause,
            Err(error) => self.doubt("abort", &error),
        }
    }

    fn classify(&self, step: &'static str, error: &KafkaError) -> LogError {
        if is_fence(error) {
            return self.doubt(step, error);
        }
        if let KafkaError::Transaction(inner) = error
            && inner.is_fatal()
        {
            return self.doubt(step, error);
        }
        LogError::Unavailable {
            what: format!("transactions of {}", self.transactional_id),
            source: Failed { step, source: error.clone().into() }.into(),
        }
    }

    fn doubt(&self, step: &'static str, error: &KafkaError) -> LogError {
        let transactional_id = self.transactional_id.to_string();
        let source = Failed { step, source: fenced::cause(error) }.into();
        if is_fence(error) {
            return LogError::Fenced { transactional_id, source };
        }
        LogError::Ambiguous { transactional_id, source }
    }
}

/// Which call of a transaction failed.
#[derive(Debug, thiserror::Error)]
#[error("{step}")]
struct Failed {
    step: &'static str,
    source: Cause,
}

/// The wrapper's own waiting goes on to the end of its time whatever comes meanwhile, and spins
/// through the last millisecond.
const BETWEEN_POLLS: Duration = Duration::from_micros(250);

/// Serves delivery reports until all are in.
fn await_deliveries(producer: &BaseProducer<Deliveries>) {
    loop {
        producer.poll(Duration::ZERO);
        if producer.in_flight_count() == 0 {
            return;
        }
        std::thread::sleep(BETWEEN_POLLS);
    }
}

/// Answers that mean somebody else owns what we thought we owned.
fn is_fence(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::Fenced
                | RDKafkaErrorCode::ProducerFenced
                | RDKafkaErrorCode::InvalidProducerEpoch
                | RDKafkaErrorCode::IllegalGeneration
                | RDKafkaErrorCode::UnknownMemberId
                | RDKafkaErrorCode::FencedInstanceId
                | RDKafkaErrorCode::RebalanceInProgress
        )
    )
}

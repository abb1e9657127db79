//! Hands appends to librdkafka at a pace that suits it.
//!
//! An idempotent producer of librdkafka has one request under way for a partition as soon as five
//! records are, and while others wait behind it, its thread asks again and again without a pause
//! whether it may send them: brokers that take twenty milliseconds to answer cost a whole core. So
//! what it cannot send yet waits here, and goes as one batch once the one before is answered.
//!
//! A broker is also asked once for each batch, whatever its size: where many records come, waiting
//! a few milliseconds for the next ones costs their callers less than the requests would.

use super::{KafkaOptions, asker::Asker, produce_error, renewed::Renewed, to_kafka_headers};
use crate::{Append, LogError, LogResult, Offset, Retry};
use almanac_errors::Cause;
use parking_lot::Mutex;
use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode},
    producer::{DeliveryFuture, FutureRecord},
};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::Instant,
};

/// Records of a partition that librdkafka has under way one by one.
const AT_ONCE: u32 = 4;
/// A batch is handed over record by record; it leaves this long after the first, and so whole.
const HANDING_OVER: Duration = Duration::from_micros(300);
/// librdkafka's own limit for a batch is 1 MB.
const BATCH_BYTES: usize = 900_000;
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(1);

type Answer = LogResult<Option<Offset>>;
/// A topic and a partition of it.
type Place = (Arc<str>, u32);

pub(super) struct Lanes {
    producers: Arc<Producers>,
    lanes: Mutex<HashMap<Place, Arc<Lane>>>,
}

struct Producers {
    /// Sends each record as it comes.
    single: Renewed,
    /// Sends what is handed over together.
    batches: Renewed,
    gather: Duration,
    gather_from: u32,
    timeout: Duration,
}

/// What is on its way to one partition.
struct Lane {
    under_way: Arc<Semaphore>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// Whether a task sends what waits.
    served: bool,
}

struct Waiting {
    append: Append,
    since: Instant,
    /// Set, under the lock of the queue, when it leaves the queue to be sent.
    sent: Arc<AtomicBool>,
    answer: oneshot::Sender<Answer>,
}

/// An append that was taken.
enum Taken {
    UnderWay {
        append: Append,
        delivery: DeliveryFuture,
        _turn: OwnedSemaphorePermit,
    },
    Waiting {
        topic: Arc<str>,
        partition: u32,
        since: Instant,
        lane: Arc<Lane>,
        sent: Arc<AtomicBool>,
        answer: oneshot::Receiver<Answer>,
    },
}

impl Lanes {
    pub(super) fn new(options: &KafkaOptions) -> Result<Self, KafkaError> {
        let producers = Producers {
            single: Renewed::new(options, options.idempotent_producer(Duration::ZERO))?,
            batches: Renewed::new(options, options.idempotent_producer(HANDING_OVER))?,
            gather: options.gather,
            gather_from: options.gather_from,
            timeout: options.call_timeout,
        };
        Ok(Self { producers: Arc::new(producers), lanes: Mutex::default() })
    }

    /// Replaces producers that find no brokers where others do. Whether all are served now. Blocks.
    pub(super) fn look_after(&self, asker: &Asker, topic: &str) -> bool {
        let Producers { single, batches, .. } = &*self.producers;
        [single, batches].into_iter().all(|producer| producer.look_after(asker, topic))
    }

    /// Takes records. Those of one partition are written in the order in which they are taken.
    pub(super) async fn append(&self, appends: Vec<Append>) -> LogResult<Vec<Option<Offset>>> {
        let mut taken = Vec::with_capacity(appends.len());
        let mut refused = None;
        for append in appends {
            match self.take(append).await {
                Ok(one) => taken.push(one),
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
        }
        let mut answers = Vec::with_capacity(taken.len() + 1);
        for one in taken {
            answers.push(one.answer(self.producers.timeout).await);
        }
        answers.extend(refused.map(Err));
        together(answers)
    }

    async fn take(&self, append: Append) -> LogResult<Taken> {
        let lane = self.lane(&append.topic, append.partition);
        let turn = {
            let mut queue = lane.queue.lock();
            match lane.under_way.clone().try_acquire_owned() {
                Ok(turn) if !queue.served => turn,
                _ => {
                    let (topic, partition) = (append.topic.clone(), append.partition);
                    let (sender, answer) = oneshot::channel();
                    let (since, sent) = (Instant::now(), Arc::<AtomicBool>::default());
                    let waiting = Waiting { append, since, sent: sent.clone(), answer: sender };
                    queue.waiting.push(waiting);
                    if !queue.served {
                        queue.served = true;
                        tokio::spawn(serve(lane.clone(), self.producers.clone()));
                    }
                    let lane = lane.clone();
                    return Ok(Taken::Waiting { topic, partition, since, lane, sent, answer });
                }
            }
        };
        let delivery = send(&self.producers.single, &append).await?;
        Ok(Taken::UnderWay { append, delivery, _turn: turn })
    }

    fn lane(&self, topic: &Arc<str>, partition: u32) -> Arc<Lane> {
        let mut lanes = self.lanes.lock();
        let lane = lanes.entry((topic.clone(), partition)).or_insert_with(|| {
            let under_way = Arc::new(Semaphore::new(AT_ONCE as usize));
            Arc::new(Lane { under_way, queue: Mutex::default() })
        });
        lane.clone()
    }
}

impl Taken {
    /// Where it was written.
    async fn answer(self, timeout: Duration) -> Answer {
        match self {
            Self::UnderWay { append, delivery, _turn } => delivered(&append, delivery).await,
            Self::Waiting { topic, partition, since, lane, sent, mut answer } => {
                let unknown = |source: Cause| LogError::Unknown {
                    what: record_of(&topic, partition),
                    source,
                };
                match tokio::time::timeout_at(since + timeout, &mut answer).await {
                    Ok(Ok(answer)) => answer,
                    Ok(Err(_)) => Err(unknown("who sent it is gone".into())),
                    Err(_) => {
                        // Under this lock it stays where it is until nobody waits for it.
                        let _queue = lane.queue.lock();
                        drop(answer);
                        match sent.load(Ordering::Relaxed) {
                            true => {
                                let waited_ms = since.elapsed().as_millis();
                                Err(unknown(format!("no answer within {waited_ms} ms").into()))
                            }
                            false => Err(given_up(&topic, partition, since)),
                        }
                    }
                }
            }
        }
    }
}

fn record_of(topic: &str, partition: u32) -> String {
    format!("a record of {topic}/{partition}")
}

/// It was not sent, and will not be.
fn given_up(topic: &str, partition: u32, since: Instant) -> LogError {
    LogError::TimedOut {
        what: format!("an append to {topic}/{partition}, which was not sent,"),
        after_ms: since.elapsed().as_millis(),
    }
}

/// One answer for records that were appended in one call. That nothing was written may only be said
/// when it is so of all of them.
fn together(answers: Vec<Answer>) -> LogResult<Vec<Option<Offset>>> {
    let refused = answers
        .iter()
        .all(|answer| answer.as_ref().is_err_and(|error| error.retry() != Retry::Unknown));
    let count = answers.len();
    let written = answers.iter().filter(|answer| answer.is_ok()).count();
    answers.into_iter().collect::<LogResult<Vec<_>>>().map_err(|error| match error {
        error if refused || error.retry() == Retry::Unknown => error,
        error => LogError::Unknown {
            what: format!("all of {count} records, of which {written} were,"),
            source: error.into(),
        },
    })
}

impl Lane {
    /// What goes together, or `None` when nothing waits and nobody serves any more.
    fn next_batch(&self, timeout: Duration) -> Option<Vec<Waiting>> {
        let mut queue = self.queue.lock();
        // What was given up meanwhile is not sent, nor what would hardly be answered before it is: its
        // caller would be told that it was not written, and then it would be.
        let late = queue
            .waiting
            .extract_if(.., |one| one.answer.is_closed() || one.since.elapsed() > timeout / 2);
        for Waiting { append, since, answer, .. } in late {
            let _ = answer.send(Err(given_up(&append.topic, append.partition, since)));
        }
        if queue.waiting.is_empty() {
            queue.served = false;
            return None;
        }
        let mut bytes = 0;
        let fits = |one: &&Waiting| {
            bytes += one.append.record.size();
            bytes <= BATCH_BYTES
        };
        let count = queue.waiting.iter().take_while(fits).count().max(1);
        let batch: Vec<Waiting> = queue.waiting.drain(..count).collect();
        for one in &batch {
            one.sent.store(true, Ordering::Relaxed);
        }
        Some(batch)
    }
}

/// Sends batch after batch until nothing waits.
async fn serve(lane: Arc<Lane>, producers: Arc<Producers>) {
    // What was sent before is answered first, and nothing else is sent meanwhile.
    let Ok(_turns) = lane.under_way.acquire_many(AT_ONCE).await else { return };
    while let Some(batch) = lane.next_batch(producers.timeout) {
        let left = Instant::now();
        let producer = if batch.len() == 1 { &producers.single } else { &producers.batches };
        let mut under_way = Vec::with_capacity(batch.len());
        for Waiting { append, answer, .. } in batch {
            match send(producer, &append).await {
                Ok(delivery) => under_way.push((append, delivery, answer)),
                // Who waited may be gone, here and below.
                Err(error) => drop(answer.send(Err(error))),
            }
        }
        for (append, delivery, answer) in under_way {
            let _ = answer.send(delivered(&append, delivery).await);
        }
        if lane.queue.lock().waiting.len() >= producers.gather_from as usize {
            tokio::time::sleep_until(left + producers.gather).await;
        }
    }
}

async fn send(producer: &Renewed, append: &Append) -> LogResult<DeliveryFuture> {
    let mut record = FutureRecord::to(&append.topic)
        .partition(append.partition as i32)
        .key(append.record.key.as_ref())
        .timestamp(append.record.timestamp_ms)
        .headers(to_kafka_headers(&append.record));
    if let Some(value) = &append.record.value {
        record = record.payload(value.as_ref());
    }
    loop {
        match producer.get().send_result(record) {
            Ok(delivery) => return Ok(delivery),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                record = again;
                tokio::time::sleep(QUEUE_FULL_PAUSE).await;
            }
            Err((error, _)) => return Err(produce_error(append, &error)),
        }
    }
}

async fn delivered(append: &Append, delivery: DeliveryFuture) -> Answer {
    let unknown = |source: Cause| LogError::Unknown {
        what: record_of(&append.topic, append.partition),
        source,
    };
    let delivered = delivery.await.map_err(|_| unknown("its producer was closed".into()))?;
    match delivered {
        Ok(delivered) => Ok(Offset::try_from(delivered.offset).ok()),
        Err((error, _)) if is_refusal(&error) => Err(produce_error(append, &error)),
        Err((error, _)) => Err(unknown(error.into())),
    }
}

/// Whether an error says that the record was not written. Of one whose time ran out, or whose
/// connection broke, the request may be with the broker and be carried out later.
fn is_refusal(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::MessageSizeTooLarge
                | Code::InvalidMessageSize
                | Code::InvalidMessage
                | Code::InvalidRecord
                | Code::UnknownTopic
                | Code::UnknownTopicOrPartition
                | Code::UnknownPartition
                | Code::TopicAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::PolicyViolation
                | Code::UnsupportedForMessageFormat
                | Code::PurgeQueue
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> Answer {
        Err(LogError::Unavailable { what: "a broker".to_owned(), source: "it is away".into() })
    }

    fn unknown() -> Answer {
        Err(LogError::Unknown { what: "a record".to_owned(), source: "no answer".into() })
    }

    #[test]
    fn nothing_was_written_only_when_it_is_so_of_all() {
        let retry = |answers: Vec<Answer>| together(answers).map_err(|error| error.retry());
        assert_eq!(retry(vec![Ok(Some(3)), Ok(None)]), Ok(vec![Some(3), None]));
        assert_eq!(retry(vec![refused(), refused()]), Err(Retry::Later));
        assert_eq!(retry(vec![Ok(Some(3)), refused()]), Err(Retry::Unknown));
        assert_eq!(retry(vec![refused(), unknown()]), Err(Retry::Unknown));
        assert_eq!(retry(vec![unknown(), Ok(Some(3))]), Err(Retry::Unknown));
    }
}

//! Hands appends to librdkafka at a pace that suits it.
//!
//! An idempotent producer of librdkafka has one request under way for a partition as soon as five
//! records are, and while others wait behind it, its thread asks again and again without a pause
//! whether it may send them: brokers that take twenty milliseconds to answer cost a whole core. So
//! what it cannot send yet waits here, and goes as one batch once the one before is answered.
//!
//! A broker is also asked once for each batch, whatever its size: where many records come, waiting
//! a few milliseconds for the next ones costs their callers less than the requests would.

use super::{KafkaOptions, produce_error, renewed::Renewed, to_kafka_headers};
use crate::{Append, LogError, LogResult, Offset};
use parking_lot::Mutex;
use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode},
    producer::{DeliveryFuture, FutureRecord},
};
use std::{collections::HashMap, sync::Arc, time::Duration};
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
    answer: oneshot::Sender<Answer>,
}

/// An append that was taken.
enum Taken {
    UnderWay { append: Append, delivery: DeliveryFuture, _turn: OwnedSemaphorePermit },
    Waiting { topic: Arc<str>, partition: u32, since: Instant, answer: oneshot::Receiver<Answer> },
}

impl Lanes {
    pub(super) fn new(options: &KafkaOptions) -> Result<Self, KafkaError> {
        let producers = Producers {
            single: Renewed::new(options.idempotent_producer(Duration::ZERO))?,
            batches: Renewed::new(options.idempotent_producer(HANDING_OVER))?,
            gather: options.gather,
            gather_from: options.gather_from,
            timeout: options.call_timeout,
        };
        Ok(Self { producers: Arc::new(producers), lanes: Mutex::default() })
    }

    /// Takes records. Those of one partition are written in the order in which they are taken.
    pub(super) async fn append(&self, appends: Vec<Append>) -> LogResult<Vec<Option<Offset>>> {
        let mut taken = Vec::with_capacity(appends.len());
        for append in appends {
            taken.push(self.take(append).await?);
        }
        let mut offsets = Vec::with_capacity(taken.len());
        for one in taken {
            offsets.push(one.answer(self.producers.timeout).await?);
        }
        Ok(offsets)
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
                    let since = Instant::now();
                    queue.waiting.push(Waiting { append, since, answer: sender });
                    if !queue.served {
                        queue.served = true;
                        tokio::spawn(serve(lane.clone(), self.producers.clone()));
                    }
                    return Ok(Taken::Waiting { topic, partition, since, answer });
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
            Self::Waiting { topic, partition, since, answer } => {
                match tokio::time::timeout_at(since + timeout, answer).await {
                    Ok(answer) => answer.map_err(|_| LogError::Closed)?,
                    Err(_) => Err(given_up(&topic, partition, since)),
                }
            }
        }
    }
}

fn given_up(topic: &str, partition: u32, since: Instant) -> LogError {
    LogError::TimedOut {
        what: format!("an append to {topic}/{partition}"),
        after_ms: since.elapsed().as_millis(),
    }
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
        for Waiting { append, since, answer } in late {
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
        Some(queue.waiting.drain(..count).collect())
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
    let delivered = delivery.await.map_err(|_| LogError::Closed)?;
    let delivered = delivered.map_err(|(error, _)| produce_error(append, &error))?;
    Ok(Offset::try_from(delivered.offset).ok())
}

//! Group membership: a consumer that is subscribed and polled, but fetches nothing. Input is read
//! by readers, which each start where their processor says.

use super::{
    KafkaOptions,
    asker::{Asker, finds_brokers},
    fenced::{self, ProcessMark},
    login::Login,
    query_error, told,
};
use crate::{GroupEvent, GroupMember, GroupOptions, LogError, LogResult, Ownership, Revocation};
use almanac_errors::chain;
use async_trait::async_trait;
use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext, ConsumerGroupMetadata, Rebalance},
    error::{KafkaError, RDKafkaErrorCode},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, oneshot};

const POLL: Duration = Duration::from_millis(100);
/// How long a member may look for brokers when it is asked whether it finds some.
const LOOK: Duration = Duration::from_secs(2);

/// What an [`Ownership`] of the Kafka engine carries: the group metadata of its assignment.
pub(super) struct Generation {
    pub(super) metadata: ConsumerGroupMetadata,
}

pub(super) fn join(
    kafka: &KafkaOptions,
    options: GroupOptions,
    asker: Arc<Asker>,
    process: ProcessMark,
) -> LogResult<Box<dyn GroupMember>> {
    let (sender, events) = mpsc::unbounded_channel();
    let context = MemberContext {
        group: options.group.as_str().into(),
        session_timeout: options.session_timeout,
        events: sender.clone(),
        runtime: tokio::runtime::Handle::current(),
    };
    let error = |error: KafkaError| query_error(&options.topic, None, &error);
    let consumer: BaseConsumer<MemberContext> = kafka
        .member(&options.group, &options.instance, options.session_timeout, &process)
        .create_with_context(context)
        .map_err(error)?;
    consumer.subscribe(&[&options.topic]).map_err(error)?;
    let (kafka, pause) = (kafka.clone(), kafka.silence);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let thread = std::thread::Builder::new()
        .name("kafka-member".to_owned())
        .spawn(move || {
            Membership { options, kafka, asker, process, pause }.poll(&consumer, &stopped, &sender)
        })
        .map_err(|error| LogError::Refused {
            what: "a thread for a kafka group member".to_owned(),
            source: error.into(),
        })?;
    Ok(Box::new(KafkaMember { events, stop, thread: Some(thread) }))
}

struct Membership {
    options: GroupOptions,
    kafka: KafkaOptions,
    asker: Arc<Asker>,
    process: ProcessMark,
    /// Between looks whether brokers are found.
    pause: Duration,
}

impl Membership {
    fn poll(
        &self,
        consumer: &BaseConsumer<MemberContext>,
        stop: &AtomicBool,
        events: &mpsc::UnboundedSender<Result<GroupEvent, LogError>>,
    ) {
        let mut looked = Instant::now();
        let mut login = Login::default();
        while !stop.load(Ordering::Relaxed) {
            // Partitions are paused, so what comes up here is errors only.
            match consumer.poll(POLL) {
                Some(Err(error)) if is_fatal(&error) => {
                    let _ = events.send(Err(self.fenced()));
                    return;
                }
                Some(Err(error)) => told::going_on(&self.options.group, &error),
                _ => {}
            }
            if looked.elapsed() >= self.pause {
                login.renew(&self.kafka, consumer.client());
                if self.is_lost(consumer) {
                    let _ = events.send(Err(LogError::Unavailable {
                        what: format!("consumer group {}", self.options.group),
                        source: "its member lost its brokers for good".into(),
                    }));
                    return;
                }
                looked = Instant::now();
            }
        }
        // Closing revokes what is held, which waits until the owners let go.
    }

    /// Whether this member finds no brokers where others do.
    fn is_lost(&self, consumer: &BaseConsumer<MemberContext>) -> bool {
        let topic = &self.options.topic;
        let finds_brokers = || finds_brokers(consumer.client(), topic, LOOK);
        // Asked once more in the end: an outage may have ended just now.
        !finds_brokers() && self.asker.is_answered(topic) && !finds_brokers()
    }

    fn fenced(&self) -> LogError {
        let GroupOptions { group, instance, .. } = &self.options;
        fenced::judge(&self.asker, group, instance, &self.process)
    }
}

fn is_fatal(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::FencedInstanceId)
    )
}

struct MemberContext {
    group: Arc<str>,
    session_timeout: Duration,
    events: mpsc::UnboundedSender<Result<GroupEvent, LogError>>,
    runtime: tokio::runtime::Handle,
}

impl ClientContext for MemberContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // It blames another consumer, which need not be there: see [`fenced`].
        let level = match message.contains("group.instance.id") {
            true => RDKafkaLogLevel::Debug,
            false => level,
        };
        told::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        told::error(&error, reason);
    }
}

impl ConsumerContext for MemberContext {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Revoke(_) = rebalance else { return };
        let (acknowledge, acknowledged) = oneshot::channel();
        let revocation = Revocation { acknowledge: Some(acknowledge) };
        if self.events.send(Ok(GroupEvent::Revoked(revocation))).is_ok() {
            // The callback must not return before the owners have let go; heartbeats go on in
            // librdkafka's own thread. An owner that does not let go is fenced by the generation.
            let timeout = self.session_timeout;
            let waited =
                self.runtime.block_on(async { tokio::time::timeout(timeout, acknowledged).await });
            if waited.is_err() {
                tracing::warn!(group = %self.group, "partitions were not let go in time");
            }
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Assign(partitions) = rebalance else { return };
        if let Err(error) = consumer.pause(partitions) {
            tracing::warn!(group = %self.group, error = %chain(&error), "cannot pause assigned partitions");
        }
        let Some(metadata) = consumer.group_metadata() else { return };
        let generation = Arc::new(Generation { metadata });
        let ownerships = partitions
            .elements()
            .iter()
            .map(|element| Ownership {
                group: self.group.clone(),
                topic: element.topic().into(),
                partition: element.partition() as u32,
                generation: generation.clone(),
            })
            .collect();
        let _ = self.events.send(Ok(GroupEvent::Assigned(ownerships)));
    }
}

struct KafkaMember {
    events: mpsc::UnboundedReceiver<Result<GroupEvent, LogError>>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[async_trait]
impl GroupMember for KafkaMember {
    async fn next(&mut self) -> LogResult<GroupEvent> {
        self.events.recv().await.ok_or(LogError::Closed)?
    }

    async fn leave(mut self: Box<Self>) -> LogResult<()> {
        self.stop.store(true, Ordering::Relaxed);
        // Revocations must still be answered while the consumer closes.
        while let Some(event) = self.events.recv().await {
            drop(event);
        }
        if let Some(thread) = self.thread.take() {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        Ok(())
    }
}

impl Drop for KafkaMember {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

//! The owner of a partition of deliveries: one loop that reads it, starts what is due, and commits what
//! came of attempts.

use super::{
    NotifierMetrics,
    deliveries::{self, DELIVERED, DROPPED, GIVEN_UP, RETRYING, arrived_key, due_key, traced_key},
    fan_out::{self, FIRST, FanOut, Outputs, append},
    options::{NotificationOptions, NotificationTopics},
    queue::{Pending, Queue},
    send::{Answered, Sender},
    subscribers::Subscribers,
};
use almanac_domain::subscriptions::{Knowledge, NOTIFIER};
use almanac_errors::chain;
use almanac_event_log::{Append, EventLog, Headers, Offset, ReadLimit, StoredRecord};
use almanac_processor::{
    GatherLimits, GatheredState, LocalState, Owned, Role, RoleError, StateFolder, traced,
};
use almanac_schemas::{
    Codec,
    commands::{COMMAND, CommandRecord, RoleCommand},
    json::subscriptions::Reach,
    notifications::{ATTEMPTED, DeliveryAttemptedRecord, DeliveryDueRecord},
    subscriptions::CONTEXT,
};
use almanac_secrets::SealingKey;
use almanac_traces::{Hop, Parent, SpanKind, attributes as name};
use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::json;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, task::JoinSet};
use uuid::Uuid;

const LIMIT: ReadLimit = ReadLimit { records: 1_000, bytes: 4 << 20 };
const IDLE: Duration = Duration::from_secs(1);
/// How often the position of the input is committed where nothing else is.
const SAVE_EVERY: Duration = Duration::from_secs(60);
/// How late what is due may be started.
const TICK: Duration = Duration::from_millis(200);

/// What a notifier is made of.
pub struct NotifierParts {
    pub log: Arc<dyn EventLog>,
    pub codec: Arc<Codec>,
    pub topics: NotificationTopics,
    pub options: NotificationOptions,
    pub sealing: Option<SealingKey>,
    pub reach: Reach,
    /// Local state of what is due, and of the subscriptions.
    pub deliveries: StateFolder,
    pub subscriptions: StateFolder,
    pub metrics: NotifierMetrics,
}

pub struct Notifier {
    log: Arc<dyn EventLog>,
    codec: Arc<Codec>,
    topics: NotificationTopics,
    options: NotificationOptions,
    sender: Arc<Sender>,
    subscribers: Arc<Subscribers>,
    deliveries: StateFolder,
    subscriptions: StateFolder,
    metrics: NotifierMetrics,
}

/// An attempt that ended.
struct Attempt {
    delivery: Uuid,
    pending: Pending,
    due: DeliveryDueRecord,
    parent: Option<Parent>,
    /// `None`: there is nobody to tell any more.
    answered: Option<Answered>,
    took: Duration,
}

impl Notifier {
    pub fn new(parts: NotifierParts) -> Result<Self, RoleError> {
        let NotifierParts { log, codec, topics, options, sealing, reach, metrics, .. } = parts;
        let sender = Sender::new(&options, sealing, reach).map_err(RoleError::other)?;
        let subscribers = Subscribers::new(
            log.clone(),
            codec.clone(),
            topics.subscriptions.clone(),
            topics.partitions,
        );
        Ok(Self {
            log,
            codec,
            topics,
            options,
            sender: Arc::new(sender),
            subscribers: Arc::new(subscribers),
            deliveries: parts.deliveries,
            subscriptions: parts.subscriptions,
            metrics,
        })
    }

    /// The topic whose partitions are shared out.
    pub fn input(&self) -> &str {
        &self.topics.deliveries
    }

    /// Follows the subscriptions until an error.
    pub async fn follow(&self) -> Result<(), RoleError> {
        let (followed, fold) = (&self.subscribers.followed, &self.subscribers.fold);
        followed.follow(&self.subscriptions, GatherLimits::default(), fold).await
    }

    /// Local state of a partition of deliveries, read to the end of the log.
    async fn fold(&self, owned: &Owned) -> Result<(LocalState, Offset), RoleError> {
        let topic = &self.topics.deliveries;
        let (mut state, from) =
            self.deliveries.resume(&*owned.log, topic, owned.partition()).await?;
        let mut fold = owned.fold(topic, from).await?;
        while let Some(records) = fold.next().await? {
            let mut changes = Vec::new();
            for stored in &records {
                deliveries::fold(&self.codec, stored, &mut changes).await?;
            }
            let position = records.last().map(|record| record.offset + 1);
            state = apply(state, changes, position).await?;
        }
        let end = fold.end();
        Ok((apply(state, Vec::new(), Some(end)).await?, end))
    }
}

/// Takes changes in, off the threads that serve.
async fn apply(
    state: LocalState,
    changes: Vec<almanac_processor::Change>,
    position: Option<Offset>,
) -> Result<LocalState, RoleError> {
    tokio::task::spawn_blocking(move || state.apply(changes, position).map(|()| state))
        .await
        .map_err(RoleError::other)?
        .map_err(RoleError::from)
}

/// However owning a partition ends, its figures do.
struct Measured<'a>(&'a NotifierMetrics, u32);

impl Drop for Measured<'_> {
    fn drop(&mut self) {
        self.0.disowned(self.1);
    }
}

#[async_trait]
impl Role for Notifier {
    async fn own(&self, owned: Owned) -> Result<(), RoleError> {
        let partition = owned.partition();
        let mut input = owned.take_over().await?;
        let (state, end) = self.fold(&owned).await?;
        let mut queue = deliveries::pending(&self.codec, &state).await?;
        let state = Arc::new(GatheredState::new(state, GatherLimits::default()));
        while !self.subscribers.followed.is_followed() {
            tokio::time::sleep(TICK).await;
            if owned.cancelled.is_cancelled() {
                return Ok(());
            }
        }
        self.subscribers.complete().await?;
        let (outputs, mut made) = mpsc::channel::<Outputs>(4);
        // Dropped, they take with them what they do.
        let mut following = JoinSet::<Result<(), RoleError>>::new();
        let mut sending = JoinSet::<Attempt>::new();
        if partition == FIRST {
            let known = fan_out::positions(&owned, &self.codec, &self.topics).await?;
            let (fan_out, known) = (Arc::new(self.fan_out(outputs.clone())), Arc::new(known));
            for place in 0..self.topics.sources.len() {
                let (fan_out, known) = (fan_out.clone(), known.clone());
                following.spawn(async move { fan_out.follow(place, &known).await });
            }
        }
        let (read, mut batches) = mpsc::channel::<Vec<StoredRecord>>(1);
        let mut reader = owned.log.read(&self.topics.deliveries, &[(partition, end)]).await?;
        // Of its own: what a reader has begun to hand out must not be dropped with a turn of the loop.
        following.spawn(async move {
            loop {
                let records = reader.next(LIMIT, IDLE).await?.records;
                if !records.is_empty() && read.send(records).await.is_err() {
                    return Ok(());
                }
            }
        });
        tracing::debug!(partition, pending = queue.len(), "sending notifications");
        let _measured = Measured(&self.metrics, partition);
        let (mut next, mut saved_at) = (end, Instant::now());
        loop {
            self.metrics.pending(partition, queue.len());
            self.start(&mut queue, &state, &mut sending);
            let mut appends = Vec::new();
            let mut committed = Vec::new();
            tokio::select! {
                () = owned.cancelled.cancelled() => return Ok(()),
                () = tokio::time::sleep(wait(&queue)) => {}
                Some(records) = batches.recv() => {
                    let mut changes = Vec::new();
                    for stored in &records {
                        let news = deliveries::fold(&self.codec, stored, &mut changes).await?;
                        if let Some(news) = news {
                            news.tell(&mut queue);
                        }
                        next = stored.offset + 1;
                    }
                    state.take(changes, Some(next));
                }
                Some(outputs) = made.recv() => {
                    appends.extend(outputs.appends);
                    committed.push(outputs.committed);
                }
                Some(ended) = sending.join_next(), if !sending.is_empty() => {
                    let mut attempts = vec![ended.map_err(RoleError::other)?];
                    while let Some(Ok(ended)) = sending.try_join_next() {
                        attempts.push(ended);
                    }
                    for attempt in attempts {
                        appends.extend(self.came_to(attempt, &state).await?);
                    }
                }
                Some(ended) = following.join_next(), if !following.is_empty() => {
                    ended.map_err(RoleError::other)??;
                    return Err(RoleError::other("following the log has ended"));
                }
            }
            // A position that stays behind what is kept would look like records that were lost.
            let is_stale = input.next_offset() != next && saved_at.elapsed() >= SAVE_EVERY;
            if !appends.is_empty() || is_stale {
                saved_at = Instant::now();
                // What was written is read again like what others wrote.
                input.commit(appends, next).await?;
                for committed in committed {
                    // Whoever waited may be gone.
                    let _ = committed.send(());
                }
            }
            state.flush_due(|_| Ok(Vec::new())).await?;
        }
    }
}

/// Until something may be due.
fn wait(queue: &Queue) -> Duration {
    let now = Timestamp::now().as_millisecond();
    let due = queue.next_due().map_or(i64::MAX, |due| due.saturating_sub(now));
    let due = Duration::from_millis(u64::try_from(due).unwrap_or_default());
    due.clamp(Duration::from_millis(1), TICK)
}

impl Notifier {
    fn fan_out(&self, outputs: mpsc::Sender<Outputs>) -> FanOut {
        FanOut {
            log: self.log.clone(),
            codec: self.codec.clone(),
            topics: self.topics.clone(),
            options: self.options.clone(),
            subscribers: self.subscribers.clone(),
            outputs,
        }
    }

    /// Starts what is due, beside the loop.
    fn start(&self, queue: &mut Queue, state: &Arc<GatheredState>, sending: &mut JoinSet<Attempt>) {
        let (at_once, of_one) =
            (self.options.concurrency, self.options.concurrency_per_subscription);
        let now = Timestamp::now().as_millisecond();
        for (delivery, pending) in queue.start(now, at_once, of_one) {
            let (sender, codec, state) = (self.sender.clone(), self.codec.clone(), state.clone());
            let subscription = self.subscribers.get(pending.subscription);
            sending.spawn(async move {
                attempt(&sender, &codec, &state, (delivery, pending), subscription).await
            });
        }
    }

    /// What is written of an attempt.
    async fn came_to(
        &self,
        attempt: Attempt,
        state: &GatheredState,
    ) -> Result<Vec<Append>, RoleError> {
        let Attempt { delivery, pending, due, parent, answered, took } = attempt;
        let now = Timestamp::now();
        let number = pending.attempts + 1;
        let pause = i64::try_from(self.options.pause_after(number).as_millis()).unwrap_or(i64::MAX);
        let age = now.as_millisecond().saturating_sub(due.due_at);
        let is_late =
            age >= i64::try_from(self.options.give_up_after.as_millis()).unwrap_or(i64::MAX);
        let (outcome, reason) = match &answered {
            None => (DROPPED, None),
            Some(Answered { fault: None, .. }) => (DELIVERED, None),
            Some(answered) if answered.is_gone() => {
                (GIVEN_UP, Some("it answered 410: it is gone".to_owned()))
            }
            Some(Answered { fault: Some(fault), .. }) if is_late => {
                let arrived = state.get_all(vec![arrived_key(pending.subscription)]).await?;
                let arrived = arrived.into_values().next().flatten();
                let arrived = arrived.and_then(|at| at.try_into().ok()).map(i64::from_be_bytes);
                let nothing_arrived = arrived.is_none_or(|at| at < due.due_at);
                let reason = nothing_arrived
                    .then(|| format!("nothing arrived for {} s; in the end, {fault}", age / 1_000));
                (GIVEN_UP, reason)
            }
            Some(_) => (RETRYING, None),
        };
        self.metrics.attempted(outcome);
        let record = DeliveryAttemptedRecord {
            subscription_id: due.subscription_id.clone(),
            delivery_id: delivery.to_string(),
            event_id: due.event_id,
            event_type: due.event_type,
            subject: due.subject,
            owner: due.owner,
            due_at: due.due_at,
            attempt: i64::try_from(number).unwrap_or(i64::MAX),
            attempted_at: now.as_millisecond(),
            duration_ms: i64::try_from(took.as_millis()).unwrap_or(i64::MAX),
            outcome: outcome.to_owned(),
            status: answered.as_ref().and_then(|answered| answered.status).map(i32::from),
            detail: answered.and_then(|answered| answered.fault),
            next_attempt_at: (outcome == RETRYING)
                .then(|| now.as_millisecond().saturating_add(pause)),
        };
        let value = self.codec.encode(ATTEMPTED, &record).map_err(RoleError::other)?;
        let key = Bytes::from(due.subscription_id);
        let partition = self.subscribers.followed.partition_of(&key);
        let mut attempted = append(&self.topics.deliveries, partition, key.clone(), value, now);
        attempted.record.headers = traced::headers(parent.as_ref());
        let mut appends = vec![attempted];
        if let Some(reason) = reason {
            tracing::warn!(subscription = %pending.subscription, reason, "disabling a subscription");
            let command = self.disable(pending.subscription, &reason, now)?;
            let mut disabling = append(&self.topics.commands, partition, key, command, now);
            disabling.record.headers = traced::headers(parent.as_ref());
            appends.push(disabling);
        }
        Ok(appends)
    }

    fn disable(
        &self,
        subscription: Uuid,
        reason: &str,
        now: Timestamp,
    ) -> Result<Bytes, RoleError> {
        let command = CommandRecord::of_role(RoleCommand {
            caller: NOTIFIER,
            context: CONTEXT,
            aggregate_id: subscription.to_string(),
            verb: "disable",
            body: json!({ "reason": reason }).to_string(),
            issued_at: now.as_millisecond(),
        });
        self.codec.encode(COMMAND, &command).map_err(RoleError::other)
    }
}

async fn attempt(
    sender: &Sender,
    codec: &Codec,
    state: &GatheredState,
    (delivery, pending): (Uuid, Pending),
    subscription: Option<Arc<Knowledge>>,
) -> Attempt {
    let started = Instant::now();
    let (due, parent) = match read_due(codec, state, delivery).await {
        Ok(read) => read,
        Err(error) => {
            let fault = format!("what is to be sent cannot be read: {}", chain(&error));
            tracing::error!(%delivery, error = fault, "a notification is not sent");
            let answered = Some(Answered { status: None, fault: Some(fault) });
            let due = unreadable(delivery, pending);
            let (parent, took) = (None, started.elapsed());
            return Attempt { delivery, pending, due, parent, answered, took };
        }
    };
    let answered = match subscription.filter(|known| known.is_active()) {
        None => None,
        Some(known) => {
            let (id, body) = (pending.subscription, due.body.clone());
            let hop = sending(parent.clone(), &known, &due, pending);
            let answered = sender.send(id, &known, &due.event_id, body, hop.parent()).await;
            note(&hop, &answered);
            Some(answered)
        }
    };
    Attempt { delivery, pending, due, parent, answered, took: started.elapsed() }
}

/// What a webhook is to the trace of its event. Of its address only the host is told: the rest may let
/// somebody in.
fn sending(
    parent: Option<Parent>,
    known: &Knowledge,
    due: &DeliveryDueRecord,
    pending: Pending,
) -> Hop {
    let attributes = || {
        let mut all = vec![
            name::of(name::HTTP_REQUEST_METHOD, "POST"),
            name::of(name::SUBSCRIPTION_ID, pending.subscription.to_string()),
            name::text(name::EVENT_TYPE, &due.event_type),
        ];
        if let Ok(url) = reqwest::Url::parse(&known.subscription.url) {
            all.push(name::text(name::SERVER_ADDRESS, url.host_str().unwrap_or_default()));
            let port = url.port_or_known_default().unwrap_or_default();
            all.push(name::number(name::SERVER_PORT, port));
        }
        if pending.attempts > 0 {
            all.push(name::number(name::HTTP_RESEND_COUNT, pending.attempts));
        }
        all
    };
    almanac_traces::following(parent, SpanKind::Client, || "POST".to_owned(), attributes)
}

fn note(hop: &Hop, answered: &Answered) {
    let Some(span) = hop.span() else { return };
    if let Some(status) = answered.status {
        span.set(name::number(name::HTTP_RESPONSE_STATUS_CODE, status));
    }
    match (answered.status, &answered.fault) {
        (_, None) => {}
        (Some(status), Some(_)) => span.fail(status.to_string()),
        (None, Some(_)) => span.fail("unreachable"),
    }
}

/// What is due, and what it is traced in.
async fn read_due(
    codec: &Codec,
    state: &GatheredState,
    delivery: Uuid,
) -> Result<(DeliveryDueRecord, Option<Parent>), RoleError> {
    let (due, traced) = (due_key(delivery), traced_key(delivery));
    let mut found = state.get_all(vec![due.clone(), traced.clone()]).await?;
    let missing = || RoleError::other("local state does not have it");
    let value = found.remove(&due).flatten().ok_or_else(missing)?;
    let headers = found.remove(&traced).flatten().map(Bytes::from).and_then(Headers::from_encoded);
    let parent = headers.and_then(|headers| traced::parent_of(&headers));
    let read = codec.decode(&value).await.and_then(|decoded| decoded.read());
    Ok((read.map_err(RoleError::other)?, parent))
}

/// Stands for a delivery that cannot be read.
fn unreadable(delivery: Uuid, pending: Pending) -> DeliveryDueRecord {
    DeliveryDueRecord {
        subscription_id: pending.subscription.to_string(),
        delivery_id: delivery.to_string(),
        event_id: String::new(),
        event_type: String::new(),
        subject: None,
        owner: String::new(),
        due_at: pending.due_ms,
        body: String::new(),
    }
}

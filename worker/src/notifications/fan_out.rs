//! Matching new events with the subscriptions. The owner of the first partition of deliveries does it for
//! all: what it makes due, and how far it came in each topic of events, is committed together.

use super::{
    matching::{self, delivery_id},
    options::{NotificationOptions, NotificationTopics},
    subscribers::Subscribers,
};
use almanac_domain::subscriptions::Knowledge;
use almanac_event_log::{
    Append, EventLog, Headers, Isolation, Offset, ReadLimit, Record, StoredRecord, TopicId,
    partitioner::partition_of,
};
use almanac_processor::{Owned, RoleError, traced};
use almanac_schemas::{
    Codec,
    json::AnyJson,
    notifications::{
        Attributes, DUE, DeliveryDueRecord, FanOutPositionRecord, POSITION, Told, told,
    },
};
use bytes::Bytes;
use jiff::Timestamp;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

/// The partition of deliveries whose owner matches events.
pub(super) const FIRST: u32 = 0;
const LIMIT: ReadLimit = ReadLimit { records: 500, bytes: 4 << 20 };
const WAIT: Duration = Duration::from_secs(1);
/// What nobody is told of is passed over again after a crash: how far that was is written so often.
const SAVE_EVERY: Duration = Duration::from_secs(5);
/// Of one transaction, at most, with some room for the records themselves.
const MAX_APPENDS: usize = 200;

/// What is to be committed, and who waits for it.
pub(super) struct Outputs {
    pub(super) appends: Vec<Append>,
    pub(super) committed: oneshot::Sender<()>,
}

/// By topic without the prefix, and partition: id of the topic, and the next offset.
pub(super) type Positions = HashMap<(String, u32), (String, Offset)>;

/// Where an owner before came to.
pub(super) async fn positions(
    owned: &Owned,
    codec: &Codec,
    topics: &NotificationTopics,
) -> Result<Positions, RoleError> {
    let mut positions = Positions::new();
    let from = owned.log.start(&topics.state, FIRST).await?;
    let mut fold = owned.fold(&topics.state, from).await?;
    while let Some(records) = fold.next().await? {
        for stored in records {
            let Some(value) = &stored.record.value else { continue };
            let read = match codec.decode(value).await {
                Err(error) if error.is_outage() => return Err(RoleError::other(error)),
                decoded => decoded.and_then(|decoded| decoded.read::<FanOutPositionRecord>()),
            };
            let Ok(position) = read else {
                owned.pass_over(&stored);
                continue;
            };
            let partition = u32::try_from(position.partition).unwrap_or_default();
            let next = Offset::try_from(position.next_offset).unwrap_or_default();
            positions.insert((position.topic, partition), (position.topic_id, next));
        }
    }
    Ok(positions)
}

pub(super) struct FanOut {
    pub(super) log: Arc<dyn EventLog>,
    pub(super) codec: Arc<Codec>,
    pub(super) topics: NotificationTopics,
    pub(super) options: NotificationOptions,
    pub(super) subscribers: Arc<Subscribers>,
    pub(super) outputs: mpsc::Sender<Outputs>,
}

/// One topic of events.
struct Source<'a> {
    name: &'static str,
    topic: &'a Arc<str>,
    id: TopicId,
}

impl FanOut {
    /// Matches the events of the topic at this place until an error.
    pub(super) async fn follow(&self, place: usize, known: &Positions) -> Result<(), RoleError> {
        let Some((name, topic)) = self.topics.sources.get(place) else { return Ok(()) };
        let described = self.log.topic(topic).await?;
        let source = Source { name, topic, id: described.id };
        let (mut from, mut ends) = (Vec::new(), Vec::new());
        for partition in 0..described.partitions {
            let start = self.log.start(topic, partition).await?;
            let next = match known.get(&((*name).to_owned(), partition)) {
                Some((id, next)) if *id == described.id.to_string() => start.max(*next),
                // It was made again.
                Some(_) => start,
                // It is followed for the first time.
                None => {
                    let end = self.log.end(topic, partition, Isolation::Committed).await?;
                    ends.push((partition, end));
                    start
                }
            };
            from.push((partition, next));
        }
        // Where somebody subscribed before anything was matched, what happened since is told. Otherwise
        // whoever subscribes from now on does so behind these ends, and all before them is passed over.
        self.subscribers.complete().await?;
        if self.subscribers.active().is_empty() {
            let mut first = Vec::with_capacity(ends.len());
            for (partition, end) in ends {
                first.push(self.position(&source, partition, end)?);
                from[partition as usize].1 = end;
            }
            self.commit(first).await?;
        }
        let mut reader = self.log.read(topic, &from).await?;
        let (mut unsaved, mut saved_at) = (HashMap::<u32, Offset>::new(), Instant::now());
        loop {
            let batch = reader.next(LIMIT, WAIT).await?;
            let mut appends = Vec::new();
            if !batch.records.is_empty() {
                // Whoever subscribed before an event is told of it.
                self.subscribers.complete().await?;
                let active = self.subscribers.active();
                for stored in &batch.records {
                    unsaved.insert(stored.partition, stored.offset + 1);
                    appends.extend(self.due(&source, stored, &active).await?);
                    if appends.len() >= MAX_APPENDS {
                        appends.extend(self.positions(&source, &mut unsaved)?);
                        self.commit(std::mem::take(&mut appends)).await?;
                        saved_at = Instant::now();
                    }
                }
            }
            let is_time = !unsaved.is_empty() && saved_at.elapsed() >= SAVE_EVERY;
            if !appends.is_empty() || is_time {
                appends.extend(self.positions(&source, &mut unsaved)?);
                self.commit(appends).await?;
                saved_at = Instant::now();
            }
        }
    }

    /// The deliveries that an event makes due.
    async fn due(
        &self,
        source: &Source<'_>,
        stored: &StoredRecord,
        active: &[(Uuid, Arc<Knowledge>)],
    ) -> Result<Vec<Append>, RoleError> {
        let headers = &stored.record.headers;
        let attributes =
            Attributes::read(source.name, |name| headers.get_str(name), stored.record.timestamp_ms);
        let (Some(event), Some(value)) = (attributes, &stored.record.value) else {
            return Ok(Vec::new());
        };
        let now = Timestamp::now();
        if !matching::is_recent(&event, now, self.options.oldest)
            || !active.iter().any(|(_, known)| matching::may_be_told(&event, known))
        {
            return Ok(Vec::new());
        }
        let decoded = match self.codec.decode(value).await {
            Err(error) if error.is_outage() => return Err(RoleError::other(error)),
            decoded => decoded.and_then(|decoded| decoded.read::<AnyJson>()),
        };
        let Ok(AnyJson(data)) = decoded else {
            tracing::warn!(
                topic = %stored.topic, partition = stored.partition, offset = stored.offset,
                "passing over an event that cannot be read: nobody is told of it"
            );
            return Ok(Vec::new());
        };
        let mut appends = Vec::new();
        // Of what nobody is told there is nothing to trace.
        let mut hop = None;
        let header = |name: &str| headers.get_str(name).map(str::to_owned);
        for told in told(&event, header, data) {
            let mut text = None;
            for (id, known) in active {
                if known.created_at <= event.time && matching::matches(&told, known) {
                    let body = text.get_or_insert_with(|| told.text()).clone();
                    let hop = hop.get_or_insert_with(|| traced::processing(stored));
                    let headers = traced::headers(hop.parent());
                    let mut append = self.delivery(*id, known, &told, body, now)?;
                    append.record.headers = headers;
                    appends.push(append);
                }
            }
        }
        Ok(appends)
    }

    fn delivery(
        &self,
        subscription: Uuid,
        known: &Knowledge,
        told: &Told,
        body: String,
        now: Timestamp,
    ) -> Result<Append, RoleError> {
        let due = DeliveryDueRecord {
            subscription_id: subscription.to_string(),
            delivery_id: delivery_id(subscription, &told.event_id).to_string(),
            event_id: told.event_id.clone(),
            event_type: told.event_type.clone(),
            subject: told.subject().map(str::to_owned),
            owner: known.owner.clone(),
            due_at: now.as_millisecond(),
            body,
        };
        let value = self.codec.encode(DUE, &due).map_err(RoleError::other)?;
        let key = Bytes::from(due.subscription_id);
        let partition = partition_of(&key, self.topics.partitions);
        Ok(append(&self.topics.deliveries, partition, key, value, now))
    }

    fn positions(
        &self,
        source: &Source<'_>,
        unsaved: &mut HashMap<u32, Offset>,
    ) -> Result<Vec<Append>, RoleError> {
        unsaved.drain().map(|(partition, next)| self.position(source, partition, next)).collect()
    }

    fn position(
        &self,
        source: &Source<'_>,
        partition: u32,
        next: Offset,
    ) -> Result<Append, RoleError> {
        let position = FanOutPositionRecord {
            topic: source.name.to_owned(),
            topic_id: source.id.to_string(),
            partition: i32::try_from(partition).unwrap_or(i32::MAX),
            next_offset: i64::try_from(next).unwrap_or(i64::MAX),
        };
        let value = self.codec.encode(POSITION, &position);
        let value = value.map_err(RoleError::other)?;
        let key = Bytes::from(format!("{}/{partition}", source.topic));
        Ok(append(&self.topics.state, FIRST, key, value, Timestamp::now()))
    }

    /// Waits until it is committed: what is read on is behind it.
    async fn commit(&self, appends: Vec<Append>) -> Result<(), RoleError> {
        if appends.is_empty() {
            return Ok(());
        }
        let (committed, done) = oneshot::channel();
        let gone = || RoleError::other("the partition was given up");
        self.outputs.send(Outputs { appends, committed }).await.map_err(|_| gone())?;
        done.await.map_err(|_| gone())
    }
}

pub(super) fn append(
    topic: &Arc<str>,
    partition: u32,
    key: Bytes,
    value: Bytes,
    now: Timestamp,
) -> Append {
    let (headers, timestamp_ms) = (Headers::default(), now.as_millisecond());
    let record = Record { key, value: Some(value), headers, timestamp_ms };
    Append { topic: topic.clone(), partition, record }
}

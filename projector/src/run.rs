//! One run of an owner over its partition: what is read is folded, in order; and what operators want done
//! about keys that are set aside is done in between, by the same hand.

use crate::{
    announce::{self, Through},
    faults::{Failed, fault_of, guarded},
    mender::Mender,
    metrics::PartitionMetrics,
    projection::{Event, Folded},
    rebuild::{self, Orders},
    role::{Projector, now_ms},
    spans,
};
use almanac_errors::chain;
use almanac_event_log::{
    Append, Isolation, LogReader, Offset, ReadBatch, ReadLimit, Record, StoredRecord, TopicId,
};
use almanac_processor::{Owned, traced};
use almanac_read_store::{Change, Write};
use almanac_schemas::{
    CONSISTENCY_TOKEN,
    projections::{PARTITIONS_CHANGED, PartitionsChangedRecord},
};
use almanac_tables::{
    down::Down,
    parked::{self, Category, Fault, Parked},
    positions::{self, Position},
};
use almanac_traces::{Hop, Parent};
use bytes::Bytes;
use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};
use tokio::time::Instant;

pub(crate) struct Run<'a> {
    pub(crate) projector: &'a Projector,
    pub(crate) owned: Owned,
    pub(crate) topic_id: TopicId,
    /// Id of the tables that are written.
    pub(crate) tables: String,
    /// The keys that are set aside, by name.
    pub(crate) parked: HashMap<String, Parked>,
    /// Keys of which events were discarded, and that are not set aside any more.
    pub(crate) marks: HashMap<String, Parked>,
    /// Rows that are written again and again, by table, partition and clustering key: their bodies
    /// as this run wrote them last.
    pub(crate) known: HashMap<(String, String, String), Bytes>,
    /// Position of the newest command whose event was folded.
    pub(crate) token: Option<String>,
    /// What readers were told of it.
    pub(crate) told: Option<String>,
    /// The position as it is saved.
    pub(crate) written: Offset,
    pub(crate) metrics: &'a PartitionMetrics,
    /// Where the topic ended when this run began.
    pub(crate) end: Offset,
    /// Of all topics of the projection.
    pub(crate) partitions: u32,
    /// Of the events below the position, of a rebuild.
    pub(crate) digest: Option<String>,
    pub(crate) held_for: Option<i64>,
    /// Whether it goes on from where these tables were folded to before.
    pub(crate) is_resumed: bool,
    /// When the position was saved last: of two saves of one position the later stands.
    pub(crate) moved_at_ms: i64,
    /// Why it stands still, if it does or did when this run began.
    pub(crate) down: Option<Down>,
    /// What was read and is not folded because its first event stopped the projection.
    pub(crate) stopped: Option<Stopped>,
    pub(crate) mender: Mender,
    /// Whether a rebuild is to be as fast as it can.
    pub(crate) is_loading: bool,
    /// Generation of the newest partial rebuild of this partition.
    pub(crate) repairs: u16,
}

/// Events that wait, and until when.
pub(crate) struct Stopped {
    batch: ReadBatch,
    pub(crate) retry_at: Instant,
}

/// How far events were folded.
pub(crate) struct Reached {
    next_offset: Offset,
    /// The place of the event that stopped the projection, and why.
    pub(crate) stop: Option<(usize, Down)>,
}

/// Rows remembered before the memory is emptied: the days of ten years are 3,650.
const MAX_KNOWN: usize = 10_000;
/// How long a reader waits for news.
const WAIT: Duration = Duration::from_secs(5);
/// Once nothing came for so long, the position moves over what follows the last event: marks of
/// transactions. Readers hold it against the end of the topic.
const REST: Duration = Duration::from_millis(100);
/// While parked keys are mended, news are asked for between two turns.
const TURN: Duration = Duration::from_millis(5);
/// How often the end of the topic is asked for.
const LOOK: Duration = Duration::from_secs(5);

impl Run<'_> {
    pub(crate) fn limit(&self) -> ReadLimit {
        let options = &self.projector.options;
        match self.is_loading {
            true => ReadLimit { records: options.load_events, bytes: options.load_bytes },
            false => ReadLimit { records: options.batch_events, bytes: options.batch_bytes },
        }
    }

    pub(crate) async fn run(mut self, mut reader: Box<dyn LogReader>) -> Result<(), Failed> {
        let mut next_look = Instant::now();
        // Where the reader stands at the end of the topic, if that is behind what is saved.
        let mut at_end: Option<Offset> = None;
        let projector = self.projector;
        let _owning = projector.rebuilding.as_ref().map(|rebuilding| rebuilding.pace().own());
        loop {
            let orders = self.orders();
            if self.stands_still(&orders).await? {
                tokio::select! {
                    () = self.owned.cancelled.cancelled() => return Ok(()),
                    () = tokio::time::sleep(REST) => continue,
                }
            }
            // One turn for parked keys, one for what comes.
            if may_mend(&orders) {
                self.mend().await?;
            }
            self.is_loading = orders.is_loading;
            let mut limit = self.limit();
            if orders.events_per_s > 0 {
                limit.records = limit.records.min(orders.events_per_s as usize / 5).max(1);
            }
            if next_look <= Instant::now() {
                self.look_at_end().await;
                next_look = Instant::now() + LOOK;
            }
            let is_asked = at_end.is_some() || orders.is_under_way;
            let wait = match self.mender.is_at_work() {
                true => TURN,
                false if is_asked => REST,
                false => WAIT,
            };
            let is_again = self.stopped.is_some();
            let mut batch = match self.stopped.take() {
                None => match self.news(&mut *reader, limit, wait).await? {
                    Some(batch) => batch,
                    None => return Ok(()),
                },
                Some(stopped) if stopped.retry_at <= Instant::now() => stopped.batch,
                Some(stopped) => {
                    self.stopped = Some(stopped);
                    tokio::select! {
                        () = self.owned.cancelled.cancelled() => return Ok(()),
                        () = tokio::time::sleep(wait.min(REST)) => continue,
                    }
                }
            };
            let until = orders.until.unwrap_or(Offset::MAX);
            let is_beyond = batch.records.last().is_some_and(|last| last.offset >= until);
            batch.records.retain(|record| record.offset < until);
            if is_beyond && batch.records.is_empty() {
                self.save(until).await?;
                continue;
            }
            let is_at_end = !batch.at_end.is_empty();
            if let Some(last) = batch.records.last() {
                let next_offset = if is_beyond { until } else { last.offset + 1 };
                let (events, began) = (batch.records.len(), Instant::now());
                let hops = if is_again { Vec::new() } else { self.hops(&batch.records) };
                self.fold_batch(batch, next_offset, hops).await?;
                at_end = None;
                if !self.rest(self.next_at(events, &orders, began), &orders).await {
                    return Ok(());
                }
            } else if !is_at_end && let Some(position) = at_end.take() {
                self.save(position).await?;
            }
            if is_at_end && self.stopped.is_none() {
                self.went_well().await?;
                if let Some(position) = reader.position(0).map(|position| position.min(until))
                    && position > self.written
                {
                    // Everything below is folded, or nothing to fold.
                    self.metrics.update(|progress| progress.reach(position, None, now_ms()));
                    at_end = Some(position);
                }
            }
        }
    }

    /// What comes next. While nothing does, parked keys are mended as soon as somebody wants it. `None`
    /// once the partition is somebody else's.
    async fn news(
        &mut self,
        reader: &mut dyn LogReader,
        limit: ReadLimit,
        wait: Duration,
    ) -> Result<Option<ReadBatch>, Failed> {
        let cancelled = self.owned.cancelled.clone();
        // It is never dropped half-way: what it has taken of the log would be lost.
        let mut next = reader.next(limit, wait);
        loop {
            tokio::select! {
                biased;
                () = cancelled.cancelled() => return Ok(None),
                batch = &mut next => return Ok(Some(batch?)),
                () = self.mender.wanted() => {}
            }
            if may_mend(&self.orders()) {
                self.mend().await?;
            } else {
                // It is asked again before the next events.
                return Ok(Some(next.await?));
            }
        }
    }

    fn orders(&self) -> Orders {
        let rebuilding = self.projector.rebuilding.as_ref();
        let orders = rebuilding
            .map(|rebuilding| rebuilding.orders(&self.projector.source, self.owned.partition()));
        orders.unwrap_or_default()
    }

    /// When the events after these may be read.
    fn next_at(&self, events: usize, orders: &Orders, began: Instant) -> Instant {
        let now = Instant::now();
        self.projector.rebuilding.as_ref().map_or(now, |rebuilding| {
            let pace = rebuilding.pace();
            pace.folded(events, orders.events_per_s, self.partitions, (began, now))
        })
    }

    /// Until then, or until other orders come. False once the partition is somebody else's.
    async fn rest(&self, until: Instant, orders: &Orders) -> bool {
        let is_as_ordered = || {
            let now = self.orders();
            now.is_paused == orders.is_paused && now.events_per_s == orders.events_per_s
        };
        while Instant::now() < until && is_as_ordered() {
            tokio::select! {
                () = self.owned.cancelled.cancelled() => return false,
                () = tokio::time::sleep_until(until.min(Instant::now() + REST)) => {}
            }
        }
        true
    }

    /// Whether nothing is folded for now. While a rebuild is verified, its owners are told to stand
    /// still, and save that they do: what an earlier owner may have written beyond its position is
    /// folded by then.
    async fn stands_still(&mut self, orders: &Orders) -> Result<bool, Failed> {
        let is_done = orders.until.is_some_and(|until| self.written >= until);
        let must_reach = orders.until.map_or(self.end, |until| until.min(self.end));
        if orders.is_verifying && self.written >= must_reach {
            let hold = positions::hold(&*self.projector.store, &self.projector.source).await?;
            let held_for = hold.filter(|hold| hold.is_held).map(|hold| hold.number);
            if self.held_for != held_for {
                self.held_for = held_for;
                self.save(self.written).await?;
            }
        } else {
            self.held_for = None;
        }
        Ok(self.held_for.is_some() || orders.is_paused || is_done)
    }

    /// For the metrics alone: an outage is noticed by the reader.
    async fn look_at_end(&self) {
        let (topic, partition) = (self.projector.topics.source(), self.owned.partition());
        match self.owned.log.end(topic, partition, Isolation::Uncommitted).await {
            Ok(end) => self.metrics.update(|progress| progress.see_end(end, now_ms())),
            Err(error) => {
                tracing::debug!(error = %chain(&error), %topic, partition, "the end is not known")
            }
        }
    }

    async fn fold_batch(
        &mut self,
        mut batch: ReadBatch,
        end: Offset,
        hops: Vec<(usize, Hop)>,
    ) -> Result<(), Failed> {
        let times = batch.records.iter().map(|record| record.record.timestamp_ms);
        let (oldest, newest) = (times.clone().next(), times.last());
        self.metrics.update(|progress| {
            progress.see_end(end, now_ms());
            if let Some(oldest) = oldest {
                progress.see_event(oldest);
            }
        });
        let parent = hops.first().and_then(|(_, hop)| hop.parent()).cloned();
        let reached = self.fold(&batch.records, end, parent.as_ref()).await;
        spans::end(hops, batch.records.len(), reached.as_ref().ok());
        let Reached { next_offset, stop } = reached?;
        let folded = stop.as_ref().map_or(batch.records.len(), |(place, _)| *place);
        let left = match &stop {
            None => newest.filter(|_| batch.at_end.is_empty()),
            Some((place, _)) => batch.records.get(*place).map(|one| one.record.timestamp_ms),
        };
        let parked = self.parked.len();
        self.metrics.folded(folded);
        self.metrics.update(|progress| {
            progress.reach(next_offset, left, now_ms());
            progress.see_end(end, now_ms());
            progress.parked = parked;
        });
        match stop {
            None => self.went_well().await,
            Some((place, down)) => {
                batch.records.drain(..place);
                let retry_at = Instant::now() + self.projector.options.stopped_retry;
                self.stopped = Some(Stopped { batch, retry_at });
                self.go_down(down).await
            }
        }
    }

    async fn fold(
        &mut self,
        records: &[StoredRecord],
        end: Offset,
        parent: Option<&Parent>,
    ) -> Result<Reached, Failed> {
        let mut folded = Folded::default();
        let mut aside = BTreeSet::new();
        let mut reached = Reached { next_offset: end, stop: None };
        for (place, record) in records.iter().enumerate() {
            let key = &record.record.key;
            // Every event is of somebody: one without a key is a stranger's, and there is nothing to park.
            if key.is_empty() {
                self.owned.pass_over(record);
                self.took(record);
                continue;
            }
            if !self.parked.is_empty()
                && let Some(parked) = self.parked.get_mut(&*parked::name(key))
            {
                parked.pass_over(record.offset);
                aside.insert(parked.name.clone());
                self.took(record);
                continue;
            }
            match self.fold_one(record, 0).await? {
                Ok(one) => {
                    folded.index.extend(one.index);
                    folded.own.extend(one.own);
                }
                Err(fault) => match self.park(record, &fault) {
                    Ok(name) => drop(aside.insert(name)),
                    Err(down) => {
                        reached.next_offset = record.offset;
                        reached.stop = Some((place, down));
                        break;
                    }
                },
            }
            self.took(record);
        }
        for name in &aside {
            if let Some(parked) = self.parked.get(name) {
                folded.index.push(parked.write(&self.projector.source)?);
            }
        }
        self.drop_known(&mut folded.index);
        self.write(folded, reached.next_offset, parent).await?;
        self.save(reached.next_offset).await?;
        Ok(reached)
    }

    /// An event is folded, or passed over.
    fn took(&mut self, record: &StoredRecord) {
        if self.projector.rebuilding.is_some() {
            let (key, value) = (&record.record.key, record.record.value.as_deref());
            let datum = rebuild::datum(value.unwrap_or_default());
            self.digest = Some(rebuild::chained(self.digest.as_deref(), key, datum));
        }
        if record.record.key.is_empty() {
            return;
        }
        if let Some(token) = record.record.headers.get_str(CONSISTENCY_TOKEN) {
            self.token = Some(token.to_owned());
        }
    }

    /// Rows, then the change feed: everything below `position` is in the tables by then.
    pub(crate) async fn write(
        &mut self,
        folded: Folded,
        position: Offset,
        parent: Option<&Parent>,
    ) -> Result<(), Failed> {
        let is_news = self.told != self.token;
        let layout = self.projector.projection.layout();
        let changed = announce::changes(layout, &folded)?;
        let announcements = match changed.is_empty() && !is_news {
            true => Vec::new(),
            false => {
                let folded_through = Through {
                    topic: self.projector.topics.source(),
                    partition: self.owned.partition(),
                    position,
                    token: self.token.as_deref(),
                    tables: &self.tables,
                };
                announce::records(&self.projector.source, &changed, &folded_through)
            }
        };
        let store = &self.projector.store;
        for writes in [folded.index, folded.own] {
            match self.is_loading {
                true => store.load(writes).await?,
                false => store.write(writes).await?,
            }
        }
        self.announce(&announcements, parent).await?;
        self.told.clone_from(&self.token);
        Ok(())
    }

    /// Everything below `next_offset` is folded and told.
    pub(crate) async fn save(&mut self, next_offset: Offset) -> Result<(), Failed> {
        self.moved_at_ms = now_ms().max(self.moved_at_ms + 1);
        let position = Position {
            topic_id: self.topic_id,
            next_offset,
            consistency_token: self.token.clone(),
            moved_at_ms: Some(self.moved_at_ms),
            digest: self.digest.clone(),
            held_for: self.held_for,
            repairs: self.repairs,
        };
        let write = positions::write(&self.projector.source, self.owned.partition(), &position)?;
        self.projector.store.write(vec![write]).await?;
        self.written = next_offset;
        Ok(())
    }

    /// The inner error is the event's fault, the outer one an outage.
    pub(crate) async fn fold_one(
        &self,
        record: &StoredRecord,
        repair: u16,
    ) -> Result<Result<Folded, Fault>, Failed> {
        let event = |detail: String| Fault { category: Category::Event, detail };
        let Some(value) = &record.record.value else {
            return Ok(Err(event("a fact cannot be a tombstone".to_owned())));
        };
        let options = &self.projector.options;
        let mut attempt = 1;
        let decoded = loop {
            match self.projector.codec.decode(value).await {
                Ok(decoded) => break decoded,
                Err(error) if error.is_outage() => return Err(Failed::Registry(error)),
                Err(error) => {
                    let fault = fault_of(&error);
                    // All else is a function of the event: to try again changes nothing.
                    if fault.category != Category::Schema || attempt >= options.schema_attempts {
                        return Ok(Err(fault));
                    }
                    attempt += 1;
                    tokio::time::sleep(options.schema_pause).await;
                }
            }
        };
        let (partition, position) = (record.partition, record.offset);
        let folded = {
            let of = Event { decoded: &decoded, partition, position, repair };
            guarded(&*self.projector.projection, &of)
        };
        let folded = match folded {
            Ok(folded) => folded,
            Err(fault) => return Ok(Err(fault)),
        };
        // A row that the store never takes would hold up all other keys.
        let mut writes = folded.index.iter().chain(&folded.own);
        match writes.try_for_each(Write::check) {
            Ok(()) => Ok(Ok(folded)),
            Err(error) => Ok(Err(event(chain(&error).to_string()))),
        }
    }

    /// Drops writes of what stands in its row already.
    fn drop_known(&mut self, writes: &mut Vec<Write>) {
        if self.known.len() > MAX_KNOWN {
            self.known.clear();
        }
        let layout = self.projector.projection.layout();
        writes.retain(|write| match &write.change {
            Change::Put { partition, clustering, body, .. } if layout.is_repeated(&write.table) => {
                let table = write.table.name().to_owned();
                let row = (table, partition.clone(), clustering.clone());
                self.known.insert(row, body.clone()).as_ref() != Some(body)
            }
            _ => true,
        });
    }

    async fn announce(
        &self,
        changes: &[PartitionsChangedRecord],
        parent: Option<&Parent>,
    ) -> Result<(), Failed> {
        let mut appends = Vec::with_capacity(changes.len());
        for changed in changes {
            let value = self.projector.codec.encode(PARTITIONS_CHANGED, changed);
            let record = Record {
                key: changed.projection.clone().into(),
                value: Some(value.map_err(Failed::Registry)?),
                headers: traced::headers(parent),
                timestamp_ms: now_ms(),
            };
            let topic = self.projector.topics.changes().clone();
            appends.push(Append { topic, partition: self.owned.partition(), record });
        }
        if !appends.is_empty() {
            self.owned.log.append(appends).await?;
        }
        Ok(())
    }
}

/// While rows are compared nobody writes any.
fn may_mend(orders: &Orders) -> bool {
    !orders.is_verifying && !orders.is_paused
}

//! Keys that are set aside, folded again because an operator wants it; and partial rebuilds.
//!
//! Whoever owns the partition does it, in turns between the events that come, so that nobody else writes
//! the rows of a key. All that lies behind the position is passed over for as long as the key is set aside;
//! so the events from the first one that is missing up to the position are read once more, a batch at a
//! time, and those of the wanted keys folded. What came meanwhile is read last, in one go: then nothing lies
//! between what was folded again and what comes next, and the key is let go there. Whatever interrupts it,
//! the request is open, and whoever owns the partition next begins it anew; rows have the timestamps of
//! their events, so that folding them twice changes nothing.
//!
//! A partial rebuild folds the events of a key, of a source or of all once more up to the position, in the same
//! turns. Its rows have the timestamps of their events and a generation of repairs that no attempt before it
//! had: they win over rows of the same events, and lose to those of later ones. Where the events of a key lie,
//! the rows of its history say; if they do not say it of all, the partition is read from its start.

use crate::{faults::Failed, projection::Folded, run::Run};
use almanac_domain::operations::{Mending, Outcome, Remedy, Target};
use almanac_event_log::{LogReader, Offset, StoredRecord};
use almanac_operations::{Known, Operations};
use almanac_tables::parked::{self, Fault};
use parking_lot::Mutex;
use std::{
    collections::{HashMap, HashSet, VecDeque},
    ops::Range,
    sync::Arc,
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// Header with the CloudEvents source of an event.
const SOURCE: &str = "ce_source";
/// How long a batch is waited for.
pub(crate) const WAIT: Duration = Duration::from_secs(1);
/// What timestamps have room for.
const MAX_REPAIRS: u16 = 511;
/// A partial rebuild of which so many keys cannot be folded ends.
const MAX_FAILED: usize = 100;
/// A report of which nothing is seen is made again.
const AGAIN: Duration = Duration::from_secs(10);

pub(crate) struct Mender {
    operations: Option<Arc<Operations>>,
    changes: Option<watch::Receiver<Arc<Known>>>,
    /// What there is may not have been looked at.
    has_news: bool,
    /// Locked by nobody but through the owner: a reader of the log is not for several threads at once, and
    /// the owner is looked at from several.
    work: Mutex<Option<Work>>,
    /// Requests that are reported, and when.
    reported: HashMap<String, Instant>,
}

/// One request, as far as this partition is concerned.
struct Work {
    request: Arc<Mending>,
    targets: Vec<Target>,
    /// Of each key, the first event to fold.
    from: HashMap<String, Offset>,
    failed: HashMap<String, (Offset, Fault)>,
    /// What is known without reading anything.
    settled: Vec<(Target, Outcome)>,
    reader: Option<Box<dyn LogReader>>,
    /// What a partial rebuild reads after that.
    ranges: VecDeque<Range<Offset>>,
    /// Everything below is read once `reader` is at its end.
    until: Offset,
    /// It has read all that was there when it began: nothing comes between any more.
    is_closing: bool,
    /// Generation of a partial rebuild.
    repair: Option<u16>,
    /// Events that were folded.
    events: u64,
}

impl Work {
    fn new(
        request: Arc<Mending>,
        targets: Vec<Target>,
        settled: Vec<(Target, Outcome)>,
        until: Offset,
    ) -> Self {
        Self {
            request,
            targets,
            from: HashMap::new(),
            failed: HashMap::new(),
            settled,
            reader: None,
            ranges: VecDeque::new(),
            until,
            is_closing: false,
            repair: None,
            events: 0,
        }
    }

    /// Whether an event is one of those that a partial rebuild folds.
    fn repairs(&self, name: &str, source: Option<&str>) -> bool {
        self.targets.iter().any(|target| {
            (target.key.is_empty() || target.key == name)
                && (target.source.is_none() || target.source.as_deref() == source)
        })
    }
}

impl Mender {
    pub(crate) fn new(operations: Option<&Arc<Operations>>) -> Self {
        let changes = operations.map(|operations| operations.changes());
        Self {
            operations: operations.cloned(),
            changes,
            has_news: true,
            work: Mutex::new(None),
            reported: HashMap::new(),
        }
    }

    pub(crate) fn is_at_work(&mut self) -> bool {
        self.work.get_mut().is_some()
    }

    /// Resolves when there may be something to do.
    pub(crate) async fn wanted(&mut self) {
        if self.is_at_work() || self.has_news {
            return;
        }
        let due = self.reported.values().min().map(|at| *at + AGAIN);
        let due = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let changed = async {
            // Of a sender that is gone nothing comes.
            let is_changed = match &mut self.changes {
                Some(changes) => changes.changed().await.is_ok(),
                None => false,
            };
            if !is_changed {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = changed => {}
            () = due => {}
        }
        self.has_news = true;
    }

    /// The first request that wants something of this partition and is not reported.
    fn next(&mut self, is_ours: impl Fn(&Target) -> bool) -> Option<(Arc<Mending>, Vec<Target>)> {
        let is_due = self.reported.values().any(|at| at.elapsed() >= AGAIN);
        let is_changed =
            self.changes.as_ref().is_some_and(|changes| changes.has_changed().unwrap_or_default());
        if !self.has_news && !is_changed && !is_due {
            return None;
        }
        self.reported.retain(|_, at| at.elapsed() < AGAIN);
        self.has_news = false;
        let known = self.changes.as_mut()?.borrow_and_update().clone();
        let mut open: Vec<&Arc<Mending>> = known.open_mendings().collect();
        open.sort_by(|one, other| {
            (one.requested_at, &one.id).cmp(&(other.requested_at, &other.id))
        });
        self.reported.retain(|id, _| open.iter().any(|one| one.id == *id));
        for one in open {
            let wanted = one.targets.iter().filter(|(_, outcome)| outcome.is_none());
            let targets: Vec<Target> =
                wanted.map(|(target, _)| target).filter(|one| is_ours(one)).cloned().collect();
            if !targets.is_empty() && !self.reported.contains_key(&one.id) {
                // There may be others.
                self.has_news = true;
                return Some((one.clone(), targets));
            }
        }
        None
    }
}

impl Run<'_> {
    /// One turn: begins what is wanted, or goes on with what was begun.
    pub(crate) async fn mend(&mut self) -> Result<(), Failed> {
        let work = match self.mender.work.get_mut().take() {
            Some(work) => work,
            None => match self.wanted() {
                Some((request, targets)) => self.begin(request, targets).await?,
                None => return Ok(()),
            },
        };
        self.turn(work).await
    }

    fn wanted(&mut self) -> Option<(Arc<Mending>, Vec<Target>)> {
        let (source, partition) = (self.projector.source, self.owned.partition());
        let edition = source.edition.to_string();
        self.mender.next(|target| {
            target.projection == source.projection
                && target.edition == edition
                && target.topic == source.topic
                && target.partition == partition
        })
    }

    async fn begin(&mut self, request: Arc<Mending>, targets: Vec<Target>) -> Result<Work, Failed> {
        if request.remedy == Remedy::Repair {
            return self.begin_repair(request, targets).await;
        }
        let (mut from, mut settled) = (HashMap::new(), Vec::new());
        for target in &targets {
            match self.parked.get(&target.key) {
                // An owner before did it, and did not come to report.
                None => settled.push((target.clone(), Outcome::Succeeded)),
                // What the operator saw is behind it: of this event he has decided nothing.
                Some(parked) if parked.offset() != target.offset => {
                    let why =
                        format!("parked again at offset {}: {}", parked.offset(), parked.fault());
                    settled.push((target.clone(), Outcome::Failed(why)));
                }
                Some(parked) => {
                    let first = match request.remedy {
                        Remedy::Discard => parked.offset() + 1,
                        Remedy::Redrive | Remedy::Repair => parked.offset(),
                    };
                    from.insert(target.key.clone(), first);
                }
            }
        }
        let until = self.written;
        let reader = match from.values().min() {
            Some(first) if *first < until => Some(self.events(*first, until).await?),
            _ => None,
        };
        tracing::info!(
            request = request.id, action = request.remedy.as_str(), projection = self.projector.source.projection,
            topic = %self.projector.topics.source(), partition = self.owned.partition(),
            keys = from.len(), until, "mending parked keys"
        );
        Ok(Work { from, reader, ..Work::new(request, targets, settled, until) })
    }

    async fn begin_repair(
        &mut self,
        request: Arc<Mending>,
        targets: Vec<Target>,
    ) -> Result<Work, Failed> {
        let until = self.written;
        let refused = |why: &str| Outcome::Failed(why.to_owned());
        if self.repairs >= MAX_REPAIRS {
            let why = refused("it was repaired 511 times: rebuild the projection");
            let settled = targets.into_iter().map(|target| (target, why.clone())).collect();
            return Ok(Work::new(request, Vec::new(), settled, until));
        }
        let is_parked = |target: &Target| self.parked.contains_key(&target.key);
        let (settled, targets): (Vec<_>, Vec<_>) = targets.into_iter().partition(is_parked);
        let why = refused("it is set aside: redrive it");
        let settled = settled.into_iter().map(|target| (target, why.clone())).collect();
        // Another owner may have begun, and may still write.
        self.repairs += 1;
        self.save(self.written).await?;
        let (topic, partition) = (self.projector.topics.source(), self.owned.partition());
        let places = match &targets[..] {
            [one] if !one.key.is_empty() => self.places(&one.key, until).await?,
            _ => None,
        };
        let is_whole = places.is_none();
        let ranges = match places {
            Some(places) => places.into(),
            None => {
                let start = self.owned.log.start(topic, partition).await?;
                let first = targets.iter().map(|target| target.offset.max(start)).min();
                first.filter(|first| *first < until).map(|first| first..until).into_iter().collect()
            }
        };
        tracing::info!(
            request = request.id, projection = self.projector.source.projection, %topic, partition,
            generation = self.repairs, until, is_whole, "repairing rows"
        );
        let repair = Some(self.repairs);
        Ok(Work { ranges, repair, ..Work::new(request, targets, settled, until) })
    }

    pub(crate) async fn events(
        &self,
        from: Offset,
        until: Offset,
    ) -> Result<Box<dyn LogReader>, Failed> {
        let (topic, partition) = (self.projector.topics.source(), self.owned.partition());
        Ok(self.owned.log.read_to(topic, partition, from, until).await?)
    }

    async fn turn(&mut self, mut work: Work) -> Result<(), Failed> {
        let cancelled = self.owned.cancelled.clone();
        loop {
            let Some(reader) = &mut work.reader else {
                if let Some(range) = work.ranges.pop_front() {
                    work.reader = Some(self.events(range.start, range.end).await?);
                    continue;
                }
                if work.until >= self.written || work.from.is_empty() {
                    return self.complete(work).await;
                }
                work.reader = Some(self.events(work.until, self.written).await?);
                (work.until, work.is_closing) = (self.written, true);
                continue;
            };
            let limit = self.limit();
            let batch = tokio::select! {
                () = cancelled.cancelled() => return Ok(()),
                batch = reader.next(limit, WAIT) => batch?,
            };
            if !batch.at_end.is_empty() {
                work.reader = None;
            }
            self.fold_again(&mut work, &batch.records).await?;
            if !work.is_closing {
                *self.mender.work.get_mut() = Some(work);
                return Ok(());
            }
        }
    }

    async fn fold_again(
        &mut self,
        work: &mut Work,
        records: &[StoredRecord],
    ) -> Result<(), Failed> {
        let mut folded = Folded::default();
        for record in records {
            let name = parked::name(&record.record.key);
            let is_wanted = match work.repair {
                None => work.from.get(&*name).is_some_and(|from| *from <= record.offset),
                // What is set aside is for a redrive.
                Some(_) => {
                    work.repairs(&name, record.record.headers.get_str(SOURCE))
                        && self.parked.get(&*name).is_none_or(|one| record.offset < one.offset())
                }
            };
            if !is_wanted || record.record.key.is_empty() || work.failed.contains_key(&*name) {
                continue;
            }
            match self.fold_one(record, work.repair.unwrap_or_default()).await? {
                Ok(one) => {
                    work.events += 1;
                    folded.index.extend(one.index);
                    folded.own.extend(one.own);
                }
                Err(fault) => drop(work.failed.insert(name.into_owned(), (record.offset, fault))),
            }
        }
        if work.repair.is_some() && work.failed.len() >= MAX_FAILED {
            work.reader = None;
            work.ranges.clear();
        }
        if folded.index.is_empty() && folded.own.is_empty() {
            return Ok(());
        }
        // These rows may be others than were written last.
        self.known.clear();
        self.write(folded, self.written, None).await
    }

    /// All up to the position is folded: the keys are let go, or stay set aside from the event on that still
    /// cannot be folded.
    async fn complete(&mut self, work: Work) -> Result<(), Failed> {
        let (source, position) = (self.projector.source, self.written);
        let is_discard = work.request.remedy == Remedy::Discard;
        let (mut folded, mut outcomes) = (Folded::default(), work.settled);
        if work.repair.is_some() {
            outcomes.extend(repaired(&work.targets, &work.failed, work.events));
            return self.report(&work.request, outcomes).await;
        }
        let settled: HashSet<Target> = outcomes.iter().map(|(target, _)| target.clone()).collect();
        let (mut parked, mut mended) = (Vec::new(), Vec::new());
        for target in work.targets.into_iter().filter(|target| !settled.contains(target)) {
            let Some(mut one) = self.parked.get(&target.key).cloned() else { continue };
            if is_discard {
                one.discard();
            }
            match work.failed.get(&target.key) {
                Some((offset, fault)) => {
                    one.fail_at(*offset, fault);
                    folded.index.push(one.write(&source)?);
                    parked.push(one);
                    let why = format!("offset {offset}: {}", fault.detail);
                    outcomes.push((target, Outcome::Failed(why)));
                }
                None => {
                    let (one, write) = one.mended(&source, position)?;
                    folded.index.push(write);
                    mended.push(one);
                    outcomes.push((target, Outcome::Succeeded));
                }
            }
        }
        if !folded.index.is_empty() {
            self.write(folded, position, None).await?;
        }
        for one in parked {
            self.parked.insert(one.name.clone(), one);
        }
        for one in mended {
            self.parked.remove(&one.name);
            if !one.discarded().is_empty() {
                self.marks.insert(one.name.clone(), one);
            }
        }
        let left = self.parked.len();
        self.metrics.update(|progress| progress.parked = left);
        if let Some(stopped) = &mut self.stopped {
            // There may be room now.
            stopped.retry_at = Instant::now();
        }
        self.report(&work.request, outcomes).await
    }

    async fn report(
        &mut self,
        request: &Mending,
        outcomes: Vec<(Target, Outcome)>,
    ) -> Result<(), Failed> {
        let succeeded =
            outcomes.iter().filter(|(_, outcome)| *outcome == Outcome::Succeeded).count();
        tracing::info!(
            request = request.id, action = request.remedy.as_str(),
            projection = self.projector.source.projection, topic = %self.projector.topics.source(),
            partition = self.owned.partition(), succeeded, failed = outcomes.len() - succeeded,
            "mended"
        );
        if let Some(operations) = &self.mender.operations {
            operations.report(&request.id, outcomes).await?;
        }
        self.mender.reported.insert(request.id.clone(), Instant::now());
        Ok(())
    }
}

/// What came of each part of a partial rebuild.
fn repaired(
    targets: &[Target],
    failed: &HashMap<String, (Offset, Fault)>,
    events: u64,
) -> Vec<(Target, Outcome)> {
    let outcome = |target: &Target| {
        let of_it = failed.iter().filter(|(name, _)| target.key.is_empty() || target.key == **name);
        match of_it.map(|(name, (offset, fault))| (offset, name, fault)).min_by_key(|one| one.0) {
            Some((offset, name, fault)) => {
                Outcome::Failed(format!("{name} at offset {offset}: {}", fault.detail))
            }
            None if events == 0 && !target.key.is_empty() => {
                Outcome::Failed("no event of it lies in the topic".to_owned())
            }
            None => Outcome::Succeeded,
        }
    };
    targets.iter().map(|target| (target.clone(), outcome(target))).collect()
}

//! Compares a whole body with what its provider said last. Pure reading: what it leads to waits in
//! an outbox, and nothing of a body that turns out bad is ever written.

use crate::{
    config::{FeedSettings, IngestOptions},
    entry::{self, Entry},
    fever_plans::{self, BodyError, Fault, FeedItem, Place},
    outbox::{Outbox, Step},
};
use almanac_domain::plans::{Knowledge, Plan, PlanEvent, PlanFact, PlanIdentity, decide, delist};
use almanac_errors::Cause;
use almanac_processor::{LocalState, StateError};
use almanac_schemas::{
    Codec, CodecError,
    ingest::{ProviderStateRecord, QUARANTINED, QuarantinedRecord},
    plans::{PlanEncoder, PlanRecord},
};
use jiff::Timestamp;
use std::{collections::BTreeSet, io::BufRead, sync::mpsc, time::Duration};
use uuid::Uuid;

/// CloudEvents types by [`Step::Plan`]'s `kind`.
pub(crate) const PLAN_EVENTS: [&str; 4] =
    ["plan.listed", "plan.changed", "plan.delisted", "plan.relisted"];

/// Faults that an observation names; quarantine holds all.
const NAMED_FAULTS: usize = 20;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) listed: u64,
    pub(crate) changed: u64,
    pub(crate) delisted: u64,
    pub(crate) relisted: u64,
    pub(crate) quarantined: u64,
}

impl Counts {
    pub(crate) fn events(&self) -> u64 {
        self.listed + self.changed + self.delisted + self.relisted
    }
}

pub(crate) struct Comparison {
    pub(crate) outbox: Outbox,
    pub(crate) counts: Counts,
    pub(crate) faults: Vec<Fault>,
    /// Why the body is implausible; then the outbox is empty.
    pub(crate) suspect: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum CompareError {
    /// The body's fault.
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("cannot spool what a body leads to")]
    Spool(#[from] std::io::Error),
    #[error("local state of plan {id} is damaged")]
    Damaged { id: Uuid, source: Cause },
    #[error("the parser of the body panicked: {0}")]
    ParserPanicked(String),
}

pub(crate) struct Context<'a> {
    pub(crate) settings: &'a FeedSettings,
    pub(crate) options: &'a IngestOptions,
    pub(crate) state: &'a LocalState,
    pub(crate) provider: &'a ProviderStateRecord,
    pub(crate) codec: &'a Codec,
    pub(crate) encoder: &'a PlanEncoder,
    pub(crate) now: Timestamp,
    pub(crate) payload_id: &'a str,
    /// What the body's Content-Type said of its encoding.
    pub(crate) charset: Option<&'a str>,
    /// Off for a body that was published before: its faults are in quarantine already.
    pub(crate) record_faults: bool,
}

/// Items handed from the parser to the comparison at once, and how many such batches may wait.
const BATCH: usize = 256;
const WAITING_BATCHES: usize = 8;
/// A batch is handed on with fewer items when these are large.
const BATCH_BYTES: usize = 256 << 10;

/// Blocks: reads the body and the local state. The parser has a thread of its own, so that a large
/// body takes the longer of the two works and not their sum.
pub(crate) fn compare(
    body: impl BufRead + Send,
    context: &Context<'_>,
) -> Result<Comparison, CompareError> {
    let mut run = Run {
        context,
        outbox: Outbox::new(&context.options.spool_dir()),
        counts: Counts::default(),
        faults: Vec::new(),
        first_unrecorded: None,
        seen: Bits::default(),
        plans: context.provider.plans.max(0) as u64,
        known_listed_seen: 0,
    };
    let (items, waiting) = mpsc::sync_channel::<Vec<FeedItem>>(WAITING_BATCHES);
    std::thread::scope(|scope| {
        let parsing = scope.spawn(move || parse(body, context, &items));
        for item in waiting.iter().flatten() {
            // Returning drops the channel, which ends the parser.
            run.take(item)?;
        }
        let parsed = parsing.join().map_err(|panic| {
            CompareError::ParserPanicked(almanac_processor::supervise::message(&*panic))
        })?;
        Ok::<_, CompareError>(parsed?)
    })?;
    run.finish()
}

/// Nothing that is handed out may be believed before this returns `Ok`.
fn parse(
    body: impl BufRead,
    context: &Context<'_>,
    items: &mpsc::SyncSender<Vec<FeedItem>>,
) -> Result<(), BodyError> {
    let nobody_listens =
        |_| BodyError::Io { place: Place::default(), source: "the comparison ended".into() };
    let (mut batch, mut bytes) = (Vec::with_capacity(BATCH), 0);
    fever_plans::read(body, context.charset, context.settings, &mut |item| {
        bytes += item.size();
        batch.push(item);
        if batch.len() < BATCH && bytes < BATCH_BYTES {
            return Ok(());
        }
        bytes = 0;
        let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
        items.send(full).map_err(nobody_listens)
    })?;
    items.send(batch).map_err(nobody_listens)
}

struct Run<'c, 'a> {
    context: &'c Context<'a>,
    outbox: Outbox,
    counts: Counts,
    faults: Vec<Fault>,
    /// Where the first stands that was only counted.
    first_unrecorded: Option<Place>,
    /// Ordinals of the plans in this body.
    seen: Bits,
    plans: u64,
    /// Plans that were listed before and are in this body.
    known_listed_seen: u64,
}

impl Run<'_, '_> {
    fn take(&mut self, item: FeedItem) -> Result<(), CompareError> {
        match item {
            FeedItem::Plan { plan, place } => self.take_plan(*plan, place),
            FeedItem::Fault { fault, plan } => {
                // A plan that is refused while known keeps its last good state: it is not gone.
                if let Some(identity) = plan {
                    self.mark_seen(&identity)?;
                }
                self.take_fault(fault)
            }
        }
    }

    fn take_plan(&mut self, plan: Plan, place: Place) -> Result<(), CompareError> {
        let id = plan.identity.public_id();
        let stored = self.context.state.get(&entry::plan_key(&plan.identity.provider, id))?;
        let known = stored.as_ref().map(|bytes| self.entry(id, bytes)).transpose()?;
        let (ordinal, is_first) = match &known {
            Some(known) => (known.ordinal, self.seen.insert(known.ordinal)),
            None => self.new_ordinal(id),
        };
        if !is_first {
            let subject = format!("plan {}/{}", plan.identity.base_plan_id, plan.identity.plan_id);
            let reason = "it stands in the body before; the first counts".to_owned();
            return self.take_fault(Fault { place, subject, reason, fragment: String::new() });
        }
        let mut text = Uuid::encode_buffer();
        let record = PlanRecord::from_domain(&plan, id.hyphenated().encode_lower(&mut text));
        let plan_bytes = self.context.encoder.plan(&record)?;
        if let Some(known) = &known
            && known.listed
        {
            self.known_listed_seen += 1;
            if known.plan_bytes == plan_bytes {
                return Ok(());
            }
        }
        let knowledge = match &known {
            Some(known) => Some(self.knowledge(id, known)?),
            None => None,
        };
        match decide(knowledge.as_ref(), plan, self.context.now) {
            Some(event) => self.emit(id, ordinal, &event, &plan_bytes),
            None => Ok(()),
        }
    }

    /// New plans are numbered on. Also says whether this body names the plan for the first time.
    fn new_ordinal(&mut self, id: Uuid) -> (u64, bool) {
        let ordinal = self.plans;
        let is_first = self.seen.fresh.insert(id);
        if is_first {
            self.seen.insert(ordinal);
            self.plans += 1;
        }
        (ordinal, is_first)
    }

    /// An entry of local state. Its number is below that of plans so far: one that is not would make
    /// memory of any size for a single plan.
    fn entry<'b>(&self, id: Uuid, bytes: &'b [u8]) -> Result<Entry<'b>, CompareError> {
        let known = Entry::read(bytes).filter(|known| known.ordinal < self.plans);
        known.ok_or_else(|| CompareError::Damaged { id, source: "it is no entry".into() })
    }

    fn knowledge(&self, id: Uuid, known: &Entry<'_>) -> Result<Knowledge, CompareError> {
        let known = known.knowledge(self.context.encoder);
        known.map_err(|error| CompareError::Damaged { id, source: error.into() })
    }

    fn mark_seen(&mut self, identity: &PlanIdentity) -> Result<(), CompareError> {
        let id = identity.public_id();
        let stored = self.context.state.get(&entry::plan_key(&identity.provider, id))?;
        let Some(bytes) = stored else { return Ok(()) };
        let known = self.entry(id, &bytes)?;
        if self.seen.insert(known.ordinal) && known.listed {
            self.known_listed_seen += 1;
        }
        Ok(())
    }

    fn take_fault(&mut self, fault: Fault) -> Result<(), CompareError> {
        self.counts.quarantined += 1;
        if self.counts.quarantined <= self.context.options.max_quarantined {
            self.quarantine(&fault)?;
        } else {
            self.first_unrecorded.get_or_insert(fault.place);
        }
        if self.faults.len() < NAMED_FAULTS {
            self.faults.push(fault);
        }
        Ok(())
    }

    fn quarantine(&mut self, fault: &Fault) -> Result<(), CompareError> {
        if !self.context.record_faults {
            return Ok(());
        }
        let record = QuarantinedRecord {
            provider: self.context.settings.provider.clone(),
            observed_at: self.context.now.as_millisecond(),
            payload_id: Some(self.context.payload_id.to_owned()),
            place: fault.place.to_string(),
            subject: fault.subject.clone(),
            reason: fault.reason.clone(),
            fragment: fault.fragment.clone(),
        };
        let record = self.context.codec.encode(QUARANTINED, &record)?.to_vec();
        Ok(self.outbox.push(&Step::Quarantine { record })?)
    }

    /// A small body may hold a million faults: beyond a bound only their number is recorded.
    fn quarantine_the_rest(&mut self) -> Result<(), CompareError> {
        let Some(place) = self.first_unrecorded else { return Ok(()) };
        let recorded = self.context.options.max_quarantined;
        let reason = format!(
            "{} more of its plans and zones were refused from here on; the first {recorded} are recorded one by one",
            self.counts.quarantined - recorded
        );
        let (subject, fragment) = ("body".to_owned(), String::new());
        self.quarantine(&Fault { place, subject, reason, fragment })
    }

    fn emit(
        &mut self,
        id: Uuid,
        ordinal: u64,
        event: &PlanEvent,
        plan_bytes: &[u8],
    ) -> Result<(), CompareError> {
        let kind = match event.fact {
            PlanFact::Listed => {
                self.counts.listed += 1;
                0
            }
            PlanFact::Changed { .. } => {
                self.counts.changed += 1;
                1
            }
            PlanFact::Delisted => {
                self.counts.delisted += 1;
                2
            }
            PlanFact::Relisted { .. } => {
                self.counts.relisted += 1;
                3
            }
        };
        let (_, value) = self.context.encoder.event(event, plan_bytes)?;
        let state = self.context.encoder.state(ordinal, &event.after, plan_bytes)?;
        self.outbox.push(&Step::Plan {
            id: id.into_bytes(),
            sequence: event.after.sequence,
            kind,
            event: value.to_vec(),
            state: state.to_vec(),
            entry: Entry::write(ordinal, &event.after, plan_bytes),
        })?;
        Ok(())
    }

    fn finish(mut self) -> Result<Comparison, CompareError> {
        let options = self.context.options;
        let listed_before = self.context.provider.listed_plans.max(0) as u64;
        let missing = listed_before.saturating_sub(self.known_listed_seen);
        let implausible = listed_before >= options.suspect_min_plans
            && missing as f64 > options.suspect_share * listed_before as f64;
        if implausible && let Some(suspect) = self.disbelief(missing, listed_before) {
            return Ok(Comparison {
                outbox: Outbox::new(&options.spool_dir()),
                counts: Counts::default(),
                faults: self.faults,
                suspect: Some(suspect),
            });
        }
        self.quarantine_the_rest()?;
        if missing > 0 {
            self.delist_missing()?;
        }
        Ok(Comparison {
            outbox: self.outbox,
            counts: self.counts,
            faults: self.faults,
            suspect: None,
        })
    }

    /// Why an implausible body is not believed yet: it has to come so often in a row, and over such
    /// a time, that neither a provider's hiccup nor an operator's quick fetches are enough.
    fn disbelief(&self, missing: u64, listed_before: u64) -> Option<String> {
        let (options, provider) = (self.context.options, self.context.provider);
        let times = provider.suspect_bodies.max(0) as u64 + 1;
        let since = provider.suspect_since.filter(|_| times > 1);
        let lasted_ms = since.map_or(0, |since| self.context.now.as_millisecond() - since);
        let is_long = u128::try_from(lasted_ms).unwrap_or(0) >= options.suspect_for.as_millis();
        if times >= options.suspect_repeats && is_long {
            return None;
        }
        Some(format!(
            "{missing} of {listed_before} listed plans are missing; believed when it comes {} times in a row over at least {}, this is time {times} after {}",
            options.suspect_repeats,
            humantime_serde::re::humantime::format_duration(options.suspect_for),
            humantime_serde::re::humantime::format_duration(Duration::from_secs(
                u64::try_from(lasted_ms / 1_000).unwrap_or(0)
            )),
        ))
    }

    fn delist_missing(&mut self) -> Result<(), CompareError> {
        let prefix = entry::plans_prefix(&self.context.settings.provider);
        for stored in self.context.state.scan(&prefix) {
            let (key, bytes) = stored?;
            let id = Uuid::from_slice(&key[prefix.len()..]).unwrap_or_default();
            let known = self.entry(id, &bytes)?;
            if !known.listed || self.seen.contains(known.ordinal) {
                continue;
            }
            let knowledge = self.knowledge(id, &known)?;
            if let Some(event) = delist(&knowledge, self.context.now) {
                self.emit(id, known.ordinal, &event, known.plan_bytes)?;
            }
        }
        Ok(())
    }
}

/// A set of ordinals: one bit per plan ever seen.
#[derive(Default)]
struct Bits {
    words: Vec<u64>,
    /// Plans that are new in this body: no ordinal of theirs can be looked up yet. A tree, since a
    /// hash table that grows holds three times as much for a moment.
    fresh: BTreeSet<Uuid>,
}

impl Bits {
    fn insert(&mut self, ordinal: u64) -> bool {
        let (word, bit) = ((ordinal / 64) as usize, 1 << (ordinal % 64));
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        let is_new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        is_new
    }

    fn contains(&self, ordinal: u64) -> bool {
        let word = self.words.get((ordinal / 64) as usize).copied().unwrap_or(0);
        word & (1 << (ordinal % 64)) != 0
    }
}

#[cfg(test)]
mod tests;

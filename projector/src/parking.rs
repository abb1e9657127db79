//! What becomes of a run at an event that cannot be folded: its key is parked, or the projection stands still.

use crate::{
    faults::Failed,
    role::{Recovery, now_ms},
    run::Run,
};
use almanac_event_log::{Excerpt, StoredRecord};
use almanac_tables::{
    down::{self, Down},
    parked::{Fault, Parked},
};

/// Of a fault, in the log.
pub(crate) const REASON: usize = 500;
/// Keys that are parked within this time count together.
const MINUTE_MS: i64 = 60_000;
const TOO_MANY: &str = "too_many_parked";

impl Run<'_> {
    /// Sets a key aside: its later events are passed over, others go on. An error stops the projection at
    /// this event.
    pub(crate) fn park(&mut self, record: &StoredRecord, fault: &Fault) -> Result<String, Down> {
        let shown = Excerpt::of(&*fault.detail).at_most(REASON).to_string();
        let options = &self.projector.options;
        let down = |category: &str, detail: String| Down {
            category: category.to_owned(),
            since_ms: now_ms(),
            position: record.offset,
            offset: Some(record.offset),
            key: Some(Excerpt::of(&record.record.key).to_string()),
            detail,
        };
        if options.recovery_of(self.projector.source.projection) == Recovery::Stop {
            return Err(down(fault.category.as_str(), shown));
        }
        // While it stands still, time does not make it better.
        let stood_still = self.down.as_ref().filter(|down| down.category == TOO_MANY);
        let now = stood_still.map_or_else(now_ms, |down| down.since_ms);
        let is_recent = |one: &&Parked| one.at_ms().is_some_and(|at| at > now - MINUTE_MS);
        let recent = self.parked.values().filter(is_recent).count();
        let (is_full, is_sudden) =
            (self.parked.len() >= options.max_parked, recent >= options.max_parked_per_minute);
        if is_full || is_sudden {
            let (limit, within) = match is_full {
                true => (options.max_parked, ""),
                false => (options.max_parked_per_minute, " within a minute"),
            };
            let detail = format!("more than {limit} keys are parked{within}, the last: {shown}");
            return Err(down(TOO_MANY, detail));
        }
        tracing::error!(
            topic = %record.topic, partition = record.partition, offset = record.offset,
            key = %Excerpt::of(&record.record.key), category = fault.category.as_str(),
            reason = %shown, "parking a key whose event cannot be folded"
        );
        let mut parked = Parked::new(&self.projector.source, record, fault, now_ms());
        let name = parked.name.clone();
        if let Some(earlier) = self.marks.remove(&name) {
            parked.after(&earlier);
        }
        self.parked.insert(name.clone(), parked);
        Ok(name)
    }

    /// Says that the projection stands still, and why.
    pub(crate) async fn go_down(&mut self, mut down: Down) -> Result<(), Failed> {
        if let Some(earlier) = self.down.as_ref().filter(|earlier| down.is_still(earlier)) {
            down.since_ms = earlier.since_ms;
        } else {
            tracing::error!(
                topic = %self.projector.topics.source(), partition = self.owned.partition(),
                offset = down.offset, key = down.key, category = down.category, detail = down.detail,
                "the projection stands still at an event"
            );
            if let Some(rebuilding) = &self.projector.rebuilding {
                rebuilding.fail(&self.projector.source, &down.category, &down.detail).await;
            }
        }
        let (source, partition) = (&self.projector.source, self.owned.partition());
        let write = down::write(source, partition, Some(&down), now_ms())?;
        self.projector.store.write(vec![write]).await?;
        self.down = Some(down);
        self.metrics.update(|progress| progress.down = true);
        Ok(())
    }

    /// Nothing keeps it from going on.
    pub(crate) async fn went_well(&mut self) -> Result<(), Failed> {
        if self.down.is_some() {
            let (source, partition) = (&self.projector.source, self.owned.partition());
            let write = down::write(source, partition, None, now_ms())?;
            self.projector.store.write(vec![write]).await?;
            self.down = None;
        }
        self.metrics.update(|progress| progress.down = false);
        Ok(())
    }
}

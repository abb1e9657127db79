//! Switches between generations of tables, as operators decide. A read model on the new tables is opened
//! beside the one that answers, follows the change feed, is warmed, and takes over once its tables are as
//! far as those before, in every partition. Each request is answered by one of the two.

use crate::{
    purging,
    slots::{Served, Slot},
    state::ApiState,
};
use almanac_processor::Ending;
use almanac_read_store::{StoreError, StoreResult};
use almanac_tables::{Edition, positions};
use std::{sync::Arc, time::Duration};

/// Between two looks at how far the new tables are.
const LOOK: Duration = Duration::from_millis(50);

/// Follows what operators decide, until an error.
pub async fn follow_operations(state: Arc<ApiState>) -> Result<(), Ending> {
    let mut changes = state.options.operations.changes();
    loop {
        for slot in &state.slots {
            if !is_as_decided(&state, &slot.live()) {
                switch(&state, slot).await.map_err(|error| Ending::again(&error))?;
            }
        }
        if changes.changed().await.is_err() {
            return Ok(());
        }
    }
}

fn is_as_decided(state: &ApiState, served: &Served) -> bool {
    let editions = served.model.editions();
    editions.iter().all(|(name, edition)| state.edition(name, edition.version) == *edition)
}

/// However a switch ends, nothing follows the feed for it any more.
struct Prepared<'a>(&'a ApiState, &'a Slot);

impl Drop for Prepared<'_> {
    fn drop(&mut self) {
        self.1.prepare(None);
        self.0.followed_changed();
    }
}

async fn switch(state: &ApiState, slot: &Slot) -> StoreResult<()> {
    let before = slot.live();
    let next = Served::new((slot.declared.open)(state.shared())?);
    let (from, to) = (before.model.editions(), next.model.editions());
    let projection = next.model.projection().name();
    tracing::info!(projection, edition = %next.model.projection().edition(), "preparing a switch");
    // In this order: from here on nothing that changes is missed; what is read comes after.
    slot.prepare(Some(next.clone()));
    state.followed_changed();
    let _prepared = Prepared(state, slot);
    load(state, &next).await?;
    next.model.warm().await?;
    while !reached(state, &from, &to).await? {
        // Operators may decide otherwise meanwhile.
        if !is_as_decided(state, &next) {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
    // The feed is not followed meanwhile: whoever waits for a token waits for that of one model.
    let _feed = state.feeding.lock().await;
    slot.switch(next.clone(), || {
        if let Some(context) = slot.declared.context {
            state.progress.replace(context, &next.folded());
        }
    });
    purging::all(state, slot);
    tracing::info!(projection, edition = %next.model.projection().edition(), "switched");
    Ok(())
}

/// Learns how far the tables of a model are. What is kept ends after that: what is read later has the rows
/// of these positions in it.
pub(crate) async fn load(state: &ApiState, served: &Served) -> StoreResult<()> {
    let model = &served.model;
    let projection = model.projection();
    let folded = positions::read(&*state.store, projection.name(), projection.edition()).await?;
    model.parked().load(&*state.store).await?;
    model.missed();
    for position in folded.values() {
        served.raise(position.consistency_token.as_deref());
    }
    Ok(())
}

/// Whether all tables of a model are as far as those of the other.
async fn reached(
    state: &ApiState,
    from: &[(&'static str, Edition)],
    to: &[(&'static str, Edition)],
) -> Result<bool, StoreError> {
    for ((name, from), (_, to)) in from.iter().zip(to).filter(|(from, to)| from != to) {
        let before = positions::read(&*state.store, name, *from).await?;
        let after = positions::read(&*state.store, name, *to).await?;
        if !positions::are_as_far(&after, &before) {
            return Ok(false);
        }
    }
    Ok(true)
}

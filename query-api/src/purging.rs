//! What caches before this process are to drop, as the change feed tells it: not before reads show what is
//! newer, since a cache would keep what it asks for then (ADR 82).

use crate::{models::ReadModel, slots::Slot, state::ApiState};
use almanac_edge::{purge::Purges, surrogates::Key};
use almanac_processor::Ending;
use almanac_schemas::projections::TableChangeRecord;
use almanac_tables::parked;
use futures::future::{join, join_all};
use parking_lot::Mutex;
use std::{collections::BTreeSet, convert::Infallible, mem::take, sync::Arc, time::Duration};
use tokio::sync::Notify;

/// Between two looks at whether the change feed is followed.
const LOOK: Duration = Duration::from_millis(50);

/// Of one read model: answers made of several that are out of date once reads show what is newer. A few
/// keys at most.
#[derive(Default)]
pub(crate) struct Outdated {
    keys: Mutex<BTreeSet<Key>>,
    news: Notify,
}

impl Outdated {
    fn add(&self, keys: impl IntoIterator<Item = Key>) {
        self.keys.lock().extend(keys);
        self.news.notify_one();
    }
}

/// Tables that the live model reads have changed, and it knows.
pub(crate) fn changed(
    state: &ApiState,
    slot: &Slot,
    model: &dyn ReadModel,
    tables: &[TableChangeRecord],
) {
    let Some(purges) = &state.options.purges else { return };
    if model.collections().is_empty() {
        return;
    }
    let is_parked = |change: &TableChangeRecord| change.table == parked::TABLE;
    if tables.iter().any(is_parked) {
        // What is set aside says so in its answers.
        return all(state, slot);
    }
    // Of a single one, its row was there before the feed told of it.
    let (of_one, of_several): (Vec<Key>, Vec<Key>) =
        model.outdated(tables).into_iter().partition(|key| key.is_of_one());
    purges.add(&of_one);
    if !of_several.is_empty() {
        slot.outdated.add(of_several);
    }
}

/// Changes may have been missed, or other tables are read from now on.
pub(crate) fn all(state: &ApiState, slot: &Slot) {
    if state.options.purges.is_some() {
        let model = slot.live();
        slot.outdated.add(model.model.collections().iter().copied().map(Key::all));
    }
}

/// Tells the caches, if there are any to be told.
pub async fn purge(state: Arc<ApiState>) -> Result<(), Ending> {
    let Some(purges) = state.options.purges.clone() else { return std::future::pending().await };
    // What was noted and not told may have gone with a process or a task.
    state.slots.iter().for_each(|slot| all(&state, slot));
    let shown = state.slots.iter().map(|slot| follow(&state, slot, &purges));
    join(join_all(shown), purges.run()).await;
    Ok(())
}

async fn follow(state: &ApiState, slot: &Slot, purges: &Purges) -> Infallible {
    let mut followed = state.followed.subscribe();
    loop {
        slot.outdated.news.notified().await;
        while !state.is_fed() {
            tokio::time::sleep(LOOK).await;
        }
        let keys: Vec<Key> = take(&mut *slot.outdated.keys.lock()).into_iter().collect();
        loop {
            followed.mark_unchanged();
            let live = slot.live();
            tokio::select! {
                () = live.model.shown() => break,
                // It may be another model that answers now.
                _ = followed.changed() => {}
            }
        }
        purges.add(&keys);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::installation;
    use almanac_edge::surrogates::{FORECASTS, ORGANIZERS, PLANS, PROVIDERS, RECIPES};
    use almanac_tables::Announced;

    const ID: &str = "0190a5d0-0000-7000-8000-000000000007";

    fn change(table: &str, partitions: &[&str], keys: &[&str]) -> TableChangeRecord {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let table = table.to_owned();
        TableChangeRecord { table, partitions: owned(partitions), keys: owned(keys) }
    }

    #[tokio::test]
    async fn a_change_names_what_was_made_of_it() {
        let installation = installation().await;
        let (plans, recipes) = (&installation.plans, &installation.recipes);
        let [plan, recipe] = [PLANS, RECIPES].map(|collection| Key::one(collection, ID).unwrap());
        let changes = [change("plans_by_start", &["2031-06-30"], &[]), change("plans", &[], &[ID])];
        assert_eq!(plans.outdated(&changes), [Key::lists(PLANS), plan]);
        let observed =
            [change("plan_days", &["days"], &[]), change("providers", &["providers"], &[])];
        assert_eq!(plans.outdated(&observed), [Key::all(PROVIDERS)]);
        let changes = [change("recipes", &[], &[ID]), change("recipes_by_tag", &["quick/7"], &[])];
        assert_eq!(recipes.outdated(&changes), [recipe, Key::lists(RECIPES)]);
        assert_eq!((plans.outdated(&[]), recipes.outdated(&[])), (vec![], vec![]));
        // Single plans are named only because of this.
        let layout = plans.projection().layout();
        assert_eq!(layout.announced(&plans.tables.plans), Announced::Rows);
    }

    /// Each collection has a model that tells of it, and what nothing is known of is told as a whole.
    #[tokio::test]
    async fn every_collection_is_told_of() {
        let installation = installation().await;
        let mut told = BTreeSet::new();
        for slot in &installation.state.slots {
            let model = &slot.live().model;
            told.extend(model.collections().iter().copied());
            if matches!(model.collections(), [ORGANIZERS | FORECASTS]) {
                let whole: Vec<Key> = model.collections().iter().copied().map(Key::all).collect();
                assert_eq!(model.outdated(&[]), whole);
            }
        }
        assert_eq!(told, BTreeSet::from([PLANS, RECIPES, ORGANIZERS, PROVIDERS, FORECASTS]));
    }
}

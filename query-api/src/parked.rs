//! Which keys the projections have set aside: what is in the tables of such a key is older than what
//! happened, for as long as nobody mends it, and answers say so.

use almanac_event_log::{EventLog, Offset, ReadLimit};
use almanac_read_store::{ReadStore, StoreResult};
use almanac_schemas::Token;
use almanac_tables::{Edition, Projected, parked};
use arc_swap::ArcSwap;
use foldhash::quality::RandomState;
use quick_cache::sync::Cache;
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// Commands that are looked up at once, and that are remembered: on Kafka each look-up is a consumer
/// of its own.
const LOOKUPS: usize = 4;
const REMEMBERED: usize = 10_000;
const LIMIT: ReadLimit = ReadLimit { records: 1, bytes: 1 };
const WAIT: Duration = Duration::from_secs(1);

/// Of one projection.
pub(crate) struct Parked {
    projection: &'static str,
    edition: Edition,
    names: ArcSwap<HashSet<String>>,
    /// Of these an event was discarded: what it did is missing, and the events after it are not.
    incomplete: ArcSwap<HashSet<String>>,
    /// By partition and offset of a command: whether its key was set aside when it was looked up.
    looked_up: Cache<(u32, Offset), String, quick_cache::UnitWeighter, RandomState>,
    lookups: Semaphore,
}

impl Parked {
    pub(crate) fn new(projection: &dyn Projected) -> Arc<Self> {
        let looked_up = Cache::with(
            REMEMBERED,
            REMEMBERED as u64,
            quick_cache::UnitWeighter,
            RandomState::default(),
            Default::default(),
        );
        let lookups = Semaphore::new(LOOKUPS);
        let (projection, edition) = (projection.name(), projection.edition());
        let (names, incomplete) = (ArcSwap::default(), ArcSwap::default());
        Arc::new(Self { projection, edition, names, incomplete, looked_up, lookups })
    }

    /// Reads which there are, before anybody learns how far the tables are.
    pub(crate) async fn load(&self, store: &dyn ReadStore) -> StoreResult<()> {
        let all = parked::all(store, self.projection, self.edition).await?;
        let named = |is_set_aside: bool| {
            let some = all.iter().filter(move |one| one.is_set_aside() == is_set_aside);
            Arc::new(some.map(|one| one.name.clone()).collect::<HashSet<_>>())
        };
        self.names.store(named(true));
        self.incomplete.store(named(false));
        Ok(())
    }

    pub(crate) fn has_any(&self) -> bool {
        !self.names.load().is_empty()
    }

    pub(crate) fn has(&self, key: &[u8]) -> bool {
        let names = self.names.load();
        !names.is_empty() && names.contains(&*parked::name(key))
    }

    /// Whether an event of a key was discarded.
    pub(crate) fn lacks_of(&self, key: &[u8]) -> bool {
        let incomplete = self.incomplete.load();
        !incomplete.is_empty() && incomplete.contains(&*parked::name(key))
    }

    /// Whether what one of these commands led to may be missing in the tables, although they are
    /// folded beyond it. What cannot be looked up may be.
    pub(crate) async fn has_of_commands(
        &self,
        log: &dyn EventLog,
        commands: &str,
        tokens: &[&Token],
    ) -> bool {
        for token in tokens {
            if !self.has_any() {
                return false;
            }
            let key = self.key_of(log, commands, token).await;
            if key.is_none_or(|name| self.names.load().contains(&name)) {
                return true;
            }
        }
        false
    }

    /// The name of a command's key.
    async fn key_of(&self, log: &dyn EventLog, commands: &str, token: &Token) -> Option<String> {
        let place = (token.partition, token.offset);
        if let Some(known) = self.looked_up.get(&place) {
            return Some(known);
        }
        let _turn = self.lookups.acquire().await.ok()?;
        let read = log.read_to(commands, token.partition, token.offset, token.offset + 1);
        let batch = read.await.ok()?.next(LIMIT, WAIT).await.ok()?;
        let name = parked::name(&batch.records.first()?.record.key).into_owned();
        self.looked_up.insert(place, name.clone());
        Some(name)
    }
}

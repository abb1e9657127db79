//! Read models: what a projection's tables are read through. Each owns its cache, what a change of its
//! tables means for it, its warm-up, how far its tables are, and its routes.

use crate::{
    parked::Parked,
    state::Shared,
    trouble::Account,
    uncached::{Tables, Uncached},
    v1,
};
use almanac_edge::{
    Routes,
    openapi::Fragment,
    surrogates::{Collection, Key},
};
use almanac_read_store::StoreResult;
use almanac_schemas::projections::TableChangeRecord;
use almanac_tables::{Edition, Projected};
use async_trait::async_trait;
use std::sync::Arc;

/// Every read model of this program.
pub const MODELS: &[Declared] = &[
    v1::plans::MODEL,
    v1::recipes::MODEL,
    v1::schedules::MODEL,
    v1::analyses::MODEL,
    v1::forecasts::MODEL,
    v1::subscriptions::MODEL,
    v1::organizers::MODEL,
];

/// A read model as it is listed.
#[derive(Clone, Copy, Debug)]
pub struct Declared {
    /// The context whose commands lead to the events in its tables, if commands do.
    pub(crate) context: Option<&'static str>,
    /// Describes its routes.
    pub openapi: Fragment,
    pub(crate) open: fn(&Arc<Shared>) -> StoreResult<Arc<dyn ReadModel>>,
}

impl Declared {
    /// Of tables that are read without a cache.
    pub const fn uncached<T: Tables>(openapi: Fragment) -> Self {
        let context = Some(T::CONTEXT);
        Self { context, openapi, open: |shared| Ok(Uncached::<T>::new(shared)?) }
    }
}

/// The contexts whose tables are read.
pub(crate) fn contexts(models: &[Declared]) -> Vec<&'static str> {
    models.iter().filter_map(|model| model.context).collect()
}

#[async_trait]
pub(crate) trait ReadModel: Send + Sync + 'static {
    /// What fills its tables.
    fn projection(&self) -> &dyn Projected;

    /// What its answers come from: its own projection first, and others that it reads.
    fn editions(&self) -> Vec<(&'static str, Edition)> {
        vec![(self.projection().name(), self.projection().edition())]
    }

    /// The keys that are set aside.
    fn parked(&self) -> &Arc<Parked>;

    fn routes(self: Arc<Self>) -> Routes;

    /// A table changed: what is kept of it ends. Nobody has been told yet how far the tables are.
    fn changed(&self, _change: &TableChangeRecord) {}

    /// What caches before this process keep its answers as, if they may.
    fn collections(&self) -> &'static [Collection] {
        &[]
    }

    /// Which answers are others than before, of those that such caches keep. Where tables do not say which
    /// of their rows changed, all of them are.
    fn outdated(&self, _tables: &[TableChangeRecord]) -> Vec<Key> {
        self.collections().iter().copied().map(Key::all).collect()
    }

    /// Resolves once answers made of several rows show all that `changed` told before. Those made of a
    /// single one do at once.
    async fn shown(&self) {}

    /// Changes may have been missed: everything that is kept ends.
    fn missed(&self) {}

    /// Loads what the first requests should meet in memory. The change feed is followed already.
    async fn warm(&self) -> StoreResult<()> {
        Ok(())
    }

    /// Loads again what changed, until an error.
    async fn refresh(&self) -> StoreResult<()> {
        std::future::pending().await
    }

    /// What operators are told beside how far its tables are.
    async fn account(&self) -> StoreResult<Option<Account>> {
        Ok(None)
    }

    /// Memory of its caches.
    fn used_bytes(&self) -> u64 {
        0
    }

    /// Partitions that changed and are not loaded again yet.
    fn out_of_date(&self) -> usize {
        0
    }
}

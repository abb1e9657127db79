//! The read model of plans: the blocks of days that `/search` answers from, the index that lists of
//! `/v1/plans` come from, and the tables behind single plans and `/v1/providers`.

use super::{PlanIndex, feeds, history, list, one, providers};
use crate::{
    front::{Tokens, reading},
    models::{Declared, ReadModel},
    parked::Parked,
    search::{self, cache::SearchCache},
    state::Shared,
    trouble::Account,
};
use almanac_edge::{
    Routes, cors, openapi_fragment,
    surrogates::{Collection, Key, PLANS, PROVIDERS},
};
use almanac_read_store::StoreResult;
use almanac_schemas::projections::TableChangeRecord;
use almanac_tables::{
    Projected,
    plans::{PROJECTION, Tables, VERSION},
};
use async_trait::async_trait;
use axum::routing::get;
use http::{Method, StatusCode};
use std::{ops::Deref, sync::Arc};

pub(crate) const MODEL: Declared = Declared {
    context: None,
    openapi: openapi_fragment!("openapi.json"),
    open: |shared| Ok(Plans::new(shared)?),
};

pub(crate) struct Plans {
    shared: Arc<Shared>,
    pub(crate) tables: Tables,
    pub(crate) search: SearchCache,
    pub(crate) index: Arc<PlanIndex>,
    pub(super) seen: providers::KeptLastSeen,
    parked: Arc<Parked>,
}

impl Plans {
    pub(crate) fn new(shared: &Arc<Shared>) -> StoreResult<Arc<Self>> {
        let tables = Tables::of(shared.edition(PROJECTION, VERSION))?;
        let options = &shared.options;
        let background = options.packing.background.clone();
        let index = PlanIndex::new(options.plan_index_bytes, background);
        let (store, cache_bytes) = (shared.store.clone(), options.cache_bytes);
        Ok(Arc::new(Self {
            search: SearchCache::new(store, tables.clone(), cache_bytes, index.clone()),
            index,
            seen: providers::KeptLastSeen::default(),
            parked: Parked::new(&tables),
            tables,
            shared: shared.clone(),
        }))
    }
}

impl Deref for Plans {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

/// A load that a panic cut short leaves nobody who knows which days it had taken on.
struct AllChanged<'a>(Option<&'a SearchCache>);

impl Drop for AllChanged<'_> {
    fn drop(&mut self) {
        if let Some(search) = self.0 {
            search.mark_all_changed();
        }
    }
}

#[async_trait]
impl ReadModel for Plans {
    fn projection(&self) -> &dyn Projected {
        &self.tables
    }

    fn parked(&self) -> &Arc<Parked> {
        &self.parked
    }

    fn routes(self: Arc<Self>) -> Routes {
        let search = get(search::get).options(cors::preflight).fallback(|| async {
            let detail = "only GET is answered here";
            search::error(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", detail)
        });
        let plans = Routes::new()
            .get("/v1/plans", list::get)
            .get("/v1/plans.ics", feeds::calendar)
            .get("/v1/plans.rss", feeds::news)
            .get("/v1/plans/{id}", one)
            .get("/v1/plans/{id}/history", history);
        let providers = Routes::new()
            .get("/v1/providers", providers::list)
            .get("/v1/providers/{name}", providers::one);
        Routes::new()
            .route(&[Method::GET], "/search", search)
            .merge(reading(&self.shared, Tokens::Checked(Some(self.parked.clone())), plans))
            .merge(reading(&self.shared, Tokens::Checked(None), providers))
            .map(|router| router.with_state(self.clone()))
    }

    fn changed(&self, change: &TableChangeRecord) {
        if change.table == self.tables.by_start.name() {
            change.partitions.iter().for_each(|day| self.search.changed(day));
        } else if change.table == self.tables.providers.name() {
            self.seen.end();
        }
    }

    fn collections(&self) -> &'static [Collection] {
        &[PLANS, PROVIDERS]
    }

    fn outdated(&self, tables: &[TableChangeRecord]) -> Vec<Key> {
        let mut keys = Vec::new();
        for change in tables {
            if change.table == self.tables.plans.name() {
                keys.extend(change.keys.iter().filter_map(|id| Key::one(PLANS, id)));
            } else if change.table == self.tables.by_start.name() {
                keys.push(Key::lists(PLANS));
            } else if change.table == self.tables.providers.name() {
                keys.push(Key::all(PROVIDERS));
            }
        }
        keys
    }

    async fn shown(&self) {
        self.search.shown().await;
    }

    async fn account(&self) -> StoreResult<Option<Account>> {
        providers::account(self).await.map(Some)
    }

    fn missed(&self) {
        self.seen.end();
    }

    async fn warm(&self) -> StoreResult<()> {
        self.search.load_days().await?;
        self.search.mark_all_changed();
        self.search.warm(self.options.warm_up).await
    }

    async fn refresh(&self) -> StoreResult<()> {
        let mut unless_it_ends = AllChanged(Some(&self.search));
        let ended = self.search.refresh().await;
        unless_it_ends.0 = None;
        ended
    }

    fn used_bytes(&self) -> u64 {
        (self.search.used_bytes() + self.index.used_bytes()) as u64
    }

    fn out_of_date(&self) -> usize {
        self.search.out_of_date()
    }
}

//! The read model of recipes.

use super::{
    cache::RecipeCache, history, index::RecipeIndex, list::list, one, pictures::Pictures,
    thumbnail::thumbnail, vocabulary::vocabulary,
};
use crate::{
    front::{self, Tokens, reading},
    models::{Declared, ReadModel},
    parked::Parked,
    state::Shared,
};
use almanac_edge::{
    Routes, openapi_fragment,
    surrogates::{Collection, Key, RECIPES},
};
use almanac_read_store::StoreResult;
use almanac_schemas::{projections::TableChangeRecord, recipes::CONTEXT};
use almanac_tables::{
    Projected,
    recipes::{PROJECTION, Tables, VERSION},
};
use async_trait::async_trait;
use std::{ops::Deref, sync::Arc};

pub(crate) const MODEL: Declared = Declared {
    context: Some(CONTEXT),
    openapi: openapi_fragment!("openapi.json"),
    open: |shared| Ok(Recipes::new(shared)?),
};

pub(crate) struct Recipes {
    shared: Arc<Shared>,
    pub(crate) tables: Tables,
    pub(crate) cache: RecipeCache,
    pub(crate) index: Arc<RecipeIndex>,
    pub(crate) pictures: Arc<Pictures>,
    pub(crate) parked: Arc<Parked>,
}

impl Recipes {
    pub(crate) fn new(shared: &Arc<Shared>) -> StoreResult<Arc<Self>> {
        let (tables, options) = (Tables::of(shared.edition(PROJECTION, VERSION))?, &shared.options);
        Ok(Arc::new(Self {
            parked: Parked::new(&tables),
            tables,
            cache: RecipeCache::new(options.recipe_cache_bytes),
            index: RecipeIndex::new(options.recipe_index_bytes, options.packing.background.clone()),
            pictures: Pictures::new(options.picture_cache_bytes),
            shared: shared.clone(),
        }))
    }
}

impl Deref for Recipes {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

#[async_trait]
impl ReadModel for Recipes {
    fn projection(&self) -> &dyn Projected {
        &self.tables
    }

    fn parked(&self) -> &Arc<Parked> {
        &self.parked
    }

    fn routes(self: Arc<Self>) -> Routes {
        let tables = front::Tables { contexts: vec![CONTEXT], parked: self.parked.clone() };
        let routes = Routes::new()
            .get("/v1/recipes", list)
            .get("/v1/recipes/vocabulary", vocabulary)
            .get("/v1/recipes/{id}", one)
            .get("/v1/recipes/{id}/history", history)
            .get("/v1/recipes/{id}/thumbnail", thumbnail);
        reading(&self.shared, Tokens::Awaited(tables), routes)
            .map(|router| router.with_state(self.clone()))
    }

    fn changed(&self, change: &TableChangeRecord) {
        // Whoever keeps a page made of the index notes first how far the cache is.
        self.index.changed(change.keys.iter());
        self.cache.changed(change);
    }

    fn collections(&self) -> &'static [Collection] {
        &[RECIPES]
    }

    fn outdated(&self, tables: &[TableChangeRecord]) -> Vec<Key> {
        let ids = tables.iter().flat_map(|change| &change.keys);
        let single = ids.filter_map(|id| Key::one(RECIPES, id));
        single.chain((!tables.is_empty()).then_some(Key::lists(RECIPES))).collect()
    }

    fn missed(&self) {
        self.index.missed();
        self.cache.clear();
    }

    async fn refresh(&self) -> StoreResult<()> {
        self.index.follow(self).await
    }

    fn used_bytes(&self) -> u64 {
        self.cache.used_bytes() + self.index.used_bytes() + self.pictures.used_bytes()
    }
}

//! The read model of subscriptions: tables and no cache, since each is read by few.

use super::{deliveries, list, one};
use crate::{
    models::Declared,
    state::Shared,
    uncached::{self, Uncached},
};
use almanac_edge::{Routes, openapi_fragment};
use almanac_read_store::StoreResult;
use almanac_schemas::subscriptions::CONTEXT;
use almanac_tables::subscriptions::{PROJECTION, Tables, VERSION};
use std::sync::Arc;

pub(crate) const MODEL: Declared = Declared::uncached::<Tables>(openapi_fragment!("openapi.json"));

pub(crate) type Subscriptions = Uncached<Tables>;

impl uncached::Tables for Tables {
    const CONTEXT: &'static str = CONTEXT;

    fn open(shared: &Shared) -> StoreResult<Self> {
        Self::of(shared.edition(PROJECTION, VERSION))
    }

    fn routes() -> Routes<Arc<Uncached<Self>>> {
        Routes::new()
            .get("/v1/subscriptions", list)
            .get("/v1/subscriptions/{id}", one)
            .get("/v1/subscriptions/{id}/deliveries", deliveries)
    }
}

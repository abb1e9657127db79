//! The read model of schedules: tables and no cache, since each is read by few.

use super::{history, list::list, one};
use crate::{
    models::Declared,
    state::Shared,
    uncached::{self, Uncached},
};
use almanac_edge::{Routes, openapi_fragment};
use almanac_read_store::StoreResult;
use almanac_schemas::schedules::CONTEXT;
use almanac_tables::schedules::{PROJECTION, Tables, VERSION};
use std::sync::Arc;

pub(crate) const MODEL: Declared = Declared::uncached::<Tables>(openapi_fragment!("openapi.json"));

pub(crate) type Schedules = Uncached<Tables>;

impl uncached::Tables for Tables {
    const CONTEXT: &'static str = CONTEXT;

    fn open(shared: &Shared) -> StoreResult<Self> {
        Self::of(shared.edition(PROJECTION, VERSION))
    }

    fn routes() -> Routes<Arc<Uncached<Self>>> {
        Routes::new()
            .get("/v1/schedules", list)
            .get("/v1/schedules/{id}", one)
            .get("/v1/schedules/{id}/history", history)
    }
}

//! The read model of forecasts: two tables and no cache, since a place is one small partition.

use super::{newest, score};
use crate::{
    fair::FairTurns,
    front::{Tokens, reading},
    models::{Declared, ReadModel},
    parked::Parked,
    state::Shared,
};
use almanac_edge::{
    Routes, openapi_fragment,
    surrogates::{Collection, FORECASTS},
};
use almanac_read_store::StoreResult;
use almanac_tables::{
    Projected,
    forecasts::{PROJECTION, Tables, VERSION},
};
use std::{ops::Deref, sync::Arc};

pub(crate) const MODEL: Declared = Declared {
    context: None,
    openapi: openapi_fragment!("openapi.json"),
    open: |shared| Ok(Forecasts::new(shared)?),
};

pub(crate) struct Forecasts {
    shared: Arc<Shared>,
    pub(super) tables: Tables,
    parked: Arc<Parked>,
    /// Scores read much: few at once.
    pub(super) scoring: FairTurns,
}

/// Scores that are computed at once.
const SCORES: usize = 2;

impl Forecasts {
    pub(crate) fn new(shared: &Arc<Shared>) -> StoreResult<Arc<Self>> {
        let tables = Tables::of(shared.edition(PROJECTION, VERSION))?;
        Ok(Arc::new(Self {
            parked: Parked::new(&tables),
            tables,
            scoring: FairTurns::new(SCORES),
            shared: shared.clone(),
        }))
    }
}

impl Deref for Forecasts {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl ReadModel for Forecasts {
    fn projection(&self) -> &dyn Projected {
        &self.tables
    }

    fn parked(&self) -> &Arc<Parked> {
        &self.parked
    }

    fn collections(&self) -> &'static [Collection] {
        &[FORECASTS]
    }

    fn routes(self: Arc<Self>) -> Routes {
        let routes =
            Routes::new().get("/v1/forecasts", newest).get("/v1/forecasts/score", score::score);
        reading(&self.shared, Tokens::Checked(None), routes)
            .map(|router| router.with_state(self.clone()))
    }
}

//! A read model of tables alone: what it serves is read by few, so nothing is kept in memory.

use crate::{
    front::{self, Tokens, reading},
    models::ReadModel,
    parked::Parked,
    state::Shared,
};
use almanac_edge::Routes;
use almanac_read_store::StoreResult;
use almanac_tables::Projected;
use std::{ops::Deref, sync::Arc};

/// What differs from one to the next.
pub trait Tables: Projected + Sized {
    /// The context whose commands lead to the events in the tables.
    const CONTEXT: &'static str;

    fn open(shared: &Shared) -> StoreResult<Self>;

    fn routes() -> Routes<Arc<Uncached<Self>>>;
}

pub struct Uncached<T> {
    shared: Arc<Shared>,
    pub tables: T,
    parked: Arc<Parked>,
}

impl<T: Tables> Uncached<T> {
    pub(crate) fn new(shared: &Arc<Shared>) -> StoreResult<Arc<Self>> {
        let tables = T::open(shared)?;
        Ok(Arc::new(Self { parked: Parked::new(&tables), tables, shared: shared.clone() }))
    }
}

impl<T> Deref for Uncached<T> {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl<T: Tables> ReadModel for Uncached<T> {
    fn projection(&self) -> &dyn Projected {
        &self.tables
    }

    fn parked(&self) -> &Arc<Parked> {
        &self.parked
    }

    fn routes(self: Arc<Self>) -> Routes {
        let tables = front::Tables { contexts: vec![T::CONTEXT], parked: self.parked.clone() };
        let routes = reading(&self.shared, Tokens::Awaited(tables), T::routes());
        routes.map(|router| router.with_state(self))
    }
}

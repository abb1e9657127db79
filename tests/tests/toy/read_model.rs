//! The read model, as a folder of `query-api/src/v1/` has it.

use crate::{
    record::CONTEXT,
    tables::{PROJECTION, Tables, VERSION, id_bucket},
};
use almanac_edge::{Problem, ProblemType, Routes, conditional, openapi_fragment};
use almanac_query_api::{Declared, Shared, Tables as ReadTables, Uncached, store_problem};
use almanac_read_store::StoreResult;
use axum::{
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
};
use std::sync::Arc;

pub(crate) const MODEL: Declared =
    Declared::uncached::<Tables>(openapi_fragment!("read_model.openapi.json"));

impl ReadTables for Tables {
    const CONTEXT: &'static str = CONTEXT;

    fn open(shared: &Shared) -> StoreResult<Self> {
        Self::of(shared.edition(PROJECTION, VERSION))
    }

    fn routes() -> Routes<Arc<Uncached<Self>>> {
        Routes::new().get("/v1/greetings/{id}", one)
    }
}

async fn one(
    State(state): State<Arc<Uncached<Tables>>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let row = state.store.get(&state.tables.greetings, id_bucket(&id), &id).await;
    let row = row.map_err(|error| store_problem(&error))?;
    let missing = || Problem::new(ProblemType::NotFound, "there is no such greeting");
    Ok(conditional::json(&headers, row.ok_or_else(missing)?.body))
}

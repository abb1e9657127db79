//! The read model of analyses. Results are immutable and kept; what is open is read, and whoever waits
//! for its end is woken by the change feed.

use super::{chart, list, note, one, queue::Queue, result, steps, stream};
use crate::{
    front::{self, Tokens, reading},
    models::{Declared, ReadModel},
    parked::Parked,
    state::Shared,
    streams::Streams,
};
use almanac_edge::{Routes, openapi_fragment};
use almanac_read_store::StoreResult;
use almanac_schemas::{analyses::CONTEXT, projections::TableChangeRecord};
use almanac_tables::{
    Edition, Projected,
    analyses::{PROJECTION, Tables, VERSION},
    forecasts, schedules,
};
use std::{hash::Hasher, ops::Deref, sync::Arc};
use tokio::sync::{Semaphore, watch};
use xxhash_rust::xxh3::Xxh3;

pub(crate) const MODEL: Declared = Declared {
    context: Some(CONTEXT),
    openapi: openapi_fragment!("openapi.json"),
    open: |shared| Ok(Analyses::new(shared)?),
};

/// Waiters share a slot with those of few other analyses.
const SLOTS: usize = 4_096;
/// Streams that are open at once: each is a socket and little else.
const STREAMS: usize = 2_000;
/// Look-ups of fresh ids at once: on Kafka each may be a consumer.
const LOOKUPS: usize = 8;

pub(crate) struct Analyses {
    shared: Arc<Shared>,
    pub(super) tables: Tables,
    pub(super) schedules: schedules::Tables,
    pub(super) forecasts: forecasts::Tables,
    parked: Arc<Parked>,
    changes: Box<[watch::Sender<()>]>,
    pub(super) queue: Queue,
    pub(super) results: result::Results,
    pub(super) streams: Streams,
    pub(super) lookups: Semaphore,
}

impl Analyses {
    pub(crate) fn new(shared: &Arc<Shared>) -> StoreResult<Arc<Self>> {
        let tables = Tables::of(shared.edition(PROJECTION, VERSION))?;
        Ok(Arc::new(Self {
            parked: Parked::new(&tables),
            tables,
            schedules: schedules::Tables::of(
                shared.edition(schedules::PROJECTION, schedules::VERSION),
            )?,
            forecasts: forecasts::Tables::of(
                shared.edition(forecasts::PROJECTION, forecasts::VERSION),
            )?,
            changes: (0..SLOTS).map(|_| watch::Sender::new(())).collect(),
            queue: Queue::default(),
            results: result::Results::new(shared.options.analysis_cache_bytes),
            streams: Streams::new(STREAMS),
            lookups: Semaphore::new(LOOKUPS),
            shared: shared.clone(),
        }))
    }

    fn slot(&self, id: &str) -> &watch::Sender<()> {
        let mut hash = Xxh3::new();
        hash.write(id.as_bytes());
        &self.changes[hash.finish() as usize % SLOTS]
    }

    /// Tells when an analysis may have changed, perhaps also when it has not.
    pub(super) fn changes_of(&self, id: &str) -> watch::Receiver<()> {
        self.slot(id).subscribe()
    }
}

impl Deref for Analyses {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl ReadModel for Analyses {
    fn projection(&self) -> &dyn Projected {
        &self.tables
    }

    fn editions(&self) -> Vec<(&'static str, Edition)> {
        let read: [&dyn Projected; 3] = [&self.tables, &self.schedules, &self.forecasts];
        read.iter().map(|projection| (projection.name(), projection.edition())).collect()
    }

    fn parked(&self) -> &Arc<Parked> {
        &self.parked
    }

    fn routes(self: Arc<Self>) -> Routes {
        // Whether a schedule is there, its own tables say.
        let contexts = vec![CONTEXT, almanac_schemas::schedules::CONTEXT];
        let tables = front::Tables { contexts, parked: self.parked.clone() };
        let routes = Routes::new()
            .get("/v1/analyses", list::own)
            .get("/v1/analyses/{id}", one::one)
            .get("/v1/analyses/{id}/steps", steps::steps)
            .get("/v1/analyses/{id}/stream", stream::stream)
            .get("/v1/analyses/{id}/chart.svg", chart::chart)
            .get("/v1/analyses/{id}/note.md", note::note)
            .get("/v1/schedules/{id}/analyses", list::of_schedule);
        reading(&self.shared, Tokens::Awaited(tables), routes)
            .map(|router| router.with_state(self.clone()))
    }

    fn changed(&self, change: &TableChangeRecord) {
        if change.table == self.tables.analyses.name() {
            change.keys.iter().for_each(|id| self.slot(id).send_modify(|()| {}));
        }
    }

    fn missed(&self) {
        self.changes.iter().for_each(|slot| slot.send_modify(|()| {}));
    }

    fn used_bytes(&self) -> u64 {
        self.results.used_bytes()
    }
}

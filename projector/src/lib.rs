//! Projectors: fold events into tables that can be thrown away and folded again.

mod analyses;
mod announce;
mod compare;
mod faults;
mod forecasts;
mod mender;
mod metrics;
mod organizers;
mod pace;
mod parking;
mod places;
mod plans;
mod projection;
mod rebuild;
mod recipes;
mod role;
mod run;
mod schedules;
mod spans;
mod subscriptions;
#[cfg(test)]
mod testing;

pub use metrics::ProjectorMetrics;
pub use projection::{Event, FoldError, Folded, Projection, Rows};
pub use rebuild::{Rebuilding, chained};
pub use role::{Projector, ProjectorOptions, Recovery, Topics, changes};

use almanac_read_store::StoreResult;
use almanac_tables::{self as tables, Edition};
use std::sync::Arc;

/// Every projection that there is, each with its first tables.
pub fn all() -> StoreResult<Vec<Arc<dyn Projection>>> {
    OPEN.iter().map(|open| open(0)).collect()
}

/// A projection with its tables of a generation.
pub fn open(name: &str, generation: u32) -> StoreResult<Option<Arc<dyn Projection>>> {
    for open in OPEN {
        let projection = open(generation)?;
        if projection.name() == name {
            return Ok(Some(projection));
        }
    }
    Ok(None)
}

type Open = fn(u32) -> StoreResult<Arc<dyn Projection>>;

const OPEN: &[Open] = &[
    |generation| Ok(Arc::new(tables::plans::Tables::of(of(tables::plans::VERSION, generation))?)),
    |generation| {
        Ok(Arc::new(tables::recipes::Tables::of(of(tables::recipes::VERSION, generation))?))
    },
    |generation| {
        Ok(Arc::new(tables::schedules::Tables::of(of(tables::schedules::VERSION, generation))?))
    },
    |generation| {
        Ok(Arc::new(tables::analyses::Tables::of(of(tables::analyses::VERSION, generation))?))
    },
    |generation| {
        Ok(Arc::new(tables::forecasts::Tables::of(of(tables::forecasts::VERSION, generation))?))
    },
    |generation| {
        Ok(Arc::new(tables::subscriptions::Tables::of(of(
            tables::subscriptions::VERSION,
            generation,
        ))?))
    },
    |generation| {
        Ok(Arc::new(tables::organizers::Tables::of(of(tables::organizers::VERSION, generation))?))
    },
];

fn of(version: u32, generation: u32) -> Edition {
    Edition { version, generation }
}

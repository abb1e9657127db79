//! Follows `projections.changes` and hands what changed to the caches.

use crate::state::ApiState;
use almanac_event_log::{Isolation, LogError, LogReader, ReadLimit};
use almanac_projector::{plans, positions, recipes};
use almanac_read_store::StoreError;
use almanac_schemas::projections::{CHANGES, PARTITIONS_CHANGED, PartitionsChangedRecord};
use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

const LIMIT: ReadLimit = ReadLimit { records: 1_000, bytes: 1 << 20 };
const PAUSE: Duration = Duration::from_millis(250);
const MAX_PAUSE: Duration = Duration::from_secs(4);

/// Follows the feed for as long as it is polled, through outages.
pub(crate) async fn follow(state: &ApiState) {
    let mut pause = PAUSE;
    loop {
        let started = Instant::now();
        if let Err(error) = follow_once(state).await {
            state.feed_alive.store(false, Ordering::Relaxed);
            tracing::warn!(%error, "the change feed is silent; caches may be out of date");
        }
        pause = next_pause(pause, started);
        tokio::time::sleep(pause).await;
    }
}

async fn follow_once(state: &ApiState) -> Result<(), LogError> {
    let topic = format!("{}{CHANGES}", state.options.prefix);
    let partitions = state.log.topic(&topic).await?.partitions;
    let mut from = Vec::new();
    for partition in 0..partitions {
        from.push((partition, state.log.end(&topic, partition, Isolation::Committed).await?));
    }
    let mut reader = state.log.read(&topic, &from).await?;
    // From here on nothing is missed; what was at hand before may have been.
    state.recipe_cache.clear();
    let folded = positions::read(&*state.store, recipes::PROJECTION, recipes::VERSION).await;
    for position in folded.map_err(unread)?.values() {
        state.progress.raise(position.consistency_token.as_deref());
    }
    warm(state).await?;
    state.feed_alive.store(true, Ordering::Relaxed);
    *state.unready.write() = None;
    loop {
        take(state, &mut *reader).await?;
    }
}

fn unavailable(what: &str, error: &dyn std::fmt::Display) -> LogError {
    LogError::Unavailable { what: what.to_owned(), detail: error.to_string() }
}

fn unread(error: StoreError) -> LogError {
    unavailable("read store", &error)
}

async fn warm(state: &ApiState) -> Result<(), LogError> {
    state.search.load_days().await.map_err(unread)?;
    state.search.mark_all_changed();
    state.search.warm(state.options.warm_up).await.map_err(unread)
}

async fn take(state: &ApiState, reader: &mut dyn LogReader) -> Result<(), LogError> {
    let batch = reader.next(LIMIT, Duration::from_secs(5)).await?;
    for record in batch.records {
        let Some(value) = &record.record.value else { continue };
        let changed = match state.codec.decode(value).await {
            Ok(decoded) if decoded.record() == PARTITIONS_CHANGED => {
                decoded.read::<PartitionsChangedRecord>()
            }
            Ok(_) => continue,
            // Started over, nothing is missed.
            Err(error) if error.is_outage() => return Err(unavailable("schema registry", &error)),
            Err(error) => Err(error),
        };
        let Ok(changed) = changed else {
            tracing::warn!(
                topic = %record.topic, partition = record.partition, offset = record.offset,
                "passing over a change that cannot be read"
            );
            continue;
        };
        if changed.projection == recipes::PROJECTION && changed.version == recipes::VERSION as i32 {
            // What is kept ends before anybody learns how far the tables are.
            changed.tables.iter().for_each(|table| state.recipe_cache.changed(table));
            state.progress.raise(changed.consistency_token.as_deref());
            continue;
        }
        if changed.projection != plans::PROJECTION || changed.version != plans::VERSION as i32 {
            continue;
        }
        let by_start =
            changed.tables.iter().filter(|table| table.table == state.tables.by_start.name());
        for partition in by_start.flat_map(|table| &table.partitions) {
            state.search.changed(partition);
        }
    }
    let used = state.search.used_bytes() as u64 + state.recipe_cache.used_bytes();
    state.metrics.cache_bytes.set(used as i64);
    state.metrics.out_of_date.set(state.search.out_of_date() as i64);
    Ok(())
}

/// Reloads what changed, through outages of the read store.
pub(crate) async fn refresh(state: &ApiState) {
    let mut pause = PAUSE;
    loop {
        let started = Instant::now();
        if let Err(error) = state.search.refresh().await {
            tracing::warn!(%error, "cached partitions cannot be loaded again; serving what is there");
        }
        pause = next_pause(pause, started);
        tokio::time::sleep(pause).await;
    }
}

/// An outage that lasts is said less and less often.
fn next_pause(pause: Duration, started: Instant) -> Duration {
    if started.elapsed() > MAX_PAUSE { PAUSE } else { (pause * 2).min(MAX_PAUSE) }
}

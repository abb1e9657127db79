//! Follows `projections.changes` and hands what changed to the caches.

use crate::{purging, state::ApiState, switch};
use almanac_errors::Cause;
use almanac_event_log::{Isolation, LogError, LogReader, ReadLimit};
use almanac_processor::traced;
use almanac_read_store::{StoreError, StoreResult};
use almanac_schemas::projections::{CHANGES, PARTITIONS_CHANGED, PartitionsChangedRecord};
use almanac_tables::{Projected, parked, positions};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

const LIMIT: ReadLimit = ReadLimit { records: 1_000, bytes: 1 << 20 };
const PAUSE: Duration = Duration::from_millis(250);
/// How long a reader waits for news.
const WAIT: Duration = Duration::from_secs(1);

/// However following ends, also by a panic: what is cached may be out of date from then on.
struct SilentAtEnd<'a>(&'a ApiState);

impl Drop for SilentAtEnd<'_> {
    fn drop(&mut self) {
        self.0.feed_alive.store(false, Ordering::Relaxed);
    }
}

/// Follows the feed until an error.
pub(crate) async fn follow(state: &ApiState) -> Result<(), LogError> {
    silent_at_end(state, follow_once(state)).await
}

async fn silent_at_end<T>(state: &ApiState, following: impl Future<Output = T>) -> T {
    let _silent_at_end = SilentAtEnd(state);
    following.await
}

async fn follow_once(state: &ApiState) -> Result<(), LogError> {
    let topic = format!("{}{CHANGES}", state.options.prefix);
    let partitions = state.log.topic(&topic).await?.partitions;
    let mut from = Vec::new();
    for partition in 0..partitions {
        from.push((partition, state.log.end(&topic, partition, Isolation::Committed).await?));
    }
    state.readiness.note_ends(&*state.log).await?;
    let mut reader = state.log.read(&topic, &from).await?;
    // From here on nothing is missed; what was at hand before may have been.
    let mut feed = Feed { tables_id: resume(state).await.map_err(unread)?, is_told: false };
    warm(state).await?;
    state.feed_alive.store(true, Ordering::Relaxed);
    state.slots.iter().for_each(|slot| purging::all(state, slot));
    while state.unready.read().is_some() {
        let missing = state.readiness.missing(&*state.store).await.map_err(unread)?;
        let is_missing = missing.is_some();
        *state.unready.write() = missing;
        if is_missing {
            // Meanwhile nothing else waits.
            feed.take(state, &mut *reader, PAUSE).await?;
        }
    }
    loop {
        feed.take(state, &mut *reader, WAIT).await?;
        heard(state, reader.cut_off());
    }
}

/// While the log is not heard, caches may be out of date. The reader goes on from where it was, so
/// nothing is missed.
fn heard(state: &ApiState, cut_off: Option<Duration>) {
    let is_heard = cut_off.is_none();
    let was_heard = state.feed_alive.swap(is_heard, Ordering::AcqRel);
    match cut_off {
        Some(silent) if was_heard => tracing::warn!(
            silent_s = silent.as_secs(),
            "the change feed is silent; caches may be out of date"
        ),
        None if !was_heard => tracing::info!("the change feed is followed again"),
        _ => {}
    }
}

/// Learns how far the tables are, and forgets what is older; the id of the tables.
///
/// In this order: what is read after the positions has their rows in it. Were they read after a
/// cache was cleared, a row that was read between would be taken for one that has them.
async fn resume(state: &ApiState) -> StoreResult<String> {
    let tables_id = state.store.table_id(&positions::table()?).await?.to_string();
    for slot in &state.slots {
        for served in slot.followed() {
            switch::load(state, &served).await?;
        }
        let _feeding = state.feeding.lock().await;
        if let Some(context) = slot.declared.context {
            state.progress.raise_all(context, &slot.live().folded());
        }
    }
    Ok(tables_id)
}

fn unavailable(what: &str, error: impl Into<Cause>) -> LogError {
    LogError::Unavailable { what: what.to_owned(), source: error.into() }
}

fn unread(error: StoreError) -> LogError {
    unavailable("read store", error)
}

async fn warm(state: &ApiState) -> Result<(), LogError> {
    for served in state.followed() {
        served.model.warm().await.map_err(unread)?;
    }
    Ok(())
}

struct Feed {
    /// Of the tables that this process reads.
    tables_id: String,
    /// Whether it was said that there are others.
    is_told: bool,
}

impl Feed {
    async fn take(
        &mut self,
        state: &ApiState,
        reader: &mut dyn LogReader,
        wait: Duration,
    ) -> Result<(), LogError> {
        let batch = reader.next(LIMIT, wait).await?;
        for record in batch.records {
            // The projector's keys are the names of projections, this version's or not.
            if !is_ours(state, &record.record.key) {
                state.options.foreign.pass_over("change feed", &record);
                continue;
            }
            let Some(value) = &record.record.value else { continue };
            let changed = match state.codec.decode(value).await {
                Ok(decoded) if decoded.record() == PARTITIONS_CHANGED => {
                    decoded.read::<PartitionsChangedRecord>()
                }
                Ok(_) => continue,
                // Started over, nothing is missed.
                Err(error) if error.is_outage() => {
                    return Err(unavailable("schema registry", error));
                }
                Err(error) => Err(error),
            };
            match changed {
                Ok(changed) => {
                    let hop = traced::processing(&record);
                    hop.scope(self.apply(state, &changed)).await.map_err(unread)?;
                }
                Err(_) => tracing::warn!(
                    topic = %record.topic, partition = record.partition, offset = record.offset,
                    "passing over a change that cannot be read"
                ),
            }
        }
        let followed = state.followed();
        let used: u64 = followed.iter().map(|served| served.model.used_bytes()).sum();
        let out_of_date: usize = followed.iter().map(|served| served.model.out_of_date()).sum();
        state.metrics.cache_bytes.set(used as i64);
        state.metrics.out_of_date.set(out_of_date as i64);
        Ok(())
    }

    async fn apply(
        &mut self,
        state: &ApiState,
        changed: &PartitionsChangedRecord,
    ) -> StoreResult<()> {
        // What a projector folds into other tables is not in these. Earlier versions do not say.
        if changed.tables_id.as_ref().is_some_and(|id| *id != self.tables_id) {
            if !std::mem::replace(&mut self.is_told, true) {
                tracing::warn!(
                    projection = changed.projection,
                    theirs = changed.tables_id,
                    ours = self.tables_id,
                    "a projector fills other tables than this process reads: do all name the same \
                     scylla.keyspace?"
                );
            }
            return Ok(());
        }
        let parked = parked::table()?;
        // A switch comes before this change or after it.
        let _feeding = state.feeding.lock().await;
        for slot in &state.slots {
            let live = slot.live();
            for served in slot.followed() {
                let model = &served.model;
                if !is_of(model.projection(), changed) {
                    continue;
                }
                // What is kept ends before anybody learns how far the tables are, and what is set aside
                // is known by then.
                for table in &changed.tables {
                    match table.table == parked.name() {
                        true => model.parked().load(&*state.store).await?,
                        false => model.changed(table),
                    }
                }
                served.raise(changed.consistency_token.as_deref());
                if Arc::ptr_eq(&served, &live) {
                    state.progress.raise(changed.consistency_token.as_deref());
                    purging::changed(state, slot, &**model, &changed.tables);
                }
            }
        }
        Ok(())
    }
}

fn is_of(projection: &dyn Projected, changed: &PartitionsChangedRecord) -> bool {
    let edition = projection.edition();
    projection.name() == changed.projection
        && i64::from(edition.version) == i64::from(changed.version)
        && i64::from(edition.generation) == i64::from(changed.generation)
}

fn is_ours(state: &ApiState, key: &[u8]) -> bool {
    state.slots.iter().any(|slot| slot.live().model.projection().name().as_bytes() == key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Installation, installation};
    use almanac_event_log::{Append, EventLog, Headers, Offset, Record, TopicId};
    use almanac_schemas::{Token, projections::TableChangeRecord};
    use almanac_tables::{
        Edition, Source, plans,
        recipes::{self, id_bucket},
    };
    use futures::FutureExt;
    use std::panic::AssertUnwindSafe;
    use uuid::Uuid;

    const ID: Uuid = Uuid::from_u128(7);

    impl Installation {
        async fn recipe(&self, version: u64) {
            let (id, body) = (ID.to_string(), format!("{{\"id\":\"{ID}\",\"version\":{version}}}"));
            let table = &self.recipes.tables.recipes;
            self.store.put(table, id_bucket(&id), &id, version, &body).await;
        }

        async fn token(&self, offset: Offset) -> Token {
            let topic = self.log.topic("commands").await.unwrap().id.0;
            Token { context: "recipes".into(), topic, partition: 1, offset }
        }

        async fn save(&self, source: Source, topic: TopicId, next_offset: Offset, offset: Offset) {
            let consistency_token = Some(self.token(offset).await.to_string());
            let position = positions::Position {
                topic_id: topic,
                next_offset,
                consistency_token,
                moved_at_ms: None,
                digest: None,
                held_for: None,
                repairs: 0,
            };
            let write = positions::write(&source, 1, &position).unwrap();
            almanac_read_store::ReadStore::write(&*self.store, vec![write]).await.unwrap();
        }

        async fn is_reached(&self, offset: Offset) -> bool {
            let token = self.token(offset).await;
            let tokens = [&token];
            let reached = self.state.progress.reached(&*self.state.log, &self.state.codec, &tokens);
            tokio::time::timeout(Duration::from_millis(100), reached).await.is_ok()
        }

        async fn version(&self) -> String {
            let document = self.recipes.cache.document(&self.recipes, ID).await.ok().unwrap();
            document.unwrap().tag.to_str().unwrap().to_owned()
        }
    }

    #[tokio::test]
    async fn a_feed_that_nobody_follows_any_more_is_silent() {
        let installation = installation().await;
        let state = &installation.state;
        state.feed_alive.store(true, Ordering::Relaxed);
        let panicking = async { panic!("a hole in the feed") };
        let panicking = AssertUnwindSafe(silent_at_end(state, panicking)).catch_unwind().await;
        assert!(panicking.is_err());
        assert!(!state.feed_alive.load(Ordering::Relaxed), "readers would take it for followed");
    }

    #[tokio::test]
    async fn changes_with_keys_of_nobody_are_passed_over() {
        let installation = installation().await;
        let state = &installation.state;
        let mut feed = Feed { tables_id: String::new(), is_told: false };
        let mut reader = state.log.read(CHANGES, &[(0, 0)]).await.unwrap();
        let keys: [Vec<u8>; 4] =
            [vec![], b"hello".to_vec(), vec![b'k'; 70_000], plans::PROJECTION.into()];
        for key in keys {
            let (value, headers) = (Some("hello".into()), Headers::default());
            let record = Record { key: key.into(), value, headers, timestamp_ms: 0 };
            let append = Append { topic: CHANGES.into(), partition: 0, record };
            state.log.append(vec![append]).await.unwrap();
            feed.take(state, &mut *reader, WAIT).await.unwrap();
        }
        let passed_over = state.options.foreign.count("change feed", CHANGES, 0);
        assert_eq!(passed_over, 3, "what is ours is only unreadable");
    }

    const RECIPES: Source = Source {
        projection: recipes::PROJECTION,
        edition: Edition { version: recipes::VERSION, generation: 0 },
        topic: "recipes.events",
    };

    /// Whatever happens while this process learns how far the tables are: who has the token of what
    /// it learnt is not answered from a row that it read before.
    #[tokio::test]
    async fn what_was_read_before_the_positions_is_not_served_to_their_tokens() {
        let installation = std::sync::Arc::new(installation().await);
        let topic = installation.log.topic("recipes.events").await.unwrap().id;
        installation.recipe(1).await;
        installation.save(RECIPES, topic, 1, 1).await;
        let meanwhile = installation.clone();
        let interruption = async move {
            // A request reads the old row, and a projector folds further.
            assert_eq!(meanwhile.version().await, "\"1\"");
            meanwhile.recipe(2).await;
            meanwhile.save(RECIPES, topic, 2, 2).await;
        };
        let table = positions::table().unwrap();
        installation.store.before_slice_of(&table, Box::new(|| Box::pin(interruption)));
        resume(&installation.state).await.unwrap();
        installation.state.feed_alive.store(true, Ordering::Relaxed);
        assert!(installation.is_reached(2).await);
        assert_eq!(installation.version().await, "\"2\"", "loaded again");
    }

    /// What is kept ends, and what is set aside is known, before a token is reached; and only what
    /// is in these tables counts.
    #[tokio::test]
    async fn progress_is_of_the_tables_that_are_read() {
        let installation = installation().await;
        let state = &installation.state;
        installation.recipe(1).await;
        let mut feed = Feed { tables_id: resume(state).await.unwrap(), is_told: false };
        state.feed_alive.store(true, Ordering::Relaxed);
        assert_eq!(installation.version().await, "\"1\"");
        installation.recipe(2).await;
        let parked = parked::table().unwrap();
        let place = format!("{}/{}", recipes::PROJECTION, recipes::VERSION);
        installation.store.put(&parked, &place, "recipes.events/000001/aside", 1, "{}").await;
        let change = |tables_id: Option<String>, offset: Token| PartitionsChangedRecord {
            projection: recipes::PROJECTION.to_owned(),
            version: recipes::VERSION as i32,
            source_topic: "recipes.events".to_owned(),
            source_partition: 1,
            position: 2,
            tables: [("recipes", ID.to_string()), (parked.name(), place.clone())]
                .map(|(table, key)| TableChangeRecord {
                    table: table.to_owned(),
                    partitions: Vec::new(),
                    keys: vec![key],
                })
                .into(),
            consistency_token: Some(offset.to_string()),
            tables_id,
            generation: 0,
        };
        let token = installation.token(5).await;
        let other = change(Some(Uuid::nil().to_string()), token.clone());
        feed.apply(state, &other).await.unwrap();
        assert!(!installation.is_reached(5).await, "they are of other tables");
        assert_eq!(installation.version().await, "\"1\"");
        assert!(!installation.recipes.parked.has(b"aside"));
        let ours = change(Some(feed.tables_id.clone()), token);
        feed.apply(state, &ours).await.unwrap();
        assert!(installation.is_reached(5).await);
        assert_eq!(installation.version().await, "\"2\"");
        assert!(
            installation.recipes.parked.has(b"aside") && !installation.recipes.parked.has(b"other")
        );
    }

    /// Tables that are folded anew are not answered from before they are as far as the log was.
    #[tokio::test]
    async fn a_reader_is_ready_once_its_tables_reach_the_ends_of_its_start() {
        let installation = installation().await;
        let state = &installation.state;
        let append = async || {
            let record = Record {
                key: "k".into(),
                value: Some("v".into()),
                headers: Headers::default(),
                timestamp_ms: 0,
            };
            let appends = vec![Append { topic: "recipes.events".into(), partition: 1, record }];
            installation.log.append(appends).await.unwrap();
        };
        let missing = async || state.readiness.missing(&*state.store).await.unwrap();
        append().await;
        append().await;
        state.readiness.note_ends(&*state.log).await.unwrap();
        let told = missing().await.unwrap();
        assert!(
            told.contains("recipes is folded to 0 of recipes.events/1, which ended at 2"),
            "{told}"
        );
        let topic = installation.log.topic("recipes.events").await.unwrap().id;
        installation.save(RECIPES, topic, 1, 1).await;
        assert!(missing().await.is_some());
        installation.save(RECIPES, TopicId(Uuid::nil()), 2, 1).await;
        assert!(missing().await.is_some(), "a position in another topic means nothing");
        // What comes later is not waited for.
        append().await;
        state.readiness.note_ends(&*state.log).await.unwrap();
        installation.save(RECIPES, topic, 3, 1).await;
        assert_eq!(missing().await, None);
    }
}

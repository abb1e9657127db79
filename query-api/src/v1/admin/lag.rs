//! How old the events are that tables lack: the time of the first event behind each position, as the log
//! has it. Of partitions that are behind only, and no longer than an answer may wait.

use crate::state::ApiState;
use almanac_event_log::{Offset, ReadLimit};
use almanac_tables::positions::{Ends, Positions};
use futures::{FutureExt, StreamExt, future::BoxFuture};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{collections::HashMap, time::Duration};

/// On Kafka each look is a consumer of its own.
const LOOKS: usize = 4;
const WAIT: Duration = Duration::from_secs(1);
const AT_MOST: Duration = Duration::from_secs(3);
const LIMIT: ReadLimit = ReadLimit { records: 1, bytes: 1 };

type Place = (&'static str, u32);

/// Times of the oldest events that are not folded, where they could be learnt in time.
pub(super) struct Waiting(HashMap<Place, i64>);

impl Waiting {
    /// Seconds; 0 where nothing waits, null where it is not known.
    pub(super) fn lag_s(&self, place: Place, lag_events: u64) -> Value {
        if lag_events == 0 {
            return json!(0);
        }
        let now = Timestamp::now().as_millisecond();
        self.0
            .get(&place)
            .map_or(Value::Null, |since| json!(now.saturating_sub(*since).max(0) as f64 / 1_000.0))
    }
}

pub(super) async fn oldest(state: &ApiState, positions: &Positions, ends: &Ends) -> Waiting {
    let mut behind = Vec::new();
    for ((topic, partition), end) in ends {
        let saved = positions.get(&((*topic).to_owned(), *partition));
        let position = saved.map_or(0, |saved| saved.next_offset);
        if position < *end {
            behind.push(((*topic, *partition), position, *end));
        }
    }
    let until = tokio::time::Instant::now() + AT_MOST;
    let mut looks: Vec<BoxFuture<'_, Option<(Place, i64)>>> = Vec::with_capacity(behind.len());
    for (place, position, end) in behind {
        let look = async move { Some((place, time_of(state, place, position, end).await?)) };
        looks.push(look.boxed());
    }
    let mut found = futures::stream::iter(looks)
        .buffer_unordered(LOOKS)
        .take_until(Box::pin(tokio::time::sleep_until(until)));
    let mut times = HashMap::new();
    while let Some(one) = found.next().await {
        times.extend(one);
    }
    Waiting(times)
}

/// Of the first event from a position on.
async fn time_of(
    state: &ApiState,
    (topic, partition): Place,
    position: Offset,
    end: Offset,
) -> Option<i64> {
    let topic = format!("{}{topic}", state.options.prefix);
    let start = state.log.start(&topic, partition).await.ok()?;
    let from = position.max(start);
    let mut reader = state.log.read_to(&topic, partition, from, end).await.ok()?;
    let batch = reader.next(LIMIT, WAIT).await.ok()?;
    batch.records.first().map(|record| record.record.timestamp_ms)
}

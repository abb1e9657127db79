//! Topics: what they keep, and from where to where.

use super::{list, log_problem, page};
use crate::state::ApiState;
use almanac_edge::{Problem, Scope};
use almanac_event_log::{EventLog, Isolation, LogResult, Offset, Retention, TopicSpec};
use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use futures::{StreamExt, TryStreamExt, stream};
use http::HeaderMap;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::sync::Arc;

/// Partitions that are asked about at once.
const AT_ONCE: usize = 16;
/// What a rate is of.
const RECENT: SignedDuration = SignedDuration::from_mins(1);

struct Kept {
    start: Offset,
    /// What readers reach.
    stable_end: Offset,
    /// What is written, transactions that are open included.
    end: Offset,
}

pub(super) async fn topics(
    State(state): State<Arc<ApiState>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    state.identity.require(&headers, Scope::OperatorRead)?;
    let all = state.options.installation.topics.iter().map(|spec| (spec.name.clone(), spec));
    let (some, next) = page("topics", query.as_deref(), all)?;
    let mut items = Vec::with_capacity(some.len());
    for spec in some {
        items.push(described(&state, spec).await.map_err(|error| log_problem(&error))?);
    }
    Ok(list(&headers, &items, &next))
}

pub(super) async fn described(state: &ApiState, spec: &TopicSpec) -> LogResult<Value> {
    let partitions: Vec<Kept> = stream::iter(0..spec.partitions)
        .map(|partition| kept(state, spec, partition))
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let ends = partitions.iter().map(|kept| kept.end);
    let rate = per_second(&*state.log, &spec.name, ends, Timestamp::now()).await?;
    let offsets: u64 = partitions.iter().map(|kept| kept.end - kept.start.min(kept.end)).sum();
    let partitions: Vec<Value> = (0..)
        .zip(&partitions)
        .map(|(partition, kept): (u32, _)| {
            json!({
                "partition": partition,
                "start": kept.start,
                "stable_end": kept.stable_end,
                "end": kept.end,
            })
        })
        .collect();
    let name = spec.name.strip_prefix(&state.options.prefix).unwrap_or(&spec.name);
    let (keeps, keeps_s) = match spec.retention {
        Retention::Forever => ("forever", None),
        Retention::Compacted => ("newest_of_key", None),
        Retention::For(time) => ("for", Some(time.as_secs())),
    };
    Ok(json!({
        "topic": name,
        "keeps": keeps,
        "keeps_s": keeps_s,
        // Marks of transactions and what was compacted away count as well.
        "offsets": offsets,
        "offsets_per_s": rate,
        "partitions": partitions,
    }))
}

/// Offsets below these ends and behind the first record of the last minute, by each second of it.
async fn per_second(
    log: &dyn EventLog,
    topic: &str,
    ends: impl Iterator<Item = Offset>,
    now: Timestamp,
) -> LogResult<f64> {
    let recent = log.offsets_at(topic, (now - RECENT).as_millisecond()).await?;
    // Asked after the ends, a partition may have grown beyond its.
    let offsets: u64 = ends.zip(recent).map(|(end, at)| end.saturating_sub(at)).sum();
    Ok((offsets as f64 / RECENT.as_secs_f64() * 100.0).round() / 100.0)
}

async fn kept(state: &ApiState, spec: &TopicSpec, partition: u32) -> LogResult<Kept> {
    let (log, topic) = (&state.log, &*spec.name);
    let start = log.start(topic, partition).await?;
    let stable_end = log.end(topic, partition, Isolation::Committed).await?;
    // Asked last, it is never below the other.
    let end = log.end(topic, partition, Isolation::Uncommitted).await?;
    Ok(Kept { start, stable_end, end: end.max(stable_end) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use almanac_event_log::{
        Append, Durability, Headers, Record,
        embedded::{EmbeddedLog, EmbeddedOptions},
    };
    use bytes::Bytes;

    #[tokio::test]
    async fn what_is_older_than_a_minute_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(EmbeddedOptions::new(folder.path())).unwrap();
        let spec = TopicSpec {
            name: "topic".to_owned(),
            partitions: 2,
            retention: Retention::Forever,
            durability: Durability::Buffered,
        };
        log.ensure_topics(&[spec]).await.unwrap();
        let now: Timestamp = "2026-11-29T12:00:00Z".parse().unwrap();
        let written = |partition, seconds_ago: i64| Append {
            topic: "topic".into(),
            partition,
            record: Record {
                key: Bytes::from_static(b"key"),
                value: Some(Bytes::from_static(b"value")),
                headers: Headers::default(),
                timestamp_ms: now.as_millisecond() - seconds_ago * 1_000,
            },
        };
        log.append(vec![written(0, 7_200), written(1, 61)]).await.unwrap();
        assert_eq!(per_second(&log, "topic", [1, 1].into_iter(), now).await.unwrap(), 0.0);
        let recent = (0..6).map(|number| written(u32::from(number % 2 == 0), 59 - number));
        log.append(recent.collect()).await.unwrap();
        assert_eq!(per_second(&log, "topic", [4, 4].into_iter(), now).await.unwrap(), 0.1);
    }
}

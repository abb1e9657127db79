//! From an event of `plans.events` to row changes.

use super::{
    DAYS_PARTITION, PROVIDERS_PARTITION, StartKey, Tables, history_bucket, id_bucket,
    render::{Rendered, instant},
};
use crate::{
    history,
    projection::{FoldError, Folded},
};
use almanac_read_store::{Change, Table, Write, timestamp};
use almanac_schemas::{
    Decoded,
    plans::{
        CHANGED, DELISTED, FEED_OBSERVED, FeedObservedRecord, LISTED, PlanEventRecord, RELISTED,
        TOPIC,
    },
};
use bytes::Bytes;

/// Folds the event at `position` of `source_partition`.
pub fn fold(
    tables: &Tables,
    decoded: &Decoded<'_>,
    source_partition: u32,
    position: u64,
) -> Result<Folded, FoldError> {
    let kind = match decoded.record() {
        LISTED => "plan.listed",
        CHANGED => "plan.changed",
        DELISTED => "plan.delisted",
        RELISTED => "plan.relisted",
        FEED_OBSERVED => return fold_observation(tables, &decoded.read()?, position),
        other => {
            return Err(FoldError::UnknownRecord { record: other.to_owned(), topic: TOPIC });
        }
    };
    let event: PlanEventRecord<'_> = decoded.read()?;
    fold_plan(tables, &event, kind, source_partition, position).ok_or(FoldError::OutsideDomain)
}

fn put(table: &Table, partition: &str, clustering: String, position: u64, body: String) -> Write {
    Write {
        table: table.clone(),
        change: Change::Put {
            partition: partition.to_owned(),
            clustering,
            timestamp: timestamp(position, 0, true),
            body: Bytes::from(body),
        },
    }
}

fn fold_plan(
    tables: &Tables,
    event: &PlanEventRecord<'_>,
    kind: &str,
    source_partition: u32,
    position: u64,
) -> Option<Folded> {
    let rendered = Rendered::of(event)?;
    let plan = &event.plan;
    let mut folded = Folded::default();
    let key = StartKey { id: &plan.id, starts_at: plan.starts_at, ends_at: plan.ends_at };
    let (day, clustering) = (key.day(), key.clustering());
    if let Some(previous_starts_at) = event.previous_starts_at {
        let previous = StartKey {
            id: &plan.id,
            starts_at: previous_starts_at,
            ends_at: event.previous_ends_at,
        };
        let previous_clustering = previous.clustering();
        if previous_clustering != clustering {
            folded.index.push(Write {
                table: tables.by_start.clone(),
                change: Change::Delete {
                    partition: previous.day(),
                    clustering: previous_clustering,
                    timestamp: timestamp(position, 0, false),
                },
            });
        }
    }
    // A plan that was never sellable online is listed nowhere.
    if event.ever_online {
        let place = format!("{day}/{source_partition:06}");
        folded.index.push(put(&tables.days, DAYS_PARTITION, place, position, "{}".to_owned()));
        let body = rendered.index_body();
        folded.index.push(put(&tables.by_start, &day, clustering, position, body));
    }
    let sequence = u64::try_from(event.sequence).ok()?;
    let bucket = history_bucket(&plan.id, sequence);
    let place = history::key(&plan.id, sequence);
    let body = rendered.history_body(event, kind)?;
    folded.index.push(put(&tables.history, &bucket, place, position, body));
    let bucket = id_bucket(&plan.id);
    let own = put(&tables.plans, bucket, plan.id.to_string(), position, rendered.plan_body());
    folded.own.push(own);
    Some(folded)
}

/// An observation writes the rows it is the newest of: what was last, what last succeeded, what
/// last failed, what was in the last body. Reading joins them.
fn fold_observation(
    tables: &Tables,
    observed: &FeedObservedRecord,
    position: u64,
) -> Result<Folded, FoldError> {
    let body = observation_text(observed).ok_or(FoldError::OutsideDomain)?;
    let row = |kind: &str| {
        let clustering = format!("{}/{kind}", observed.provider);
        put(&tables.providers, PROVIDERS_PARTITION, clustering, position, body.clone())
    };
    let mut folded = Folded::default();
    match observed.outcome.as_str() {
        // A stored body says nothing of how the provider is doing now.
        "replayed" => {
            folded.own.push(row("replay"));
            return Ok(folded);
        }
        "failed" | "suspect" => folded.index.push(row("failure")),
        _ => folded.index.push(row("success")),
    }
    if observed.body_bytes.is_some() && observed.outcome != "failed" {
        folded.index.push(row("body"));
    }
    folded.own.push(row("last"));
    Ok(folded)
}

fn observation_text(observed: &FeedObservedRecord) -> Option<String> {
    let time = |unix_ms: i64| {
        let mut out = String::new();
        instant(&mut out, unix_ms)?;
        serde_json::from_str::<serde_json::Value>(&out).ok()
    };
    let json = serde_json::json!({
        "name": observed.provider,
        "observed_at": time(observed.observed_at)?,
        "outcome": observed.outcome,
        // Events of earlier versions may name a provider's address with its keys.
        "detail": observed.detail.as_deref().map(almanac_secrets::without_secrets),
        "listed_plans": observed.listed_plans,
        "listed": observed.listed,
        "changed": observed.changed,
        "delisted": observed.delisted,
        "relisted": observed.relisted,
        "quarantined": observed.quarantined,
        "faults": observed.faults,
        "body_bytes": observed.body_bytes,
        "duration_ms": observed.duration_ms,
        "breaker": observed.breaker,
        "consecutive_failures": observed.consecutive_failures,
        "next_fetch_at": time(observed.next_fetch_at)?,
        "next_fetch_reason": observed.next_fetch_reason,
    });
    Some(json.to_string())
}

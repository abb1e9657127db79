//! From an event of `plans.events` to row changes. An event says where its plan stood before, so that no
//! row has to be read to take an index row away.

mod render;

pub(crate) use render::price_range;

use crate::projection::{Event, FoldError, Folded, Projection, Rows};
use almanac_schemas::plans::{
    CHANGED, DELISTED, FEED_OBSERVED, FeedObservedRecord, LISTED, PlanEventRecord, RELISTED, TOPIC,
};
use almanac_tables::{
    history,
    plans::{DAYS_PARTITION, PROVIDERS_PARTITION, StartKey, Tables, history_bucket, id_bucket},
};
use render::{Rendered, instant};

impl Projection for Tables {
    fn fold(&self, event: &Event<'_>) -> Result<Folded, FoldError> {
        let mut rows = event.rows();
        let done = match event.decoded.record() {
            LISTED => fold_plan(self, event, "plan.listed", &mut rows)?,
            CHANGED => fold_plan(self, event, "plan.changed", &mut rows)?,
            DELISTED => fold_plan(self, event, "plan.delisted", &mut rows)?,
            RELISTED => fold_plan(self, event, "plan.relisted", &mut rows)?,
            FEED_OBSERVED => fold_observation(self, &event.decoded.read()?, &mut rows),
            _ => return Err(event.unknown(TOPIC)),
        };
        done.map(|()| rows.folded()).ok_or(FoldError::OutsideDomain)
    }
}

fn fold_plan(
    tables: &Tables,
    event: &Event<'_>,
    kind: &str,
    rows: &mut Rows,
) -> Result<Option<()>, FoldError> {
    let record: PlanEventRecord<'_> = event.decoded.read()?;
    Ok(plan_rows(tables, &record, kind, event.partition, rows))
}

fn plan_rows(
    tables: &Tables,
    event: &PlanEventRecord<'_>,
    kind: &str,
    source_partition: u32,
    rows: &mut Rows,
) -> Option<()> {
    let rendered = Rendered::of(event)?;
    let plan = &event.plan;
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
            rows.delete(&tables.by_start, previous.day(), previous_clustering);
        }
    }
    // A plan that was never sellable online is listed nowhere.
    if event.ever_online {
        let place = format!("{day}/{source_partition:06}");
        rows.put(&tables.days, DAYS_PARTITION, place, "{}");
        rows.put(&tables.by_start, day, clustering, rendered.index_body());
    }
    let sequence = u64::try_from(event.sequence).ok()?;
    let bucket = history_bucket(&plan.id, sequence);
    let place = history::key(&plan.id, sequence);
    rows.put(&tables.history, bucket, place, rendered.history_body(event, kind)?);
    rows.put_own(&tables.plans, id_bucket(&plan.id), &*plan.id, rendered.plan_body());
    Some(())
}

/// An observation writes the rows it is the newest of: what was last, what last succeeded, what
/// last failed, what was in the last body. Reading joins them.
fn fold_observation(tables: &Tables, observed: &FeedObservedRecord, rows: &mut Rows) -> Option<()> {
    let body = observation_text(observed)?;
    let key = |kind: &str| format!("{}/{kind}", observed.provider);
    let index = |rows: &mut Rows, kind: &str| {
        rows.put(&tables.providers, PROVIDERS_PARTITION, key(kind), body.clone());
    };
    match observed.outcome.as_str() {
        // A stored body says nothing of how the provider is doing now.
        "replayed" => {
            rows.put_own(&tables.providers, PROVIDERS_PARTITION, key("replay"), body);
            return Some(());
        }
        "failed" | "suspect" => index(rows, "failure"),
        _ => index(rows, "success"),
    }
    if observed.body_bytes.is_some() && observed.outcome != "failed" {
        index(rows, "body");
    }
    rows.put_own(&tables.providers, PROVIDERS_PARTITION, key("last"), body);
    Some(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FoldError, testing::Folding};
    use almanac_tables::plans::VERSION;

    fn observed(outcome: &str, body_bytes: Option<i64>) -> FeedObservedRecord {
        FeedObservedRecord {
            provider: "fever".to_owned(),
            observed_at: 1_000,
            outcome: outcome.to_owned(),
            detail: None,
            listed_plans: None,
            listed: 0,
            changed: 0,
            delisted: 0,
            relisted: 0,
            quarantined: 0,
            faults: Vec::new(),
            body_bytes,
            duration_ms: 1,
            breaker: "closed".to_owned(),
            consecutive_failures: 0,
            next_fetch_at: 2_000,
            next_fetch_reason: "interval".to_owned(),
            payload_id: None,
        }
    }

    #[tokio::test]
    async fn an_observation_writes_the_rows_it_is_the_newest_of() {
        let mut folding = Folding::new(Tables::of(VERSION).unwrap()).await;
        folding.event(FEED_OBSERVED, &observed("changed", Some(10))).await;
        folding.event(FEED_OBSERVED, &observed("failed", None)).await;
        let outcomes: Vec<(String, String)> = (folding.of("providers").into_iter())
            .map(|(_, key, body)| {
                let body: serde_json::Value = serde_json::from_str(&body).unwrap();
                (key, body["outcome"].as_str().unwrap().to_owned())
            })
            .collect();
        let expected = [
            ("fever/body", "changed"),
            ("fever/failure", "failed"),
            ("fever/last", "failed"),
            ("fever/success", "changed"),
        ];
        let expected = expected.map(|(key, outcome)| (key.to_owned(), outcome.to_owned()));
        assert_eq!(outcomes, expected);
        folding.repeats().await;
        let foreign = folding.codec().encode(
            almanac_schemas::projections::PARTITIONS_CHANGED,
            &almanac_schemas::projections::PartitionsChangedRecord {
                projection: String::new(),
                version: 1,
                source_topic: String::new(),
                source_partition: 0,
                position: 0,
                tables: Vec::new(),
                consistency_token: None,
                tables_id: None,
                generation: 0,
            },
        );
        let refused = folding.value(foreign.unwrap()).await;
        assert!(matches!(refused, Err(FoldError::UnknownRecord { .. })), "{refused:?}");
    }
}

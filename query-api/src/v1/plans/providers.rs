//! `/v1/providers`: how the feeds are doing. No fragments of bodies.

use super::Plans;
use crate::{
    trouble::{Account, Runbook, Severity, Trouble},
    v1::store_problem,
};
use almanac_domain::operations::Pausing;
use almanac_edge::{Problem, ProblemType, conditional, query::Parameters};
use almanac_operations::Known;
use almanac_read_store::{Slice, StoreResult};
use almanac_schemas::json::pausing;
use almanac_tables::plans::PROVIDERS_PARTITION;
use arc_swap::ArcSwapOption;
use axum::{
    extract::{Path, RawQuery, State},
    response::Response,
};
use http::HeaderMap;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

type Observations = BTreeMap<String, BTreeMap<String, Value>>;

/// The observations of every provider, by kind: last, success, failure, body.
async fn observations(state: &Plans) -> StoreResult<Observations> {
    let rows =
        state.store.slice(&state.tables.providers, PROVIDERS_PARTITION, &Slice::all()).await?;
    let mut providers = Observations::new();
    for row in rows {
        let Some((name, kind)) = row.clustering.rsplit_once('/') else { continue };
        let Ok(value) = serde_json::from_slice(&row.body) else { continue };
        providers.entry(name.to_owned()).or_default().insert(kind.to_owned(), value);
    }
    Ok(providers)
}

/// When each provider last answered well, by name.
pub(super) type LastSeen = HashMap<String, String>;

/// The same, kept until the change feed says that providers were observed.
#[derive(Default)]
pub(crate) struct KeptLastSeen {
    changes: AtomicU64,
    kept: ArcSwapOption<(u64, Arc<LastSeen>)>,
}

impl KeptLastSeen {
    pub(super) fn end(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) async fn times(&self, state: &Plans) -> Result<Arc<LastSeen>, Problem> {
        // Before it is read: what changes meanwhile ends it.
        let changes = self.changes.load(Ordering::Acquire);
        let kept = self.kept.load();
        if let Some((at, times)) = kept.as_deref()
            && *at == changes
            && state.is_fed()
        {
            return Ok(times.clone());
        }
        let times = Arc::new(last_good_bodies(state).await?);
        self.kept.store(Some(Arc::new((changes, times.clone()))));
        Ok(times)
    }
}

async fn last_good_bodies(state: &Plans) -> Result<LastSeen, Problem> {
    let providers = observations(state).await.map_err(|error| store_problem(&error))?;
    let time = |kinds: BTreeMap<String, Value>| {
        Some(kinds.get("success")?.get("observed_at")?.as_str()?.to_owned())
    };
    Ok(providers.into_iter().filter_map(|(name, kinds)| Some((name, time(kinds)?))).collect())
}

fn describe(
    name: &str,
    kinds: &BTreeMap<String, Value>,
    freshness_s: Option<i64>,
    paused: Option<&Pausing>,
) -> Value {
    let of = |kind: &str, field: &str| kinds.get(kind).map_or(&Value::Null, |value| &value[field]);
    let age_s = of("success", "observed_at")
        .as_str()
        .and_then(|time| time.parse::<jiff::Timestamp>().ok())
        .map(|time| jiff::Timestamp::now().as_second() - time.as_second());
    json!({
        "name": name,
        "last_outcome": of("last", "outcome"),
        "last_success_at": of("success", "observed_at"),
        "last_failure_at": of("failure", "observed_at"),
        "last_failure": of("failure", "detail"),
        "consecutive_failures": of("last", "consecutive_failures"),
        "breaker": of("last", "breaker"),
        "next_fetch_at": paused.map_or(of("last", "next_fetch_at"), |_| &Value::Null),
        "next_fetch_reason": match paused {
            Some(_) => json!("an operator paused it"),
            None => of("last", "next_fetch_reason").clone(),
        },
        "paused": pausing::paused(paused),
        "freshness": { "age_s": age_s, "objective_s": freshness_s,
            "met": age_s.zip(freshness_s).map(|(age, objective)| age <= objective) },
        "listed_plans": of("last", "listed_plans"),
        "last_body": {
            "bytes": of("body", "body_bytes"), "observed_at": of("body", "observed_at"),
            "listed": of("body", "listed"), "changed": of("body", "changed"),
            "delisted": of("body", "delisted"), "relisted": of("body", "relisted"),
            "quarantined": of("body", "quarantined"), "faults": of("body", "faults"),
        },
        "last_replay": kinds.get("replay").map(|replay| json!({
            "at": replay["observed_at"], "detail": replay["detail"],
            "listed": replay["listed"], "changed": replay["changed"],
            "delisted": replay["delisted"], "relisted": replay["relisted"],
            "quarantined": replay["quarantined"], "faults": replay["faults"],
        })),
    })
}

/// One that was never fetched is told of while it is paused.
async fn described(state: &Plans, known: &Known) -> StoreResult<Vec<Value>> {
    let mut providers = observations(state).await?;
    for paused in known.all_paused() {
        providers.entry(paused.provider.clone()).or_default();
    }
    let describe = |(name, kinds): (&String, &_)| {
        describe(name, kinds, state.freshness_of(name), known.paused(name))
    };
    Ok(providers.iter().map(describe).collect())
}

/// How the feeds are doing, for operators.
pub(super) async fn account(state: &Plans) -> StoreResult<Account> {
    let known = state.options.operations.known();
    let all = described(state, &known).await?;
    let paused = |one: &Value| one["name"].as_str().and_then(|name| known.paused(name));
    let troubles = all.iter().flat_map(|one| troubles(one, paused(one))).collect();
    let brief = |one: &Value| {
        let fields = ["name", "last_outcome", "last_success_at", "breaker", "freshness"];
        let fields = fields.map(|field| (field.to_owned(), one[field].clone()));
        let mut brief = Value::Object(fields.into_iter().collect());
        brief["paused"] = pausing::paused_and_why(paused(one));
        brief
    };
    Ok(Account { name: "providers", items: all.iter().map(brief).collect(), troubles })
}

fn troubles(provider: &Value, paused: Option<&Pausing>) -> Vec<Trouble> {
    let text = |field: &str| provider[field].as_str();
    let name = text("name").unwrap_or_default();
    if let Some(Pausing { by, reason, since, .. }) = paused {
        // That it grows old, and what it did before, is what whoever paused it took into account.
        let why = if reason.is_empty() { "no reason was given" } else { reason };
        let what = format!("{name} is not fetched: {by} paused it: {why}");
        let trouble = Trouble::new(Severity::Ticket, Runbook::ProviderPaused, what);
        return vec![trouble.since(Some(format!("{since:.3}")))];
    }
    let since = text("last_success_at").map(str::to_owned);
    let mut troubles = Vec::new();
    if provider["freshness"]["met"] == false {
        let (age, objective) =
            (&provider["freshness"]["age_s"], &provider["freshness"]["objective_s"]);
        let what =
            format!("what {name} lists is {age} s old, and is to be no older than {objective} s");
        let trouble = Trouble::new(Severity::Page, Runbook::FeedsStale, what);
        troubles.push(trouble.since(since.clone()));
    }
    if text("breaker").is_some_and(|breaker| breaker != "closed") {
        let what = format!("fetches of {name} fail; its circuit breaker is open");
        let trouble = Trouble::new(Severity::Ticket, Runbook::ProviderFailing, what);
        troubles.push(trouble.since(since.clone()));
    }
    if text("last_outcome") == Some("suspect") {
        let what = format!("the body of {name} looks wrong and is not believed yet");
        troubles.push(Trouble::new(Severity::Ticket, Runbook::ProviderSuspect, what).since(since));
    }
    troubles
}

pub(super) async fn list(
    State(state): State<Arc<Plans>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    Parameters::parse(query.as_deref(), &[])?;
    let known = state.options.operations.known();
    let items = described(&state, &known).await.map_err(|error| store_problem(&error))?;
    Ok(conditional::json(&headers, json!({"items": items, "next_cursor": null}).to_string()))
}

pub(super) async fn one(
    State(state): State<Arc<Plans>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    Parameters::parse(query.as_deref(), &[])?;
    let providers = observations(&state).await.map_err(|error| store_problem(&error))?;
    let known = state.options.operations.known();
    let paused = known.paused(&name);
    let never = BTreeMap::new();
    let kinds = providers.get(&name).or(paused.map(|_| &never)).ok_or_else(|| {
        Problem::new(ProblemType::NotFound, "no provider with this name was ever fetched")
    })?;
    let body = describe(&name, kinds, state.freshness_of(&name), paused);
    Ok(conditional::json(&headers, body.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_told_of_feeds_that_are_not_well() {
        let provider = |met: bool, breaker: &str, outcome: &str| {
            json!({
                "name": "fever", "last_outcome": outcome, "breaker": breaker,
                "last_success_at": "2026-03-01T12:00:00Z",
                "freshness": { "age_s": 700, "objective_s": 600, "met": met },
            })
        };
        assert_eq!(troubles(&provider(true, "closed", "changed"), None), []);
        let all = troubles(&provider(false, "open", "suspect"), None);
        let runbooks: Vec<Runbook> = all.iter().map(|one| one.runbook).collect();
        let expected = [Runbook::FeedsStale, Runbook::ProviderFailing, Runbook::ProviderSuspect];
        assert_eq!(runbooks, expected);
        assert_eq!(all[0].what, "what fever lists is 700 s old, and is to be no older than 600 s");
        assert!(all.iter().all(|one| one.since.as_deref() == Some("2026-03-01T12:00:00Z")));
        let never = json!({ "name": "new", "freshness": { "met": null }, "breaker": null });
        assert_eq!(troubles(&never, None), [], "it was not fetched yet");
        let paused = Pausing {
            provider: "fever".to_owned(),
            version: 1,
            is_paused: true,
            by: "ann".to_owned(),
            reason: "their feed is wrong".to_owned(),
            since: jiff::Timestamp::UNIX_EPOCH,
            created_at: jiff::Timestamp::UNIX_EPOCH,
        };
        let [told] = &troubles(&provider(false, "open", "suspect"), Some(&paused))[..] else {
            panic!("that alone is told");
        };
        assert_eq!((told.severity, told.runbook), (Severity::Ticket, Runbook::ProviderPaused));
        assert_eq!(told.what, "fever is not fetched: ann paused it: their feed is wrong");
        assert_eq!(told.since.as_deref(), Some("1970-01-01T00:00:00.000Z"));
    }
}

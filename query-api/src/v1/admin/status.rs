//! One answer to "is it well?". Each part is told by itself: what cannot be told is a trouble, and takes no
//! other part with it.

use super::{answer, projections, rebuilds, topics};
use crate::{
    state::ApiState,
    trouble::{Account, Runbook, Severity, Trouble},
};
use almanac_domain::operations::State as RebuildState;
use almanac_edge::{Problem, Scope, query::Parameters};
use almanac_errors::chain;
use almanac_operations::Known;
use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use http::HeaderMap;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

/// How long each part may take.
const PART: Duration = Duration::from_secs(5);
/// A projection that is behind and made no progress for so long is not well.
const PROGRESS_S: i64 = 60;

pub(super) async fn status(
    State(state): State<Arc<ApiState>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    Parameters::parse(query.as_deref(), &[])?;
    state.identity.require(&headers, Scope::OperatorRead)?;
    let mut troubles = own(&state);
    // As it was heard of last: an event log that does not answer is told of below.
    let known = state.options.operations.known();
    let (topics, projections, rebuilds, accounts) = tokio::join!(
        part("topics", topics_part(&state)),
        part("projections", projections_part(&state, &known)),
        part("rebuilds", rebuilds_part(&state, &known)),
        part("read models", accounts(&state)),
    );
    let mut body = json!({
        "engine": state.options.installation.engine,
        "version": env!("CARGO_PKG_VERSION"),
        // Each instance knows itself alone.
        "instances": [{
            "name": state.options.installation.instance,
            "roles": state.options.installation.roles,
        }],
    });
    for (name, told) in [("topics", topics), ("projections", projections), ("rebuilds", rebuilds)] {
        match told {
            Ok((value, found)) => {
                body[name] = value;
                troubles.extend(found);
            }
            Err(trouble) => {
                body[name] = Value::Null;
                troubles.push(trouble);
            }
        }
    }
    match accounts {
        Ok(accounts) => {
            for account in accounts {
                body[account.name] = account.items.into();
                troubles.extend(account.troubles);
            }
        }
        Err(trouble) => troubles.push(trouble),
    }
    troubles.sort_by(|one, other| (one.severity, &one.what).cmp(&(other.severity, &other.what)));
    troubles.dedup();
    body["problems"] = troubles.iter().map(Trouble::json).collect();
    Ok(answer(&headers, &body))
}

/// A part, or what keeps it from being told.
async fn part<T>(
    what: &str,
    telling: impl Future<Output = Result<T, Trouble>>,
) -> Result<T, Trouble> {
    tokio::time::timeout(PART, telling).await.unwrap_or_else(|_| {
        let what = format!("{what} could not be told within {} s", PART.as_secs());
        Err(Trouble::new(Severity::Page, Runbook::CutOffFromLog, what))
    })
}

/// What this process knows of itself.
fn own(state: &ApiState) -> Vec<Trouble> {
    let supervisor = &state.options.supervisor;
    let unready = state.unready.read().clone().or_else(|| supervisor.waits_for());
    let unready = unready.map(|what| {
        let what = format!("this instance is not ready: it waits for {what}");
        Trouble::new(Severity::Page, Runbook::Down, what)
    });
    let failing = supervisor.failing().into_iter().map(|one| {
        let what = format!("the task {} fails: {}", one.task, one.why);
        let severity = if one.panicked { Severity::Ticket } else { Severity::Page };
        Trouble::new(severity, Runbook::TaskDeaths, what)
    });
    let cut_off = state.told().into_iter().filter_map(|(name, sign)| {
        let word = sign.err()?;
        let what = format!("{name} of this instance is {word}");
        Some(Trouble::new(Severity::Page, Runbook::CutOffFromLog, what))
    });
    unready.into_iter().chain(failing).chain(cut_off).collect()
}

type Told = (Value, Vec<Trouble>);

async fn topics_part(state: &ApiState) -> Result<Told, Trouble> {
    let mut items = Vec::new();
    for spec in &state.options.installation.topics {
        let described = topics::described(state, spec).await.map_err(|error| {
            Trouble::new(
                Severity::Page,
                Runbook::Kafka,
                format!("{}: {}", spec.name, chain(&error)),
            )
        })?;
        items.push(described);
    }
    Ok((items.into(), Vec::new()))
}

async fn projections_part(state: &ApiState, known: &Known) -> Result<Told, Trouble> {
    let (mut items, mut troubles) = (Vec::new(), Vec::new());
    for one in &state.options.projections {
        let status = projections::status(state, known, *one).await.map_err(|problem| {
            let what = format!("the projection {} cannot be told: {}", one.name, problem.detail());
            Trouble::new(Severity::Page, Runbook::Scylla, what)
        })?;
        let live = &status["live"];
        let versions = status["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let live = versions.iter().find(|version| version["version"] == *live);
        let item = live.map_or(Value::Null, |live| summary(one.name, live));
        troubles.extend(behind(one.name, &item, Timestamp::now()));
        if let Some(parked) = item["parked"].as_u64().filter(|parked| *parked > 0) {
            let what = format!("{parked} keys of the projection {} are parked", one.name);
            troubles.push(Trouble::new(Severity::Ticket, Runbook::ParkedKeys, what));
        }
        items.push(item);
    }
    Ok((items.into(), troubles))
}

/// Live tables, their partitions together.
fn summary(name: &str, live: &Value) -> Value {
    let partitions = live["partitions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let lag: u64 = partitions.iter().filter_map(|one| one["lag_events"].as_u64()).sum();
    let moved = partitions.iter().filter_map(|one| one["last_progress_at"].as_str()).max();
    json!({
        "name": name,
        "live": live["version"],
        "lag_events": lag,
        "lag_s": partitions.iter().filter_map(|one| one["lag_s"].as_f64()).reduce(f64::max),
        "last_progress_at": moved,
        "parked": live["parked"],
        "down": live["down"],
    })
}

/// What makes no progress although there is work.
fn behind(name: &str, item: &Value, now: Timestamp) -> Option<Trouble> {
    let lag = item["lag_events"].as_u64().filter(|lag| *lag > 0)?;
    let moved = item["last_progress_at"].as_str();
    let at = moved.and_then(|moved| moved.parse::<Timestamp>().ok());
    if at.is_some_and(|at| now.as_second() - at.as_second() < PROGRESS_S) {
        return None;
    }
    let what = format!("the projection {name} is {lag} events behind and makes no progress");
    let trouble = Trouble::new(Severity::Page, Runbook::ProjectionBehind, what);
    Some(trouble.since(moved.map(str::to_owned)))
}

async fn rebuilds_part(state: &ApiState, known: &Known) -> Result<Told, Trouble> {
    let (mut items, mut troubles) = (Vec::new(), Vec::new());
    for one in &state.options.projections {
        let Some(newest) = known.of(one.name) else { continue };
        let id = &newest.rebuild.request.id;
        if newest.rebuild.state == RebuildState::Failed {
            let what = format!("the rebuild {id} of the projection {} failed", one.name);
            let trouble = Trouble::new(Severity::Ticket, Runbook::Rebuild, what);
            troubles.push(trouble.since(Some(format!("{:.3}", newest.updated_at))));
        }
        if newest.rebuild.is_under_way() {
            let told = rebuilds::described(state, known, newest).await.map_err(|problem| {
                let what = format!("the rebuild {id} cannot be told: {}", problem.detail());
                Trouble::new(Severity::Page, Runbook::Scylla, what)
            })?;
            items.push(json!({
                "id": id,
                "projection": one.name,
                "state": told["state"],
                "progress": told["progress"],
            }));
        }
    }
    Ok((items.into(), troubles))
}

async fn accounts(state: &ApiState) -> Result<Vec<Account>, Trouble> {
    let mut accounts = Vec::new();
    for slot in &state.slots {
        let account = slot.live().model.account().await.map_err(|error| {
            Trouble::new(
                Severity::Page,
                Runbook::Scylla,
                format!("the read store: {}", chain(&error)),
            )
        })?;
        accounts.extend(account);
    }
    Ok(accounts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_progress_is_told_and_what_works_is_not() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let item =
            |lag: u64, moved: Option<&str>| json!({ "lag_events": lag, "last_progress_at": moved });
        let told = |lag, moved| behind("plans", &item(lag, moved), now);
        assert_eq!(told(0, Some("2026-03-01T10:00:00Z")), None, "there is nothing to do");
        assert_eq!(told(5, Some("2026-03-01T11:59:30Z")), None, "it works");
        let stuck = told(5, Some("2026-03-01T11:58:00Z")).unwrap();
        assert_eq!((stuck.severity, stuck.runbook), (Severity::Page, Runbook::ProjectionBehind));
        assert_eq!(stuck.since.as_deref(), Some("2026-03-01T11:58:00Z"));
        assert!(told(5, None).is_some(), "it never began");
    }

    #[test]
    fn partitions_are_told_together() {
        let live = json!({ "version": "4", "parked": 2, "down": null, "partitions": [
            { "lag_events": 3, "lag_s": 1.5, "last_progress_at": "2026-03-01T10:00:00Z" },
            { "lag_events": 4, "lag_s": null, "last_progress_at": "2026-03-01T11:00:00Z" },
        ]});
        let told = summary("plans", &live);
        assert_eq!((&told["lag_events"], &told["lag_s"]), (&json!(7), &json!(1.5)));
        assert_eq!(told["last_progress_at"], "2026-03-01T11:00:00Z");
    }
}

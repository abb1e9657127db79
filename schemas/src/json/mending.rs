//! The public JSON of what is done about keys that are set aside and about rows of live tables, and its
//! commands.

use super::NotJson;
use crate::mending::TargetRecord;
use almanac_domain::operations::{Mending, MendingCommand, Remedy};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// CloudEvents source of a provider's events, before its name.
pub const PROVIDERS: &str = "/v1/providers/";

/// What an operator wanted and what came of it so far: a partial rebuild as other rebuilds are told of.
pub fn mending(known: &Mending) -> Value {
    match known.remedy {
        Remedy::Repair => repair(known),
        Remedy::Redrive | Remedy::Discard => action(known),
    }
}

fn repair(known: &Mending) -> Value {
    let first = known.targets.first().map(|(target, _)| target);
    let edition = first.map_or("", |target| target.edition.as_str());
    let (version, generation) = edition.split_once('.').unwrap_or((edition, "0"));
    let number = |text: &str| text.parse::<u32>().unwrap_or_default();
    let only = first.map(|target| match &target.source {
        Some(source) => json!({"provider": source.strip_prefix(PROVIDERS).unwrap_or(source)}),
        None if target.key.is_empty() => json!({"partition": target.partition}),
        None => json!({"key": target.key}),
    });
    let (parts, ended) = (known.targets.len(), known.succeeded() + known.failed().count());
    let failed: Vec<&str> = known.failed().map(|(_, why)| why).collect();
    let state = match known.is_over() {
        false => "hydrating",
        true if failed.is_empty() => "active",
        true => "failed",
    };
    let failure = failed.first().map(|first| {
        let detail = format!("{} of {parts} parts: {first}", failed.len());
        json!({"category": "event", "detail": detail})
    });
    json!({
        "id": known.id,
        "projection": first.map(|target| target.projection.as_str()),
        "version": number(version),
        "generation": number(generation),
        "only": only,
        "state": state,
        "requested_at": format!("{:.3}", known.requested_at),
        "requested_by": known.requested_by,
        "reason": known.reason,
        "updated_at": format!("{:.3}", known.updated_at),
        "failure": failure,
        "progress": (!known.is_over()).then(|| json!({"share": ended as f64 / parts.max(1) as f64})),
    })
}

/// A request about parked keys.
fn action(known: &Mending) -> Value {
    let failed: Vec<Value> = known
        .failed()
        .map(|(target, why)| {
            json!({
                "key": target.key,
                "projection": target.projection,
                "version": target.edition,
                "reason": why,
            })
        })
        .collect();
    json!({
        "id": known.id,
        "action": known.remedy.as_str(),
        "state": if known.is_over() { "completed" } else { "under_way" },
        "matched": known.targets.len(),
        "succeeded": known.succeeded(),
        "failed": failed,
        "requested_at": format!("{:.3}", known.requested_at),
        "requested_by": known.requested_by,
        "reason": known.reason,
        "updated_at": format!("{:.3}", known.updated_at),
    })
}

#[derive(Default, Serialize, Deserialize)]
struct Body {
    #[serde(default)]
    id: String,
    #[serde(default)]
    reason: String,
    targets: Vec<TargetRecord>,
}

const REPORT: &str = "report";

/// Verb and body of a command.
pub fn command(command: &MendingCommand, reason: &str) -> (&'static str, String) {
    let (verb, id, targets) = match command {
        MendingCommand::Request { id, remedy, targets } => {
            let targets = targets.iter().map(|target| TargetRecord::from_domain(target, None));
            (remedy.as_str(), id.clone(), targets.collect())
        }
        MendingCommand::Report(outcomes) => {
            let targets = outcomes
                .iter()
                .map(|(target, outcome)| TargetRecord::from_domain(target, Some(outcome)));
            (REPORT, String::new(), targets.collect())
        }
    };
    let body = Body { id, reason: reason.to_owned(), targets };
    (verb, serde_json::to_string(&body).unwrap_or_default())
}

/// Reads what [`command`] writes: the command and its reason. `None` for a verb that is none of these.
pub fn read_command(verb: &str, body: &str) -> Result<Option<(MendingCommand, String)>, NotJson> {
    let remedy = match verb {
        "redrive" => Some(Remedy::Redrive),
        "discard" => Some(Remedy::Discard),
        "repair" => Some(Remedy::Repair),
        REPORT => None,
        _ => return Ok(None),
    };
    let body: Body = serde_json::from_str(body).map_err(|error| NotJson::Syntax(error.into()))?;
    let targets: Option<Vec<_>> = body.targets.iter().map(TargetRecord::to_domain).collect();
    let Some(targets) = targets else { return Ok(None) };
    let command = match remedy {
        Some(remedy) => {
            let targets = targets.into_iter().map(|(target, _)| target).collect();
            MendingCommand::Request { id: body.id, remedy, targets }
        }
        None => MendingCommand::Report(
            targets.into_iter().filter_map(|(target, outcome)| Some((target, outcome?))).collect(),
        ),
    };
    Ok(Some((command, body.reason)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use almanac_domain::operations::{Outcome, Target};

    #[test]
    fn commands_are_read_as_they_are_written() {
        let target = Target {
            projection: "recipes".to_owned(),
            edition: "3.1".to_owned(),
            topic: "recipes.events".to_owned(),
            partition: 2,
            key: "sha256:00".to_owned(),
            source: Some("/v1/providers/demo".to_owned()),
            offset: 9,
        };
        let request = |remedy| {
            let targets = vec![target.clone()];
            MendingCommand::Request { id: "r".to_owned(), remedy, targets }
        };
        let failed = Outcome::Failed("why".to_owned());
        let report = MendingCommand::Report(vec![
            (target.clone(), Outcome::Succeeded),
            (Target { offset: 10, ..target.clone() }, failed),
        ]);
        for one in [Remedy::Redrive, Remedy::Discard, Remedy::Repair]
            .map(request)
            .into_iter()
            .chain([report])
        {
            let (verb, body) = command(&one, "because");
            assert_eq!(read_command(verb, &body).unwrap(), Some((one, "because".to_owned())));
        }
        assert_eq!(read_command("rebuild", "{}").unwrap(), None);
        assert!(read_command("redrive", "[").is_err());
    }
}

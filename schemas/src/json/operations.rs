//! The public JSON of rebuilds.

use super::NotJson;
use almanac_domain::operations::{Command, Failure, Knowledge, Request, Step};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

fn time(time: Timestamp) -> String {
    format!("{time:.3}")
}

/// A rebuild, without what follows from positions and ends.
pub fn rebuild(known: &Knowledge) -> Value {
    let rebuild = &known.rebuild;
    let request = &rebuild.request;
    let certificate: Option<Value> =
        rebuild.certificate.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let mut differences = Value::Null;
    if let Some(certificate) = &certificate {
        differences = certificate["differences"].clone();
    }
    json!({
        "id": request.id,
        "projection": request.projection,
        "version": request.fold,
        "generation": rebuild.generation,
        "state": rebuild.state.as_str(),
        "paused_in": rebuild.paused_in.map(|state| state.as_str()),
        "dry_run": request.dry_run,
        "activate": if request.automatic { "auto" } else { "manual" },
        "events_per_s": request.events_per_s,
        "requested_at": time(rebuild.requested_at),
        "requested_by": rebuild.requested_by,
        "reason": rebuild.reason,
        "updated_at": time(known.updated_at),
        "failure": rebuild.failure.as_ref().map(|failure| {
            json!({"category": failure.category, "detail": failure.detail})
        }),
        "dropped": rebuild.is_dropped,
        "live_generation": known.live,
        "kept_generation": known.kept,
        "different_rows": rebuild.differences,
        "differences": differences,
        "certificate": certificate,
    })
}

/// The body of a command, besides what its verb says.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Body {
    rebuild: String,
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<RequestBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    differences: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    category: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct RequestBody {
    projection: String,
    fold: u32,
    dry_run: bool,
    automatic: bool,
    events_per_s: u32,
    until: Option<String>,
}

/// Verb and body of a command.
pub fn command(command: &Command, reason: &str) -> (&'static str, String) {
    let mut body = Body { reason: reason.to_owned(), ..Body::default() };
    let verb = match command {
        Command::Rebuild(request) => {
            body.rebuild.clone_from(&request.id);
            body.request = Some(RequestBody {
                projection: request.projection.clone(),
                fold: request.fold,
                dry_run: request.dry_run,
                automatic: request.automatic,
                events_per_s: request.events_per_s,
                until: request.until.clone(),
            });
            "rebuild"
        }
        Command::Of(id, step) => {
            body.rebuild.clone_from(id);
            match step {
                Step::Activate => "activate",
                Step::Rollback => "rollback",
                Step::Cancel => "cancel",
                Step::Pause => "pause",
                Step::Resume => "resume",
                Step::Drop => "drop",
                Step::Advance(state) => {
                    body.state = Some(state.as_str().to_owned());
                    "advance"
                }
                Step::Verify { certificate, differences } => {
                    body.certificate = Some(certificate.clone());
                    body.differences = Some(*differences);
                    "verify"
                }
                Step::Fail(failure) => {
                    body.category = Some(failure.category.clone());
                    body.detail = Some(failure.detail.clone());
                    "fail"
                }
            }
        }
    };
    (verb, serde_json::to_string(&body).unwrap_or_default())
}

/// Reads what [`command`] writes: the command and its reason. `None` for an unknown verb.
pub fn read_command(verb: &str, body: &str) -> Result<Option<(Command, String)>, NotJson> {
    let body: Body = serde_json::from_str(body).map_err(|error| NotJson::Syntax(error.into()))?;
    let id = body.rebuild;
    let step = match verb {
        "rebuild" => {
            let Some(request) = body.request else { return Ok(None) };
            let RequestBody { projection, fold, dry_run, automatic, events_per_s, until } = request;
            let request = Request { id, projection, fold, dry_run, automatic, events_per_s, until };
            return Ok(Some((Command::Rebuild(request), body.reason)));
        }
        "activate" => Step::Activate,
        "rollback" => Step::Rollback,
        "cancel" => Step::Cancel,
        "pause" => Step::Pause,
        "resume" => Step::Resume,
        "drop" => Step::Drop,
        "advance" => match body.state.as_deref().map(str::parse) {
            Some(Ok(state)) => Step::Advance(state),
            _ => return Ok(None),
        },
        "verify" => Step::Verify {
            certificate: body.certificate.unwrap_or_default(),
            differences: body.differences.unwrap_or_default(),
        },
        "fail" => Step::Fail(Failure {
            category: body.category.unwrap_or_default(),
            detail: body.detail.unwrap_or_default(),
        }),
        _ => return Ok(None),
    };
    Ok(Some((Command::Of(id, step), body.reason)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use almanac_domain::operations::State;

    #[test]
    fn commands_are_read_as_they_are_written() {
        let request = Request {
            id: "r".to_owned(),
            projection: "plans".to_owned(),
            fold: 4,
            dry_run: true,
            automatic: false,
            events_per_s: 7,
            until: Some("{}".to_owned()),
        };
        let failure = Failure { category: "store".to_owned(), detail: "full".to_owned() };
        let steps = [
            Step::Activate,
            Step::Rollback,
            Step::Cancel,
            Step::Pause,
            Step::Resume,
            Step::Drop,
            Step::Advance(State::Lagging),
            Step::Verify { certificate: "{}".to_owned(), differences: 3 },
            Step::Fail(failure),
        ];
        let of = |step| Command::Of("r".to_owned(), step);
        for one in steps.into_iter().map(of).chain([Command::Rebuild(request)]) {
            let (verb, body) = command(&one, "why");
            assert_eq!(read_command(verb, &body).unwrap(), Some((one, "why".to_owned())));
        }
        assert_eq!(read_command("dance", "{}").unwrap(), None);
        assert!(read_command("drop", "[").is_err());
    }
}

//! Commands of recipes, held against the newest event of the recipe.

use super::batch::Answer;
use crate::thumbnail;
use almanac_domain::{
    Fault,
    recipes::{
        Caller, Command, Event, Expected, Knowledge, Recipe, Refusal, decide as decide_recipe,
    },
};
use almanac_edge::{FieldError, Problem, ProblemType};
use almanac_event_log::Headers;
use almanac_processor::{Envelope, RoleError};
use almanac_schemas::{
    Codec,
    commands::CommandRecord,
    json::{self, NotJson, ServerMade},
    recipes::{RecipeEventRecord, encode, event_type},
};
use bytes::Bytes;
use jiff::Timestamp;

pub(super) struct Decided {
    pub(super) answer: Answer,
    /// Value and headers of the event, if anything happened.
    pub(super) event: Option<(Bytes, Headers)>,
    /// Why the newest event cannot be read, if it cannot.
    pub(super) unreadable: Option<String>,
}

/// Decides one command. `newest` is the value of the recipe's newest event. The error is an outage.
pub(super) async fn decide(
    codec: &Codec,
    newest: Option<&[u8]>,
    command: &CommandRecord,
    token: &str,
    now: Timestamp,
) -> Result<Decided, RoleError> {
    let refused = |problem: Problem, version| {
        let answer = Answer::refused(&problem, version);
        Ok(Decided { answer, event: None, unreadable: None })
    };
    let known = match newest {
        None => None,
        Some(value) => match read_known(codec, value).await? {
            Ok(known) => Some(known),
            Err(fault) => {
                let id = &command.aggregate_id;
                let fault = format!("the newest event of recipe {id} cannot be read: {fault}");
                let answer = Answer::refused(&Problem::internal(&fault), None);
                return Ok(Decided { answer, event: None, unreadable: Some(fault) });
            }
        },
    };
    let (wanted, server_made) = match wanted(command, known.as_ref()) {
        Ok(wanted) => wanted,
        Err(problem) => return refused(problem, None),
    };
    let caller = Caller { subject: command.caller.clone(), is_admin: command.is_admin };
    let expected = match &command.expected {
        None => Expected::Any,
        Some(versions) => Expected::Versions(
            versions.iter().filter_map(|version| u64::try_from(*version).ok()).collect(),
        ),
    };
    let creates = matches!(wanted, Command::Create { .. });
    let event = match decide_recipe(known.as_ref(), wanted, &caller, &expected, now) {
        Ok(event) => event,
        Err(refusal) => {
            let (problem, version) = problem_of(&refusal);
            return refused(problem, version);
        }
    };
    // Told last: who may not change it, or expects another version, is told that.
    let differing = known.as_ref().map(|one| server_made.differences(&command.aggregate_id, one));
    if let Some(faults) = differing.filter(|faults| !faults.is_empty()) {
        return refused(invalid(faults), None);
    }
    let after = event.as_ref().map(|event| &event.after).or(known.as_ref());
    let Some(after) = after else {
        return Err(RoleError::Other("a decision left nothing known of its recipe".to_owned()));
    };
    let body = match after.is_deleted {
        false => json::recipes::render(&command.aggregate_id, after),
        true => format!("{{\"id\":\"{}\",\"version\":{}}}", command.aggregate_id, after.version),
    };
    let status = if creates { 201 } else { 200 };
    let answer = Answer { status, version: Some(after.version), body };
    let event = match &event {
        Some(event) => {
            let picture = thumbnail::of_command(command);
            let value = encode(codec, &command.aggregate_id, event, picture.as_ref());
            let value = value.map_err(|error| RoleError::other(&error))?;
            Some((value, headers(command, event, token)))
        }
        None => None,
    };
    Ok(Decided { answer, event, unreadable: None })
}

/// The inner error is the event's fault, the outer one an outage.
async fn read_known(codec: &Codec, value: &[u8]) -> Result<Result<Knowledge, String>, RoleError> {
    let decoded = match codec.decode(value).await {
        Ok(decoded) => decoded,
        Err(error) if error.is_outage() => return Err(RoleError::other(&error)),
        Err(error) => return Ok(Err(error.to_string())),
    };
    let known = match decoded.read::<RecipeEventRecord>() {
        Ok(event) => event.knowledge(decoded.record()),
        Err(error) => return Ok(Err(error.to_string())),
    };
    Ok(known.ok_or_else(|| format!("it is no event of a recipe, but {}", decoded.record())))
}

/// Beside it, what the body says of what the server makes.
fn wanted(
    command: &CommandRecord,
    known: Option<&Knowledge>,
) -> Result<(Command, ServerMade), Problem> {
    let body = command.body.as_deref().unwrap_or_default();
    let wanted = match command.verb.as_str() {
        "create" => Ok(Command::Create { recipe: Box::new(read_body(body.as_bytes())?) }),
        "replace" => return revise(body),
        "patch" => {
            let Some(known) = known else { return Err(problem_of(&Refusal::Unknown).0) };
            let target = json::recipes::render(&command.aggregate_id, known);
            let merged = json::merge_patch(target.as_bytes(), body.as_bytes());
            let merged = merged.map_err(|error| not_json(&error))?;
            return revise(&merged);
        }
        "delete" => Ok(Command::Delete),
        "restore" => Ok(Command::Restore),
        "thumbnail" => match thumbnail::of_command(command) {
            Some(picture) => Ok(Command::SetThumbnail { hash: picture.hash() }),
            None => {
                let detail = "the command has no picture";
                Err(Problem::new(ProblemType::BadRequest, detail))
            }
        },
        "remove_thumbnail" => Ok(Command::RemoveThumbnail),
        other => {
            let detail = format!("{other:?} is nothing that can be done to a recipe");
            Err(Problem::new(ProblemType::BadRequest, detail))
        }
    };
    Ok((wanted?, ServerMade::default()))
}

fn revise(body: &str) -> Result<(Command, ServerMade), Problem> {
    let (recipe, server_made) = read_revision(body.as_bytes())?;
    Ok((Command::Revise { recipe: Box::new(recipe) }, server_made))
}

/// A recipe from a request's body, or the problem that names all its faults.
pub(crate) fn read_body(body: &[u8]) -> Result<Recipe, Problem> {
    match json::recipes::read(body) {
        Ok(Ok(recipe)) => Ok(recipe),
        Ok(Err(faults)) => Err(invalid(faults)),
        Err(error) => Err(not_json(&error)),
    }
}

/// The same from the body of a recipe that there is, beside what it says of what the server makes.
pub(crate) fn read_revision(body: &[u8]) -> Result<(Recipe, ServerMade), Problem> {
    match json::recipes::read_revision(body) {
        Ok(Ok(read)) => Ok(read),
        Ok(Err(faults)) => Err(invalid(faults)),
        Err(error) => Err(not_json(&error)),
    }
}

pub(crate) fn not_json(error: &NotJson) -> Problem {
    Problem::new(ProblemType::BadRequest, error.to_string())
}

fn invalid(faults: Vec<Fault>) -> Problem {
    const NAMED: usize = 100;
    let detail = format!("{} parts of the body break a rule", faults.len());
    let errors = faults
        .into_iter()
        .take(NAMED)
        .map(|fault| FieldError { pointer: pointer(&fault.place), detail: fault.rule });
    Problem::new(ProblemType::Invalid, detail).with_errors(errors.collect())
}

/// A JSON pointer as a URI fragment (RFC 6901, sections 3 and 6).
fn pointer(place: &[String]) -> String {
    let mut text = String::from("#");
    for part in place {
        text.push('/');
        for byte in part.replace('~', "~0").replace('/', "~1").bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    text.push(char::from(byte));
                }
                other => text.push_str(&format!("%{other:02X}")),
            }
        }
    }
    text
}

/// The answer to a refusal, with the version that it tells.
pub(crate) fn problem_of(refusal: &Refusal) -> (Problem, Option<u64>) {
    let (kind, version) = match refusal {
        Refusal::Unknown => (ProblemType::NotFound, None),
        Refusal::Deleted { version } => (ProblemType::Gone, Some(*version)),
        Refusal::Exists { version } => (ProblemType::Conflict, Some(*version)),
        Refusal::NotAllowed => (ProblemType::Forbidden, None),
        Refusal::Stale { current } => (ProblemType::Stale, Some(*current)),
    };
    (Problem::new(kind, refusal.to_string()), version)
}

fn headers(command: &CommandRecord, event: &Event, token: &str) -> Headers {
    let (id, version) = (&command.aggregate_id, event.after.version);
    Envelope {
        id: &format!("{id}.{version}"),
        source: &format!("/v1/recipes/{id}"),
        event_type: event_type(&event.fact),
        subject: id,
        time: &event.occurred_at.to_string(),
        sequence: Some(version),
        causation: Some(&command.request_id),
        correlation: Some(&command.request_id),
        consistency_token: Some(token),
    }
    .headers()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_uri_fragments() {
        let place =
            |parts: &[&str]| pointer(&parts.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>());
        assert_eq!(
            place(&["ingredients", "0", "quantity", "unit"]),
            "#/ingredients/0/quantity/unit"
        );
        assert_eq!(place(&["a/b", "m~n", "c d", "ü"]), "#/a~1b/m~0n/c%20d/%C3%BC");
        assert_eq!(place(&[]), "#");
    }
}

//! The public JSON of providers that rest, and the commands of operators.

use super::NotJson;
use almanac_domain::operations::{Pause, Pausing};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Since when and by whom a provider is paused; null where it is not.
pub fn paused(known: Option<&Pausing>) -> Value {
    match known.filter(|known| known.is_paused) {
        Some(known) => json!({"since": format!("{:.3}", known.since), "by": known.by}),
        None => Value::Null,
    }
}

/// The same with the reason, as operators are told it.
pub fn paused_and_why(known: Option<&Pausing>) -> Value {
    let mut told = paused(known);
    if let (Some(known), Some(fields)) = (known, told.as_object_mut()) {
        fields.insert("reason".to_owned(), known.reason.clone().into());
    }
    told
}

/// What answers an operator.
pub fn pausing(known: &Pausing) -> Value {
    json!({
        "name": known.provider, "version": known.version, "paused": paused_and_why(Some(known)),
    })
}

#[derive(Serialize, Deserialize)]
struct Body {
    provider: String,
    reason: String,
}

const PAUSE: &str = "pause_provider";
const RESUME: &str = "resume_provider";

/// Verb and body of a command.
pub fn command(provider: &str, command: Pause, reason: &str) -> (&'static str, String) {
    let body = Body { provider: provider.to_owned(), reason: reason.to_owned() };
    let verb = if command == Pause::Pause { PAUSE } else { RESUME };
    (verb, serde_json::to_string(&body).unwrap_or_default())
}

/// A command with the provider that it is of and its reason.
pub type Read = (Pause, String, String);

/// Reads what [`command`] writes. `None` for an unknown verb.
pub fn read_command(verb: &str, body: &str) -> Result<Option<Read>, NotJson> {
    let command = match verb {
        PAUSE => Pause::Pause,
        RESUME => Pause::Resume,
        _ => return Ok(None),
    };
    let body: Body = serde_json::from_str(body).map_err(|error| NotJson::Syntax(error.into()))?;
    Ok(Some((command, body.provider, body.reason)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_as_they_are_written() {
        for wanted in [Pause::Pause, Pause::Resume] {
            let (verb, body) = command("fever", wanted, "too much");
            let read = read_command(verb, &body).unwrap().unwrap();
            assert_eq!(read, (wanted, "fever".to_owned(), "too much".to_owned()));
        }
        assert!(read_command("pause", "{}").unwrap().is_none(), "that is of rebuilds");
    }

    #[test]
    fn only_operators_are_told_why() {
        let known = Pausing {
            provider: "fever".to_owned(),
            version: 1,
            is_paused: true,
            by: "ann".to_owned(),
            reason: "they owe us money".to_owned(),
            since: jiff::Timestamp::UNIX_EPOCH,
            created_at: jiff::Timestamp::UNIX_EPOCH,
        };
        let since = "1970-01-01T00:00:00.000Z";
        assert_eq!(paused(Some(&known)), json!({"since": since, "by": "ann"}));
        assert_eq!(pausing(&known)["paused"]["reason"], "they owe us money");
        let resumed = Pausing { is_paused: false, ..known };
        assert_eq!(paused_and_why(Some(&resumed)), Value::Null);
        assert_eq!(paused(None), Value::Null);
    }
}

//! How refusals of contexts are told.

use super::Context;
use almanac_domain::{Fault, aggregate::Refusal};
use almanac_edge::{FieldError, Problem, ProblemType};
use almanac_errors::chain;
use almanac_schemas::json::NotJson;

/// Faults that are named.
const NAMED: usize = 100;

pub(crate) fn not_json(error: &NotJson) -> Problem {
    Problem::new(ProblemType::BadRequest, chain(error).to_string())
}

pub(crate) fn invalid(faults: Vec<Fault>) -> Problem {
    let detail = match faults.len() {
        1 => "a part of the body breaks a rule".to_owned(),
        count => format!("{count} parts of the body break a rule"),
    };
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

/// The indefinite article of a noun.
pub(super) fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

/// The answer to a refusal, with the version that it tells.
pub(crate) fn problem_of(context: &dyn Context, refusal: &Refusal) -> (Problem, Option<u64>) {
    let noun = context.noun();
    let (kind, version, detail) = match refusal {
        Refusal::Unknown => (ProblemType::NotFound, None, format!("there is no such {noun}")),
        Refusal::Deleted { version } => {
            (ProblemType::Gone, Some(*version), context.deleted().to_owned())
        }
        Refusal::Exists { version } => {
            let detail = format!("there is {} {noun} with this id already", article(noun));
            (ProblemType::Conflict, Some(*version), detail)
        }
        Refusal::NotAllowed => {
            let detail = format!("only its owner or an admin may change the {noun}");
            (ProblemType::Forbidden, None, detail)
        }
        Refusal::Stale { current } => {
            let detail =
                format!("the {noun} is at version {current}, which is not the one expected");
            (ProblemType::Stale, Some(*current), detail)
        }
    };
    (Problem::new(kind, detail), version)
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

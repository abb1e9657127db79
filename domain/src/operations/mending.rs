//! What operators do about rows of live tables: events of keys that projections have set aside are folded
//! once more, or the event that cannot be folded is passed over; and what a key's, a provider's or a
//! partition's events say is written over the rows that there are. Each request is an aggregate of its own;
//! the projectors that own the partitions report what came of each target.

use super::PROJECTOR;
use crate::aggregate::Caller;
use jiff::Timestamp;

/// Keys of one request.
pub const MAX_TARGETS: usize = 1_000;
/// Of what is told of one key.
const MAX_DETAIL: usize = 300;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The key's events are folded again, from the one that could not be.
    Redrive,
    /// That event is passed over, and those after it are folded.
    Discard,
    /// All events are folded over the rows that there are, which lose: a partial rebuild.
    Repair,
}

impl Remedy {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Redrive => "redrive",
            Self::Discard => "discard",
            Self::Repair => "repair",
        }
    }
}

/// One key that one edition of a projection's tables has set aside; or what is to be repaired of one
/// partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    pub projection: String,
    /// Version and generation of the tables.
    pub edition: String,
    pub topic: String,
    pub partition: u32,
    /// The name that the key is parked under. A repair without one is of all keys.
    pub key: String,
    /// Of a repair: the CloudEvents source whose events alone are folded.
    pub source: Option<String>,
    /// Of the event that cannot be folded, as the operator saw it: of another one he knows nothing.
    /// Of a repair: where the log is read from.
    pub offset: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Succeeded,
    /// Why the key is still set aside.
    Failed(String),
}

/// What is known of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mending {
    pub id: String,
    /// Number of events so far.
    pub version: u64,
    pub remedy: Remedy,
    /// In order, each once, with what came of it.
    pub targets: Vec<(Target, Option<Outcome>)>,
    pub requested_by: String,
    pub reason: String,
    pub requested_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Mending {
    pub fn is_over(&self) -> bool {
        self.targets.iter().all(|(_, outcome)| outcome.is_some())
    }

    pub fn succeeded(&self) -> usize {
        let is_done = |outcome: &Option<Outcome>| matches!(outcome, Some(Outcome::Succeeded));
        self.targets.iter().filter(|(_, outcome)| is_done(outcome)).count()
    }

    /// Keys that stay set aside, and why.
    pub fn failed(&self) -> impl Iterator<Item = (&Target, &str)> {
        self.targets.iter().filter_map(|(target, outcome)| match outcome {
            Some(Outcome::Failed(why)) => Some((target, why.as_str())),
            _ => None,
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MendingCommand {
    Request { id: String, remedy: Remedy, targets: Vec<Target> },
    Report(Vec<(Target, Outcome)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MendingFact {
    Requested,
    /// Of some keys it is known what came of it.
    Reported,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MendingEvent {
    pub fact: MendingFact,
    pub actor: String,
    /// Complete: what is known after it.
    pub after: Mending,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MendingRefusal {
    #[error("there is no such request")]
    Unknown,
    #[error("only an admin may do this")]
    NotAllowed,
    #[error("it names no key")]
    Nothing,
    #[error("at most {MAX_TARGETS} keys are taken at once")]
    TooMany,
}

/// Decides one command. `Ok(None)`: it is so already.
pub fn decide_mending(
    known: Option<&Mending>,
    command: MendingCommand,
    reason: &str,
    caller: &Caller,
    now: Timestamp,
) -> Result<Option<MendingEvent>, MendingRefusal> {
    let actor = caller.subject.clone();
    let (fact, after) = match command {
        MendingCommand::Request { id, remedy, mut targets } => {
            if !caller.is_admin {
                return Err(MendingRefusal::NotAllowed);
            }
            if known.is_some() {
                return Ok(None);
            }
            targets.sort();
            targets.dedup();
            if targets.is_empty() {
                return Err(MendingRefusal::Nothing);
            }
            if targets.len() > MAX_TARGETS {
                return Err(MendingRefusal::TooMany);
            }
            let after = Mending {
                id,
                version: 1,
                remedy,
                targets: targets.into_iter().map(|target| (target, None)).collect(),
                requested_by: actor.clone(),
                reason: reason.to_owned(),
                requested_at: now,
                updated_at: now,
            };
            (MendingFact::Requested, after)
        }
        MendingCommand::Report(outcomes) => {
            if caller.subject != PROJECTOR {
                return Err(MendingRefusal::NotAllowed);
            }
            let mut after = known.ok_or(MendingRefusal::Unknown)?.clone();
            let mut is_news = false;
            for (target, outcome) in outcomes {
                let found = after.targets.iter_mut().find(|(one, _)| *one == target);
                // The first word counts: an owner that starts over repeats what it has done.
                if let Some((_, known)) = found
                    && known.is_none()
                {
                    *known = Some(bounded(outcome));
                    is_news = true;
                }
            }
            if !is_news {
                return Ok(None);
            }
            after.version += 1;
            after.updated_at = now.max(after.updated_at);
            (MendingFact::Reported, after)
        }
    };
    Ok(Some(MendingEvent { fact, actor, after }))
}

/// A thousand of them have to fit a record.
fn bounded(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Failed(mut why) => {
            why.truncate(why.floor_char_boundary(MAX_DETAIL));
            Outcome::Failed(why)
        }
        Outcome::Succeeded => Outcome::Succeeded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(subject: &str) -> Caller {
        Caller { subject: subject.to_owned(), is_admin: subject == "ann" }
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_000).unwrap()
    }

    fn target(key: &str) -> Target {
        Target {
            projection: "recipes".to_owned(),
            edition: "3".to_owned(),
            topic: "recipes.events".to_owned(),
            partition: 1,
            key: key.to_owned(),
            source: None,
            offset: 7,
        }
    }

    fn request(keys: &[&str]) -> MendingCommand {
        let targets = keys.iter().map(|key| target(key)).collect();
        MendingCommand::Request { id: "first".to_owned(), remedy: Remedy::Redrive, targets }
    }

    fn report(key: &str, outcome: Outcome) -> MendingCommand {
        MendingCommand::Report(vec![(target(key), outcome)])
    }

    /// What is known after these commands, each by whom it is for.
    fn given(commands: impl IntoIterator<Item = MendingCommand>) -> Option<Mending> {
        let mut known = None;
        for command in commands {
            let event = when(known.as_ref(), command).unwrap();
            known = event.map(|event| event.after).or(known);
        }
        known
    }

    fn when(
        known: Option<&Mending>,
        command: MendingCommand,
    ) -> Result<Option<MendingEvent>, MendingRefusal> {
        let who = match command {
            MendingCommand::Request { .. } => "ann",
            MendingCommand::Report(_) => PROJECTOR,
        };
        decide_mending(known, command, "the schema is there now", &caller(who), now())
    }

    #[test]
    fn each_key_is_reported_once_and_the_last_one_ends_it() {
        let known = given([request(&["b", "a", "a"])]).unwrap();
        assert_eq!((known.targets.len(), known.is_over(), known.version), (2, false, 1));
        let failed = Outcome::Failed("still no event".to_owned());
        let half = when(Some(&known), report("a", failed)).unwrap().unwrap().after;
        assert_eq!((half.is_over(), half.version, half.succeeded()), (false, 2, 0));
        let again = when(Some(&half), report("a", Outcome::Succeeded));
        assert_eq!(again, Ok(None), "the first word counts");
        let done = when(Some(&half), report("b", Outcome::Succeeded)).unwrap().unwrap();
        assert_eq!((done.fact, done.actor.as_str()), (MendingFact::Reported, PROJECTOR));
        assert!(done.after.is_over());
        let failed: Vec<&str> = done.after.failed().map(|(target, _)| &*target.key).collect();
        assert_eq!((done.after.succeeded(), failed), (1, vec!["a"]));
        assert_eq!(when(Some(&done.after), request(&["c"])), Ok(None), "it was asked before");
    }

    #[test]
    fn others_may_neither_ask_nor_report() {
        let refused = |known: Option<&Mending>, command, who| {
            decide_mending(known, command, "", &caller(who), now()).unwrap_err()
        };
        assert_eq!(refused(None, request(&["a"]), "mary"), MendingRefusal::NotAllowed);
        assert_eq!(refused(None, request(&["a"]), PROJECTOR), MendingRefusal::NotAllowed);
        let known = given([request(&["a"])]);
        let report = || report("a", Outcome::Succeeded);
        assert_eq!(refused(known.as_ref(), report(), "ann"), MendingRefusal::NotAllowed);
        assert_eq!(refused(None, report(), PROJECTOR), MendingRefusal::Unknown);
    }

    #[test]
    fn what_it_names_is_bounded() {
        assert_eq!(when(None, request(&[])), Err(MendingRefusal::Nothing));
        let keys: Vec<String> = (0..=MAX_TARGETS).map(|number| number.to_string()).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        assert_eq!(when(None, request(&keys)), Err(MendingRefusal::TooMany));
        let known = given([request(&keys[1..])]).unwrap();
        let long = Outcome::Failed("é".repeat(MAX_DETAIL));
        let after = when(Some(&known), report("1", long)).unwrap().unwrap().after;
        let why = after.failed().next().unwrap().1;
        assert!(why.len() <= MAX_DETAIL && why.ends_with('é'), "{} bytes", why.len());
    }

    #[test]
    fn a_key_that_it_does_not_name_changes_nothing() {
        let known = given([request(&["a"])]).unwrap();
        assert_eq!(when(Some(&known), report("b", Outcome::Succeeded)), Ok(None));
        let elsewhere = Target { offset: 8, ..target("a") };
        let report = MendingCommand::Report(vec![(elsewhere, Outcome::Succeeded)]);
        assert_eq!(when(Some(&known), report), Ok(None), "it is of another event");
    }
}

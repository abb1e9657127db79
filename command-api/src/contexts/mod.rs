//! Contexts: kinds of aggregates, each with its events and what may be done to it.
//!
//! A context is a declaration in a file of its own and a line in [`ALL`]. Decider, outcomes, tokens,
//! early refusals, topics and the generic write know contexts, never a particular one.

mod analyses;
mod operations;
mod problems;
mod recipes;
mod schedules;
mod subscriptions;

use crate::{CommandApiOptions, write::CommandApi};
use almanac_domain::aggregate::{self, Caller, Expected, Standing};
use almanac_edge::{Problem, Scope, openapi::Fragment};
use almanac_errors::Cause;
use almanac_event_log::Retention;
use almanac_processor::RoleError;
use almanac_schemas::{Codec, CodecError, Decoded, commands::CommandRecord};
use bytes::Bytes;
use jiff::Timestamp;
pub use operations::{Only, ParkedFilter, ParkedKeys, Parts, Projections};
pub(crate) use problems::{invalid, not_json, problem_of};
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// Contexts in their order, which that of their topics and local states follows.
pub type Contexts = &'static [&'static dyn Context];

/// Every context of this program.
pub const ALL: Contexts = &[
    &analyses::Analyses,
    &operations::Operations,
    &recipes::Recipes,
    &schedules::Schedules,
    &subscriptions::Subscriptions,
];

/// A kind of aggregate: how a command to one becomes an event, and the addresses of its writes.
pub trait Context: Send + Sync {
    /// In commands, tokens, progress, addresses and names of local state.
    fn name(&self) -> &'static str;

    /// One of its aggregates, for people.
    fn noun(&self) -> &'static str;

    /// Its topic of events, without the installation's prefix.
    fn events(&self) -> &'static str;

    /// Further topics that its writes need, without the prefix.
    fn more_topics(&self) -> &'static [(&'static str, Retention)] {
        &[]
    }

    /// Which scope a token must have.
    fn scope(&self) -> Scope;

    /// What somebody is told who wants to change one that is deleted.
    fn deleted(&self) -> &'static str;

    /// Whether an aggregate is deleted after an event of this record. Every event of a context has
    /// the fields `version` and `owner`.
    fn is_deletion(&self, record: &str) -> bool;

    /// Whether something is still to come of an aggregate after an event of this record; `None` in a
    /// context whose aggregates do not end. How many an owner has is known then.
    fn is_open(&self, _record: &str) -> Option<bool> {
        None
    }

    /// Raised where more or else is to be known of aggregates: then it is folded again.
    fn standings_version(&self) -> u32 {
        1
    }

    /// A body that came in another format than JSON of ours, as that; `None` for what is no such format.
    fn translated(&self, _media_type: &str, _body: &[u8]) -> Option<Result<String, Problem>> {
        None
    }

    /// What of a request's body can be refused without knowing its aggregate.
    fn check(&self, _verb: &str, _body: &[u8]) -> Result<(), Problem> {
        Ok(())
    }

    /// Describes its routes.
    fn openapi(&self) -> Fragment;

    /// Describes those that have a file of their own.
    fn more_openapi(&self) -> &'static [Fragment] {
        &[]
    }

    fn routes(&self, options: &CommandApiOptions) -> Routes;

    /// Decides a command. `newest` is the newest event of its aggregate, which holds all that is
    /// known of it.
    fn decide(
        &self,
        codec: &Codec,
        newest: Option<&Decoded<'_>>,
        command: &CommandRecord,
        now: Timestamp,
    ) -> Result<Decision, Undecided>;
}

/// The context of this name, and its place.
pub(crate) fn find(contexts: Contexts, name: &str) -> Option<(usize, &'static dyn Context)> {
    let found = contexts.iter().enumerate().find(|(_, context)| context.name() == name);
    found.map(|(place, context)| (place, *context))
}

/// The addresses of a context's writes.
#[derive(Default)]
pub struct Routes {
    /// Addresses that the query API has too: it answers for the methods that neither has.
    pub shared: almanac_edge::Routes<Arc<CommandApi>>,
    pub only_here: almanac_edge::Routes<Arc<CommandApi>>,
}

/// What a command comes to.
pub struct Decision {
    pub status: u16,
    /// Of the aggregate, from then on.
    pub version: u64,
    pub body: String,
    /// None where all is so already.
    pub event: Option<NewEvent>,
}

pub struct NewEvent {
    pub value: Bytes,
    /// CloudEvents type.
    pub event_type: &'static str,
    pub occurred_at: Timestamp,
    pub version: u64,
}

/// Why a command comes to nothing.
pub enum Undecided {
    Refused {
        problem: Problem,
        /// The version that the answer tells.
        version: Option<u64>,
    },
    /// The newest event is none of this context.
    Unreadable(Cause),
    /// It is not the command's fault.
    Failed(RoleError),
}

impl From<Problem> for Undecided {
    fn from(problem: Problem) -> Self {
        Self::Refused { problem, version: None }
    }
}

/// Of an event that is to be written.
impl From<CodecError> for Undecided {
    fn from(error: CodecError) -> Self {
        Self::Failed(RoleError::other(error))
    }
}

impl Undecided {
    /// What every aggregate is guarded against.
    pub fn refused(context: &dyn Context, refusal: &aggregate::Refusal) -> Self {
        let (problem, version) = problem_of(context, refusal);
        Self::Refused { problem, version }
    }

    pub fn unknown_verb(context: &dyn Context, verb: &str) -> Self {
        let noun = context.noun();
        let article = problems::article(noun);
        let detail = format!("{verb:?} is nothing that can be done to {article} {noun}");
        Problem::new(almanac_edge::ProblemType::BadRequest, detail).into()
    }

    fn unreadable(context: &dyn Context, record: &str) -> Self {
        let noun = context.noun();
        let article = problems::article(noun);
        Self::Unreadable(format!("it is no event of {article} {noun}, but {record}").into())
    }
}

/// What is known of an aggregate from its newest event, if it has one. `known` gets the event and the
/// name of its record.
pub fn known_of<E: DeserializeOwned, K>(
    context: &dyn Context,
    newest: Option<&Decoded<'_>>,
    known: impl FnOnce(&E, &str) -> Option<K>,
) -> Result<Option<K>, Undecided> {
    let Some(newest) = newest else { return Ok(None) };
    let event: E = newest.read().map_err(|error| Undecided::Unreadable(error.into()))?;
    match known(&event, newest.record()) {
        Some(known) => Ok(Some(known)),
        None => Err(Undecided::unreadable(context, newest.record())),
    }
}

/// The body that answers a write: the aggregate as it is then; of one that is deleted, only that it
/// was there.
pub fn body_of(id: &str, standing: &Standing, render: impl FnOnce() -> String) -> String {
    match standing.is_deleted {
        false => render(),
        true => format!("{{\"id\":\"{id}\",\"version\":{}}}", standing.version),
    }
}

/// Who issued a command.
pub fn caller_of(command: &CommandRecord) -> Caller {
    Caller { subject: command.caller.clone(), is_admin: command.is_admin }
}

/// The versions that a command expects.
pub fn expected_of(command: &CommandRecord) -> Expected {
    match &command.expected {
        None => Expected::Any,
        Some(versions) => Expected::Versions(
            versions.iter().filter_map(|version| u64::try_from(*version).ok()).collect(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use almanac_schemas::files::event_topics;
    use std::collections::BTreeSet;

    #[test]
    fn each_context_has_a_name_and_a_topic_of_its_own() {
        let names: BTreeSet<&str> = ALL.iter().map(|context| context.name()).collect();
        let topics: BTreeSet<&str> = ALL.iter().map(|context| context.events()).collect();
        assert_eq!((names.len(), topics.len()), (ALL.len(), ALL.len()));
        assert!(topics.is_subset(&event_topics()), "{topics:?}");
        for (place, context) in ALL.iter().enumerate() {
            assert_eq!(find(ALL, context.name()).map(|(found, _)| found), Some(place));
        }
        assert!(find(ALL, "plans").is_none());
    }
}

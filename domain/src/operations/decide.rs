//! Commands of operators, and of the projectors that carry rebuilds out, held against what is known.

use super::{Failure, Knowledge, PROJECTOR, Rebuild, Request, State};
use crate::aggregate::Caller;
use jiff::Timestamp;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Rebuild(Request),
    /// Something that is done to a rebuild, by its id.
    Of(String, Step),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Activate,
    Rollback,
    Cancel,
    Pause,
    Resume,
    Drop,
    /// The projectors are so far.
    Advance(State),
    Verify {
        certificate: String,
        differences: u64,
    },
    Fail(Failure),
}

impl Step {
    fn name(&self) -> &'static str {
        match self {
            Self::Activate => "activated",
            Self::Rollback => "rolled back",
            Self::Cancel => "cancelled",
            Self::Pause => "paused",
            Self::Resume => "resumed",
            Self::Drop => "dropped",
            Self::Advance(_) => "advanced",
            Self::Verify { .. } => "verified",
            Self::Fail(_) => "failed",
        }
    }

    fn is_of_projectors(&self) -> bool {
        matches!(self, Self::Advance(_) | Self::Verify { .. } | Self::Fail(_))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    Requested,
    Advanced,
    Verified,
    Failed,
    Paused,
    Resumed,
    Cancelled,
    Activated,
    RolledBack,
    Dropped,
}

/// One event, complete: what is known after it, who caused it, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub fact: Fact,
    pub actor: String,
    pub reason: String,
    pub after: Knowledge,
    pub occurred_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("there is no such rebuild, or a newer one of its projection")]
    Unknown,
    #[error("only an admin may do this")]
    NotAllowed,
    #[error("rebuild {id} of this projection is {state}: cancel it, or wait for its end")]
    UnderWay { id: String, state: &'static str },
    #[error("a rebuild that is {state} cannot be {step}")]
    Impossible { state: &'static str, step: &'static str },
}

/// Decides one command. `Ok(None)`: it is so already.
pub fn decide(
    known: Option<&Knowledge>,
    command: Command,
    reason: &str,
    caller: &Caller,
    now: Timestamp,
) -> Result<Option<Event>, Refusal> {
    let is_projector = caller.subject == PROJECTOR;
    if !caller.is_admin && !is_projector {
        return Err(Refusal::NotAllowed);
    }
    let occurred_at = known.map_or(now, |known| now.max(known.updated_at));
    let decided = match command {
        Command::Rebuild(request) => requested(known, request, reason, caller, occurred_at)?,
        Command::Of(id, step) => {
            let known = known.filter(|known| known.rebuild.request.id == id);
            let known = known.ok_or(Refusal::Unknown)?;
            if step.is_of_projectors() && !is_projector {
                return Err(Refusal::NotAllowed);
            }
            stepped(known, step)?
        }
    };
    let actor = caller.subject.clone();
    Ok(decided.map(|(fact, after)| Event {
        fact,
        actor,
        reason: reason.to_owned(),
        after: Knowledge { updated_at: occurred_at, ..after },
        occurred_at,
    }))
}

fn requested(
    known: Option<&Knowledge>,
    request: Request,
    reason: &str,
    caller: &Caller,
    now: Timestamp,
) -> Result<Option<(Fact, Knowledge)>, Refusal> {
    if known.is_some_and(|known| known.rebuild.request.id == request.id) {
        return Ok(None);
    }
    // What another version of the fold filled is none of this one's tables.
    let same_fold = known.filter(|known| known.rebuild.request.fold == request.fold);
    if let Some(Knowledge { rebuild, .. }) = same_fold
        && rebuild.is_under_way()
    {
        let (id, state) = (rebuild.request.id.clone(), rebuild.state.as_str());
        return Err(Refusal::UnderWay { id, state });
    }
    let newest = known.map_or(0, |known| known.newest) + 1;
    let rebuild = Rebuild {
        request,
        generation: newest,
        state: State::Hydrating,
        paused_in: None,
        requested_at: now,
        requested_by: caller.subject.clone(),
        reason: reason.to_owned(),
        certificate: None,
        differences: None,
        failure: None,
        is_dropped: false,
    };
    let after = Knowledge {
        version: known.map_or(0, |known| known.version) + 1,
        live: same_fold.map_or(0, |known| known.live),
        // There is room for two at a time.
        kept: None,
        newest,
        rebuild,
        created_at: known.map_or(now, |known| known.created_at),
        updated_at: now,
    };
    Ok(Some((Fact::Requested, after)))
}

fn stepped(known: &Knowledge, step: Step) -> Result<Option<(Fact, Knowledge)>, Refusal> {
    let state = known.rebuild.state;
    let impossible = Refusal::Impossible { state: state.as_str(), step: step.name() };
    let Rebuild { request, is_dropped, generation, .. } = &known.rebuild;
    let mut after = Knowledge { version: known.version + 1, ..known.clone() };
    let rebuild = &mut after.rebuild;
    let fact = match (step, state) {
        (Step::Activate, State::Active)
        | (Step::Rollback, State::RolledBack)
        | (Step::Cancel, State::Cancelled)
        | (Step::Pause, State::Paused)
        | (Step::Verify { .. }, State::Ready)
        | (Step::Fail(_), State::Failed) => return Ok(None),
        (Step::Advance(to), _) if to == state => return Ok(None),
        (Step::Drop, State::Ready | State::Active | State::RolledBack) if *is_dropped => {
            return Ok(None);
        }
        (Step::Resume, State::Hydrating | State::Lagging | State::Verifying) => return Ok(None),
        (Step::Activate, State::Ready | State::RolledBack) if !is_dropped && !request.dry_run => {
            rebuild.state = State::Active;
            (after.live, after.kept) = (*generation, Some(known.live));
            Fact::Activated
        }
        (Step::Rollback, State::Active) if known.kept.is_some() => {
            let kept = known.kept.unwrap_or(known.live);
            rebuild.state = State::RolledBack;
            (after.live, after.kept) = (kept, Some(*generation));
            Fact::RolledBack
        }
        (Step::Cancel, _) if known.rebuild.is_under_way() => {
            (rebuild.state, rebuild.is_dropped) = (State::Cancelled, true);
            Fact::Cancelled
        }
        (Step::Pause, State::Hydrating | State::Lagging | State::Verifying) => {
            (rebuild.state, rebuild.paused_in) = (State::Paused, Some(state));
            Fact::Paused
        }
        (Step::Resume, State::Paused) => {
            rebuild.state = rebuild.paused_in.take().unwrap_or(State::Hydrating);
            Fact::Resumed
        }
        (Step::Drop, State::Ready | State::Active | State::RolledBack) => {
            (rebuild.is_dropped, after.kept) = (true, None);
            Fact::Dropped
        }
        (Step::Advance(to), _) if follows(state, to) => {
            rebuild.state = to;
            Fact::Advanced
        }
        (Step::Verify { certificate, differences }, State::Verifying) => {
            rebuild.state = State::Ready;
            (rebuild.certificate, rebuild.differences) = (Some(certificate), Some(differences));
            Fact::Verified
        }
        (Step::Fail(failure), _) if known.rebuild.is_under_way() => {
            (rebuild.state, rebuild.failure, rebuild.is_dropped) =
                (State::Failed, Some(failure), true);
            Fact::Failed
        }
        _ => return Err(impossible),
    };
    Ok(Some((fact, after)))
}

/// Whether a state comes right after another while a rebuild goes on by itself.
fn follows(state: State, next: State) -> bool {
    matches!((state, next), (State::Hydrating, State::Lagging) | (State::Lagging, State::Verifying))
}

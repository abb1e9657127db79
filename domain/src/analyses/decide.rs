//! Commands held against what is known of an analysis, and what follows from them.

use super::{Failure, Outcome};
use crate::{
    aggregate::{Caller, Expected, Refusal, Standing, permit},
    weather::{Options, Schedule},
};
use jiff::Timestamp;

/// The subject of the installation's own workers. No token may have it.
pub const WORKER: &str = "urn:almanac:worker";

/// What is analysed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The schedule with this id, as it is when the analysis is made.
    Stored(String),
    Inline(Box<Schedule>),
}

/// Where the forecast that came with the request is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    pub topic_id: String,
    pub partition: u32,
    pub first_offset: u64,
    pub last_offset: u64,
    pub chunks: u32,
    /// Of its JSON, before it was compressed.
    pub bytes: u64,
    pub source: String,
    pub issued_at: Option<Timestamp>,
}

/// Why there is an analysis at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Somebody asked.
    Request,
    /// The schedule asks to be analysed again and again.
    Repeat,
}

impl Origin {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Repeat => "repeat",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Request, Self::Repeat].into_iter().find(|origin| origin.as_str() == text)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub subject: Subject,
    pub input: Option<Input>,
    /// Names of providers, the first first; empty leaves the choice to the installation.
    pub sources: Vec<String>,
    pub options: Options,
    pub origin: Origin,
}

/// What a worker is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    WaitingForForecast,
    Computing,
}

impl Stage {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WaitingForForecast => "waiting_for_forecast",
            Self::Computing => "computing",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::WaitingForForecast, Self::Computing].into_iter().find(|stage| stage.as_str() == text)
    }

    /// How much of the whole is done when it begins.
    pub fn progress(self) -> f64 {
        match self {
            Self::WaitingForForecast => 0.1,
            Self::Computing => 0.5,
        }
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Request {
        request: Box<Request>,
        /// Whom it is made for, where a worker repeats a schedule.
        owner: Option<String>,
    },
    Progress {
        stage: Stage,
    },
    Complete {
        outcome: Box<Outcome>,
    },
    Fail {
        failure: Failure,
    },
    Cancel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Queued,
    Running(Stage),
    Completed,
    Failed,
    Cancelled,
}

impl State {
    /// The name in the public API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running(_) => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more can come of it.
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// The fold of an analysis' events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Knowledge {
    /// Number of events so far.
    pub version: u64,
    /// The subject that it was made for.
    pub owner: String,
    /// Of a stored schedule.
    pub schedule_id: Option<String>,
    pub origin: Origin,
    pub state: State,
    pub requested_at: Timestamp,
    pub updated_at: Timestamp,
}

/// One event. What is known after it goes with it, so that to fold events is to take the newest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub fact: Fact,
    pub after: Knowledge,
    pub occurred_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    Requested(Box<Request>),
    Progressed(Stage),
    Completed(Box<Outcome>),
    Failed(Failure),
    Cancelled,
}

/// Decides one command. `Ok(None)`: it is so already, or the analysis has ended and stays as it is.
pub fn decide(
    known: Option<&Knowledge>,
    command: Command,
    caller: &Caller,
    expected: &Expected,
    now: Timestamp,
) -> Result<Option<Event>, Refusal> {
    let is_worker = caller.subject == WORKER;
    let (known, command) = match (known, command) {
        (None, Command::Request { request, owner }) => {
            if let Expected::Versions(_) = expected {
                return Err(Refusal::Unknown);
            }
            let owner = match owner {
                Some(owner) if is_worker => owner,
                Some(_) => return Err(Refusal::NotAllowed),
                None => caller.subject.clone(),
            };
            return Ok(Some(requested(*request, owner, now)));
        }
        (None, _) => return Err(Refusal::Unknown),
        (Some(known), Command::Request { .. }) => {
            return Err(Refusal::Exists { version: known.version });
        }
        (Some(known), command) => (known, command),
    };
    match command {
        // Admins do not tell results: only who computed one does.
        Command::Progress { .. } | Command::Complete { .. } | Command::Fail { .. } => {
            if !is_worker {
                return Err(Refusal::NotAllowed);
            }
        }
        _ => permit(Some(&known.standing()), false, caller, expected)?,
    }
    if known.state.is_ended() {
        return Ok(None);
    }
    let (fact, state) = match command {
        Command::Request { .. } => return Err(Refusal::Exists { version: known.version }),
        Command::Progress { stage } if known.state == State::Running(stage) => return Ok(None),
        Command::Progress { stage } => (Fact::Progressed(stage), State::Running(stage)),
        Command::Complete { outcome } => (Fact::Completed(outcome), State::Completed),
        Command::Fail { failure } => (Fact::Failed(failure), State::Failed),
        Command::Cancel => (Fact::Cancelled, State::Cancelled),
    };
    // Clocks jump: an event is never earlier than the one before.
    let now = now.max(known.updated_at);
    let version = known.version + 1;
    let after = Knowledge { version, state, updated_at: now, ..known.clone() };
    Ok(Some(Event { fact, after, occurred_at: now }))
}

fn requested(request: Request, owner: String, now: Timestamp) -> Event {
    let schedule_id = match &request.subject {
        Subject::Stored(id) => Some(id.clone()),
        Subject::Inline(_) => None,
    };
    let after = Knowledge {
        version: 1,
        owner,
        schedule_id,
        origin: request.origin,
        state: State::Queued,
        requested_at: now,
        updated_at: now,
    };
    Event { fact: Fact::Requested(Box::new(request)), after, occurred_at: now }
}

impl Knowledge {
    pub fn standing(&self) -> Standing {
        Standing { version: self.version, owner: self.owner.clone(), is_deleted: false }
    }
}

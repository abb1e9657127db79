//! Operations: what operators do to an installation. To the tables of projections: they are rebuilt
//! beside the live ones, verified, switched to, and rolled back from; and keys that are set aside are mended.
//! And to providers: they are paused and resumed.

mod decide;
mod mending;
mod pausing;
#[cfg(test)]
mod tests;

pub use decide::{Command, Event, Fact, Refusal, Step, decide};
pub use mending::{
    MAX_TARGETS, Mending, MendingCommand, MendingEvent, MendingFact, MendingRefusal, Outcome,
    Remedy, Target, decide_mending,
};
pub use pausing::{Pause, PauseRefusal, Pausing, decide_pausing};

use jiff::Timestamp;
use std::str::FromStr;

/// The subject of the projectors that carry a rebuild out. No token may have it.
pub const PROJECTOR: &str = "urn:almanac:projector";

/// How far a rebuild is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The log is read from its start.
    Hydrating,
    /// It follows the log, and is not as far as the live tables yet.
    Lagging,
    /// Its rows are compared with the live ones.
    Verifying,
    /// Nothing but the switch is missing.
    Ready,
    /// Its tables are the live ones.
    Active,
    RolledBack,
    Failed,
    Cancelled,
    Paused,
}

impl State {
    const ALL: [Self; 9] = [
        Self::Hydrating,
        Self::Lagging,
        Self::Verifying,
        Self::Ready,
        Self::Active,
        Self::RolledBack,
        Self::Failed,
        Self::Cancelled,
        Self::Paused,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hydrating => "hydrating",
            Self::Lagging => "lagging",
            Self::Verifying => "verifying",
            Self::Ready => "ready",
            Self::Active => "active",
            Self::RolledBack => "rolled_back",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Paused => "paused",
        }
    }
}

impl FromStr for State {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(())
    }
}

/// How a rebuild was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Of the rebuild.
    pub id: String,
    pub projection: String,
    /// Version of the fold that the program has, and whose tables are rebuilt.
    pub fold: u32,
    /// Verified, reported and dropped, never switched to.
    pub dry_run: bool,
    /// Switched to by itself once it is verified and does not differ from the live tables.
    pub automatic: bool,
    /// Of all partitions together while the log is read from its start; 0 is without a limit.
    pub events_per_s: u32,
    /// Positions to fold to and not beyond, as a certificate names them.
    pub until: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuild {
    pub request: Request,
    /// Of its tables. No other rebuild of the projection ever has it.
    pub generation: u32,
    pub state: State,
    /// Where it goes on when it is resumed.
    pub paused_in: Option<State>,
    pub requested_at: Timestamp,
    pub requested_by: String,
    pub reason: String,
    /// As JSON, once it is verified.
    pub certificate: Option<String>,
    /// Rows that differ from the live ones, once they are compared.
    pub differences: Option<u64>,
    pub failure: Option<Failure>,
    /// Its tables, or those that it replaced, are not there any more.
    pub is_dropped: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub category: String,
    pub detail: String,
}

impl Rebuild {
    /// Whether another one must wait for it.
    pub fn is_under_way(&self) -> bool {
        match self.state {
            State::Hydrating | State::Lagging | State::Verifying | State::Paused => true,
            State::Ready => !self.is_dropped,
            State::Active | State::RolledBack | State::Failed | State::Cancelled => false,
        }
    }
}

/// The tables that there are of a projection, and its newest rebuild: the fold of its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Knowledge {
    /// Number of events so far.
    pub version: u64,
    /// The generation that reads are answered from.
    pub live: u32,
    /// The one before it, or the one that was rolled back, kept up to date.
    pub kept: Option<u32>,
    /// The greatest that there ever was.
    pub newest: u32,
    pub rebuild: Rebuild,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Knowledge {
    /// The generations whose tables are filled.
    pub fn filled(&self) -> Vec<u32> {
        let candidate = self.rebuild.is_under_way().then_some(self.rebuild.generation);
        let mut filled: Vec<u32> =
            [Some(self.live), self.kept, candidate].into_iter().flatten().collect();
        filled.sort_unstable();
        filled.dedup();
        filled
    }
}

//! Commands held against what is known, and what follows from them.

use super::Subscription;
use crate::aggregate::{Caller, Expected, Refusal, Standing, permit, permit_creation};
use jiff::Timestamp;

/// The subject of who sends notifications. No token may have it.
pub const NOTIFIER: &str = "urn:almanac:notifier";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Create {
        subscription: Box<Subscription>,
        /// What notifications are signed with, as only who sends them can read it.
        sealed: Vec<u8>,
    },
    Delete,
    /// Nothing reaches its address any more.
    Disable {
        reason: String,
    },
}

/// Why nothing is sent any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disabled {
    pub at: Timestamp,
    pub reason: String,
}

/// The fold of a subscription's events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Knowledge {
    /// Number of events so far: the subscription's version.
    pub version: u64,
    pub subscription: Subscription,
    pub sealed: Vec<u8>,
    /// The subject that made it: it is told of what this subject may see.
    pub owner: String,
    pub disabled: Option<Disabled>,
    pub is_deleted: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// One event, complete: rows can be folded from it without reading anything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub fact: Fact,
    pub after: Knowledge,
    pub occurred_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    Created,
    Deleted,
    Disabled,
}

impl Knowledge {
    pub fn standing(&self) -> Standing {
        Standing { version: self.version, owner: self.owner.clone(), is_deleted: self.is_deleted }
    }

    /// Whether anything is sent.
    pub fn is_active(&self) -> bool {
        !self.is_deleted && self.disabled.is_none()
    }
}

/// Decides one command. `Ok(None)`: it is so already.
pub fn decide(
    known: Option<&Knowledge>,
    command: Command,
    caller: &Caller,
    expected: &Expected,
    now: Timestamp,
) -> Result<Option<Event>, Refusal> {
    let standing = known.map(Knowledge::standing);
    if let Command::Create { subscription, sealed } = command {
        permit_creation(standing.as_ref(), expected)?;
        let after = Knowledge {
            version: 1,
            subscription: *subscription,
            sealed,
            owner: caller.subject.clone(),
            disabled: None,
            is_deleted: false,
            created_at: now,
            updated_at: now,
        };
        return Ok(Some(Event { fact: Fact::Created, after, occurred_at: now }));
    }
    let Some(known) = known else { return Err(Refusal::Unknown) };
    // Clocks jump: an event is never earlier than the one before.
    let occurred_at = now.max(known.updated_at);
    let next = Knowledge { version: known.version + 1, updated_at: occurred_at, ..known.clone() };
    let (fact, after) = match command {
        Command::Create { .. } => return Err(Refusal::Exists { version: known.version }),
        Command::Disable { reason } => {
            // Nobody but who sends knows that nothing arrives.
            if caller.subject != NOTIFIER {
                return Err(Refusal::NotAllowed);
            }
            if !known.is_active() {
                return Ok(None);
            }
            let disabled = Some(Disabled { at: occurred_at, reason });
            (Fact::Disabled, Knowledge { disabled, ..next })
        }
        Command::Delete => {
            permit(standing.as_ref(), false, caller, expected)?;
            // Nothing is signed with it any more.
            (Fact::Deleted, Knowledge { is_deleted: true, sealed: Vec::new(), ..next })
        }
    };
    Ok(Some(Event { fact, after, occurred_at }))
}

//! Commands held against what is known, and what follows from them.

use super::{Field, Recipe};
use jiff::Timestamp;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub subject: String,
    pub is_admin: bool,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Create {
        recipe: Box<Recipe>,
    },
    Revise {
        recipe: Box<Recipe>,
    },
    Delete,
    Restore,
    /// The picture itself travels beside the domain; its hash stands for it.
    SetThumbnail {
        hash: String,
    },
    RemoveThumbnail,
}

/// The version that the caller saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Whatever it is.
    Any,
    /// One of these; none never fits.
    Versions(Vec<u64>),
}

/// The fold of a recipe's events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Knowledge {
    /// Number of events so far: the recipe's version.
    pub version: u64,
    pub recipe: Recipe,
    /// The subject that made it: only it and admins change it.
    pub owner: String,
    /// Hash of its picture, when it has one.
    pub thumbnail: Option<String>,
    pub is_deleted: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// What of a recipe decides whether it may be changed at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub version: u64,
    pub owner: String,
    pub is_deleted: bool,
}

/// One event, complete: rows can be folded from it without reading anything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub fact: Fact,
    pub after: Knowledge,
    pub occurred_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    Created,
    /// What it said before is taken out of the questions it no longer answers.
    Revised {
        changed: Vec<Field>,
        before: Box<Recipe>,
    },
    Deleted,
    Restored,
    ThumbnailSet,
    ThumbnailRemoved,
}

/// Why a command is not carried out. Nothing follows from it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("there is no such recipe")]
    Unknown,
    #[error("the recipe was deleted; restoring it undoes that")]
    Deleted { version: u64 },
    #[error("there is a recipe with this id already")]
    Exists { version: u64 },
    #[error("only its owner or an admin may change the recipe")]
    NotAllowed,
    #[error("the recipe is at version {current}, which is not the one expected")]
    Stale { current: u64 },
}

/// Whether a caller may change a recipe as it stands; restoring is all that may be done to one that
/// is deleted.
pub fn permit(
    standing: Option<&Standing>,
    restores: bool,
    caller: &Caller,
    expected: &Expected,
) -> Result<(), Refusal> {
    let Some(standing) = standing else { return Err(Refusal::Unknown) };
    let version = standing.version;
    if !caller.is_admin && caller.subject != standing.owner {
        return Err(Refusal::NotAllowed);
    }
    if standing.is_deleted && !restores {
        return Err(Refusal::Deleted { version });
    }
    if let Expected::Versions(versions) = expected
        && !versions.contains(&version)
    {
        return Err(Refusal::Stale { current: version });
    }
    Ok(())
}

impl Knowledge {
    pub fn standing(&self) -> Standing {
        Standing { version: self.version, owner: self.owner.clone(), is_deleted: self.is_deleted }
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
    let (known, command) = match (known, command) {
        (None, Command::Create { recipe }) => {
            // A version that is expected of what is not there is a stale one.
            if let Expected::Versions(_) = expected {
                return Err(Refusal::Unknown);
            }
            let after = Knowledge {
                version: 1,
                recipe: *recipe,
                owner: caller.subject.clone(),
                thumbnail: None,
                is_deleted: false,
                created_at: now,
                updated_at: now,
            };
            return Ok(Some(Event { fact: Fact::Created, after, occurred_at: now }));
        }
        (None, _) => return Err(Refusal::Unknown),
        (Some(known), Command::Create { .. }) => {
            return Err(Refusal::Exists { version: known.version });
        }
        (Some(known), command) => (known, command),
    };
    permit(Some(&known.standing()), command == Command::Restore, caller, expected)?;
    // Clocks jump: an event is never earlier than the one before.
    let now = now.max(known.updated_at);
    let next = Knowledge { version: known.version + 1, updated_at: now, ..known.clone() };
    let (fact, after) = match command {
        Command::Create { .. } => return Err(Refusal::Exists { version: known.version }),
        Command::Revise { recipe } => {
            let changed = recipe.differences(&known.recipe);
            if changed.is_empty() {
                return Ok(None);
            }
            let before = Box::new(known.recipe.clone());
            (Fact::Revised { changed, before }, Knowledge { recipe: *recipe, ..next })
        }
        Command::Delete => (Fact::Deleted, Knowledge { is_deleted: true, ..next }),
        Command::Restore if !known.is_deleted => return Ok(None),
        Command::Restore => (Fact::Restored, Knowledge { is_deleted: false, ..next }),
        Command::SetThumbnail { hash } if known.thumbnail.as_ref() == Some(&hash) => {
            return Ok(None);
        }
        Command::SetThumbnail { hash } => {
            (Fact::ThumbnailSet, Knowledge { thumbnail: Some(hash), ..next })
        }
        Command::RemoveThumbnail if known.thumbnail.is_none() => return Ok(None),
        Command::RemoveThumbnail => (Fact::ThumbnailRemoved, Knowledge { thumbnail: None, ..next }),
    };
    Ok(Some(Event { fact, after, occurred_at: now }))
}

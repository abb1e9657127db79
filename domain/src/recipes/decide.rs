//! Commands held against what is known, and what follows from them.

use super::{Field, Recipe};
use crate::aggregate::{Caller, Expected, Refusal, Standing, permit, permit_creation};
use jiff::Timestamp;

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
    let standing = known.map(Knowledge::standing);
    if let Command::Create { recipe } = command {
        permit_creation(standing.as_ref(), expected)?;
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
    permit(standing.as_ref(), command == Command::Restore, caller, expected)?;
    let Some(known) = known else { return Err(Refusal::Unknown) };
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

//! Consumer groups as operators see them: who is in them, and how far they have committed.

use crate::{InputPosition, LogError};
use std::sync::Arc;

/// Names of groups, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupNames {
    pub names: Vec<String>,
    /// Groups beyond those that were asked for.
    pub left_off: usize,
    /// Why some may be missing: what a part of the log answered that could not be asked.
    pub unheard: Option<String>,
}

impl GroupNames {
    /// The first `at_most` of these, in order.
    pub(crate) fn first(mut names: Vec<String>, at_most: usize, unheard: Option<String>) -> Self {
        names.sort_unstable();
        names.dedup();
        let left_off = names.len().saturating_sub(at_most);
        names.truncate(at_most);
        Self { names, left_off, unheard }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupState {
    /// Every member knows its partitions.
    Stable,
    /// Partitions are being shared out anew.
    Rebalancing,
    /// Nobody is in it: what it committed is kept for a time.
    Empty,
    /// It is gone.
    Dead,
    Unknown,
}

impl GroupState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Rebalancing => "rebalancing",
            Self::Empty => "empty",
            Self::Dead => "dead",
            Self::Unknown => "unknown",
        }
    }
}

#[derive(Clone, Debug)]
pub struct GroupDescription {
    pub name: String,
    pub state: GroupState,
    pub members: Vec<GroupMemberDescription>,
    /// Of the partitions that were asked about, those that the group has committed a position of.
    pub committed: Vec<InputPosition>,
    /// What of it could not be learnt, such as for want of a permission.
    pub fault: Option<LogError>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMemberDescription {
    /// As the log names it.
    pub id: String,
    /// As its client names itself.
    pub client: String,
    /// Its name, where it is a static member.
    pub instance: Option<String>,
    /// From where it came.
    pub host: Option<String>,
    pub assigned: Vec<(Arc<str>, u32)>,
}

//! One topic of one version of a projection: what a consumer group shares out, and what positions and
//! parked keys are kept under.

use crate::{Edition, Projected};
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    pub projection: &'static str,
    pub edition: Edition,
    /// Without the installation's prefix.
    pub topic: &'static str,
}

impl Source {
    /// All of a projection.
    pub fn of(projection: &dyn Projected) -> impl Iterator<Item = Self> {
        let (projection, edition, topics) =
            (projection.name(), projection.edition(), projection.topics());
        topics.iter().map(move |topic| Self { projection, edition, topic })
    }

    /// The partition of its rows in the tables that all projections share.
    pub(crate) fn rows(&self) -> String {
        rows_of(self.projection, self.edition)
    }

    /// What the clustering keys of one partition's rows there start with.
    pub(crate) fn place(&self, partition: u32) -> String {
        format!("{}/{partition:06}", self.topic)
    }
}

pub(crate) fn rows_of(projection: &str, edition: Edition) -> String {
    format!("{projection}/{edition}")
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.projection, self.edition, self.topic)
    }
}

//! What a projection is to the role that runs it.

use almanac_read_store::{Table, Write};
use almanac_schemas::{CodecError, Decoded};

/// Tables folded from one topic.
pub trait Projection: Send + Sync + 'static {
    fn name(&self) -> &'static str;

    /// Another version fills other tables.
    fn version(&self) -> u32;

    /// Without the installation's prefix.
    fn topic(&self) -> &'static str;

    fn tables(&self) -> Vec<&Table>;

    /// Where keys are kept whose events cannot be folded.
    fn parked(&self) -> &Table;

    /// What readers keep of this table, and are told when it changes.
    fn announced(&self, table: &Table) -> Announced;

    /// Whether many events write the same into a row of this table, so that one write is enough for
    /// as long as no other comes between. Nothing is ever deleted from such a table.
    fn is_repeated(&self, table: &Table) -> bool;

    /// Folds the event at `position` of `source_partition`: a function of the event alone.
    fn fold(
        &self,
        decoded: &Decoded<'_>,
        source_partition: u32,
        position: u64,
    ) -> Result<Folded, FoldError>;
}

/// What of a table readers keep in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Announced {
    Nothing,
    Partitions,
    Rows,
}

/// What one event does, in the order in which it must be acknowledged.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Folded {
    /// Index rows and deletes: first.
    pub index: Vec<Write>,
    /// The aggregate's own row, with its sequence: last, so that an interrupted fold that is
    /// repeated ends in the same rows.
    pub own: Vec<Write>,
}

/// The event itself is at fault; repeating does not help.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("record {record} is not one of {topic}")]
    UnknownRecord { record: String, topic: &'static str },
    #[error("a value of the event is outside the domain")]
    OutsideDomain,
}

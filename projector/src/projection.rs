//! What a projection is to the role that runs it.

use almanac_read_store::{Change, Table, Write, timestamp};
use almanac_schemas::{CodecError, Decoded};
use almanac_tables::Projected;
use bytes::Bytes;

/// How events become rows of the tables.
pub trait Projection: Projected {
    /// A function of the event alone.
    fn fold(&self, event: &Event<'_>) -> Result<Folded, FoldError>;
}

/// An event and where it lies.
pub struct Event<'a> {
    pub decoded: &'a Decoded<'a>,
    pub partition: u32,
    pub position: u64,
    /// Of a partial rebuild, whose rows win over those of the same events before it; otherwise 0.
    pub repair: u16,
}

impl Event<'_> {
    /// For the rows that this event writes.
    pub fn rows(&self) -> Rows {
        Rows { position: self.position, repair: self.repair, folded: Folded::default() }
    }

    /// What a fold says of a record that it does not know.
    pub fn unknown(&self, topic: &'static str) -> FoldError {
        FoldError::UnknownRecord { record: self.decoded.record().to_owned(), topic }
    }
}

/// The rows of one event: all have its position and the timestamps that follow from it.
pub struct Rows {
    position: u64,
    repair: u16,
    folded: Folded,
}

impl Rows {
    /// Writes an index row.
    pub fn put(
        &mut self,
        table: &Table,
        partition: impl Into<String>,
        clustering: impl Into<String>,
        body: impl Into<Bytes>,
    ) {
        let write = self.write(table, partition, clustering, body);
        self.folded.index.push(write);
    }

    /// Writes the aggregate's own row.
    pub fn put_own(
        &mut self,
        table: &Table,
        partition: impl Into<String>,
        clustering: impl Into<String>,
        body: impl Into<Bytes>,
    ) {
        let write = self.write(table, partition, clustering, body);
        self.folded.own.push(write);
    }

    pub fn delete(
        &mut self,
        table: &Table,
        partition: impl Into<String>,
        clustering: impl Into<String>,
    ) {
        let change = Change::Delete {
            partition: partition.into(),
            clustering: clustering.into(),
            timestamp: timestamp(self.position, self.repair, false),
        };
        self.folded.index.push(Write { table: table.clone(), change });
    }

    fn write(
        &self,
        table: &Table,
        partition: impl Into<String>,
        clustering: impl Into<String>,
        body: impl Into<Bytes>,
    ) -> Write {
        let change = Change::Put {
            partition: partition.into(),
            clustering: clustering.into(),
            timestamp: timestamp(self.position, self.repair, true),
            body: body.into(),
        };
        Write { table: table.clone(), change }
    }

    pub fn folded(self) -> Folded {
        self.folded
    }
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

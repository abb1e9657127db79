//! The event log port and its two adapters.
//!
//! The log is the truth of an Almanac installation: partitioned topics of immutable records,
//! appended in transactions that always include the input position of the consumer group that
//! caused them. [`port`] states the contract; [`kafka`] keeps it with Apache Kafka, [`embedded`]
//! with files of our own in the process. [`conformance`] is the suite that every adapter passes.

pub mod conformance;
pub mod embedded;
mod error;
mod excerpt;
mod groups;
pub mod kafka;
pub mod partitioner;
pub mod port;
mod range;
mod record;

pub use error::{LogError, LogResult, Retry};
pub use excerpt::Excerpt;
pub use groups::{GroupDescription, GroupMemberDescription, GroupNames, GroupState};
pub use port::{
    Append, Durability, EventLog, GroupEvent, GroupMember, GroupOptions, InputPosition, Isolation,
    LogReader, Offset, Ownership, ReadBatch, ReadLimit, Retention, Revocation, TopicDescription,
    TopicId, TopicSpec, Transactor,
};
pub use range::read_range;
pub use record::{Headers, HeadersBuilder, Record, StoredRecord};

//! The contract of the event log.
//!
//! * **Order.** Records of one partition are read in the order of their offsets. Offsets grow and
//!   may have gaps (control records, compaction). There is no order between partitions.
//! * **Durability.** What `append` or `commit` acknowledged survives the death of this process at
//!   once, and of the machine where the topic is [`Durability::Synced`].
//! * **Atomicity.** Of a transaction, readers see all records or none, and its input position is
//!   advanced with them.
//! * **Fencing.** A transaction is accepted only from the newest transactor of its transactional
//!   id and only under the group generation in which its input partition was assigned. Every
//!   transaction names an input position: Kafka checks the generation with the position only.
//! * **Readers** see committed records only.

use crate::{GroupDescription, GroupNames, LogError, LogResult, Record, StoredRecord};
use async_trait::async_trait;
use std::{any::Any, fmt, sync::Arc, time::Duration};
use tokio::sync::oneshot;
use uuid::Uuid;

pub type Offset = u64;

/// Identity of a topic's incarnation: a topic that is deleted and created again has another one,
/// so that no position of the old is taken for a position of the new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct TopicId(pub Uuid);

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How long a topic keeps its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// Facts: nothing is ever removed.
    Forever,
    /// State: the newest record of every key stays.
    Compacted,
    /// Plumbing: records go some time after this age.
    For(Duration),
}

/// What an acknowledgement promises on the embedded engine. Kafka acknowledges from all in-sync
/// replicas either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    Synced,
    /// Survives the process, not the machine: for what can be derived again.
    Buffered,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    pub name: String,
    pub partitions: u32,
    pub retention: Retention,
    pub durability: Durability,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicDescription {
    pub id: TopicId,
    pub partitions: u32,
}

#[derive(Clone, Debug)]
pub struct Append {
    pub topic: Arc<str>,
    pub partition: u32,
    pub record: Record,
}

/// Which end of a partition is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// The high watermark: everything written, open transactions included.
    Uncommitted,
    /// The last stable offset: what readers can reach now.
    Committed,
}

/// A group's position in an input partition: the next offset it has not handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputPosition {
    pub topic: Arc<str>,
    pub partition: u32,
    pub next_offset: Offset,
}

#[derive(Clone, Debug)]
pub struct GroupOptions {
    pub group: String,
    /// The input topic whose partitions are shared out.
    pub topic: String,
    /// Static membership: a member that comes back under its name keeps its partitions.
    pub instance: String,
    /// A member that says nothing for so long is taken for dead. It also bounds how long a
    /// revocation waits for the owner to let go.
    pub session_timeout: Duration,
}

/// The right to handle one input partition, from an assignment until its revocation.
///
/// It carries the generation it was given in. The generation is captured here once and never
/// refreshed: the coordinator checks the member's generation, not the partition, so a member that
/// lost a partition and rejoined could otherwise commit an old batch under the new generation.
#[derive(Clone)]
pub struct Ownership {
    pub group: Arc<str>,
    pub topic: Arc<str>,
    pub partition: u32,
    pub(crate) generation: Arc<dyn Any + Send + Sync>,
}

impl fmt::Debug for Ownership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}/{}", self.group, self.topic, self.partition)
    }
}

#[derive(Debug)]
pub enum GroupEvent {
    Assigned(Vec<Ownership>),
    Revoked(Revocation),
}

/// Everything assigned is taken away (eager protocol). The group moves on when this is dropped or
/// the session timeout passes: the receiver MUST end its transactions and drop its state first.
#[derive(Debug)]
pub struct Revocation {
    pub(crate) acknowledge: Option<oneshot::Sender<()>>,
}

impl Drop for Revocation {
    fn drop(&mut self) {
        if let Some(acknowledge) = self.acknowledge.take() {
            // The group may have stopped waiting; then nobody listens, and that is fine.
            let _ = acknowledge.send(());
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct ReadLimit {
    pub records: usize,
    pub bytes: usize,
}

#[derive(Debug, Default)]
pub struct ReadBatch {
    /// In offset order within each partition.
    pub records: Vec<StoredRecord>,
    /// Partitions (index into what the reader was opened with) whose stable end was reached.
    pub at_end: Vec<usize>,
}

#[async_trait]
pub trait EventLog: Send + Sync + 'static {
    /// Resolves when a part of the log that works by itself, such as a thread of the engine, has
    /// died: only another process can go on then.
    async fn died(&self) -> LogError {
        std::future::pending().await
    }

    /// Creates what is missing. An existing topic that differs in what matters is an error that
    /// says how it differs.
    async fn ensure_topics(&self, topics: &[TopicSpec]) -> LogResult<()>;

    async fn topic(&self, topic: &str) -> LogResult<TopicDescription>;

    /// Appends outside any transaction, each record exactly once (idempotent producer), in order
    /// per partition. An offset may be unknown although the append succeeded.
    ///
    /// After an error with [`crate::Retry::Unknown`] some or all of the records may be in the log,
    /// or come to be there; after any other none is and none will be.
    async fn append(&self, appends: Vec<Append>) -> LogResult<Vec<Option<Offset>>>;

    async fn end(&self, topic: &str, partition: u32, isolation: Isolation) -> LogResult<Offset>;

    /// The oldest offset that is still kept.
    async fn start(&self, topic: &str, partition: u32) -> LogResult<Offset>;

    /// Where the records of a time and later begin, by partition. Times are their producers' and need not
    /// rise: whoever must miss nothing asks for an earlier one. The stable end where nothing is that young.
    async fn offsets_at(&self, topic: &str, time_ms: i64) -> LogResult<Vec<Offset>>;

    /// A reader over several partitions of a topic, each from its own position, to no end. Where
    /// records are kept for a time and what stands at a position is gone, [`LogReader::next`] fails
    /// with [`crate::LogError::OffsetOutOfRange`]: nothing is passed over in silence.
    async fn read(&self, topic: &str, from: &[(u32, Offset)]) -> LogResult<Box<dyn LogReader>>;

    /// The same for who takes a little, or takes long: little is kept ready.
    async fn browse(&self, topic: &str, from: &[(u32, Offset)]) -> LogResult<Box<dyn LogReader>> {
        self.read(topic, from).await
    }

    /// A reader of `from..to` that ends ([`LogReader::next`] returns an empty batch with
    /// `at_end`) only when every committed record below `to` was returned. It waits for
    /// transactions that are open below `to`.
    async fn read_to(
        &self,
        topic: &str,
        partition: u32,
        from: Offset,
        to: Offset,
    ) -> LogResult<Box<dyn LogReader>>;

    async fn join(&self, options: GroupOptions) -> LogResult<Box<dyn GroupMember>>;

    /// The position that the group last committed, once no transaction that would change it is
    /// pending.
    async fn committed(&self, ownership: &Ownership) -> LogResult<Option<Offset>>;

    /// The consumer groups that the log knows, those of others included: the first `at_most` names.
    async fn groups(&self, at_most: usize) -> LogResult<GroupNames>;

    /// What these groups are like, in their order, and what they have committed of `places` (topics and
    /// partitions). A group that the log does not know is [`crate::GroupState::Dead`]. What cannot be
    /// learnt of one group is a fault of its description and takes nothing from the others.
    async fn describe_groups(
        &self,
        names: &[String],
        places: &[(Arc<str>, u32)],
    ) -> LogResult<Vec<GroupDescription>>;

    /// Initialises the transactional producer: on return, every earlier holder of this id is
    /// fenced and its open transaction is over, so that what it wrote is below the end that is asked
    /// for from here on.
    async fn transactor(
        &self,
        transactional_id: &str,
        ownership: &Ownership,
    ) -> LogResult<Box<dyn Transactor>>;

    /// For how long it has been known that what is appended cannot be acknowledged. `None` also where
    /// nobody can be cut off from the log.
    fn cut_off(&self) -> Option<Duration> {
        None
    }
}

#[async_trait]
pub trait LogReader: Send {
    /// What is there, up to the limit; waits for news, not longer than `wait`. An empty batch
    /// means that the wait passed, or that an end was reached.
    async fn next(&mut self, limit: ReadLimit, wait: Duration) -> LogResult<ReadBatch>;

    /// Where it stands in a partition (index into what it was opened with), as it was when the last
    /// batch told that its end was reached: what lies below was handed out by then, or is nothing
    /// that readers see, such as marks of transactions. `None` before that, or when it is not known.
    fn position(&self, place: usize) -> Option<Offset>;

    /// For how long nothing was heard of the log, and nobody else heard of it either: `None` while
    /// what was handed out is all there is, as far as anybody can tell. The reader goes on by itself.
    fn cut_off(&self) -> Option<Duration> {
        None
    }
}

#[async_trait]
pub trait GroupMember: Send {
    async fn next(&mut self) -> LogResult<GroupEvent>;

    /// Leaves the group in order. Dropping a member instead leaves it to the session timeout
    /// where the adapter has one.
    async fn leave(self: Box<Self>) -> LogResult<()>;
}

#[async_trait]
pub trait Transactor: Send + Sync {
    /// One transaction. `Ok` means durable and visible; an error with [`crate::Retry::Later`] or
    /// [`crate::Retry::Never`] means that nothing was written; after one with
    /// [`crate::Retry::StartOver`] this transactor MUST be dropped.
    async fn commit(
        &mut self,
        appends: Vec<Append>,
        input: InputPosition,
    ) -> LogResult<Vec<Option<Offset>>>;
}

//! The read store port and its two adapters.
//!
//! Projections keep their rows here. Everything in it can be thrown away and folded again from
//! the event log. [`port`] states the contract; [`scylla`] keeps it with ScyllaDB or Cassandra,
//! [`embedded`] with fjall in the process. [`conformance`] is the suite every adapter passes.

pub mod conformance;
pub mod embedded;
mod error;
mod port;
pub mod scylla;

pub use error::{Retry, StoreError, StoreResult};
pub use port::{
    Change, Direction, MAX_KEY_BYTES, MAX_ROW_BYTES, Part, ReadStore, Row, Scanned, Slice, Table,
    Write, position_of, timestamp,
};

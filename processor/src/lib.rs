//! The runtime of everything that writes events: one owner per input partition.
//!
//! A [`Role`] handles one partition at a time. The runtime joins the group, starts the role on
//! every partition that is assigned, starts it over after an error or a panic, and lets a revocation
//! pass only when the partition's task has ended and its state is dropped.

mod envelope;
mod followed;
pub mod foreign;
mod gathered;
mod hold;
mod outage;
mod owned;
mod runtime;
mod state;
pub mod supervise;
mod timers;
pub mod traced;

pub use envelope::Envelope;
pub use followed::{Changes, Follow, Followed};
pub use foreign::Foreign;
pub use gathered::{Change, GatherLimits, GatheredState, Values};
pub use hold::Hold;
pub use owned::{Fold, Input, Owned};
pub use runtime::{ProcessorError, ProcessorOptions, Role, RoleError, run};
pub use state::{LocalState, StateError, StateFolder};
pub use supervise::{Died, Ending, RestartLimits, Supervisor, TaskName};
pub use timers::Timers;

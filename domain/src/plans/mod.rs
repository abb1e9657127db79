//! Plans: what ticket providers offer.
//!
//! A provider's feed is a statement of everything it has now. [`decide`] compares what is said of
//! one plan with what was said last and names the difference as an event, which holds what is known
//! after it: to fold events is to take the newest.

mod decide;
mod plan;
mod said;
mod time;

pub use decide::{Changes, Knowledge, PlanEvent, PlanFact, decide, delist};
pub use plan::{Field, Plan, PlanIdentity, SellMode, Zone, price_range};
pub use said::{SaidTime, read_zone};
pub use time::{LocalTime, LocalTimeError};

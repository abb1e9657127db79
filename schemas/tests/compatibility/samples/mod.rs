//! A value of every record, with every part that it can have.

pub(crate) mod analyses;
pub(crate) mod commands;
pub(crate) mod forecasts;
pub(crate) mod imports;
pub(crate) mod notifications;
pub(crate) mod operations;
pub(crate) mod plans;
pub(crate) mod recipes;
pub(crate) mod schedules;
pub(crate) mod subscriptions;

use jiff::Timestamp;

pub(crate) fn now() -> Timestamp {
    "2021-01-01T00:00:00.250Z".parse().unwrap()
}

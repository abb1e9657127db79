//! Instants as nanoseconds since 1970: exact, and cheap to compare by the hundred thousand.

use jiff::Timestamp;

/// Nanoseconds since 1970. It reaches from the year 1677 to 2262.
pub(super) type Nanos = i64;

pub(super) const SECOND: Nanos = 1_000_000_000;
pub(super) const HOUR: Nanos = 3_600 * SECOND;

pub(super) fn nanos(timestamp: Timestamp) -> Option<Nanos> {
    Nanos::try_from(timestamp.as_nanosecond()).ok()
}

/// The same within the range, which ends where the range ends.
pub(super) fn clamped(timestamp: Timestamp) -> Nanos {
    let nanos = timestamp.as_nanosecond();
    Nanos::try_from(nanos.clamp(Nanos::MIN.into(), Nanos::MAX.into())).unwrap_or_default()
}

pub(super) fn timestamp(nanos: Nanos) -> Timestamp {
    // Every number of nanoseconds of 64 bits lies well within the years of a timestamp.
    Timestamp::from_nanosecond(nanos.into()).unwrap_or_default()
}

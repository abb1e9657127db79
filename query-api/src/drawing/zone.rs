//! Local time at a place.

use jiff::{
    Timestamp, Zoned,
    tz::{Offset, TimeZone},
};
use rust_decimal::{Decimal, prelude::ToPrimitive};

/// A time zone with the name that a reader sees.
#[derive(Clone, Debug)]
pub struct Zone {
    zone: TimeZone,
    name: String,
}

impl Zone {
    /// By an IANA name, such as `Europe/Oslo`.
    pub fn named(name: &str) -> Option<Self> {
        Some(Self { zone: TimeZone::get(name).ok()?, name: name.to_owned() })
    }

    /// The nautical zone: whole hours, each 15 degrees of longitude wide. It needs no map of countries.
    pub fn by_longitude(lon: Decimal) -> Self {
        let hours = (lon / Decimal::from(15)).round().to_i8().unwrap_or_default().clamp(-12, 12);
        let zone = Offset::from_hours(hours).map_or(TimeZone::UTC, TimeZone::fixed);
        Self { zone, name: format!("UTC{hours:+03} by longitude") }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn at(&self, instant: Timestamp) -> Zoned {
        instant.to_zoned(self.zone.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longitudes_have_whole_hours() {
        for (lon, name) in [
            ("0", "UTC+00 by longitude"),
            ("7.4", "UTC+00 by longitude"),
            ("7.6", "UTC+01 by longitude"),
            ("-97.5", "UTC-06 by longitude"),
            ("180", "UTC+12 by longitude"),
            ("-180", "UTC-12 by longitude"),
        ] {
            assert_eq!(Zone::by_longitude(lon.parse().unwrap()).name(), name, "{lon}");
        }
        assert!(Zone::named("Asia/Kolkata").is_some() && Zone::named("Nowhere/Land").is_none());
    }
}

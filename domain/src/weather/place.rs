//! Where a forecast is asked for.

use super::Location;
use rust_decimal::{Decimal, RoundingStrategy, prelude::ToPrimitive};
use std::fmt;

/// A position rounded to hundredths of a degree, about a kilometre: positions that are near each other
/// share a forecast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// In hundredths of a degree.
    lat: i32,
    lon: i32,
}

const DECIMALS: u32 = 2;
const POLE: i32 = 90 * 100;
const ANTIMERIDIAN: i32 = 180 * 100;
const EARTH_RADIUS_M: f64 = 6_371_000.0;

impl Place {
    /// `None` where the position is nowhere on earth. 180° west is 180° east.
    pub fn of(location: &Location) -> Option<Self> {
        let hundredths = |degrees: Decimal| {
            let halves = RoundingStrategy::MidpointAwayFromZero;
            let rounded = degrees.round_dp_with_strategy(DECIMALS, halves);
            rounded.checked_mul(Decimal::ONE_HUNDRED)?.to_i32()
        };
        let (lat, lon) = (hundredths(location.lat)?, hundredths(location.lon)?);
        let is_on_earth = lat.abs() <= POLE && lon.abs() <= ANTIMERIDIAN;
        let lon = if lon == -ANTIMERIDIAN { ANTIMERIDIAN } else { lon };
        is_on_earth.then_some(Self { lat, lon })
    }

    /// From the texts of [`Self::lat`] and [`Self::lon`], or any other way to write them.
    pub fn parse(lat: &str, lon: &str) -> Option<Self> {
        Self::of(&Location { lat: lat.parse().ok()?, lon: lon.parse().ok()? })
    }

    /// The latitude with two decimals, such as `61.50`.
    pub fn lat(self) -> Decimal {
        Decimal::new(self.lat.into(), DECIMALS)
    }

    pub fn lon(self) -> Decimal {
        Decimal::new(self.lon.into(), DECIMALS)
    }

    pub fn location(self) -> Location {
        Location { lat: self.lat(), lon: self.lon() }
    }

    /// The key of what a source says of the place: `met-norway/61.50/4.80`.
    pub fn key(self, source: &str) -> String {
        format!("{source}/{self}")
    }
}

/// `61.50/4.80`
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.lat(), self.lon())
    }
}

impl Location {
    /// Metres along a great circle.
    pub fn distance_m(&self, other: &Self) -> f64 {
        let radians = |degrees: Decimal| degrees.to_f64().unwrap_or_default().to_radians();
        let (from, to) = (radians(self.lat), radians(other.lat));
        let across = radians(other.lon) - radians(self.lon);
        let haversine = ((to - from) / 2.0).sin().powi(2)
            + from.cos() * to.cos() * (across / 2.0).sin().powi(2);
        2.0 * EARTH_RADIUS_M * haversine.sqrt().min(1.0).asin()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(lat: &str, lon: &str) -> Option<String> {
        Place::parse(lat, lon).map(|place| place.key("s"))
    }

    #[test]
    fn near_positions_are_one_place() {
        assert_eq!(place("61.5", "4.8").as_deref(), Some("s/61.50/4.80"));
        assert_eq!(place("61.4951", "4.80499").as_deref(), Some("s/61.50/4.80"));
        assert_eq!(place("-0.005", "0.004").as_deref(), Some("s/-0.01/0.00"));
        assert_eq!(place("-0.004", "-0.004").as_deref(), Some("s/0.00/0.00"), "no minus zero");
        assert_eq!(place("90", "-180").as_deref(), Some("s/90.00/180.00"));
        assert_eq!(place("0", "179.996").as_deref(), Some("s/0.00/180.00"));
    }

    #[test]
    fn what_is_nowhere_is_no_place() {
        for (lat, lon) in [("90.01", "0"), ("0", "-180.01"), ("", "0"), ("79228162514264", "0")] {
            assert_eq!(place(lat, lon), None, "{lat} {lon}");
        }
    }

    #[test]
    fn distances_are_those_of_great_circles() {
        let at = |lat: &str, lon: &str| Place::parse(lat, lon).unwrap().location();
        let degree = at("60", "4").distance_m(&at("61", "4"));
        assert!((degree - 111_195.0).abs() < 1.0, "{degree}");
        let across = at("0", "179.9").distance_m(&at("0", "-179.9"));
        assert!((across - 22_239.0).abs() < 1.0, "{across}");
        assert_eq!(at("1", "1").distance_m(&at("1", "1")), 0.0);
    }
}

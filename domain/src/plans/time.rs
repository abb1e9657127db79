//! Provider times: wall time as the provider said it, with the instant it means.

use super::SaidTime;
use jiff::{
    Timestamp,
    civil::DateTime,
    tz::{Offset, TimeZone},
};

/// A wall time at a provider, to the second, with the offset from UTC that it had there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalTime {
    /// Compared first, so that times sort as instants.
    instant: Timestamp,
    offset_seconds: i32,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocalTimeError {
    #[error("{text:?} is not a date and time such as 2021-06-30T21:00:00")]
    NotATime { text: String },
    #[error("{text:?} is outside the years 1 to 9999")]
    OutOfRange { text: String },
    #[error("{text:?} names a time zone that is not known")]
    UnknownZone { text: String },
}

impl LocalTime {
    /// Reads a provider's time, by the rules of [`SaidTime::parse`].
    pub fn parse(text: &str, zone: &TimeZone) -> Result<Self, LocalTimeError> {
        SaidTime::parse(text, zone).map(|said| said.time())
    }

    /// The wall time of `instant` in `zone`.
    pub fn at(instant: Timestamp, zone: &TimeZone) -> Option<Self> {
        let offset_seconds = zone.to_offset(instant).seconds();
        Self::from_parts(instant.as_second(), offset_seconds)
    }

    /// From seconds since the Unix epoch and the offset from UTC in seconds.
    pub fn from_parts(unix_seconds: i64, offset_seconds: i32) -> Option<Self> {
        let instant = Timestamp::from_second(unix_seconds).ok()?;
        let offset = Offset::from_seconds(offset_seconds).ok()?;
        let year = offset.to_datetime(instant).year();
        (1..=9999).contains(&year).then_some(Self { instant, offset_seconds })
    }

    pub fn instant(&self) -> Timestamp {
        self.instant
    }

    pub fn unix_seconds(&self) -> i64 {
        self.instant.as_second()
    }

    pub fn offset_seconds(&self) -> i32 {
        self.offset_seconds
    }

    /// The wall time as seconds since 1970-01-01T00:00:00 on the same wall.
    pub fn wall_seconds(&self) -> i64 {
        self.unix_seconds() + i64::from(self.offset_seconds)
    }

    pub fn wall(&self) -> DateTime {
        // Both were checked when this was made.
        let offset = Offset::from_seconds(self.offset_seconds).unwrap_or(Offset::UTC);
        offset.to_datetime(self.instant)
    }
}

impl LocalTime {
    /// RFC 3339 with the offset, always 25 bytes: `2021-06-30T21:00:00+02:00`. By hand, since every
    /// event writes a dozen of them and the formatting machinery would cost most of a fold.
    pub fn to_text(&self) -> [u8; 25] {
        let wall = self.wall();
        let (date, time) = (wall.date(), wall.time());
        let mut text = *b"0000-00-00T00:00:00+00:00";
        let mut put = |at: usize, number: i32| {
            let number = number.unsigned_abs();
            text[at] = b'0' + (number / 10 % 10) as u8;
            text[at + 1] = b'0' + (number % 10) as u8;
        };
        let year = i32::from(date.year());
        let minutes = self.offset_seconds / 60;
        put(0, year / 100);
        put(2, year % 100);
        put(5, i32::from(date.month()));
        put(8, i32::from(date.day()));
        put(11, i32::from(time.hour()));
        put(14, i32::from(time.minute()));
        put(17, i32::from(time.second()));
        put(20, minutes / 60);
        put(23, minutes % 60);
        if self.offset_seconds < 0 {
            text[19] = b'-';
        }
        text
    }
}

/// RFC 3339 with the offset.
impl std::fmt::Display for LocalTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(std::str::from_utf8(&self.to_text()).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, zone: &str) -> Result<String, LocalTimeError> {
        let zone = TimeZone::get(zone).unwrap();
        LocalTime::parse(text, &zone).map(|time| time.to_string())
    }

    #[test]
    fn wall_times_follow_the_zone() {
        for (text, zone, expected) in [
            ("2021-06-30T21:00:00", "Europe/Madrid", "2021-06-30T21:00:00+02:00"),
            ("2021-01-30T21:00:00", "Europe/Madrid", "2021-01-30T21:00:00+01:00"),
            ("2021-06-30T21:00:00", "UTC", "2021-06-30T21:00:00+00:00"),
            ("2021-06-30T21:00:00Z", "Europe/Madrid", "2021-06-30T23:00:00+02:00"),
            ("2021-06-30T21:00:00-05:00", "Europe/Madrid", "2021-07-01T04:00:00+02:00"),
            ("2021-06-30T21:00:00.750", "UTC", "2021-06-30T21:00:00+00:00"),
            ("2021-06-30 21:00", "UTC", "2021-06-30T21:00:00+00:00"),
            // Skipped by the change to summer time: forward by the hour.
            ("2021-03-28T02:30:00", "Europe/Madrid", "2021-03-28T03:30:00+02:00"),
            // Repeated by the change back: the earlier, still in summer time.
            ("2021-10-31T02:30:00", "Europe/Madrid", "2021-10-31T02:30:00+02:00"),
        ] {
            assert_eq!(parse(text, zone).as_deref(), Ok(expected), "{text} in {zone}");
        }
    }

    #[test]
    fn impossible_times_are_refused() {
        for text in [
            "",
            "2021-09-31T20:00:00",
            "2021-06-30",
            "2021-06-30T25:00:00",
            "yesterday",
            "99999-01-01T00:00:00",
            "2021-06-30T21:00:00+99:00",
            "２０21-06-30T21:00:00",
            "0000-01-01T00:00:00",
        ] {
            assert!(parse(text, "Europe/Madrid").is_err(), "{text:?}");
        }
    }
}

//! Reading times as providers write them, with what it takes to read two of them together.

use super::{LocalTime, LocalTimeError};
use jiff::{
    SignedDuration, Timestamp, ToSpan, Zoned,
    civil::DateTime,
    fmt::temporal::DateTimeParser,
    tz::{AmbiguousOffset, TimeZone},
};
use std::borrow::Cow;

/// A time as it was said, and what it means.
#[derive(Clone, Debug)]
pub struct SaidTime {
    time: LocalTime,
    /// `None` when an offset was said with it: that is an instant, whatever the clock shows.
    wall: Option<Wall>,
}

#[derive(Clone, Debug)]
struct Wall {
    said: DateTime,
    zone: TimeZone,
    /// How far a clock change moved it; zero unless that change skips it.
    moved: SignedDuration,
}

impl SaidTime {
    /// Reads a provider's time. One with an offset or `Z` is an instant; one without is wall time
    /// in the zone that it names in brackets, such as `[America/New_York]`, or else in `zone`. A
    /// wall time that a clock change skips moves forward by the change, one that it repeats is the
    /// earlier (the "compatible" rule of RFC 5545). `24:00:00` is the next midnight. Fractions of a
    /// second are cut.
    pub fn parse(text: &str, zone: &TimeZone) -> Result<Self, LocalTimeError> {
        let text = text.trim();
        let not_a_time = || LocalTimeError::NotATime { text: clip(text) };
        let out_of_range = || LocalTimeError::OutOfRange { text: clip(text) };
        // Without a time of day the parser would take midnight, which nobody said.
        if text.len() < 16 || !text.is_ascii() || !matches!(text.as_bytes()[10], b'T' | b't' | b' ')
        {
            return Err(not_a_time());
        }
        let (said, is_end_of_day) = end_of_day(text).ok_or_else(not_a_time)?;
        let (said, zone) = match said.split_once('[') {
            None => (said.as_ref(), Cow::Borrowed(zone)),
            Some((before, name)) => {
                let named = name
                    .strip_suffix(']')
                    .and_then(|name| read_zone(name.strip_prefix('!').unwrap_or(name)));
                let named =
                    named.ok_or_else(|| LocalTimeError::UnknownZone { text: clip(text) })?;
                // An offset that the zone does not have then contradicts it.
                if before.parse::<Timestamp>().is_ok() && said.parse::<Zoned>().is_err() {
                    return Err(not_a_time());
                }
                (before, Cow::Owned(named))
            }
        };
        if let Ok(instant) = said.parse::<Timestamp>() {
            let instant = if is_end_of_day { instant.checked_add(24.hours()) } else { Ok(instant) };
            let instant = instant.map_err(|_| out_of_range())?;
            let time = LocalTime::at(instant, &zone).ok_or_else(out_of_range)?;
            return Ok(Self { time, wall: None });
        }
        let said: DateTime = said.parse().map_err(|_| not_a_time())?;
        let said = if is_end_of_day { said.checked_add(1.day()) } else { Ok(said) };
        let said = said.map_err(|_| out_of_range())?;
        let meant = zone.to_ambiguous_timestamp(said);
        let moved = match meant.offset() {
            AmbiguousOffset::Gap { before, after } => {
                SignedDuration::from_secs(i64::from(after.seconds() - before.seconds()))
            }
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => {
                SignedDuration::ZERO
            }
        };
        let instant = meant.compatible().map_err(|_| out_of_range())?;
        let time = LocalTime::at(instant, &zone).ok_or_else(out_of_range)?;
        Ok(Self { time, wall: Some(Wall { said, zone: zone.into_owned(), moved }) })
    }

    pub fn time(&self) -> LocalTime {
        self.time
    }

    /// This time as the end of what starts at `start`. When a clock change moved the start, and
    /// with that behind this end, the end moves with it: the provider said them in order.
    pub fn ending(&self, start: &Self) -> LocalTime {
        let (Some(end_wall), Some(start_wall)) = (&self.wall, &start.wall) else {
            return self.time;
        };
        let in_order = end_wall.zone == start_wall.zone && end_wall.said >= start_wall.said;
        if self.time >= start.time || !in_order {
            return self.time;
        }
        let moved = self.time.instant().checked_add(start_wall.moved).ok();
        moved.and_then(|instant| LocalTime::at(instant, &end_wall.zone)).unwrap_or(self.time)
    }
}

/// A time zone by its name in the IANA database, or as an offset from UTC such as `+02:00`.
pub fn read_zone(name: &str) -> Option<TimeZone> {
    let name = name.trim();
    if name.len() > 64 || name.is_empty() {
        return None;
    }
    TimeZone::get(name).or_else(|_| DateTimeParser::new().parse_time_zone(name)).ok()
}

/// ISO 8601 also writes a midnight as 24:00 of the day before. Returns the text with the hour 00,
/// and whether a day has to be added; `None` when anything follows the end of the day.
fn end_of_day(text: &str) -> Option<(Cow<'_, str>, bool)> {
    let Some(rest) = text[11..].strip_prefix("24") else {
        return Some((Cow::Borrowed(text), false));
    };
    let is_midnight = rest
        .bytes()
        .take_while(|byte| byte.is_ascii_digit() || matches!(byte, b':' | b'.' | b','))
        .all(|byte| !byte.is_ascii_digit() || byte == b'0');
    is_midnight.then(|| (Cow::Owned(format!("{}00{rest}", &text[..11])), true))
}

fn clip(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, zone: &str) -> Result<SaidTime, LocalTimeError> {
        SaidTime::parse(text, &TimeZone::get(zone).unwrap())
    }

    fn shown(text: &str, zone: &str) -> Result<String, LocalTimeError> {
        parse(text, zone).map(|said| said.time().to_string())
    }

    #[test]
    fn the_end_of_a_day_is_the_next_midnight() {
        for (text, zone, expected) in [
            ("2021-06-30T24:00:00", "Europe/Madrid", "2021-07-01T00:00:00+02:00"),
            ("2021-12-31T24:00", "Europe/Madrid", "2022-01-01T00:00:00+01:00"),
            ("2021-06-30 24:00:00.000", "UTC", "2021-07-01T00:00:00+00:00"),
            ("2021-06-30T24:00:00Z", "Europe/Madrid", "2021-07-01T02:00:00+02:00"),
            ("2021-06-30T24:00:00-05:00", "UTC", "2021-07-01T05:00:00+00:00"),
            ("2021-06-30T24:00[America/New_York]", "UTC", "2021-07-01T00:00:00-04:00"),
            // A day of 23 hours ends at its midnight all the same.
            ("2021-03-28T24:00:00", "Europe/Madrid", "2021-03-29T00:00:00+02:00"),
        ] {
            assert_eq!(shown(text, zone).as_deref(), Ok(expected), "{text}");
        }
        for text in ["2021-06-30T24:00:01", "2021-06-30T24:30:00", "2021-06-30T24:00:00.5"] {
            assert!(parse(text, "UTC").is_err(), "{text}");
        }
        assert!(parse("9999-12-31T24:00:00", "UTC").is_err(), "the year after the last");
    }

    #[test]
    fn a_zone_in_brackets_is_used_or_refused() {
        for (text, expected) in [
            ("2021-06-30T21:00:00[America/New_York]", "2021-06-30T21:00:00-04:00"),
            ("2021-06-30T21:00:00-04:00[America/New_York]", "2021-06-30T21:00:00-04:00"),
            ("2021-06-30T21:00:00Z[America/New_York]", "2021-06-30T17:00:00-04:00"),
            ("2021-06-30T21:00:00[!America/New_York]", "2021-06-30T21:00:00-04:00"),
            ("2021-06-30T21:00:00[+05:30]", "2021-06-30T21:00:00+05:30"),
            // Skipped there, not at the provider.
            ("2021-03-14T02:30:00[America/New_York]", "2021-03-14T03:30:00-04:00"),
        ] {
            assert_eq!(shown(text, "Europe/Madrid").as_deref(), Ok(expected), "{text}");
        }
        for text in [
            "2021-06-30T21:00:00[Atlantis/Capital]",
            "2021-06-30T21:00:00[]",
            "2021-06-30T21:00:00[America/New_York",
            "2021-06-30T21:00:00[America/New_York][u-ca=hebrew]",
            "2021-06-30T21:00:00[u-ca=hebrew]",
            // Not the offset that New York has in June.
            "2021-06-30T21:00:00-05:00[America/New_York]",
        ] {
            assert!(parse(text, "Europe/Madrid").is_err(), "{text}");
        }
    }

    #[test]
    fn an_end_moves_with_a_start_that_was_skipped() {
        let ends = |start: &str, end: &str| {
            let (start, end) =
                (parse(start, "Europe/Madrid").unwrap(), parse(end, "Europe/Madrid").unwrap());
            (end.ending(&start).to_string(), end.ending(&start) >= start.time())
        };
        let moved = "2021-03-28T04:15:00+02:00".to_owned();
        assert_eq!(ends("2021-03-28T02:30:00", "2021-03-28T03:15:00"), (moved, true));
        // Where the start stays before it, an end stays what was said.
        let said = "2021-03-28T04:00:00+02:00".to_owned();
        assert_eq!(ends("2021-03-28T02:30:00", "2021-03-28T04:00:00"), (said, true));
        // Both skipped: both moved already.
        let both = "2021-03-28T03:45:00+02:00".to_owned();
        assert_eq!(ends("2021-03-28T02:30:00", "2021-03-28T02:45:00"), (both, true));
        // Said the wrong way round, or as an instant: that is a fault of the provider's.
        assert!(!ends("2021-03-28T02:30:00", "2021-03-28T01:59:00").1);
        assert!(!ends("2021-03-28T02:30:00", "2021-03-28T03:15:00+02:00").1);
        assert!(!ends("2021-06-28T02:30:00", "2021-06-28T02:15:00").1);
        assert!(!ends("2021-03-28T02:30:00", "2021-03-28T03:15:00[Europe/Athens]").1);
    }

    #[test]
    fn zones_have_names_or_offsets() {
        assert!(read_zone("Europe/Madrid").is_some() && read_zone(" europe/madrid ").is_some());
        assert!(read_zone("UTC").is_some() && read_zone("-03:00").is_some());
        for name in ["", "Madrid", "2021", "Europe/Madrid/North", &"x".repeat(1_000)] {
            assert!(read_zone(name).is_none(), "{name:?}");
        }
    }
}

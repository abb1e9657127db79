//! Keys of `plans_by_start`: readable, sorted by start and id, and with all that search compares.

use almanac_domain::plans::LocalTime;
use almanac_schemas::plans::LocalTimeRecord;
use jiff::{Timestamp, civil::Date};

/// `2021-06-30T19:00:00Z/<id>/2021-06-30T20:00:00Z/7200/7200`; without an end the last three are
/// `-`, the start's offset, `0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartKey<'a> {
    pub id: &'a str,
    pub starts_at: LocalTimeRecord,
    pub ends_at: Option<LocalTimeRecord>,
}

impl<'a> StartKey<'a> {
    /// The partition: the UTC day of the start.
    pub fn day(&self) -> String {
        Self::day_of(self.starts_at.unix_seconds)
    }

    pub fn day_of(unix_seconds: i64) -> String {
        if let Some(time) = LocalTime::from_parts(unix_seconds, 0) {
            return String::from_utf8_lossy(&time.to_text()[..10]).into_owned();
        }
        // The library's instants end a day before the year 9999 does; its dates do not.
        let epoch = Date::constant(1970, 1, 1);
        epoch.saturating_add(jiff::Span::new().days(unix_seconds.div_euclid(86_400))).to_string()
    }

    pub fn clustering(&self) -> String {
        let offset = self.starts_at.utc_offset_seconds;
        let start = instant(self.starts_at.unix_seconds);
        match self.ends_at {
            Some(end) => {
                let (end, end_offset) = (instant(end.unix_seconds), end.utc_offset_seconds);
                format!("{start}/{}/{end}/{offset}/{end_offset}", self.id)
            }
            None => format!("{start}/{}/-/{offset}/0", self.id),
        }
    }

    /// Reads a clustering key; `None` when it is not one.
    pub fn parse(clustering: &'a str) -> Option<Self> {
        let mut parts = clustering.split('/');
        let start = seconds(parts.next()?)?;
        let id = parts.next()?;
        let end = parts.next()?;
        let start_offset = parts.next()?.parse().ok()?;
        let end_offset = parts.next()?.parse().ok()?;
        let time =
            |unix_seconds, utc_offset_seconds| LocalTimeRecord { unix_seconds, utc_offset_seconds };
        let ends_at = match end {
            "-" => None,
            end => Some(time(seconds(end)?, end_offset)),
        };
        Some(Self { id, starts_at: time(start, start_offset), ends_at })
    }
}

fn instant(unix_seconds: i64) -> String {
    match LocalTime::from_parts(unix_seconds, 0) {
        Some(time) => String::from_utf8_lossy(&time.to_text()[..19]).into_owned() + "Z",
        None => Timestamp::from_second(unix_seconds).unwrap_or_default().to_string(),
    }
}

/// Seconds since the epoch of `YYYY-MM-DDTHH:MM:SSZ`, by Howard Hinnant's days_from_civil
/// (public domain). A parser for every form would cost most of loading a partition.
fn seconds(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() != 20 || bytes[19] != b'Z' {
        return text.parse::<Timestamp>().ok().map(Timestamp::as_second);
    }
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        bytes[range].iter().try_fold(0, |sum, digit| {
            digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0'))
        })
    };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year - era * 400;
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back_and_sort_by_start() {
        let mut last = String::new();
        for unix_seconds in
            [-62_135_596_800, -1, 0, 951_782_400, 1_625_079_600, 4_107_542_400, 253_402_207_199]
        {
            for ends_at in [
                None,
                Some(LocalTimeRecord {
                    unix_seconds: unix_seconds.min(253_402_207_000) + 60,
                    utc_offset_seconds: -3_600,
                }),
            ] {
                let starts_at = LocalTimeRecord { unix_seconds, utc_offset_seconds: 7_200 };
                let key = StartKey { id: "0a", starts_at, ends_at };
                let text = key.clustering();
                assert_eq!(StartKey::parse(&text), Some(key), "{text}");
            }
            let starts_at = LocalTimeRecord { unix_seconds, utc_offset_seconds: 0 };
            let text = StartKey { id: "0a", starts_at, ends_at: None }.clustering();
            assert!(text > last, "{text} after {last}");
            assert!(text.starts_with(&StartKey::day_of(unix_seconds)), "{text}");
            last = text;
        }
        assert_eq!(StartKey::parse("nonsense"), None);
    }
}

//! The parameters of `/search`.

use super::partition::{Bound, Bounds};
use jiff::civil::DateTime;

/// Reads the query string, or says what is wrong with it.
pub(super) fn parse(query: &str) -> Result<Bounds, String> {
    let mut bounds = Bounds::default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let (slot, round_up) = match name.as_ref() {
            "starts_at" => (&mut bounds.after, false),
            "ends_at" => (&mut bounds.before, true),
            other => {
                let other: String = other.chars().take(64).collect();
                return Err(format!(
                    "unknown parameter {other:?}; known are starts_at and ends_at"
                ));
            }
        };
        if slot.is_some() {
            return Err(format!("{name} is given more than once"));
        }
        *slot = Some(bound(&value, round_up).ok_or_else(|| {
            let value: String = value.chars().take(64).collect();
            format!("{name} {value:?} is not a date-time such as 2021-06-30T21:00:00Z")
        })?);
    }
    Ok(bounds)
}

/// Rows have whole seconds. Strictly after half past is after the second, strictly before it is
/// before the next one.
fn bound(text: &str, round_up: bool) -> Option<Bound> {
    // Date, T, and a time of day with seconds: less than that is no RFC 3339 date-time.
    let is_date_time = text.len() >= 19
        && text.is_ascii()
        && text.as_bytes()[0].is_ascii_digit()
        && matches!(text.as_bytes()[10], b'T' | b't');
    if !is_date_time {
        return None;
    }
    // The offset begins after the seconds and their fraction, if there is one.
    let zone_at = text[19..].find(['Z', 'z', '+', '-', ' ']).map(|at| 19 + at);
    let (clock, offset) = match zone_at {
        Some(at) => (&text[..at], Some(offset_seconds(&text[at..])?)),
        None => (text, None),
    };
    let fraction = &clock[19..];
    let is_fraction = fraction.strip_prefix('.').is_none_or(|digits| {
        (1..=9).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
    });
    if !is_fraction || !(fraction.is_empty() || fraction.starts_with('.')) {
        return None;
    }
    let clock: DateTime = clock.parse().ok()?;
    // Not by way of an instant type: that of the library ends a day before the year 9999 does.
    let since = clock.duration_since(jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0));
    // Before 1970 the fraction counts down from the second above.
    let floor = since.as_secs() - i64::from(since.subsec_nanos() < 0);
    let seconds = if round_up && since.subsec_nanos() != 0 { floor + 1 } else { floor };
    Some(Bound { seconds: seconds - offset.unwrap_or(0), wall: offset.is_none() })
}

/// `Z` or `+hh:mm`. A plus that was not escaped arrives as a space.
fn offset_seconds(text: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let digits = text.get(range)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let sign = match text.as_bytes() {
        b"Z" | b"z" => return Some(0),
        [b'+' | b' ', _, _, b':', _, _] => 1,
        [b'-', _, _, b':', _, _] => -1,
        _ => return None,
    };
    let (hours, minutes) = (number(1..3)?, number(4..6)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_query_is_bounds_or_a_message() {
        let query = "starts_at=2021-06-30T21:00:00.5%2B02:00&ends_at=9999-12-31T23:59:60Z";
        almanac_fuzzing::fuzz("search-bounds", [query], |bytes: &[u8]| {
            if let Err(message) = parse(&String::from_utf8_lossy(bytes)) {
                assert!(message.len() < 1_000, "{message}");
            }
        });
    }

    #[test]
    fn date_times_are_instants_or_walls() {
        let read = |text| bound(text, false).map(|bound| (bound.seconds, bound.wall));
        assert_eq!(read("1970-01-01T00:01:00Z"), Some((60, false)));
        assert_eq!(read("1970-01-01T00:01:00"), Some((60, true)));
        assert_eq!(read("1970-01-01T02:01:00+02:00"), Some((60, false)));
        assert_eq!(read("1970-01-01T02:01:00 02:00"), Some((60, false)), "an unescaped plus");
        assert_eq!(read("1970-01-01t00:01:00.5z"), Some((60, false)));
        assert_eq!(read("9999-12-31T23:59:59Z"), Some((253_402_300_799, false)));
        for bad in [
            "",
            "yesterday",
            "2021-06-30",
            "2021-06-30T21",
            "2021-06-30 21:00:00",
            "2021-09-31T00:00:00Z",
            "10000-01-01T00:00:00Z",
            "-2021-06-30T21:00:00Z",
            "2021-06-30T21:00:00+99:00",
            "2021-06-30T21:00:00[Europe/Madrid]",
            "２021-06-30T21:00:00Z",
        ] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn fractions_keep_the_bounds_strict() {
        assert_eq!(bound("1970-01-01T00:00:10.5Z", false).map(|b| b.seconds), Some(10));
        assert_eq!(bound("1970-01-01T00:00:10.5Z", true).map(|b| b.seconds), Some(11));
        assert_eq!(bound("1969-12-31T23:59:58.5Z", false).map(|b| b.seconds), Some(-2));
        assert_eq!(bound("1969-12-31T23:59:58.5Z", true).map(|b| b.seconds), Some(-1));
    }

    #[test]
    fn queries_are_read_strictly() {
        assert_eq!(parse("").unwrap(), Bounds::default());
        for bad in [
            "starts_at=",
            "starts_at=x",
            "starts_at",
            "from=2021-06-30T21:00:00Z",
            "starts_at=2021-06-30T21:00:00Z&starts_at=2021-06-30T21:00:00Z",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let long = format!("starts_at={}", "9".repeat(100_000));
        assert!(parse(&long).unwrap_err().len() < 200, "what is said stays short");
    }
}

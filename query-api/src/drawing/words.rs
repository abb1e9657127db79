//! Times, durations and limits in words, the same in drawing and note.

use super::{SourceNote, Zone};
use almanac_domain::weather::{Decider, Limit, Location, LongestWindow, Variable};
use jiff::Timestamp;
use rust_decimal::Decimal;

pub(super) fn utc(instant: Timestamp) -> String {
    instant.strftime("%Y-%m-%d %H:%MZ").to_string()
}

/// In UTC, and what clocks at the place show.
pub(super) fn both(instant: Timestamp, zone: &Zone) -> String {
    let local = zone.at(instant);
    format!("{} ({} local)", utc(instant), local.strftime("%m-%d %H:%M"))
}

/// Days, hours and minutes; seconds only where they matter.
pub(super) fn duration(seconds: i64) -> String {
    let mut text = String::new();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    for (count, unit) in [(days, "d"), (hours, "h"), (minutes, "min"), (seconds % 60, "s")] {
        if count != 0 {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(&format!("{count} {unit}"));
        }
    }
    if text.is_empty() { "0 min".to_owned() } else { text }
}

pub(super) fn unit(variable: Variable) -> &'static str {
    match variable {
        Variable::WaveHeight | Variable::Visibility => "m",
        Variable::WavePeriod => "s",
        Variable::WindSpeed | Variable::WindGust | Variable::CurrentSpeed => "m/s",
    }
}

pub(super) fn limit(limit: &Limit) -> String {
    let unit = unit(limit.variable);
    let bounds = [("at least", limit.min), ("at most", limit.max)];
    let bounds = bounds.into_iter().filter_map(|(word, bound)| {
        bound.map(|bound| format!("{word} {} {unit}", bound.normalize()))
    });
    format!("{} {}", limit.variable.meaning(), bounds.collect::<Vec<_>>().join(" and "))
}

pub(super) fn ended_by(longest: &LongestWindow) -> String {
    match longest.ended_by {
        None => "the end of the forecast".to_owned(),
        Some(Decider::Gap) => "a gap in the forecast".to_owned(),
        Some(Decider::Out(variable)) => variable.meaning().to_owned(),
        Some(Decider::Missing(variable)) => format!("a missing {}", variable.meaning()),
    }
}

pub(super) fn place(location: &Location) -> String {
    position(location.lat, location.lon)
}

fn position(lat: Decimal, lon: Decimal) -> String {
    let half = |value: Decimal, positive, negative| {
        let side = if value.is_sign_negative() && !value.is_zero() { negative } else { positive };
        format!("{}° {side}", value.abs().normalize())
    };
    format!("{}, {}", half(lat, 'N', 'S'), half(lon, 'E', 'W'))
}

/// A forecast in a line: who, when, how old, for where.
pub(super) fn source(source: &SourceNote) -> String {
    let mut text = format!("forecast {}", source.name);
    match source.issued_at {
        Some(issued) => text.push_str(&format!(", issued {}", utc(issued))),
        None => text.push_str(", no time of issue told"),
    }
    if let Some(fetched) = source.fetched_at {
        text.push_str(&format!(", fetched {}", utc(fetched)));
    }
    if let Some(age) = source.age_s {
        let age = if age < 60 { "less than 1 min".to_owned() } else { duration(age / 60 * 60) };
        text.push_str(&format!(", {age} old at the analysis"));
    }
    if let Some((lat, lon)) = source.position {
        text.push_str(&format!(", for {}", position(lat, lon)));
    }
    if let Some(metres) = source.distance_m {
        text.push_str(&format!(" ({:.1} km away)", f64::from(metres) / 1_000.0));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_places_read_well() {
        assert_eq!(duration(0), "0 min");
        assert_eq!(duration(5_400), "1 h 30 min");
        assert_eq!(duration(90_061), "1 d 1 h 1 min 1 s");
        let place_of = |lat: &str, lon: &str| {
            place(&Location { lat: lat.parse().unwrap(), lon: lon.parse().unwrap() })
        };
        assert_eq!(place_of("61.50", "4.8"), "61.5° N, 4.8° E");
        assert_eq!(place_of("-0.0", "-70"), "0° N, 70° W");
    }
}

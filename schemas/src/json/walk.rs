//! Walking a JSON text, naming everything that does not fit instead of stopping at the first.
//! Numbers stay text until they are decimals: nothing passes through binary floating point.

use super::number::Number;
use almanac_domain::Fault;
use almanac_errors::Cause;
use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt};
use uuid::Uuid;

/// Refused before any rule is looked at.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NotJson {
    #[error("the body is no JSON")]
    Syntax(#[source] Cause),
    #[error("the body is nested deeper than {limit} levels")]
    TooDeep { limit: usize },
}

pub(super) const MAX_DEPTH: usize = 16;

/// Whether a text is JSON and not nested too deep. Strings are decoded later; here one level is
/// counted per bracket outside of strings.
pub(super) fn parse(body: &[u8]) -> Result<&RawValue, NotJson> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(NotJson::TooDeep { limit: MAX_DEPTH });
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    serde_json::from_slice(body).map_err(|error| NotJson::Syntax(error.into()))
}

/// The properties of an object. They are few: looking through all beats a map. Of a name that is
/// there twice the last counts.
pub(super) struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Object<'a> {
    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(known, _)| known == name).map(|(_, raw)| *raw)
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Properties;

        impl<'de> de::Visitor<'de> for Properties {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut properties = Vec::with_capacity(4);
                while let Some((Name(name), raw)) = map.next_entry()? {
                    properties.push((name, raw));
                }
                Ok(Object(properties))
            }
        }

        deserializer.deserialize_map(Properties)
    }
}

/// Borrowed where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// A step from the outside in. It becomes text when there is a fault to tell of.
pub(super) enum Part {
    Name(&'static str),
    Unknown(String),
    Index(usize),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Unknown(name) => f.write_str(name),
            Self::Index(index) => write!(f, "{index}"),
        }
    }
}

#[derive(Default)]
pub(super) struct Walk {
    pub(super) faults: Vec<Fault>,
    place: Vec<Part>,
}

impl Walk {
    pub(super) fn fault(&mut self, rule: impl Into<String>) {
        let place = self.place.iter().map(Part::to_string).collect();
        self.faults.push(Fault { place, rule: rule.into() });
    }

    /// Does something one level further in.
    pub(super) fn at<T>(&mut self, part: Part, inner: impl FnOnce(&mut Self) -> T) -> T {
        self.place.push(part);
        let done = inner(self);
        self.place.pop();
        done
    }

    /// Reads as `T`, or says that it must be `what`.
    fn read<'a, T: serde::Deserialize<'a>>(&mut self, raw: &'a RawValue, what: &str) -> Option<T> {
        let read = serde_json::from_str(raw.get());
        if read.is_err() {
            self.fault(format!("it must be {what}"));
        }
        read.ok()
    }

    /// An object with no other properties than these.
    pub(super) fn object<'a>(&mut self, raw: &'a RawValue, known: &[&str]) -> Option<Object<'a>> {
        let object: Object<'a> = self.read(raw, "an object")?;
        let unknown = object.0.iter().map(|(name, _)| name.as_ref());
        for name in unknown.filter(|name| !known.contains(name)).take(20) {
            let shown = Part::Unknown(name.chars().take(64).collect());
            self.at(shown, |walk| walk.fault("unknown property"));
        }
        Some(object)
    }

    /// A property that is there and not null.
    pub(super) fn property<'a, T>(
        &mut self,
        object: &Object<'a>,
        name: &'static str,
        read: impl FnOnce(&mut Self, &'a RawValue) -> Option<T>,
    ) -> Option<T> {
        let raw = object.get(name).filter(|raw| raw.get() != "null")?;
        self.at(Part::Name(name), |walk| read(walk, raw))
    }

    pub(super) fn text(&mut self, raw: &RawValue) -> Option<String> {
        self.read(raw, "a string of Unicode characters")
    }

    pub(super) fn whole(&mut self, raw: &RawValue) -> Option<i64> {
        let whole = Number::parse(raw.get()).and_then(|number| number.whole());
        if whole.is_none() {
            self.fault("it must be a whole number");
        }
        whole
    }

    pub(super) fn decimal(&mut self, raw: &RawValue) -> Option<Decimal> {
        let exact = decimal(raw.get());
        if exact.is_none() {
            self.fault("it must be a decimal number of at most 28 digits");
        }
        exact
    }

    pub(super) fn uuid(&mut self, raw: &RawValue) -> Option<Uuid> {
        self.read(raw, "a UUID")
    }

    /// A time with an offset.
    pub(super) fn instant(&mut self, raw: &RawValue) -> Option<Timestamp> {
        let instant = self.text(raw)?.parse().ok();
        if instant.is_none() {
            self.fault(
                "it must be a time of RFC 3339 with an offset, such as 2026-03-10T06:00:00Z",
            );
        }
        instant
    }

    /// Takes a fault over whose place begins here.
    pub(super) fn fault_below(&mut self, fault: Fault) {
        let mut place: Vec<String> = self.place.iter().map(Part::to_string).collect();
        place.extend(fault.place);
        self.faults.push(Fault { place, rule: fault.rule });
    }

    /// Seconds of an ISO 8601 duration without years and months.
    pub(super) fn seconds(&mut self, raw: &RawValue) -> Option<i64> {
        let text = self.text(raw)?;
        let span: Option<jiff::Span> = text.parse().ok();
        let has_calendar = |span: &jiff::Span| span.get_years() != 0 || span.get_months() != 0;
        let seconds = span.filter(|span| !has_calendar(span)).and_then(|span| {
            let relative = jiff::SpanRelativeTo::days_are_24_hours();
            let total = span.total((jiff::Unit::Second, relative)).ok()?;
            (total.fract() == 0.0 && total.abs() < 1e15).then_some(total as i64)
        });
        if seconds.is_none() {
            self.fault("it must be an ISO 8601 duration in whole seconds, such as PT1H30M");
        }
        seconds
    }

    pub(super) fn list<'a, T>(
        &mut self,
        raw: &'a RawValue,
        mut read: impl FnMut(&mut Self, &'a RawValue) -> Option<T>,
    ) -> Option<Vec<T>> {
        let items: Vec<&'a RawValue> = self.read(raw, "an array")?;
        let mut found = Vec::with_capacity(items.len());
        for (place, item) in items.into_iter().enumerate() {
            found.extend(self.at(Part::Index(place), |walk| read(walk, item)));
        }
        Some(found)
    }
}

/// The number as written, or `None` where it is none or has more digits than a decimal keeps.
pub(super) fn decimal(text: &str) -> Option<Decimal> {
    let is_number = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    let exact = is_number.then(|| match text.contains(['e', 'E']) {
        true => Decimal::from_scientific(text).ok(),
        false => Decimal::from_str_exact(text).ok(),
    });
    // Zeros behind the last digit that counts are no more digits.
    exact.flatten().or_else(|| Number::parse(text)?.decimal())
}

/// Whether one fault is at the place of the other, or around it.
pub(super) fn covers(fault: &Fault, rule: &Fault) -> bool {
    fault.place.starts_with(&rule.place) || rule.place.starts_with(&fault.place)
}

/// What was read and checked, unless something could not be read or breaks a rule. What could not be
/// read is not also missing.
pub(super) fn merged<T>(
    mut faults: Vec<Fault>,
    checked: Result<T, Vec<Fault>>,
) -> Result<T, Vec<Fault>> {
    match checked {
        Ok(checked) if faults.is_empty() => return Ok(checked),
        Ok(_) => {}
        Err(rules) => {
            let is_new = |rule: &Fault| !faults.iter().any(|fault| covers(fault, rule));
            let rules: Vec<Fault> = rules.into_iter().filter(is_new).collect();
            faults.extend(rules);
        }
    }
    faults.sort();
    // An unknown property may be there twice.
    faults.dedup();
    Err(faults)
}

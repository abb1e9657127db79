//! What is wrong with a draft: every fault at once, each with its place.

/// A rule that a part of a draft breaks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Names and places from the outside in, such as `ingredients`, `0`, `quantity`, `unit`.
    pub place: Vec<String>,
    pub rule: String,
}

#[derive(Default)]
pub(crate) struct Check {
    pub(crate) faults: Vec<Fault>,
}

impl Check {
    pub(crate) fn fault(&mut self, place: &[&str], rule: impl Into<String>) {
        let place = place.iter().map(|part| (*part).to_owned()).collect();
        self.faults.push(Fault { place, rule: rule.into() });
    }

    /// Text that must be there. What is returned for a fault is never used.
    pub(crate) fn required(
        &mut self,
        place: &[&str],
        text: Option<String>,
        limit: usize,
    ) -> String {
        let text = text.unwrap_or_default();
        if text.trim().is_empty() {
            self.fault(place, "it is required and must not be blank");
        }
        self.text(place, &text, limit);
        text
    }

    pub(crate) fn optional(
        &mut self,
        place: &[&str],
        text: Option<String>,
        limit: usize,
    ) -> Option<String> {
        self.text(place, text.as_deref()?, limit);
        text
    }

    pub(crate) fn text(&mut self, place: &[&str], text: &str, limit: usize) {
        let characters = text.chars().count();
        if characters > limit {
            self.fault(place, format!("it has {characters} characters, more than {limit}"));
        }
        let is_forbidden =
            |character: char| character.is_control() && !matches!(character, '\n' | '\r' | '\t');
        if text.chars().any(is_forbidden) {
            self.fault(place, "it holds control characters other than line breaks and tabs");
        }
    }

    pub(crate) fn number(
        &mut self,
        place: &[&str],
        value: Option<i64>,
        low: i64,
        high: i64,
    ) -> Option<u32> {
        let value = value?;
        if !(low..=high).contains(&value) {
            self.fault(place, format!("it must be a whole number from {low} to {high}"));
        }
        u32::try_from(value).ok()
    }

    pub(crate) fn count(&mut self, name: &str, count: usize, low: usize, high: usize) {
        if count < low {
            self.fault(&[name], "at least one is required");
        } else if count > high {
            self.fault(&[name], format!("there are {count}, more than {high}"));
        }
    }
}

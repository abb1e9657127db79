//! Calendars (iCalendar, RFC 5545): what others' calendars show of ours.

use icalendar::{Calendar, Component, Event, EventLike, EventStatus};
use jiff::Timestamp;

pub(crate) const CONTENT_TYPE: &str = "text/calendar; charset=utf-8";

/// Something that takes place.
pub(crate) struct Entry<'a> {
    /// Never changes, and names nothing else anywhere.
    pub(crate) uid: String,
    pub(crate) summary: String,
    pub(crate) description: String,
    pub(crate) location: Option<String>,
    /// Degrees north and east.
    pub(crate) place: Option<(String, String)>,
    pub(crate) category: &'a str,
    /// Where more is told of it.
    pub(crate) url: Option<String>,
    pub(crate) starts: Timestamp,
    /// Without one it ends when it starts, as the format has it.
    pub(crate) ends: Option<Timestamp>,
    pub(crate) is_certain: bool,
    /// When it was first known, and when it last changed. The same entry counts as revised with each
    /// change.
    pub(crate) created: Timestamp,
    pub(crate) changed: Timestamp,
}

/// An instant in UTC.
fn instant(at: Timestamp) -> String {
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// What calendars cannot hold: characters that end a line or are none.
fn clean(text: &str) -> String {
    let kept = text.replace("\r\n", "\n");
    kept.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}

pub(crate) fn render<'a>(
    name: &str,
    about: Option<&str>,
    entries: impl IntoIterator<Item = Entry<'a>>,
) -> String {
    let mut calendar = Calendar::new();
    calendar.name(&clean(name));
    if let Some(about) = about {
        calendar.description(&clean(about));
    }
    for entry in entries {
        let revision = entry.changed.as_second().saturating_sub(entry.created.as_second());
        let mut event = Event::new();
        event
            .uid(&entry.uid)
            .sequence(u32::try_from(revision).unwrap_or_default())
            .summary(&clean(&entry.summary))
            .description(&clean(&entry.description))
            .categories([entry.category])
            .status(if entry.is_certain { EventStatus::Confirmed } else { EventStatus::Tentative })
            .add_property("DTSTAMP", instant(entry.changed))
            .add_property("LAST-MODIFIED", instant(entry.changed))
            .add_property("CREATED", instant(entry.created))
            .add_property("DTSTART", instant(entry.starts));
        if let Some(ends) = entry.ends {
            event.add_property("DTEND", instant(ends));
        }
        if let Some(location) = &entry.location {
            event.location(&clean(location));
        }
        if let Some(url) = &entry.url {
            event.url(&clean(url));
        }
        if let Some((north, east)) = entry.place {
            event.add_property("GEO", format!("{north};{east}"));
        }
        calendar.push(event.done());
    }
    calendar.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(summary: &str) -> Entry<'static> {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        Entry {
            uid: "a@almanac".to_owned(),
            summary: summary.to_owned(),
            description: "one\r\ntwo".to_owned(),
            location: Some("61.5, 4.8".to_owned()),
            place: Some(("61.5".to_owned(), "4.8".to_owned())),
            category: "planned",
            url: Some("https://a.example/?a=1;b=2,3".to_owned()),
            starts: at("2026-01-01T06:00:00.9Z"),
            ends: Some(at("2026-01-01T10:00:00Z")),
            is_certain: false,
            created: at("2025-12-31T00:00:00Z"),
            changed: at("2025-12-31T00:01:00Z"),
        }
    }

    #[test]
    fn instants_are_in_utc_and_lines_end_nowhere_else() {
        let text =
            render("S", Some("All; of it"), [entry("Lift, tow; \\ wait\r\nEND:VCALENDAR\u{7}")]);
        for line in [
            "DTSTART:20260101T060000Z",
            "DTEND:20260101T100000Z",
            "DTSTAMP:20251231T000100Z",
            "SEQUENCE:60",
            "STATUS:TENTATIVE",
            "GEO:61.5;4.8",
            "URL:https://a.example/?a=1;b=2,3",
            "X-WR-CALDESC:All\\; of it",
            "UID:a@almanac",
            "SUMMARY:Lift\\, tow\\; \\\\ wait\\nEND:VCALENDAR ",
            "DESCRIPTION:one\\ntwo",
        ] {
            assert!(text.split("\r\n").any(|one| one == line), "{line} in {text}");
        }
        assert_eq!(text.matches("\r\nEND:VCALENDAR").count(), 1);
        assert!(!text.replace("\r\n", "").contains(['\r', '\n']));
    }
}

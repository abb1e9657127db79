//! Answers as text for people, or as the server's JSON.

mod plan;
mod recipe;
mod schedule;

use crate::say::{self, say};
use serde_json::Value;

pub(super) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

pub(super) fn items<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value[name].as_array().into_iter().flatten()
}

pub(super) fn print_json(value: &Value) -> anyhow::Result<()> {
    say!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

/// What came of a write.
pub(super) fn written(what: &str, written: &Value, json: bool) -> anyhow::Result<()> {
    if json {
        return print_json(written);
    }
    let name = written["name"].as_str().map(clean).unwrap_or_default();
    let line = format!("{what} {} at version {}  {name}", text(written, "id"), written["version"]);
    say!("{}", line.trim_end());
    Ok(())
}

pub(super) fn recipe(recipe: &Value, json: bool) -> anyhow::Result<()> {
    if json {
        return print_json(recipe);
    }
    say::text(&recipe::render(recipe));
    Ok(())
}

pub(super) fn list(page: &Value, json: bool) -> anyhow::Result<()> {
    if json {
        return print_json(page);
    }
    for item in items(page, "items") {
        say!("{}  {}", text(item, "id"), clean(text(item, "name")));
    }
    more(page);
    Ok(())
}

fn more(page: &Value) {
    if let Some(cursor) = page["next_cursor"].as_str() {
        say!("more with --cursor {cursor}");
    }
}

pub(super) fn history(events: &[Value], json: bool) -> anyhow::Result<()> {
    if json {
        return print_json(&events.into());
    }
    for event in events {
        let changed: Vec<&str> = items(event, "changed").filter_map(Value::as_str).collect();
        let (version, when, kind) =
            (&event["version"], text(event, "occurred_at"), text(event, "type"));
        say!("{version:>4}  {when}  {kind:<21} {}", changed.join(", "));
    }
    Ok(())
}

pub(super) fn plans(page: &Value, json: bool) -> anyhow::Result<()> {
    if json {
        return print_json(page);
    }
    items(page, "items").for_each(|item| say!("{}", plan::of_list(item)));
    more(page);
    Ok(())
}

/// What a search found.
pub(super) fn found(answer: &Value, json: bool) -> anyhow::Result<()> {
    if json {
        return print_json(answer);
    }
    items(&answer["data"], "events").for_each(|item| say!("{}", plan::of_search(item)));
    Ok(())
}

/// An event of a topic: as served, or as a line for people.
pub(super) fn event(event: &Value, is_raw: bool) -> String {
    if is_raw { event.to_string() } else { plan::event(event) }
}

pub(super) fn schedule(schedule: &Value, json: bool) -> anyhow::Result<()> {
    if json {
        return print_json(schedule);
    }
    say::text(&schedule::render(schedule));
    Ok(())
}

pub(super) fn subscriptions(subscriptions: &[Value], json: bool) -> anyhow::Result<()> {
    let properties = ["id", "url", "types", "subject", "disabled"];
    lines(subscriptions, &properties, json)
}

pub(super) fn deliveries(deliveries: &[Value], json: bool) -> anyhow::Result<()> {
    let properties = [
        "id",
        "due_at",
        "type",
        "subject",
        "state",
        "attempts",
        "status",
        "detail",
        "next_attempt_at",
    ];
    lines(deliveries, &properties, json)
}

pub(super) fn resent(subscription: &str, due: &Value, json: bool) -> anyhow::Result<()> {
    if json {
        return print_json(due);
    }
    let (id, event) = (text(due, "id"), text(due, "event_id"));
    say!("{event} is sent again as delivery {id}");
    say!("`almanac subscriptions deliveries {subscription}` shows what comes of it");
    Ok(())
}

/// An item a line.
fn lines(all: &[Value], properties: &[&str], json: bool) -> anyhow::Result<()> {
    if json {
        return print_json(&all.into());
    }
    for item in all {
        say!("{}", line(item, properties));
    }
    Ok(())
}

/// The properties that an item has of these, in this order.
fn line(item: &Value, properties: &[&str]) -> String {
    let words = properties.iter().filter_map(|name| {
        let word = word(&item[name])?;
        // A number says nothing by itself, nor does the reason for what it does not name.
        let is_plain = item[name].is_string() || item[name].is_array();
        Some(if is_plain { word } else { format!("{name} {word}") })
    });
    words.collect::<Vec<_>>().join("  ")
}

fn word(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(clean(text)),
        Value::Array(all) => Some(all.iter().filter_map(word).collect::<Vec<_>>().join(",")),
        Value::Object(parts) => Some(parts.values().filter_map(word).collect::<Vec<_>>().join(" ")),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
    }
}

/// Text that others wrote must not steer a terminal.
pub(super) fn clean(text: &str) -> String {
    let is_safe = |one: char| {
        !one.is_control() && !matches!(one, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|one| if is_safe(one) { one } else { '\u{fffd}' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_item_is_a_line_of_what_it_has() {
        let delivery = json!({
            "id": "d", "type": "task.started", "subject": "s\u{1b}[31m", "state": "retrying",
            "attempts": 2, "status": 503, "detail": null,
        });
        let properties = ["id", "type", "subject", "state", "attempts", "status", "detail"];
        assert_eq!(
            line(&delivery, &properties),
            "d  task.started  s\u{fffd}[31m  retrying  attempts 2  status 503"
        );
        let subscription = json!({
            "id": "s", "types": ["a.b", "c.d"],
            "disabled": { "at": "2026-01-01T00:00:00Z", "reason": "410 Gone" },
        });
        assert_eq!(
            line(&subscription, &["id", "types", "disabled"]),
            "s  a.b,c.d  disabled 2026-01-01T00:00:00Z 410 Gone"
        );
    }
}

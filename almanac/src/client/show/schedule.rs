//! A schedule as text.

use super::{clean, items, text};
use serde_json::Value;
use std::fmt::Write;

pub(super) fn render(schedule: &Value) -> String {
    let mut out = String::new();
    let location = &schedule["location"];
    let _ = writeln!(out, "{}", clean(text(schedule, "name")));
    let _ = write!(out, "latitude {}, longitude {}", location["lat"], location["lon"]);
    if let Some(every) = schedule["repeat_every"].as_str() {
        let _ = write!(out, " · analysed again every {}", clean(every));
    }
    out.push_str("\n\n");
    for task in items(schedule, "tasks") {
        let state = match (text(task, "state"), &task["started_at"], &task["completed_at"]) {
            ("started", Value::String(at), _) => format!("started {}", clean(at)),
            ("completed", _, Value::String(at)) => format!("completed {}", clean(at)),
            (state, ..) => clean(state),
        };
        let (id, duration) = (clean(text(task, "id")), clean(text(task, "duration")));
        let _ = writeln!(out, "  {id}  {}  {duration}  {state}", clean(text(task, "name")));
        let before: Vec<String> =
            items(task, "predecessors").filter_map(Value::as_str).map(clean).collect();
        if !before.is_empty() {
            let _ = writeln!(out, "      after {}", before.join(", "));
        }
        for limit in items(task, "limits") {
            let bound = |name: &str, sign: &str| match &limit[name] {
                Value::Number(bound) => format!(" {sign} {bound}"),
                _ => String::new(),
            };
            let (min, max) = (bound("min", "at least"), bound("max", "at most"));
            let _ = writeln!(out, "      {}{min}{max}", clean(text(limit, "variable")));
        }
    }
    let _ = writeln!(out, "\n{} version {}", clean(text(schedule, "id")), schedule["version"]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn schedules_are_text() {
        let schedule = json!({
            "id": "1", "version": 3, "name": "Install\u{1b}[31m", "repeat_every": "PT1H",
            "location": {"lat": 61.5, "lon": 4.8},
            "tasks": [
                {"id": "sail", "name": "Sail", "duration": "PT4H", "predecessors": [], "state": "started",
                 "started_at": "2026-01-01T00:00:00Z", "completed_at": null, "limits": []},
                {"id": "lift", "name": "Lift", "duration": "PT5H", "predecessors": ["sail"],
                 "state": "planned", "limits": [{"variable": "wave_height_m", "min": null, "max": 1.5}]},
            ],
        });
        assert_eq!(
            render(&schedule),
            "Install\u{fffd}[31m\nlatitude 61.5, longitude 4.8 · analysed again every PT1H\n\n  \
             sail  Sail  PT4H  started 2026-01-01T00:00:00Z\n  lift  Lift  PT5H  planned\n      \
             after sail\n      wave_height_m at most 1.5\n\n1 version 3\n"
        );
    }
}

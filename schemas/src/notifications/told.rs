//! What is told of an event, to subscriptions and on streams alike.

use super::DERIVED;
use crate::{analyses, json::cloud_event, schedules};
use jiff::Timestamp;
use serde_json::{Value, json};

/// An event as CloudEvents attributes, before its data is read.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    /// Topic without the installation's prefix.
    pub topic: &'a str,
    pub id: &'a str,
    pub event_type: &'a str,
    pub time: Timestamp,
}

/// What is told of an event.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub event_id: String,
    pub event_type: String,
    /// Its own, and what else it can be selected by.
    pub subjects: Vec<String>,
    /// Nobody else may see it; `None`: everybody may.
    pub owner: Option<String>,
    pub body: Value,
}

/// A larger event is told without its data: where it is found is told anyway.
const MAX_BODY: usize = 256 << 10;

const COMPLETED: &str = "analysis.completed";

impl<'a> Attributes<'a> {
    /// The attributes that stand in the headers of a record, which was written at this time.
    pub fn read(
        topic: &'a str,
        header: impl Fn(&str) -> Option<&'a str>,
        written_ms: i64,
    ) -> Option<Self> {
        let time = header("ce_time").and_then(|time| time.parse().ok());
        let time = time.or(Timestamp::from_millisecond(written_ms).ok())?;
        Some(Self { topic, id: header("ce_id")?, event_type: header("ce_type")?, time })
    }
}

impl Told {
    pub fn subject(&self) -> Option<&str> {
        self.subjects.first().map(String::as_str)
    }

    pub fn text(&self) -> String {
        let text = self.body.to_string();
        if text.len() <= MAX_BODY {
            return text;
        }
        let mut body = self.body.clone();
        body["dataref"] = body["source"].take();
        body["source"] = body["dataref"].clone();
        if let Some(body) = body.as_object_mut() {
            body.remove("data");
        }
        body.to_string()
    }
}

/// Which notifications somebody wants.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// CloudEvents types.
    pub types: &'a [String],
    pub subject: Option<&'a str>,
}

impl Wanted<'_> {
    /// Whether any notification of such an event may be wanted, so that it is worth reading.
    pub fn may_select(&self, event: &Attributes<'_>) -> bool {
        self.has(event.event_type)
            || (event.event_type == COMPLETED && DERIVED.iter().any(|kind| self.has(kind)))
    }

    pub fn selects(&self, told: &Told) -> bool {
        self.has(&told.event_type)
            && self.subject.is_none_or(|subject| told.subjects.iter().any(|one| one == subject))
    }

    fn has(&self, event_type: &str) -> bool {
        self.types.iter().any(|one| one == event_type)
    }
}

/// What is told of an event: itself, and what an analysis changed for a schedule.
pub fn told(
    event: &Attributes<'_>,
    header: impl Fn(&str) -> Option<String>,
    data: Value,
) -> Vec<Told> {
    let text = |name: &str| data[name].as_str().map(str::to_owned);
    let is_owners = [schedules::TOPIC, analyses::TOPIC].contains(&event.topic);
    // Of an owner's event without an owner nothing is told: nobody is called this.
    let owner = is_owners.then(|| text("owner").unwrap_or_default());
    let schedule = text("schedule_id").filter(|_| event.topic == analyses::TOPIC);
    let mut subjects: Vec<String> = header("ce_subject").into_iter().collect();
    subjects.extend(schedule.clone());
    let changes = data["changes"].as_array().cloned().unwrap_or_default();
    let source = header("ce_source").unwrap_or_default();
    let time = header("ce_time");
    let analysis = text("id");
    let body = cloud_event(&header, data);
    let mut all = vec![Told {
        event_id: event.id.to_owned(),
        event_type: event.event_type.to_owned(),
        subjects,
        owner: owner.clone(),
        body,
    }];
    let Some(schedule) = schedule.filter(|_| event.event_type == COMPLETED) else { return all };
    for change in changes {
        let (Some(kind), Some(task)) = (change["kind"].as_str(), change["task"].as_str()) else {
            continue;
        };
        let id = format!("{}/{kind}/{task}", event.id);
        let body = json!({
            "specversion": "1.0",
            "id": id,
            "source": source,
            "type": kind,
            "subject": schedule,
            "time": time,
            "datacontenttype": "application/json",
            "data": {
                "schedule_id": schedule, "analysis_id": analysis, "task": task,
                "reason": change["reason"],
            },
        });
        all.push(Told {
            event_id: id,
            event_type: kind.to_owned(),
            subjects: vec![schedule.clone()],
            owner: owner.clone(),
            body,
        });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event<'a>(topic: &'a str, event_type: &'a str) -> Attributes<'a> {
        let header = move |name: &str| match name {
            "ce_id" => Some("a.2"),
            "ce_type" => Some(event_type),
            "ce_time" => Some("2026-01-01T01:00:00Z"),
            _ => None,
        };
        Attributes::read(topic, header, 0).unwrap()
    }

    fn told_of(topic: &str, event_type: &str, data: Value) -> Vec<Told> {
        let header = |name: &str| match name {
            "ce_id" => Some("a.2".to_owned()),
            "ce_subject" => Some("a".to_owned()),
            "ce_source" => Some("/v1/analyses/a".to_owned()),
            "ce_type" => Some(event_type.to_owned()),
            "ce_time" => Some("2026-01-01T01:00:00Z".to_owned()),
            _ => None,
        };
        told(&event(topic, event_type), header, data)
    }

    #[test]
    fn events_are_selected_by_type_and_subject() {
        let revised = event("recipes.events", "recipe.revised");
        let types = |types: &[&str]| types.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        let (one, other) = (types(&["recipe.revised"]), types(&["recipe.created", "window.lost"]));
        let told = told_of("recipes.events", "recipe.revised", json!({"owner": "tom"}));
        assert_eq!((told.len(), &told[0].owner), (1, &None), "recipes are public");
        for (types, subject, is_wanted) in [
            (&one, None, true),
            (&one, Some("a"), true),
            (&one, Some("b"), false),
            (&other, None, false),
        ] {
            assert_eq!(Wanted { types, subject }.selects(&told[0]), is_wanted, "{subject:?}");
        }
        assert!(Wanted { types: &one, subject: None }.may_select(&revised));
        assert!(!Wanted { types: &other, subject: None }.may_select(&revised));
    }

    #[test]
    fn schedules_and_analyses_are_their_owners() {
        for (topic, owner, expected) in [
            ("schedules.events", json!("mary"), "mary"),
            ("analyses.events", json!("tom"), "tom"),
            ("schedules.events", Value::Null, ""),
        ] {
            let told = told_of(topic, "task.started", json!({"owner": owner}));
            assert_eq!(told[0].owner.as_deref(), Some(expected));
        }
    }

    #[test]
    fn what_an_analysis_changes_is_told_by_task() {
        let completed = event("analyses.events", COMPLETED);
        let lost = ["window.lost".to_owned()];
        assert!(Wanted { types: &lost, subject: None }.may_select(&completed));
        let data = json!({
            "id": "a", "owner": "mary", "schedule_id": "s",
            "changes": [
                {"kind": "window.lost", "task": "lift", "reason": "planned_start"},
                {"kind": "task.at_risk", "task": "tow", "reason": null},
            ],
        });
        let told = told_of("analyses.events", COMPLETED, data.clone());
        let ids: Vec<&str> = told.iter().map(|told| told.event_id.as_str()).collect();
        assert_eq!(ids, ["a.2", "a.2/window.lost/lift", "a.2/task.at_risk/tow"]);
        assert_eq!(told[1].body["data"]["reason"], "planned_start");
        assert_eq!((told[1].subject(), told[1].body["subject"].as_str()), (Some("s"), Some("s")));
        let types = ["window.lost".to_owned(), COMPLETED.to_owned()];
        let wanted = Wanted { types: &types, subject: Some("s") };
        let selected: Vec<bool> = told.iter().map(|told| wanted.selects(told)).collect();
        assert_eq!(selected, [true, true, false]);
        let of_failed = told_of("analyses.events", "analysis.failed", data);
        assert_eq!(of_failed.len(), 1, "only one that is complete changes anything");
    }

    #[test]
    fn what_is_large_is_told_without_its_data() {
        let told =
            told_of("recipes.events", "recipe.created", json!({"name": "x".repeat(MAX_BODY)}));
        let body: Value = serde_json::from_str(&told[0].text()).unwrap();
        assert_eq!((body.get("data"), &body["dataref"]), (None, &json!("/v1/analyses/a")));
        assert_eq!(body["source"], "/v1/analyses/a");
    }
}

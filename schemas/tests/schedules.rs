//! Schedules as JSON: what a client got may be sent back whole.

use almanac_domain::{
    aggregate::{Caller, Expected},
    schedules::{Command, Knowledge, decide},
};
use almanac_schemas::json::weather::{
    read_moment, read_schedule, read_schedule_revision, render_known_schedule,
};
use jiff::Timestamp;
use serde_json::{Value, json};

const ID: &str = "0198c5a0-0000-7000-8000-000000000002";

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn schedule() -> Value {
    json!({
        "name": "Lift", "location": {"lat": 61.5, "lon": -4.8}, "repeat_every": "PT1H",
        "tasks": [
            {"id": "mobilise", "name": "Mobilise", "duration": "PT2H", "contingency": null,
             "predecessors": [], "limits": []},
            {"id": "lift", "name": "Lift", "duration": "PT4H", "contingency": "PT30M",
             "predecessors": ["mobilise"],
             "limits": [{"variable": "wave_height_m", "max": 2.0}]},
        ],
    })
}

/// The first task was started an hour ago.
fn known() -> Knowledge {
    let schedule = read_schedule(schedule().to_string().as_bytes()).unwrap().unwrap();
    let at = Some("2025-12-31T23:00:00Z".parse().unwrap());
    let commands = [
        Command::Create { schedule: Box::new(schedule) },
        Command::StartTask { task: "mobilise".to_owned(), at },
    ];
    let mary = Caller { subject: "mary".to_owned(), is_admin: false };
    let known = commands.into_iter().fold(None, |known: Option<Knowledge>, command| {
        let event = decide(known.as_ref(), command, &mary, &Expected::Any, now());
        Some(event.unwrap().unwrap().after)
    });
    known.unwrap()
}

fn faults(body: &Value) -> Vec<String> {
    let revision = read_schedule_revision(body.to_string().as_bytes()).unwrap().unwrap();
    let faults = revision.differences(ID, &known());
    faults.into_iter().map(|fault| format!("#/{}", fault.place.join("/"))).collect()
}

#[test]
fn its_owner_reads_it_with_the_states_of_its_tasks() {
    let rendered: Value = serde_json::from_str(&render_known_schedule(ID, &known())).unwrap();
    let mut expected = schedule();
    expected["id"] = json!(ID);
    expected["version"] = json!(2);
    for name in ["created_at", "updated_at"] {
        expected[name] = json!("2026-01-01T00:00:00.000Z");
    }
    for (number, state, started_at) in
        [(0, "started", json!("2025-12-31T23:00:00.000Z")), (1, "planned", Value::Null)]
    {
        expected["tasks"][number]["state"] = json!(state);
        expected["tasks"][number]["started_at"] = started_at;
        expected["tasks"][number]["completed_at"] = Value::Null;
    }
    assert_eq!(rendered, expected);
}

#[test]
fn what_the_server_makes_is_sent_back_as_it_is_or_not_at_all() {
    let rendered: Value = serde_json::from_str(&render_known_schedule(ID, &known())).unwrap();
    assert_eq!(faults(&rendered), [""; 0]);
    assert_eq!(faults(&schedule()), [""; 0]);
    // Tasks are known by their ids, wherever they stand; a new one is planned.
    let mut moved = rendered.clone();
    moved["tasks"].as_array_mut().unwrap().remove(1);
    let new = json!({"id": "tow", "duration": "PT1H", "state": "planned", "started_at": null});
    moved["tasks"].as_array_mut().unwrap().insert(0, new);
    moved["tasks"][1]["started_at"] = json!("2026-01-01T00:00:00+01:00");
    assert_eq!(faults(&moved), [""; 0]);
    let mut wrong = rendered;
    wrong["version"] = json!(1);
    wrong["tasks"][0]["state"] = json!("completed");
    wrong["tasks"][0]["completed_at"] = json!("2026-01-01T00:00:00Z");
    wrong["tasks"][1]["started_at"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(
        faults(&wrong),
        ["#/version", "#/tasks/0/state", "#/tasks/0/completed_at", "#/tasks/1/started_at"]
    );
    let unknown = read_schedule_revision(br#"{"name": "a", "writer": "mary"}"#).unwrap();
    assert!(unknown.unwrap_err().iter().any(|fault| fault.place == ["writer"]));
}

#[test]
fn a_moment_is_a_time_or_now() {
    for (body, at) in [
        ("", None),
        ("  \n", None),
        ("{}", None),
        (r#"{"at": null}"#, None),
        (r#"{"at": "2026-01-01T01:00:00+01:00"}"#, Some(now())),
    ] {
        assert_eq!(read_moment(body.as_bytes()).unwrap(), Ok(at), "{body}");
    }
    for (body, place) in
        [(r#"{"at": "yesterday"}"#, "at"), (r#"{"at": 3}"#, "at"), (r#"{"when": null}"#, "when")]
    {
        let faults = read_moment(body.as_bytes()).unwrap().unwrap_err();
        assert_eq!(faults[0].place, [place], "{body}");
    }
    assert!(read_moment(b"{").is_err());
}

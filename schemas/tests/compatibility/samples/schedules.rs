//! Events of schedules.

use crate::samples::now;
use almanac_domain::{
    aggregate::{Caller, Expected},
    schedules as schedule_domain,
    weather::{LimitDraft, ScheduleDraft, TaskDraft},
};
use almanac_schemas::schedules;

pub(crate) const SCHEDULE_ID: &str = "0198c5a0-0000-7000-8000-000000000002";

/// One event of each kind, of a schedule with every part that there is.
pub(crate) fn schedule_events() -> Vec<(&'static str, schedule_domain::Event)> {
    use schedule_domain::Command;
    let limit = |variable: &str, min: Option<&str>, max: Option<&str>| LimitDraft {
        variable: Some(variable.to_owned()),
        min: min.map(|text| text.parse().unwrap()),
        max: max.map(|text| text.parse().unwrap()),
    };
    let task = |id: &str, predecessors: &[&str], limits| TaskDraft {
        id: Some(id.to_owned()),
        name: Some(format!("To {id}")),
        duration_s: Some(14_400),
        contingency_s: (id == "lift").then_some(7_200),
        predecessors: predecessors.iter().map(|id| (*id).to_owned()).collect(),
        limits,
    };
    let limits =
        vec![limit("wave_height_m", None, Some("2.50")), limit("visibility_m", Some("500"), None)];
    let draft = ScheduleDraft {
        name: Some("Løft".to_owned()),
        lat: "61.50".parse().ok(),
        lon: "-4.8".parse().ok(),
        repeat_every_s: Some(3_600),
        tasks: vec![task("mobilise", &[], vec![]), task("lift", &["mobilise"], limits)],
    };
    let revised = ScheduleDraft { repeat_every_s: None, ..draft.clone() };
    let (name, at) = ("mobilise".to_owned(), Some(now()));
    let commands = [
        (schedules::CREATED, Command::Create { schedule: Box::new(draft.check().unwrap()) }),
        (schedules::REVISED, Command::Revise { schedule: Box::new(revised.check().unwrap()) }),
        (schedules::TASK_STARTED, Command::StartTask { task: name.clone(), at }),
        (schedules::TASK_COMPLETED, Command::CompleteTask { task: name, at }),
        (schedules::DELETED, Command::Delete),
    ];
    let caller = Caller { subject: "mary".to_owned(), is_admin: false };
    let mut known = None;
    let mut events = Vec::new();
    for (record, command) in commands {
        let event =
            schedule_domain::decide(known.as_ref(), command, &caller, &Expected::Any, now());
        let event = event.unwrap().unwrap();
        known = Some(event.after.clone());
        events.push((record, event));
    }
    events
}

//! What operators did.

use crate::samples::now;
use almanac_domain::{aggregate::Caller, operations as operation_domain};

/// One event of each kind.
pub(crate) fn operation_events() -> Vec<operation_domain::Event> {
    use operation_domain::{Command, Failure, PROJECTOR, Request, State, Step};
    let request = |id: &str| {
        Command::Rebuild(Request {
            id: id.to_owned(),
            projection: "plans".to_owned(),
            fold: 4,
            dry_run: false,
            automatic: true,
            events_per_s: 10_000,
            until: Some("{}".to_owned()),
        })
    };
    let of = |id: &str, step| Command::Of(id.to_owned(), step);
    let verify = Step::Verify { certificate: "{\"rows\":3}".to_owned(), differences: 0 };
    let fail = Step::Fail(Failure { category: "store".to_owned(), detail: "full".to_owned() });
    let commands = [
        (request("first"), "ann"),
        (of("first", Step::Pause), "ann"),
        (of("first", Step::Resume), "ann"),
        (of("first", Step::Advance(State::Lagging)), PROJECTOR),
        (of("first", Step::Advance(State::Verifying)), PROJECTOR),
        (of("first", verify), PROJECTOR),
        (of("first", Step::Activate), "ann"),
        (of("first", Step::Rollback), "ann"),
        (of("first", Step::Drop), "ann"),
        (request("second"), "ann"),
        (of("second", Step::Cancel), "ann"),
        (request("third"), "ann"),
        (of("third", fail), PROJECTOR),
    ];
    let (mut known, mut events) = (None, Vec::<operation_domain::Event>::new());
    for (command, subject) in commands {
        let caller = Caller { subject: subject.to_owned(), is_admin: subject == "ann" };
        let before: Option<&operation_domain::Knowledge> = known.as_ref();
        let event = operation_domain::decide(before, command, "because", &caller, now());
        let event = event.unwrap().unwrap();
        known = Some(event.after.clone());
        if events.iter().all(|other| other.fact != event.fact) {
            events.push(event);
        }
    }
    events
}

pub(crate) fn mending_events() -> Vec<operation_domain::MendingEvent> {
    use operation_domain::{MendingCommand, Outcome, PROJECTOR, Remedy, Target, decide_mending};
    let target = |key: &str| Target {
        projection: "recipes".to_owned(),
        edition: "3.1".to_owned(),
        topic: "recipes.events".to_owned(),
        partition: 2,
        key: key.to_owned(),
        source: None,
        offset: 9,
    };
    let outcomes = vec![
        (target("a"), Outcome::Succeeded),
        (target("b"), Outcome::Failed("no event".to_owned())),
    ];
    let mut events = Vec::new();
    for remedy in [Remedy::Redrive, Remedy::Discard, Remedy::Repair] {
        let mut targets = ["a", "b", "c"].map(target).to_vec();
        if remedy == Remedy::Repair {
            targets[2].source = Some("/v1/providers/p".to_owned());
        }
        let request = MendingCommand::Request { id: "first".to_owned(), remedy, targets };
        let mut known = None;
        for (command, subject) in
            [(request, "ann"), (MendingCommand::Report(outcomes.clone()), PROJECTOR)]
        {
            let caller = Caller { subject: subject.to_owned(), is_admin: subject == "ann" };
            let event = decide_mending(known.as_ref(), command, "because", &caller, now());
            let event = event.unwrap().unwrap();
            known = Some(event.after.clone());
            events.push(event);
        }
    }
    events
}

pub(crate) fn pausing_events() -> Vec<operation_domain::Pausing> {
    use operation_domain::{Pause, decide_pausing};
    let caller = Caller { subject: "ann".to_owned(), is_admin: true };
    let decide = |known: Option<&operation_domain::Pausing>, command| {
        decide_pausing(known, "fever", command, "because", &caller, now()).unwrap().unwrap()
    };
    let paused = decide(None, Pause::Pause);
    let resumed = decide(Some(&paused), Pause::Resume);
    vec![paused, resumed]
}

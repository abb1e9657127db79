//! Analyses: given events, when a command comes, then events or a refusal.

use almanac_domain::{
    aggregate::{Caller, Expected, Refusal},
    analyses::{
        Command, Event, Fact, Failure, Knowledge, Origin, Outcome, Request, Stage, State, Subject,
        WORKER, decide,
    },
    weather::Options,
};
use jiff::Timestamp;

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn who(subject: &str) -> Caller {
    Caller { subject: subject.to_owned(), is_admin: subject == "admin" }
}

fn request(origin: Origin, owner: Option<&str>) -> Command {
    let request = Request {
        subject: Subject::Stored("s".to_owned()),
        input: None,
        sources: vec!["met-norway".to_owned()],
        options: Options::default(),
        origin,
    };
    Command::Request { request: Box::new(request), owner: owner.map(str::to_owned) }
}

fn asked() -> Command {
    request(Origin::Request, None)
}

fn progress() -> Command {
    Command::Progress { stage: Stage::WaitingForForecast }
}

fn complete() -> Command {
    let outcome = Outcome {
        schedule_version: Some(3),
        now: now(),
        start_from: now(),
        forecasts: Vec::new(),
        is_stale: false,
        warnings: Vec::new(),
        earliest_completion: None,
        tasks: Vec::new(),
        previous: None,
        changes: Vec::new(),
    };
    Command::Complete { outcome: Box::new(outcome) }
}

fn fail() -> Command {
    let failure = Failure { code: "no_forecast".to_owned(), detail: "none".to_owned() };
    Command::Fail { failure }
}

fn when(
    known: Option<&Knowledge>,
    command: Command,
    subject: &str,
) -> Result<Option<Event>, Refusal> {
    decide(known, command, &who(subject), &Expected::Any, now())
}

fn given(commands: impl IntoIterator<Item = (Command, &'static str)>) -> Option<Knowledge> {
    commands.into_iter().fold(None, |known, (command, subject)| {
        let event = when(known.as_ref(), command, subject).unwrap();
        event.map(|event| event.after).or(known)
    })
}

#[test]
fn an_analysis_is_requested_worked_on_and_completed() {
    let known = given([(asked(), "mary")]).unwrap();
    assert_eq!((known.version, known.state, &*known.owner), (1, State::Queued, "mary"));
    assert_eq!(known.schedule_id.as_deref(), Some("s"));
    let known = given([(asked(), "mary"), (progress(), WORKER), (complete(), WORKER)]).unwrap();
    assert_eq!((known.version, known.state, &*known.owner), (3, State::Completed, "mary"));
}

#[test]
fn it_ends_once() {
    for (first, subject) in [(complete(), WORKER), (fail(), WORKER), (Command::Cancel, "mary")] {
        let known = given([(asked(), "mary"), (first, subject)]);
        let ends = [complete(), fail(), progress(), Command::Cancel];
        for (second, subject) in ends.into_iter().zip([WORKER, WORKER, WORKER, "mary"]) {
            assert_eq!(when(known.as_ref(), second, subject), Ok(None));
        }
    }
}

#[test]
fn progress_is_told_once() {
    let known = given([(asked(), "mary"), (progress(), WORKER)]);
    assert_eq!(when(known.as_ref(), progress(), WORKER), Ok(None));
    let computing = Command::Progress { stage: Stage::Computing };
    let event = when(known.as_ref(), computing, WORKER).unwrap().unwrap();
    assert_eq!(event.fact, Fact::Progressed(Stage::Computing));
}

#[test]
fn only_workers_tell_results() {
    let known = given([(asked(), "mary")]);
    for command in [complete(), fail(), progress()] {
        for subject in ["mary", "admin"] {
            let refused = when(known.as_ref(), command.clone(), subject);
            assert_eq!(refused, Err(Refusal::NotAllowed));
        }
    }
}

#[test]
fn its_owner_and_admins_cancel_it() {
    let known = given([(asked(), "mary")]);
    assert_eq!(when(known.as_ref(), Command::Cancel, "tom"), Err(Refusal::NotAllowed));
    assert_eq!(when(known.as_ref(), Command::Cancel, WORKER), Err(Refusal::NotAllowed));
    for subject in ["mary", "admin"] {
        let event = when(known.as_ref(), Command::Cancel, subject).unwrap().unwrap();
        assert_eq!((event.fact, event.after.state), (Fact::Cancelled, State::Cancelled));
    }
}

#[test]
fn a_worker_repeats_for_the_schedules_owner() {
    let repeated = || request(Origin::Repeat, Some("mary"));
    let event = when(None, repeated(), WORKER).unwrap().unwrap();
    assert_eq!((&*event.after.owner, event.after.origin), ("mary", Origin::Repeat));
    assert_eq!(when(None, repeated(), "tom"), Err(Refusal::NotAllowed));
    // The same timer again.
    let again = when(Some(&event.after), repeated(), WORKER);
    assert_eq!(again, Err(Refusal::Exists { version: 1 }));
}

#[test]
fn what_was_not_requested_is_unknown() {
    for command in [progress(), complete(), fail()] {
        assert_eq!(when(None, command, WORKER), Err(Refusal::Unknown));
    }
    assert_eq!(when(None, Command::Cancel, "mary"), Err(Refusal::Unknown));
}

#[test]
fn times_do_not_go_back() {
    let known = given([(asked(), "mary")]);
    let earlier = now() - jiff::SignedDuration::from_hours(1);
    let event = decide(known.as_ref(), complete(), &who(WORKER), &Expected::Any, earlier);
    assert_eq!(event.unwrap().unwrap().occurred_at, now());
}

use super::*;
use crate::aggregate::Caller;

fn caller(subject: &str) -> Caller {
    Caller { subject: subject.to_owned(), is_admin: subject == "ann" }
}

fn request(id: &str) -> Request {
    Request {
        id: id.to_owned(),
        projection: "plans".to_owned(),
        fold: 4,
        dry_run: false,
        automatic: false,
        events_per_s: 10_000,
        until: None,
    }
}

fn now() -> Timestamp {
    Timestamp::from_second(1_000).unwrap()
}

/// What is known after these commands, each by whom it is for.
fn given(commands: impl IntoIterator<Item = Command>) -> Knowledge {
    let mut known: Option<Knowledge> = None;
    for command in commands {
        let who = match &command {
            Command::Of(_, Step::Advance(_) | Step::Verify { .. } | Step::Fail(_)) => PROJECTOR,
            _ => "ann",
        };
        let event = decide(known.as_ref(), command, "why", &caller(who), now()).unwrap();
        known = event.map(|event| event.after).or(known);
    }
    known.unwrap()
}

fn of(step: Step) -> Command {
    Command::Of("first".to_owned(), step)
}

fn when(known: &Knowledge, command: Command) -> Result<Option<(Fact, Knowledge)>, Refusal> {
    let who = match &command {
        Command::Of(_, Step::Advance(_) | Step::Verify { .. } | Step::Fail(_)) => PROJECTOR,
        _ => "ann",
    };
    let event = decide(Some(known), command, "why", &caller(who), now())?;
    Ok(event.map(|event| (event.fact, event.after)))
}

fn verify() -> Step {
    Step::Verify { certificate: "{}".to_owned(), differences: 0 }
}

fn ready(request: Request) -> Knowledge {
    given([
        Command::Rebuild(request),
        of(Step::Advance(State::Lagging)),
        of(Step::Advance(State::Verifying)),
        of(verify()),
    ])
}

#[test]
fn a_rebuild_is_verified_switched_to_and_rolled_back_from() {
    let known = ready(request("first"));
    assert_eq!((known.live, known.kept, known.filled()), (0, None, vec![0, 1]));
    let (fact, active) = when(&known, of(Step::Activate)).unwrap().unwrap();
    assert_eq!((fact, active.live, active.kept), (Fact::Activated, 1, Some(0)));
    assert_eq!(when(&active, of(Step::Activate)), Ok(None), "it is so already");
    let (_, back) = when(&active, of(Step::Rollback)).unwrap().unwrap();
    assert_eq!((back.live, back.kept, back.rebuild.state), (0, Some(1), State::RolledBack));
    let (_, again) = when(&back, of(Step::Activate)).unwrap().unwrap();
    assert_eq!((again.live, again.kept), (1, Some(0)));
    let (_, dropped) = when(&again, of(Step::Drop)).unwrap().unwrap();
    assert_eq!((dropped.filled(), dropped.version), (vec![1], 8));
    assert!(matches!(when(&dropped, of(Step::Rollback)), Err(Refusal::Impossible { .. })));
}

#[test]
fn a_second_rebuild_waits_for_the_first() {
    let known = given([Command::Rebuild(request("first"))]);
    assert_eq!(when(&known, Command::Rebuild(request("first"))), Ok(None), "the same");
    let refused = Refusal::UnderWay { id: "first".to_owned(), state: "hydrating" };
    assert_eq!(when(&known, Command::Rebuild(request("second"))), Err(refused));
    let paused = when(&known, of(Step::Pause)).unwrap().unwrap().1;
    assert!(when(&paused, Command::Rebuild(request("second"))).is_err());
    let resumed = when(&paused, of(Step::Resume)).unwrap().unwrap().1;
    assert_eq!(resumed.rebuild.state, State::Hydrating);
    let cancelled = when(&resumed, of(Step::Cancel)).unwrap().unwrap().1;
    assert_eq!(cancelled.filled(), [0]);
    let next = when(&cancelled, Command::Rebuild(request("second"))).unwrap().unwrap().1;
    assert_eq!((next.rebuild.generation, next.filled()), (2, vec![0, 2]), "no number comes twice");
}

#[test]
fn another_version_of_the_fold_starts_from_its_own_tables() {
    let active = when(&ready(request("first")), of(Step::Activate)).unwrap().unwrap().1;
    let newer = Request { fold: 5, ..request("second") };
    let next = when(&active, Command::Rebuild(newer)).unwrap().unwrap().1;
    assert_eq!((next.live, next.kept, next.rebuild.generation), (0, None, 2));
}

#[test]
fn a_dry_run_is_never_switched_to() {
    let known = ready(Request { dry_run: true, ..request("first") });
    assert!(when(&known, of(Step::Activate)).is_err());
    let dropped = when(&known, of(Step::Drop)).unwrap().unwrap().1;
    assert_eq!((dropped.rebuild.state, dropped.filled()), (State::Ready, vec![0]));
    assert!(when(&dropped, Command::Rebuild(request("second"))).is_ok());
}

#[test]
fn only_projectors_say_how_far_they_are_and_only_admins_act() {
    let known = given([Command::Rebuild(request("first"))]);
    let try_as = |who: &str, command| decide(Some(&known), command, "", &caller(who), now());
    assert_eq!(try_as("ann", of(Step::Advance(State::Lagging))), Err(Refusal::NotAllowed));
    assert_eq!(try_as("tom", of(Step::Cancel)), Err(Refusal::NotAllowed));
    assert!(when(&known, of(Step::Advance(State::Verifying))).is_err(), "a state is not skipped");
    assert!(when(&known, of(verify())).is_err());
    let other = Command::Of("other".to_owned(), Step::Cancel);
    assert_eq!(when(&known, other), Err(Refusal::Unknown));
    let failure = Failure { category: "store".to_owned(), detail: "gone".to_owned() };
    let failed = when(&known, of(Step::Fail(failure.clone()))).unwrap().unwrap().1;
    assert_eq!((failed.rebuild.failure, failed.rebuild.is_dropped), (Some(failure), true));
}

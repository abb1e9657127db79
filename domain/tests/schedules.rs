//! Schedules: given events, when a command comes, then events or a refusal.

use almanac_domain::{
    aggregate::{self, Caller, Expected},
    schedules::{Command, Event, Fact, Field, Knowledge, Refusal, decide},
    weather::{Schedule, ScheduleDraft, TaskDraft, TaskState},
};
use jiff::{SignedDuration, Timestamp};

fn schedule(name: &str, tasks: &[&str]) -> Schedule {
    let task = |id: &&str| TaskDraft {
        id: Some((*id).to_owned()),
        duration_s: Some(3_600),
        ..TaskDraft::default()
    };
    let draft = ScheduleDraft {
        name: Some(name.to_owned()),
        lat: "61.5".parse().ok(),
        lon: "4.8".parse().ok(),
        tasks: tasks.iter().map(task).collect(),
        ..ScheduleDraft::default()
    };
    draft.check().unwrap()
}

fn create(tasks: &[&str]) -> Command {
    Command::Create { schedule: Box::new(schedule("a", tasks)) }
}

fn revise(tasks: &[&str]) -> Command {
    Command::Revise { schedule: Box::new(schedule("a", tasks)) }
}

fn start(task: &str, minutes: i64) -> Command {
    Command::StartTask { task: task.to_owned(), at: Some(minutes_from_now(minutes)) }
}

fn complete(task: &str, minutes: i64) -> Command {
    Command::CompleteTask { task: task.to_owned(), at: Some(minutes_from_now(minutes)) }
}

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn minutes_from_now(minutes: i64) -> Timestamp {
    now() + SignedDuration::from_mins(minutes)
}

fn mary() -> Caller {
    Caller { subject: "mary".to_owned(), is_admin: false }
}

fn given(commands: impl IntoIterator<Item = Command>) -> Option<Knowledge> {
    commands.into_iter().fold(None, |known, command| {
        when(&known, command).unwrap().map(|event| event.after).or(known)
    })
}

fn when(known: &Option<Knowledge>, command: Command) -> Result<Option<Event>, Refusal> {
    decide(known.as_ref(), command, &mary(), &Expected::Any, now())
}

fn refused(known: &Option<Knowledge>, command: Command) -> Refusal {
    when(known, command).unwrap_err()
}

#[test]
fn a_schedule_is_created_revised_worked_on_and_deleted() {
    let known = given([create(&["a", "b"])]);
    assert_eq!(known.as_ref().unwrap().states, [TaskState::Planned; 2]);
    let revised = when(&known, revise(&["b", "c"])).unwrap().unwrap();
    assert_eq!(revised.fact, Fact::Revised { changed: vec![Field::Tasks] });
    let known = Some(revised.after);
    let event = when(&known, start("b", -60)).unwrap().unwrap();
    assert_eq!(event.fact, Fact::TaskStarted { task: "b".to_owned() });
    let started_at = minutes_from_now(-60);
    assert_eq!(event.after.states, [TaskState::Started { at: started_at }, TaskState::Planned]);
    let event = when(&Some(event.after), complete("b", -10)).unwrap().unwrap();
    assert_eq!(event.fact, Fact::TaskCompleted { task: "b".to_owned() });
    let at = minutes_from_now(-10);
    assert_eq!(event.after.states[0], TaskState::Completed { started_at, at });
    let event = when(&Some(event.after), Command::Delete).unwrap().unwrap();
    assert_eq!((event.fact, event.after.version), (Fact::Deleted, 5));
    let gone = Some(event.after);
    for command in [revise(&["b"]), Command::Delete, start("c", 0), complete("c", 0)] {
        assert_eq!(
            refused(&gone, command),
            Refusal::Aggregate(aggregate::Refusal::Deleted { version: 5 })
        );
    }
}

#[test]
fn tasks_keep_their_states_by_their_ids() {
    let known = given([create(&["a", "b"]), start("b", -30)]);
    let event = when(&known, revise(&["c", "b"])).unwrap().unwrap();
    let started = TaskState::Started { at: minutes_from_now(-30) };
    assert_eq!(event.after.states, [TaskState::Planned, started]);
}

#[test]
fn a_task_that_was_begun_is_not_dropped() {
    let started = given([create(&["a", "b"]), start("b", -30)]);
    let completed = given([create(&["a", "b"]), start("b", -30), complete("b", -1)]);
    for known in [started, completed] {
        let drops = Refusal::DropsTask { task: "b".to_owned() };
        assert_eq!(refused(&known, revise(&["a"])), drops);
        assert!(when(&known, revise(&["b"])).unwrap().is_some(), "a was only planned");
    }
}

#[test]
fn a_task_is_completed_after_its_start_and_not_in_the_future() {
    let planned = given([create(&["a"])]);
    assert_eq!(refused(&planned, complete("a", -1)), Refusal::NotStarted { task: "a".to_owned() });
    assert_eq!(refused(&planned, start("a", 1)), Refusal::InFuture);
    let started = given([create(&["a"]), start("a", -30)]);
    let started_at = minutes_from_now(-30);
    assert_eq!(refused(&started, complete("a", -31)), Refusal::BeforeStart { started_at });
    assert_eq!(refused(&started, complete("a", 1)), Refusal::InFuture);
    assert!(when(&started, complete("a", -30)).unwrap().is_some(), "at once is not before");
    let unknown = Refusal::UnknownTask { task: "x".to_owned() };
    assert_eq!(refused(&started, start("x", 0)), unknown);
    assert_eq!(refused(&started, complete("x", 0)), unknown);
}

#[test]
fn a_task_without_a_time_is_begun_and_ended_now() {
    let at = None;
    let known = given([create(&["a"]), Command::StartTask { task: "a".to_owned(), at }]);
    assert_eq!(known.as_ref().unwrap().states, [TaskState::Started { at: now() }]);
    let ends = Command::CompleteTask { task: "a".to_owned(), at };
    // Another decider's clock is behind: the end is not before the start.
    let earlier = minutes_from_now(-5);
    let event = decide(known.as_ref(), ends, &mary(), &Expected::Any, earlier).unwrap().unwrap();
    assert_eq!(event.after.states, [TaskState::Completed { started_at: now(), at: now() }]);
    assert_eq!(event.occurred_at, now());
}

#[test]
fn what_is_so_already_is_no_event() {
    let started = given([create(&["a"]), start("a", -30)]);
    assert_eq!(when(&started, revise(&["a"])), Ok(None));
    assert_eq!(when(&started, start("a", -30)), Ok(None));
    let now = Command::StartTask { task: "a".to_owned(), at: None };
    assert_eq!(when(&started, now), Ok(None));
    let completed = given([create(&["a"]), start("a", -30), complete("a", -10)]);
    assert_eq!(when(&completed, complete("a", -10)), Ok(None));
    let (task, at) = ("a".to_owned(), minutes_from_now(-30));
    assert_eq!(refused(&started, start("a", -20)), Refusal::Started { task: task.clone(), at });
    let at = minutes_from_now(-10);
    let already = Refusal::Completed { task, at };
    assert_eq!(refused(&completed, complete("a", -9)), already);
    assert_eq!(refused(&completed, start("a", -30)), already);
}

#[test]
fn only_the_owner_or_an_admin_changes_it() {
    let known = given([create(&["a"])]);
    let tom = Caller { subject: "tom".to_owned(), is_admin: false };
    let not_allowed = Err(Refusal::Aggregate(aggregate::Refusal::NotAllowed));
    for command in [revise(&["b"]), Command::Delete, start("a", 0), start("x", 0)] {
        let outcome = decide(known.as_ref(), command.clone(), &tom, &Expected::Any, now());
        assert_eq!(outcome, not_allowed);
        let admin = Caller { is_admin: true, ..tom.clone() };
        let outcome = decide(known.as_ref(), command, &admin, &Expected::Any, now());
        assert_ne!(outcome, not_allowed);
    }
    let expected = Expected::Versions(vec![2]);
    let stale = decide(known.as_ref(), Command::Delete, &mary(), &expected, now());
    assert_eq!(stale, Err(Refusal::Aggregate(aggregate::Refusal::Stale { current: 1 })));
}

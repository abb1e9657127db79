//! Subscriptions: what they may say; given events, when a command comes, then events or a refusal.

use almanac_domain::{
    Fault,
    aggregate::{Caller, Expected, Refusal},
    subscriptions::{Command, Draft, Event, Fact, Knowledge, NOTIFIER, Subscription, decide},
};
use jiff::Timestamp;
use std::collections::BTreeSet;

fn known() -> BTreeSet<String> {
    ["analysis.completed", "task.started"].map(str::to_owned).into()
}

fn draft() -> Draft {
    Draft {
        types: vec!["task.started".to_owned(), "analysis.completed".to_owned()],
        subject: None,
        url: Some("https://example.com/hook".to_owned()),
        secret: Some(Some(vec![7; 24])),
    }
}

fn subscription() -> Subscription {
    draft().check(&known()).unwrap().0
}

fn create() -> Command {
    Command::Create { subscription: Box::new(subscription()), sealed: vec![1, 2] }
}

fn disable() -> Command {
    Command::Disable { reason: "it answered 410".to_owned() }
}

fn caller(subject: &str) -> Caller {
    Caller { subject: subject.to_owned(), is_admin: subject == "admin" }
}

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn when(known: &Option<Knowledge>, command: Command, who: &str) -> Result<Option<Event>, Refusal> {
    decide(known.as_ref(), command, &caller(who), &Expected::Any, now())
}

fn given(commands: impl IntoIterator<Item = (Command, &'static str)>) -> Option<Knowledge> {
    commands.into_iter().fold(None, |known, (command, who)| {
        when(&known, command, who).unwrap().map(|event| event.after).or(known)
    })
}

#[test]
fn every_fault_is_named() {
    let places = |draft: Draft| -> Vec<String> {
        let faults = draft.check(&known()).unwrap_err();
        faults.into_iter().map(|fault: Fault| fault.place.join("/")).collect()
    };
    assert_eq!(places(Draft::default()), ["secret", "types", "url"]);
    let types = vec!["task.started".to_owned(), "feed.observed".to_owned()];
    assert_eq!(places(Draft { types, ..draft() }), ["types/1"]);
    assert_eq!(places(Draft { subject: Some(" ".to_owned()), ..draft() }), ["subject"]);
    for secret in [None, Some(None), Some(Some(vec![0; 23])), Some(Some(vec![0; 65]))] {
        assert_eq!(places(Draft { secret, ..draft() }), ["secret"]);
    }
    assert_eq!(subscription().types, ["analysis.completed", "task.started"]);
    let (_, secret) = draft().check(&known()).unwrap();
    assert_eq!(format!("{secret:?}"), "Secret", "it is shown nowhere");
}

#[test]
fn a_subscription_is_created_and_deleted_by_its_owner() {
    let known = given([(create(), "mary")]);
    assert_eq!(
        known.as_ref().map(|known| (known.is_active(), known.owner.as_str())),
        Some((true, "mary"))
    );
    assert_eq!(when(&known, Command::Delete, "tom"), Err(Refusal::NotAllowed));
    let event = when(&known, Command::Delete, "mary").unwrap().unwrap();
    assert_eq!((event.fact, event.after.version), (Fact::Deleted, 2));
    assert!(!event.after.is_active() && event.after.sealed.is_empty(), "the secret goes");
    let gone = Some(event.after);
    assert_eq!(when(&gone, Command::Delete, "mary"), Err(Refusal::Deleted { version: 2 }));
    assert_eq!(when(&gone, create(), "mary"), Err(Refusal::Exists { version: 2 }));
    assert_eq!(when(&gone, disable(), NOTIFIER), Ok(None));
}

#[test]
fn only_who_sends_disables_and_once() {
    let known = given([(create(), "mary")]);
    for who in ["mary", "admin"] {
        assert_eq!(when(&known, disable(), who), Err(Refusal::NotAllowed));
    }
    let event = when(&known, disable(), NOTIFIER).unwrap().unwrap();
    assert_eq!(event.fact, Fact::Disabled);
    assert_eq!(event.after.disabled.as_ref().unwrap().reason, "it answered 410");
    assert!(!event.after.is_active());
    assert_eq!(when(&Some(event.after.clone()), disable(), NOTIFIER), Ok(None));
    assert!(when(&Some(event.after), Command::Delete, "mary").unwrap().is_some());
    assert_eq!(when(&None, disable(), NOTIFIER), Err(Refusal::Unknown));
}

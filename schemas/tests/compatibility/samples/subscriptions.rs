//! Events of subscriptions.

use crate::samples::{now, schedules::SCHEDULE_ID};
use almanac_domain::{
    aggregate::{Caller, Expected},
    subscriptions as subscription_domain,
};
use almanac_schemas::subscriptions;

pub(crate) const SUBSCRIPTION_ID: &str = "0198c5a0-0000-7000-8000-000000000003";

/// One event of each kind.
pub(crate) fn subscription_events() -> Vec<(&'static str, subscription_domain::Event)> {
    use subscription_domain::{Command, NOTIFIER, Subscription};
    let subscription = Subscription {
        types: vec!["analysis.completed".to_owned(), "task.started".to_owned()],
        subject: Some(SCHEDULE_ID.to_owned()),
        url: "https://example.com/hook".to_owned(),
    };
    let create = Command::Create { subscription: Box::new(subscription), sealed: vec![0, 255] };
    let disable = Command::Disable { reason: "it answered 410".to_owned() };
    let commands = [
        (subscriptions::CREATED, create, "mary"),
        (subscriptions::DISABLED, disable, NOTIFIER),
        (subscriptions::DELETED, Command::Delete, "mary"),
    ];
    let (mut known, mut events) = (None, Vec::new());
    for (record, command, subject) in commands {
        let caller = Caller { subject: subject.to_owned(), is_admin: false };
        let known_before: Option<&subscription_domain::Knowledge> = known.as_ref();
        let event =
            subscription_domain::decide(known_before, command, &caller, &Expected::Any, now());
        let event = event.unwrap().unwrap();
        known = Some(event.after.clone());
        events.push((record, event));
    }
    events
}

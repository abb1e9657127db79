//! Which subscriptions an event is told to.

use almanac_domain::subscriptions::Knowledge;
use almanac_schemas::notifications::{Attributes, Told, Wanted};
use jiff::Timestamp;
use std::time::Duration;
use uuid::Uuid;

fn wanted(subscription: &Knowledge) -> Wanted<'_> {
    let wanted = &subscription.subscription;
    Wanted { types: &wanted.types, subject: wanted.subject.as_deref() }
}

/// Whether any of an event's types is subscribed to, so that it is worth reading.
pub(super) fn may_be_told(event: &Attributes<'_>, subscription: &Knowledge) -> bool {
    subscription.is_active()
        && subscription.created_at <= event.time
        && wanted(subscription).may_select(event)
}

/// Whether an event that is told may still be: a log that is read once more tells nothing old.
pub(super) fn is_recent(event: &Attributes<'_>, now: Timestamp, oldest: Duration) -> bool {
    let age = now.duration_since(event.time);
    Duration::try_from(age).is_ok_and(|age| age <= oldest) || age.is_negative()
}

/// Whether a subscription is told this.
pub(super) fn matches(told: &Told, subscription: &Knowledge) -> bool {
    wanted(subscription).selects(told)
        && told.owner.as_ref().is_none_or(|owner| *owner == subscription.owner)
}

/// The same event is the same delivery, whoever matches it and however often.
pub(super) fn delivery_id(subscription: Uuid, event_id: &str) -> Uuid {
    Uuid::new_v5(&subscription, event_id.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use almanac_domain::subscriptions::{Disabled, Subscription};
    use serde_json::Value;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn subscription(types: &[&str]) -> Knowledge {
        Knowledge {
            version: 1,
            subscription: Subscription {
                types: types.iter().map(|name| (*name).to_owned()).collect(),
                subject: None,
                url: "https://example.com/".to_owned(),
            },
            sealed: Vec::new(),
            owner: "mary".to_owned(),
            disabled: None,
            is_deleted: false,
            created_at: time("2026-01-01T00:00:00Z"),
            updated_at: time("2026-01-01T00:00:00Z"),
        }
    }

    const EVENT: &str = "recipe.revised";

    fn attributes<'a>() -> Attributes<'a> {
        let time = time("2026-01-01T01:00:00Z");
        Attributes { topic: "recipes.events", id: "a.2", event_type: EVENT, time }
    }

    #[test]
    fn events_are_told_from_the_subscription_on_while_it_is_active() {
        let (event, one) = (attributes(), subscription(&[EVENT]));
        assert!(may_be_told(&event, &one));
        assert!(!may_be_told(&event, &subscription(&["recipe.created"])));
        let before = Attributes { time: time("2025-12-31T23:59:59Z"), ..event };
        assert!(!may_be_told(&before, &one), "it came before the subscription");
        let disabled = Some(Disabled { at: time("2026-01-01T00:00:00Z"), reason: String::new() });
        assert!(!may_be_told(&event, &Knowledge { disabled, ..one.clone() }));
        assert!(!may_be_told(&event, &Knowledge { is_deleted: true, ..one }));
    }

    #[test]
    fn what_has_an_owner_is_told_to_no_other() {
        for (owner, is_told) in
            [(None, true), (Some("mary"), true), (Some("tom"), false), (Some(""), false)]
        {
            let told = Told {
                event_id: "a.2".to_owned(),
                event_type: EVENT.to_owned(),
                subjects: Vec::new(),
                owner: owner.map(str::to_owned),
                body: Value::Null,
            };
            assert_eq!(matches(&told, &subscription(&[EVENT])), is_told, "{owner:?}");
        }
    }

    #[test]
    fn what_is_old_is_not_told() {
        let event = attributes();
        let recent = |now: &str| is_recent(&event, time(now), Duration::from_secs(3_600));
        assert!(recent("2026-01-01T02:00:00Z") && !recent("2026-01-01T02:00:01Z"));
        assert!(recent("2026-01-01T00:59:00Z"), "another clock may be ahead");
    }

    #[test]
    fn a_delivery_has_one_id() {
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(delivery_id(one, "a.1"), delivery_id(one, "a.1"));
        assert_ne!(delivery_id(one, "a.1"), delivery_id(one, "a.2"));
        assert_ne!(delivery_id(one, "a.1"), delivery_id(other, "a.1"));
    }
}

//! Plans and their events.

use crate::samples::now;
use almanac_domain::plans::{
    LocalTime, Plan, PlanEvent, PlanIdentity, SellMode, Zone, decide, delist,
};
use almanac_schemas::plans::{FaultRecord, FeedObservedRecord};
use jiff::tz::TimeZone;

pub(crate) fn time(text: &str) -> LocalTime {
    LocalTime::parse(text, &TimeZone::get("Europe/Madrid").unwrap()).unwrap()
}

pub(crate) fn plan() -> Plan {
    Plan {
        identity: PlanIdentity {
            provider: "fever".to_owned(),
            base_plan_id: "1591".to_owned(),
            plan_id: "1642".to_owned(),
        },
        title: "Los Morancos – ¡olé!".to_owned(),
        organizer_id: Some("1".to_owned()),
        sell_mode: SellMode::Online,
        starts_at: time("2021-07-31T20:00:00"),
        ends_at: Some(time("2021-07-31T21:20:00")),
        sell_from: Some(time("2021-06-26T00:00:00")),
        sell_to: None,
        sold_out: false,
        currency: Some("EUR".to_owned()),
        url: None,
        zones: vec![
            Zone {
                zone_id: "186".to_owned(),
                name: Some("Amfiteatre".to_owned()),
                capacity: 0,
                price: "75.00".parse().ok(),
                numbered: true,
            },
            Zone {
                zone_id: "186".to_owned(),
                name: None,
                capacity: 14,
                price: None,
                numbered: false,
            },
        ],
    }
}

pub(crate) fn events() -> [PlanEvent; 4] {
    let listed = decide(None, plan(), now()).unwrap();
    let later = Plan { ends_at: None, sold_out: true, ..plan() };
    let changed = decide(Some(&listed.after), later.clone(), now()).unwrap();
    let delisted = delist(&changed.after, now()).unwrap();
    let relisted = decide(Some(&delisted.after), later, now()).unwrap();
    [listed, changed, delisted, relisted]
}

pub(crate) fn feed_observed() -> FeedObservedRecord {
    FeedObservedRecord {
        provider: "fever".to_owned(),
        observed_at: now().as_millisecond(),
        outcome: "changed".to_owned(),
        detail: None,
        listed_plans: Some(3),
        listed: 1,
        changed: 2,
        delisted: 0,
        relisted: 0,
        quarantined: 1,
        faults: vec![FaultRecord {
            place: "14:10".to_owned(),
            subject: "plan 444/1642".to_owned(),
            reason: "impossible start".to_owned(),
        }],
        body_bytes: Some(1_731),
        duration_ms: 12,
        breaker: "closed".to_owned(),
        consecutive_failures: 0,
        next_fetch_at: now().as_millisecond() + 30_000,
        next_fetch_reason: "interval".to_owned(),
        payload_id: Some("p-1".to_owned()),
    }
}

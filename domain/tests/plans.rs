//! Plans by given / when / then, and by properties.

use almanac_domain::plans::{
    Field, Knowledge, LocalTime, Plan, PlanEvent, PlanFact, PlanIdentity, SellMode, Zone, decide,
    delist,
};
use jiff::{Timestamp, tz::TimeZone};
use proptest::prelude::*;

fn now() -> Timestamp {
    "2021-01-01T00:00:00Z".parse().unwrap()
}

fn time(text: &str) -> LocalTime {
    LocalTime::parse(text, &TimeZone::get("Europe/Madrid").unwrap()).unwrap()
}

fn zone(capacity: u32, price: &str) -> Zone {
    Zone {
        zone_id: "40".to_owned(),
        name: Some("Platea".to_owned()),
        capacity,
        price: price.parse().ok(),
        numbered: true,
    }
}

fn camela() -> Plan {
    Plan {
        identity: PlanIdentity {
            provider: "fever".to_owned(),
            base_plan_id: "291".to_owned(),
            plan_id: "291".to_owned(),
        },
        title: "Camela en concierto".to_owned(),
        organizer_id: None,
        sell_mode: SellMode::Online,
        starts_at: time("2021-06-30T21:00:00"),
        ends_at: Some(time("2021-06-30T22:00:00")),
        sell_from: None,
        sell_to: None,
        sold_out: false,
        currency: None,
        url: None,
        zones: vec![zone(243, "20.00"), zone(100, "15.00"), zone(90, "30.00")],
    }
}

/// What a provider said, one feed after the other: the plan, or its absence.
struct Story(Option<Knowledge>);

impl Story {
    fn given(said: &[Option<Plan>]) -> Self {
        let mut story = Self(None);
        for statement in said {
            story.when(statement.clone());
        }
        story
    }

    fn when(&mut self, said: Option<Plan>) -> Option<PlanEvent> {
        let event = match (&self.0, said) {
            (known, Some(plan)) => decide(known.as_ref(), plan, now()),
            (Some(known), None) => delist(known, now()),
            (None, None) => None,
        };
        if let Some(event) = &event {
            self.0 = Some(event.after.clone());
        }
        event
    }
}

fn fields(event: &PlanEvent) -> Vec<Field> {
    match &event.fact {
        PlanFact::Changed { changes } | PlanFact::Relisted { changes } => changes.fields.clone(),
        PlanFact::Listed | PlanFact::Delisted => Vec::new(),
    }
}

#[test]
fn a_plan_seen_first_is_listed() {
    let event = Story::given(&[]).when(Some(camela())).unwrap();
    assert_eq!(event.fact, PlanFact::Listed);
    assert_eq!(event.after.sequence, 1);
    assert!(event.after.ever_online);
}

#[test]
fn the_same_again_is_nothing() {
    assert_eq!(Story::given(&[Some(camela())]).when(Some(camela())), None);
}

#[test]
fn a_change_says_what_and_where_from() {
    let later = Plan { starts_at: time("2021-07-01T21:00:00"), ends_at: None, ..camela() };
    let event = Story::given(&[Some(camela())]).when(Some(later)).unwrap();
    assert_eq!(fields(&event), [Field::StartsAt, Field::EndsAt]);
    let PlanFact::Changed { changes } = &event.fact else { panic!("{:?}", event.fact) };
    assert_eq!(changes.previous_starts_at, camela().starts_at);
    assert_eq!(changes.previous_ends_at, camela().ends_at);
    assert_eq!(event.after.sequence, 2);
}

#[test]
fn a_price_written_otherwise_is_a_change() {
    let mut other = camela();
    other.zones[0].price = "20.0".parse().ok();
    let event = Story::given(&[Some(camela())]).when(Some(other)).unwrap();
    assert_eq!(fields(&event), [Field::Zones]);
}

#[test]
fn zones_in_another_order_are_the_same_zones() {
    let mut other = camela();
    // One stands twice, and the order of equal ids says nothing either.
    other.zones.push(zone(90, "30.00"));
    let story = || Story::given(&[Some(other.clone())]);
    for turn in 0..other.zones.len() {
        let mut turned = other.clone();
        turned.zones.rotate_left(turn);
        assert_eq!(story().when(Some(turned.clone())), None);
        turned.zones.reverse();
        assert_eq!(story().when(Some(turned)), None);
    }
    // How often one stands there does say something.
    let mut fewer = other.clone();
    fewer.zones[0] = zone(100, "15.00");
    assert_eq!(fields(&story().when(Some(fewer)).unwrap()), [Field::Zones]);
    let mut one_less = other.clone();
    one_less.zones.pop();
    assert_eq!(fields(&story().when(Some(one_less)).unwrap()), [Field::Zones]);
}

#[test]
fn a_plan_leaves_and_comes_back() {
    let mut story = Story::given(&[Some(camela())]);
    let gone = story.when(None).unwrap();
    assert_eq!(gone.fact, PlanFact::Delisted);
    assert!(!gone.after.listed);
    assert_eq!(gone.after.plan, camela(), "what was known of it stays");
    assert_eq!(story.when(None), None, "it is gone only once");
    let back = story.when(Some(camela())).unwrap();
    assert!(matches!(back.fact, PlanFact::Relisted { .. }));
    assert!(fields(&back).is_empty());
    assert!(back.after.listed);
}

#[test]
fn online_once_is_online_for_good() {
    let offline = Plan { sell_mode: SellMode::Offline, ..camela() };
    let mut story = Story::given(&[Some(offline.clone())]);
    assert!(!story.0.as_ref().unwrap().ever_online);
    story.when(Some(camela()));
    let event = story.when(Some(offline)).unwrap();
    assert!(event.after.ever_online);
    let unknown = Plan { sell_mode: SellMode::parse("telepathy"), ..camela() };
    assert!(!Story::given(&[Some(unknown)]).0.unwrap().ever_online);
}

#[test]
fn prices_are_those_of_zones_with_places_left() {
    let range = |zones: Vec<Zone>| {
        let plan = Plan { zones, ..camela() };
        plan.price_range().map(|(low, high)| (low.to_string(), high.to_string()))
    };
    let pair = |low: &str, high: &str| Some((low.to_owned(), high.to_owned()));
    assert_eq!(range(camela().zones), pair("15.00", "30.00"));
    assert_eq!(range(vec![zone(0, "75.00"), zone(14, "65.00")]), pair("65.00", "65.00"));
    assert_eq!(range(vec![zone(0, "75.00")]), None);
    assert_eq!(range(vec![zone(5, "free")]), None, "no price is no price, not zero");
    assert_eq!(range(Vec::new()), None);
}

#[test]
fn public_ids_are_fixed() {
    // Clients keep these: a change of the namespace or of the name's form breaks them.
    assert_eq!(camela().identity.public_id().to_string(), "2642ee87-af6c-5ace-bfee-0879048edd62");
    let other = PlanIdentity {
        base_plan_id: "29".to_owned(),
        plan_id: "1291".to_owned(),
        ..camela().identity
    };
    assert_ne!(other.public_id(), camela().identity.public_id());
}

fn any_plan() -> impl Strategy<Value = Option<Plan>> {
    let parts = (0..3_u32, prop::sample::select(vec!["a", "b"]), any::<bool>(), 0..2_i64);
    prop::option::weighted(
        0.8,
        parts.prop_map(|(capacity, title, online, days)| Plan {
            title: title.to_owned(),
            sell_mode: if online { SellMode::Online } else { SellMode::Offline },
            starts_at: LocalTime::from_parts(1_625_000_000 + days * 86_400, 7_200).unwrap(),
            ends_at: None,
            zones: vec![zone(capacity, "20.00")],
            ..camela()
        }),
    )
}

proptest! {
    /// Whatever a provider says, the fold of the events is the last good statement, sequences
    /// have no gaps, and folding events twice or out of order changes nothing.
    #[test]
    fn the_fold_is_the_last_statement(said in prop::collection::vec(any_plan(), 1..30)) {
        let mut story = Story::given(&[]);
        let mut events = Vec::new();
        let mut last = None;
        let mut ever_online = false;
        for statement in &said {
            events.extend(story.when(statement.clone()));
            if let Some(plan) = statement {
                ever_online |= plan.sell_mode.is_online();
                last = Some(plan.clone());
            }
        }
        let known = story.0;
        prop_assert_eq!(known.as_ref().map(|known| known.plan.clone()), last);
        if let Some(known) = &known {
            prop_assert_eq!(known.ever_online, ever_online);
            prop_assert_eq!(known.listed, said.last().unwrap().is_some());
            prop_assert_eq!(known.sequence, events.len() as u64);
        }
        let sequences: Vec<u64> = events.iter().map(|event| event.after.sequence).collect();
        prop_assert_eq!(sequences, (1..=events.len() as u64).collect::<Vec<_>>());
    }
}

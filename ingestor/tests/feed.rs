//! The feed's parser on real, nasty and random bodies.

use almanac_ingestor::{
    config::FeedSettings,
    fever_plans::{BodyError, Fault, FeedItem, read},
};
use jiff::tz::TimeZone;
use proptest::prelude::*;

const FEED: &str = include_str!("../../tests/data/feed-1.xml");

fn settings() -> FeedSettings {
    FeedSettings {
        provider: "fever".to_owned(),
        timezone: TimeZone::get("Europe/Madrid").unwrap(),
        currency: Some("EUR".to_owned()),
        url_template: Some("https://tickets.example/{base_plan_id}/{plan_id}".to_owned()),
        max_tag_bytes: 64 << 10,
        max_zones: 100,
        max_plan_bytes: 100_000,
    }
}

fn items(body: &[u8]) -> Result<Vec<FeedItem>, BodyError> {
    let mut items = Vec::new();
    read(body, &settings(), &mut |item| {
        items.push(item);
        Ok(())
    })?;
    Ok(items)
}

fn faults(body: &str) -> Vec<Fault> {
    let fault = |item| match item {
        FeedItem::Fault { fault, .. } => Some(fault),
        FeedItem::Plan { .. } => None,
    };
    items(body.as_bytes()).unwrap().into_iter().filter_map(fault).collect()
}

#[test]
fn a_real_feed_is_read() {
    let found = items(FEED.as_bytes()).unwrap();
    assert_eq!(found.len(), 4);
    let FeedItem::Plan { plan, place } = &found[3] else { panic!("{:?}", found[3]) };
    assert_eq!(plan.title, "Los Morancos");
    assert_eq!(plan.zones.len(), 2, "a zone_id may stand twice");
    assert_eq!(plan.starts_at.to_string(), "2021-07-31T20:00:00+02:00");
    assert_eq!(plan.url.as_deref(), Some("https://tickets.example/1591/1642"));
    assert_eq!(place.line, 20);
}

#[test]
fn faults_say_where_and_why() {
    let bad = FEED
        .replace("capacity=\"243\"", "capacity=\"-3\"")
        .replace("plan_id=\"1643\"", "plan_id=\"\"");
    let found = faults(&bad);
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].place.line, found[0].subject.as_str()), (6, "plan 291/291 zone 40"));
    assert!(found[0].reason.contains("-3"), "{}", found[0].reason);
    assert!(found[0].fragment.contains("zone_id=\"40\""), "{}", found[0].fragment);
    assert_eq!(
        (found[1].subject.as_str(), found[1].reason.as_str()),
        ("plan 322/", "plan_id is missing")
    );
}

#[test]
fn bounds_hold() {
    let deep = format!("<planList>{}", "<a>".repeat(10_000));
    assert!(matches!(items(deep.as_bytes()), Err(BodyError::TooDeep { .. })));
    let long = format!("<planList><output><base_plan title=\"{}\"/>", "x".repeat(200_000));
    assert!(matches!(items(long.as_bytes()), Err(BodyError::TagTooLong { .. })));
    let zones = "<zone zone_id=\"1\" capacity=\"1\"/>".repeat(500);
    let many = FEED.replacen("<zone zone_id=\"40\"", &format!("{zones}<zone zone_id=\"40\""), 1);
    let found = faults(&many);
    assert!(found.len() == 1 && found[0].reason.contains("more than 100 zones"), "{found:?}");
}

#[test]
fn entities_are_not_expanded() {
    let bomb = format!(
        "<!DOCTYPE planList [<!ENTITY a \"{}\"><!ENTITY b \"&a;&a;&a;\">]>{}",
        "x".repeat(1_000),
        FEED.split_once("?>").unwrap().1.replace("Camela en concierto", "&b;")
    );
    let found = faults(&bomb);
    assert_eq!(found.len(), 1, "the plan that refers to it, and nothing else");
}

proptest! {
    /// However a feed is damaged, it is read or refused: no panic, and no item beyond the body.
    #[test]
    fn damage_is_read_or_refused(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        length in any::<prop::sample::Index>(),
        truncate in any::<bool>(),
    ) {
        let mut body = FEED.as_bytes().to_vec();
        for (place, byte) in cuts {
            let place = place.index(body.len());
            body[place] = byte;
        }
        if truncate {
            body.truncate(length.index(FEED.len()));
        }
        if let Ok(found) = items(&body) {
            prop_assert!(found.len() <= 16);
        }
    }
}

//! The codec, the registry of the embedded engine, and the types of events.

use crate::{
    encoded::encoded,
    samples::{
        analyses::{ANALYSIS_ID, analysis_events},
        imports::import_events,
        recipes::recipe_events,
        schedules::schedule_events,
        subscriptions::subscription_events,
    },
};
use almanac_schemas::{
    BuiltInRegistry, Codec, Registry,
    analyses::{self, AnalysisEventRecord},
    files::{ALL, SchemaFile},
    forecasts,
    plans::{self, FEED_OBSERVED, FeedObservedRecord},
    recipes, schedules, subscriptions,
};
use std::sync::Arc;

pub(crate) async fn codec() -> Codec {
    Codec::new(Arc::new(BuiltInRegistry)).await.unwrap()
}

#[tokio::test]
async fn bad_bytes_are_errors() {
    let codec = codec().await;
    for bad in [&b""[..], b"\x00\x00\x00", b"\x01\x00\x00\x00\x01abc", b"\x00\xff\xff\xff\xff"] {
        assert!(codec.decode(bad).await.is_err(), "{bad:?}");
    }
    let whole = encoded(&codec).await.remove(FEED_OBSERVED).unwrap();
    for length in 5..whole.len() {
        let decoded = codec.decode(&whole[..length]).await.unwrap();
        assert!(decoded.read::<FeedObservedRecord>().is_err(), "cut at {length}");
    }
}

#[tokio::test]
async fn the_built_in_registry_numbers_the_files() {
    for file in ALL {
        let id = BuiltInRegistry.register(file).await.unwrap();
        assert_eq!(BuiltInRegistry.fetch(id).await.unwrap().text, file.text);
    }
    assert!(BuiltInRegistry.fetch(0).await.is_err());
    assert!(BuiltInRegistry.fetch(9_999).await.is_err());
}

#[test]
fn types_of_events_follow_from_their_records() {
    let of = |record: &str| SchemaFile::newest(record).unwrap().event_type();
    for (record, event) in recipe_events() {
        assert_eq!(of(record), recipes::event_type(&event.fact));
    }
    for event in analysis_events() {
        let record = AnalysisEventRecord::from_domain(ANALYSIS_ID, &event).record();
        assert_eq!(of(record), analyses::event_type(&event.fact));
    }
    for (record, event) in subscription_events() {
        assert_eq!(of(record), subscriptions::event_type(event.fact));
    }
    for (record, event) in schedule_events() {
        assert_eq!(of(record), schedules::event_type(&event.fact));
    }
    for (record, event) in import_events() {
        assert_eq!(of(record), event.event_type());
    }
    for (record, event_type) in [
        (plans::LISTED, "plan.listed"),
        (plans::CHANGED, "plan.changed"),
        (plans::DELISTED, "plan.delisted"),
        (plans::RELISTED, "plan.relisted"),
        (plans::FEED_OBSERVED, "feed.observed"),
        (forecasts::PUBLISHED, forecasts::PUBLISHED_TYPE),
        (forecasts::UNAVAILABLE, forecasts::UNAVAILABLE_TYPE),
    ] {
        assert_eq!(of(record), event_type);
    }
}

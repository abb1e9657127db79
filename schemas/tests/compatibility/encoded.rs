//! Bytes of a sample of every record.

use crate::samples::{
    analyses::{ANALYSIS_ID, analysis_events, input_chunk},
    commands::{command, reply},
    forecasts::{forecast_published, forecast_requested, forecast_state, forecast_unavailable},
    imports::import_events,
    notifications::{delivery_attempted, delivery_due, fan_out_position},
    now,
    operations::{mending_events, operation_events, pausing_events},
    plans::{events, feed_observed},
    recipes::{RECIPE_ID, picture, recipe_events},
    schedules::{SCHEDULE_ID, schedule_events},
    subscriptions::{SUBSCRIPTION_ID, subscription_events},
};
use almanac_schemas::{
    Codec,
    analyses::{self, AnalysisEventRecord, INPUT_CHUNK},
    commands::{COMMAND, REPLY},
    forecasts,
    ingest::{
        FETCH_REQUESTED, FORECAST_REQUESTED, FORECAST_STATE, FetchRequestedRecord, PAYLOAD_CHUNK,
        PROVIDER_STATE, PayloadChunkRecord, ProviderStateRecord, QUARANTINED, QuarantinedRecord,
        REPLAY_REQUESTED, ReplayRequestedRecord,
    },
    mending, notifications, operations, pausing,
    plans::{FEED_OBSERVED, PlanEncoder, PlanRecord, STATE},
    projections::{PARTITIONS_CHANGED, PartitionsChangedRecord, TableChangeRecord},
    recipes, schedules, subscriptions,
};
use std::collections::BTreeMap;

/// Bytes of the newest version of every record, by record.
pub(crate) async fn encoded(codec: &Codec) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let encoder = PlanEncoder::new(codec).unwrap();
    for event in events() {
        let id = event.after.plan.identity.public_id().to_string();
        let bytes = encoder.plan(&PlanRecord::from_domain(&event.after.plan, &id)).unwrap();
        let (record, value) = encoder.event(&event, &bytes).unwrap();
        found.insert(record.to_owned(), value.to_vec());
        let state = encoder.state(7, &event.after, &bytes).unwrap();
        found.insert(STATE.to_owned(), state.to_vec());
    }
    let mut put = |record: &'static str, value: Result<bytes::Bytes, _>| {
        let value: Result<bytes::Bytes, almanac_schemas::CodecError> = value;
        found.insert(record.to_owned(), value.unwrap().to_vec());
    };
    put(FEED_OBSERVED, codec.encode(FEED_OBSERVED, &feed_observed()));
    let requested = FetchRequestedRecord {
        provider: "fever".to_owned(),
        requested_at: now().as_millisecond(),
        requested_by: "local".to_owned(),
    };
    put(FETCH_REQUESTED, codec.encode(FETCH_REQUESTED, &requested));
    let replay = ReplayRequestedRecord {
        provider: "fever".to_owned(),
        requested_at: now().as_millisecond(),
        requested_by: "local".to_owned(),
        since: Some(now().as_millisecond() - 1),
    };
    put(REPLAY_REQUESTED, codec.encode(REPLAY_REQUESTED, &replay));
    let state = ProviderStateRecord {
        provider: "fever".to_owned(),
        etag: Some("\"abc\"".to_owned()),
        last_modified: None,
        configuration: "1f".to_owned(),
        plans: 4,
        listed_plans: 3,
        suspect_bodies: 0,
        body_hash: Some("00ff".to_owned()),
        suspect_since: Some(now().as_millisecond()),
    };
    put(PROVIDER_STATE, codec.encode(PROVIDER_STATE, &state));
    let chunk = PayloadChunkRecord {
        payload_id: "p-1".to_owned(),
        provider: "fever".to_owned(),
        fetched_at: now().as_millisecond(),
        content_encoding: "zstd".to_owned(),
        chunk: 0,
        chunks: 1,
        bytes: &[0, 1, 255],
        charset: Some("windows-1252".to_owned()),
    };
    put(PAYLOAD_CHUNK, codec.encode(PAYLOAD_CHUNK, &chunk));
    let quarantined = QuarantinedRecord {
        provider: "fever".to_owned(),
        observed_at: now().as_millisecond(),
        payload_id: None,
        place: "14:10".to_owned(),
        subject: "plan 444/1642".to_owned(),
        reason: "impossible start".to_owned(),
        fragment: "<plan/>".to_owned(),
    };
    put(QUARANTINED, codec.encode(QUARANTINED, &quarantined));
    let changed = PartitionsChangedRecord {
        projection: "plans".to_owned(),
        version: 1,
        source_topic: "plans.events".to_owned(),
        source_partition: 3,
        position: 9,
        tables: vec![TableChangeRecord {
            table: "plans_by_start".to_owned(),
            partitions: vec!["2021-06-30".to_owned()],
            keys: vec!["k".to_owned()],
        }],
        consistency_token: Some("t".to_owned()),
        tables_id: Some("u".to_owned()),
        generation: 2,
    };
    put(PARTITIONS_CHANGED, codec.encode(PARTITIONS_CHANGED, &changed));
    for (record, event) in recipe_events() {
        put(record, recipes::encode(codec, RECIPE_ID, &event, Some(&picture())));
    }
    for event in analysis_events() {
        let value = analyses::encode(codec, ANALYSIS_ID, &event);
        put(AnalysisEventRecord::from_domain(ANALYSIS_ID, &event).record(), value);
    }
    put(INPUT_CHUNK, codec.encode(INPUT_CHUNK, &input_chunk()));
    put(forecasts::PUBLISHED, codec.encode(forecasts::PUBLISHED, &forecast_published()));
    put(forecasts::UNAVAILABLE, codec.encode(forecasts::UNAVAILABLE, &forecast_unavailable()));
    put(FORECAST_REQUESTED, codec.encode(FORECAST_REQUESTED, &forecast_requested()));
    put(FORECAST_STATE, codec.encode(FORECAST_STATE, &forecast_state()));
    for (record, event) in schedule_events() {
        put(record, schedules::encode(codec, SCHEDULE_ID, &event));
    }
    for (record, event) in subscription_events() {
        put(record, subscriptions::encode(codec, SUBSCRIPTION_ID, &event));
    }
    for event in operation_events() {
        put(operations::record_of(event.fact), operations::encode(codec, &event));
    }
    for event in mending_events() {
        put(mending::record_of(&event), mending::encode(codec, &event));
    }
    for event in pausing_events() {
        put(pausing::record_of(&event), pausing::encode(codec, &event));
    }
    put(notifications::DUE, codec.encode(notifications::DUE, &delivery_due()));
    put(notifications::ATTEMPTED, codec.encode(notifications::ATTEMPTED, &delivery_attempted()));
    put(notifications::POSITION, codec.encode(notifications::POSITION, &fan_out_position()));
    for (record, event) in import_events() {
        put(record, event.encode(codec));
    }
    put(COMMAND, codec.encode(COMMAND, &command()));
    put(REPLY, codec.encode(REPLY, &reply()));
    found
}

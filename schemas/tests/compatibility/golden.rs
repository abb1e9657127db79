//! Bytes of every version stay what they are, and are read for ever.

use crate::{
    encoded::encoded,
    samples::{
        analyses::{ANALYSIS_ID, analysis_events, input_chunk},
        commands::{command, reply},
        forecasts::{forecast_published, forecast_requested, forecast_state, forecast_unavailable},
        imports::import_events,
        notifications::{delivery_attempted, delivery_due, fan_out_position},
        now,
        operations::{mending_events, operation_events, pausing_events},
        plans::{events, feed_observed},
        recipes::{self as recipe_samples, recipe_events},
        schedules::{SCHEDULE_ID, schedule_events},
        subscriptions::subscription_events,
    },
    wire::codec,
};
use almanac_domain::analyses::{self as analysis_domain, Fact};
use almanac_schemas::{
    analyses::{AnalysisEventRecord, INPUT_CHUNK, InputChunkRecord},
    commands::{COMMAND, CommandRecord, REPLY, ReplyRecord},
    files::{ALL, SchemaFile},
    forecasts::{self, ForecastPublishedRecord, ForecastUnavailableRecord},
    imports::{self, ImportEvent},
    ingest::{
        FETCH_REQUESTED, FORECAST_REQUESTED, FORECAST_STATE, FetchRequestedRecord,
        ForecastRequestedRecord, ForecastStateRecord, PAYLOAD_CHUNK, PROVIDER_STATE,
        PayloadChunkRecord, ProviderStateRecord, QUARANTINED, QuarantinedRecord, REPLAY_REQUESTED,
        ReplayRequestedRecord,
    },
    mending::{self, MendingEventRecord},
    notifications::{self, DeliveryAttemptedRecord, DeliveryDueRecord, FanOutPositionRecord},
    operations::{self, OperationEventRecord},
    pausing::{self, PausingEventRecord},
    plans::{FEED_OBSERVED, FeedObservedRecord, PlanEventRecord, PlanStateRecord, STATE},
    projections::{PARTITIONS_CHANGED, PartitionsChangedRecord},
    recipes::{self, RecipeEventRecord},
    schedules::ScheduleEventRecord,
    subscriptions::SubscriptionEventRecord,
};
use std::{fs, path::PathBuf};

/// What is written today is what was written when the version landed. `ALMANAC_WRITE_GOLDEN=1`
/// writes files that are missing, for a new version; it never changes one.
#[tokio::test]
async fn golden_bytes_stay() {
    let encoded = encoded(&codec().await).await;
    for file in SchemaFile::all_newest() {
        let path = golden(file);
        let bytes =
            encoded.get(file.record).unwrap_or_else(|| panic!("no sample of {}", file.record));
        if !path.exists() && std::env::var_os("ALMANAC_WRITE_GOLDEN").is_some() {
            fs::write(&path, to_hex(bytes) + "\n").unwrap();
        }
        let stored =
            fs::read_to_string(&path).unwrap_or_else(|_| panic!("{} is missing", path.display()));
        assert_eq!(to_hex(bytes), stored.trim(), "{} version {}", file.record, file.version);
    }
}

/// Every version's golden bytes are read by today's types.
#[tokio::test]
async fn golden_bytes_are_read() {
    let codec = codec().await;
    for file in ALL {
        let value = from_hex(&fs::read_to_string(golden(file)).unwrap());
        let decoded = codec.decode(&value).await.unwrap();
        assert_eq!(decoded.record(), file.record);
        match file.record {
            FEED_OBSERVED => {
                assert_eq!(decoded.read::<FeedObservedRecord>().unwrap(), feed_observed())
            }
            FETCH_REQUESTED => drop(decoded.read::<FetchRequestedRecord>().unwrap()),
            REPLAY_REQUESTED => {
                let replay = decoded.read::<ReplayRequestedRecord>().unwrap();
                assert_eq!(replay.since, Some(replay.requested_at - 1));
            }
            PROVIDER_STATE => {
                let state = decoded.read::<ProviderStateRecord>().unwrap();
                let since = Some(now().as_millisecond()).filter(|_| file.version > 1);
                assert_eq!((state.listed_plans, state.suspect_since), (3, since));
            }
            PAYLOAD_CHUNK => {
                let chunk = decoded.read::<PayloadChunkRecord<'_>>().unwrap();
                let charset = Some("windows-1252".to_owned()).filter(|_| file.version > 1);
                assert_eq!((chunk.bytes, chunk.charset), ([0, 1, 255].as_slice(), charset));
            }
            forecasts::PUBLISHED => {
                let read = decoded.read::<ForecastPublishedRecord>().unwrap();
                assert_eq!(read, forecast_published());
                assert!(read.to_series().is_ok());
            }
            forecasts::UNAVAILABLE => {
                let read = decoded.read::<ForecastUnavailableRecord>().unwrap();
                assert_eq!(read, forecast_unavailable());
            }
            FORECAST_REQUESTED => {
                let read = decoded.read::<ForecastRequestedRecord>().unwrap();
                assert_eq!(read, forecast_requested());
            }
            FORECAST_STATE => {
                assert_eq!(decoded.read::<ForecastStateRecord>().unwrap(), forecast_state());
            }
            QUARANTINED => drop(decoded.read::<QuarantinedRecord>().unwrap()),
            COMMAND => {
                let read = decoded.read::<CommandRecord>().unwrap();
                let attachment = command().attachment.filter(|_| file.version > 1);
                assert_eq!(read, CommandRecord { attachment, ..command() });
            }
            REPLY => {
                let read = decoded.read::<ReplyRecord>().unwrap();
                let events_through = reply().events_through.filter(|_| file.version > 1);
                let through = reply().through.filter(|_| file.version > 2);
                assert_eq!(read, ReplyRecord { events_through, through, ..reply() });
            }
            record if record.starts_with("almanac.recipes.") => {
                let read = decoded.read::<RecipeEventRecord>().unwrap();
                let mut expected = recipe_events().into_iter();
                let (_, event) = expected.find(|(name, _)| *name == record).unwrap();
                assert_eq!(read.knowledge(record).unwrap(), event.after);
                let picture = read.clone().into_picture();
                assert_eq!(
                    picture,
                    (record == recipes::THUMBNAIL_SET).then(recipe_samples::picture)
                );
            }
            INPUT_CHUNK => {
                let read = decoded.read::<InputChunkRecord<'_>>().unwrap();
                assert_eq!(read, input_chunk());
            }
            record if record.starts_with("almanac.analyses.") => {
                let read = AnalysisEventRecord::read(&decoded).unwrap().unwrap();
                let mut expected = analysis_events().into_iter();
                let record = |event: &analysis_domain::Event| {
                    AnalysisEventRecord::from_domain(ANALYSIS_ID, event)
                };
                let event = expected.find(|event| record(event).record() == read.record());
                let event = event.unwrap();
                assert_eq!(read.knowledge().unwrap(), event.after);
                match (&read, &event.fact) {
                    (AnalysisEventRecord::Requested(read), Fact::Requested(request)) => {
                        assert_eq!(read.to_domain().as_ref(), Some(&**request));
                    }
                    (AnalysisEventRecord::Completed(read), Fact::Completed(outcome)) => {
                        assert_eq!(read.to_domain().as_ref(), Some(&**outcome));
                    }
                    _ => assert_eq!(read, record(&event)),
                }
            }
            record if record.starts_with("almanac.subscriptions.") => {
                let read = decoded.read::<SubscriptionEventRecord>().unwrap();
                let mut expected = subscription_events().into_iter();
                let (_, event) = expected.find(|(name, _)| *name == record).unwrap();
                assert_eq!(read.knowledge(record).unwrap(), event.after);
            }
            record @ (imports::STARTED | imports::COMPLETED) => {
                let expected = import_events().into_iter().find(|(name, _)| *name == record);
                assert_eq!(ImportEvent::read(&decoded).unwrap(), expected.map(|(_, event)| event));
            }
            record if mending::fact_of(record).is_some() => {
                let read = decoded.read::<MendingEventRecord>().unwrap();
                let mut expected = mending_events().into_iter();
                let event = expected.find(|event| mending::record_of(event) == record).unwrap();
                assert_eq!(read.knowledge(record).unwrap(), event.after);
                assert_eq!(read, MendingEventRecord::from_domain(&event));
            }
            record @ (pausing::PAUSED | pausing::RESUMED) => {
                let read = decoded.read::<PausingEventRecord>().unwrap();
                let mut expected = pausing_events().into_iter();
                let event = expected.find(|event| pausing::record_of(event) == record).unwrap();
                assert_eq!(read.knowledge(record), Some(event));
            }
            record if record.starts_with("almanac.operations.") => {
                let read = decoded.read::<OperationEventRecord>().unwrap();
                let mut expected = operation_events().into_iter();
                let event = expected.find(|event| operations::record_of(event.fact) == record);
                let event = event.unwrap();
                assert_eq!(read.knowledge(record).unwrap(), event.after);
                assert_eq!(read, OperationEventRecord::from_domain(&event));
            }
            notifications::DUE => {
                assert_eq!(decoded.read::<DeliveryDueRecord>().unwrap(), delivery_due());
            }
            notifications::ATTEMPTED => {
                let read = decoded.read::<DeliveryAttemptedRecord>().unwrap();
                assert_eq!(read, delivery_attempted());
            }
            notifications::POSITION => {
                let read = decoded.read::<FanOutPositionRecord>().unwrap();
                assert_eq!(read, fan_out_position());
            }
            record if record.starts_with("almanac.schedules.") => {
                let read = decoded.read::<ScheduleEventRecord>().unwrap();
                let mut expected = schedule_events().into_iter();
                let (_, event) = expected.find(|(name, _)| *name == record).unwrap();
                assert_eq!(read.knowledge(record).unwrap(), event.after);
                assert_eq!(read, ScheduleEventRecord::from_domain(SCHEDULE_ID, &event));
            }
            PARTITIONS_CHANGED => {
                let read = decoded.read::<PartitionsChangedRecord>().unwrap();
                assert_eq!(read.generation, if file.version > 3 { 2 } else { 0 });
            }
            STATE => {
                let state = decoded.read::<PlanStateRecord<'_>>().unwrap();
                assert_eq!(state.knowledge().unwrap(), events()[3].after);
            }
            _ => {
                let event = decoded.read::<PlanEventRecord<'_>>().unwrap();
                let expected = &events()[event.sequence as usize - 1];
                assert_eq!(event.plan.to_domain().unwrap(), expected.after.plan);
                assert_eq!(event.listed, expected.after.listed);
                let changes = matches!(event.sequence, 2 | 4);
                assert_eq!(event.previous_starts_at.is_some(), changes);
            }
        }
    }
}

pub(crate) fn golden(file: &SchemaFile) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(format!("{}.v{}.hex", file.record, file.version))
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn from_hex(text: &str) -> Vec<u8> {
    let text = text.trim();
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

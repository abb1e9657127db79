//! What a body leads to, by what was said before.

use super::*;
use almanac_event_log::TopicId;
use almanac_processor::StateFolder;
use almanac_schemas::BuiltInRegistry;
use jiff::SignedDuration;
use std::sync::Arc;

fn now() -> Timestamp {
    "2021-06-30T19:00:00Z".parse().unwrap()
}

/// A comparison with nothing known but these counters.
async fn compared(
    body: &str,
    provider: ProviderStateRecord,
    options: &IngestOptions,
) -> Result<Comparison, CompareError> {
    let folder = tempfile::tempdir().unwrap();
    let states = StateFolder::open(folder.path()).unwrap();
    let (state, _) = states.partition(0, TopicId(Uuid::nil()), 0).unwrap();
    let codec = Codec::new(Arc::new(BuiltInRegistry)).await.unwrap();
    let encoder = PlanEncoder::new(&codec).unwrap();
    let config = crate::tests::provider("fever", "http://127.0.0.1/");
    let context = Context {
        settings: &config.feed_settings(options).unwrap(),
        options,
        state: &state,
        provider: &provider,
        codec: &codec,
        encoder: &encoder,
        now: now(),
        payload_id: "p",
        charset: None,
        record_faults: true,
    };
    compare(body.as_bytes(), &context)
}

/// A small body may hold very many faults: what it makes us write is bounded, and counted.
#[tokio::test]
async fn faults_beyond_a_bound_are_one_record() {
    let zone = "<zone/>";
    let before = "<planList><output><base_plan base_plan_id=\"1\" sell_mode=\"online\" title=\"T\">\
         <plan plan_id=\"1\" plan_start_date=\"2021-06-30T21:00:00\">";
    let zones = zone.repeat(50_000);
    let body = format!("{before}{zones}</plan></base_plan></output></planList>");
    let options = IngestOptions { max_quarantined: 100, ..IngestOptions::default() };
    let found = compared(&body, ProviderStateRecord::default(), &options).await.unwrap();
    assert_eq!((found.counts.quarantined, found.faults.len()), (50_000, NAMED_FAULTS));
    assert_eq!(found.counts.listed, 1, "the plan itself is fine");
    let mut steps = found.outbox.into_steps().unwrap();
    let (mut records, mut bytes) = (Vec::new(), 0);
    while let Some(step) = steps.next().unwrap() {
        if let Step::Quarantine { record } = step {
            bytes += record.len();
            records.push(record);
        }
    }
    assert_eq!(records.len(), 101);
    assert!(bytes < 20_000, "{bytes}");
    let codec = Codec::new(Arc::new(BuiltInRegistry)).await.unwrap();
    let last: QuarantinedRecord = codec.decode(&records[100]).await.unwrap().read().unwrap();
    assert!(last.reason.starts_with("49900 more"), "{}", last.reason);
    let column = before.len() + 100 * zone.len() + 1;
    assert_eq!((last.subject, last.place), ("body".to_owned(), format!("1:{column}")));
}

/// However quickly they come, repetitions alone make nothing believable.
#[tokio::test]
async fn a_suspect_body_is_believed_after_repeats_and_time() {
    let options = IngestOptions::default();
    let suspect = async |bodies, minutes: Option<i64>| {
        let since =
            minutes.map(|minutes| (now() - SignedDuration::from_mins(minutes)).as_millisecond());
        let provider = ProviderStateRecord {
            listed_plans: 30,
            suspect_bodies: bodies,
            suspect_since: since,
            ..ProviderStateRecord::default()
        };
        compared("<planList/>", provider, &options).await.unwrap().suspect
    };
    assert!(suspect(0, None).await.is_some());
    assert!(suspect(1, Some(60)).await.is_some(), "two in an hour are two");
    assert!(suspect(2, Some(0)).await.is_some(), "three within seconds");
    let shown = suspect(50, Some(14)).await.unwrap();
    assert!(shown.contains("over at least 15m") && shown.contains("time 51 after 14m"), "{shown}");
    assert_eq!(suspect(2, Some(15)).await, None);
    // As a version wrote it that did not know since when: it counts from now on.
    assert!(suspect(2, None).await.is_some());
    let few = ProviderStateRecord { listed_plans: 19, ..ProviderStateRecord::default() };
    assert!(compared("<planList/>", few, &options).await.unwrap().suspect.is_none());
}

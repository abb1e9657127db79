//! How long the owner of a partition with many aggregates needs before it decides.

use crate::line;
use almanac_command_api::{DeciderOptions, Topics};
use almanac_domain::{
    aggregate::{Caller, Expected},
    recipes::{Command, decide},
};
use almanac_event_log::{
    Append, EventLog, Headers, Isolation, ReadLimit, Record,
    embedded::{EmbeddedLog, EmbeddedOptions},
};
use almanac_processor::ProcessorOptions;
use almanac_schemas::{
    BuiltInRegistry, Codec,
    commands::{COMMAND, CommandRecord},
    json, recipes,
};
use almanac_tests::decider;
use bytes::Bytes;
use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const AGGREGATES: usize = 1_000_000;
const ROUNDS: usize = 3;
const RECIPE: &str = include_str!("../../../data/recipe.json");

pub(crate) async fn report(out: &mut String) {
    let folder = tempfile::tempdir().unwrap();
    let log: Arc<dyn EventLog> =
        Arc::new(EmbeddedLog::open(EmbeddedOptions::new(folder.path().join("log"))).unwrap());
    let codec = Arc::new(Codec::new(Arc::new(BuiltInRegistry)).await.unwrap());
    let topics = Topics::new("", 1);
    log.ensure_topics(&topics.specs(Duration::from_secs(86_400))).await.unwrap();
    fill(&*log, &codec).await;
    let state = folder.path().join("state");
    let without = take_over(&log, &codec, &topics, &state).await;
    let mut with = Vec::new();
    for _ in 0..ROUNDS {
        with.push(take_over(&log, &codec, &topics, &state).await);
    }
    let with = crate::median(with);
    line!(
        out,
        "## Take-over of a partition\n{AGGREGATES} recipes in one partition of the embedded log; from joining the group, the local state's store not yet open, to the reply to a command that waits.\n\n| without local state | with it (median of {ROUNDS}) | ratio |\n|---|---|---|\n| {without:.2} s | {with:.2} s | {:.3} |",
        with / without
    );
}

async fn fill(log: &dyn EventLog, codec: &Codec) {
    let recipe = json::recipes::read(RECIPE.as_bytes()).unwrap().unwrap();
    let caller = Caller { subject: "mary".to_owned(), is_admin: false };
    let command = Command::Create { recipe: Box::new(recipe) };
    let event = decide(None, command, &caller, &Expected::Any, jiff::Timestamp::now());
    let event = event.unwrap().unwrap();
    let topic: Arc<str> = recipes::TOPIC.into();
    for chunk in 0..AGGREGATES / 5_000 {
        let appends = (0..5_000).map(|number| {
            let id = Uuid::from_u128((chunk * 5_000 + number) as u128).to_string();
            let value = recipes::encode(codec, &id, &event, None).unwrap();
            let record = Record {
                key: id.into(),
                value: Some(value),
                headers: Headers::default(),
                timestamp_ms: 0,
            };
            Append { topic: topic.clone(), partition: 0, record }
        });
        log.append(appends.collect()).await.unwrap();
    }
}

/// Seconds until a command that waits is answered by a decider that was not there before.
async fn take_over(
    log: &Arc<dyn EventLog>,
    codec: &Arc<Codec>,
    topics: &Topics,
    state: &Path,
) -> f64 {
    let id = Uuid::from_u128(AGGREGATES as u128 / 2).to_string();
    let now = jiff::Timestamp::now().as_millisecond();
    let command = CommandRecord {
        request_id: Uuid::new_v4().to_string(),
        outcome_id: Uuid::new_v4().to_string(),
        context: "recipes".to_owned(),
        aggregate_id: id.clone(),
        verb: "patch".to_owned(),
        caller: "mary".to_owned(),
        is_admin: false,
        issued_at: now,
        deadline: now + 600_000,
        expected: None,
        fingerprint: String::new(),
        body: Some(format!("{{\"calories\": {}}}", now % 10_000)),
        attachment: None,
    };
    let value = Some(codec.encode(COMMAND, &command).unwrap());
    let key = Bytes::from(id);
    let record = Record { key, value, headers: Headers::default(), timestamp_ms: now };
    let append = Append { topic: topics.commands().into(), partition: 0, record };
    log.append(vec![append]).await.unwrap();
    let from = log.end("replies", 0, Isolation::Committed).await.unwrap();
    let mut replies = log.read("replies", &[(0, from)]).await.unwrap();

    let started = Instant::now();
    let decider = decider(topics.clone(), codec.clone(), state, DeciderOptions::default());
    let stop = CancellationToken::new();
    let options = ProcessorOptions::new("decider", topics.commands(), "one");
    let running = almanac_processor::run(log.clone(), options, Arc::new(decider), stop.clone());
    let running = tokio::spawn(running);
    let limit = ReadLimit { records: 10, bytes: 1 << 20 };
    while replies.next(limit, Duration::from_secs(1)).await.unwrap().records.is_empty() {
        assert!(!running.is_finished(), "the decider ended");
    }
    let took = started.elapsed().as_secs_f64();
    stop.cancel();
    running.await.unwrap().unwrap();
    took
}

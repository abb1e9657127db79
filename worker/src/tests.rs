//! The worker on the embedded log, with a decider and a provider that do as they are told.

use crate::{
    Parts, Topics, Worker, WorkerMetrics, WorkerOptions,
    outcome::{Made, Material},
    role::Compute,
};
use almanac_domain::{
    aggregate::{Caller, Expected},
    analyses::{Command, Failure, Knowledge, Origin, Request, Stage, Subject, WORKER, decide},
    schedules,
    weather::{
        AlphaTable, Between, Combine, Limit, Location, Options, Place, Schedule, SeriesDraft, Task,
        Variable,
    },
};
use almanac_event_log::{
    Append, EventLog, Headers, LogReader, ReadLimit, Record, StoredRecord,
    conformance::spec,
    embedded::{EmbeddedLog, EmbeddedOptions},
    partitioner::partition_of,
};
use almanac_processor::{ProcessorOptions, StateFolder};
use almanac_schemas::{
    BuiltInRegistry, Codec,
    analyses::{
        AnalysisCompletedRecord, AnalysisEventRecord, AnalysisFailedRecord,
        AnalysisProgressedRecord, AnalysisRequestedRecord, encode,
    },
    commands::CommandRecord,
    forecasts::{
        ForecastPublishedRecord, ForecastUnavailableRecord, PUBLISHED, SeriesRecord, UNAVAILABLE,
    },
    ingest::ForecastRequestedRecord,
};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const PARTITIONS: u32 = 2;
const PROVIDER: &str = "met-norway";

/// How a provider answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answers {
    Published,
    Unavailable,
    Nothing,
}

#[derive(Default)]
struct Told {
    /// Commands that get lost.
    lost: AtomicUsize,
    commands: AtomicUsize,
    forecasts_asked: AtomicUsize,
    known: Mutex<HashMap<String, Knowledge>>,
    /// By analysis, its events.
    events: Mutex<HashMap<String, Vec<AnalysisEventRecord>>>,
}

struct Installation {
    log: Arc<dyn EventLog>,
    codec: Arc<Codec>,
    folder: tempfile::TempDir,
    told: Arc<Told>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Installation {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn append(topic: &str, key: &str, value: bytes::Bytes) -> Append {
    let partition = partition_of(key.as_bytes(), PARTITIONS);
    let (key, headers) = (key.to_owned().into(), Headers::default());
    let record = Record { key, value: Some(value), headers, timestamp_ms: 0 };
    Append { topic: topic.into(), partition, record }
}

/// The records of a topic, from the beginning.
struct Records(Box<dyn LogReader>);

impl Records {
    async fn of(log: &dyn EventLog, topic: &str) -> Self {
        Self(log.read(topic, &[(0, 0), (1, 0)]).await.unwrap())
    }

    async fn next(&mut self) -> Vec<StoredRecord> {
        let limit = ReadLimit { records: 100, bytes: 1 << 20 };
        self.0.next(limit, Duration::from_secs(1)).await.unwrap().records
    }
}

impl Installation {
    async fn new(answers: Answers) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = EmbeddedOptions::new(folder.path().join("log"));
        let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::open(options).unwrap());
        let names = [
            "analyses.events",
            "analyses.inputs",
            "schedules.events",
            "forecasts.events",
            "commands",
            "ingest.requests",
        ];
        log.ensure_topics(&names.map(|name| spec(name, PARTITIONS))).await.unwrap();
        let codec = Arc::new(Codec::new(Arc::new(BuiltInRegistry)).await.unwrap());
        let mut installation = Self { log, codec, folder, told: Arc::default(), tasks: Vec::new() };
        installation.decides();
        installation.provides(answers);
        installation
    }

    fn decides(&mut self) {
        let (log, codec, told) = (self.log.clone(), self.codec.clone(), self.told.clone());
        self.tasks.push(tokio::spawn(async move {
            let mut records = Records::of(&*log, "commands").await;
            loop {
                for stored in records.next().await {
                    let value = stored.record.value.unwrap();
                    let command: CommandRecord =
                        codec.decode(&value).await.unwrap().read().unwrap();
                    told.commands.fetch_add(1, Ordering::SeqCst);
                    let lost = |left: usize| left.checked_sub(1);
                    if told.lost.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lost).is_ok() {
                        continue;
                    }
                    decided(&*log, &codec, &told, &command.aggregate_id, wanted(&command)).await;
                }
            }
        }));
    }

    fn provides(&mut self, answers: Answers) {
        let (log, codec, told) = (self.log.clone(), self.codec.clone(), self.told.clone());
        self.tasks.push(tokio::spawn(async move {
            let mut records = Records::of(&*log, "ingest.requests").await;
            loop {
                for stored in records.next().await {
                    let value = stored.record.value.unwrap();
                    let request: ForecastRequestedRecord =
                        codec.decode(&value).await.unwrap().read().unwrap();
                    told.forecasts_asked.fetch_add(1, Ordering::SeqCst);
                    let place = Place::parse(&request.lat, &request.lon).unwrap();
                    match answers {
                        Answers::Nothing => {}
                        Answers::Published => publish(&*log, &codec, place, 3_600).await,
                        Answers::Unavailable => unavailable(&*log, &codec, place).await,
                    }
                }
            }
        }));
    }

    async fn worker(&self, name: &str, compute: Compute) -> (Arc<Worker>, Running) {
        let folder = |part: &str| {
            StateFolder::open(&self.folder.path().join(format!("{name}-{part}"))).unwrap()
        };
        let parts = Parts {
            log: self.log.clone(),
            codec: self.codec.clone(),
            topics: Topics::new("", PARTITIONS),
            options: WorkerOptions {
                ask_again: Duration::from_millis(300),
                forecast_wait: Duration::from_millis(900),
                computation_time: Duration::from_millis(500),
                ..WorkerOptions::default()
            },
            providers: vec![PROVIDER.to_owned()],
            analyses: folder("analyses"),
            schedules: folder("schedules"),
            forecasts: folder("forecasts"),
            metrics: WorkerMetrics::register(&mut Registry::default()),
        };
        let mut worker = Worker::new(parts).await.unwrap();
        worker.compute = compute;
        let worker = Arc::new(worker);
        let stop = CancellationToken::new();
        let options = ProcessorOptions::new("worker", worker.input(), name);
        let owning =
            almanac_processor::run(self.log.clone(), options, worker.clone(), stop.clone());
        let (owning, working) = (tokio::spawn(owning), tokio::spawn(worker.clone().run()));
        (worker, Running { stop, working, owning: Some(owning) })
    }

    /// A schedule of mary's, made at a time.
    async fn keep(&self, schedule: Schedule, at: Timestamp) -> String {
        let id = Uuid::now_v7().to_string();
        let create = schedules::Command::Create { schedule: Box::new(schedule) };
        let mary = Caller { subject: "mary".to_owned(), is_admin: false };
        let event = schedules::decide(None, create, &mary, &Expected::Any, at).unwrap().unwrap();
        let value = almanac_schemas::schedules::encode(&self.codec, &id, &event).unwrap();
        self.log.append(vec![append("schedules.events", &id, value)]).await.unwrap();
        id
    }

    async fn request(&self, subject: Subject) -> String {
        self.request_with(subject, Options::default(), &[]).await
    }

    async fn request_with(&self, subject: Subject, options: Options, sources: &[&str]) -> String {
        let id = Uuid::now_v7().to_string();
        let request = Request {
            subject,
            input: None,
            sources: sources.iter().map(|source| (*source).to_owned()).collect(),
            options,
            origin: Origin::Request,
        };
        let command = Command::Request { request: Box::new(request), owner: None };
        decided(&*self.log, &self.codec, &self.told, &id, (command, "mary".to_owned())).await;
        id
    }

    /// The last event, once it is an end.
    async fn ended(&self, id: &str) -> AnalysisEventRecord {
        loop {
            let last = self.told.events.lock().get(id).and_then(|events| events.last().cloned());
            let is_end = |event: &AnalysisEventRecord| event.knowledge().unwrap().state.is_ended();
            if let Some(event) = last.filter(is_end) {
                return event;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn completed(&self, id: &str) -> AnalysisCompletedRecord {
        match self.ended(id).await {
            AnalysisEventRecord::Completed(record) => *record,
            other => panic!("{other:?}"),
        }
    }

    async fn failed(&self, id: &str) -> AnalysisFailedRecord {
        match self.ended(id).await {
            AnalysisEventRecord::Failed(record) => record,
            other => panic!("{other:?}"),
        }
    }
}

struct Running {
    stop: CancellationToken,
    working: JoinHandle<Result<(), almanac_processor::RoleError>>,
    owning: Option<JoinHandle<Result<(), almanac_processor::ProcessorError>>>,
}

impl Running {
    async fn stop(mut self) {
        self.stop.cancel();
        if let Some(owning) = self.owning.take() {
            owning.await.unwrap().unwrap();
        }
        self.working.abort();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
        self.working.abort();
    }
}

fn wanted(command: &CommandRecord) -> (Command, String) {
    let body = command.body.as_deref().unwrap();
    let wanted = match command.verb.as_str() {
        "request" => {
            let record: AnalysisRequestedRecord = serde_json::from_str(body).unwrap();
            let request = Box::new(record.to_domain().unwrap());
            Command::Request { request, owner: Some(record.owner) }
        }
        "complete" => {
            let record: AnalysisCompletedRecord = serde_json::from_str(body).unwrap();
            Command::Complete { outcome: Box::new(record.to_domain().unwrap()) }
        }
        "fail" => {
            let record: AnalysisFailedRecord = serde_json::from_str(body).unwrap();
            let AnalysisFailedRecord { code, detail, .. } = record;
            Command::Fail { failure: Failure { code, detail } }
        }
        _ => {
            let record: AnalysisProgressedRecord = serde_json::from_str(body).unwrap();
            Command::Progress { stage: Stage::parse(&record.stage).unwrap() }
        }
    };
    assert_eq!(command.caller, WORKER);
    (wanted, command.caller.clone())
}

async fn decided(
    log: &dyn EventLog,
    codec: &Codec,
    told: &Told,
    id: &str,
    (command, subject): (Command, String),
) {
    let known = told.known.lock().get(id).cloned();
    let caller = Caller { subject, is_admin: false };
    let event = decide(known.as_ref(), command, &caller, &Expected::Any, Timestamp::now());
    let Ok(Some(event)) = event else { return };
    told.known.lock().insert(id.to_owned(), event.after.clone());
    let record = AnalysisEventRecord::from_domain(id, &event);
    told.events.lock().entry(id.to_owned()).or_default().push(record);
    let value = encode(codec, id, &event).unwrap();
    log.append(vec![append("analyses.events", id, value)]).await.unwrap();
}

/// Calm seas for two days, fresh for so many seconds.
async fn publish(log: &dyn EventLog, codec: &Codec, place: Place, fresh_s: i64) {
    let now = Timestamp::now();
    let times: Vec<Timestamp> =
        (0..48).map(|hour| now + SignedDuration::from_hours(hour - 1)).collect();
    let untils = times.iter().map(|time| Some(*time + SignedDuration::from_hours(1)));
    let draft = SeriesDraft {
        source: PROVIDER.to_owned(),
        step_s: None,
        untils: untils.collect(),
        columns: vec![(Variable::WaveHeight, vec![Some(1.into()); 48])],
        times,
    };
    let now = now.as_millisecond();
    let record = ForecastPublishedRecord {
        source: PROVIDER.to_owned(),
        lat: place.lat().to_string(),
        lon: place.lon().to_string(),
        fetch_id: "f".to_owned(),
        fetched_at: now,
        fresh_until: now + fresh_s * 1_000,
        issued_at: None,
        attribution: String::new(),
        series: vec![SeriesRecord::new(&draft.check().unwrap(), None, None)],
        trimmed_after: None,
    };
    let value = codec.encode(PUBLISHED, &record).unwrap();
    log.append(vec![append("forecasts.events", &place.key(PROVIDER), value)]).await.unwrap();
}

async fn unavailable(log: &dyn EventLog, codec: &Codec, place: Place) {
    let now = Timestamp::now().as_millisecond();
    let record = ForecastUnavailableRecord {
        source: PROVIDER.to_owned(),
        lat: place.lat().to_string(),
        lon: place.lon().to_string(),
        fetch_id: "f".to_owned(),
        observed_at: now,
        code: "rate_limited".to_owned(),
        detail: "the service asks for a pause".to_owned(),
        retry_at: Some(now + 60_000),
    };
    let value = codec.encode(UNAVAILABLE, &record).unwrap();
    log.append(vec![append("forecasts.events", &place.key(PROVIDER), value)]).await.unwrap();
}

fn schedule(repeat_every_s: Option<i64>) -> Schedule {
    let limits = vec![Limit { variable: Variable::WaveHeight, min: None, max: Some(2.into()) }];
    let task = Task {
        id: "lift".to_owned(),
        name: "Lift".to_owned(),
        duration_s: 7_200,
        contingency_s: None,
        predecessors: Vec::new(),
        limits,
    };
    let location = Location { lat: 60.into(), lon: 5.into() };
    Schedule { name: "s".to_owned(), location, repeat_every_s, tasks: vec![task] }
}

fn inline() -> Subject {
    Subject::Inline(Box::new(schedule(None)))
}

fn place() -> Place {
    Place::of(&schedule(None).location).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn analyses_of_a_place_share_one_request_for_its_forecast() {
    let installation = Installation::new(Answers::Published).await;
    let (_worker, _running) = installation.worker("one", Material::compute).await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(installation.request(inline()).await);
    }
    for id in &ids {
        let completed = installation.completed(id).await;
        assert_eq!((completed.is_stale, completed.forecasts.len()), (false, 1));
        assert!(completed.tasks[0].start.is_some());
    }
    assert_eq!(installation.told.forecasts_asked.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_forecast_is_used_and_told_where_there_is_no_fresh_one() {
    let installation = Installation::new(Answers::Unavailable).await;
    let (_worker, _running) = installation.worker("one", Material::compute).await;
    let failed = installation.request(inline()).await;
    let failed = installation.failed(&failed).await;
    assert_eq!(failed.code, "no_forecast");
    assert!(failed.detail.contains("the service asks for a pause"), "{}", failed.detail);
    publish(&*installation.log, &installation.codec, place(), -1).await;
    loop {
        let id = installation.request(inline()).await;
        // The forecast is on its way to the worker.
        let AnalysisEventRecord::Completed(completed) = installation.ended(&id).await else {
            continue;
        };
        assert!(completed.is_stale);
        assert_eq!(completed.warnings[0].code, "stale_forecast");
        break;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_says_nothing_is_asked_again_and_given_up() {
    let installation = Installation::new(Answers::Nothing).await;
    let (_worker, _running) = installation.worker("one", Material::compute).await;
    let ids = [installation.request(inline()).await, installation.request(inline()).await];
    for id in &ids {
        let failed = installation.failed(id).await;
        assert!(failed.detail.contains("did not answer in time"), "{}", failed.detail);
    }
    let asked = installation.told.forecasts_asked.load(Ordering::SeqCst);
    assert!((2..=4).contains(&asked), "asked {asked} times for both");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_gets_lost_is_sent_again() {
    let installation = Installation::new(Answers::Published).await;
    installation.told.lost.store(2, Ordering::SeqCst);
    let (_worker, _running) = installation.worker("one", Material::compute).await;
    let id = installation.request(inline()).await;
    installation.completed(&id).await;
    assert_eq!(installation.told.commands.load(Ordering::SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_panics_or_takes_too_long_is_started_over_and_given_up() {
    fn panics(_: &Material) -> Result<Made, Failure> {
        panic!("made to")
    }
    fn sleeps(_: &Material) -> Result<Made, Failure> {
        std::thread::sleep(Duration::from_secs(2));
        panic!("too late")
    }
    for compute in [panics as Compute, sleeps] {
        let installation = Installation::new(Answers::Published).await;
        let (worker, _running) = installation.worker("one", compute).await;
        let id = installation.request(inline()).await;
        let failed = installation.failed(&id).await;
        assert_eq!(failed.code, "gave_up");
        assert!(failed.detail.contains("3 attempts"), "{}", failed.detail);
        assert!(worker.is_ready(), "others go on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_worker_takes_over() {
    let installation = Installation::new(Answers::Published).await;
    fn sleeps(_: &Material) -> Result<Made, Failure> {
        std::thread::sleep(Duration::from_millis(400));
        let (code, detail) = (String::new(), String::new());
        Err(Failure { code, detail })
    }
    let (first, running) = installation.worker("first", sleeps).await;
    let id = installation.request(inline()).await;
    while first.board.load().working == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    running.stop().await;
    let (_second, _running) = installation.worker("second", Material::compute).await;
    installation.completed(&id).await;
    assert_eq!(installation.told.events.lock()[&id].len(), 2);
}

/// Written an hour ago, to be repeated every 15 minutes: it is analysed once, for the first time that
/// passed, whoever owns it; and then waits for its next time.
#[tokio::test(flavor = "multi_thread")]
async fn a_timer_fires_once_after_a_take_over_too() {
    let installation = Installation::new(Answers::Published).await;
    let an_hour_ago = Timestamp::now() - SignedDuration::from_hours(1);
    let id = installation.keep(schedule(Some(900)), an_hour_ago).await;
    // The command of the first gets lost with the worker.
    installation.told.lost.store(1, Ordering::SeqCst);
    let (_first, running) = installation.worker("first", Material::compute).await;
    while installation.told.commands.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    running.stop().await;
    let (_second, _running) = installation.worker("second", Material::compute).await;
    let repeat = loop {
        let first = installation.told.events.lock().keys().next().cloned();
        match first {
            Some(repeat) => break repeat,
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    let completed = installation.completed(&repeat).await;
    assert_eq!((&*completed.owner, &*completed.origin), ("mary", "repeat"));
    assert_eq!(completed.schedule_id.as_deref(), Some(&*id));
    // Another worker that knows nothing yet fires the same timer at most.
    let (third, _third) = installation.worker("third", Material::compute).await;
    while !third.is_ready() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(installation.told.events.lock().len(), 1);
}

/// What changed is told against the newest result with the same options and sources, whatever was asked
/// for in between; after a take-over too.
#[tokio::test(flavor = "multi_thread")]
async fn results_are_compared_with_those_of_their_manner() {
    let installation = Installation::new(Answers::Published).await;
    let (_first, running) = installation.worker("first", Material::compute).await;
    let id = installation.keep(schedule(None), Timestamp::now()).await;
    let hold = Options { between: Between::Hold, ..Options::default() };
    let worst = Options { combine: Combine::Worst, ..Options::default() };
    let alpha = Options { alpha: Some(AlphaTable::T41), ..Options::default() };
    let later = Timestamp::now() + SignedDuration::from_hours(1);
    let later = Options { start_from: Some(later), ..Options::default() };
    let analyse = async |options: Options, sources: &[&str]| {
        let subject = Subject::Stored(id.clone());
        let analysis = installation.request_with(subject, options, sources).await;
        let previous = installation.completed(&analysis).await.previous;
        (analysis, previous)
    };
    let mut newest = Vec::new();
    let manners = [(Options::default(), &[][..]), (hold, &[]), (worst, &[]), (alpha, &[])];
    let manners = [&manners[..], &[(Options::default(), &[PROVIDER][..])]].concat();
    for (options, sources) in &manners {
        let (analysis, previous) = analyse(*options, sources).await;
        assert_eq!(previous, None, "{options:?} {sources:?}");
        newest.push(analysis);
    }
    running.stop().await;
    let (_second, _running) = installation.worker("second", Material::compute).await;
    for ((options, sources), before) in manners.iter().zip(newest.clone()) {
        let (_, previous) = analyse(*options, sources).await;
        assert_eq!(previous, Some(before), "{options:?} {sources:?}");
    }
    // From when on is no other manner: only starts that both could see are compared.
    let (_, previous) = analyse(later, &[]).await;
    assert!(previous.is_some_and(|before| !newest.contains(&before)));
}

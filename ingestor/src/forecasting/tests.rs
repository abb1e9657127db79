//! A provider's owner on the embedded log, with a service on loopback that answers what a test wants.

use crate::{
    IngestMetrics, Ingestor, Topics,
    config::{IngestOptions, ProviderConfig, ProviderKind},
    request_forecast,
    tests::{Server, answer, provider},
};
use almanac_domain::weather::{Place, Variable};
use almanac_event_log::{
    EventLog, Isolation, ReadLimit, StoredRecord,
    embedded::{EmbeddedLog, EmbeddedOptions},
};
use almanac_processor::{ProcessorError, ProcessorOptions, StateFolder, run};
use almanac_schemas::{
    BuiltInRegistry, Codec,
    forecasts::{ForecastPublishedRecord, ForecastUnavailableRecord, PUBLISHED, UNAVAILABLE, code},
    ingest::QuarantinedRecord,
    plans::FeedObservedRecord,
};
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const NAME: &str = "weather";
const PATIENCE: Duration = Duration::from_secs(30);

fn file(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/weather/");
    std::fs::read(format!("{folder}{name}")).unwrap()
}

fn location() -> Vec<u8> {
    file("met-locationforecast-complete.one-step.json")
}

fn ocean() -> Vec<u8> {
    file("met-oceanforecast-complete.real-excerpt.json")
}

/// An installation with one provider.
struct Stage {
    folder: TempDir,
    log: EmbeddedLog,
    codec: Arc<Codec>,
    topics: Topics,
    config: ProviderConfig,
    running: Option<(CancellationToken, JoinHandle<Result<(), ProcessorError>>)>,
}

#[derive(Debug)]
enum Event {
    Published(ForecastPublishedRecord),
    Unavailable(ForecastUnavailableRecord),
}

impl Event {
    fn published(self) -> ForecastPublishedRecord {
        match self {
            Self::Published(published) => published,
            Self::Unavailable(unavailable) => panic!("{unavailable:?}"),
        }
    }

    fn unavailable(self) -> ForecastUnavailableRecord {
        match self {
            Self::Unavailable(unavailable) => unavailable,
            Self::Published(published) => panic!("{published:?}"),
        }
    }
}

impl Stage {
    async fn start(kind: ProviderKind, server: &Server) -> Self {
        Self::start_with(kind, server, |_| {}).await
    }

    async fn start_with(
        kind: ProviderKind,
        server: &Server,
        change: impl FnOnce(&mut ProviderConfig),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(EmbeddedOptions::new(folder.path().join("log"))).unwrap();
        let topics = Topics::new("", 2);
        log.ensure_topics(&topics.specs(Duration::from_secs(3_600))).await.unwrap();
        let mut config = ProviderConfig { kind, ..provider(NAME, "") };
        config.url = format!("http://{}/weather", server.address).into();
        config.forecasts.marine_url = format!("http://{}/marine", server.address).into();
        config.headers.insert("User-Agent".to_owned(), "test.example ops@test.example".into());
        change(&mut config);
        let codec = Arc::new(Codec::new(Arc::new(BuiltInRegistry)).await.unwrap());
        let mut stage = Self { folder, log, codec, topics, config, running: None };
        stage.run("state");
        stage
    }

    fn run(&mut self, state: &str) {
        let options = IngestOptions {
            backoff: Duration::from_secs(60),
            max_forecast_bytes: 64 << 10,
            ..IngestOptions::default()
        };
        let ingestor = Ingestor::new(
            self.topics.clone(),
            options,
            std::slice::from_ref(&self.config),
            self.codec.clone(),
            StateFolder::open(&self.folder.path().join(state)).unwrap(),
            tokio::sync::watch::channel(Arc::default()).1,
            IngestMetrics::register(&mut Registry::default()),
        );
        let stop = CancellationToken::new();
        let options = ProcessorOptions {
            restart_pause: Duration::from_millis(1),
            ..ProcessorOptions::new("ingestor", self.topics.requests(), "one")
        };
        let log = Arc::new(self.log.clone());
        let task = tokio::spawn(run(log, options, Arc::new(ingestor.unwrap()), stop.clone()));
        self.running = Some((stop, task));
    }

    async fn stop(&mut self) {
        let (stop, task) = self.running.take().unwrap();
        stop.cancel();
        task.await.unwrap().unwrap();
    }

    async fn ask(&self, lat: &str, lon: &str) {
        let place = Place::parse(lat, lon).unwrap();
        request_forecast(&self.log, &self.topics, &self.codec, NAME, place, "test").await.unwrap();
    }

    async fn records(&self, topic: &str) -> Vec<StoredRecord> {
        let mut found = Vec::new();
        for partition in 0..2 {
            let end = self.log.end(topic, partition, Isolation::Committed).await.unwrap();
            let mut reader = self.log.read_to(topic, partition, 0, end).await.unwrap();
            loop {
                let limit = ReadLimit { records: 1_000, bytes: 8 << 20 };
                let batch = reader.next(limit, PATIENCE).await.unwrap();
                if batch.records.is_empty() && !batch.at_end.is_empty() {
                    break;
                }
                found.extend(batch.records);
            }
        }
        found.sort_by_key(|stored| stored.record.timestamp_ms);
        found
    }

    async fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for stored in self.records("forecasts.events").await {
            let decoded = self.codec.decode(stored.record.value.as_ref().unwrap()).await.unwrap();
            events.push(match decoded.record() {
                PUBLISHED => Event::Published(decoded.read().unwrap()),
                UNAVAILABLE => Event::Unavailable(decoded.read().unwrap()),
                other => panic!("{other}"),
            });
        }
        events
    }

    /// As many events, oldest first, once there are so many.
    async fn wait_for(&self, count: usize) -> Vec<Event> {
        let waiting = async {
            loop {
                let events = self.events().await;
                if events.len() >= count {
                    assert_eq!(events.len(), count, "{events:?}");
                    return events;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("events in time")
    }

    /// Until the input is committed to its end: every request is handled.
    async fn wait_until_handled(&self) {
        let requests = self.topics.requests();
        let waiting = async {
            loop {
                let mut asked = 0;
                for partition in 0..2 {
                    let end = self.log.end(requests, partition, Isolation::Committed);
                    asked = asked.max(end.await.unwrap());
                }
                let states = self.records("ingest.state").await;
                let handled = states.iter().filter_map(|stored| {
                    let position = stored.record.headers.get_str("input-position")?;
                    position.rsplit('-').next()?.parse().ok()
                });
                if handled.max() == Some(asked) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("handled in time");
    }

    async fn one(&self) -> Event {
        self.wait_for(1).await.remove(0)
    }
}

/// A service that answers every request for weather and for waves alike.
async fn service(
    weather: impl Fn(&str) -> Vec<u8> + Send + 'static,
    marine: impl Fn(&str) -> Vec<u8> + Send + 'static,
) -> Server {
    Server::start(
        move |head| {
            if head.starts_with("GET /marine") { marine(head) } else { weather(head) }
        },
    )
    .await
}

fn ok(headers: &str, body: &[u8]) -> Vec<u8> {
    answer("200 OK", headers, body)
}

async fn met_norway() -> Server {
    service(|_| ok("", &location()), |_| ok("", &ocean())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn both_products_of_met_norway_are_one_forecast() {
    let server = met_norway().await;
    let stage = Stage::start(ProviderKind::MetNorway, &server).await;
    stage.ask("61.4999", "4.8").await;
    let forecast = stage.one().await.published();
    assert_eq!(forecast.place().unwrap().key(&forecast.source), "weather/61.50/4.80");
    assert!(forecast.attribution.contains("MET Norway"));
    let fresh_for = stage.config.forecasts.fresh_for.as_millis() as i64;
    let fresh = forecast.fresh_until - forecast.fetched_at;
    assert!((fresh_for - 1_000..=fresh_for).contains(&fresh), "nothing was said: {fresh}");
    let series = forecast.to_series().unwrap();
    assert_eq!(series.len(), 2);
    assert!(series[0].has(Variable::WindGust) && series[1].has(Variable::WaveHeight));
    let of_waves = forecast.series_of(Variable::WaveHeight).unwrap();
    assert!(of_waves.position().is_some());
    // The older of the two.
    let issued_at = forecast.issued_at.and_then(|at| Timestamp::from_millisecond(at).ok());
    assert_eq!(issued_at, "2020-06-10T13:04:26Z".parse().ok());
    let heads = server.heads();
    assert_eq!(heads.len(), 2);
    for (head, path) in heads.iter().zip(["/weather", "/marine"]) {
        assert!(head.starts_with(&format!("GET {path}?lat=61.50&lon=4.80 ")), "{head}");
        assert!(head.contains("user-agent: test.example ops@test.example\r\n"), "{head}");
    }
    let observed = stage.records("plans.events").await;
    let value = observed[0].record.value.as_ref().unwrap();
    let decoded = stage.codec.decode(value).await.unwrap();
    let observed: FeedObservedRecord = decoded.read().unwrap();
    assert_eq!((observed.provider.as_str(), observed.outcome.as_str()), (NAME, "changed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_without_sea_still_has_weather() {
    let land =
        || answer("422 Unprocessable Entity", "", &file("met-oceanforecast.no-data-on-land.json"));
    let server = service(|_| ok("", &location()), move |_| land()).await;
    let stage = Stage::start(ProviderKind::MetNorway, &server).await;
    stage.ask("60", "10").await;
    let forecast = stage.one().await.published();
    assert!(forecast.series_of(Variable::WindSpeed).is_some());
    assert!(forecast.series_of(Variable::WaveHeight).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_outside_of_every_grid_is_said_and_not_asked_again() {
    let outside = |_: &str| answer("422 Unprocessable Entity", "", b"");
    let server = service(outside, outside).await;
    let stage = Stage::start(ProviderKind::MetNorway, &server).await;
    stage.ask("1", "2").await;
    let unavailable = stage.one().await.unavailable();
    assert_eq!((unavailable.code.as_str(), unavailable.retry_at), (code::OUTSIDE_COVERAGE, None));
    assert!(unavailable.detail.contains("oceanforecast"), "{}", unavailable.detail);
    stage.ask("1", "2").await;
    let events = stage.wait_for(2).await;
    assert!(events.into_iter().all(|event| event.unavailable().code == code::OUTSIDE_COVERAGE));
    assert_eq!(server.heads().len(), 2, "grids do not move");
}

/// Twenty vessels in one fjord.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn near_positions_that_are_asked_for_together_share_a_fetch() {
    let held = Arc::new(AtomicBool::new(true));
    let waits = held.clone();
    let weather = move |_: &str| {
        while waits.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        ok("", &location())
    };
    let server = service(weather, |_| ok("", &ocean())).await;
    let mut stage = Stage::start(ProviderKind::MetNorway, &server).await;
    for number in 0..20 {
        stage.ask(&format!("61.50{}", number % 4), "4.8").await;
    }
    held.store(false, Ordering::SeqCst);
    stage.wait_until_handled().await;
    stage.wait_for(1).await;
    assert_eq!(server.heads().len(), 2, "one request for each product");
    // Nor is it asked for again while it is fresh, by whoever owns the provider.
    stage.stop().await;
    stage.run("state");
    stage.ask("61.498", "4.802").await;
    stage.wait_until_handled().await;
    stage.wait_for(1).await;
    assert_eq!(server.heads().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forecast_that_did_not_change_is_confirmed_without_its_body() {
    let weather = |head: &str| {
        let headers = "Last-Modified: Wed, 10 Jun 2020 13:04:26 GMT\r\n";
        match head.contains("if-modified-since: Wed, 10 Jun 2020 13:04:26 GMT") {
            true => answer("304 Not Modified", headers, b""),
            false => ok(headers, &location()),
        }
    };
    let marine = |head: &str| match head.contains("if-none-match: \"a\"") {
        true => answer("304 Not Modified", "ETag: \"a\"\r\n", b""),
        false => ok("ETag: \"a\"\r\nExpires: Thu, 01 Jan 1970 00:00:00 GMT\r\n", &ocean()),
    };
    let server = service(weather, marine).await;
    let stage = Stage::start_with(ProviderKind::MetNorway, &server, |config| {
        config.forecasts.fresh_min = Duration::from_millis(1);
        config.forecasts.fresh_for = Duration::from_millis(1);
    })
    .await;
    stage.ask("61.5", "4.8").await;
    stage.wait_for(1).await;
    stage.ask("61.5", "4.8").await;
    let [first, second] = stage.wait_for(2).await.try_into().unwrap();
    let (first, second) = (first.published(), second.published());
    assert_eq!(first.series, second.series);
    assert!(second.fresh_until > first.fresh_until && second.fetch_id != first.fetch_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn freshness_is_the_providers_word_within_bounds() {
    let server = service(
        |_| ok("Cache-Control: max-age=900\r\n", &location()),
        |_| ok("Cache-Control: max-age=31536000\r\n", &ocean()),
    )
    .await;
    let stage = Stage::start_with(ProviderKind::MetNorway, &server, |config| {
        config.forecasts.fresh_max = Duration::from_secs(3_600);
    })
    .await;
    stage.ask("61.5", "4.8").await;
    let forecast = stage.one().await.published();
    let fresh = forecast.fresh_until - forecast.fetched_at;
    assert!((890_000..=900_000).contains(&fresh), "the first that ends: {fresh}");
}

/// What a planner is told of each way to fail, and what goes to quarantine.
#[tokio::test(flavor = "multi_thread")]
async fn failures_are_told_with_a_code_and_a_reason() {
    let refused = file("open-meteo.real-error.json");
    let limit = br#"{"error":true,"reason":"Minutely API request limit exceeded. Please try again in one minute."}"#;
    let html = b"<html><body>502 Bad Gateway</body></html>";
    let cases: Vec<(Vec<u8>, &str, &str, usize)> = vec![
        (answer("429 Too Many Requests", "", b""), code::RATE_LIMITED, "answered 429", 0),
        (answer("429 Too Many Requests", "", limit), code::RATE_LIMITED, "Minutely", 0),
        (answer("200 OK", "", limit), code::RATE_LIMITED, "Minutely", 0),
        (answer("403 Forbidden", "", b"<html/>"), code::FORBIDDEN, "answered 403", 0),
        (answer("400 Bad Request", "", &refused), code::REFUSED, "Latitude must be", 0),
        (answer("200 OK", "", &refused), code::REFUSED, "Latitude must be", 0),
        (answer("503 Service Unavailable", "", b""), code::UNREACHABLE, "answered 503", 0),
        (answer("200 OK", "", html), code::BAD_ANSWER, "no forecast", 1),
        (answer("200 OK", "", &location()[..500]), code::BAD_ANSWER, "no forecast", 1),
        (answer("200 OK", "", &[b' '; 70_000]), code::BAD_ANSWER, "larger than", 0),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{\"properties\"".to_vec(),
            code::UNREACHABLE,
            "weather: ",
            0,
        ),
    ];
    for (bytes, expected, part, quarantined) in cases {
        let told = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
        let server = service(move |_| bytes.clone(), |_| ok("", b"{}")).await;
        let stage = Stage::start_bounded(&server).await;
        stage.ask("61.5", "4.8").await;
        let unavailable = stage.one().await.unavailable();
        assert_eq!(unavailable.code, expected, "{told}: {unavailable:?}");
        assert!(unavailable.detail.contains(part), "{told}: {unavailable:?}");
        assert!(unavailable.retry_at.is_some(), "{told}: {unavailable:?}");
        assert!(!unavailable.detail.contains("s3cret"), "{told}: {unavailable:?}");
        let kept = stage.records("ingest.quarantine").await;
        assert_eq!(kept.len(), quarantined, "{told}");
        assert_eq!(stage.records("ingest.payloads").await.len(), quarantined, "{told}");
        for stored in kept {
            let value = stored.record.value.as_ref().unwrap();
            let decoded = stage.codec.decode(value).await.unwrap();
            let kept: QuarantinedRecord = decoded.read().unwrap();
            assert_eq!(
                (kept.place.as_str(), kept.subject.as_str()),
                ("61.50/4.80", "forecast weather")
            );
            assert!(kept.payload_id.is_some() && !kept.fragment.is_empty());
        }
        // A place that failed is left alone for a moment; so are all, where the provider wants that.
        stage.ask("61.5", "4.8").await;
        let again = stage.wait_for(2).await.remove(1).unavailable();
        assert_eq!(again.code, expected, "{told}");
        if matches!(expected, code::RATE_LIMITED | code::FORBIDDEN) {
            stage.ask("1", "2").await;
            assert_eq!(stage.wait_for(3).await.remove(2).unavailable().code, expected, "{told}");
        }
        assert_eq!(server.heads().len(), 1, "{told}");
    }
}

impl Stage {
    /// Open-Meteo with a key in its address.
    async fn start_bounded(server: &Server) -> Self {
        Self::start_with(ProviderKind::OpenMeteo, server, |config| {
            config.url = format!("http://{}/weather?apikey=s3cret", server.address).into();
        })
        .await
    }
}

/// A version that is about to end answers all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_deprecated_version_is_still_read() {
    let deprecated = |body: Vec<u8>| answer("203 Non-Authoritative Information", "", &body);
    let server = service(move |_| deprecated(location()), move |_| deprecated(ocean())).await;
    let stage = Stage::start(ProviderKind::MetNorway, &server).await;
    stage.ask("61.5", "4.8").await;
    assert_eq!(stage.one().await.published().series.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_keeps_failing_is_left_alone() {
    let server = service(|_| answer("500 Internal Server Error", "", b""), |_| Vec::new()).await;
    let stage = Stage::start_with(ProviderKind::OpenMeteo, &server, |config| {
        config.forecasts.concurrency = 1;
    })
    .await;
    for lat in 1..=8 {
        stage.ask(&lat.to_string(), "4").await;
    }
    let mut codes: Vec<String> =
        stage.wait_for(8).await.into_iter().map(|event| event.unavailable().code).collect();
    codes.sort();
    let threshold = IngestOptions::default().breaker_failures as usize;
    assert_eq!(codes.iter().filter(|found| *found == code::UNREACHABLE).count(), threshold);
    assert_eq!(codes.iter().filter(|found| *found == code::CIRCUIT_OPEN).count(), 8 - threshold);
    assert_eq!(server.heads().len(), threshold);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_rests_is_asked_for_nothing_and_what_is_fresh_answers() {
    let server = met_norway().await;
    let mut stage = Stage::start(ProviderKind::MetNorway, &server).await;
    stage.ask("61.5", "4.8").await;
    stage.one().await.published();
    stage.stop().await;
    let asked = server.heads().len();
    stage.config.paused = true;
    stage.run("state");
    stage.ask("61.5", "4.8").await;
    stage.ask("60", "4").await;
    let refused = stage.wait_for(2).await.remove(1).unavailable();
    assert_eq!((refused.code.as_str(), refused.retry_at), (code::PAUSED, None));
    stage.wait_until_handled().await;
    assert_eq!((stage.events().await.len(), server.heads().len()), (2, asked));
}

/// What was answered is not answered again by the next owner, whatever is left of its local state; what
/// was not is.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_next_owner_answers_what_is_open_and_nothing_twice() {
    let (held, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (waits, counts) = (held.clone(), asked.clone());
    let weather = move |head: &str| {
        counts.fetch_add(1, Ordering::SeqCst);
        while waits.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        match head.contains("lat=7.00") {
            true => answer("503 Service Unavailable", "", b""),
            false => ok("", &location()),
        }
    };
    let server = service(weather, |_| ok("", &ocean())).await;
    let mut stage = Stage::start(ProviderKind::MetNorway, &server).await;
    held.store(true, Ordering::SeqCst);
    stage.ask("5", "4").await;
    while asked.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // It ends in the midst of that fetch.
    stage.stop().await;
    held.store(false, Ordering::SeqCst);
    stage.ask("6", "4").await;
    stage.ask("7", "4").await;
    stage.run("state");
    stage.wait_for(3).await;
    stage.wait_until_handled().await;
    stage.stop().await;
    let requests = asked.load(Ordering::SeqCst);
    assert_eq!(requests, 4, "the one that was given up, and three");
    for state in ["state", "another"] {
        stage.run(state);
        stage.ask("6", "4").await;
        stage.wait_until_handled().await;
        stage.stop().await;
        stage.wait_for(3).await;
    }
    assert_eq!(asked.load(Ordering::SeqCst), requests);
}

#[tokio::test]
async fn met_norway_needs_to_know_who_asks() {
    let server = met_norway().await;
    let mut config = ProviderConfig { kind: ProviderKind::MetNorway, ..provider(NAME, "") };
    let error = config.validate().unwrap_err().to_string();
    assert!(error.contains("User-Agent"), "{error}");
    config.headers.insert("user-agent".to_owned(), "test.example ops@test.example".into());
    config.validate().unwrap();
    config.url = format!("ftp://{}/", server.address).into();
    assert!(config.validate().unwrap_err().to_string().contains("http or https"));
}

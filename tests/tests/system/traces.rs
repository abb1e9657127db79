//! Traces: one of a write on its whole way, none of what is folded again, and a collector that is away is
//! nobody's trouble.

use super::ENGINES;
use almanac_tests::{
    collector::{Collector, Mood, Spanned},
    process::{Engine, Installation, Process},
    recipe,
    webhooks::{Receiver, subscribe},
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const QUICK: &str = "notifications.private_addresses = true\n\
                     telemetry.otlp.delay = \"20ms\"\n\
                     telemetry.otlp.timeout = \"1s\"";

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn installation(engine: Engine, endpoint: &str) -> Installation {
    let endpoint = format!("telemetry.otlp.endpoint = {endpoint:?}");
    Installation::new(engine).with(QUICK).with(&endpoint)
}

async fn create(process: &Process, headers: &[(&str, &str)]) -> String {
    let created = process.send("POST", "/v1/recipes", headers, recipe("Soup", "salt")).await;
    let created = created.unwrap();
    assert_eq!(created.status, 201, "{created:?}");
    created.body["id"].as_str().unwrap().to_owned()
}

/// The only one of these that satisfies this.
fn only<'a>(spans: &'a [Spanned], what: &str, is_it: impl Fn(&Spanned) -> bool) -> &'a Spanned {
    let found: Vec<&Spanned> = spans.iter().filter(|span| is_it(span)).collect();
    let [one] = found[..] else { panic!("{} of {what}: {spans:#?}", found.len()) };
    one
}

/// A recipe that somebody is told of; the spans of its trace, once there are so many.
async fn traced_write(
    process: &Process,
    collector: &Collector,
    headers: &[(&str, &str)],
    spans: usize,
) -> (String, Vec<Spanned>) {
    let id = create(process, headers).await;
    let found = process
        .until("the whole trace", || async {
            let all = collector.spans();
            let is_ours = |span: &&Spanned| span.attribute("messaging.kafka.message.key") == id;
            let trace = all.iter().find(is_ours)?.trace.clone();
            let found = collector.of_trace(&trace);
            (found.len() >= spans).then_some(found)
        })
        .await;
    (id, found)
}

/// Server, sending, deciding, the reply, the fold, what readers are told, matching, the webhook, and the
/// folds of what is due and of the attempt.
const OF_A_WRITE: usize = 10;

async fn a_write_is_one_trace(engine: Engine) {
    let (collector, receiver) = (Collector::default(), Receiver::default());
    let url = receiver.start().await;
    let installation = installation(engine, &collector.start().await)
        .with("telemetry.otlp.headers = { X-Tenant = \"7\" }");
    let mut process = installation.up().await;
    subscribe(&process, &[], &["recipe.created"], None, &format!("{url}/told")).await;
    let (id, spans) = traced_write(&process, &collector, &[], OF_A_WRITE).await;
    assert_eq!(spans.len(), OF_A_WRITE, "{spans:#?}");
    assert!(spans.iter().all(|span| span.start > 0 && span.start <= span.end && !span.is_error));
    let (commands, events) = (installation.topic("commands"), installation.topic("recipes.events"));
    let system = if engine == Engine::Cluster { "kafka" } else { "almanac" };

    let server = only(&spans, "server", |span| span.kind == 2);
    assert_eq!((&*server.name, &*server.parent), ("POST /v1/recipes", ""));
    for (name, value) in [
        ("http.request.method", "POST"),
        ("http.route", "/v1/recipes"),
        ("url.path", "/v1/recipes"),
        ("url.scheme", "http"),
        ("http.response.status_code", "201"),
    ] {
        assert_eq!(server.attribute(name), value, "{name}: {server:#?}");
    }
    assert_eq!(server.resource["service.name"], "almanac");
    assert_eq!(server.resource["almanac.role"], "up");
    assert!(server.resource.contains_key("service.instance.id"));

    let sent = only(&spans, "producer", |span| span.kind == 4);
    assert_eq!((&sent.name, &sent.parent), (&format!("send {commands}"), &server.id));
    let decided = only(&spans, "decider", |span| span.name == format!("process {commands}"));
    assert_eq!((decided.kind, &decided.parent), (5, &sent.id));
    assert_eq!(decided.attribute("almanac.request.id"), server.attribute("almanac.request.id"));
    for (span, operation) in [(sent, "send"), (decided, "process")] {
        for (name, value) in [
            ("messaging.system", system),
            ("messaging.operation.name", operation),
            ("messaging.operation.type", operation),
            ("messaging.destination.name", &*commands),
            ("messaging.kafka.message.key", &*id),
        ] {
            assert_eq!(span.attribute(name), value, "{name}: {span:#?}");
        }
    }
    let place = |span: &Spanned| {
        let (partition, offset) = ("messaging.destination.partition.id", "messaging.kafka.offset");
        [partition, offset].map(|name| span.attribute(name).parse::<u64>().unwrap())
    };
    assert_eq!(place(sent), place(decided));
    let replies = format!("process {}", installation.topic("replies"));
    assert_eq!(only(&spans, "reply", |span| span.name == replies).parent, decided.id);
    let is_fold = |span: &&Spanned| !span.attribute("almanac.projection.name").is_empty();
    let of_events = |wanted: bool| {
        let is_it =
            |span: &Spanned| span.name == format!("process {events}") && is_fold(&span) == wanted;
        only(&spans, "of the events", is_it).clone()
    };
    let (folded, matched) = (of_events(true), of_events(false));
    assert_eq!((&folded.parent, &matched.parent), (&decided.id, &decided.id));
    assert_eq!(folded.attribute("almanac.projection.name"), "recipes");
    assert_eq!(place(&folded), place(&matched));
    let changes = format!("process {}", installation.topic("projections.changes"));
    assert_eq!(only(&spans, "change", |span| span.name == changes).parent, folded.id);
    let webhook = only(&spans, "webhook", |span| span.kind == 3);
    assert_eq!((&*webhook.name, &webhook.parent), ("POST", &matched.id));
    assert_eq!(webhook.attribute("server.address"), "127.0.0.1");
    assert_eq!(webhook.attribute("http.response.status_code"), "204");
    let deliveries = format!("process {}", installation.topic("notifications.deliveries"));
    let deliveries = spans.iter().filter(|span| span.name == deliveries);
    let parents: Vec<&str> = deliveries.map(|span| span.parent.as_str()).collect();
    assert_eq!(parents, [&matched.id, &matched.id]);
    let told = receiver.received("told").remove(0);
    assert_eq!(told.traceparent.unwrap(), format!("00-{}-{}-01", webhook.trace, webhook.id));
    assert!(collector.headers().iter().all(|headers| headers["x-tenant"] == "7"));

    // What is folded again is nobody's request: after a restart, and by a rebuild.
    assert!(process.stop().success());
    let mut process = installation.up().await;
    let rebuilds = "/v1/admin/projections/recipes/rebuilds";
    let begun = process.send("POST", rebuilds, &[], json!({"reason": "a test"}).to_string()).await;
    let begun = begun.unwrap();
    let rebuild = format!("/v1/admin/rebuilds/{}", begun.body["id"].as_str().unwrap());
    process
        .until("the rebuild is ready", || async {
            let (_, found) = process.get(&rebuild).await;
            (found["state"] == "ready").then_some(())
        })
        .await;
    // Both tables are folded now, and readers are told of both.
    let (_, after) = traced_write(&process, &collector, &[], OF_A_WRITE + 2).await;
    let generations: BTreeSet<&str> = after
        .iter()
        .filter(is_fold)
        .map(|span| span.attribute("almanac.projection.generation"))
        .collect();
    assert_eq!(generations.len(), 2, "{after:#?}");
    let again = collector.of_trace(&server.trace);
    assert_eq!(again.len(), OF_A_WRITE, "spans of what was folded again: {again:#?}");
    assert!(process.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_one_trace_on_both_engines() {
    for engine in ENGINES {
        a_write_is_one_trace(engine).await;
    }
}

/// A schedule's analysis: from the request through the worker, the provider's owner and back.
#[tokio::test(flavor = "multi_thread")]
async fn an_analysis_is_one_trace() {
    let collector = Collector::default();
    let installation = installation(Engine::Embedded, &collector.start().await).with_demo();
    let mut process = installation.up().await;
    let schedule = json!({
        "name": "Turbine 7", "location": {"lat": 61.5, "lon": 4.8},
        "tasks": [{"id": "lift", "duration": "PT4H",
                   "limits": [{"variable": "wind_speed_ms", "max": 12}]}],
    });
    let body = json!({"schedule": schedule, "sources": ["met-norway"]}).to_string();
    let asked = process.send("POST", "/v1/analyses", &[], body).await.unwrap();
    assert_eq!(asked.status, 202, "{asked:?}");
    let id = asked.body["request_id"].as_str().unwrap().to_owned();
    let topic = |name: &str| installation.topic(name);
    let analyses = format!("process {}", topic("analyses.events"));
    let decided = &format!("process {}", topic("commands"));
    let spans = process
        .until("the end of the analysis in its trace", || async {
            let all = collector.spans();
            let made = all.iter().find(|span| {
                span.name == analyses && span.attribute("almanac.outcome") == "complete"
            })?;
            let spans = collector.of_trace(&made.trace);
            // The second command, decided and folded.
            let is_fold = |span: &&Spanned| span.attribute("almanac.projection.name") == "analyses";
            let is_decided = |span: &&Spanned| span.name == *decided;
            let counts =
                [spans.iter().filter(is_fold).count(), spans.iter().filter(is_decided).count()];
            counts.iter().all(|count| *count >= 2).then_some(spans)
        })
        .await;
    let made = only(&spans, "made", |span| span.attribute("almanac.outcome") == "complete");
    assert_eq!(made.attribute("messaging.kafka.message.key"), id);
    let child = |parent: &Spanned, name: &str| {
        only(&spans, name, |span| span.name == name && span.parent == parent.id)
    };
    child(made, "compute");
    let gathered = child(made, "gather forecasts");
    let requested = child(gathered, &format!("send {}", topic("ingest.requests")));
    let taken = child(requested, &format!("process {}", topic("ingest.requests")));
    child(taken, "fetch forecast");
    let completed = child(made, &format!("send {}", topic("commands")));
    child(completed, decided);
    let ids: BTreeSet<&str> = spans.iter().map(|span| span.id.as_str()).collect();
    let roots: Vec<&Spanned> =
        spans.iter().filter(|span| !ids.contains(span.parent.as_str())).collect();
    assert_eq!(roots.len(), 1, "all is because of the request: {roots:#?}");
    assert_eq!(roots[0].name, "POST /v1/analyses");
    assert!(process.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_brings_is_handed_on_and_believed_where_that_is_configured() {
    let parent = |flags: &str| format!("00-{TRACE}-00f067aa0ba902b7-{flags}");
    let sampled = parent("01");
    let brought = [("traceparent", &*sampled), ("tracestate", "rojo=1")];
    // Without a collector; with one that is told of nothing; with one that clients decide about.
    for (lines, is_on, handed_on, traced) in [
        ("", false, sampled.clone(), false),
        ("telemetry.otlp.sample_ratio = 0.0", true, parent("00"), false),
        (
            "telemetry.otlp.sample_ratio = 0.0\ntelemetry.otlp.trust_parents = true",
            true,
            sampled.clone(),
            true,
        ),
    ] {
        let (collector, receiver) = (Collector::default(), Receiver::default());
        let (url, endpoint) = (receiver.start().await, collector.start().await);
        let installation = match is_on {
            true => installation(Engine::Embedded, &endpoint).with(lines),
            false => Installation::new(Engine::Embedded).with(QUICK),
        };
        let mut process = installation.up().await;
        subscribe(&process, &[], &["recipe.created"], None, &format!("{url}/told")).await;
        let received = async |count: usize| {
            let received = || async {
                let received = receiver.received("told");
                (received.len() == count).then_some(received)
            };
            process.until("a notification", received).await.pop().unwrap()
        };
        create(&process, &[]).await;
        assert_eq!(received(1).await.traceparent, None, "{lines}: nobody traces it");
        create(&process, &brought).await;
        let told = received(2).await;
        assert_eq!(told.tracestate.as_deref(), Some("rojo=1"), "{lines}");
        let told = told.traceparent.unwrap();
        match traced {
            false => assert_eq!(told, handed_on, "{lines}"),
            true => {
                assert!(told.contains(TRACE) && told.ends_with("-01"), "{told}");
                let spans = || async {
                    let found = collector.of_trace(TRACE);
                    (found.len() >= OF_A_WRITE).then_some(found)
                };
                let spans = process.until("the client's trace", spans).await;
                let server = only(&spans, "server", |span| span.kind == 2);
                assert_eq!(server.parent, "00f067aa0ba902b7");
            }
        }
        assert!(process.stop().success());
        if !traced {
            assert!(collector.spans().is_empty(), "{lines}: {:#?}", collector.spans());
        }
    }
}

/// The value of a metric whose line begins so.
async fn metric(process: &Process, start: &str) -> Option<u64> {
    let (_, text) = process.get("/metrics").await;
    let Value::String(text) = text else { return None };
    let line = text.lines().find_map(|line| line.strip_prefix(start))?.trim().to_owned();
    line.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_holds_up_nobody() {
    let collector = Collector::default();
    collector.behave(Mood::Hangs);
    let installation = installation(Engine::Embedded, &collector.start().await)
        .with("telemetry.otlp.queue_spans = 20\ntelemetry.otlp.batch_spans = 10");
    let mut process = installation.up().await;
    create(&process, &[]).await;
    // Each look at the metrics comes after another request.
    let counted = async |outcome: &str| {
        let name = format!("almanac_trace_spans_total{{outcome=\"{outcome}\"}}");
        let name = &name;
        let look = || async {
            let (status, _) = process.get("/v1/recipes").await;
            assert_eq!(status, 200, "a request waits for nobody's spans");
            metric(&process, name).await.filter(|spans| *spans > 0)
        };
        process.until(outcome, look).await;
    };
    counted("dropped").await;
    assert!(metric(&process, "almanac_trace_spans_waiting").await.unwrap() <= 20);
    counted("failed").await;
    collector.behave(Mood::Refuses);
    create(&process, &[]).await;
    collector.behave(Mood::Takes);
    counted("exported").await;
    collector.behave(Mood::Hangs);
    create(&process, &[]).await;
    assert!(process.stop().success(), "it ends although nobody takes its spans");
    let log = process.log();
    assert!(log.contains("the collector does not take spans"), "{log}");
    assert!(log.contains("the collector takes spans again"), "{log}");
    assert!(log.trim_end().ends_with("stopped"), "{log}");
}

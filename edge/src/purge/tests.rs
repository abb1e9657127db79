use super::*;
use crate::surrogates::{PLANS, RECIPES};
use axum::{Router, extract::State, response::IntoResponse};
use http::HeaderMap;
use std::sync::atomic::{AtomicBool, Ordering};

/// A cache that notes what it is told, and refuses it for as long as it is told to.
#[derive(Clone, Default)]
struct Noting {
    told: Arc<Mutex<Vec<(Method, HeaderMap, String)>>>,
    refuses: Arc<AtomicBool>,
}

async fn note(
    State(noting): State<Noting>,
    method: Method,
    headers: HeaderMap,
    body: String,
) -> impl IntoResponse + use<> {
    noting.told.lock().push((method, headers, body));
    match noting.refuses.load(Ordering::SeqCst) {
        true => (StatusCode::FOUND, [("location", "http://127.0.0.1:1/elsewhere")]),
        false => (StatusCode::OK, [("location", "")]),
    }
}

impl Noting {
    async fn start(&self) -> Address {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(note).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://user:hunter2@{address}/purge?key=hunter2").into()
    }

    fn keys(&self) -> Vec<String> {
        let told = self.told.lock();
        let keys = told.iter().filter_map(|(_, headers, _)| headers.get("surrogate-key"));
        keys.map(|keys| keys.to_str().unwrap().to_owned()).collect()
    }
}

async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn options(caches: Vec<Address>) -> PurgeOptions {
    PurgeOptions {
        caches,
        method: "PURGE".parse().unwrap(),
        headers: vec![(HeaderName::from_static("fastly-key"), "hunter2".into())],
        form: Form::Header,
        timeout: Duration::from_secs(60),
        keys_per_request: 2,
        gather: Duration::from_millis(1),
        queue_keys: 3,
        repeat_after: Duration::ZERO,
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(4),
    }
}

fn purges(options: PurgeOptions) -> (Purges, Registry) {
    let surrogates = Surrogates::new("surrogate-key", "test.").unwrap().unwrap();
    let mut registry = Registry::default();
    let metrics = PurgeMetrics::register(&mut registry);
    (Purges::new(options, surrogates, metrics).unwrap(), registry)
}

fn running(purges: &Purges) -> tokio::task::JoinHandle<()> {
    let purges = purges.clone();
    tokio::spawn(async move { purges.run().await })
}

fn value(registry: &Registry, name: &str) -> Option<u64> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.rsplit(' ').next()?.parse().ok()
}

fn recipe(number: u128) -> Key {
    Key::one(RECIPES, &uuid::Uuid::from_u128(number).to_string()).unwrap()
}

#[tokio::test]
async fn a_cache_is_told_in_few_requests() {
    let cache = Noting::default();
    let (purges, registry) = purges(options(vec![cache.start().await]));
    purges.add(&[recipe(1), Key::lists(RECIPES), Key::lists(PLANS)]);
    purges.add(&[recipe(1)]);
    assert_eq!(value(&registry, "almanac_purge_keys_waiting"), Some(3));
    let _running = running(&purges);
    until(|| cache.keys().len() == 2).await;
    let recipe = "test.recipe:00000000-0000-0000-0000-000000000001";
    let expected = ["test.plans:lists test.recipes:lists".to_owned(), recipe.to_owned()];
    assert_eq!(cache.keys(), expected);
    {
        let told = cache.told.lock();
        assert_eq!(told[0].0, "PURGE");
        assert_eq!(told[0].1["fastly-key"], "hunter2");
    }
    until(|| value(&registry, "almanac_purge_keys_waiting") == Some(0)).await;
    assert_eq!(value(&registry, "almanac_purge_failing"), Some(0));
    // What is shown of it lets nobody in.
    let mut text = format!("{purges:?}");
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(!text.contains("hunter2") && text.contains("cache=\"127.0.0.1:"), "{text}");
}

#[tokio::test]
async fn what_a_cache_does_not_take_it_is_told_until_it_does() {
    let (away, cache) = (Noting::default(), Noting::default());
    let addresses = vec!["http://127.0.0.1:1".into(), cache.start().await];
    away.refuses.store(true, Ordering::SeqCst);
    cache.refuses.store(true, Ordering::SeqCst);
    let (purges, registry) = purges(options(addresses));
    let _running = running(&purges);
    purges.add(&[recipe(1)]);
    let mut text = String::new();
    until(|| cache.keys().len() > 3).await;
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains("outcome=\"refused\""), "a redirect is not followed: {text}");
    // Meanwhile there are more than are kept one by one.
    purges.add(&(2..100).map(recipe).collect::<Vec<_>>());
    assert!(value(&registry, "almanac_purge_overflows_total").is_some_and(|times| times > 0));
    cache.refuses.store(false, Ordering::SeqCst);
    until(|| cache.keys().last().is_some_and(|keys| keys == "test.recipes")).await;
    let is_taken = || {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text.lines().any(|line| {
            line.starts_with("almanac_purge_failing{cache=\"127.0.0.1:")
                && !line.contains("127.0.0.1:1\"")
                && line.ends_with(" 0")
        }) && text.contains("almanac_purge_failing{cache=\"127.0.0.1:1\"} 1")
    };
    until(is_taken).await;
}

#[tokio::test]
async fn it_is_told_once_more_after_answers_on_their_way_have_come() {
    let cache = Noting::default();
    let options = PurgeOptions {
        repeat_after: Duration::from_millis(20),
        form: Form::Tags,
        ..options(vec![cache.start().await])
    };
    let (purges, registry) = purges(options);
    let _running = running(&purges);
    purges.add(&[Key::all(PLANS)]);
    until(|| cache.told.lock().len() == 2).await;
    for (_, headers, body) in cache.told.lock().iter() {
        assert_eq!(body, "{\"tags\":[\"test.plans\"]}");
        assert_eq!(headers["content-type"], "application/json");
    }
    until(|| value(&registry, "almanac_purge_keys_waiting") == Some(0)).await;
}

#[test]
fn addresses_are_checked_and_not_told() {
    let surrogates = Surrogates::new("surrogate-key", "").unwrap().unwrap();
    for wrong in ["varnish:80", "ftp://u:hunter2@h/", "unix:///run/varnish"] {
        let options = options(vec![wrong.into()]);
        let error = Purges::new(options, surrogates.clone(), PurgeMetrics::default()).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

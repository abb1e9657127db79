use super::{
    bearer,
    varnish::{Kept, Varnish},
};
use almanac_tests::{
    process::{Engine, Installation, PATIENCE, Process, free_port},
    provider::Provider,
    recipe,
};
use serde_json::Value;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn answers_say_what_caches_may_keep() {
    let installation = Installation::new(Engine::Embedded).with(
        "http.shared_max_age = \"3s\"\nhttp.origins = [\"https://trusted.example\"]\n\
         limits.read = { rate = 1000 }",
    );
    let process = installation.up().await;
    let get = async |path: &str, headers: &[(&str, &str)]| {
        process.send("GET", path, headers, "").await.unwrap()
    };
    let shared = "public, max-age=0, s-maxage=3, stale-while-revalidate=10, stale-if-error=300";
    for path in ["/search", "/v1/plans", "/v1/recipes", "/v1/providers"] {
        let answer = get(path, &[]).await;
        assert_eq!(answer.header("cache-control"), shared, "{path}");
        assert!(answer.header("vary").contains("Consistency-Token"), "{path}");
        let known = [("if-none-match", answer.header("etag"))];
        let unchanged = get(path, &known).await;
        assert_eq!((unchanged.status.as_u16(), unchanged.header("cache-control")), (304, shared));
    }
    let written = process.send("POST", "/v1/recipes", &[], recipe("r", "i")).await.unwrap();
    assert_eq!(written.header("cache-control"), "no-store");
    let token = [("consistency-token", written.header("consistency-token"))];
    let answer = get(written.header("location"), &token).await;
    assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (200, "public, no-cache"));
    let mary = bearer(&installation, "mary", "events:read");
    let hers = [("authorization", mary.as_str())];
    assert_eq!(get("/v1/recipes", &hers).await.header("cache-control"), "public, no-cache");
    let events = get("/v1/events/recipes.events?after=beginning", &hers).await;
    assert_eq!(events.header("cache-control"), "private, no-store");
    for path in ["/v1/recipes/nonsense", "/v1/recipes?nonsense=1", "/search?starts_at=x"] {
        assert_eq!(get(path, &[]).await.header("cache-control"), "no-store", "{path}");
    }
    assert!(get("/openapi.json", &[]).await.header("cache-control").contains("s-maxage=300"));

    // Pages of any origin see the answers of public reads with their headers; of writes only
    // those of configured origins.
    let page = ("origin", "https://page.example");
    let exposed = get("/v1/recipes", &[page]).await;
    assert_eq!(exposed.header("access-control-allow-origin"), "*");
    for name in
        ["ETag", "Location", "Consistency-Token", "RateLimit", "RateLimit-Policy", "Retry-After"]
    {
        let exposed = exposed.header("access-control-expose-headers");
        assert!(exposed.split(", ").any(|one| one == name), "{name}: {exposed}");
    }
    let asks = ("access-control-request-method", "POST");
    for (origin, allowed) in
        [("https://page.example", ""), ("https://trusted.example", "https://trusted.example")]
    {
        let preflight = [("origin", origin), asks];
        let told = process.send("OPTIONS", "/v1/recipes", &preflight, "").await.unwrap();
        assert_eq!(told.status, 204);
        assert_eq!(told.header("access-control-allow-origin"), allowed);
    }
}

/// Two plans; the first has another title with each version.
fn feed(version: u64) -> String {
    let plan = |id: u64, title: &str| {
        format!(
            "<base_plan base_plan_id=\"b{id}\" sell_mode=\"online\" title=\"{title}\">\
             <plan plan_id=\"{id}\" plan_start_date=\"2031-0{id}-01T20:00:00\" \
             plan_end_date=\"2031-0{id}-01T22:00:00\" sold_out=\"false\">\
             <zone zone_id=\"1\" capacity=\"7\" price=\"20.00\" name=\"A\"/></plan></base_plan>"
        )
    };
    let plans = [plan(1, &format!("v{version}")), plan(2, "other")].concat();
    format!("<planList><output>{plans}</output></planList>")
}

/// What Varnish shows once it is as wanted.
async fn shown(varnish: &Varnish, path: &str, is_wanted: impl Fn(&Value) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = varnish.get(path).await.unwrap();
        let is_there = answer.status() == 200;
        let body: Value = answer.json().await.unwrap();
        if is_there && is_wanted(&body) {
            return;
        }
        assert!(Instant::now() < deadline, "{path} stays as it was: {body}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// An answer out of the cache.
async fn kept(varnish: &Varnish, path: &str) -> Kept {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(kept) = varnish.kept(path).await {
            return kept;
        }
        assert!(Instant::now() < deadline, "{path} is not kept");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// Makes a change whose answers are to be dropped, and others to be kept. Whole collections are dropped when an instance
/// starts, which may be noticed late: then with another change.
async fn changes_alone(
    varnish: &Varnish,
    others: &[&str],
    mut change: impl AsyncFnMut(u64) -> Vec<String>,
) {
    let deadline = Instant::now() + PATIENCE;
    for version in 2.. {
        let mut before = Vec::new();
        for other in others {
            before.push(kept(varnish, other).await);
        }
        for path in change(version).await {
            shown(varnish, &path, |body| body.to_string().contains(&format!("\"v{version}\"")))
                .await;
        }
        let mut is_kept = true;
        for (other, before) in others.iter().zip(&before) {
            is_kept &= varnish.kept(other).await.as_ref() == Some(before);
        }
        if is_kept {
            return;
        }
        assert!(Instant::now() < deadline, "{others:?} are dropped with every change");
    }
}

/// Answers may be kept for an hour here: what is shown newer was dropped before.
#[tokio::test(flavor = "multi_thread")]
async fn a_caching_proxy_drops_what_has_changed_and_nothing_else() {
    let provider = Provider::start().await;
    provider.serve(feed(1));
    let port = free_port();
    let installation = Installation::new(Engine::Cluster)
        .with_provider("fever", &provider.url())
        .with("http.shared_max_age = \"1h\"\nhttp.stale_while_revalidate = \"1h\"")
        .with(&format!(
            "http.purge = {{ caches = [\"http://127.0.0.1:{port}/\"], gather = \"10ms\", \
             repeat_after = \"200ms\", first_pause = \"50ms\" }}"
        ));
    let first = installation.up().await;
    let second = installation.start("query-api", "second");
    second.ready().await;
    let varnish = Varnish::start(installation.folder(), port, [&first, &second]).await;

    assert_eq!(varnish.purge_from("127.0.0.2").await, 403, "it is none of the instances");
    let mut recipes = Vec::new();
    for name in ["v1", "other"] {
        let written = first.send("POST", "/v1/recipes", &[], recipe(name, "salt")).await.unwrap();
        let token = [("consistency-token", written.header("consistency-token"))];
        let path = written.header("location").to_owned();
        assert_eq!(second.send("GET", &path, &token, "").await.unwrap().status, 200);
        recipes.push(path);
    }
    let keys = first.send("GET", &recipes[0], &[], "").await.unwrap();
    let (name, id) = (&installation.name, recipes[0].rsplit('/').next().unwrap());
    assert_eq!(keys.header("surrogate-key"), format!("{name}.recipe:{id} {name}.recipes"));
    let plans = ids(&first).await;
    let plan = |place: usize| format!("/v1/plans/{}", plans[place]);

    let (one, list) = (recipes[0].clone(), "/v1/recipes?ingredient=salt".to_owned());
    changes_alone(&varnish, &[&recipes[1], &plan(1), "/search"], async |version| {
        kept(&varnish, &one).await;
        kept(&varnish, &list).await;
        let body = recipe(&format!("v{version}"), "salt");
        let written = first.send("PUT", &one, &[], body).await.unwrap();
        assert_eq!(written.status, 200, "{written:?}");
        vec![one.clone(), list.clone()]
    })
    .await;
    changes_alone(&varnish, &[&recipes[0], &plan(1), "/v1/recipes"], async |version| {
        let changed = [plan(0), "/search".to_owned(), "/v1/plans".to_owned()];
        for path in &changed {
            kept(&varnish, path).await;
        }
        provider.serve(feed(version));
        changed.into()
    })
    .await;
}

/// Of the plans of the feed, in the order of their starts.
async fn ids(process: &Process) -> Vec<String> {
    let list = process.until("both plans", || async {
        let (_, body) = process.get("/v1/plans").await;
        let items = body["items"].as_array()?.clone();
        (items.len() == 2).then_some(items)
    });
    list.await.iter().map(|plan| plan["id"].as_str().unwrap().to_owned()).collect()
}

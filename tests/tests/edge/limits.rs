use super::bearer;
use almanac_tests::{
    process::{Answer, Engine, Installation, Process},
    recipe,
};
use serde_json::Value;

async fn get(process: &Process, path: &str, headers: &[(&str, &str)]) -> Answer {
    process.send("GET", path, headers, "").await.unwrap()
}

/// The token of a write that nobody made yet.
fn later(token: &str) -> String {
    let (position, _) = token.rsplit_once('-').unwrap();
    format!("{position}-{}", u32::MAX)
}

/// Rates so slow that no test is slow enough to see a token come back.
const SLOW: &str = "limits.search = { rate = 0.0001, burst = 3 }\n\
                    limits.read = { rate = 0.0001, burst = 4, per_day = 3 }\n\
                    limits.write = { rate = 0.0001, burst = 2 }\n\
                    limits.contact = \"https://example.org/limits\"";

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_is_told_its_limits_and_held_to_them() {
    let installation = Installation::new(Engine::Embedded).with(SLOW);
    let process = installation.up().await;
    for left in [2, 1, 0] {
        let answer = get(&process, "/search", &[]).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("ratelimit-policy"), "\"search\";q=3;w=30000");
        let told = answer.header("ratelimit");
        assert!(told.starts_with(&format!("\"search\";r={left};t=")), "{told}");
    }
    let page = ("origin", "https://page.example");
    let refused = get(&process, "/search", &[page]).await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.body["error"]["code"], "TOO_MANY_REQUESTS", "its own envelope");
    assert_eq!(refused.body["data"], Value::Null);
    assert_eq!(refused.header("access-control-allow-origin"), "*");
    assert!(refused.header("access-control-expose-headers").contains("RateLimit-Policy"));
    assert!(!refused.header("request-id").is_empty());
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((9_000..=10_000).contains(&wait), "{wait}");

    // The quota of the day is smaller than the burst.
    for left in [2, 1, 0] {
        let answer = get(&process, "/v1/recipes", &[]).await;
        assert_eq!(answer.status, 200);
        assert!(answer.header("ratelimit").contains(&format!("\"read-day\";r={left};")));
    }
    let refused = get(&process, "/v1/plans", &[]).await;
    assert_eq!(
        (refused.status.as_u16(), &refused.body["type"]),
        (429, &"/problems/too-many-requests".into())
    );
    assert!(refused.body["detail"].as_str().unwrap().contains("\"read-day\""));
    let instance = format!("urn:uuid:{}", refused.header("request-id"));
    assert_eq!(refused.body["instance"], instance);
    assert!(refused.header("retry-after").parse::<u64>().unwrap() <= 86_400);

    // Others are not held to it: neither other classes nor other callers, nor probes.
    let mary = bearer(&installation, "mary", "recipes:write");
    let hers = [("authorization", mary.as_str())];
    for answer in [
        process.send("POST", "/v1/recipes", &[], recipe("r", "i")).await.unwrap(),
        process.send("POST", "/v1/recipes", &hers, recipe("r", "i")).await.unwrap(),
    ] {
        assert_eq!(answer.status, 201, "{answer:?}");
        assert!(answer.header("ratelimit").starts_with("\"write\";r=1;t="));
    }
    assert_eq!(get(&process, "/search", &hers).await.status, 200);
    for path in ["/healthz", "/readyz", "/metrics", "/openapi.json"] {
        for _ in 0..5 {
            let answer = get(&process, path, &[]).await;
            assert_eq!((answer.status.as_u16(), answer.header("ratelimit")), (200, ""), "{path}");
        }
    }
    // A token that is not good is its address's request.
    let forged = [("authorization", "Bearer a.b.c")];
    assert_eq!(get(&process, "/search", &forged).await.status, 429);
    // A write that is refused has used nothing up, and its body is taken.
    process.send("POST", "/v1/recipes", &[], recipe("r", "i")).await.unwrap();
    let keyed = [("idempotency-key", "once"), ("authorization", mary.as_str())];
    let first = process.send("POST", "/v1/recipes", &keyed, recipe("r", "i")).await.unwrap();
    assert_eq!(first.status, 201);
    let large = "x".repeat(1 << 20);
    let refused = process.send("POST", "/v1/recipes", &keyed, large).await.unwrap();
    assert_eq!(refused.status, 429, "{refused:?}");

    // The page.
    let mine = get(&process, "/v1/limits", &[]).await;
    assert_eq!((mine.status.as_u16(), mine.header("cache-control")), (200, "private, no-store"));
    assert_eq!(mine.body["caller"]["by"], "address");
    assert_eq!(mine.body["contact"], "https://example.org/limits");
    assert_eq!(mine.body["classes"][0]["here"]["remaining"], 0);
    assert_eq!(mine.body["classes"][1]["here"]["remaining_today"], 0);
    let hers_page = get(&process, "/v1/limits", &hers).await;
    assert_eq!(hers_page.body["caller"]["name"], "mary");
    assert_eq!(hers_page.body["classes"][0]["here"]["remaining"], 2);
    assert_eq!(get(&process, "/v1/limits", &forged).await.status, 401);
    let html = get(&process, "/v1/limits", &[("accept", "text/html")]).await;
    assert!(html.header("content-type").starts_with("text/html"));
    assert!(html.body.as_str().unwrap().contains("0 of 3"), "{}", html.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_tells_who_asks() {
    let proxies = "http.trusted_proxies = [\"127.0.0.0/8\"]\nlimits.instances = 2\n\
                   limits.read = { rate = 0.001, burst = 2 }";
    let installation = Installation::new(Engine::Embedded).with(proxies);
    let process = installation.up().await;
    let status = async |client: &str| {
        get(&process, "/v1/recipes", &[("x-forwarded-for", client)]).await.status.as_u16()
    };
    assert_eq!(status("192.0.2.1").await, 200);
    assert_eq!(status("192.0.2.1").await, 429, "half of the burst is the other instance's");
    assert_eq!(status("192.0.2.2").await, 200);
    assert_eq!(status("192.0.2.3, 192.0.2.1").await, 429, "what a client invents is passed over");
    let page = get(&process, "/v1/limits", &[("x-forwarded-for", "192.0.2.1")]).await;
    assert_eq!(
        (&page.body["instances"], &page.body["caller"]["name"]),
        (&2.into(), &"192.0.2.1".into())
    );
    let read = &page.body["classes"][1];
    assert_eq!((&read["limit"]["burst"], &read["here"]["burst"]), (&2.into(), &1.into()));
}

/// Requests that wait for a version that never comes are under way until they give up.
#[tokio::test(flavor = "multi_thread")]
async fn one_caller_never_has_all_places() {
    let installation = Installation::new(Engine::Embedded)
        .with("limits.concurrency = 3\nlimits.concurrency_per_caller = 2");
    let process = installation.up().await;
    let mary = bearer(&installation, "mary", "recipes:write events:read");
    let hers = ("authorization", mary.as_str());
    let written = process.send("POST", "/v1/recipes", &[], recipe("r", "i")).await.unwrap();
    let token = later(written.header("consistency-token"));
    let waiting = [hers, ("consistency-token", token.as_str()), ("prefer", "wait=20")];
    // Whoever looks whether the places are taken may have one for a moment.
    let waits = || async {
        while get(&process, "/v1/recipes", &waiting).await.status == 429 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    let asks = async {
        let refused = process
            .until("the places of one caller are taken", || async {
                let answer = get(&process, "/v1/recipes", &[hers]).await;
                (answer.status == 429).then_some(answer)
            })
            .await;
        assert!(refused.body["detail"].as_str().unwrap().contains("under way"), "{refused:?}");
        let other = get(&process, "/v1/recipes", &[]).await;
        assert_eq!(other.status, 200, "a place is left for others");
        assert_eq!(get(&process, "/healthz", &[]).await.status, 200);
    };
    tokio::select! {
        _ = futures::future::join(waits(), waits()) => panic!("they wait for what never comes"),
        () = asks => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_reads_need_a_token() {
    let installation = Installation::new(Engine::Embedded)
        .with("identity.reads = \"token\"\nidentity.local_user = false");
    let process = installation.up().await;
    let mary = bearer(&installation, "mary", "recipes:write");
    for path in ["/search", "/v1/plans", "/v1/recipes", "/v1/providers"] {
        let refused = get(&process, path, &[]).await;
        assert_eq!(refused.status, 401, "{path}");
        assert!(refused.header("www-authenticate").starts_with("Bearer"), "{path}");
        let answer = get(&process, path, &[("authorization", &mary)]).await;
        assert_eq!(answer.status, 200, "{path}");
    }
    let refused = get(&process, "/search", &[]).await;
    assert_eq!(refused.body["error"]["code"], "UNAUTHORIZED");
    for path in ["/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"] {
        assert_eq!(get(&process, path, &[]).await.status, 200, "{path}");
    }
}

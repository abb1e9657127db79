use super::bearer;
use almanac_tests::{
    process::{Engine, Installation},
    recipe,
};

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

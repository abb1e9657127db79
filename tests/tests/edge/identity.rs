use super::key_server::KeyServer;
use almanac_tests::{
    process::{Engine, Installation, Process},
    recipe,
};
use reqwest::StatusCode;
use serde_json::{Value, json};

async fn write(process: &Process, token: &str) -> StatusCode {
    let headers = [("authorization", token)];
    process.send("POST", "/v1/recipes", &headers, recipe("r", "i")).await.unwrap().status
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_provider_are_followed_and_groups_are_mapped() {
    let provider = KeyServer::start().await;
    let installation = Installation::new(Engine::Embedded).with(&format!(
        "identity.jwks_url = \"{}\"\nidentity.claims.groups = {{ cooks = \"recipes:write\" }}\n\
         identity.audience = \"almanac\"",
        provider.url()
    ));
    let process = installation.up().await;
    let cook = provider.token(json!({"sub": "mary", "groups": ["cooks"], "aud": "almanac"}));
    assert_eq!(write(&process, "Bearer a.b.c").await, StatusCode::UNAUTHORIZED);
    assert_eq!(write(&process, &cook).await, StatusCode::SERVICE_UNAVAILABLE, "no keys yet");
    provider.appear();
    process
        .until("the first keys", || async {
            (write(&process, &cook).await == StatusCode::CREATED).then_some(())
        })
        .await;
    for (claims, status) in [
        (json!({"sub": "mary", "groups": ["others"], "aud": "almanac"}), StatusCode::FORBIDDEN),
        (json!({"sub": "mary", "scope": "recipes:write", "aud": "x"}), StatusCode::UNAUTHORIZED),
        (json!({"sub": "urn:almanac:worker", "aud": "almanac"}), StatusCode::UNAUTHORIZED),
    ] {
        assert_eq!(write(&process, &provider.token(claims.clone())).await, status, "{claims}");
    }
    let unsigned = process.send("POST", "/v1/recipes", &[], recipe("r", "i")).await.unwrap();
    assert_eq!(unsigned.status, StatusCode::UNAUTHORIZED, "there is no local user any more");
    provider.vanish();
    process.signal("HUP");
    let away = || process.log().matches("those that are known stand").count();
    let before = away();
    process.until("the address is asked again", || async { (away() > before).then_some(()) }).await;
    assert_eq!(write(&process, &cook).await, StatusCode::CREATED, "the known keys stand");
    // Nothing of a token is in the log or in events.
    let (_, text) = cook.split_once(' ').unwrap();
    let signature = text.rsplit('.').next().unwrap();
    assert!(!process.log().contains(signature));
    let reader = provider.token(json!({"sub": "r", "scp": "events:read", "aud": "almanac"}));
    let headers = [("authorization", reader.as_str())];
    let path = "/v1/events/recipes.events?after=beginning";
    let events = process.send("GET", path, &headers, "").await.unwrap();
    assert_eq!(events.status, StatusCode::OK, "{events:?}");
    assert_ne!(events.body["items"], Value::Array(Vec::new()));
    assert!(!events.body.to_string().contains(signature));
}

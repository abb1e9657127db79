//! Feeds as providers really serve them, through the whole system.

use super::{observed, titles};
use almanac_tests::{
    oracle,
    process::{Engine, Installation},
    provider::Provider,
};
use axum::{
    http::{StatusCode, header},
    response::IntoResponse,
};
use serde_json::{Value, json};

/// Nothing that anybody can ask for, nor the log, tells the keys in a provider's address.
#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_provider_are_told_to_nobody() {
    // Bound and closed: nobody listens there.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = listener.local_addr().unwrap();
    drop(listener);
    let away = Provider::start().await;
    away.answer(|_, _| {
        let there = "http://mary7:s3cret@other.example/?apikey=s3cret";
        (StatusCode::FOUND, [(header::LOCATION, there)]).into_response()
    });
    let broken = Provider::start().await;
    broken.answer(|_, _| "<planList><s3cret-in-a-body".into_response());
    let with_keys =
        |url: &str| url.replace("http://", "http://mary7:s3cret@") + "?apikey=s3cret-key";
    let installation = Installation::new(Engine::Embedded)
        .with_provider("gone", &with_keys(&format!("http://{gone}/s3cret.xml")))
        .with_provider("away", &with_keys(&away.url()))
        .with_provider("broken", &with_keys(&broken.url()));
    let process = installation.up().await;
    for name in ["gone", "away", "broken"] {
        let seen = observed(&process, name, "failed").await;
        assert!(seen["last_failure"].as_str().is_some_and(|text| text.len() > 10), "{seen}");
    }
    let events = process
        .until("the observations", || async {
            let (_, page) = process.get("/v1/events/plans.events?after=beginning&limit=500").await;
            let items = page["items"].as_array()?.clone();
            let subjects = |name| items.iter().any(|event| event["subject"] == name);
            ["gone", "away", "broken"].into_iter().all(subjects).then_some(items)
        })
        .await;
    let (_, providers) = process.get("/v1/providers").await;
    for told in [json!(events).to_string(), providers.to_string(), process.log()] {
        for secret in ["mary7", "s3cret@", "s3cret.xml", "s3cret-key", "apikey"] {
            assert!(!told.contains(secret), "{secret} in {told}");
        }
    }
}

/// The charset that only a header names is known to a replay, too.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_read_in_their_encoding_whoever_names_it() {
    const BODY: &[u8] = b"<planList><output><base_plan base_plan_id=\"1\" sell_mode=\"online\" \
        title=\"A\xf1o en M\xe1laga\"><plan plan_id=\"1\" plan_start_date=\"2031-06-30T21:00:00\">\
        <zone zone_id=\"1\" capacity=\"3\" price=\"5.00\"/></plan></base_plan></output></planList>";
    let (named, declared) = (Provider::start().await, Provider::start().await);
    named.answer(|_, _| {
        ([(header::CONTENT_TYPE, "text/xml; charset=ISO-8859-1")], BODY).into_response()
    });
    declared.answer(|_, _| {
        let declaration = b"<?xml version=\"1.0\" encoding=\"windows-1252\"?>".as_slice();
        [declaration, BODY].concat().into_response()
    });
    let mut installation = Installation::new(Engine::Embedded)
        .with_provider("named", &named.url())
        .with_provider("declared", &declared.url());
    let mut process = installation.up().await;
    for name in ["named", "declared"] {
        observed(&process, name, "unchanged").await;
    }
    assert_eq!(titles(&process, "").await, ["Año en Málaga"; 2]);
    assert!(process.stop().success());

    named.answer(|_, _| StatusCode::SERVICE_UNAVAILABLE.into_response());
    installation.timezone = "UTC".to_owned();
    let process = installation.up().await;
    let output = installation.command("up", &["ingest", "replay", "named"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let replayed = process
        .until("the replay", || async {
            let seen = process.provider("named").await?["last_replay"].clone();
            (seen != Value::Null).then_some(seen)
        })
        .await;
    assert_eq!(replayed["changed"], 1, "{replayed}");
    assert_eq!(titles(&process, "").await, ["Año en Málaga"; 2]);
    oracle::check_sequences(&process).await;
}

/// What can be bought has places left, and its address is one.
#[tokio::test(flavor = "multi_thread")]
async fn plans_on_sale_have_places_left() {
    let provider = Provider::start().await;
    let plan = |id: &str, capacities: [u32; 2]| {
        let zones = capacities.map(|capacity| {
            format!("<zone zone_id=\"{capacity}\" capacity=\"{capacity}\" price=\"5.00\"/>")
        });
        format!(
            "<plan plan_id=\"{id}\" plan_start_date=\"2031-06-30T21:00:00\" sold_out=\"false\">{}</plan>",
            zones.concat()
        )
    };
    let feed = |plans: &[String]| {
        format!(
            "<planList><output><base_plan base_plan_id=\"1\" sell_mode=\"online\" title=\"T\">{}\
             </base_plan></output></planList>",
            plans.concat()
        )
    };
    provider.serve(feed(&[plan("full", [0, 0]), plan("free", [0, 2])]));
    let installation = Installation::new(Engine::Embedded).with_provider("p", &provider.url());
    let process = installation.up().await;
    observed(&process, "p", "unchanged").await;
    let found = async |sale: &str| {
        let (_, page) = process.get(&format!("/v1/plans?sale={sale}")).await;
        let items = page["items"].as_array().unwrap().clone();
        items
            .iter()
            .map(|plan| (plan["plan_id"].clone(), plan["capacity"].clone()))
            .collect::<Vec<_>>()
    };
    process.until("both", || async { (process.search("").await.len() == 2).then_some(()) }).await;
    assert_eq!(found("on").await, [(json!("free"), json!(2))]);
    assert_eq!(found("sold_out").await, [(json!("full"), json!(0))]);

    // The same zones in another order are no news.
    let other = plan("free", [2, 0]);
    provider.serve(feed(&[other, plan("full", [0, 0])]));
    let requests = provider.requests();
    process
        .until("two more fetches", || async { (provider.requests() > requests + 2).then_some(()) })
        .await;
    let (_, page) = process.get("/v1/events/plans.events?after=beginning&type=plan.changed").await;
    assert_eq!(page["items"], json!([]));
}

//! The page at `/`, driven by a real browser. `make clients` installs what drives it.

mod issuer;

use almanac_event_log::{
    Append, EventLog, Headers, Record,
    embedded::{EmbeddedLog, EmbeddedOptions},
};
use almanac_tests::{
    process::{Engine, Installation},
    provider::Provider,
    root,
};
use bytes::Bytes;
use issuer::Issuer;
use reqwest::{StatusCode, header};
use std::fmt::Write;
use tokio::process::Command;

/// Plans around 14 May 2031, the day on which the browser believes to be.
fn feed() -> String {
    let mut feed = String::from("<planList><output>");
    let mut plan = |id: &str, title: &str, day: &str, sold_out: bool| {
        let title = title.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
        let _ = write!(
            feed,
            "<base_plan base_plan_id=\"{id}\" sell_mode=\"online\" title=\"{title}\"><plan plan_id=\"{id}\" \
             plan_start_date=\"{day}T20:00:00\" plan_end_date=\"{day}T22:00:00\" sold_out=\"{sold_out}\">\
             <zone zone_id=\"1\" capacity=\"5\" price=\"20.00\" name=\"Platea\" numbered=\"true\"/>\
             <zone zone_id=\"2\" capacity=\"7\" price=\"35.00\" name=\"&lt;b&gt;Grada&lt;/b&gt;\"/>\
             </plan></base_plan>"
        );
    };
    plan("1", "Concert of yesterday", "2031-05-13", false);
    plan("2", "Concert of today", "2031-05-14", false);
    plan("3", "Concert of the weekend", "2031-05-17", false);
    plan("4", "<img src=x onerror=alert(1)><script>alert(2)</script>", "2031-05-15", false);
    plan("5", "Sold out show", "2031-05-16", true);
    for number in 0..130 {
        plan(&format!("s{number}"), &format!("Series {number}"), "2031-07-01", false);
    }
    // Set aside, with what it is made of.
    feed += "<base_plan base_plan_id=\"x\" sell_mode=\"online\" title=\"&lt;b&gt;Refused&lt;/b&gt;\">\
             <plan plan_id=\"x\" plan_start_date=\"2031-02-30T20:00:00\" plan_end_date=\"2031-03-01T22:00:00\"/></base_plan>";
    feed + "</output></planList>"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_finds_its_way() {
    let provider = Provider::start().await;
    provider.serve(feed());
    let installation = Installation::new(Engine::Embedded).with_provider("fever", &provider.url());
    let mut process = installation.up().await;
    assert!(process.stop().success());
    write_what_no_table_takes(&installation).await;
    let process = installation.up().await;
    process
        .until("plans", || async { (process.search("").await.len() == 135).then_some(()) })
        .await;
    // Without providers of its own an installation makes forecasts up.
    let other = Installation::new(Engine::Embedded).with_demo();
    let demonstration = other.up().await;
    let issuer = Issuer::start().await;
    let oidc = format!("{{ issuer = \"{}\", client_id = \"almanac-page\" }}", issuer.url());
    let secured = Installation::new(Engine::Embedded).with(&format!("console.oidc = {oidc}"));
    let with_sign_in = secured.up().await;
    let scopes = "schedules:write";
    let minted = secured.command("up", &["token", "--scope", scopes, "--subject", "mary"]);
    assert!(minted.status.success(), "{minted:?}");
    issuer.gives(std::str::from_utf8(&minted.stdout).unwrap().trim());
    let scripts = root().join("tests/console");
    assert!(
        scripts.join("node_modules").exists(),
        "{} has no node_modules; `make clients` installs them",
        scripts.display()
    );
    let driven = Command::new("node")
        .arg(scripts.join("run.mjs"))
        .arg(process.url(""))
        .arg(demonstration.url(""))
        .arg(with_sign_in.url(""))
        .arg(issuer.url())
        .kill_on_drop(true)
        .output()
        .await
        .expect("node is installed");
    let said = String::from_utf8_lossy(&driven.stdout);
    let faults = String::from_utf8_lossy(&driven.stderr);
    assert!(driven.status.success(), "{said}{faults}");
    println!("{said}");
}

/// Two keys for operators to see set aside, and to do something about.
async fn write_what_no_table_takes(installation: &Installation) {
    let folder = installation.folder().join("up").join("log");
    let log = EmbeddedLog::open(EmbeddedOptions::new(folder)).unwrap();
    let appends = ["<b>nobody</b>", "nobody else"].map(|key| Append {
        topic: installation.topic("recipes.events").into(),
        partition: 0,
        record: Record {
            key: Bytes::from_static(key.as_bytes()),
            value: Some(Bytes::from_static(b"no event")),
            headers: Headers::default(),
            timestamp_ms: 0,
        },
    });
    log.append(appends.into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_small_and_packed() {
    let process = Installation::new(Engine::Embedded).up().await;
    let client = reqwest::Client::builder().no_gzip().no_brotli().build().unwrap();
    let page = client.get(process.url("/")).send().await.unwrap();
    assert_eq!(page.status(), StatusCode::OK);
    let page = page.text().await.unwrap();
    let parts: Vec<&str> = page.split('"').filter(|part| part.starts_with("/assets/")).collect();
    for encoding in ["gzip", "br"] {
        let mut bytes = 0;
        for part in [&["/"], &parts[..]].concat() {
            let request = client.get(process.url(part)).header(header::ACCEPT_ENCODING, encoding);
            let answer = request.send().await.unwrap();
            assert_eq!(answer.headers()[header::CONTENT_ENCODING], encoding, "{part}");
            bytes += answer.bytes().await.unwrap().len();
        }
        assert!(bytes < 100_000, "{bytes} bytes in {encoding}");
    }
}

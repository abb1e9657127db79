//! Months of organizers: a projection that came when there were plans already.

use almanac_tests::{
    process::{Engine, Installation, Process},
    provider::Provider,
};
use reqwest::StatusCode;
use serde_json::{Value, json};

/// Plan, organizer, start, prices.
type Said = (&'static str, &'static str, &'static str, &'static [&'static str]);

fn feed(plans: &[Said]) -> String {
    let mut out = String::from("<planList><output>");
    for (plan, organizer, start, prices) in plans {
        let organizer = match *organizer {
            "" => String::new(),
            id => format!("organizer_company_id=\"{id}\""),
        };
        out.push_str(&format!(
            "<base_plan base_plan_id=\"{plan}\" sell_mode=\"online\" {organizer} title=\"Plan {plan}\">\
             <plan plan_id=\"1\" plan_start_date=\"{start}\" sold_out=\"false\">"
        ));
        for price in *prices {
            out.push_str(&format!("<zone zone_id=\"1\" capacity=\"9\" price=\"{price}\"/>"));
        }
        out.push_str("</plan></base_plan>");
    }
    out + "</output></planList>"
}

async fn months(process: &Process, organizer: &str) -> Value {
    let (status, page) = process.get(&format!("/v1/organizers/{organizer}/months")).await;
    match status {
        StatusCode::NOT_FOUND => Value::Null,
        _ => page["items"].clone(),
    }
}

async fn until_months(process: &Process, organizer: &str, expected: Value) {
    let expected = &expected;
    let what = format!("months of {organizer}: {expected}");
    let told = process.until(&what, || async move {
        (months(process, organizer).await == *expected).then_some(())
    });
    told.await;
}

fn month(name: &str, plans: u64, sold_out: u64, share: Value, prices: Value) -> Value {
    json!({"month": name, "plans": plans, "listed": plans, "sold_out": sold_out,
        "sold_out_share": share, "prices": prices})
}

fn prices(plans: u64, [min, median, max]: [&str; 3]) -> Value {
    let number = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    json!([{"currency": null, "plans": plans, "min": number(min), "median": number(median),
        "max": number(max)}])
}

async fn told_by_month(engine: Engine) {
    let provider = Provider::start().await;
    let first: [Said; 6] = [
        // July on the wall of Madrid, June in UTC.
        ("1", "a b/ñ", "2031-07-01T01:00:00", &["20.00", "35.50"]),
        ("2", "a b/ñ", "2031-07-02T20:00:00", &["10.1"]),
        ("3", "a b/ñ", "2031-08-02T20:00:00", &[]),
        ("4", "2", "2031-07-02T20:00:00", &["1"]),
        ("5", "2", "2031-07-03T20:00:00", &["2"]),
        ("6", "", "2031-07-03T20:00:00", &["2"]),
    ];
    provider.serve(feed(&first));
    let installation = Installation::new(engine).with_provider("p", &provider.url());
    let mut process = installation.up().await;
    let (a, b) = ("a%20b%2F%C3%B1", "2");
    let july = month("2031-07", 2, 0, json!(0), prices(2, ["10.1", "15.05", "35.50"]));
    let august = month("2031-08", 1, 1, json!(1), json!([]));
    until_months(&process, a, json!([july, august])).await;
    let july = month("2031-07", 2, 0, json!(0), prices(2, ["1", "1.5", "2"]));
    until_months(&process, b, json!([july])).await;

    // One plan changes hands, one its month, one both, and one loses its organizer.
    let mut second = first;
    second[0].1 = "2";
    second[1].2 = "2031-09-01T20:00:00";
    (second[2].1, second[2].2) = ("2", "2031-09-01T20:00:00");
    second[3].1 = "";
    provider.serve(feed(&second));
    let expected_a = json!([month("2031-09", 1, 0, json!(0), prices(1, ["10.1", "10.1", "10.1"]))]);
    let expected_b = json!([
        month("2031-07", 2, 0, json!(0), prices(2, ["2", "11.00", "35.50"])),
        month("2031-09", 1, 1, json!(1), json!([])),
    ]);
    until_months(&process, a, expected_a.clone()).await;
    until_months(&process, b, expected_b.clone()).await;

    let (_, page) = process.get(&format!("/v1/organizers/{b}/months?limit=1")).await;
    assert_eq!(page["items"][0], expected_b[0]);
    let next = page["next_cursor"].as_str().unwrap();
    let path = format!("/v1/organizers/{b}/months?limit=1&cursor={next}");
    let (_, page) = process.get(&path).await;
    assert_eq!((&page["items"][0], &page["next_cursor"]), (&expected_b[1], &Value::Null));
    for (path, expected) in [
        ("/v1/organizers/nobody/months", 404),
        ("/v1/organizers/%00/months", 404),
        ("/v1/organizers/2/months?limit=0", 400),
        ("/v1/organizers/2/months?month=2031-07", 400),
        ("/v1/organizers/2", 404),
        (&*format!("/v1/organizers/{a}/months?cursor={next}"), 400),
    ] {
        let (status, body) = process.get(path).await;
        assert_eq!(status.as_u16(), expected, "{path}: {body}");
    }

    // Tables that are folded anew are the same, from what the log held before they were there.
    let path = "/v1/admin/projections/organizers/rebuilds";
    let body = json!({"reason": "a test", "dry_run": true, "events_per_s": 0}).to_string();
    let begun = process.send("POST", path, &[], body).await.unwrap();
    assert_eq!(begun.status, StatusCode::ACCEPTED, "{begun:?}");
    let path = &format!("/v1/admin/rebuilds/{}", begun.body["id"].as_str().unwrap());
    let asked = &process;
    let rebuilt = asked.until("the end of the rebuild", || async move {
        let (_, found) = asked.get(path).await;
        assert_ne!(found["state"], "failed", "{found}");
        (found["dropped"] == true).then_some(found)
    });
    let rebuilt = rebuilt.await;
    assert_eq!((&rebuilt["state"], &rebuilt["different_rows"]), (&json!("ready"), &json!(0)));
    let (live, again) = (&rebuilt["certificate"]["live"], &rebuilt["certificate"]["rebuilt"]);
    assert!(live == again && live["rows"].as_u64() > Some(4), "{rebuilt}");
    assert!(process.stop().success());
    if engine == Engine::Cluster {
        return;
    }
    // As if there had never been tables: all there is of them goes.
    drop(process);
    std::fs::remove_dir_all(installation.folder().join("up/tables")).unwrap();
    let process = installation.up().await;
    // No wait: ready means built.
    assert_eq!(months(&process, a).await, expected_a);
    assert_eq!(months(&process, b).await, expected_b);
}

#[tokio::test(flavor = "multi_thread")]
async fn organizers_have_months() {
    told_by_month(Engine::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn organizers_have_months_on_the_cluster() {
    told_by_month(Engine::Cluster).await;
}

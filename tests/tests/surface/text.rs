//! Text in all ways to write it, numbers, and what a client may send back as it got it.

use super::{ENGINES, SAMPLE, read};
use almanac_tests::{
    process::{Answer, Engine, Installation, Process},
    provider::Provider,
};
use reqwest::StatusCode;
use serde_json::{Value, json};

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

async fn write(process: &Process, body: &Value) -> Answer {
    let written = process.send("POST", "/v1/recipes", &[], body.to_string()).await.unwrap();
    assert_eq!(written.status, StatusCode::CREATED, "{written:?}");
    written
}

async fn names(process: &Process, question: (&str, &str), token: &str) -> Vec<String> {
    let url = reqwest::Url::parse_with_params("http://x/v1/recipes", [question]).unwrap();
    let query = url.query().unwrap();
    let headers = [("consistency-token", token), ("prefer", "handling=strict, wait=20")];
    let found = read(process, &format!("/v1/recipes?{query}"), &headers).await;
    assert_eq!(found.status, StatusCode::OK, "{question:?}: {found:?}");
    let items = found.body["items"].as_array().unwrap();
    items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

/// A recipe is found however its words are written, on both engines.
#[tokio::test(flavor = "multi_thread")]
async fn ways_to_write_a_word_are_one() {
    for engine in ENGINES {
        let installation = Installation::new(engine);
        let mut process = installation.up().await;
        let mut tokens = Vec::new();
        for (name, ingredient, used) in [
            ("Cre\u{300}me bru\u{302}le\u{301}e", "crème fraîche", "CRE\u{300}ME FRAI\u{302}CHE"),
            ("İstanbul kebabı", "İsot", "i\u{307}sot"),
            ("Phở bò", "bánh phở", "ba\u{301}nh pho\u{31b}\u{309}"),
            ("Straßenkuchen", "Süßrahm", "SÜSSRAHM"),
            ("Μουσακάς", "μελιτζάνα", "ΜΕΛΙΤΖΆΝΑ"),
            ("Schlag\u{ad}obers zero\u{200b}width", "x\u{200b}y", "xy"),
            ("四川の麻婆豆腐", "豆腐", "豆腐"),
        ] {
            let mut recipe = parsed(SAMPLE);
            recipe["name"] = json!(name);
            recipe["ingredients"] = json!([{ "ingredient": ingredient }]);
            recipe["steps"] = json!([{ "text": "Cook.", "ingredients": [used] }]);
            let written = write(&process, &recipe).await;
            tokens.push(written.header("consistency-token").to_owned());
        }
        // Each is of a partition of its own.
        let token = tokens.join(", ");
        for (question, name) in [
            (("q", "crème brulee"), "Cre\u{300}me bru\u{302}le\u{301}e"),
            (("ingredient", "CREME_FRAICHE"), "Cre\u{300}me bru\u{302}le\u{301}e"),
            (("q", "istanbul KEBABI"), "İstanbul kebabı"),
            (("ingredient", "isot"), "İstanbul kebabı"),
            (("q", "pho bo"), "Phở bò"),
            (("q", "strassenkuchen"), "Straßenkuchen"),
            (("ingredient", "su\u{308}ssrahm"), "Straßenkuchen"),
            (("q", "μουσακας"), "Μουσακάς"),
            (("q", "ΜΟΥΣΑΚΑΣ"), "Μουσακάς"),
            (("q", "schlagobers zerowidth"), "Schlag\u{ad}obers zero\u{200b}width"),
            (("ingredient", "xy"), "Schlag\u{ad}obers zero\u{200b}width"),
            (("q", "豆腐"), "四川の麻婆豆腐"),
            (("q", "豆"), "四川の麻婆豆腐"),
            (("q", "婆豆腐 四川"), "四川の麻婆豆腐"),
        ] {
            assert_eq!(names(&process, question, &token).await, [name], "{question:?}");
        }
        // All of its pairs are there, and the whole is not.
        for none in ["豆腐麻婆", "麻婆豆腐の麻婆", "豆麻"] {
            assert_eq!(names(&process, ("q", none), &token).await, [""; 0], "{none}");
        }
        assert!(process.stop().success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn titles_of_plans_are_found_in_all_ways_to_write_them() {
    let provider = Provider::start().await;
    let plan = |id: u8, title: &str| {
        format!(
            "<base_plan base_plan_id=\"{id}\" sell_mode=\"online\" title=\"{title}\"><plan plan_start_date=\"2031-06-30T21:00:00\" plan_end_date=\"2031-06-30T22:00:00\" plan_id=\"{id}\" sell_from=\"2020-07-01T00:00:00\" sell_to=\"2031-06-30T20:00:00\" sold_out=\"false\"><zone zone_id=\"1\" capacity=\"9\" price=\"20.00\" name=\"A\" numbered=\"false\"/></plan></base_plan>"
        )
    };
    let titles = ["Cafe\u{301} İpek", "Fußball-Gala", "大阪お好み焼き祭り"];
    let plans: String = titles.iter().zip(1..).map(|(title, id)| plan(id, title)).collect();
    provider.serve(format!("<planList><output>{plans}</output></planList>"));
    let installation = Installation::new(Engine::Embedded).with_provider("text", &provider.url());
    let mut process = installation.up().await;
    process
        .until("plans", || async {
            let (_, list) = process.get("/v1/plans").await;
            (list["items"].as_array()?.len() == titles.len()).then_some(())
        })
        .await;
    for (wanted, found) in [
        ("caf%C3%A9", &titles[..1]),
        ("CAFE+ipek", &titles[..1]),
        ("fuss", &titles[1..2]),
        ("FU%C3%9FBALL+gala", &titles[1..2]),
        ("%E7%84%BC%E3%81%8D", &titles[2..]),
        ("ball", &[]),
    ] {
        let (_, list) = process.get(&format!("/v1/plans?q={wanted}")).await;
        let items = list["items"].as_array().unwrap();
        let found_titles: Vec<&str> =
            items.iter().map(|item| item["title"].as_str().unwrap()).collect();
        assert_eq!(found_titles, found, "{wanted}");
    }
    assert!(process.stop().success());
}

/// What a client gets in any form, it may send back.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_got_can_be_put() {
    let installation = Installation::new(Engine::Embedded);
    let mut process = installation.up().await;
    let sent = SAMPLE.replacen("\"calories\": 1,", "\"calories\": 42e1,", 1);
    let written = process.send("POST", "/v1/recipes", &[], sent).await.unwrap();
    assert_eq!((written.status, &written.body["calories"]), (StatusCode::CREATED, &json!(420)));
    let path = written.header("location").to_owned();
    process.recipe_at(written.body["id"].as_str().unwrap(), 1).await;
    let put = async |body: &Value, headers: &[(&str, &str)]| {
        process.send("PUT", &path, headers, body.to_string()).await.unwrap()
    };
    let same = put(&written.body, &[("if-match", "\"1-gzip\"")]).await;
    assert_eq!((same.status, same.version()), (StatusCode::OK, Some(1)), "{same:?}");
    for (version, query) in [(2, "serves=7"), (3, "units=imperial"), (4, "serves=3&units=metric")] {
        let got = process.get(&format!("{path}?{query}")).await.1;
        let changed = put(&got, &[]).await;
        assert_eq!((changed.status, changed.version()), (StatusCode::OK, Some(version)));
        assert_eq!(changed.body["ingredients"], got["ingredients"], "{query}");
        process.recipe_at(changed.body["id"].as_str().unwrap(), version).await;
    }
    let known = process.get(&path).await.1;
    for (name, value) in [
        ("id", json!("0198c5a0-0000-7000-8000-000000000001")),
        ("version", json!(3)),
        ("created_at", json!("2020-01-01T00:00:00Z")),
        ("updated_at", json!(null)),
        ("thumbnail", json!("/v1/recipes/x/thumbnail?v=1")),
    ] {
        let mut otherwise = known.clone();
        otherwise[name] = value.clone();
        let refused = put(&otherwise, &[]).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{refused:?}");
        assert_eq!(refused.body["errors"][0]["pointer"], format!("#/{name}"));
        // Who expects another version is told that first.
        let stale = put(&otherwise, &[("if-match", "\"3\"")]).await;
        assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED, "{name}");
        let patch = json!({name: value}).to_string();
        let patched = process.send("PATCH", &path, &[], patch).await.unwrap();
        // In a merge patch null takes it out, which is the same as to leave it out.
        let expected = if value.is_null() { 200 } else { 422 };
        assert_eq!(patched.status.as_u16(), expected, "{name}: {patched:?}");
    }
    let (status, problem) = process.get(&format!("{path}?units=troy")).await;
    assert_eq!(
        (status, &problem["errors"][0]["pointer"]),
        (StatusCode::BAD_REQUEST, &json!("units"))
    );
    assert!(process.stop().success());
}

/// Proxies that compress change entity tags, and the tag is still that of the recipe.
#[tokio::test(flavor = "multi_thread")]
async fn tags_that_a_proxy_changed_are_known() {
    let installation = Installation::new(Engine::Embedded);
    let mut process = installation.up().await;
    let written = write(&process, &parsed(SAMPLE)).await;
    let path = written.header("location").to_owned();
    process.recipe_at(written.body["id"].as_str().unwrap(), 1).await;
    for tag in ["\"1\"", "W/\"1\"", "\"1-gzip\"", "W/\"1-gzip\"", "\"1;br\"", "\"0\", \"1--gzip\""]
    {
        let known = read(&process, &path, &[("if-none-match", tag)]).await;
        assert_eq!(known.status, StatusCode::NOT_MODIFIED, "{tag}");
        let body = written.body.to_string();
        let put = process.send("PUT", &path, &[("if-match", tag)], body).await.unwrap();
        assert_eq!((put.status, put.version()), (StatusCode::OK, Some(1)), "{tag}: {put:?}");
    }
    for tag in ["\"2-gzip\"", "\"2;br\""] {
        assert_eq!(read(&process, &path, &[("if-none-match", tag)]).await.status, StatusCode::OK);
        let put = process.send("PUT", &path, &[("if-match", tag)], SAMPLE).await.unwrap();
        assert_eq!(put.status, StatusCode::PRECONDITION_FAILED, "{tag}");
    }
    assert!(process.stop().success());
}

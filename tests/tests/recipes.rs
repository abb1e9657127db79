//! Recipes through the real binary: written, refused, repeated, raced for, and found.

use almanac_tests::process::{Answer, Engine, Installation, Process};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

const ENGINES: [Engine; 2] = [Engine::Embedded, Engine::Cluster];

fn sample() -> Value {
    json!({
        "name": "Paprika Chicken and Spinach", "description": "Quick and easy.", "author": "Mary",
        "difficulty": "EASY", "calories": 420, "tags": ["quick"],
        "ingredients": [
            {"ingredient": "FRESH_THYME", "preparation": "destalked", "quantity": {"value": 10.5, "unit": "G"}},
            {"ingredient": "GARLIC_CLOVE", "quantity": {"min": 3, "max": 4, "unit": "CLOVE"}},
            {"ingredient": "Salt", "quantity": null},
        ],
        "steps": [{"text": "Cook, stirring.", "ingredients": ["FRESH_THYME"], "duration": "PT2M"}],
        "serves": {"min": 2, "max": 4}, "tools": ["INSTANT_POT"], "notes": ["Use olive oil."],
        "times": {"preparation": "PT5M", "cooking": "PT5M"},
    })
}

fn named(name: &str) -> Value {
    let mut recipe = sample();
    recipe["name"] = json!(name);
    recipe
}

async fn send(process: &Process, method: &str, path: &str, body: &Value) -> Answer {
    process.send(method, path, &[], body.to_string()).await.unwrap()
}

/// What both engines must answer alike: everything but ids and times.
async fn life(engine: Engine) -> Vec<Value> {
    let installation = Installation::new(engine);
    let process = installation.up().await;
    let created = send(&process, "POST", "/v1/recipes", &sample()).await;
    assert_eq!(created.status, StatusCode::CREATED, "{created:?}");
    assert_eq!(created.header("etag"), "\"1\"");
    let id = created.body["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/recipes/{id}");
    assert_eq!(created.header("location"), path);
    let mut answers = vec![process.recipe_at(&id, 1).await];
    assert_eq!(answers[0], created.body, "what is read is what was answered");

    for (question, found) in [
        ("", true),
        ("ingredient=fresh_thyme&ingredient=garlic+CLOVE", true),
        ("ingredient=pepper", false),
        ("ingredient=salt&without_ingredient=fresh+thyme", false),
        ("author=MARY&difficulty=easy&tool=instant%20pot&tag=Quick", true),
        ("q=spinach+quick", true),
        ("q=spinach+slow", false),
        ("max_total_time=PT10M", true),
        ("max_total_time=PT9M59S", false),
    ] {
        let (status, list) = process.get(&format!("/v1/recipes?{question}")).await;
        assert_eq!(status, StatusCode::OK, "{question}: {list}");
        let ids: Vec<&Value> =
            list["items"].as_array().unwrap().iter().map(|item| &item["id"]).collect();
        assert_eq!(ids, vec![&json!(id); usize::from(found)], "{question}: {list}");
        assert_eq!(list["next_cursor"], Value::Null);
    }

    // Revising an ingredient away takes the recipe out of that question.
    let mut less = sample();
    less["ingredients"].as_array_mut().unwrap().remove(1);
    let revised =
        process.send("PUT", &path, &[("if-match", "W/\"1\"")], less.to_string()).await.unwrap();
    assert_eq!((revised.status, revised.version()), (StatusCode::OK, Some(2)), "{revised:?}");
    process.recipe_at(&id, 2).await;
    let (_, list) = process.get("/v1/recipes?ingredient=garlic_clove").await;
    assert_eq!(list["items"], json!([]));
    let stale =
        process.send("PUT", &path, &[("if-match", "\"1\"")], sample().to_string()).await.unwrap();
    assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED);
    assert_eq!(stale.header("etag"), "\"2\"", "the current version is told");
    let same = send(&process, "PUT", &path, &less).await;
    assert_eq!((same.status, same.version()), (StatusCode::OK, Some(2)), "nothing changed");
    let patched =
        send(&process, "PATCH", &path, &json!({"calories": null, "times": {"cooking": "PT1H"}}))
            .await;
    assert_eq!(patched.version(), Some(3));
    assert_eq!(patched.body["times"], json!({"preparation": "PT5M", "cooking": "PT1H"}));
    let bad = send(&process, "PATCH", &path, &json!({"name": null})).await;
    assert_eq!(bad.body["errors"][0]["pointer"], "#/name", "{bad:?}");
    answers.push(process.recipe_at(&id, 3).await);

    let deleted = send(&process, "DELETE", &path, &Value::Null).await;
    assert_eq!((deleted.status, deleted.version()), (StatusCode::OK, Some(4)), "{deleted:?}");
    process
        .until("it is gone", || async {
            (process.get(&path).await.0 == StatusCode::GONE).then_some(())
        })
        .await;
    assert_eq!(send(&process, "PUT", &path, &sample()).await.status, StatusCode::GONE);
    let (_, list) = process.get("/v1/recipes?author=mary").await;
    assert_eq!(list["items"], json!([]));
    let restored = send(&process, "POST", &format!("{path}/restore"), &Value::Null).await;
    assert_eq!(restored.version(), Some(5));
    process.recipe_at(&id, 5).await;
    let (_, old) = process.get(&format!("{path}?version=1")).await;
    assert_eq!(old, created.body, "history stays");
    let (_, scaled) = process.get(&format!("{path}?serves=6")).await;
    assert_eq!(scaled["ingredients"][0]["quantity"]["value"], 31.5);
    let (_, history) = process.get(&format!("{path}/history?limit=3")).await;
    let cursor = history["next_cursor"].as_str().unwrap();
    let (_, rest) = process.get(&format!("{path}/history?limit=3&cursor={cursor}")).await;
    assert_eq!(rest["next_cursor"], Value::Null);
    let items = |page: &Value| page["items"].as_array().unwrap().clone();
    let events = [items(&history), items(&rest)].concat();
    for (number, expected) in [(0, 200), (1, 200), (2, 200), (3, 410), (4, 200)] {
        let at = events[number]["occurred_at"].as_str().unwrap();
        let (status, then) = process.get(&format!("{path}?as_of={at}")).await;
        assert_eq!(status.as_u16(), expected, "{number}: {then}");
        if expected == 200 {
            let (_, version) = process.get(&format!("{path}?version={}", number + 1)).await;
            assert_eq!(then, version, "at its very time an event is known");
        }
    }
    let first: jiff::Timestamp = events[0]["occurred_at"].as_str().unwrap().parse().unwrap();
    let before = first - jiff::Span::new().milliseconds(1);
    for (question, expected) in [
        (format!("as_of={before}"), 404),
        (format!("as_of={first}&serves=6"), 200),
        (format!("as_of={first}&version=1"), 400),
        ("as_of=9999-01-01T00:00:00Z".to_owned(), 200),
        ("as_of=now".to_owned(), 400),
    ] {
        let (status, body) = process.get(&format!("{path}?{question}")).await;
        assert_eq!(status.as_u16(), expected, "{question}: {body}");
    }
    for item in items(&history).iter().chain(&items(&rest)) {
        answers.push(json!([item["version"], item["type"], item["changed"]]));
    }
    let missing = "/v1/recipes/0198c5a0-0000-7000-8000-000000000001";
    assert_eq!(send(&process, "PUT", missing, &sample()).await.status, StatusCode::NOT_FOUND);
    assert_eq!(process.get(missing).await.0, StatusCode::NOT_FOUND);

    // The outcome of a write that nobody waited for.
    let prefer = [("prefer", "respond-async")];
    let taken = process.send("PUT", &path, &prefer, sample().to_string()).await.unwrap();
    assert_eq!(taken.status, StatusCode::ACCEPTED);
    assert_eq!(taken.header("preference-applied"), "respond-async");
    let location = taken.header("location").to_owned();
    let outcome = |process: Arc<Process>| {
        let location = location.clone();
        async move {
            let outcome = process
                .until("an outcome", || async {
                    let (_, command) = process.get(&location).await;
                    (command["state"] == "decided").then(|| command["outcome"].clone())
                })
                .await;
            (outcome, Arc::into_inner(process).unwrap())
        }
    };
    let (first, mut process_again) = outcome(Arc::new(process)).await;
    assert_eq!((&first["status"], &first["headers"]["etag"]), (&json!(200), &json!("\"6\"")));
    assert!(process_again.stop().success());
    let (after_restart, mut process_again) = outcome(Arc::new(installation.up().await)).await;
    assert_eq!(after_restart, first, "outcomes survive a restart");
    process_again.recipe_at(&id, 6).await;
    assert!(process_again.stop().success());
    for answer in &mut answers {
        for name in ["id", "created_at", "updated_at"] {
            if answer.get(name).is_some() {
                answer[name] = Value::Null;
            }
        }
    }
    answers
}

/// What pages say of their recipes goes in, by HTTP and from the command line, and comes out again.
#[tokio::test(flavor = "multi_thread")]
async fn recipes_of_pages_go_in_and_come_out() {
    let installation = Installation::new(Engine::Embedded);
    let process = installation.up().await;
    let page = json!({"@context": "https://schema.org", "@graph": [{
        "@type": "Recipe", "name": "Thyme butter", "prepTime": "10 minutes", "recipeYield": "2 servings",
        "recipeIngredient": ["1/2 cup butter, soft", "1/3 cup thyme"],
        "recipeInstructions": [{"@type": "HowToStep", "text": "Stir."}],
    }]});
    let kind = [("content-type", "application/ld+json; charset=utf-8")];
    let created = process.send("POST", "/v1/recipes", &kind, page.to_string()).await.unwrap();
    assert_eq!(created.status, StatusCode::CREATED, "{created:?}");
    let ingredients = &created.body["ingredients"];
    assert_eq!(ingredients[0]["quantity"], json!({"value": 0.5, "unit": "CUP"}));
    assert_eq!(
        (&ingredients[1]["quantity"], &ingredients[1]["preparation"]),
        (&Value::Null, &json!("1/3 cup"))
    );
    let path = format!("/v1/recipes/{}", created.body["id"].as_str().unwrap());
    let token = created.header("consistency-token");
    let headers = [("accept", "application/ld+json"), ("consistency-token", token)];
    let told = process.send("GET", &path, &headers, "").await.unwrap();
    assert_eq!(told.header("content-type"), "application/ld+json");
    assert_eq!(told.header("vary"), "Accept, Accept-Encoding");
    assert_eq!(told.body["recipeIngredient"], json!(["0.5 cup butter, soft", "thyme, 1/3 cup"]));
    let replaced = process.send("PUT", &path, &kind, told.body.to_string()).await.unwrap();
    assert_eq!((replaced.status, &replaced.body["version"]), (StatusCode::OK, &json!(1)));
    for (body, status) in [("{}", 422), ("{\"@type\":\"Recipe\"}", 422), ("{", 400)] {
        let refused = process.send("POST", "/v1/recipes", &kind, body).await.unwrap();
        assert_eq!(refused.status, status, "{refused:?}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let html = format!("<html><script type=\"application/ld+json\">{page}</script></html>");
    std::fs::write(&file, html).unwrap();
    let file = file.path().to_str().unwrap();
    let url = process.url("");
    let imported = installation.command("up", &["recipes", "import", file, "--url", &url]);
    let said = String::from_utf8_lossy(&imported.stdout).into_owned();
    assert!(imported.status.success() && said.starts_with("created "), "{imported:?}");
    assert!(said.ends_with("Thyme butter\n"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_engines_keep_recipes_alike() {
    let embedded = life(Engine::Embedded).await;
    let cluster = life(Engine::Cluster).await;
    assert_eq!(embedded, cluster);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_writes_are_refused_and_change_nothing() {
    let installation = Installation::new(Engine::Embedded);
    let process = installation.up().await;
    let text = sample().to_string();
    let with = |from: &str, to: &str| text.replacen(from, to, 1);
    let cases: Vec<(String, u16, &str)> = vec![
        (String::new(), 400, "no JSON"),
        ("{".to_owned(), 400, "no JSON"),
        ("[]".to_owned(), 422, "object"),
        ("x".repeat(300_000), 413, "at most"),
        (format!("{}1{}", "[".repeat(50_000), "]".repeat(50_000)), 400, "deeper"),
        (with("\"name\"", "\"nome\""), 422, "#/nome"),
        (with("\"calories\":420", "\"calories\":\"many\""), 422, "#/calories"),
        (with("10.5", "1e400"), 422, "#/ingredients/0/quantity/value"),
        (with("\"unit\":\"G\"", "\"unit\":\"stone\""), 422, "#/ingredients/0/quantity/unit"),
        (with("Cook, stirring.", "Cook\\u0000"), 422, "#/steps/0/text"),
        (with("Cook, stirring.", "\\ud800"), 422, "#/steps/0/text"),
        (with("[\"FRESH_THYME\"]", "[\"PEPPER\"]"), 422, "#/steps/0/ingredients/0"),
    ];
    for (body, status, part) in cases {
        let shown: String = body.chars().take(60).collect();
        let answer = process.send("POST", "/v1/recipes", &[], body).await.unwrap();
        assert_eq!(answer.status.as_u16(), status, "{shown}: {answer:?}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert!(answer.body.to_string().contains(part), "{shown}: {answer:?}");
    }
    for (name, value) in [("if-match", "1"), ("if-match", "\"one\""), ("idempotency-key", "\"\"")] {
        let answer =
            process.send("POST", "/v1/recipes", &[(name, value)], text.clone()).await.unwrap();
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{name}: {value}");
    }
    let answer = process.send("PUT", "/v1/recipes/not-an-id", &[], text.clone()).await.unwrap();
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    let answer = process.send("POST", "/v1/recipes?x=1", &[], text.clone()).await.unwrap();
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    // A web page of somebody else must not write to a loopback installation.
    let foreign = [("origin", "https://evil.example"), ("content-type", "text/plain")];
    let answer = process.send("POST", "/v1/recipes", &foreign, text.clone()).await.unwrap();
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let (_, list) = process.get("/v1/recipes").await;
    assert_eq!(list["items"], json!([]), "nothing was written");
    // Kept as text, whatever it does to a terminal.
    let answer = send(&process, "POST", "/v1/recipes", &named("\u{202e}desserts")).await;
    assert_eq!(answer.body["name"], "\u{202e}desserts");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_is_the_same_request() {
    for engine in ENGINES {
        let installation = Installation::new(engine);
        let process = Arc::new(installation.up().await);
        let post = |body: Value| {
            let process = process.clone();
            tokio::spawn(async move {
                let headers = [("idempotency-key", "\"one\"")];
                process.send("POST", "/v1/recipes", &headers, body.to_string()).await.unwrap()
            })
        };
        let racing: Vec<_> = (0..24).map(|_| post(sample())).collect();
        let mut first = 0;
        let mut bodies = Vec::new();
        for answer in racing {
            let answer = answer.await.unwrap();
            assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
            first += usize::from(answer.header("idempotent-replayed").is_empty());
            bodies.push(answer.body);
        }
        assert_eq!(first, 1, "decided once");
        bodies.dedup();
        assert_eq!(bodies.len(), 1, "answered alike");
        let other = post(named("Another")).await.unwrap();
        assert_eq!(other.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(other.body["type"], "/problems/idempotency-key-reused");
        let id = bodies[0]["id"].as_str().unwrap();
        process.recipe_at(id, 1).await;
        let (_, list) = process.get("/v1/recipes").await;
        assert_eq!(list["items"].as_array().unwrap().len(), 1);
    }
}

/// Names that fold to nothing are kept as they were written, on both engines, and hold up nobody.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_for_is_read_all_the_same() {
    for engine in ENGINES {
        let installation = Installation::new(engine);
        let process = installation.up().await;
        for author in ["", " ", "_", "\u{a0}\t"] {
            let mut recipe = sample();
            recipe["author"] = json!(author);
            let created = send(&process, "POST", "/v1/recipes", &recipe).await;
            assert_eq!(created.status, StatusCode::CREATED, "{created:?}");
            let id = created.body["id"].as_str().unwrap();
            assert_eq!(process.recipe_at(id, 1).await["author"], author);
            let path = format!("/v1/recipes/{id}");
            recipe["author"] = json!("名".repeat(200));
            let longest = send(&process, "PUT", &path, &recipe).await;
            assert_eq!(longest.status, StatusCode::OK, "{longest:?}");
            process.recipe_at(id, 2).await;
            let asked = format!("/v1/recipes?author={}", "%E5%90%8D".repeat(200));
            // The list that the one before led to may still be kept.
            let token = longest.header("consistency-token");
            let strict = [("consistency-token", token), ("prefer", "handling=strict, wait=20")];
            let found = process.send("GET", &asked, &strict, "").await.unwrap().body;
            assert!(
                found["items"].as_array().unwrap().iter().any(|item| item["id"] == id),
                "{found}"
            );
        }
        for query in
            ["author=", "tag=_", "without_ingredient=+", &format!("tool={}", "x".repeat(201))]
        {
            let (status, problem) = process.get(&format!("/v1/recipes?{query}")).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{query}: {problem}");
        }
        for (prefix, expected) in
            [("x".repeat(60_000), StatusCode::BAD_REQUEST), ("%00".to_owned(), StatusCode::OK)]
        {
            let (status, _) = process.get(&format!("/v1/recipes/vocabulary?prefix={prefix}")).await;
            assert_eq!(status, expected);
        }
    }
}

/// Many clients change few recipes at once, each expecting the version that it saw. What was
/// accepted is a sequence without gaps; what was refused was really stale.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writes_are_linearizable() {
    const CLIENTS: usize = 12;
    const WRITES: usize = 25;
    for engine in ENGINES {
        let installation = Installation::new(engine);
        let process = Arc::new(installation.up().await);
        let mut ids = Vec::new();
        for number in 0..3 {
            let created =
                send(&process, "POST", "/v1/recipes", &named(&format!("r{number}"))).await;
            ids.push(created.body["id"].as_str().unwrap().to_owned());
        }
        let mut clients = Vec::new();
        for client in 0..CLIENTS {
            let (process, ids) = (process.clone(), ids.clone());
            clients.push(tokio::spawn(async move {
                let mut accepted = Vec::new();
                let mut seen = vec![1_u64; ids.len()];
                for write in 0..WRITES {
                    let which = (client + write) % ids.len();
                    let tag = format!("\"{}\"", seen[which]);
                    let name = format!("{client}.{write}");
                    let body = named(&name).to_string();
                    let path = format!("/v1/recipes/{}", ids[which]);
                    let headers = [("if-match", tag.as_str())];
                    let answer = process.send("PUT", &path, &headers, body).await.unwrap();
                    let current: u64 = answer.header("etag").trim_matches('"').parse().unwrap();
                    match answer.status {
                        StatusCode::OK => {
                            assert_eq!(current, seen[which] + 1, "the next version");
                            accepted.push((which, current, name));
                        }
                        StatusCode::PRECONDITION_FAILED => {
                            assert!(current > seen[which], "it was really stale");
                        }
                        status => panic!("{status}: {answer:?}"),
                    }
                    seen[which] = current;
                }
                accepted
            }));
        }
        let mut versions: Vec<BTreeMap<u64, String>> = vec![BTreeMap::new(); ids.len()];
        for client in clients {
            for (which, version, name) in client.await.unwrap() {
                assert!(versions[which].insert(version, name).is_none(), "accepted twice");
            }
        }
        for (id, versions) in ids.iter().zip(&versions) {
            let last = 1 + versions.len() as u64;
            assert_eq!(
                versions.keys().copied().collect::<Vec<_>>(),
                (2..=last).collect::<Vec<_>>()
            );
            let read = process.recipe_at(id, last).await;
            assert_eq!(read["name"], *versions.get(&last).unwrap());
            for (version, name) in versions {
                let (_, old) = process.get(&format!("/v1/recipes/{id}?version={version}")).await;
                assert_eq!(old["name"], *name);
            }
        }
    }
}

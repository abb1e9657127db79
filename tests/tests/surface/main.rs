//! What clients of recipes rely on beside the recipes: tokens for consistency and identity,
//! pictures, the words in use, and the commands of the binary.

mod analyse;
mod bounds;
mod canary;
mod containers;
mod contracts;
mod deploy;
mod pictures;
mod profiles;
mod refusals;
mod requests;
mod status;
mod tables;
mod text;

use almanac_tests::{
    process::{Answer, Engine, Installation, Process},
    recipe,
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::{
    path::Path,
    process::{Command, Output},
};

const ENGINES: [Engine; 2] = [Engine::Embedded, Engine::Cluster];
const SAMPLE: &str = include_str!("../../data/recipe.json");

async fn read(process: &Process, path: &str, headers: &[(&str, &str)]) -> Answer {
    process.send("GET", path, headers, "").await.unwrap()
}

/// A read with the token of a write shows the write, on every instance and after restarts.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_never_answered_with_less() {
    for engine in ENGINES {
        let installation = Installation::new(engine);
        let mut process = installation.up().await;
        let mut last = String::new();
        let mut id = String::new();
        for number in 1..=40_u64 {
            let body = recipe(&format!("r{number}"), &format!("i{number}"));
            let path = format!("/v1/recipes/{id}");
            let (method, path) =
                if number == 1 { ("POST", "/v1/recipes") } else { ("PUT", path.as_str()) };
            let written = process.send(method, path, &[], body).await.unwrap();
            assert!(written.status.is_success(), "{written:?}");
            last = written.header("consistency-token").to_owned();
            id = written.body["id"].as_str().unwrap().to_owned();
            let strict =
                [("consistency-token", last.as_str()), ("prefer", "handling=strict, wait=20")];
            let answer = read(&process, &format!("/v1/recipes/{id}"), &strict).await;
            assert_eq!((answer.status, answer.version()), (StatusCode::OK, Some(number)));
            assert_eq!(answer.header("preference-applied"), "handling=strict, wait=20");
            assert_eq!(answer.header("consistency"), "");
            let list = read(&process, &format!("/v1/recipes?ingredient=i{number}"), &strict).await;
            assert_eq!(list.body["items"][0]["id"], *id, "{number}");
            let before = format!("/v1/recipes?ingredient=i{}", number - 1);
            assert_eq!(read(&process, &before, &strict).await.body["items"], json!([]));
        }
        // A refused write's token asks for no more than there is. With a key it is the decider that
        // refuses; without one there would be no command, and no token.
        let stale = [("if-match", "\"1\""), ("idempotency-key", "refused")];
        let path = format!("/v1/recipes/{id}");
        let refused = process.send("DELETE", &path, &stale, "").await.unwrap();
        assert_eq!(refused.status, StatusCode::PRECONDITION_FAILED);
        assert_eq!(refused.header("consistency-token"), last);
        // Nor does the token of one that is not decided yet, and then refused.
        let stale =
            [("if-match", "\"1\""), ("idempotency-key", "undecided"), ("prefer", "respond-async")];
        let taken = process.send("DELETE", &path, &stale, "").await.unwrap();
        assert_eq!(taken.status, StatusCode::ACCEPTED);
        let undecided = taken.header("consistency-token").to_owned();
        assert_ne!(undecided, last);
        let both = format!("{undecided}, {last}");
        let strict = [("consistency-token", both.as_str()), ("prefer", "handling=strict, wait=20")];
        assert_eq!(read(&process, &path, &strict).await.version(), Some(40), "{engine:?}");

        assert!(process.stop().success());
        process = installation.up().await;
        assert_eq!(read(&process, &path, &strict).await.version(), Some(40), "after a restart");

        // What is not there yet: an older answer that says so, or an error.
        let (head, offset) = last.rsplit_once('-').unwrap();
        let later = format!("{head}-{}", offset.parse::<u64>().unwrap() + 1_000);
        let lenient = [("consistency-token", later.as_str()), ("prefer", "wait=1")];
        let answer = read(&process, &path, &lenient).await;
        assert_eq!((answer.status, answer.version()), (StatusCode::OK, Some(40)));
        assert_eq!(answer.header("consistency"), "stale");
        let strict = [("consistency-token", later.as_str()), ("prefer", "handling=strict, wait=1")];
        let answer = read(&process, &path, &strict).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.header("retry-after"), "1");
        let foreign = format!("{}-0-1", uuid::Uuid::new_v4().simple());
        for path in [path.as_str(), "/v1/recipes", "/v1/plans"] {
            for bad in ["x", "", foreign.as_str(), &format!("{last},x")] {
                let answer = read(&process, path, &[("consistency-token", bad)]).await;
                assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}: {bad:?}");
            }
        }
        assert!(process.stop().success());
    }
}

/// Everybody behind a proxy on this machine comes from this machine.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_not_the_local_user() {
    let installation = Installation::new(Engine::Embedded);
    let mut process = installation.up().await;
    let write = async |process: &Process, headers: &[(&str, &str)]| {
        let body = recipe("r", "i");
        process.send("POST", "/v1/recipes", headers, body).await.unwrap().status
    };
    assert_eq!(write(&process, &[]).await, StatusCode::CREATED);
    for name in ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-real-ip", "via"] {
        let passed_on = [(name, "192.0.2.1")];
        assert_eq!(write(&process, &passed_on).await, StatusCode::UNAUTHORIZED, "{name}");
        let fetch = "/v1/providers/p/fetches";
        let operator = process.send("POST", fetch, &passed_on, "").await.unwrap();
        assert_eq!(operator.status, StatusCode::UNAUTHORIZED, "{name}");
        let events = read(&process, "/v1/events/recipes.events", &passed_on).await;
        assert_eq!(events.status, StatusCode::UNAUTHORIZED, "{name}");
        let public = read(&process, "/v1/recipes", &passed_on).await;
        assert_eq!(public.status, StatusCode::OK, "{name}");
    }
    // Who has a token needs no more, through whatever it comes.
    let minted = installation.command("up", &["token", "--scope", "recipes:write"]);
    let token = format!("Bearer {}", String::from_utf8(minted.stdout).unwrap().trim());
    let with_token = [("authorization", token.as_str()), ("x-forwarded-for", "192.0.2.1")];
    assert_eq!(write(&process, &with_token).await, StatusCode::CREATED);
    assert!(process.stop().success());
    // A proxy that says nothing of itself cannot be told: then nobody is the local user.
    let installation = Installation::new(Engine::Embedded).with("identity.local_user = false");
    let process = installation.up().await;
    assert_eq!(write(&process, &[]).await, StatusCode::UNAUTHORIZED);
    let minted = installation.command("up", &["token", "--scope", "recipes:write"]);
    let token = format!("Bearer {}", String::from_utf8(minted.stdout).unwrap().trim());
    assert_eq!(write(&process, &[("authorization", &token)]).await, StatusCode::CREATED);
}

/// Each address says which methods it has, whichever API they belong to, and refuses others with a
/// problem document.
#[tokio::test(flavor = "multi_thread")]
async fn methods_are_told_and_refused() {
    let installation = Installation::new(Engine::Embedded);
    let process = installation.up().await;
    for (path, methods) in [
        ("/v1/recipes", "GET,HEAD,POST"),
        ("/v1/recipes/x", "GET,HEAD,PUT,PATCH,DELETE"),
        ("/v1/recipes/x/restore", "POST"),
        ("/v1/recipes/x/thumbnail", "GET,HEAD,PUT,DELETE"),
        ("/v1/commands/x", "GET,HEAD"),
        ("/v1/plans", "GET,HEAD"),
        ("/v1/providers/x/fetches", "POST"),
        ("/openapi.json", "GET,HEAD"),
        ("/search", "GET,HEAD,OPTIONS"),
    ] {
        let told = process.send("OPTIONS", path, &[], "").await.unwrap();
        assert_eq!(
            (told.status, told.header("allow")),
            (StatusCode::NO_CONTENT, methods),
            "{path}"
        );
        let bad_token = [("consistency-token", "x")];
        let refused = process.send("TRACE", path, &bad_token, "").await.unwrap();
        assert_eq!(refused.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert_eq!(refused.header("allow"), methods, "{path}");
        let code =
            if path == "/search" { &refused.body["error"]["code"] } else { &refused.body["type"] };
        assert!(
            ["METHOD_NOT_ALLOWED", "/problems/method-not-allowed"]
                .map(Some)
                .contains(&code.as_str()),
            "{refused:?}"
        );
    }
    // A browser's question for another origin is answered beside it.
    let asks = [("origin", "https://example.org"), ("access-control-request-method", "GET")];
    let told = process.send("OPTIONS", "/v1/recipes/x", &asks, "").await.unwrap();
    assert_eq!(told.header("access-control-allow-origin"), "*");
    assert_eq!(told.header("access-control-allow-methods"), "GET, HEAD");
}

/// Two command APIs, two projectors and a query API share the work; each token holds everywhere.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_hold_across_instances() {
    let installation = Installation::new(Engine::Cluster);
    let roles = ["command-api", "command-api", "projector", "projector", "query-api"];
    let mut processes: Vec<Process> = roles
        .iter()
        .enumerate()
        .map(|(place, role)| installation.start(role, &format!("{role}-{place}")))
        .collect();
    for process in &processes {
        process.ready().await;
    }
    for number in 0..30_usize {
        let writer = &processes[number % 2];
        let body = recipe(&format!("r{number}"), "salt");
        let written = writer.send("POST", "/v1/recipes", &[], body).await.unwrap();
        assert_eq!(written.status, StatusCode::CREATED, "{written:?}");
        let strict = [
            ("consistency-token", written.header("consistency-token")),
            ("prefer", "handling=strict, wait=20"),
        ];
        for reader in [&processes[4], &processes[(number + 1) % 2]] {
            let answer = read(reader, written.header("location"), &strict).await;
            assert_eq!((answer.status, &answer.body), (StatusCode::OK, &written.body));
        }
    }
    for process in &mut processes {
        assert!(process.stop().success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_say_who_may_do_what() {
    let installation = Installation::new(Engine::Embedded).with_demo();
    let mut process = installation.up().await;
    let mint = |scope: &str, subject: &str| {
        let output = installation.command("up", &["token", "--scope", scope, "--subject", subject]);
        assert!(output.status.success(), "{output:?}");
        format!("Bearer {}", String::from_utf8(output.stdout).unwrap().trim())
    };
    let refused = installation.command("up", &["token", "--scope", "recipes:wrote"]);
    assert!(String::from_utf8(refused.stderr).unwrap().contains("recipes:write"));
    let (mary, tom) = (mint("recipes:write", "mary"), mint("recipes:write", "tom"));
    let (admin, reader) = (mint("admin recipes:write", "root"), mint("events:read", "mary"));
    let as_whom = |token: &str| vec![("authorization".to_owned(), token.to_owned())];
    let send = async |method: &str, path: &str, headers: Vec<(String, String)>, body: String| {
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        process.send(method, path, &headers, body).await.unwrap()
    };
    let body = || recipe("hers", "salt");
    let created = send("POST", "/v1/recipes", as_whom(&mary), body()).await;
    assert_eq!(created.status, StatusCode::CREATED, "{created:?}");
    let path = created.header("location").to_owned();
    let other = || recipe("his", "salt");
    assert_eq!(send("PUT", &path, as_whom(&tom), other()).await.status, StatusCode::FORBIDDEN);
    assert_eq!(send("PUT", &path, as_whom(&mary), other()).await.version(), Some(2));
    assert_eq!(send("DELETE", &path, as_whom(&admin), String::new()).await.version(), Some(3));
    let lacking = send("POST", "/v1/recipes", as_whom(&reader), body()).await;
    assert_eq!(lacking.status, StatusCode::FORBIDDEN);
    assert!(lacking.header("www-authenticate").contains("insufficient_scope"), "{lacking:?}");
    let bad = send("POST", "/v1/recipes", as_whom("Bearer x.y.z"), body()).await;
    assert_eq!(bad.status, StatusCode::UNAUTHORIZED);
    assert!(bad.header("www-authenticate").contains("invalid_token"), "{bad:?}");
    assert_eq!(send("POST", "/v1/recipes", vec![], body()).await.status, StatusCode::CREATED);

    // The same key of two callers is two requests; an outcome is its issuer's.
    let keyed = |token: &str| {
        let mut headers = as_whom(token);
        headers.push(("idempotency-key".to_owned(), "k".to_owned()));
        headers.push(("prefer".to_owned(), "respond-async".to_owned()));
        headers
    };
    let hers = send("POST", "/v1/recipes", keyed(&mary), body()).await;
    let his = send("POST", "/v1/recipes", keyed(&tom), body()).await;
    let location = hers.header("location").to_owned();
    assert_ne!(location, his.header("location"));
    let outcome = process
        .until("the outcome", || async {
            let answer = send("GET", &location, as_whom(&mary), String::new()).await;
            (answer.body["state"] == "decided").then_some(answer)
        })
        .await;
    assert_eq!(outcome.body["outcome"]["status"], 201);
    let foreign = send("GET", &location, as_whom(&tom), String::new()).await;
    assert_eq!(foreign.status, StatusCode::NOT_FOUND);

    // Operators and consumers.
    let fetch = "/v1/providers/demo/fetches";
    assert_eq!(
        send("POST", fetch, as_whom(&mary), String::new()).await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        send("POST", fetch, as_whom(&admin), String::new()).await.status,
        StatusCode::ACCEPTED
    );
    let events = "/v1/events/recipes.events";
    assert_eq!(
        send("GET", events, as_whom(&tom), String::new()).await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(send("GET", events, as_whom(&reader), String::new()).await.status, StatusCode::OK);
    assert!(process.stop().success());

    // With an identity provider there is no local user; reads stay public.
    let keys = installation.folder().join("jwks.json");
    std::fs::copy(installation.folder().join("up").join("identity.jwks.json"), &keys).unwrap();
    let installation = installation.with(&format!("identity = {{ jwks_file = {keys:?} }}"));
    let mut process = installation.up().await;
    let answer = process.send("POST", "/v1/recipes", &[], body()).await.unwrap();
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.header("www-authenticate").starts_with("Bearer"), "{answer:?}");
    assert_eq!(process.get("/v1/recipes").await.0, StatusCode::OK);
    let with = [("authorization", mary.as_str())];
    let answer = process.send("POST", "/v1/recipes", &with, body()).await.unwrap();
    assert_eq!(answer.status, StatusCode::CREATED);
    assert!(process.stop().success());
}

fn png(width: u32, height: u32) -> Vec<u8> {
    let picture = image::RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([(x * 3) as u8, (y * 5) as u8, (x ^ y) as u8])
    });
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_vocabulary_is_what_is_in_use() {
    let installation = Installation::new(Engine::Embedded);
    let mut process = installation.up().await;
    let created = process.send("POST", "/v1/recipes", &[], SAMPLE.to_owned()).await.unwrap();
    process.send("POST", "/v1/recipes", &[], recipe("b", "Fresh Thyme")).await.unwrap();
    let deleted = process.send("DELETE", created.header("location"), &[], "").await.unwrap();
    let token = [("consistency-token", deleted.header("consistency-token"))];
    let words = read(&process, "/v1/recipes/vocabulary", &token).await.body;
    assert_eq!(words["ingredients"], json!(["fresh thyme"]), "{words}");
    assert_eq!(words["tools"], json!([]));
    let restore = format!("{}/restore", created.header("location"));
    let restored = process.send("POST", &restore, &[], "").await.unwrap();
    let token = [("consistency-token", restored.header("consistency-token"))];
    let words = read(&process, "/v1/recipes/vocabulary?prefix=IN", &token).await.body;
    assert_eq!(words["tools"], json!(["inner pot", "instant pot"]), "{words}");
    assert_eq!((&words["ingredients"], &words["has_more"]), (&json!([]), &json!(false)));
    assert!(process.stop().success());
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn edit(installation: &Installation, id: &str, editor: &str) -> Output {
    Command::new(almanac_tests::process::binary())
        .arg("--config")
        .arg(installation.folder().join("up.toml"))
        .args(["recipes", "edit", id])
        .env("EDITOR", editor)
        .env_remove("VISUAL")
        .output()
        .unwrap()
}

/// The sample of the source data, its spelling adapted, from a terminal.
#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_enough() {
    let installation = Installation::new(Engine::Embedded);
    let mut process = installation.up().await;
    let run = |arguments: &[&str]| {
        let arguments: Vec<&str> = ["recipes"].iter().chain(arguments).copied().collect();
        installation.command("up", &arguments)
    };
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/recipe.json");
    let file = file.to_str().unwrap();
    let created = text(&run(&["create", file, "--idempotency-key", "once", "--json"]));
    let created: Value = serde_json::from_str(&created).unwrap();
    let again = text(&run(&["create", file, "--idempotency-key", "once"]));
    let id = created["id"].as_str().unwrap();
    assert!(again.contains(id), "{again}");
    process
        .until("the recipe", || async {
            (process.get(&format!("/v1/recipes/{id}")).await.0 == StatusCode::OK).then_some(())
        })
        .await;
    let shown = text(&run(&["get", id, "--serves", "4"]));
    assert!(shown.contains("20 g FRESH_THYME, destalked"), "{shown}");
    let json: Value = serde_json::from_str(&text(&run(&["get", id, "--json"]))).unwrap();
    assert_eq!(json, created);
    let found = text(&run(&["list", "--ingredient", "garlic clove", "--tool", "instant pot"]));
    assert!(found.contains(id), "{found}");
    assert!(!text(&run(&["list", "--without-ingredient", "garlic clove"])).contains(id));

    let edited = text(&edit(&installation, id, "sed -i s/EASY/HARD/"));
    assert!(edited.contains("revised") && edited.contains("version 2"), "{edited}");
    process
        .until("version 2", || async {
            let (_, body) = process.get(&format!("/v1/recipes/{id}")).await;
            (body["difficulty"] == "HARD").then_some(())
        })
        .await;
    assert!(text(&edit(&installation, id, "true")).contains("nothing was changed"));
    let refused = edit(&installation, id, "sed -i s/HARD/HARDER/");
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && told.contains("#/difficulty"), "{told}");
    let kept = told.split("kept in ").nth(1).unwrap().split(':').next().unwrap();
    assert!(std::fs::read_to_string(kept).unwrap().contains("HARDER"));
    std::fs::remove_file(kept).unwrap();

    let picture = installation.folder().join("picture.png");
    std::fs::write(&picture, png(300, 200)).unwrap();
    let set = text(&run(&["thumbnail", id, picture.to_str().unwrap()]));
    assert!(set.contains("version 3"), "{set}");
    let output = installation.folder().join("small.jpg");
    process
        .until("the picture", || async {
            let path = output.to_str().unwrap();
            let fetched = run(&["thumbnail", id, "--output", path, "--width", "100"]);
            fetched.status.success().then_some(())
        })
        .await;
    assert_eq!(image::open(&output).unwrap().width(), 128);

    assert!(text(&run(&["thumbnail", id, "--remove"])).contains("version 4"));
    let stale = run(&["delete", id, "--if-version", "1"]);
    assert!(String::from_utf8_lossy(&stale.stderr).contains("version 4"), "{stale:?}");
    assert!(text(&run(&["delete", id])).contains("deleted"));
    assert!(text(&run(&["restore", id])).contains("version 6"));
    process
        .until("six events", || async {
            (text(&run(&["history", id])).lines().count() == 6).then_some(())
        })
        .await;
    let history = text(&run(&["history", id]));
    assert!(history.lines().nth(1).unwrap().ends_with("difficulty"), "{history}");
    let missing = run(&["get", "0198c5a0-0000-7000-8000-000000000001"]);
    assert!(String::from_utf8_lossy(&missing.stderr).contains("404"), "{missing:?}");
    assert!(process.stop().success());
}

/// Schemathesis reads the OpenAPI document and sends what it allows and what it does not: no server
/// error, no answer that is not described. What it is not asked stands in its configuration.
#[tokio::test(flavor = "multi_thread")]
async fn the_openapi_document_is_true() {
    // Both engines are behind the same routes: the slower one is asked less.
    for (engine, examples) in [(Engine::Embedded, "20"), (Engine::Cluster, "5")] {
        // It asks for profiles and for traces of what is not there, too, and waits for each.
        let bounds = "http.profile_time = \"1s\"\nhttp.inspect_time = \"1s\"";
        let installation = Installation::new(engine).with(bounds);
        let process = installation.up().await;
        let output = almanac_tests::python_program("schemathesis")
            .current_dir(installation.folder())
            .env("PYTHONPATH", Path::new(env!("CARGO_MANIFEST_DIR")).join("clients"))
            .env("SCHEMATHESIS_HOOKS", "schemathesis_hooks")
            .arg("--config-file")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/schemathesis.toml"))
            .args(["run", &process.url("/openapi.json"), "--seed", "1", "--max-examples", examples])
            .args(["--generation-database", "none", "--request-timeout", "30", "--no-color"])
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{engine:?}: {told}");
        // It went through all of the document.
        let count = |line: &str| told.lines().find_map(|told| told.trim().strip_prefix(line));
        let operations = count("Tested: ").and_then(|text| text.parse::<usize>().ok());
        let document: Value = process.get("/openapi.json").await.1;
        let paths = document["paths"].as_object().unwrap().values();
        let described: usize = paths.map(|path| path.as_object().unwrap().len()).sum();
        assert_eq!(operations, Some(described), "{told}");
        assert!(process.log().lines().all(|line| !line.contains("panicked")), "{}", process.log());
    }
}

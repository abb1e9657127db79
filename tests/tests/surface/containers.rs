//! The compose file and the Dockerfile, as far as they go without a container engine: what they set is
//! known to the binary, and the roles that they start work together.

use almanac_tests::{
    address,
    process::{Engine, Installation, Process, binary, free_port},
    python_program, recipe, root,
    webhooks::SECRET,
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::{collections::BTreeMap, process::Command};

const COMPOSE: &str = "docker-compose.kafka.yml";

/// Environment of the image, from the Dockerfile.
fn image() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(root().join("Dockerfile")).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix("ENV "));
    let pairs = lines.flat_map(str::split_whitespace).map(|pair| pair.split_once('=').unwrap());
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn document() -> Value {
    let output = python_program("python")
        .args([
            "-c",
            "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))",
        ])
        .arg(root().join(COMPOSE))
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).expect("YAML")
}

/// Almanac's services: the command of each, and its environment.
fn services() -> BTreeMap<String, BTreeMap<String, String>> {
    let document = document();
    let services = document["services"].as_object().unwrap().values();
    // The canary, which has a profile, is a client; what makes a key runs another program.
    let ours = services.filter(|service| {
        let lacks = |name: &str| service.get(name).is_none();
        service.get("build").is_some() && lacks("profiles") && lacks("entrypoint")
    });
    ours.map(|service| {
        let mut environment = image();
        for (name, value) in service["environment"].as_object().unwrap() {
            let value = value.as_str().expect("a string");
            // What whoever starts them may set, with its default.
            let of_caller = value.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
            let default = of_caller.map(|of_caller| of_caller.split_once(":-").unwrap().1);
            environment.insert(name.clone(), default.unwrap_or(value).to_owned());
        }
        (service["command"].as_str().unwrap().to_owned(), environment)
    })
    .collect()
}

/// What only a container has stands elsewhere here.
fn outside(
    installation: &Installation,
    role: &str,
    port: u16,
    mut environment: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let folder = installation.folder();
    let path = |name: &str| folder.join(name).display().to_string();
    for (name, inside, here) in [
        (
            "ALMANAC_CONFIG",
            "/etc/almanac/almanac.toml",
            root().join("almanac.example.toml").display().to_string(),
        ),
        ("ALMANAC__DATA_DIR", "/var/lib/almanac", path(role)),
        (
            "ALMANAC__IDENTITY__OWN_KEY_FILE",
            "/var/lib/almanac-key/jwks.json",
            path("key/jwks.json"),
        ),
        (
            "ALMANAC__NOTIFICATIONS__KEY_FILE",
            "/var/lib/almanac-key/notifications.key",
            path("key/notifications.key"),
        ),
        ("ALMANAC__HTTP__LISTEN", "0.0.0.0:8080", format!("0.0.0.0:{port}")),
        ("ALMANAC__KAFKA__BOOTSTRAP_SERVERS", "kafka:9092", address("ALMANAC_TEST_KAFKA")),
        ("ALMANAC__SCYLLA__NODES", "scylla:9042", address("ALMANAC_TEST_SCYLLA")),
        (
            "ALMANAC__SCHEMA_REGISTRY__URL",
            "http://registry:8080/apis/ccompat/v7",
            address("ALMANAC_TEST_REGISTRY"),
        ),
    ] {
        let before = environment.insert(name.to_owned(), here);
        assert_eq!(before.as_deref(), Some(inside), "{name}");
    }
    // Other tests use the same servers.
    environment.insert("ALMANAC__TOPIC_PREFIX".to_owned(), installation.topic(""));
    environment.insert("ALMANAC__SCYLLA__KEYSPACE".to_owned(), installation.name.clone());
    environment
}

/// Runs what makes the key of notifications, twice; the key.
fn make_key(installation: &Installation) -> Vec<u8> {
    let document = document();
    let service = &document["services"]["notifications-key"];
    let folder = installation.folder().join("key");
    std::fs::create_dir_all(&folder).unwrap();
    let run = || {
        let [command] = service["command"].as_array().unwrap().as_slice() else {
            panic!("{service}");
        };
        let inside = command.as_str().unwrap();
        let here = inside.replace("/var/lib/almanac-key", &folder.display().to_string());
        assert_ne!(here, inside);
        let mut program = service["entrypoint"].as_array().unwrap().iter();
        let mut command = Command::new(program.next().unwrap().as_str().unwrap());
        command.args(program.map(|argument| argument.as_str().unwrap()));
        assert!(command.arg(here).status().unwrap().success());
        std::fs::read(folder.join("notifications.key")).unwrap()
    };
    let made = run();
    assert_eq!(run(), made, "there already");
    made
}

/// Processes of their own share a key that secrets of webhooks are kept under.
#[test]
fn roles_on_kubernetes_share_the_key_of_notifications() {
    let folder = root().join("deploy/kubernetes/base");
    let config = std::fs::read_to_string(folder.join("almanac.toml")).unwrap();
    const FILE: &str = "/run/secrets/almanac/notifications.key";
    assert!(config.contains(&format!("[notifications]\nkey_file = \"{FILE}\"\n")));
    for role in ["command-api", "worker"] {
        let manifest = std::fs::read_to_string(folder.join(format!("{role}.yaml"))).unwrap();
        for line in [
            "{ name: secrets, mountPath: /run/secrets/almanac, readOnly: true }",
            "{ name: secrets, secret: { secretName: almanac,",
        ] {
            assert!(manifest.contains(line), "{role}: {line}");
        }
    }
    let page = std::fs::read_to_string(root().join("docs/deployment.md")).unwrap();
    assert!(page.contains("--from-file=notifications.key"), "how the secret is made");
}

#[test]
fn the_compose_file_is_one() {
    let output = python_program("check-jsonschema")
        .args(["--builtin-schema", "vendor.compose-spec"])
        .arg(root().join(COMPOSE))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn composed_roles_work_together() {
    let installation = Installation::new(Engine::Cluster);
    assert_eq!(make_key(&installation).len(), 32);
    let environments: BTreeMap<_, _> = services()
        .into_iter()
        .map(|(role, environment)| {
            let port = free_port();
            let environment = outside(&installation, &role, port, environment);
            (role, (port, environment))
        })
        .collect();
    let command = |role: &str, arguments: &[&str]| {
        let mut command = Command::new(binary());
        command.envs(&environments[role].1).args(arguments);
        command
    };
    let mut processes: BTreeMap<&str, Process> = environments
        .iter()
        .map(|(role, (port, _))| {
            let role = role.as_str();
            (role, installation.spawn(command(role, &[role]), *port, role))
        })
        .collect();
    assert_eq!(
        processes.keys().copied().collect::<Vec<_>>(),
        ["command-api", "ingestor", "projector", "query-api", "worker"]
    );
    for process in processes.values() {
        process.ready().await;
    }
    let mint = |scope| {
        let output = command("command-api", &["token", "--scope", scope]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        format!("Bearer {}", String::from_utf8(output.stdout).unwrap().trim())
    };
    let (writer, reader) = (mint("recipes:write"), mint("events:read"));
    let subscriber = mint("subscriptions:write");

    let body = || recipe("composed", "salt");
    let writes = &processes["command-api"];
    let nobody = writes.send("POST", "/v1/recipes", &[], body()).await.unwrap();
    assert_eq!(nobody.status, StatusCode::UNAUTHORIZED, "not on loopback");
    // Roles that have only just started may take longer than a write waits by itself.
    let with = [("authorization", writer.as_str()), ("prefer", "wait=30")];
    let written = writes.send("POST", "/v1/recipes", &with, body()).await.unwrap();
    assert_eq!(written.status, StatusCode::CREATED, "{written:?}");

    // A secret is kept under the key that was made.
    let told = json!({"types": ["plan.listed"], "url": "https://example.com/", "secret": SECRET});
    let with = [("authorization", subscriber.as_str())];
    let subscribed =
        writes.send("POST", "/v1/subscriptions", &with, told.to_string()).await.unwrap();
    assert_eq!(subscribed.status, StatusCode::CREATED, "{subscribed:?}");

    // Another process takes the tokens of the same key, and has what was written.
    let reads = &processes["query-api"];
    let headers = [
        ("consistency-token", written.header("consistency-token")),
        ("prefer", "handling=strict, wait=30"),
    ];
    let read = reads.send("GET", written.header("location"), &headers, "").await.unwrap();
    assert_eq!((read.status, read.version()), (StatusCode::OK, Some(1)), "{read:?}");
    let events = "/v1/events/recipes.events";
    let with = [("authorization", reader.as_str())];
    let listed = reads.send("GET", events, &with, "").await.unwrap();
    assert_eq!(listed.status, StatusCode::OK, "{listed:?}");
    assert_eq!(listed.body["items"].as_array().map(Vec::len), Some(1), "{listed:?}");

    // Two that share a folder would have one name, and take the partitions from each other for ever.
    for (role, held) in [("projector", "projector.lock"), ("ingestor", "ingestor-1")] {
        let port = free_port();
        let mut again = command(role, &[role]);
        again.env("ALMANAC__HTTP__LISTEN", format!("127.0.0.1:{port}"));
        let name = format!("{role}-again");
        let second = installation.spawn(again, port, &name);
        let refused = second
            .until("the end", || async {
                let log = second.log();
                log.contains("needs a data_dir of its own").then_some(log)
            })
            .await;
        assert!(refused.contains(held), "{refused}");
    }
    for process in processes.values_mut() {
        assert!(process.stop().success());
    }
}

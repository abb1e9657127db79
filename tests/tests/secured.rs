//! Servers that want TLS, certificates and passwords: with the right ones all works, and with a wrong
//! one the log says which.

use almanac_tests::{
    process::{Engine, Installation, Process, binary, free_port},
    recipe, root, stack,
};
use reqwest::StatusCode;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The three servers, for as long as this lives.
struct Secured {
    folder: tempfile::TempDir,
    environment: String,
}

fn stack_script(folder: &Path, command: &[&str]) -> std::process::Output {
    Command::new(root().join("tests/stack/stack.sh"))
        .args(command)
        .env("ALMANAC_STACK_DIR", folder)
        .env("ALMANAC_STACK_LIB", stack().join("lib"))
        .env("ALMANAC_STACK_SECURED", "yes")
        .output()
        .unwrap()
}

impl Secured {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let output = stack_script(folder.path(), &["up"]);
        let environment = String::from_utf8(output.stdout).unwrap();
        let started = Self { folder, environment };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        started
    }

    fn address(&self, name: &str) -> &str {
        let mut lines = self.environment.lines().filter_map(|line| line.split_once('='));
        let found = lines.find(|(known, _)| *known == name).map(|(_, address)| address);
        found.unwrap_or_else(|| panic!("stack.sh did not tell {name}: {:?}", self.environment))
    }

    fn tls(&self, file: &str) -> PathBuf {
        self.folder.path().join("tls").join(file)
    }

    /// What these servers want.
    fn configuration(&self) -> String {
        let certificates = format!(
            "ca_file = {:?}\ncertificate_file = {:?}\nkey_file = {:?}\n",
            self.tls("ca.pem"),
            self.tls("client.pem"),
            self.tls("client.key")
        );
        format!(
            "engine = \"cluster\"\ntopic_prefix = \"secured.\"\npartitions = 2\ndemo = false\n\
             [kafka]\nbootstrap_servers = \"{}\"\nreplication_factor = 1\nmin_insync_replicas = 1\n\
             call_timeout = \"3s\"\ntls = true\n{certificates}\
             sasl_mechanism = \"SCRAM-SHA-512\"\nsasl_username = \"almanac\"\n\
             sasl_password = \"open-sesame\"\n\
             [schema_registry]\nurl = \"{}\"\n{certificates}\
             [scylla]\nnodes = [\"{}\"]\n\
             replication = \"{{'class': 'SimpleStrategy', 'replication_factor': 1}}\"\n\
             tls = true\n{certificates}username = \"cassandra\"\npassword = \"cassandra\"\n",
            self.address("ALMANAC_TEST_KAFKA"),
            self.address("ALMANAC_TEST_REGISTRY"),
            self.address("ALMANAC_TEST_SCYLLA"),
        )
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        stack_script(self.folder.path(), &["down"]);
    }
}

fn start(installation: &Installation, name: &str, configuration: &str) -> Process {
    let port = free_port();
    let file = installation.folder().join(format!("{name}.toml"));
    std::fs::write(&file, configuration).unwrap();
    let mut command = Command::new(binary());
    command
        .arg("--config")
        .arg(&file)
        .arg("up")
        .env("ALMANAC__DATA_DIR", installation.folder().join(name))
        .env("ALMANAC__HTTP__LISTEN", format!("127.0.0.1:{port}"));
    installation.spawn(command, port, name)
}

/// The section of one server, changed line by line; a line that is to go becomes empty.
fn changed(configuration: &str, section: &str, change: impl Fn(&str) -> String) -> String {
    let mut inside = false;
    let mut lines = Vec::new();
    for line in configuration.lines() {
        if line.starts_with('[') {
            inside = line == section;
        }
        lines.push(if inside { change(line) } else { line.to_owned() });
    }
    lines.join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn secured_servers_let_in_who_has_what_they_want() {
    let secured = Secured::start();
    // Its folder only: the servers are not those of other tests.
    let installation = Installation::new(Engine::Embedded);
    let right = secured.configuration();

    let mut process = start(&installation, "right", &right);
    process.ready().await;
    // The first write waits for its decider, which is fenced and reads the log first.
    let patient = [("prefer", "wait=30")];
    let written =
        process.send("POST", "/v1/recipes", &patient, recipe("secured", "salt")).await.unwrap();
    assert_eq!(written.status, StatusCode::CREATED, "{written:?}");
    let headers = [
        ("consistency-token", written.header("consistency-token")),
        ("prefer", "handling=strict, wait=20"),
    ];
    let read = process.send("GET", written.header("location"), &headers, "").await.unwrap();
    assert_eq!((read.status, read.version()), (StatusCode::OK, Some(1)), "{read:?}");
    // A connection that a stop cuts off on its way may be told of.
    assert!(!process.log().contains("kafka client"), "nothing is refused: {}", process.log());
    assert!(process.stop().success());

    // Topics that are there are used by who may not make any.
    let tenant = right.replace("sasl_username = \"almanac\"", "sasl_username = \"tenant\"");
    let mut process = start(&installation, "tenant", &tenant);
    process.ready().await;
    let read = process.send("GET", written.header("location"), &[], "").await.unwrap();
    assert_eq!((read.status, read.version()), (StatusCode::OK, Some(1)), "{read:?}");
    assert!(process.stop().success());

    let without = |names: &'static [&str]| {
        move |line: &str| {
            let goes = names.iter().any(|name| line.starts_with(name));
            if goes { String::new() } else { line.to_owned() }
        }
    };
    let other_ca = |line: &str| line.replace("ca.pem", "client.pem");
    const CERTIFICATE: &[&str] = &["certificate_file", "key_file"];
    const TLS: &[&str] = &["tls", "ca_file", "certificate_file", "key_file"];
    let (kafka, scylla, registry) = ("[kafka]", "[scylla]", "[schema_registry]");
    let wrong = [
        (
            "kafka-password",
            right.replace("open-sesame", "open-barley"),
            "invalid credentials with SASL mechanism SCRAM-SHA-512",
        ),
        ("kafka-authority", changed(&right, kafka, other_ca), "certificate verify failed"),
        ("kafka-certificate", changed(&right, kafka, without(CERTIFICATE)), "bad certificate"),
        (
            "kafka-plain",
            changed(&right, kafka, without(TLS)),
            "wants other settings of TLS or SASL",
        ),
        (
            "kafka-nobody",
            changed(&right, kafka, without(&["sasl_"])),
            "wants other settings of TLS or SASL",
        ),
        (
            "kafka-rights",
            right.replace("\"secured.\"", "\"somebody.elses.\""),
            "TopicAuthorizationFailed",
        ),
        (
            "scylla-password",
            right.replace("password = \"cassandra\"", "password = \"x\""),
            "Provided username cassandra and/or password are incorrect",
        ),
        ("scylla-authority", changed(&right, scylla, other_ca), "certificate verify failed"),
        ("scylla-plain", changed(&right, scylla, without(TLS)), "waiting for the read store"),
        (
            "scylla-certificate",
            changed(&right, scylla, without(CERTIFICATE)),
            "waiting for the read store",
        ),
        (
            "scylla-nobody",
            changed(&right, scylla, without(&["username", "password"])),
            "Authentication is required",
        ),
        (
            "registry-authority",
            changed(&right, registry, without(&["ca_file"])),
            "certificate verify failed",
        ),
    ];
    let started = wrong.map(|(name, configuration, told)| {
        assert_ne!(configuration, right, "{name}");
        (name, told, start(&installation, name, &configuration))
    });
    for (name, told, mut process) in started {
        process.until(told, || async { process.log().contains(told).then_some(()) }).await;
        assert!(!process.has_ended(), "{name} is waited for: {}", process.log());
        process.kill();
    }
    another_password(&secured, &installation, &right).await;
}

/// A process that reads its password from a file goes on when there is another one, as soon as a
/// connection needs it.
async fn another_password(secured: &Secured, installation: &Installation, right: &str) {
    let script = |command: &[&str]| {
        let output = stack_script(secured.folder.path(), command);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let file = installation.folder().join("password");
    std::fs::write(&file, "open-sesame\n").unwrap();
    let named = format!("sasl_password_file = {file:?}");
    let filed = right.replace("sasl_password = \"open-sesame\"", &named);
    assert_ne!(filed, right);
    let mut process = start(installation, "filed", &filed);
    process.ready().await;
    let write = async || {
        let patient = [("prefer", "wait=30")];
        process.send("POST", "/v1/recipes", &patient, recipe("another", "salt")).await.ok()
    };
    assert_eq!(write().await.unwrap().status, StatusCode::CREATED);

    script(&["password", "open-barley"]);
    std::fs::write(&file, "open-barley\n").unwrap();
    // Nobody is asked for a password but who connects anew.
    script(&["stop", "kafka"]);
    script(&["start", "kafka"]);
    let written = process
        .until("a write after the change", || async {
            write().await.filter(|written| written.status == StatusCode::CREATED)
        })
        .await;
    let headers = [
        ("consistency-token", written.header("consistency-token")),
        ("prefer", "handling=strict, wait=20"),
    ];
    let read = process.send("GET", written.header("location"), &headers, "").await.unwrap();
    assert_eq!((read.status, read.version()), (StatusCode::OK, Some(1)), "{read:?}");
    assert!(process.log().contains("a secret has changed"), "{}", process.log());
    assert!(process.stop().success());
}

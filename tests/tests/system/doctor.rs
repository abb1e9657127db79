//! `almanac doctor`: nothing failed of what is well, and each of several things that are wrong is named.

use almanac_tests::process::{Engine, Installation, binary, free_port};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewPartitions},
    client::DefaultClientContext,
};
use serde_json::Value;
use std::{
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

/// Exit status, and findings.
fn findings(said: &std::process::Output) -> (i32, Vec<Value>) {
    let text = String::from_utf8(said.stdout.clone()).unwrap();
    let all =
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{said:?}")));
    (said.status.code().unwrap(), all.collect())
}

fn doctor(installation: &Installation, more: &[&str]) -> (i32, Vec<Value>) {
    let arguments = [&["doctor", "--json", "--at-most", "60"], more].concat();
    findings(&installation.command("up", &arguments))
}

/// What failed, of a check and with these words.
#[track_caller]
fn fails(findings: &[Value], check: &str, words: &str) {
    let is_it = |one: &&Value| {
        one["state"] == "fail"
            && one["check"] == check
            && one["found"].as_str().is_some_and(|found| found.contains(words))
    };
    let one =
        findings.iter().find(is_it).unwrap_or_else(|| panic!("{check}, {words}: {findings:#?}"));
    assert!(one["advice"].is_string(), "{one}");
}

async fn nothing_fails(engine: Engine) -> (Installation, almanac_tests::process::Process) {
    let installation = Installation::new(engine);
    let process = installation.up().await;
    // Projections may be behind for a moment after a start.
    process
        .until("a doctor that finds nothing wrong", async || {
            let (code, found) = doctor(&installation, &[]);
            let is_well = code == 0 && found.iter().all(|one| one["state"] != "fail");
            is_well.then_some(())
        })
        .await;
    (installation, process)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_in_order_has_no_failure() {
    let (installation, process) = nothing_fails(Engine::Embedded).await;
    let said = installation.command("up", &["doctor"]);
    let text = String::from_utf8(said.stdout).unwrap();
    assert!(text.lines().any(|line| line.starts_with("ok    installation")), "{text}");
    drop(process);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_are_wrong_are_named() {
    let (installation, mut process) = nothing_fails(Engine::Cluster).await;
    let (_, well) = doctor(&installation, &[]);
    for check in ["kafka", "topics", "schema registry", "read store", "tables", "clock", "status"] {
        assert!(well.iter().any(|one| one["check"] == check), "{check}: {well:#?}");
    }
    // It says the same of servers while nothing runs, and that nothing does.
    assert!(process.stop().success());
    let (code, stopped) = doctor(&installation, &[]);
    assert_eq!(code, 0, "{stopped:#?}");
    let is_down = |one: &Value| one["check"] == "installation" && one["state"] == "warn";
    assert!(stopped.iter().any(is_down), "{stopped:#?}");

    let nowhere = format!("http://127.0.0.1:{}", free_port());
    let config = installation.folder().join("up.toml");
    let mut command = Command::new(binary());
    command.arg("--config").arg(&config).args(["doctor", "--json", "--at-most", "60"]);
    let said = command.env("ALMANAC__SCHEMA_REGISTRY__URL", &nowhere).output().unwrap();
    let (code, wrong) = findings(&said);
    assert_eq!(code, 1, "{wrong:#?}");
    fails(&wrong, "schema registry", &nowhere);

    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", almanac_tests::address("ALMANAC_TEST_KAFKA"))
        .create()
        .unwrap();
    let topic = installation.topic("recipes.events");
    let grown =
        admin.create_partitions(&[NewPartitions::new(&topic, 6)], &AdminOptions::new()).await;
    grown.unwrap().remove(0).unwrap();
    process
        .until("the grown topic to be told", async || {
            let (code, grown) = doctor(&installation, &[]);
            let is_it = |one: &Value| {
                let found = one["found"].as_str().unwrap_or_default();
                one["state"] == "fail"
                    && found.contains(&topic)
                    && found.contains("partition count 6")
            };
            (code == 1 && grown.iter().any(is_it)).then_some(())
        })
        .await;
}

/// Runs it as somebody who may not write there, whoever runs the test.
fn as_nobody(folder: &Path) -> Command {
    let mut command = Command::new(binary());
    command.env("ALMANAC__DATA_DIR", folder).args(["doctor", "--json", "--at-most", "5"]);
    command.current_dir("/");
    let is_root = std::fs::metadata(folder).is_ok_and(|it| it.uid() == 0);
    if is_root {
        command.uid(65_534);
    }
    command
}

#[test]
fn a_folder_without_rights_and_a_port_in_use_are_named() {
    let outer = tempfile::tempdir().unwrap();
    let set = |folder: &Path, mode| {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set(outer.path(), 0o755);
    let data = outer.path().join("data");
    std::fs::create_dir(&data).unwrap();
    set(&data, 0o500);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    // Somebody who takes connections and never answers is not Almanac.
    let (code, wrong) =
        findings(&as_nobody(&data).env("ALMANAC__HTTP__LISTEN", &listen).output().unwrap());
    set(&data, 0o700);
    assert_eq!(code, 1, "{wrong:#?}");
    fails(&wrong, "data folder", "cannot be used");
    let silent = |one: &Value| one["check"] == "installation" && one["state"] == "fail";
    assert!(wrong.iter().any(silent), "{wrong:#?}");
}

#[test]
fn a_configuration_that_cannot_be_read_is_a_finding() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("almanac.toml");
    std::fs::write(&file, "no_such_key = 1\n").unwrap();
    let mut command = Command::new(binary());
    let said = command.arg("--config").arg(&file).args(["doctor", "--json"]).output().unwrap();
    let (code, wrong) = findings(&said);
    assert_eq!(code, 1, "{wrong:#?}");
    fails(&wrong, "configuration", "no_such_key");
}

//! Consumer groups as operators see them: our own, and those of others.

use almanac_tests::{
    address,
    process::{Engine, Installation, Process},
    recipe,
};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
};
use reqwest::StatusCode;
use serde_json::Value;

async fn groups(process: &Process, query: &str) -> Vec<Value> {
    let (status, body) = process.get(&format!("/v1/admin/groups?{query}")).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body["items"].as_array().unwrap().clone()
}

async fn write_some(process: &Process, count: usize) {
    for number in 0..count {
        let body = recipe(&format!("r{number}"), "salt");
        let written = process.send("POST", "/v1/recipes", &[], body).await.unwrap();
        assert_eq!(written.status, StatusCode::CREATED, "{written:?}");
    }
}

fn of_topic<'a>(group: &'a Value, name: &str) -> &'a Value {
    let topics = group["topics"].as_array().unwrap();
    topics.iter().find(|one| one["topic"] == name).unwrap_or_else(|| panic!("{name}: {group}"))
}

fn said(installation: &Installation, arguments: &[&str]) -> String {
    let said = installation.command("up", arguments);
    assert!(said.status.success(), "{said:?}");
    String::from_utf8(said.stdout).unwrap()
}

/// The decider has handled every command that was answered.
async fn our_own_are_told(installation: &Installation, process: &Process) -> String {
    let own = format!("{}.almanac-decider", installation.name);
    let caught_up =
        |told: &Value| told["lag_events"] == 0 && told["state"] == "stable" && told["own"] == true;
    let decider = process
        .until("a decider that has handled all", async || {
            groups(process, &format!("group={own}")).await.pop().filter(caught_up)
        })
        .await;
    assert_eq!(decider["members"].as_array().unwrap().len(), 1, "{decider}");
    let commands = of_topic(&decider, "commands")["partitions"].as_array().unwrap().clone();
    assert!(commands.iter().all(|at| at["member"].is_string()), "{decider}");
    assert!(commands.iter().any(|at| at["committed"].as_u64() > Some(0)), "{decider}");
    assert!(said(installation, &["groups"]).contains(&own));
    own
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_of_an_embedded_log_are_told() {
    let installation = Installation::new(Engine::Embedded).with("http.inspect_time = \"2m\"");
    let process = installation.up().await;
    write_some(&process, 4).await;
    let own = our_own_are_told(&installation, &process).await;
    let one = said(&installation, &["groups", &own]);
    assert!(one.contains("commands/0") && one.contains("behind"), "{one}");
    // Page by page, each once and in order.
    let (mut names, mut cursor) = (Vec::new(), String::new());
    loop {
        let (_, page) = process.get(&format!("/v1/admin/groups?limit=1{cursor}")).await;
        names.extend(page["items"].as_array().unwrap().iter().map(|one| one["group"].to_string()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert!(names.is_sorted() && names.len() > 3, "{names:?}");
    let none = installation.command("up", &["groups", "nobody"]);
    assert_eq!(none.status.code(), Some(4), "{none:?}");
    assert_eq!(groups(&process, "group=%00").await, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_others_shows_how_far_behind_it_is() {
    let installation = Installation::new(Engine::Cluster).with("http.inspect_time = \"2m\"");
    let process = installation.up().await;
    write_some(&process, 12).await;
    our_own_are_told(&installation, &process).await;

    let theirs = almanac_tests::unique('g');
    let topic = installation.topic("recipes.events");
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", address("ALMANAC_TEST_KAFKA"))
        .set("group.id", &theirs)
        .create()
        .unwrap();
    // Of a partition with events, all but the newest is done; of the others nothing was ever committed.
    let (_, topics) = process.get("/v1/admin/topics?limit=500").await;
    let topics = topics["items"].as_array().unwrap();
    let events = topics.iter().find(|one| one["topic"] == "recipes.events").unwrap();
    let filled =
        events["partitions"].as_array().unwrap().iter().max_by_key(|at| at["end"].as_u64());
    let (filled, end) = (filled.unwrap()["partition"].as_u64(), filled.unwrap()["end"].as_u64());
    let (filled, end) = (filled.unwrap(), end.unwrap());
    assert!(end > 1, "{events}");
    let mut done = TopicPartitionList::new();
    let offset = Offset::Offset(end as i64 - 2);
    done.add_partition_offset(&topic, filled as i32, offset).unwrap();
    consumer.commit(&done, CommitMode::Sync).unwrap();

    let told = groups(&process, &format!("group={theirs}")).await.pop().expect("their group");
    assert_eq!((&told["own"], &told["state"]), (&false.into(), &"empty".into()), "{told}");
    assert_eq!((&told["lag_events"], &told["never_committed"]), (&2.into(), &3.into()), "{told}");
    let at = &of_topic(&told, "recipes.events")["partitions"][filled as usize];
    assert_eq!((&at["committed"], &at["end"]), (&(end - 2).into(), &end.into()), "{told}");
    let text = said(&installation, &["groups"]);
    let line =
        text.lines().find(|line| line.starts_with(&theirs)).unwrap_or_else(|| panic!("{text}"));
    assert!(line.contains("2 behind  3 partitions never committed  recipes.events"), "{line}");
}

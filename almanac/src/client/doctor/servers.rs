//! Kafka, the schema registry and the read store: whether they answer, and whether what Almanac needs of
//! them is there and as it has to be.

use super::{Finding, clock, clock_of};
use crate::{config::Config, roles};
use almanac_errors::chain;
use almanac_event_log::kafka::checkup as kafka_checkup;
use almanac_read_store::scylla::checkup as store_checkup;
use almanac_schemas::{ConfluentRegistry, files::SchemaFile};
use std::time::{Duration, Instant};

const KAFKA: &str = "docs/runbooks/kafka.md";
const SCYLLA: &str = "docs/runbooks/scylla.md";
/// Names that one line tells.
const NAMED: usize = 5;

pub(super) async fn kafka(config: &Config, at_most: Duration) -> Vec<Finding> {
    let (check, address) = ("kafka", config.kafka.bootstrap_servers.to_string());
    let options = match config.kafka.options(&config.topic_prefix, &config.instance()) {
        Ok(options) => options,
        Err(error) => return vec![Finding::fail(check, chain(&*error).to_string())],
    };
    let specs = roles::topics(config);
    let asking = kafka_checkup(&options, &specs, at_most);
    // Each of two questions has its time.
    let found = match tokio::time::timeout(at_most * 2 + Duration::from_secs(1), asking).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            return vec![
                Finding::fail(check, chain(&error).to_string())
                    .advise("check kafka.bootstrap_servers, its TLS and SASL, and that brokers run")
                    .runbook(KAFKA),
            ];
        }
        Err(_) => {
            let found = format!("{address} did not answer within {} s", at_most.as_secs());
            return vec![Finding::fail(check, found).runbook(KAFKA)];
        }
    };
    let mut findings = Vec::new();
    let (brokers, copies) = (found.brokers, config.kafka.replication_factor);
    findings.push(match usize::try_from(copies) {
        Ok(copies) if copies > brokers => Finding::fail(
            check,
            format!("{brokers} brokers answer, fewer than kafka.replication_factor = {copies}"),
        )
        .advise("start the others, or lower kafka.replication_factor and min_insync_replicas")
        .runbook(KAFKA),
        _ => Finding::ok(check, format!("brokers that answer at {address}: {brokers}")),
    });
    let check = "topics";
    let missing: Vec<&str> =
        found.topics.iter().filter(|one| !one.is_there).map(|one| &*one.topic).collect();
    for one in &found.topics {
        for fault in &one.refused {
            let finding = Finding::fail(check, chain(fault).to_string());
            findings.push(finding.advise("nothing starts with it").runbook(KAFKA));
        }
        findings
            .extend(one.unlike.iter().map(|fault| Finding::warn(check, chain(fault).to_string())));
    }
    let count = found.topics.len();
    match missing.len() {
        0 => {}
        all if all == count => findings.push(
            Finding::warn(check, format!("none of {count} is there"))
                .advise("right before the first start, which makes them; otherwise check topic_prefix"),
        ),
        some => findings.push(
            Finding::fail(check, format!("{some} of {count} are missing: {}", first(&missing)))
                .advise("the next start makes those of a newer version; one that was deleted is lost facts")
                .runbook("docs/runbooks/backup-and-restore.md"),
        ),
    }
    if findings.len() == 1 {
        findings.push(Finding::ok(check, format!("all {count} are as they have to be")));
    }
    findings
}

fn first(names: &[&str]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let told = names[..names.len().min(NAMED)].join(", ");
    if more == 0 { told } else { format!("{told} and {more} more") }
}

pub(super) async fn registry(config: &Config, at_most: Duration) -> Vec<Finding> {
    let check = "schema registry";
    let away = |found: String| {
        let finding = Finding::fail(check, found).advise(
            "check schema_registry.url and its login, and that it runs; events cannot be read without",
        );
        vec![finding.runbook(KAFKA)]
    };
    let options = match config.schema_registry.options(&config.topic_prefix) {
        Ok(options) => options,
        Err(error) => return away(chain(&*error).to_string()),
    };
    let registry = match ConfluentRegistry::new(options) {
        Ok(registry) => registry,
        Err(error) => return away(chain(&error).to_string()),
    };
    let began = Instant::now();
    let asked = tokio::time::timeout(at_most, registry.subjects()).await;
    let (subjects, date) = match asked {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return away(chain(&error).to_string()),
        Err(_) => {
            let url = &config.schema_registry.url;
            return away(format!("{url} did not answer within {} s", at_most.as_secs()));
        }
    };
    let wanted: Vec<String> =
        SchemaFile::all_newest().map(|file| file.subject(&config.topic_prefix)).collect();
    let missing: Vec<&str> =
        wanted.iter().filter(|one| !subjects.contains(*one)).map(String::as_str).collect();
    let mut findings = vec![match missing.len() {
        0 => Finding::ok(check, format!("all {} subjects are registered", wanted.len())),
        some => Finding::warn(
            check,
            format!("{some} of {} subjects are not registered: {}", wanted.len(), first(&missing)),
        )
        .advise("right before a first start, or of a newer version; otherwise it is not the registry that the log was written with"),
    }];
    findings.extend(date.and_then(|date| clock_of("the schema registry", &date, began.elapsed())));
    findings
}

pub(super) async fn read_store(config: &Config, at_most: Duration) -> Vec<Finding> {
    let check = "read store";
    let away = |found: String| {
        let finding = Finding::fail(check, found)
            .advise("check scylla.nodes, its TLS and login, and that nodes run");
        vec![finding.runbook(SCYLLA)]
    };
    let mut options = match config.scylla.options() {
        Ok(options) => options,
        Err(error) => return away(chain(&*error).to_string()),
    };
    options.connect_timeout = options.connect_timeout.min(at_most);
    options.request_timeout = options.request_timeout.min(at_most);
    let began = Instant::now();
    let found = match tokio::time::timeout(at_most, store_checkup(&options)).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return away(chain(&error).to_string()),
        Err(_) => {
            let nodes = almanac_read_store::scylla::shown(&options.nodes);
            return away(format!("{nodes} did not answer within {} s", at_most.as_secs()));
        }
    };
    let mut findings = vec![Finding::ok(check, format!("version {} answers", found.release))];
    let clocks = found.clock_ms.map(|theirs| clock("the read store", theirs, began.elapsed()));
    findings.extend(clocks);
    let check = "tables";
    let keyspace = &options.keyspace;
    let Some(tables) = found.tables else {
        findings.push(Finding::warn(check, format!("keyspace {keyspace} is not there")).advise(
            "right before the first start, which makes it; otherwise check scylla.keyspace",
        ));
        return findings;
    };
    let projections = match almanac_projector::all() {
        Ok(projections) => projections,
        Err(error) => return away(chain(&error).to_string()),
    };
    let (mut count, mut missing) = (0, Vec::new());
    for declared in projections.iter().flat_map(|one| one.layout().tables()) {
        let name = declared.table.to_string();
        let is_it = |table: &String| {
            // Of a later generation, once a rebuild was switched to.
            table.strip_prefix(&name).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
        };
        count += 1;
        if !tables.iter().any(is_it) {
            missing.push(name);
        }
    }
    let missing: Vec<&str> = missing.iter().map(String::as_str).collect();
    findings.push(match missing.len() {
        0 => Finding::ok(check, format!("all {count} are there in {keyspace}")),
        some => Finding::warn(check, format!("{some} of {count} are missing: {}", first(&missing)))
            .advise(
                "a start makes them and folds the events anew, which takes as long as a rebuild",
            )
            .runbook("docs/runbooks/rebuild.md"),
    });
    findings
}

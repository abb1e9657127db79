//! Creating topics, and refusing ones that differ in what matters.

use super::{KafkaOptions, options::MESSAGE_MAX_BYTES, told::Told};
use crate::{LogError, LogResult, Retention, TopicSpec};
use rdkafka::{
    admin::{
        AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication,
    },
    error::{KafkaError, RDKafkaErrorCode},
};
use std::{sync::Arc, time::Duration};

pub(super) fn unavailable(options: &KafkaOptions, error: KafkaError) -> LogError {
    let what = format!("kafka at {}", options.bootstrap_servers);
    LogError::Unavailable { what, source: error.into() }
}

pub(super) fn client(options: &KafkaOptions) -> LogResult<Arc<AdminClient<Told>>> {
    let client = options.overridden(options.common()).create_with_context(Told);
    client.map(Arc::new).map_err(|error| unavailable(options, error))
}

pub(super) async fn ensure(options: &KafkaOptions, topics: &[TopicSpec]) -> LogResult<()> {
    let unavailable = |error| unavailable(options, error);
    let client = client(options)?;
    let admin_options = AdminOptions::new()
        .request_timeout(Some(options.call_timeout))
        .operation_timeout(Some(options.call_timeout));

    let settings: Vec<Vec<(&str, String)>> =
        topics.iter().map(|spec| wanted_settings(spec, options)).collect();
    let new_topics: Vec<NewTopic<'_>> = topics
        .iter()
        .zip(&settings)
        .map(|(spec, settings)| {
            let replication = TopicReplication::Fixed(options.replication_factor);
            let mut topic = NewTopic::new(&spec.name, spec.partitions as i32, replication);
            for (name, value) in settings {
                topic = topic.set(name, value);
            }
            topic
        })
        .collect();
    let created = client.create_topics(&new_topics, &admin_options).await;
    let created = created.map_err(|error| match error {
        // A broker that expects TLS or SASL, or does not, closes the connection without a word.
        KafkaError::AdminOp(RDKafkaErrorCode::OperationTimedOut) => LogError::Unavailable {
            what: format!("kafka at {}", options.bootstrap_servers),
            source: format!(
                "no answer within {} ms: it is away, or wants other settings of TLS or SASL",
                options.call_timeout.as_millis()
            )
            .into(),
        },
        _ => unavailable(error),
    })?;
    for result in created {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            // Who may not make topics is not told that one is there.
            Err((topic, RDKafkaErrorCode::TopicAuthorizationFailed))
                if partition_count(&client, options.call_timeout, &topic).await? > 0 => {}
            Err((topic, code)) => {
                return Err(LogError::Unavailable {
                    what: format!("kafka topic {topic}, which cannot be created,"),
                    source: match code {
                        RDKafkaErrorCode::InvalidReplicationFactor => format!(
                            "fewer brokers are there than replication_factor = {}",
                            options.replication_factor
                        )
                        .into(),
                        _ => code.into(),
                    },
                });
            }
        }
    }
    check_partitions(&client, options.call_timeout, topics).await?;
    let deadline = tokio::time::Instant::now() + options.call_timeout;
    loop {
        match check_settings(&client, &admin_options, topics, &settings).await {
            Ok(()) => return Ok(()),
            Err(Check::Wrong(error)) => return Err(error),
            // A broker that has not heard of a new topic yet answers without its settings.
            Err(_) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(Check::Kafka(error)) => return Err(unavailable(error)),
            Err(Check::Incomplete(topic)) => {
                let source = "its settings do not appear".into();
                return Err(LogError::Unavailable { what: format!("kafka topic {topic}"), source });
            }
        }
    }
}

enum Check {
    Kafka(KafkaError),
    Incomplete(String),
    Wrong(LogError),
}

pub(super) fn wanted_settings(
    spec: &TopicSpec,
    options: &KafkaOptions,
) -> Vec<(&'static str, String)> {
    let mut settings = vec![
        ("min.insync.replicas", options.min_insync_replicas.to_string()),
        ("unclean.leader.election.enable", "false".to_owned()),
        ("max.message.bytes", (MESSAGE_MAX_BYTES + 65_536).to_string()),
    ];
    match spec.retention {
        Retention::Forever => {
            settings.push(("cleanup.policy", "delete".to_owned()));
            settings.push(("retention.ms", "-1".to_owned()));
            settings.push(("retention.bytes", "-1".to_owned()));
        }
        Retention::Compacted => settings.push(("cleanup.policy", "compact".to_owned())),
        Retention::For(age) => {
            settings.push(("cleanup.policy", "delete".to_owned()));
            settings.push(("retention.ms", age.as_millis().to_string()));
        }
    }
    settings
}

/// How a setting of a topic differs from what Almanac would make it with.
pub(super) enum Difference {
    None,
    /// It loses facts, or mixes them up.
    Refused(LogError),
    /// Such as another retention of plumbing.
    Unlike(LogError),
    /// It was not told.
    Unknown,
}

pub(super) fn difference(
    spec: &TopicSpec,
    name: &'static str,
    wanted: &str,
    found: &ConfigResource,
) -> Difference {
    let matters = match name {
        "cleanup.policy" | "unclean.leader.election.enable" => true,
        "retention.ms" | "retention.bytes" => spec.retention == Retention::Forever,
        _ => false,
    };
    let Some(value) = found.get(name).and_then(|entry| entry.value.clone()) else {
        return Difference::Unknown;
    };
    if value == wanted {
        return Difference::None;
    }
    let error = LogError::WrongTopicSettings {
        topic: spec.name.clone(),
        setting: name,
        found: value,
        wanted: wanted.to_owned(),
        remedy: format!(
            "set it with kafka-configs --alter --topic {} --add-config {name}={wanted}",
            spec.name
        ),
    };
    if matters { Difference::Refused(error) } else { Difference::Unlike(error) }
}

/// What would lose facts or mix them up is refused; a different retention of plumbing is not.
async fn check_settings(
    client: &AdminClient<Told>,
    admin_options: &AdminOptions,
    topics: &[TopicSpec],
    settings: &[Vec<(&'static str, String)>],
) -> Result<(), Check> {
    let resources: Vec<_> =
        topics.iter().map(|spec| ResourceSpecifier::Topic(&spec.name)).collect();
    let described =
        client.describe_configs(&resources, admin_options).await.map_err(Check::Kafka)?;
    for ((spec, settings), found) in topics.iter().zip(settings).zip(described) {
        let found = found.map_err(|code| Check::Kafka(KafkaError::AdminOp(code)))?;
        for (name, wanted) in settings {
            match difference(spec, name, wanted, &found) {
                Difference::Refused(error) => return Err(Check::Wrong(error)),
                Difference::Unknown => return Err(Check::Incomplete(spec.name.clone())),
                Difference::None | Difference::Unlike(_) => {}
            }
        }
    }
    Ok(())
}

/// None where the topic, or any answer, is missing.
async fn partition_count(
    client: &Arc<AdminClient<Told>>,
    call_timeout: Duration,
    topic: &str,
) -> LogResult<usize> {
    let (client, name) = (client.clone(), topic.to_owned());
    let counting = tokio::task::spawn_blocking(move || {
        let metadata = client.inner().fetch_metadata(Some(&name), call_timeout).ok()?;
        metadata.topics().first().map(|topic| topic.partitions().len())
    });
    Ok(counting.await.map_err(|_| LogError::Closed)?.unwrap_or(0))
}

/// A topic that was just created takes a moment to be known everywhere.
async fn check_partitions(
    client: &Arc<AdminClient<Told>>,
    call_timeout: Duration,
    topics: &[TopicSpec],
) -> LogResult<()> {
    let deadline = tokio::time::Instant::now() + call_timeout;
    let mut counts = Vec::with_capacity(topics.len());
    for spec in topics {
        let found = loop {
            match partition_count(client, call_timeout, &spec.name).await? {
                count if count > 0 => break count,
                _ if tokio::time::Instant::now() > deadline => {
                    return Err(LogError::Unavailable {
                        what: format!("kafka topic {}", spec.name),
                        source: "its metadata does not appear".into(),
                    });
                }
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        counts.push((spec, found));
    }
    judge_partitions(&counts)
}

fn judge_partitions(counts: &[(&TopicSpec, usize)]) -> LogResult<()> {
    let fault = counts.iter().find_map(|(spec, found)| partitions_fault(spec, *found, counts));
    fault.map_or(Ok(()), Err)
}

/// What is wrong with the number of partitions of a topic, which is one of `all`.
pub(super) fn partitions_fault(
    spec: &TopicSpec,
    found: usize,
    all: &[(&TopicSpec, usize)],
) -> Option<LogError> {
    let fits = |spec: &TopicSpec, found: usize| found == spec.partitions as usize;
    if fits(spec, found) {
        return None;
    }
    let others_fit = all.iter().any(|(spec, found)| fits(spec, *found));
    Some(LogError::WrongTopicSettings {
        topic: spec.name.clone(),
        setting: "partition count",
        found: found.to_string(),
        wanted: spec.partitions.to_string(),
        remedy: remedy(spec, found, others_fit),
    })
}

/// Keys are sought in the partition that their hash names among as many as there are: of a topic that
/// grew, most of them in another one than they were written to.
fn remedy(spec: &TopicSpec, found: usize, others_fit: bool) -> String {
    let wanted = spec.partitions;
    if found < wanted as usize {
        return format!(
            "set `partitions` to {found} if that is what all topics of this installation have; do not add partitions to a topic"
        );
    }
    let grew = format!(
        "restore the topic with {wanted} partitions from a backup, or copy its first {wanted} partitions and those of its like into topics of another `topic_prefix` (docs/operating.md, \"A topic with more partitions\"); no value of `partitions` finds keys again that were written before it grew"
    );
    if others_fit {
        return format!("it grew after Almanac made it: {grew}");
    }
    format!(
        "if Almanac made its topics with {found} partitions, set `partitions` to {found}; if they grew since then: {grew}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::spec;

    fn judged(found: &[usize]) -> String {
        let specs = ["x.recipes.events", "x.commands"].map(|name| spec(name, 4));
        let counts: Vec<_> = specs.iter().zip(found.iter().copied()).collect();
        judge_partitions(&counts).unwrap_err().to_string()
    }

    #[test]
    fn advice_on_partition_counts_does_not_lose_keys() {
        let grown = judged(&[6, 4]);
        assert!(grown.contains("restore the topic with 4 partitions"), "{grown}");
        assert!(!grown.contains("set `partitions`"), "{grown}");
        let all_grown = judged(&[6, 6]);
        assert!(all_grown.contains("set `partitions` to 6"), "{all_grown}");
        assert!(all_grown.contains("if they grew since then: restore"), "{all_grown}");
        let fewer = judged(&[2, 2]);
        assert!(fewer.contains("set `partitions` to 2"), "{fewer}");
    }
}

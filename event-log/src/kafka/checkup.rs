//! How topics are, held against how they have to be. Nothing is made or changed.

use super::{
    KafkaOptions,
    admin::{self, Difference},
};
use crate::{LogError, LogResult, TopicSpec};
use rdkafka::{
    admin::{AdminOptions, ResourceSpecifier},
    error::KafkaError,
};
use std::{collections::HashMap, time::Duration};

#[derive(Debug)]
pub struct Checkup {
    pub brokers: usize,
    /// In the order in which they were asked about.
    pub topics: Vec<TopicCheckup>,
}

#[derive(Debug)]
pub struct TopicCheckup {
    pub topic: String,
    pub is_there: bool,
    /// With these nothing starts.
    pub refused: Vec<LogError>,
    /// With these everything runs, and perhaps not for long.
    pub unlike: Vec<LogError>,
}

/// Asks the brokers, each question within `timeout`.
pub async fn checkup(
    options: &KafkaOptions,
    topics: &[TopicSpec],
    timeout: Duration,
) -> LogResult<Checkup> {
    let unavailable = |error| admin::unavailable(options, error);
    let client = admin::client(options)?;
    let asked = client.clone();
    let asking = tokio::task::spawn_blocking(move || asked.inner().fetch_metadata(None, timeout));
    let metadata = asking.await.map_err(|_| LogError::Closed)?.map_err(unavailable)?;
    let counts: HashMap<&str, usize> =
        metadata.topics().iter().map(|one| (one.name(), one.partitions().len())).collect();
    let count = |spec: &TopicSpec| counts.get(&*spec.name).copied().unwrap_or(0);
    let found: Vec<&TopicSpec> = topics.iter().filter(|spec| count(spec) > 0).collect();
    let resources: Vec<_> = found.iter().map(|spec| ResourceSpecifier::Topic(&spec.name)).collect();
    let admin_options = AdminOptions::new().request_timeout(Some(timeout));
    let described = match resources.is_empty() {
        true => Vec::new(),
        false => client.describe_configs(&resources, &admin_options).await.map_err(unavailable)?,
    };
    let mut described: HashMap<&str, _> =
        found.iter().map(|spec| &*spec.name).zip(described).collect();
    let mut checked = Vec::with_capacity(topics.len());
    let all: Vec<(&TopicSpec, usize)> = found.iter().map(|spec| (*spec, count(spec))).collect();
    for spec in topics {
        let mut told = TopicCheckup {
            topic: spec.name.clone(),
            is_there: count(spec) > 0,
            refused: Vec::new(),
            unlike: Vec::new(),
        };
        told.refused
            .extend(admin::partitions_fault(spec, count(spec), &all).filter(|_| told.is_there));
        if let Some(found) = described.remove(&*spec.name) {
            let found = found.map_err(|code| unavailable(KafkaError::AdminOp(code)))?;
            let wanted = admin::wanted_settings(spec, options);
            for (name, wanted) in wanted {
                match admin::difference(spec, name, &wanted, &found) {
                    Difference::Refused(error) => told.refused.push(error),
                    Difference::Unlike(error) => told.unlike.push(error),
                    Difference::None | Difference::Unknown => {}
                }
            }
        }
        checked.push(told);
    }
    Ok(Checkup { brokers: metadata.brokers().len(), topics: checked })
}

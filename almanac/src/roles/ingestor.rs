//! Fetches providers and publishes what changed.

use super::{Prepared, Process, Role};
use crate::config::Config;
use almanac_event_log::TopicSpec;
use almanac_ingestor::{IngestMetrics, Ingestor, Topics};
use async_trait::async_trait;
use prometheus_client::registry::Registry;
use std::sync::Arc;

pub(super) struct Ingests;

pub(super) fn ingest_topics(config: &Config) -> Topics {
    Topics::new(&config.topic_prefix, config.partitions)
}

#[async_trait]
impl Role for Ingests {
    fn name(&self) -> &'static str {
        "ingestor"
    }

    fn about(&self) -> &'static str {
        "Fetch providers and publish what changed"
    }

    fn topics(&self, config: &Config) -> Vec<TopicSpec> {
        ingest_topics(config).specs(config.ingest.payload_retention)
    }

    async fn prepare(
        &self,
        process: &Process,
        metrics: &mut Registry,
    ) -> anyhow::Result<Box<dyn Prepared>> {
        let config = &process.config;
        let ingestor = Ingestor::new(
            ingest_topics(config),
            config.ingest.clone(),
            &config.providers,
            process.opened.codec.clone(),
            process.state("ingestor-1").await?,
            process.operations.changes(),
            IngestMetrics::register(metrics),
        )?;
        Ok(Box::new(Ready(ingestor)))
    }
}

struct Ready(Ingestor);

#[async_trait]
impl Prepared for Ready {
    async fn start(self: Box<Self>, process: &mut Process) -> anyhow::Result<()> {
        let topics = ingest_topics(&process.config);
        let background = process.background.clone();
        process.own("ingestor", topics.requests(), &background, Arc::new(self.0));
        Ok(())
    }
}

//! Makes analyses of weather windows, and tells subscribers of events.

use super::{Prepared, Process, Role, command_api::forecast_sources};
use crate::config::Config;
use almanac_command_api::Notifications;
use almanac_event_log::TopicSpec;
use almanac_worker::{
    Parts, Topics, Worker, WorkerMetrics,
    notifications::{NotificationTopics, Notifier, NotifierMetrics, NotifierParts},
};
use async_trait::async_trait;
use prometheus_client::registry::Registry;
use std::sync::Arc;

pub(super) struct Works;

fn notification_topics(config: &Config) -> NotificationTopics {
    NotificationTopics::new(&config.topic_prefix, config.partitions)
}

#[async_trait]
impl Role for Works {
    fn name(&self) -> &'static str {
        "worker"
    }

    fn about(&self) -> &'static str {
        "Make analyses of weather windows"
    }

    fn topics(&self, config: &Config) -> Vec<TopicSpec> {
        notification_topics(config).specs(config.notifications.keep)
    }

    async fn prepare(
        &self,
        process: &Process,
        metrics: &mut Registry,
    ) -> anyhow::Result<Box<dyn Prepared>> {
        let worker = Arc::new(worker(process, WorkerMetrics::register(metrics)).await?);
        let notifier = Arc::new(notifier(process, NotifierMetrics::register(metrics)).await?);
        Ok(Box::new(Ready { worker, notifier }))
    }
}

async fn worker(process: &Process, metrics: WorkerMetrics) -> anyhow::Result<Worker> {
    let (config, opened) = (&process.config, &process.opened);
    let parts = Parts {
        log: opened.log.clone(),
        codec: opened.codec.clone(),
        topics: Topics::new(&config.topic_prefix, config.partitions),
        options: config.worker.clone(),
        providers: forecast_sources(config).into_iter().map(|source| source.name).collect(),
        analyses: process.state("worker-analyses-2").await?,
        schedules: process.state("worker-schedules-1").await?,
        forecasts: process.state("worker-forecasts-1").await?,
        metrics,
    };
    process.asking.log(|| Worker::new(parts.clone())).await
}

async fn notifier(process: &Process, metrics: NotifierMetrics) -> anyhow::Result<Notifier> {
    let (config, opened) = (&process.config, &process.opened);
    let Notifications { sealing, reach } = config.notifications()?;
    let parts = NotifierParts {
        log: opened.log.clone(),
        codec: opened.codec.clone(),
        topics: notification_topics(config),
        options: config.notifications.options(),
        sealing,
        reach,
        deliveries: process.state("notifications-deliveries-1").await?,
        subscriptions: process.state("notifications-subscriptions-1").await?,
        metrics,
    };
    Ok(Notifier::new(parts)?)
}

struct Ready {
    worker: Arc<Worker>,
    notifier: Arc<Notifier>,
}

#[async_trait]
impl Prepared for Ready {
    async fn start(self: Box<Self>, process: &mut Process) -> anyhow::Result<()> {
        let Self { worker, notifier } = *self;
        let background = process.background.clone();
        process.own("worker", worker.input(), &background, worker.clone());
        let follows = worker.clone();
        process.supervisor.require("what the worker follows", move || follows.is_ready());
        process.write("analyses", &background, move || {
            let worker = worker.clone();
            async move { worker.run().await.map_err(|error| error.ending()) }
        });
        process.own("notifications", notifier.input(), &background, notifier.clone());
        process.write("subscriptions", &background, move || {
            let notifier = notifier.clone();
            async move { notifier.follow().await.map_err(|error| error.ending()) }
        });
        Ok(())
    }
}

//! Takes writes over HTTP and decides them.

use super::{Prepared, Process, Role};
use crate::{config::Config, moving::refuse_writes, projecting};
use almanac_command_api::{
    CommandApi, Decider, DeciderMetrics, Follower, ForecastSource, Projections, Replies, Topics,
};
use almanac_event_log::TopicSpec;
use almanac_ingestor::config::ProviderConfig;
use async_trait::async_trait;
use axum::middleware;
use prometheus_client::registry::Registry;
use std::sync::Arc;

pub(super) struct TakesWrites;

fn topics(config: &Config) -> Topics {
    Topics::new(&config.topic_prefix, config.partitions)
}

/// The configured providers of forecasts, in the order in which they count.
pub(super) fn forecast_sources(config: &Config) -> Vec<ForecastSource> {
    let providers = config.providers.iter().filter(|one| one.kind.gives_forecasts());
    let source = |one: &ProviderConfig| ForecastSource {
        name: one.name.clone(),
        variables: one.kind.variables().to_vec(),
    };
    providers.map(source).collect()
}

#[async_trait]
impl Role for TakesWrites {
    fn name(&self) -> &'static str {
        "command-api"
    }

    fn about(&self) -> &'static str {
        "Take writes over HTTP and decide them"
    }

    fn topics(&self, config: &Config) -> Vec<TopicSpec> {
        topics(config).specs(config.commands.outcomes)
    }

    async fn prepare(
        &self,
        process: &Process,
        metrics: &mut Registry,
    ) -> anyhow::Result<Box<dyn Prepared>> {
        let mut aggregates = Vec::new();
        for context in almanac_command_api::contexts() {
            aggregates.push(process.state(&format!("decider-{context}-1")).await?);
        }
        Ok(Box::new(Ready(Decider {
            topics: topics(&process.config),
            options: process.config.commands.decider_options(),
            codec: process.opened.codec.clone(),
            aggregates,
            outcomes: process.state("decider-outcomes-2").await?,
            metrics: DeciderMetrics::register(metrics),
        })))
    }
}

struct Ready(Decider);

#[async_trait]
impl Prepared for Ready {
    async fn start(self: Box<Self>, process: &mut Process) -> anyhow::Result<()> {
        let (config, foreground) = (process.config.clone(), process.foreground.clone());
        // Somebody waits for what it does: it runs beside those who answer.
        let topics = self.0.topics.clone();
        process.own("decider", topics.commands(), &foreground, Arc::new(self.0));
        let mut api_options = config.commands.api_options(
            &config.http,
            forecast_sources(&config),
            config.notifications()?,
        );
        let projections = projecting::names()?;
        let folds = projections.iter().map(|one| (one.name, one.fold)).collect();
        let operations = process.operations.clone();
        let set_aside = Arc::new(projecting::SetAside {
            log: process.opened.log.clone(),
            prefix: config.topic_prefix.clone(),
            store: process.opened.store.clone(),
            operations: operations.clone(),
            projections,
        });
        let (parked, parts) = (set_aside.clone(), set_aside);
        let providers = config.providers.iter().map(|one| one.name.clone()).collect();
        api_options.projections = Some(Projections { operations, folds, parked, parts, providers });
        let replies = Replies::new(config.commands.max_waiting, config.commands.flush());
        let open = || {
            let (log, codec) = (process.opened.log.clone(), process.opened.codec.clone());
            let (replies, identity) = (replies.clone(), process.identity.clone());
            CommandApi::new(log, codec, topics.clone(), replies, identity, api_options.clone())
        };
        let api = process.asking.log(open).await?;
        follow_replies(process, &api).await?;
        follow_standings(process, &api).await?;
        follow_deliveries(process, &api).await?;
        let refuse = middleware::from_fn_with_state(process.hold.clone(), refuse_writes);
        process.answer(almanac_command_api::routes(api).map(|router| router.layer(refuse)));
        Ok(())
    }
}

async fn follow_replies(process: &mut Process, api: &Arc<CommandApi>) -> anyhow::Result<()> {
    let replies = api.replies.clone();
    process.require("replies", move || replies.is_ready());
    show_writing(process, &api.replies);
    let follower = Arc::new(Follower {
        replies: api.replies.clone(),
        log: process.opened.log.clone(),
        codec: process.opened.codec.clone(),
        topics: api.topics.clone(),
        folder: process.state("replies-2").await?,
        foreign: process.foreign.clone(),
    });
    let foreground = process.foreground.clone();
    process.serve("replies", &foreground, move || {
        let follower = follower.clone();
        async move { follower.follow().await.map_err(|error| error.ending()) }
    });
    Ok(())
}

async fn follow_standings(process: &mut Process, api: &Arc<CommandApi>) -> anyhow::Result<()> {
    let mut folders = Vec::new();
    for name in almanac_command_api::standings() {
        folders.push(process.state(&name).await?);
    }
    let (flush, api) = (process.config.commands.flush(), api.clone());
    let background = process.background.clone();
    process.serve("standings", &background, move || {
        let (api, folders) = (api.clone(), folders.clone());
        async move {
            let followed = api.follow_standings(&folders, flush).await;
            followed.map_err(|error| error.ending())
        }
    });
    Ok(())
}

async fn follow_deliveries(process: &mut Process, api: &Arc<CommandApi>) -> anyhow::Result<()> {
    let folder = process.state("deliveries-1").await?;
    let (flush, api) = (process.config.commands.flush(), api.clone());
    let background = process.background.clone();
    process.serve("deliveries", &background, move || {
        let (api, folder) = (api.clone(), folder.clone());
        async move { api.follow_deliveries(&folder, flush).await.map_err(|error| error.ending()) }
    });
    Ok(())
}

/// Who writes needs the log to take commands, and to hear of replies.
fn show_writing(process: &Process, replies: &Arc<Replies>) {
    let (log, replies) = (process.opened.log.clone(), replies.clone());
    let follows = move || if replies.are_followed() { Ok("followed") } else { Err("silent") };
    process.show("replies", Box::new(follows));
    let writes = move || if log.cut_off().is_none() { Ok("possible") } else { Err("cut off") };
    process.show("writes", Box::new(writes));
}

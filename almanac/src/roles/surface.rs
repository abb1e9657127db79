//! What every process answers: reads, documents, its health, and what operators ask for.

use super::{Process, ingestor::ingest_topics, topics};
use crate::{
    admin,
    config::{Config, Engine},
    engine,
    moving::{self, Moving},
    open_files,
    profile::{self, Profiles},
    projecting,
};
use almanac_edge::{
    Gate, Identity, Routes, ServeOptions,
    limits::{self, Documented, Limits},
    openapi::{self, Fragment},
    purge::{PurgeMetrics, Purges},
    request::Before,
};
use almanac_processor::{Ending, Foreign, Supervisor};
use almanac_query_api::{
    ApiState, InspectOptions, Installation, MODELS, PackingOptions, PageOptions, QueryMetrics,
    QueryOptions,
};
use prometheus_client::registry::Registry;
use std::sync::Arc;
use tokio::net::TcpListener;

/// The OpenAPI document is of the whole installation: clients reach all roles at one address.
fn fragments() -> impl Iterator<Item = Fragment> {
    let apis = almanac_query_api::openapi().chain(almanac_command_api::openapi());
    apis.chain([admin::OPENAPI, moving::OPENAPI, profile::OPENAPI, limits::OPENAPI])
}

fn query_options(process: &Process, purges: Option<Purges>) -> anyhow::Result<QueryOptions> {
    let config: &Config = &process.config;
    // Of places, nobody is asked before somebody asks.
    let feeds = config.providers.iter().filter(|provider| !provider.kind.gives_forecasts());
    let freshness = feeds.map(|provider| {
        let seconds = i64::try_from(provider.freshness.as_secs()).unwrap_or(i64::MAX);
        (provider.name.clone(), seconds)
    });
    let (supervisor, foreign): (Supervisor, Foreign) =
        (process.supervisor.clone(), process.foreign.clone());
    Ok(QueryOptions {
        cache_bytes: config.http.cache_bytes,
        warm_up: config.http.warm_up,
        plan_index_bytes: config.http.plan_index_bytes,
        recipe_cache_bytes: config.http.recipe_cache_bytes,
        recipe_index_bytes: config.http.recipe_index_bytes,
        picture_cache_bytes: config.http.picture_cache_bytes,
        analysis_cache_bytes: config.http.analysis_cache_bytes,
        wait: config.http.wait,
        lists: config.http.lists,
        answer_bytes: config.http.answer_bytes,
        event_streams: config.http.event_streams,
        event_stream_time: config.http.event_stream_time,
        packing: PackingOptions {
            gzip_answers: config.http.gzip_answers,
            brotli_answers: config.http.brotli_answers,
            background: process.background.clone(),
        },
        purges,
        prefix: config.topic_prefix.clone(),
        models: MODELS,
        openapi: openapi::document(fragments())?,
        serve_registry: config.engine == Engine::Embedded,
        freshness_s: freshness.collect(),
        supervisor,
        foreign,
        installation: Installation {
            engine: match config.engine {
                Engine::Embedded => "embedded",
                Engine::Cluster => "cluster",
            },
            instance: config.instance(),
            roles: process.roles.clone(),
            topics: topics(config),
        },
        inspect: InspectOptions {
            groups: config.http.inspect_groups,
            time: config.http.inspect_time,
            trace_records: config.http.trace_records,
        },
        page: PageOptions {
            public_url: config.http.public_url.clone(),
            sign_in: config.console.sign_in()?,
        },
        operations: process.operations.clone(),
        projections: projecting::names()?,
    })
}

pub(super) async fn state(
    process: &Process,
    metrics: QueryMetrics,
    mut registry: Registry,
) -> anyhow::Result<Arc<ApiState>> {
    let opened = process.opened.clone();
    let (log, store, codec) = (opened.log, opened.store, opened.codec);
    let purges = process.config.purges(|| PurgeMetrics::register(&mut registry))?;
    let registry = Arc::new(registry);
    let (identity, options) = (process.identity.clone(), query_options(process, purges)?);
    let open = || {
        let (log, store, codec) = (log.clone(), store.clone(), codec.clone());
        let (identity, options) = (identity.clone(), options.clone());
        ApiState::new(log, store, codec, identity, options, metrics.clone(), registry.clone())
    };
    process.asking.state(open).await
}

/// The routes of every process.
pub(super) fn routes(process: &Process, api: &Arc<ApiState>) -> anyhow::Result<Routes> {
    let admin = admin::routes(
        process.opened.log.clone(),
        process.opened.codec.clone(),
        ingest_topics(&process.config),
        process.identity.clone(),
        process.operations.clone(),
        &process.config,
    );
    let config: &Config = &process.config;
    let moving = Moving {
        log: process.opened.log.clone(),
        registry: engine::registry(config)?,
        identity: process.identity.clone(),
        prefix: config.topic_prefix.clone(),
        engine: match config.engine {
            Engine::Embedded => "embedded",
            Engine::Cluster => "cluster",
        },
        codec: process.opened.codec.clone(),
        operations: process.operations.clone(),
        importing: tokio::sync::Mutex::default(),
        ids: parking_lot::Mutex::default(),
    };
    let moving = moving::routes(Arc::new(moving));
    let profiles = Profiles {
        identity: process.identity.clone(),
        longest: config.http.profile_time,
        under_way: Arc::default(),
    };
    let profiles = profile::routes(Arc::new(profiles));
    Ok(almanac_query_api::routes(api).merge(admin).merge(moving).merge(profiles))
}

/// Keeps caches fresh, and who may ask for what.
pub(super) fn follow(process: &mut Process, api: &Arc<ApiState>) {
    let (background, foreground) = (process.background.clone(), process.foreground.clone());
    let followed = api.clone();
    let follow = move || almanac_query_api::follow(followed.clone());
    process.serve("change feed", &background, follow);
    if api.has_purges() {
        let purging = api.clone();
        let purge = move || almanac_query_api::purge(purging.clone());
        process.serve("purges", &background, purge);
    }
    let operations = process.operations.clone();
    process.serve("operations", &background, move || {
        let operations = operations.clone();
        async move { operations.follow().await.map_err(|error| Ending::again(&error)) }
    });
    let switched = api.clone();
    let switch = move || almanac_query_api::follow_operations(switched.clone());
    process.serve("switches", &background, switch);
    let refreshed = api.clone();
    let refresh = move || almanac_query_api::refresh(refreshed.clone());
    process.serve("cache refresher", &background, refresh);
    let identity: Arc<Identity> = process.identity.clone();
    process.serve("identity", &foreground, move || {
        let identity = identity.clone();
        async move { match identity.follow().await {} }
    });
}

/// Takes connections: everything that answers is there.
pub(super) fn listen(process: &mut Process, listener: TcpListener) -> anyhow::Result<()> {
    let config = process.config.clone();
    let limited = Limits::new(config.limit_options()).map(Arc::new);
    let documented = Documented { identity: process.identity.clone(), limits: limited.clone() };
    process.answer(limits::routes(documented));
    let before = Before {
        gate: Gate::new(process.identity.clone(), limited),
        caching: Some(Arc::new(config.caching()?)),
        ..Before::default()
    };
    let max_connections = open_files::connections(config.http.max_connections);
    let options = ServeOptions { max_connections, before, ..config.http.serve_options() };
    process.serve_http(listener, options);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn the_fragments_are_one_document() {
        let document = openapi::document(fragments()).unwrap();
        let document: Value = serde_json::from_slice(&document).unwrap();
        let paths = document["paths"].as_object().unwrap();
        assert!(paths.len() > 35);
        let recipes = paths["/v1/recipes"].as_object().unwrap();
        assert_eq!(recipes.keys().collect::<Vec<_>>(), ["get", "post"], "of two fragments");
        let search = &paths["/search"]["get"]["responses"]["429"];
        assert!(search["content"]["application/json"].is_object(), "in its own envelope");
    }
}

//! The command API with its deciders on Kafka, in a process of its own, with transactions or
//! without: what they cost Almanac.

use almanac_command_api::{
    CommandApi, CommandApiOptions, DeciderOptions, Follower, Replies, Topics, routes,
};
use almanac_edge::{Identity, identity::IdentityOptions};
use almanac_event_log::{EventLog, kafka::KafkaLog};
use almanac_processor::{Foreign, GatherLimits, ProcessorOptions, StateFolder};
use almanac_schemas::{BuiltInRegistry, Codec};
use almanac_tests::{decider, interposed::without_transactions, kafka, unique};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

pub(crate) async fn serve(is_transactional: bool, port: &str) {
    let mut log: Arc<dyn EventLog> =
        Arc::new(KafkaLog::connect(kafka()).expect("it is configured"));
    if !is_transactional {
        log = without_transactions(log);
    }
    let prefix = format!("{}.", unique('w'));
    let topics = Topics::new(&prefix, crate::writes::PARTITIONS);
    log.ensure_topics(&topics.specs(Duration::from_secs(86_400))).await.expect("topics are made");
    let codec = Arc::new(Codec::new(Arc::new(BuiltInRegistry)).await.expect("schemas are there"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let state = StateFolder::open(&folder.path().join("replies")).expect("a local state");
    let stop = CancellationToken::new();
    let decider = decider(topics.clone(), codec.clone(), folder.path(), DeciderOptions::default());
    let options =
        ProcessorOptions::new(&format!("{prefix}decider"), topics.commands(), "write-path");
    tokio::spawn(almanac_processor::run(log.clone(), options, Arc::new(decider), stop.clone()));
    let identity = IdentityOptions { local_user: true, ..IdentityOptions::default() };
    let replies = Replies::new(10_000, GatherLimits::default());
    let follower = Follower {
        replies: replies.clone(),
        log: log.clone(),
        codec: codec.clone(),
        topics: topics.clone(),
        folder: state,
        foreign: Foreign::default(),
    };
    tokio::spawn(async move { follower.follow().await });
    let identity = Arc::new(Identity::new(identity).expect("no key is needed"));
    let options = CommandApiOptions::default();
    let api = CommandApi::new(log, codec, topics, replies, identity, options);
    let router = routes(api.await.expect("the topics are there")).into_router();
    let (listener, _) = almanac_edge::bind(&format!("127.0.0.1:{port}")).await.expect("a port");
    almanac_edge::serve(listener, router, Default::default(), stop).await;
}

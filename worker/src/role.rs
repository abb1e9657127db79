//! The role: follows what it needs, owns partitions, and works on what is open in them.

use crate::{
    Topics, WorkerMetrics, WorkerOptions,
    analyses::Analyses,
    board::Board,
    commands::Commands,
    forecasts::Forecasts,
    outcome::{Made, Material},
    repeats::Repeats,
    schedules::Schedules,
};
use almanac_domain::analyses::Failure;
use almanac_event_log::{EventLog, LogResult};
use almanac_processor::{Owned, Role, RoleError, StateFolder};
use almanac_schemas::Codec;
use async_trait::async_trait;
use quick_cache::sync::Cache;
use std::{sync::Arc, time::Duration};
use tokio::{sync::Semaphore, task::JoinSet};
use uuid::Uuid;

/// How often is measured what is open.
const MEASURE_EVERY: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Analyses that the next of the same schedule may be compared with, kept as they were made.
const KEPT: usize = 64;

/// What a worker is made of.
#[derive(Clone)]
pub struct Parts {
    pub log: Arc<dyn EventLog>,
    pub codec: Arc<Codec>,
    pub topics: Topics,
    pub options: WorkerOptions,
    /// Names of the forecast providers, in the order in which they count.
    pub providers: Vec<String>,
    /// Local state of what is followed.
    pub analyses: StateFolder,
    pub schedules: StateFolder,
    pub forecasts: StateFolder,
    pub metrics: WorkerMetrics,
}

/// Ids of topics, as positions name them.
pub(crate) struct Ids {
    pub(crate) forecasts: String,
    pub(crate) inputs: String,
}

struct Folders {
    analyses: StateFolder,
    schedules: StateFolder,
    forecasts: StateFolder,
}

pub(crate) type Compute = fn(&Material) -> Result<Made, Failure>;

pub struct Worker {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) codec: Arc<Codec>,
    pub(crate) topics: Topics,
    pub(crate) ids: Ids,
    pub(crate) options: WorkerOptions,
    pub(crate) providers: Vec<String>,
    pub(crate) board: Arc<Board>,
    pub(crate) analyses: Analyses,
    pub(crate) schedules: Schedules,
    pub(crate) forecasts: Forecasts,
    pub(crate) commands: Commands,
    pub(crate) metrics: WorkerMetrics,
    pub(crate) computing: Arc<Semaphore>,
    pub(crate) compute: Compute,
    pub(crate) made: Cache<Uuid, Arc<Made>>,
    repeats: Arc<Repeats>,
    folders: Folders,
}

impl Worker {
    /// Needs the topics to be there.
    pub async fn new(parts: Parts) -> LogResult<Self> {
        let Parts { log, codec, topics, options, providers, metrics, .. } = parts;
        let id = async |topic: &str| log.topic(topic).await.map(|topic| topic.id.to_string());
        let ids =
            Ids { forecasts: id(&topics.forecasts).await?, inputs: id(&topics.inputs).await? };
        let (board, repeats) = (Arc::new(Board::default()), Arc::new(Repeats::default()));
        let partitions = topics.partitions;
        let told = (board.clone(), repeats.clone(), metrics.clone());
        let topic = topics.analyses.clone();
        let analyses = Analyses::new(log.clone(), codec.clone(), topic, partitions, told);
        let topic = topics.schedules.clone();
        let schedules =
            Schedules::new(log.clone(), codec.clone(), topic, partitions, repeats.clone());
        let forecasts =
            Forecasts::new(log.clone(), codec.clone(), topics.clone(), repeats.clone(), &options);
        let folders = Folders {
            analyses: parts.analyses,
            schedules: parts.schedules,
            forecasts: parts.forecasts,
        };
        Ok(Self {
            commands: Commands::new(log.clone(), codec.clone(), topics.clone()),
            computing: Arc::new(Semaphore::new(options.computations())),
            compute: Material::compute,
            made: Cache::new(KEPT),
            log,
            codec,
            topics,
            ids,
            options,
            providers,
            board,
            analyses,
            schedules,
            forecasts,
            metrics,
            repeats,
            folders,
        })
    }

    /// The topic whose partitions are shared out among workers.
    pub fn input(&self) -> &str {
        self.topics.input()
    }

    /// Whether all is known that work needs.
    pub fn is_ready(&self) -> bool {
        self.analyses.followed.is_followed()
            && self.schedules.followed.is_followed()
            && self.forecasts.followed.is_followed()
    }

    /// Follows, works and repeats until an error. What it works on is what [`Role::own`] owns meanwhile.
    pub async fn run(self: Arc<Self>) -> Result<(), RoleError> {
        let (folders, flush) = (&self.folders, WorkerOptions::flush());
        let (analyses, schedules) = (&self.analyses, &self.schedules);
        let forecasts = &self.forecasts;
        tokio::try_join!(
            analyses.followed.follow(&folders.analyses, flush, &analyses.fold),
            schedules.followed.follow(&folders.schedules, flush, &schedules.fold),
            forecasts.followed.follow(&folders.forecasts, flush, &forecasts.fold),
            self.work(),
            self.repeat(),
        )?;
        Ok(())
    }

    async fn ready(&self) {
        while !self.is_ready() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn work(self: &Arc<Self>) -> Result<(), RoleError> {
        self.ready().await;
        let (at_once, per_caller) = (self.options.concurrency, self.options.per_caller());
        // Dropped, it takes what is at work with it.
        let mut working = JoinSet::new();
        let mut measure = tokio::time::interval(MEASURE_EVERY);
        loop {
            while let Some(taken) = self.board.take(at_once, per_caller) {
                working.spawn(self.clone().work_on(taken));
            }
            tokio::select! {
                () = self.board.wake.notified() => {}
                _ = measure.tick() => self.metrics.load(self.board.load()),
                Some(ended) = working.join_next(), if !working.is_empty() => {
                    // Panics within an attempt are caught there.
                    ended.map_err(RoleError::other)?;
                }
            }
        }
    }

    async fn repeat(&self) -> Result<(), RoleError> {
        self.ready().await;
        let (board, forecasts, again) = (&self.board, &self.forecasts, self.options.ask_again);
        self.repeats.run(board, forecasts, &self.commands, &self.providers, again).await
    }
}

/// Disowns a partition however owning it ends.
struct OwnedOnBoard<'a>(&'a Board, u32);

impl Drop for OwnedOnBoard<'_> {
    fn drop(&mut self) {
        self.0.disown(self.1);
    }
}

#[async_trait]
impl Role for Worker {
    /// What an owner before did may have come to an end: all that the log holds of the partition is taken
    /// in first. Two owners at the same time do no harm but double work: the decider takes one end.
    async fn own(&self, owned: Owned) -> Result<(), RoleError> {
        let partition = owned.partition();
        let complete = async {
            self.ready().await;
            self.analyses.followed.complete(partition).await?;
            self.schedules.followed.complete(partition).await
        };
        tokio::select! {
            () = owned.cancelled.cancelled() => return Ok(()),
            complete = complete => complete?,
        }
        self.board.own(partition);
        let _owned = OwnedOnBoard(&self.board, partition);
        tracing::debug!(partition, "working on analyses");
        owned.cancelled.cancelled().await;
        Ok(())
    }
}

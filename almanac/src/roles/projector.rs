//! Folds events into tables.

use super::{Prepared, Process, Role, claim};
use crate::{config::Config, projecting::Projecting};
use almanac_projector::ProjectorMetrics;
use async_trait::async_trait;
use prometheus_client::registry::Registry;
use std::{fs::File, time::Duration};

pub(super) struct Projects;

#[async_trait]
impl Role for Projects {
    fn name(&self) -> &'static str {
        "projector"
    }

    fn about(&self) -> &'static str {
        "Fold events into tables"
    }

    fn claim(&self, config: &Config) -> anyhow::Result<Option<File>> {
        claim(config, self.name()).map(Some)
    }

    async fn prepare(
        &self,
        _process: &Process,
        metrics: &mut Registry,
    ) -> anyhow::Result<Box<dyn Prepared>> {
        Ok(Box::new(Ready(ProjectorMetrics::register(metrics))))
    }
}

struct Ready(ProjectorMetrics);

/// A projection that has something to fold and writes nothing for so long stands still.
const STILL: Duration = Duration::from_secs(60);

#[async_trait]
impl Prepared for Ready {
    async fn start(self: Box<Self>, process: &mut Process) -> anyhow::Result<()> {
        let options = process.processor_options();
        let metrics = self.0.clone();
        let folds = move || match metrics.stands_still(STILL) {
            false => Ok("folded"),
            true => Err("standing still"),
        };
        process.show("projections", Box::new(folds));
        let projecting = Projecting::new(
            &process.config,
            &process.opened,
            process.operations.clone(),
            self.0,
            &process.background,
            options,
        );
        process.project(projecting);
        Ok(())
    }
}

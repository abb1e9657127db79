//! Answers searches and other reads. Every process does, since each answers `/healthz`, `/readyz` and
//! `/metrics` beside them (`surface.rs`); a process with this role alone does nothing else.

use super::{Prepared, Process, Role};
use async_trait::async_trait;
use prometheus_client::registry::Registry;

pub(super) struct AnswersReads;

#[async_trait]
impl Role for AnswersReads {
    fn name(&self) -> &'static str {
        "query-api"
    }

    fn about(&self) -> &'static str {
        "Answer searches and other reads over HTTP"
    }

    async fn prepare(
        &self,
        _process: &Process,
        _metrics: &mut Registry,
    ) -> anyhow::Result<Box<dyn Prepared>> {
        Ok(Box::new(Ready))
    }
}

struct Ready;

#[async_trait]
impl Prepared for Ready {
    async fn start(self: Box<Self>, _process: &mut Process) -> anyhow::Result<()> {
        Ok(())
    }
}

//! The analysis before of the same schedule, made once more from what it rested on.

use crate::{
    analyses::Manner,
    outcome::{Forecasts, Made, Material, Used},
    read::Trouble,
    role::Worker,
};
use almanac_domain::analyses::Outcome;
use almanac_errors::chain;
use std::sync::Arc;
use uuid::Uuid;

impl Worker {
    /// The newest result of a schedule that was made with the same options and sources, as far as it is
    /// known here and can be read.
    pub(crate) async fn previous(
        &self,
        schedule: Uuid,
        manner: Manner,
        own: Uuid,
    ) -> Result<Option<(Uuid, Arc<Made>)>, Trouble> {
        let latest = self.analyses.latest(schedule, manner).await?;
        let Some(latest) = latest.filter(|one| one.id != own) else { return Ok(None) };
        if let Some(made) = self.made.get(&latest.id) {
            return Ok(Some((latest.id, made)));
        }
        let read = async {
            let (asked, outcome) = self.analyses.events(&latest).await?;
            let lost = || Trouble::lost("it names no version of its schedule");
            let version = outcome.schedule_version.ok_or_else(lost)?;
            let known = self.schedules.at_version(schedule, version).await?;
            let forecasts = match &asked.request.input {
                Some(input) => self.inline(latest.id, &asked, input).await?,
                None => Forecasts::OfProviders(self.used(&outcome).await?),
            };
            Ok(Material {
                schedule: Arc::new(known.schedule),
                states: known.states.into(),
                options: asked.request.options,
                now: outcome.now,
                forecasts,
                absent: Vec::new(),
            })
        };
        let material = match read.await {
            Ok(material) => material,
            Err(outage @ Trouble::Outage(_)) => return Err(outage),
            Err(Trouble::Lost(error)) => {
                tracing::warn!(
                    analysis = %latest.id, error = %chain(&*error), "nothing is compared with an analysis"
                );
                return Ok(None);
            }
        };
        // It was computed before: if it cannot be now, nothing is compared with it.
        match self.compute(&material).await {
            Ok(made) => {
                let made = Arc::new(made);
                self.made.insert(latest.id, made.clone());
                Ok(Some((latest.id, made)))
            }
            Err(stop) => {
                tracing::warn!(
                    analysis = %latest.id, error = %chain(&stop), "nothing is compared with an analysis"
                );
                Ok(None)
            }
        }
    }

    /// The forecasts that a result names.
    async fn used(&self, outcome: &Outcome) -> Result<Vec<Used>, Trouble> {
        let mut found = Vec::new();
        for used in &outcome.forecasts {
            if used.at.topic_id != self.ids.forecasts {
                return Err(Trouble::lost(format!("topic {} is gone", used.at.topic_id)));
            }
            let forecast = self.forecasts.read(used.at.partition, used.at.offset).await?;
            found.push(Used { forecast, used: used.clone(), lacks: None });
        }
        Ok(found)
    }
}

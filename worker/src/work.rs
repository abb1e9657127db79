//! The way of one analysis: what was asked, the schedule, the forecasts, the computation, the outcome.

use crate::{
    analyses::Asked,
    board::{Open, Taken},
    commands::Said,
    forecasts::Had,
    outcome::{Forecasts, Made, Material, Used, notice},
    read::{self, Trouble, Unreadable},
    role::Worker,
};
use almanac_domain::{
    analyses::{Failure, ForecastUse, Input, LogPosition, Notice, Stage, Subject},
    schedules::Knowledge,
    weather::{AlphaTable, Combine, Place, Schedule, TaskState, unanswerable},
};
use almanac_errors::{Cause, chain};
use almanac_processor::{
    supervise::message,
    traced::{self, At},
};
use almanac_schemas::{
    analyses::{INPUT_CHUNK, InputChunkRecord, MAX_INPUT_BYTES},
    json::weather::read_forecast,
};
use almanac_traces::{Hop, attributes as name};
use futures::{FutureExt, future::join_all};
use jiff::Timestamp;
use std::{future::Future, io::Read, panic::AssertUnwindSafe, sync::Arc, time::Duration};
use uuid::Uuid;

/// What takes longer than this is told of.
const A_MOMENT: Duration = Duration::from_secs(1);
/// Pause after an outage.
const PAUSE: Duration = Duration::from_secs(1);

/// Why an attempt came to no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stop {
    /// There is none, for a reason that whoever asked understands.
    #[error("{}", .0.detail)]
    Failed(Failure),
    /// It may work later.
    #[error(transparent)]
    Outage(Cause),
    /// It panicked or took too long.
    #[error("{0}")]
    Stuck(String),
}

fn failed(code: &str, detail: impl Into<String>) -> Stop {
    Stop::Failed(Failure { code: code.to_owned(), detail: detail.into() })
}

impl From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Outage(cause) => Self::Outage(cause),
            Trouble::Lost(cause) => {
                tracing::error!(error = %chain(&*cause), "what an analysis needs cannot be read");
                failed("unreadable", "what the analysis needs cannot be read from the log")
            }
        }
    }
}

/// A schedule to be analysed.
struct Subjected {
    schedule: Arc<Schedule>,
    states: Arc<[TaskState]>,
    /// Of a stored one, its id and version.
    stored: Option<(Uuid, u64)>,
}

impl Worker {
    /// Works on an analysis until it has ended, is another process' business, or goes back to the board.
    pub(crate) async fn work_on(self: Arc<Self>, mut taken: Taken) {
        let stop = taken.stop.clone();
        let again = tokio::select! {
            () = stop.cancelled() => return,
            again = self.attempt(&mut taken) => again,
        };
        taken.make_room();
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(again) => {}
        }
        self.board.put_back(taken);
    }

    /// One attempt, the sending of what comes of it included. Returns after what time it is to be tried
    /// again, unless an end is seen before.
    async fn attempt(&self, taken: &mut Taken) -> Duration {
        let hop = self.hop(taken);
        hop.scope(self.attempt_in(&hop, taken)).await
    }

    /// What an attempt is to the trace of the request.
    fn hop(&self, taken: &Taken) -> Hop {
        let Open { waiting, partition, traced } = &*taken.open;
        let Some((offset, parent)) = traced else { return Hop::default() };
        let (id, topic) = (waiting.id.to_string(), self.analyses.followed.topic());
        let at = At { topic, partition: *partition, offset: *offset, key: id.as_bytes() };
        let hop = traced::processing_at(Some(parent.clone()), at);
        if let Some(span) = hop.span() {
            span.set(name::number(name::ATTEMPT, taken.tries.stuck + taken.tries.sent + 1));
        }
        hop
    }

    async fn attempt_in(&self, hop: &Hop, taken: &mut Taken) -> Duration {
        let failed = |why: &'static str| traced::failed([hop], why);
        let open = taken.open.clone();
        let id = open.waiting.id;
        let made = match AssertUnwindSafe(self.make(&open)).catch_unwind().await {
            Ok(made) => made,
            Err(panic) => Err(Stop::Stuck(format!("it panicked: {}", message(&*panic)))),
        };
        let said = match made {
            Ok(Some(said)) => said,
            // Its end is about to be seen.
            Ok(None) => return self.options.ask_again,
            Err(Stop::Failed(failure)) => Said::Failed(failure),
            Err(Stop::Outage(error)) => {
                failed("outage");
                tracing::warn!(analysis = %id, error = %chain(&*error), "an analysis waits");
                return PAUSE;
            }
            Err(Stop::Stuck(why)) => {
                failed("stuck");
                taken.tries.stuck += 1;
                self.metrics.restarted();
                tracing::error!(
                    analysis = %id, attempt = taken.tries.stuck, error = why,
                    "an analysis is given up and started over"
                );
                if taken.tries.stuck < self.options.attempts {
                    return Duration::ZERO;
                }
                let attempts = self.options.attempts;
                let detail = format!(
                    "the analysis could not be computed in {attempts} attempts; asking for less, such \
                     as a shorter forecast or fewer tasks, may help"
                );
                Said::Failed(Failure { code: "gave_up".to_owned(), detail })
            }
        };
        if let Some(span) = hop.span() {
            span.set(name::of(name::OUTCOME, said.verb()));
        }
        match self.commands.send(id, &said).await {
            Ok(()) => {
                let pause = self.options.ask_again * 2_u32.pow(taken.tries.sent.min(3));
                taken.tries.sent += 1;
                pause
            }
            Err(error) => {
                tracing::warn!(analysis = %id, error = %chain(&error), "the result of an analysis cannot be sent");
                PAUSE
            }
        }
    }

    /// `None` when it has ended already.
    async fn make(&self, open: &Open) -> Result<Option<Said>, Stop> {
        let id = open.waiting.id;
        let Some(asked) = self.analyses.request(open).await? else { return Ok(None) };
        let subject = self.subject(&asked).await?;
        let part = almanac_traces::part("gather forecasts");
        let gathered = part.scope(self.gathered(id, &asked, &subject.schedule));
        let (forecasts, absent) = self.telling(id, Stage::WaitingForForecast, gathered).await?;
        drop(part);
        let material = Material {
            schedule: subject.schedule,
            states: subject.states,
            options: asked.request.options,
            now: Timestamp::now(),
            forecasts,
            absent,
        };
        let part = almanac_traces::part("compute");
        let computed = part.scope(self.compute(&material));
        let made = self.telling(id, Stage::Computing, computed).await?;
        drop(part);
        let version = subject.stored.map(|(_, version)| version);
        let mut outcome = material.outcome(&made, self.options.moved_m, version);
        if let Some((schedule, _)) = subject.stored {
            let made = Arc::new(made);
            if let Some((previous, before)) = self.previous(schedule, asked.manner, id).await? {
                outcome.previous = Some(previous.to_string());
                outcome.changes = made.changes_since(&before);
            }
            self.made.insert(id, made);
        }
        Ok(Some(Said::Completed(Box::new(outcome))))
    }

    /// Says what it is at, when that takes more than a moment.
    async fn telling<T>(
        &self,
        id: Uuid,
        stage: Stage,
        work: impl Future<Output = Result<T, Stop>>,
    ) -> Result<T, Stop> {
        tokio::pin!(work);
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(A_MOMENT) => {}
        }
        // Nothing depends on it.
        if let Err(error) = self.commands.send(id, &Said::Progressed(stage)).await {
            tracing::debug!(analysis = %id, error = %chain(&error), "progress cannot be told");
        }
        work.await
    }

    async fn subject(&self, asked: &Asked) -> Result<Subjected, Stop> {
        let id = match &asked.request.subject {
            Subject::Inline(schedule) => {
                let states = vec![TaskState::Planned; schedule.tasks.len()].into();
                let schedule = Arc::new((**schedule).clone());
                return Ok(Subjected { schedule, states, stored: None });
            }
            Subject::Stored(id) => id,
        };
        let unknown = || failed("unknown_schedule", "you have no schedule with this id");
        let id = Uuid::try_parse(id).map_err(|_| unknown())?;
        let known = self.schedules.newest(id).await?;
        let known = known.filter(|known| known.owner == asked.head.owner).ok_or_else(unknown)?;
        let Knowledge { schedule, states, version, is_deleted, .. } = known;
        if is_deleted {
            return Err(failed("deleted_schedule", "the schedule was deleted"));
        }
        let (schedule, states) = (Arc::new(schedule), states.into());
        Ok(Subjected { schedule, states, stored: Some((id, version)) })
    }

    /// The forecasts that count, and a notice of each source that was asked for and does not.
    async fn gathered(
        &self,
        id: Uuid,
        asked: &Asked,
        schedule: &Schedule,
    ) -> Result<(Forecasts, Vec<Notice>), Stop> {
        if let Some(input) = &asked.request.input {
            return Ok((self.inline(id, asked, input).await?, Vec::new()));
        }
        if schedule.tasks.iter().all(|task| task.limits.is_empty()) {
            return Ok((Forecasts::OfProviders(Vec::new()), Vec::new()));
        }
        let sources = match &asked.request.sources {
            none if none.is_empty() => &self.providers,
            sources => sources,
        };
        let unknown = sources.iter().find(|source| !self.providers.contains(source));
        if let Some(unknown) = unknown {
            let detail = format!("no forecast provider has the name {unknown:?}");
            return Err(failed("unknown_source", detail));
        }
        let Some(place) = Place::of(&schedule.location) else {
            return Err(failed("no_place", "the schedule is nowhere on earth"));
        };
        let had = sources.iter().map(|source| self.forecasts.have(source, place));
        let had = join_all(had).await.into_iter().collect::<Result<Vec<Had>, Trouble>>()?;
        self.chosen(asked, schedule, had).await
    }

    /// Of what can be had, what is used: with the first source that has a value, older forecasts only
    /// where fresh ones do not do; with the worst of all, all.
    async fn chosen(
        &self,
        asked: &Asked,
        schedule: &Schedule,
        had: Vec<Had>,
    ) -> Result<(Forecasts, Vec<Notice>), Stop> {
        let mut found = Vec::new();
        let mut absent = Vec::new();
        for Had { source, key, published, lacks } in had {
            let Some(published) = published else {
                let lacks = lacks.unwrap_or_else(|| "it has none".to_owned());
                absent.push((source, lacks));
                continue;
            };
            let forecast = self.forecasts.read(published.partition, published.offset).await?;
            let used = ForecastUse {
                source,
                key,
                at: LogPosition {
                    topic_id: self.ids.forecasts.clone(),
                    partition: published.partition,
                    offset: published.offset,
                },
                issued_at: forecast.issued_at,
                fetched_at: forecast.fetched_at,
            };
            found.push(Used { forecast, used, lacks });
        }
        if found.is_empty() {
            let reasons: Vec<String> =
                absent.iter().map(|(source, lacks)| format!("{source}: {lacks}")).collect();
            let detail = match reasons.is_empty() {
                true => "no forecast provider is configured".to_owned(),
                false => format!("no forecast could be had of this place: {}", reasons.join("; ")),
            };
            return Err(failed("no_forecast", detail));
        }
        let options = asked.request.options;
        let needs_several = options.alpha == Some(AlphaTable::T42);
        if needs_several && found.len() < 2 {
            let detail =
                "table 4-2 takes the worst of at least two sources, and only one could be had";
            return Err(failed("too_few_sources", detail));
        }
        if options.combine == Combine::First && !needs_several {
            let is_fresh = |one: &Used| one.lacks.is_none();
            let fresh = found.iter().filter(|one| is_fresh(one));
            let series: Vec<_> =
                fresh.flat_map(|one| one.forecast.series.iter().cloned()).collect();
            if !series.is_empty() && unanswerable(schedule, &series).is_empty() {
                let older = found.iter().filter(|one| !is_fresh(one));
                let reason =
                    |one: &Used| (one.used.source.clone(), one.lacks.clone().unwrap_or_default());
                absent.extend(older.map(reason));
                found.retain(is_fresh);
            }
        }
        let notices = absent.into_iter().map(|(source, lacks)| {
            let detail = format!("no fresh forecast of {source} could be had: {lacks}");
            notice("source_unavailable", detail, None)
        });
        Ok((Forecasts::OfProviders(found), notices.collect()))
    }

    /// The forecast that came with the request.
    pub(crate) async fn inline(
        &self,
        id: Uuid,
        asked: &Asked,
        input: &Input,
    ) -> Result<Forecasts, Trouble> {
        if input.topic_id != self.ids.inputs {
            return Err(Trouble::lost(format!("topic {} is gone", input.topic_id)));
        }
        let (topic, partition) = (&self.topics.inputs, input.partition);
        let (first, last) = (input.first_offset, input.last_offset);
        let records = read::records(&*self.log, topic, partition, first, last).await?;
        let mut packed = Vec::new();
        let mut next = 0;
        for stored in &records {
            let Some(value) = &stored.record.value else { continue };
            let decoded = self.codec.decode(value).await?;
            if decoded.record() != INPUT_CHUNK {
                continue;
            }
            let chunk: InputChunkRecord<'_> = decoded.read()?;
            // Pieces of others may stand between ours, and an attempt before of the same.
            if chunk.analysis_id == id.to_string() && chunk.chunk == next {
                packed.extend_from_slice(chunk.bytes);
                next += 1;
            }
        }
        if u32::try_from(next) != Ok(input.chunks) {
            let detail = format!("{next} of {} pieces of a forecast are there", input.chunks);
            return Err(Trouble::lost(detail));
        }
        let unpacked = tokio::task::spawn_blocking(move || {
            let mut text = Vec::new();
            let limit = MAX_INPUT_BYTES as u64 + 1;
            zstd::Decoder::new(&packed[..])?.take(limit).read_to_end(&mut text)?;
            match read_forecast(&text) {
                Ok(Ok(forecast)) => Ok(forecast),
                Ok(Err(faults)) => {
                    Err(format!("{} faults, {:?} first", faults.len(), faults.first()).into())
                }
                Err(error) => Err(Cause::from(error)),
            }
        });
        let forecast = match unpacked.await {
            Ok(Ok(forecast)) => forecast,
            Ok(Err(source)) => {
                return Err(Trouble::lost(Unreadable { what: "an inline forecast", source }));
            }
            Err(error) => return Err(Trouble::outage(error)),
        };
        let used = ForecastUse {
            source: input.source.clone(),
            key: id.to_string(),
            at: LogPosition { topic_id: input.topic_id.clone(), partition, offset: first },
            issued_at: input.issued_at,
            fetched_at: Timestamp::from_millisecond(asked.head.requested_at).unwrap_or_default(),
        };
        Ok(Forecasts::Inline { series: vec![forecast.series].into(), used })
    }

    /// Computes off the threads that wait. One that takes too long is left behind, and keeps its place
    /// until it ends: so many processors are busy, and no more.
    pub(crate) async fn compute(&self, material: &Material) -> Result<Made, Stop> {
        let permit = self.computing.clone().acquire_owned().await;
        let permit = permit.map_err(|error| Stop::Outage(error.into()))?;
        let (material, compute) = (material.clone(), self.compute);
        let started = std::time::Instant::now();
        let computing = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            compute(&material)
        });
        let at_most = self.options.computation_time;
        let computed = match tokio::time::timeout(at_most, computing).await {
            Ok(computed) => computed,
            Err(_) => return Err(Stop::Stuck(format!("it took longer than {at_most:?}"))),
        };
        self.metrics.computed(started.elapsed());
        match computed {
            Ok(made) => made.map_err(Stop::Failed),
            Err(error) if error.is_panic() => {
                let panic = error.into_panic();
                Err(Stop::Stuck(format!("it panicked: {}", message(&*panic))))
            }
            // The process is going down.
            Err(error) => Err(Stop::Outage(error.into())),
        }
    }
}

//! What a completed analysis rests on, read again: the version of the schedule, the forecasts, and the
//! time that counted as now. Windows and steps follow from these, so that no event holds them.

use super::Analyses;
use crate::{
    drawing::{Asked, Shown, SourceNote},
    v1::{schedules::event_of, store_problem},
};
use almanac_domain::{
    analyses::{ForecastUse, Input},
    weather::{Analysis, AnalysisError, Analyst, Options, Question, Schedule, Series, TaskState},
};
use almanac_edge::Problem;
use almanac_errors::Cause;
use almanac_read_store::{Row, Slice};
use almanac_schemas::{
    analyses::{AnalysisCompletedRecord, AnalysisRequestedRecord, MAX_INPUT_BYTES},
    forecasts::ForecastPublishedRecord,
    json::weather::{InputPiece, VariableForecast, read_forecast, variables},
};
use almanac_tables::{analyses::input_key, forecasts};
use jiff::Timestamp;
use rust_decimal::prelude::ToPrimitive;
use std::{collections::BTreeMap, io::Read, time::Duration};
use tokio::time::Instant;

/// Everything but the answer.
pub(super) struct Loaded {
    pub(super) completed: Box<AnalysisCompletedRecord>,
    pub(super) schedule: Schedule,
    states: Vec<TaskState>,
    series: Vec<Series>,
    is_inline: bool,
    options: Options,
    now: Timestamp,
    pub(super) sources: Vec<Source>,
}

/// A forecast that counted.
pub(super) struct Source {
    pub(super) note: SourceNote,
    /// What a provider said of each variable; nothing of a forecast that came with the request.
    pub(super) variables: BTreeMap<&'static str, VariableForecast>,
}

/// Rows on their way to being [`Loaded`]: parsing them is work for other threads.
pub(super) struct Rows {
    completed: Box<AnalysisCompletedRecord>,
    request: Box<AnalysisRequestedRecord>,
    schedule: Schedule,
    states: Vec<TaskState>,
    forecasts: Forecasts,
}

enum Forecasts {
    Inline { input: Input, pieces: Vec<Row> },
    Published(Vec<(ForecastUse, Row)>),
}

/// Why a result cannot be computed again.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unloadable {
    #[error("a value of analysis {0} is outside the domain")]
    OutsideDomain(String),
    #[error("the forecast that came with analysis {id} cannot be read")]
    Inline { id: String, source: Cause },
    #[error("forecast {key} of analysis {id} cannot be read")]
    Forecast { id: String, key: String, source: Cause },
    #[error("analysis {id} has no answer any more")]
    Unanswerable { id: String, source: AnalysisError },
}

/// Why the rows are not there.
enum Unread {
    /// Tables of other projections may be a little behind those of analyses.
    Behind(&'static str),
    Failed(Problem),
}

impl From<Problem> for Unread {
    fn from(problem: Problem) -> Self {
        Self::Failed(problem)
    }
}

/// How long to wait before other tables are looked into again.
const PAUSE: Duration = Duration::from_millis(50);

impl Analyses {
    /// What a completed analysis rests on, once the tables have all of it.
    pub(super) async fn rows(&self, completed: &AnalysisCompletedRecord) -> Result<Rows, Problem> {
        let deadline = Instant::now() + self.options.wait;
        loop {
            match self.rows_now(completed).await {
                Ok(rows) => return Ok(rows),
                Err(Unread::Failed(problem)) => return Err(problem),
                Err(Unread::Behind(what)) if Instant::now() + PAUSE > deadline => {
                    let detail = format!("the tables have not reached {what} of the analysis");
                    return Err(Problem::busy(&detail));
                }
                Err(Unread::Behind(_)) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn rows_now(&self, completed: &AnalysisCompletedRecord) -> Result<Rows, Unread> {
        let id = completed.id.clone();
        let outside = || Problem::internal(&Unloadable::OutsideDomain(id.clone()));
        let request = self.request(&id).await?;
        let record = match (&request.schedule, &completed.schedule_id, completed.schedule_version) {
            (Some(schedule), ..) => schedule.clone(),
            (None, Some(schedule_id), Some(version)) => {
                let version = u64::try_from(version).map_err(|_| outside())?;
                let event = event_of(&*self.store, &self.schedules, schedule_id, version).await?;
                event.ok_or(Unread::Behind("the schedule"))?.1.schedule
            }
            _ => return Err(outside().into()),
        };
        let (schedule, states) = record.to_domain().ok_or_else(outside)?;
        let forecasts = match &request.input {
            Some(input) => {
                let input = input.to_domain().ok_or_else(outside)?;
                let slice = Slice {
                    from: Some(input_key(input.first_offset)),
                    until: Some(input_key(input.last_offset.saturating_add(1))),
                    ..Slice::all()
                };
                let pieces = self.store.slice(&self.tables.inputs, &id, &slice).await;
                let pieces = pieces.map_err(|error| store_problem(&error))?;
                if pieces.len() < input.chunks as usize {
                    return Err(Unread::Behind("the forecast"));
                }
                Forecasts::Inline { input, pieces }
            }
            None => {
                let outcome = completed.to_domain().ok_or_else(outside)?;
                let mut rows = Vec::with_capacity(outcome.forecasts.len());
                for used in outcome.forecasts {
                    let partition = forecasts::history_partition(&used.key, used.fetched_at);
                    let key = forecasts::history_key(used.at.offset);
                    let row = self.store.get(&self.forecasts.history, &partition, &key).await;
                    let row = row.map_err(|error| store_problem(&error))?;
                    rows.push((used, row.ok_or(Unread::Behind("a forecast"))?));
                }
                Forecasts::Published(rows)
            }
        };
        let completed = Box::new(completed.clone());
        Ok(Rows { completed, request, schedule, states, forecasts })
    }
}

impl Rows {
    pub(super) fn load(self) -> Result<Loaded, Unloadable> {
        let Self { completed, request, schedule, states, forecasts } = self;
        let id = completed.id.clone();
        let outside = || Unloadable::OutsideDomain(id.clone());
        let options = request.options.to_domain().ok_or_else(outside)?;
        let now: Timestamp = completed.now.parse().map_err(|_| outside())?;
        let age_s = |of: Timestamp| now.duration_since(of).as_secs().max(0);
        let is_inline = matches!(forecasts, Forecasts::Inline { .. });
        let (mut series, mut sources) = (Vec::new(), Vec::new());
        match forecasts {
            Forecasts::Inline { input, pieces } => {
                let read = inline(&input, &pieces);
                let failed = |source| Unloadable::Inline { id: id.clone(), source };
                let inline = read.map_err(failed)?;
                let note = SourceNote {
                    name: inline.series.source.clone(),
                    issued_at: inline.issued_at,
                    age_s: inline.issued_at.map(age_s).or(Some(0)),
                    ..SourceNote::default()
                };
                sources.push(Source { note, variables: BTreeMap::new() });
                series.push(inline.series);
            }
            Forecasts::Published(rows) => {
                for (used, row) in rows {
                    let failed = |source: Cause| {
                        let (id, key) = (id.clone(), used.key.clone());
                        Unloadable::Forecast { id, key, source }
                    };
                    let record: ForecastPublishedRecord =
                        serde_json::from_slice(&row.body).map_err(|error| failed(error.into()))?;
                    let read = record.to_series().map_err(|error| failed(error.into()))?;
                    series.extend(read);
                    let variables = variables(&record, &schedule.location);
                    sources.push(Source {
                        note: note_of(&used, &record, &schedule, age_s),
                        variables,
                    });
                }
            }
        }
        Ok(Loaded { completed, schedule, states, series, is_inline, options, now, sources })
    }
}

fn inline(
    input: &Input,
    pieces: &[Row],
) -> Result<almanac_schemas::json::weather::InlineForecast, Cause> {
    let read = |row: &Row| InputPiece::read(std::str::from_utf8(&row.body).ok()?);
    let mut pieces: Vec<InputPiece> =
        pieces.iter().map(read).collect::<Option<_>>().ok_or("a piece is damaged")?;
    // A piece that was sent again stands there twice.
    pieces.sort_by_key(|piece| piece.chunk);
    pieces.dedup_by_key(|piece| piece.chunk);
    if pieces.len() != input.chunks as usize {
        return Err(format!("{} of {} pieces are there", pieces.len(), input.chunks).into());
    }
    let packed: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.bytes).collect();
    let mut text = Vec::new();
    zstd::Decoder::new(&packed[..])?.take(MAX_INPUT_BYTES as u64 + 1).read_to_end(&mut text)?;
    match read_forecast(&text) {
        Ok(Ok(forecast)) => Ok(forecast),
        Ok(Err(faults)) => {
            Err(faults.first().map_or_else(String::new, |fault| fault.rule.clone()).into())
        }
        Err(error) => Err(error.into()),
    }
}

fn note_of(
    used: &ForecastUse,
    record: &ForecastPublishedRecord,
    schedule: &Schedule,
    age_s: impl Fn(Timestamp) -> i64,
) -> SourceNote {
    let position = record.series.iter().find_map(|series| series.position());
    let distance = position.as_ref().map(|position| position.distance_m(&schedule.location));
    SourceNote {
        name: used.source.clone(),
        issued_at: used.issued_at,
        fetched_at: Some(used.fetched_at),
        age_s: Some(age_s(used.issued_at.unwrap_or(used.fetched_at))),
        position: position.map(|position| (position.lat, position.lon)),
        distance_m: distance.and_then(|metres| metres.round().to_u32()),
        attribution: Some(record.attribution.clone()).filter(|text| !text.is_empty()),
    }
}

impl Loaded {
    pub(super) fn analyst(&self) -> Result<Analyst<'_>, Unloadable> {
        let question = Question {
            schedule: &self.schedule,
            states: &self.states,
            series: &self.series,
            is_inline: self.is_inline,
            options: self.options,
            now: self.now,
        };
        let unanswerable =
            |source| Unloadable::Unanswerable { id: self.completed.id.clone(), source };
        Analyst::new(question).map_err(unanswerable)
    }

    /// For a drawing or a note.
    pub(super) fn show<T>(
        &self,
        analyst: &Analyst<'_>,
        analysis: &Analysis,
        draw: impl FnOnce(&Shown<'_>) -> T,
    ) -> T {
        let completed = &self.completed;
        let sources: Vec<SourceNote> = self.sources.iter().map(|one| one.note.clone()).collect();
        let warnings: Vec<(String, String)> = (completed.warnings.iter())
            .map(|warning| (warning.code.clone(), warning.detail.clone()))
            .collect();
        draw(&Shown {
            schedule: &self.schedule,
            states: &self.states,
            analyst,
            analysis,
            sources: &sources,
            warnings: &warnings,
            asked: Asked {
                id: Some(&completed.id),
                schedule_id: completed.schedule_id.as_deref(),
                schedule_version: completed.schedule_version.and_then(|one| one.try_into().ok()),
                requested_at: Timestamp::from_millisecond(completed.requested_at).ok(),
                now: self.now,
                options: self.options,
            },
        })
    }
}

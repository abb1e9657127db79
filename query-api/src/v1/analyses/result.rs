//! Results of analyses: computed again when they are read, beside the threads that answer requests, a
//! few at once; and kept, since they never change.

use super::{
    Analyses,
    loaded::{Loaded, Unloadable},
};
use almanac_domain::weather::{Analysis, Analyst, Variable};
use almanac_edge::Problem;
use almanac_schemas::{
    analyses::{AnalysisCompletedRecord, AnalysisEventRecord},
    json::weather::{self as json, VariableForecast},
};
use bytes::Bytes;
use foldhash::quality::RandomState;
use jiff::Timestamp;
use quick_cache::{Weighter, sync::Cache};
use serde::Serialize;
use serde_json::value::RawValue;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::Semaphore;

#[derive(Clone)]
struct Weights;

const WORD: u64 = 8;

impl Weighter<String, Bytes> for Weights {
    fn weight(&self, id: &String, body: &Bytes) -> u64 {
        (id.len() + body.len()) as u64 + 20 * WORD
    }
}

pub(super) struct Results {
    /// Answers as they are sent, by id.
    bodies: Cache<String, Bytes, Weights, RandomState>,
    /// Turns to compute: as many as there are threads, so that memory is bounded too.
    computing: Arc<Semaphore>,
}

impl Results {
    pub(super) fn new(bytes: usize) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let (bytes, each) = (bytes as u64, 8_192);
        let entries = (bytes / each).clamp(64, 1 << 20) as usize;
        let bodies =
            Cache::with(entries, bytes, Weights, RandomState::default(), Default::default());
        Self { bodies, computing: Arc::new(Semaphore::new(threads)) }
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.bodies.weight()
    }
}

impl Analyses {
    /// The answer of a completed analysis.
    pub(super) async fn result(
        self: &Arc<Self>,
        completed: Box<AnalysisCompletedRecord>,
        within: Duration,
    ) -> Result<Bytes, Problem> {
        let id = completed.id.clone();
        if let Some(body) = self.results.bodies.get(&id) {
            return Ok(body);
        }
        let body = self.computed(completed, within, |loaded, analyst| {
            let text = render(loaded, &analyst.analyse());
            text.ok_or_else(|| Unloadable::OutsideDomain(loaded.completed.id.clone()))
        });
        let body = Bytes::from(body.await??);
        self.results.bodies.insert(id, body.clone());
        Ok(body)
    }

    /// What follows from all that a completed analysis rests on. Who prefers to wait for longer than
    /// others, waits for a turn for as long.
    pub(super) async fn computed<T: Send + 'static>(
        self: &Arc<Self>,
        completed: Box<AnalysisCompletedRecord>,
        within: Duration,
        compute: impl FnOnce(&Loaded, &Analyst<'_>) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        // Before the rows are read: they are most of the memory.
        let turn = self.results.computing.clone().acquire_owned();
        let turn = tokio::time::timeout(within.max(self.options.wait), turn).await;
        let turn = turn.map_err(|_| Problem::busy("too many results are wanted"))?;
        let rows = self.rows(&completed).await?;
        let computed = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let loaded = rows.load()?;
            let analyst = loaded.analyst()?;
            Ok::<_, Unloadable>(compute(&loaded, &analyst))
        });
        let computed = computed.await.map_err(|error| Problem::internal(&error))?;
        computed.map_err(Problem::from)
    }
}

impl From<Unloadable> for Problem {
    fn from(unloadable: Unloadable) -> Self {
        Self::internal(&unloadable)
    }
}

#[derive(Serialize)]
struct ForecastJson<'a> {
    source: String,
    issued_at: Option<Timestamp>,
    fetched_at: Option<Timestamp>,
    age_s: Option<i64>,
    variables: BTreeMap<&'a str, UseJson<'a>>,
    sources: Vec<SourceJson<'a>>,
}

#[derive(Serialize)]
struct SourceJson<'a> {
    source: &'a str,
    issued_at: Option<Timestamp>,
    fetched_at: Option<Timestamp>,
    age_s: Option<i64>,
    attribution: Option<&'a str>,
}

#[derive(Serialize)]
struct UseJson<'a> {
    source: &'a str,
    step: String,
    native_step: Option<&'a str>,
    until: Timestamp,
    position: Option<json::Position>,
    distance_m: Option<i64>,
}

/// Of several forecasts the oldest counts: that is what the result rests on.
fn forecast<'a>(loaded: &'a Loaded, analysis: &'a Analysis) -> ForecastJson<'a> {
    let notes = || loaded.sources.iter().map(|source| &source.note);
    let said = |source: &str, variable: Variable| -> Option<&'a VariableForecast> {
        let source = loaded.sources.iter().find(|one| one.note.name == source)?;
        source.variables.get(variable.as_str())
    };
    let variables = analysis.variables.iter().map(|used| {
        let said = said(&used.source, used.variable);
        let json = UseJson {
            source: &used.source,
            step: json::iso_duration(used.step_s),
            native_step: said.and_then(|said| said.native_step.as_deref()),
            until: used.until,
            position: said.and_then(|said| said.position),
            distance_m: said.and_then(|said| said.distance_m),
        };
        (used.variable.as_str(), json)
    });
    ForecastJson {
        source: notes().map(|note| note.name.as_str()).collect::<Vec<_>>().join(", "),
        issued_at: notes().filter_map(|note| note.issued_at).min(),
        fetched_at: notes().filter_map(|note| note.fetched_at).min(),
        age_s: notes().filter_map(|note| note.age_s).max(),
        variables: variables.collect(),
        sources: notes()
            .map(|note| SourceJson {
                source: &note.name,
                issued_at: note.issued_at,
                fetched_at: note.fetched_at,
                age_s: note.age_s,
                attribution: note.attribution.as_deref(),
            })
            .collect(),
    }
}

fn render(loaded: &Loaded, analysis: &Analysis) -> Option<String> {
    #[derive(Serialize)]
    struct Completed<'a> {
        schedule_version: Option<i64>,
        now: &'a str,
        is_stale: bool,
        previous: Option<&'a str>,
        changes: &'a [almanac_schemas::analyses::ChangeRecord],
        forecast: ForecastJson<'a>,
        warnings: &'a [almanac_schemas::analyses::WarningRecord],
        /// Its decimals are exact, and must not become binary floating point on the way.
        result: &'a RawValue,
    }
    let completed = &loaded.completed;
    let result = RawValue::from_string(json::render_result(&loaded.schedule, analysis)).ok()?;
    let rest = Completed {
        schedule_version: completed.schedule_version,
        now: &completed.now,
        is_stale: completed.is_stale,
        previous: completed.previous.as_deref(),
        changes: &completed.changes,
        forecast: forecast(loaded, analysis),
        warnings: &completed.warnings,
        result: &result,
    };
    let event = AnalysisEventRecord::Completed(completed.clone());
    let mut text = serde_json::to_string(&json::render_head(&event)?).ok()?;
    let rest = serde_json::to_string(&rest).ok()?;
    // Two objects become one.
    text.truncate(text.len() - 1);
    text.push(',');
    text.push_str(&rest[1..]);
    Some(text)
}

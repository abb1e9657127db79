//! `almanac analyse`: when the tasks of a schedule can start, computed by a running installation, or in
//! this process.

mod chart;
mod remote;

use super::{Target, read};
use crate::config::Config;
use crate::say::say;
use almanac_domain::{
    Fault,
    weather::{Analysis, Analyst, Question, Schedule, Series, TaskResult, Warning},
};
use almanac_ingestor::forecasts;
use almanac_query_api::drawing::{
    Asked, DEFAULT_WIDTH, Shown, SourceNote, View, Zone, chart as chart_svg, note,
};
use almanac_schemas::json::weather::{
    Subject, ended_by, read_analysis, render_forecast, render_result, render_warnings,
};
use anyhow::{Context, bail};
use chart::{Row, Scale, Starts};
use jiff::Timestamp;
use serde::de::IgnoredAny;
use serde_json::{json, value::RawValue};
use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

/// Find when the tasks of a schedule can start, given limits and a forecast
///
/// A running installation asks the services of forecasts, keeps the answer, and shows it to others:
///
/// almanac analyse schedule.json --source met-norway
///
/// With --local it is computed here from files, and nothing is kept:
///
/// almanac analyse schedule.json --forecast forecast.json --local --chart windows.svg --note note.md
#[derive(clap::Args)]
pub(crate) struct Analyse {
    /// File with the schedule, or with a whole request: {"schedule": …, "forecast": …}; or the id of a
    /// stored schedule
    schedule: PathBuf,
    /// File with a forecast: {"source": …, "step": "PT1H", "points": [{"time": …, "wave_height_m": …}]};
    /// with --local also one or several with what MET Norway or Open-Meteo answered, the first first
    #[arg(long, value_name = "FILE")]
    forecast: Vec<PathBuf>,
    /// Name of a provider to be asked; the first of several that has a value counts
    #[arg(long, value_name = "NAME", conflicts_with_all = ["forecast", "local"])]
    source: Vec<String>,
    /// File with the options: {"uncertainty": "dnv-alpha", "alpha_table": "4-1"}
    #[arg(long, value_name = "FILE")]
    options: Option<PathBuf>,
    /// Compute here: no installation is asked, and nothing is stored
    #[arg(long)]
    local: bool,
    /// Seconds to wait for the answer of an installation; then the exit status is 3
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_value_t = 60,
          default_missing_value = "600")]
    wait: u64,
    /// Print the answer as JSON instead of a chart
    #[arg(long)]
    json: bool,
    /// Write a drawing into this file (SVG)
    #[arg(long, value_name = "FILE")]
    chart: Option<PathBuf>,
    /// Write the decision note into this file (Markdown)
    #[arg(long, value_name = "FILE")]
    note: Option<PathBuf>,
    /// Local time in drawing and note, such as Europe/Oslo; by longitude when absent
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    #[command(flatten)]
    target: Target,
}

pub(crate) async fn run(analyse: &Analyse, config: &Config) -> anyhow::Result<()> {
    if analyse.local { run_here(analyse) } else { remote::run(analyse, config).await }
}

fn run_here(analyse: &Analyse) -> anyhow::Result<()> {
    let mut forecasts = Forecasts::default();
    for file in &analyse.forecast {
        forecasts.add(file)?;
    }
    let body = body(analyse, &forecasts)?;
    let request = match read_analysis(body.as_bytes())? {
        Ok(request) => request,
        Err(faults) => bail!("the request cannot be answered{}", listed(&faults)),
    };
    let Subject::Inline(schedule) = request.subject else {
        bail!("--local knows no stored schedules: give the schedule itself");
    };
    let Forecasts { mut series, mut issued_at, .. } = forecasts;
    if let Some(forecast) = request.forecast {
        series.push(forecast.series);
        issued_at = forecast.issued_at;
    }
    if series.is_empty() {
        bail!("--local asks no provider: give a forecast with --forecast FILE");
    }
    let now = Timestamp::now();
    let analyst = Analyst::new(Question {
        schedule: &schedule,
        states: &[],
        series: &series,
        is_inline: true,
        options: request.options,
        now,
    })?;
    let analysis = analyst.analyse();
    let told = |one: &Warning| (one.code().to_owned(), one.detail().to_owned());
    let warnings: Vec<(String, String)> = analysis.warnings.iter().map(told).collect();
    let names = sources_of(&series);
    let sources: Vec<SourceNote> = names
        .into_iter()
        .map(|name| SourceNote {
            name: name.to_owned(),
            issued_at,
            age_s: issued_at.map(|issued| now.duration_since(issued).as_secs().max(0)),
            ..SourceNote::default()
        })
        .collect();
    let shown = Shown {
        schedule: &schedule,
        states: &[],
        analyst: &analyst,
        analysis: &analysis,
        sources: &sources,
        warnings: &warnings,
        asked: Asked {
            id: None,
            schedule_id: None,
            schedule_version: None,
            requested_at: None,
            now,
            options: request.options,
        },
    };
    draw(analyse, &shown)?;
    let text = match analyse.json {
        true => answer(&schedule, &analysis, issued_at)?,
        false => chart(&schedule, &analyst, &analysis),
    };
    say!("{text}");
    Ok(())
}

/// Forecasts from files.
#[derive(Default)]
struct Forecasts {
    /// In Almanac's own form, as it stands.
    own: Option<String>,
    /// What services answered.
    series: Vec<Series>,
    issued_at: Option<Timestamp>,
}

impl Forecasts {
    fn add(&mut self, file: &Path) -> anyhow::Result<()> {
        let text = text_of(file)?;
        let names: BTreeMap<String, IgnoredAny> = serde_json::from_str(&text)
            .with_context(|| format!("{} is no JSON object", file.display()))?;
        let is_own = names.contains_key("points");
        if self.own.is_some() || (is_own && !self.series.is_empty()) {
            bail!("{}: a forecast of one's own is the only one", file.display());
        }
        if is_own {
            self.own = Some(text);
            return Ok(());
        }
        let answer = forecasts::read(text.as_bytes());
        let answer = answer.with_context(|| format!("cannot use {}", file.display()))?;
        self.series.extend(answer.series);
        // The oldest is what the result rests on.
        self.issued_at = match (self.issued_at, answer.issued_at) {
            (Some(known), Some(other)) => Some(known.min(other)),
            (known, other) => known.or(other),
        };
        Ok(())
    }
}

/// Their names, each once and in order.
fn sources_of(series: &[Series]) -> Vec<&str> {
    let mut sources: Vec<&str> = Vec::new();
    for series in series {
        if !sources.contains(&&*series.source) {
            sources.push(&series.source);
        }
    }
    sources
}

/// Writes the files that are wanted.
fn draw(analyse: &Analyse, shown: &Shown<'_>) -> anyhow::Result<()> {
    let zone = match &analyse.timezone {
        None => Zone::by_longitude(shown.schedule.location.lon),
        Some(name) => {
            Zone::named(name).with_context(|| format!("{name:?} is no time zone that is known"))?
        }
    };
    let view = View { width: DEFAULT_WIDTH, zone: zone.clone(), now: shown.asked.now };
    let files = [
        (&analyse.chart, analyse.chart.as_ref().map(|_| chart_svg(shown, &view))),
        (&analyse.note, analyse.note.as_ref().map(|_| note(shown, &zone))),
    ];
    for (file, text) in files {
        if let Some((file, text)) = file.as_ref().zip(text) {
            fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
        }
    }
    Ok(())
}

/// The request as one text, so that faults are told at the same places as a server tells them.
fn body(analyse: &Analyse, forecasts: &Forecasts) -> anyhow::Result<String> {
    let given = text_of(&analyse.schedule)?;
    let mut parts: BTreeMap<&str, &RawValue> = serde_json::from_str(&given)
        .with_context(|| format!("{} is no JSON object", analyse.schedule.display()))?;
    let whole: &RawValue = serde_json::from_str(&given)?;
    if !parts.contains_key("schedule") {
        parts = BTreeMap::from([("schedule", whole)]);
    }
    let options = analyse.options.as_deref().map(text_of).transpose()?;
    let sources = serde_json::to_string(&sources_of(&forecasts.series))?;
    let given = [("forecast", forecasts.own.as_deref()), ("options", options.as_deref())];
    for (name, text) in given {
        if let Some(text) = text {
            let raw = serde_json::from_str(text).with_context(|| format!("{name} is no JSON"))?;
            parts.insert(name, raw);
        }
    }
    if !forecasts.series.is_empty() {
        parts.remove("forecast");
        parts.insert("sources", serde_json::from_str(&sources)?);
    }
    Ok(serde_json::to_string(&parts)?)
}

fn text_of(file: &Path) -> anyhow::Result<String> {
    String::from_utf8(read(file)?).with_context(|| format!("{} is no text", file.display()))
}

fn listed(faults: &[Fault]) -> String {
    let line = |fault: &Fault| format!("\n  #/{}: {}", fault.place.join("/"), fault.rule);
    faults.iter().map(line).collect()
}

fn answer(
    schedule: &Schedule,
    analysis: &Analysis,
    issued_at: Option<Timestamp>,
) -> anyhow::Result<String> {
    let raw = |text: String| RawValue::from_string(text);
    let source = analysis.variables.first().map(|variable| &variable.source);
    let answer = json!({
        "state": "completed",
        "forecast": {
            "source": source,
            "issued_at": issued_at,
            "variables": raw(render_forecast(&analysis.variables))?,
        },
        "warnings": raw(render_warnings(&analysis.warnings))?,
    });
    // Decimals as they are: they must not become binary floating point on the way.
    let mut text = answer.to_string();
    text.truncate(text.len() - 1);
    let _ = write!(text, ",\"result\":{}}}", render_result(schedule, analysis));
    Ok(text)
}

fn chart(schedule: &Schedule, analyst: &Analyst<'_>, analysis: &Analysis) -> String {
    let tasks = || 0..schedule.tasks.len();
    let scale = tasks().find_map(|place| Scale::of(&analyst.steps(place)));
    let row = |place: usize| {
        let (result, planned) = (&analysis.tasks[place], &analysis.plan[place]);
        let scale = scale.as_ref().filter(|_| !result.is_unrestricted);
        Row {
            id: schedule.tasks[place].id.clone(),
            verdicts: scale.map(|scale| scale.row(&analyst.steps(place))),
            told: tell(result),
            planned: planned
                .start
                .zip(planned.end)
                .map(|(start, end)| (start, end, planned.latest_start)),
        }
    };
    let rows: Vec<Row> = tasks().map(row).collect();
    chart::render(scale.as_ref(), &rows, analysis.earliest_completion)
}

fn tell(result: &TaskResult) -> String {
    let failed = result.failed.map(|refusal| refusal.to_string());
    let ended_by = result.longest_window.map(|longest| ended_by(longest.ended_by));
    let longest = result.longest_window.zip(ended_by.as_deref());
    Starts {
        failed: failed.as_deref(),
        is_unrestricted: result.is_unrestricted,
        ranges: result.start_windows.len(),
        longest: longest.map(|(longest, by)| (longest.window.from, longest.window.to, by)),
    }
    .tell()
}

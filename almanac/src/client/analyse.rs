//! `almanac analyse`: when the tasks of a schedule can start, computed in this process.

use almanac_domain::{
    Fault,
    weather::{
        Analysis, Analyst, Decider, Question, Schedule, Series, TaskResult, Verdict, resample,
    },
};
use almanac_ingestor::forecasts;
use almanac_schemas::json::weather::{
    Subject, read_analysis, render_forecast, render_result, render_warnings,
};
use anyhow::{Context, bail};
use jiff::{SignedDuration, Timestamp};
use serde::de::IgnoredAny;
use serde_json::{json, value::RawValue};
use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

/// Find when the tasks of a schedule can start, given limits and a forecast.
///
/// almanac analyse schedule.json --forecast forecast.json --local
#[derive(clap::Args)]
pub(crate) struct Analyse {
    /// File with the schedule, or with a whole request: {"schedule": …, "forecast": …}
    schedule: PathBuf,
    /// File with a forecast: {"source": …, "step": "PT1H", "points": [{"time": …, "wave_height_m": …}]},
    /// or one or several with what MET Norway or Open-Meteo answered, the first first
    #[arg(long, value_name = "FILE")]
    forecast: Vec<PathBuf>,
    /// File with the options: {"uncertainty": "dnv-alpha", "alpha_table": "4-1"}
    #[arg(long, value_name = "FILE")]
    options: Option<PathBuf>,
    /// Compute here: no installation is asked, and nothing is stored
    #[arg(long, required = true)]
    local: bool,
    /// Print the answer as JSON instead of a chart
    #[arg(long)]
    json: bool,
}

/// Columns of the chart.
const WIDTH: usize = 72;

pub(crate) fn run(analyse: &Analyse) -> anyhow::Result<()> {
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
    let analyst = Analyst::new(Question {
        schedule: &schedule,
        states: &[],
        series: &series,
        is_inline: true,
        options: request.options,
        now: Timestamp::now(),
    })?;
    let analysis = analyst.analyse();
    let text = match analyse.json {
        true => answer(&schedule, &analysis, issued_at)?,
        false => chart(&schedule, &analyst, &analysis),
    };
    println!("{text}");
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
        let text = read(file)?;
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

    fn sources(&self) -> Vec<&str> {
        let mut sources: Vec<&str> = Vec::new();
        for series in &self.series {
            if !sources.contains(&&*series.source) {
                sources.push(&series.source);
            }
        }
        sources
    }
}

/// The request as one text, so that faults are told at the same places as a server tells them.
fn body(analyse: &Analyse, forecasts: &Forecasts) -> anyhow::Result<String> {
    let given = read(&analyse.schedule)?;
    let mut parts: BTreeMap<&str, &RawValue> = serde_json::from_str(&given)
        .with_context(|| format!("{} is no JSON object", analyse.schedule.display()))?;
    let whole: &RawValue = serde_json::from_str(&given)?;
    if !parts.contains_key("schedule") {
        parts = BTreeMap::from([("schedule", whole)]);
    }
    let options = analyse.options.as_deref().map(read).transpose()?;
    let sources = serde_json::to_string(&forecasts.sources())?;
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

fn read(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
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
    let mut text = String::new();
    let Some((from, length)) = scale(schedule, analyst) else {
        return "no task has limits: all can start at once".to_owned();
    };
    let longest = schedule.tasks.iter().map(|task| task.id.chars().count()).max().unwrap_or(0);
    let name_width = longest.clamp(4, 24);
    let end = from + SignedDuration::from_secs(length.as_secs() * WIDTH as i64);
    let minute = |time: Timestamp| time.strftime("%Y-%m-%d %H:%MZ").to_string();
    let (first, last) = (minute(from), minute(end));
    let gap = WIDTH.saturating_sub(first.len() + last.len());
    let _ = writeln!(text, "{:name_width$}  {first}{:gap$}{last}", "", "");
    for (place, task) in schedule.tasks.iter().enumerate() {
        let verdicts = resample(&analyst.steps(place), from, length, WIDTH);
        let row: String = verdicts.into_iter().map(symbol).collect();
        let name: String = task.id.chars().take(name_width).collect();
        let told = tell(&analysis.tasks[place]);
        let row = if analysis.tasks[place].is_unrestricted { "=".repeat(WIDTH) } else { row };
        let _ = writeln!(text, "{name:name_width$}  {row:WIDTH$}  {told}");
        let planned = &analysis.plan[place];
        if let (Some(start), Some(end)) = (planned.start, planned.end) {
            let _ =
                write!(text, "{:name_width$}  planned {} to {}", "", minute(start), minute(end));
            if let Some(latest) = planned.latest_start {
                let _ = write!(text, ", at the latest {}", minute(latest));
            }
            text.push('\n');
        }
    }
    let completion = analysis.earliest_completion.map_or("none".to_owned(), minute);
    let _ = writeln!(text, "\nearliest completion: {completion}");
    text.push_str("# go   . no go   ? unknown   = no limits; each column the worst of its time");
    text
}

/// Where the chart begins, and how long a column is.
fn scale(schedule: &Schedule, analyst: &Analyst<'_>) -> Option<(Timestamp, SignedDuration)> {
    let steps = (0..schedule.tasks.len()).map(|place| analyst.steps(place));
    let steps = steps.into_iter().find(|steps| !steps.is_empty())?;
    let (from, until) = (steps.first()?.time, steps.last()?.until);
    let seconds = until.duration_since(from).as_secs().max(1);
    let columns = WIDTH as i64;
    Some((from, SignedDuration::from_secs((seconds + columns - 1) / columns)))
}

fn symbol(verdict: Verdict) -> char {
    match verdict {
        Verdict::Go => '#',
        Verdict::NoGo => '.',
        Verdict::Unknown => '?',
    }
}

fn tell(result: &TaskResult) -> String {
    if let Some(refusal) = result.failed {
        return format!("not answered: {refusal}");
    }
    if result.is_unrestricted {
        return "no limits".to_owned();
    }
    match (result.start_windows.len(), &result.longest_window) {
        (0, None) => "never within limits".to_owned(),
        (0, Some(longest)) => {
            let hours = longest.window.to.duration_since(longest.window.from).as_secs() as f64;
            let ended_by = match longest.ended_by {
                None => "the end of the forecast".to_owned(),
                Some(Decider::Gap) => "a gap in the forecast".to_owned(),
                Some(Decider::Out(variable)) => variable.to_string(),
                Some(Decider::Missing(variable)) => format!("a missing {variable}"),
            };
            format!(
                "no start; the longest window has {:.1} h, ended by {ended_by}",
                hours / 3_600.0
            )
        }
        (1, _) => "1 range of starts".to_owned(),
        (count, _) => format!("{count} ranges of starts"),
    }
}

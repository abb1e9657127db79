//! An analysis by a running installation: asked for, waited for, shown.

use super::{
    Analyse,
    chart::{self, Row, Scale, Starts, minute},
};
use crate::say::say;
use crate::{
    client::{Client, Exit, read, show::clean},
    config::Config,
};
use almanac_domain::weather::{Step, Verdict};
use anyhow::{Context, bail};
use jiff::Timestamp;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};
use uuid::Uuid;

/// What one request waits for at most, as servers bound it.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// An installation that was started by the line before may take so long to answer.
const STARTING: Duration = Duration::from_secs(15);
/// Between two looks at an analysis that a server answers without waiting.
const PAUSE: Duration = Duration::from_millis(300);

#[derive(Deserialize)]
struct Answer {
    state: String,
    #[serde(default)]
    error: Option<Failure>,
    #[serde(default)]
    forecast: Option<Value>,
    #[serde(default)]
    warnings: Vec<Warning>,
    #[serde(default)]
    result: Option<Outcome>,
}

#[derive(Default, Deserialize)]
struct Failure {
    #[serde(default)]
    code: String,
    #[serde(default)]
    detail: String,
}

#[derive(Deserialize)]
struct Warning {
    code: String,
    detail: String,
}

#[derive(Deserialize)]
struct Outcome {
    earliest_completion: Option<Timestamp>,
    plan: Vec<Planned>,
    tasks: Vec<Task>,
}

#[derive(Deserialize)]
struct Planned {
    start: Option<Timestamp>,
    end: Option<Timestamp>,
    latest_start: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Task {
    id: String,
    unrestricted: bool,
    failed: Option<String>,
    start_windows: Vec<serde::de::IgnoredAny>,
    longest_window: Option<Longest>,
}

#[derive(Deserialize)]
struct Longest {
    from: Timestamp,
    to: Timestamp,
    ended_by: String,
}

pub(super) async fn run(analyse: &Analyse, config: &Config) -> anyhow::Result<()> {
    say!("{}", answered(analyse, config).await?);
    Ok(())
}

/// What is printed.
async fn answered(analyse: &Analyse, config: &Config) -> anyhow::Result<String> {
    let client = Client::new(&analyse.target, config)?;
    client.wait_until_up(STARTING.min(Duration::from_secs(analyse.wait))).await;
    let request = client.request(Method::POST, &["v1", "analyses"], &[]);
    let accepted = client.send_json(request.body(body(analyse)?)).await?;
    let id = accepted["request_id"].as_str().context("the answer has no request_id")?;
    let text = wait(&client, id, Duration::from_secs(analyse.wait)).await?;
    let answer: Answer = serde_json::from_str(&text).context("the answer is no analysis")?;
    match answer.state.as_str() {
        "completed" => {}
        "failed" => {
            let Failure { code, detail } = answer.error.unwrap_or_default();
            bail!("the analysis {id} failed: {} ({})", clean(&detail), clean(&code));
        }
        state => bail!("the analysis {id} is {}", clean(state)),
    }
    for (file, name) in [(&analyse.chart, "chart.svg"), (&analyse.note, "note.md")] {
        if let Some(file) = file {
            save(&client, id, name, analyse.timezone.as_deref(), file).await?;
        }
    }
    if analyse.json {
        return Ok(text);
    }
    let result = answer.result.as_ref().context("the answer has no result")?;
    let mut lines = vec![draw(&client, id, result).await?, String::new()];
    lines.extend(answer.forecast.iter().map(forecast_in_words));
    for Warning { code, detail } in &answer.warnings {
        lines.push(format!("warning: {} ({})", clean(detail), clean(code)));
    }
    lines.push(format!("analysis {id}; --chart FILE draws it, --note FILE puts it into words"));
    Ok(lines.join("\n"))
}

/// The request: a stored schedule by its id, or the one in a file.
fn body(analyse: &Analyse) -> anyhow::Result<String> {
    let mut parts: BTreeMap<&str, Box<RawValue>> = BTreeMap::new();
    let raw = |text: String, what: &Path| {
        RawValue::from_string(text).with_context(|| format!("{} is no JSON", what.display()))
    };
    let text_of = |file: &Path| -> anyhow::Result<String> {
        String::from_utf8(read(file)?).with_context(|| format!("{} is no text", file.display()))
    };
    let given = &analyse.schedule;
    let id = given.to_str().and_then(|text| Uuid::try_parse(text).ok());
    match id.filter(|_| !given.exists()) {
        Some(id) => {
            parts.insert("schedule_id", RawValue::from_string(format!("\"{id}\""))?);
        }
        None => {
            let text = text_of(given)?;
            let whole: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&text)
                .with_context(|| format!("{} is no JSON object", given.display()))?;
            match whole.contains_key("schedule") || whole.contains_key("schedule_id") {
                true => {
                    let known = ["schedule", "schedule_id", "forecast", "sources", "options"];
                    for (name, value) in whole {
                        let Some(name) = known.into_iter().find(|known| *known == name) else {
                            bail!("{}: {name:?} is no part of a request", given.display());
                        };
                        parts.insert(name, value);
                    }
                }
                false => drop(parts.insert("schedule", raw(text, given)?)),
            }
        }
    }
    match &analyse.forecast[..] {
        [] => {}
        [file] => {
            let text = text_of(file)?;
            let names: BTreeMap<String, serde::de::IgnoredAny> = serde_json::from_str(&text)
                .with_context(|| format!("{} is no JSON object", file.display()))?;
            if !names.contains_key("points") {
                bail!(
                    "{} has no points: what services answered is read with --local, and an \
                     installation asks them itself",
                    file.display()
                );
            }
            parts.insert("forecast", raw(text, file)?);
        }
        _ => bail!("an installation takes one forecast; several are read with --local"),
    }
    if !analyse.source.is_empty() {
        let sources = serde_json::to_string(&analyse.source)?;
        parts.insert("sources", RawValue::from_string(sources)?);
    }
    if let Some(file) = &analyse.options {
        parts.insert("options", raw(text_of(file)?, file)?);
    }
    Ok(serde_json::to_string(&parts)?)
}

/// The analysis once it has ended. A server may wait for it, or answer at once.
async fn wait(client: &Client, id: &str, patience: Duration) -> anyhow::Result<String> {
    let until = Instant::now() + patience;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let asked = Instant::now();
        let request = client
            .request(Method::GET, &["v1", "analyses", id], &[])
            .header("prefer", format!("wait={}", left.min(MAX_WAIT).as_secs()));
        let text = client.send(request).await?.text().await.context("the answer was cut off")?;
        let answer: Answer = serde_json::from_str(&text).context("the answer is no analysis")?;
        if !matches!(answer.state.as_str(), "queued" | "running") {
            return Ok(text);
        }
        if left.is_zero() {
            let state = clean(&answer.state);
            return Err(Exit::NotInTime(format!("the analysis is still {state} and goes on; /v1/analyses/{id} tells what comes of it")).into());
        }
        tokio::time::sleep(PAUSE.saturating_sub(asked.elapsed()).min(left)).await;
    }
}

async fn save(
    client: &Client,
    id: &str,
    name: &str,
    timezone: Option<&str>,
    file: &Path,
) -> anyhow::Result<()> {
    let query: Vec<(&str, &str)> = timezone.map(|zone| ("timezone", zone)).into_iter().collect();
    let request = client.request(Method::GET, &["v1", "analyses", id, name], &query);
    let bytes = client.send(request).await?.bytes().await.context("the answer was cut off")?;
    std::fs::write(file, &bytes).with_context(|| format!("cannot write {}", file.display()))
}

async fn draw(client: &Client, id: &str, result: &Outcome) -> anyhow::Result<String> {
    let mut scale = None;
    let mut rows = Vec::with_capacity(result.tasks.len());
    for (task, planned) in result.tasks.iter().zip(&result.plan) {
        let has_steps = !task.unrestricted && task.failed.is_none();
        let steps = if has_steps { steps(client, id, &task.id).await? } else { Vec::new() };
        if scale.is_none() {
            scale = Scale::of(&steps);
        }
        let verdicts = scale.as_ref().map(|scale: &Scale| scale.row(&steps));
        let longest = task.longest_window.as_ref();
        let starts = Starts {
            failed: task.failed.as_deref(),
            is_unrestricted: task.unrestricted,
            ranges: task.start_windows.len(),
            longest: longest.map(|longest| (longest.from, longest.to, longest.ended_by.as_str())),
        };
        let Planned { start, end, latest_start } = *planned;
        rows.push(Row {
            id: clean(&task.id),
            verdicts: verdicts.filter(|_| !task.unrestricted),
            told: clean(&starts.tell()),
            planned: start.zip(end).map(|(start, end)| (start, end, latest_start)),
        });
    }
    Ok(chart::render(scale.as_ref(), &rows, result.earliest_completion))
}

async fn steps(client: &Client, id: &str, task: &str) -> anyhow::Result<Vec<Step>> {
    #[derive(Deserialize)]
    struct StepJson {
        time: Timestamp,
        until: Timestamp,
        verdict: String,
    }
    let items = client.all(&["v1", "analyses", id, "steps"], &[("task", task)]).await?;
    let step = |item| {
        let StepJson { time, until, verdict } =
            serde_json::from_value(item).context("a step cannot be read")?;
        let verdict = match verdict.as_str() {
            "go" => Verdict::Go,
            "no_go" => Verdict::NoGo,
            _ => Verdict::Unknown,
        };
        Ok(Step { time, until, verdict, decided_by: None })
    };
    items.into_iter().map(step).collect()
}

/// On what the result rests, in a line per variable.
fn forecast_in_words(forecast: &Value) -> String {
    let text = |value: &Value| value.as_str().map(clean);
    let mut lines = Vec::new();
    for (variable, used) in forecast["variables"].as_object().into_iter().flatten() {
        let mut line =
            format!("{}: {}", clean(variable), text(&used["source"]).unwrap_or_default());
        if let Some(step) = text(&used["step"]) {
            line.push_str(&format!(", every {step}"));
        }
        let until = used["until"].as_str().and_then(|until| until.parse::<Timestamp>().ok());
        if let Some(until) = until {
            line.push_str(&format!(", until {}", minute(until)));
        }
        lines.push(line);
    }
    if let Some(age_s) = forecast["age_s"].as_i64() {
        lines.push(format!("the forecast was {} min old", age_s / 60));
    }
    for source in forecast["sources"].as_array().into_iter().flatten() {
        if let (Some(name), Some(said)) = (text(&source["source"]), text(&source["attribution"])) {
            lines.push(format!("{name}: {said}"));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{
        Json, Router,
        extract::{Query, State},
        http::{HeaderMap, StatusCode},
        routing::{get, post},
    };
    use clap::Parser;
    use parking_lot::Mutex;
    use serde_json::json;
    use std::{collections::HashMap, sync::Arc};

    const ID: &str = "0198c5a0-0000-7000-8000-000000000001";

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        analyse: Analyse,
    }

    /// What was asked, and what is answered next.
    #[derive(Default)]
    struct Script {
        asked: Vec<Value>,
        answers: Vec<Value>,
        /// How often it says that it is not ready.
        starting: usize,
    }

    type Shared = Arc<Mutex<Script>>;

    async fn readyz(State(script): State<Shared>) -> StatusCode {
        let mut script = script.lock();
        script.starting = script.starting.saturating_sub(1);
        if script.starting > 0 { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
    }

    async fn asked(State(script): State<Shared>, body: String) -> (StatusCode, Json<Value>) {
        assert_eq!(script.lock().starting, 0, "it is not ready");
        script.lock().asked.push(serde_json::from_str(&body).unwrap());
        (StatusCode::ACCEPTED, Json(json!({ "request_id": ID })))
    }

    async fn one(State(script): State<Shared>, headers: HeaderMap) -> Json<Value> {
        assert!(headers["prefer"].to_str().unwrap().starts_with("wait="));
        let mut script = script.lock();
        let last = script.answers.len() == 1;
        Json(if last { script.answers[0].clone() } else { script.answers.remove(0) })
    }

    /// Two pages.
    async fn steps(Query(query): Query<HashMap<String, String>>) -> Json<Value> {
        assert_eq!(query["task"], "lift");
        let step = |from: &str, until: &str, verdict: &str| json!({ "time": from, "until": until, "verdict": verdict, "decided_by": null });
        let (six, seven, eight) =
            ("2026-01-01T06:00:00Z", "2026-01-01T07:00:00Z", "2026-01-01T08:00:00Z");
        Json(match query.contains_key("cursor") {
            false => json!({ "items": [step(six, seven, "no_go")], "next_cursor": "2" }),
            true => json!({ "items": [step(seven, eight, "go")], "next_cursor": null }),
        })
    }

    fn completed() -> Value {
        let (six, seven, eight) =
            ("2026-01-01T06:00:00Z", "2026-01-01T07:00:00Z", "2026-01-01T08:00:00Z");
        json!({
            "request_id": ID, "state": "completed",
            "forecast": {
                "age_s": 125, "sources": [{ "source": "met-norway", "attribution": "made up" }],
                "variables": { "wave_height_m": { "source": "met-norway", "step": "PT1H", "until": eight } },
            },
            "warnings": [{ "code": "near_horizon", "detail": "it ends soon" }],
            "result": {
                "earliest_completion": eight,
                "plan": [
                    { "task": "sail", "start": six, "end": seven, "latest_start": six, "at_risk": null },
                    { "task": "lift", "start": seven, "end": eight, "latest_start": null, "at_risk": null },
                ],
                "tasks": [
                    { "id": "sail", "unrestricted": true, "failed": null, "start_windows": [],
                      "longest_window": null },
                    { "id": "lift", "unrestricted": false, "failed": null,
                      "start_windows": [{ "from": seven, "to": seven, "margin": null }],
                      "longest_window": { "from": seven, "to": eight, "ended_by": "end_of_forecast" } },
                ],
            },
        })
    }

    /// What the command prints, and what it asked for.
    async fn analysed(
        answers: Vec<Value>,
        arguments: &[&str],
    ) -> (anyhow::Result<String>, Vec<Value>) {
        let script = Script { answers, starting: 3, ..Script::default() };
        let script = Arc::new(Mutex::new(script));
        let router = Router::new()
            .route("/readyz", get(readyz))
            .route("/v1/analyses", post(asked))
            .route("/v1/analyses/{id}", get(one))
            .route("/v1/analyses/{id}/steps", get(steps))
            .with_state(script.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = tokio::spawn(axum::serve(listener, router).into_future());
        let line = ["almanac"].into_iter().chain(arguments.iter().copied());
        let Line { analyse } = Line::parse_from(line.chain(["--url", &url]));
        let answer = answered(&analyse, &Config::default()).await;
        serving.abort();
        let asked = std::mem::take(&mut script.lock().asked);
        (answer, asked)
    }

    #[tokio::test]
    async fn an_analysis_is_waited_for_and_drawn() {
        let queued = json!({ "state": "queued", "place": 3 });
        let (printed, asked) =
            analysed(vec![queued, completed()], &[ID, "--source", "met-norway"]).await;
        assert_eq!(asked, [json!({ "schedule_id": ID, "sources": ["met-norway"] })]);
        let printed = printed.unwrap();
        let rows: Vec<&str> = printed.lines().collect();
        assert!(rows[1].starts_with("sail  ===") && rows[1].ends_with("no limits"), "{printed}");
        let half = |symbol: &str| symbol.repeat(36);
        assert_eq!(rows[3], format!("lift  {}{}  1 range of starts", half("."), half("#")));
        for line in [
            "earliest completion: 2026-01-01 08:00Z",
            "wave_height_m: met-norway, every PT1H, until 2026-01-01 08:00Z",
            "the forecast was 2 min old",
            "met-norway: made up",
            "warning: it ends soon (near_horizon)",
        ] {
            assert!(rows.contains(&line), "{line} in {printed}");
        }
        let (printed, _) = analysed(vec![completed()], &[ID, "--json"]).await;
        assert_eq!(serde_json::from_str::<Value>(&printed.unwrap()).unwrap(), completed());
    }

    #[tokio::test]
    async fn a_file_is_a_schedule_or_a_whole_request() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: Value| {
            let file = folder.path().join(name);
            std::fs::write(&file, text.to_string()).unwrap();
            file.to_str().unwrap().to_owned()
        };
        let schedule = file("schedule.json", json!({ "name": "a" }));
        let forecast = file("forecast.json", json!({ "points": [] }));
        let asked = analysed(vec![completed()], &[&schedule, "--forecast", &forecast]).await.1;
        assert_eq!(asked, [json!({ "schedule": { "name": "a" }, "forecast": { "points": [] } })]);
        let whole = file("whole.json", json!({ "schedule": { "name": "b" }, "sources": ["x"] }));
        let asked = analysed(vec![completed()], &[&whole]).await.1;
        assert_eq!(asked, [json!({ "schedule": { "name": "b" }, "sources": ["x"] })]);
        let of_a_service = file("answer.json", json!({ "properties": {} }));
        let (refused, asked) =
            analysed(vec![completed()], &[&schedule, "--forecast", &of_a_service]).await;
        assert!(asked.is_empty() && refused.unwrap_err().to_string().contains("--local"));
    }

    #[tokio::test]
    async fn one_that_is_not_ready_or_failed_is_an_error() {
        let running = json!({ "state": "running" });
        let error = analysed(vec![running], &[ID, "--wait", "1"]).await.0.unwrap_err();
        assert_eq!(error.downcast_ref::<Exit>().unwrap().code(), 3, "{error}");
        let error = json!({ "code": "no_value", "detail": "no waves at this place" });
        let failed = json!({ "state": "failed", "error": error });
        let error = analysed(vec![failed], &[ID]).await.0.unwrap_err().to_string();
        assert!(error.contains("no waves at this place"), "{error}");
    }
}

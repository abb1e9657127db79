//! The body of a request for an analysis.

use super::{points, schedule};
use crate::json::walk::{NotJson, Part, Walk, covers, parse};
use almanac_domain::{
    Fault,
    weather::{Options, OptionsDraft, Schedule, unanswerable},
};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::points::InlineForecast;

/// What is to be analysed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    Stored(Uuid),
    Inline(Schedule),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnalysisRequest {
    pub subject: Subject,
    pub forecast: Option<InlineForecast>,
    /// Names of providers, the first first; empty leaves the choice to the server.
    pub sources: Vec<String>,
    pub options: Options,
}

const MAX_SOURCES: usize = 8;

/// A request from a body, or all that is wrong with it.
pub fn read_analysis(body: &[u8]) -> Result<Result<AnalysisRequest, Vec<Fault>>, NotJson> {
    let raw = parse(body)?;
    let mut walk = Walk::default();
    let request = request(&mut walk, raw);
    let mut faults = walk.faults;
    if let Some(request) = request.filter(|_| faults.is_empty()) {
        return Ok(Ok(request));
    }
    faults.sort();
    faults.dedup();
    Ok(Err(faults))
}

fn request(walk: &mut Walk, raw: &RawValue) -> Option<AnalysisRequest> {
    let known = ["schedule_id", "schedule", "forecast", "sources", "options"];
    let body = walk.object(raw, &known)?;
    let subject = match (body.get("schedule_id"), body.get("schedule")) {
        (Some(_), Some(_)) => {
            let rule = "either a schedule or the id of one is asked for, not both";
            walk.at(Part::Name("schedule_id"), |walk| walk.fault(rule));
            None
        }
        (Some(_), None) => walk.property(&body, "schedule_id", Walk::uuid).map(Subject::Stored),
        (None, _) => {
            if body.get("schedule").is_none() {
                let rule = "it is required, or else schedule_id";
                walk.at(Part::Name("schedule"), |walk| walk.fault(rule));
            }
            walk.property(&body, "schedule", inline).map(Subject::Inline)
        }
    };
    let forecast = walk.property(&body, "forecast", points::forecast);
    let sources =
        walk.property(&body, "sources", |walk, raw| walk.list(raw, Walk::text)).unwrap_or_default();
    if sources.len() > MAX_SOURCES {
        let rule = format!("there are more than {MAX_SOURCES}");
        walk.at(Part::Name("sources"), |walk| walk.fault(rule));
    }
    let has_forecast = body.get("forecast").is_some_and(|raw| raw.get() != "null");
    if has_forecast && !sources.is_empty() {
        let rule = "sources are asked for where no forecast is given";
        walk.at(Part::Name("sources"), |walk| walk.fault(rule));
    }
    let count = if has_forecast { 1 } else { sources.len() };
    let options = options(walk, body.get("options"), count);
    if let (Some(Subject::Inline(schedule)), Some(forecast)) = (&subject, &forecast) {
        for (task, limit) in unanswerable(schedule, std::slice::from_ref(&forecast.series)) {
            let (task, limit) = (task.to_string(), limit.to_string());
            let place = ["schedule", "tasks", &task, "limits", &limit, "variable"];
            let place = place.map(str::to_owned).to_vec();
            let rule = "the forecast has no value of this variable".to_owned();
            walk.faults.push(Fault { place, rule });
        }
    }
    Some(AnalysisRequest { subject: subject?, forecast, sources, options: options? })
}

/// A schedule within a body: its faults get the place of it.
fn inline(walk: &mut Walk, raw: &RawValue) -> Option<Schedule> {
    let before = walk.faults.len();
    let draft = schedule::draft(walk, raw)?;
    match draft.check() {
        Ok(schedule) => Some(schedule),
        Err(rules) => {
            let read = walk.faults.split_off(before);
            for mut rule in rules {
                rule.place.insert(0, "schedule".to_owned());
                if !read.iter().any(|fault| covers(fault, &rule)) {
                    walk.faults.push(rule);
                }
            }
            walk.faults.extend(read);
            None
        }
    }
}

fn options(walk: &mut Walk, raw: Option<&RawValue>, sources: usize) -> Option<Options> {
    let draft = match raw.filter(|raw| raw.get() != "null") {
        None => OptionsDraft::default(),
        Some(raw) => walk.at(Part::Name("options"), |walk| {
            let known =
                ["uncertainty", "alpha_table", "declared", "between", "combine", "start_from"];
            let body = walk.object(raw, &known)?;
            let mut text = |name| walk.property(&body, name, Walk::text);
            Some(OptionsDraft {
                uncertainty: text("uncertainty"),
                alpha_table: text("alpha_table"),
                between: text("between"),
                combine: text("combine"),
                declared: walk
                    .property(&body, "declared", |walk, raw| walk.list(raw, Walk::text))
                    .unwrap_or_default(),
                start_from: walk.property(&body, "start_from", Walk::instant),
            })
        })?,
    };
    match draft.check(sources) {
        Ok(options) => Some(options),
        Err(faults) => {
            for mut fault in faults {
                match fault.place.first().map(String::as_str) {
                    // What stands beside the options.
                    Some("..") => drop(fault.place.remove(0)),
                    _ => fault.place.insert(0, "options".to_owned()),
                }
                walk.faults.push(fault);
            }
            None
        }
    }
}

//! The worked cases of weather windows, from the body of a request to the answer.

use almanac_domain::weather::{Analysis, Analyst, Question, TaskState};
use almanac_schemas::json::weather::{
    Subject, read_analysis, render_forecast, render_result, render_steps, render_warnings,
};
use serde_json::{Value, json};

fn cases() -> Vec<Value> {
    let text = include_str!("../../tests/data/weather/window-cases.json");
    let document: Value = serde_json::from_str(text).unwrap();
    document["cases"].as_array().unwrap().clone()
}

/// Bodies as they stand: a decimal must not pass through binary floating point on its way.
fn body(case: &Value) -> String {
    case["request"].to_string()
}

fn pointers(faults: Vec<almanac_domain::Fault>) -> Vec<String> {
    let pointer = |fault: almanac_domain::Fault| format!("#/{}", fault.place.join("/"));
    let mut pointers: Vec<String> = faults.into_iter().map(pointer).collect();
    pointers.sort();
    pointers
}

fn time(value: &Value) -> Option<jiff::Timestamp> {
    value.as_str().map(|text| text.parse().unwrap())
}

struct Answer {
    value: Value,
    analysis: Analysis,
    steps: Vec<(String, Value)>,
}

fn answer(case: &Value) -> Result<Answer, Vec<String>> {
    let request = read_analysis(body(case).as_bytes()).unwrap().map_err(pointers)?;
    let Subject::Inline(schedule) = request.subject else { panic!("all cases bring a schedule") };
    let forecast = request.forecast.unwrap();
    let mut states = vec![TaskState::Planned; schedule.tasks.len()];
    for begun in case["begun"].as_array().into_iter().flatten() {
        let place = schedule.tasks.iter().position(|task| begun["task"] == task.id[..]).unwrap();
        let started_at = time(&begun["started_at"]).unwrap();
        states[place] = match time(&begun["completed_at"]) {
            Some(at) => TaskState::Completed { started_at, at },
            None => TaskState::Started { at: started_at },
        };
    }
    let first = forecast.series.first().unwrap();
    let analyst = Analyst::new(Question {
        schedule: &schedule,
        states: &states,
        series: std::slice::from_ref(&forecast.series),
        is_inline: true,
        options: request.options,
        now: time(&case["now"]).unwrap_or(first),
    })
    .unwrap();
    let analysis = analyst.analyse();
    let parse = |text: String| -> Value { serde_json::from_str(&text).unwrap() };
    let steps = schedule.tasks.iter().enumerate();
    Ok(Answer {
        value: json!({
            "result": parse(render_result(&schedule, &analysis)),
            "forecast": {"variables": parse(render_forecast(&analysis.variables))},
            "warnings": parse(render_warnings(&analysis.warnings)),
        }),
        steps: steps
            .map(|(place, task)| (task.id.clone(), parse(render_steps(&analyst.steps(place)))))
            .collect(),
        analysis,
    })
}

/// Whether all of `wanted` is in `found`; lists have the same length.
fn holds(place: &str, wanted: &Value, found: &Value, wrong: &mut Vec<String>) {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => {
            for (name, wanted) in wanted {
                let found = found.get(name).unwrap_or(&Value::Null);
                holds(&format!("{place}/{name}"), wanted, found, wrong);
            }
        }
        (Value::Array(wanted), Value::Array(found)) if wanted.len() == found.len() => {
            for (number, (wanted, found)) in wanted.iter().zip(found).enumerate() {
                holds(&format!("{place}/{number}"), wanted, found, wrong);
            }
        }
        (Value::Number(wanted), Value::Number(found)) if wanted.as_f64() == found.as_f64() => {}
        _ if wanted == found => {}
        _ => wrong.push(format!("{place}: wanted {wanted}, found {found}")),
    }
}

#[test]
fn the_worked_cases_come_out_as_worked() {
    let mut wrong = Vec::new();
    let cases = cases();
    assert!(cases.len() >= 40, "{} cases", cases.len());
    for case in &cases {
        let (id, expect) = (case["id"].as_str().unwrap(), &case["expect"]);
        match answer(case) {
            Err(pointers) => {
                let mut wanted: Vec<&str> = expect["pointers"]
                    .as_array()
                    .map(|all| all.iter().filter_map(Value::as_str).collect())
                    .unwrap_or_default();
                wanted.sort_unstable();
                if expect["status"] != 422 || wanted != pointers {
                    wrong.push(format!("{id}: wanted {wanted:?}, found {pointers:?}"));
                }
            }
            Ok(_) if expect["status"] == 422 => wrong.push(format!("{id}: was not refused")),
            Ok(answer) => {
                for part in ["result", "forecast"] {
                    let place = format!("{id} {part}");
                    if let Some(wanted) = expect.get(part) {
                        holds(&place, wanted, &answer.value[part], &mut wrong);
                    }
                }
                for (task, wanted) in expect["steps"].as_object().into_iter().flatten() {
                    let (_, found) = answer.steps.iter().find(|(id, _)| id == task).unwrap();
                    holds(&format!("{id} steps/{task}"), wanted, found, &mut wrong);
                }
                for (code, wanted) in expect["warnings"].as_object().into_iter().flatten() {
                    let mut found = answer.value["warnings"].as_array().unwrap().iter();
                    if found.any(|warning| warning["code"] == code[..]) != wanted.as_bool().unwrap()
                    {
                        wrong.push(format!("{id}: {code} is not {wanted}"));
                    }
                }
                assert_eq!(answer.analysis.plan.len(), answer.analysis.tasks.len());
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

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

/// What a body says that no forecast or schedule can be is refused, at its place.
#[test]
fn bad_input_is_refused_where_it_is() {
    let case = cases().into_iter().find(|case| case["id"] == "A01").unwrap();
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut case = case.clone();
        change(&mut case["request"]);
        answer(&case).err().unwrap_or_default()
    };
    let task = |id: usize| json!({"id": format!("t{id}"), "duration": "PT1H"});
    let time = |place: usize, time: &'static str| {
        move |request: &mut Value| request["forecast"]["points"][place]["time"] = json!(time)
    };
    for (change, pointer) in [
        // Unsorted.
        (&time(1, "2026-03-10T05:30:00Z") as &dyn Fn(&mut Value), "#/forecast/points/1/time"),
        (&time(1, "2026-03-10T06:00:00Z"), "#/forecast/points/1/time"),
        (&time(1, "soon"), "#/forecast/points/1/time"),
        // An offset of half an hour makes the same instant of another clock.
        (&time(1, "2026-03-10T11:30:00+05:30"), "#/forecast/points/1/time"),
        (
            &|request| request["forecast"]["points"][3]["wave_height_m"] = json!("NaN"),
            "#/forecast/points/3/wave_height_m",
        ),
        (
            &|request| request["forecast"]["points"][3]["wave_height_m"] = json!(-0.5),
            "#/forecast/points/3/wave_height_m",
        ),
        (&|request| request["forecast"]["points"] = json!([]), "#/forecast/points"),
        (
            &|request| request["forecast"]["points"].as_array_mut().unwrap().truncate(1),
            "#/forecast/points",
        ),
        (
            &|request| request["schedule"]["tasks"][0]["duration"] = json!("PT1000000000H"),
            "#/schedule/tasks/0/duration",
        ),
        (
            &|request| request["schedule"]["tasks"][0]["duration"] = json!("PT0S"),
            "#/schedule/tasks/0/duration",
        ),
        (
            &|request| {
                request["schedule"]["tasks"] = (0..10_000).map(task).collect::<Vec<_>>().into();
            },
            "#/schedule/tasks",
        ),
        (
            &|request| request["schedule"]["tasks"][0]["limits"][0]["max"] = json!(0),
            "#/schedule/tasks/0/limits/0/max",
        ),
        (
            &|request| request["schedule"]["tasks"][0]["predecessors"] = json!(["h1"]),
            "#/schedule/tasks",
        ),
    ] {
        let pointers = refused(change);
        assert!(pointers.iter().any(|one| one.starts_with(pointer)), "{pointer}: {pointers:?}");
    }
    // No JSON has such a number.
    let text = body(&case).replacen("1.2", "NaN", 1);
    assert!(text.contains("NaN") && read_analysis(text.as_bytes()).is_err());
    // A task that is longer than the forecast has no start; nothing is wrong with asking.
    let mut long = case.clone();
    long["request"]["schedule"]["tasks"][0]["duration"] = json!("PT48H");
    let answer = answer(&long).ok().unwrap();
    assert_eq!(answer.value["result"]["tasks"][0]["start_windows"], json!([]));
}

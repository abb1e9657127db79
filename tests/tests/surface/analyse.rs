//! `almanac analyse`, as a planner without a server runs it.

use almanac_tests::{process::binary, root};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn data(name: &str) -> PathBuf {
    root().join("tests/data/weather").join(name)
}

fn run(arguments: &[&Path], json: bool) -> Output {
    let mut command = Command::new(binary());
    command.arg("analyse").arg("--local").args(arguments);
    if json {
        command.arg("--json");
    }
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn write(folder: &Path, name: &str, value: &Value) -> PathBuf {
    let file = folder.join(name);
    std::fs::write(&file, value.to_string()).unwrap();
    file
}

#[test]
fn analyse_answers_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let cases: Value =
        serde_json::from_slice(&std::fs::read(data("window-cases.json")).unwrap()).unwrap();
    let case = &cases["cases"].as_array().unwrap()[0];
    let request = write(folder.path(), "request.json", &case["request"]);
    let schedule = write(folder.path(), "schedule.json", &case["request"]["schedule"]);
    let forecast = write(folder.path(), "forecast.json", &case["request"]["forecast"]);
    let flag = Path::new("--forecast");

    let whole = run(&[&request], true);
    assert!(whole.status.success(), "{}", text(&whole.stderr));
    let apart = run(&[&schedule, flag, &forecast], true);
    assert_eq!(text(&whole.stdout), text(&apart.stdout));
    let answer: Value = serde_json::from_slice(&whole.stdout).unwrap();
    assert_eq!(answer["result"]["plan"], case["expect"]["result"]["plan"]);
    assert_eq!(answer["warnings"][0]["code"], "near_horizon");

    let chart = text(&run(&[&request], false).stdout);
    assert!(chart.contains("earliest completion: 2026-03-10 09:00Z"), "{chart}");
    assert!(chart.contains("####") && chart.contains("....") && chart.contains("????"), "{chart}");

    // What services answered, the ocean and the wind over it.
    let task = json!({"id": "lift", "duration": "PT1H",
        "limits": [{"variable": "wave_height_m", "max": 1.5}]});
    let schedule = json!({"name": "s", "location": {"lat": 57.7, "lon": 11.2}, "tasks": [task]});
    let schedule = write(folder.path(), "waves.json", &schedule);
    let ocean = data("met-oceanforecast-complete.real-excerpt.json");
    let answer = run(&[&schedule, flag, &ocean], true);
    let answer: Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!(answer["forecast"]["source"], "met-norway");
    assert_eq!(answer["forecast"]["issued_at"], "2026-09-27T09:08:38Z");
    assert_eq!(answer["result"]["earliest_completion"], "2026-09-27T12:00:00Z");

    let wrong = json!({"schedule": {"name": "x", "tasks": []}, "forecast": {"points": []}});
    let refused = run(&[&write(folder.path(), "wrong.json", &wrong)], true);
    assert_eq!(refused.status.code(), Some(1));
    let told = text(&refused.stderr);
    for pointer in ["#/schedule/location/lat", "#/schedule/tasks", "#/forecast/points"] {
        assert!(told.contains(pointer), "{told}");
    }
    let land = data("met-oceanforecast.no-data-on-land.json");
    let refused = run(&[&schedule, flag, &land], true);
    assert!(text(&refused.stderr).contains("no data for this place"), "{refused:?}");
}

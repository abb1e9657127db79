//! What services really answer, and what a reader finds in it.

use almanac_domain::weather::{Analyst, Options, Question, Series, Variable};
use almanac_fuzzing::fuzz;
use almanac_ingestor::forecasts::{Answer, ForecastError, read, read_of};
use almanac_schemas::json::weather::{Subject, read_analysis, render_result, render_steps};
use serde_json::Value;

fn file(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/weather/");
    std::fs::read(format!("{folder}{name}")).unwrap()
}

/// A variable's samples, as text.
fn told(answer: &Answer, variable: Variable) -> Vec<String> {
    let sample = |(from, until, value): (jiff::Timestamp, jiff::Timestamp, Option<_>)| {
        let value =
            value.map_or("none".to_owned(), |value: rust_decimal::Decimal| value.to_string());
        format!("{from} {until} {value}")
    };
    answer.series.iter().flat_map(|series| series.samples(variable)).map(sample).collect()
}

#[test]
fn met_norway_is_read_as_it_is_written() {
    let answer = read(&file("met-locationforecast-complete.one-step.json")).unwrap();
    assert_eq!(answer.issued_at, "2020-06-10T13:04:26Z".parse().ok());
    assert_eq!(answer.position, Some(("60.1".parse().unwrap(), "10".parse().unwrap())));
    let hour = "2020-06-10T13:00:00Z 2020-06-10T14:00:00Z";
    assert_eq!(told(&answer, Variable::WindSpeed), [format!("{hour} 2.5")]);
    assert_eq!(told(&answer, Variable::WindGust), [format!("{hour} 6.6")]);
    assert!(told(&answer, Variable::WaveHeight).is_empty());

    let answer = read(&file("met-oceanforecast-complete.real-excerpt.json")).unwrap();
    let hour = "2026-09-27T11:00:00Z 2026-09-27T12:00:00Z";
    assert_eq!(told(&answer, Variable::WaveHeight), [format!("{hour} 0.6")]);
    assert_eq!(told(&answer, Variable::CurrentSpeed), [format!("{hour} 0.3")]);

    let error = read(&file("met-oceanforecast.no-data-on-land.json")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the service has no data for this place: no data at the given location"
    );
}

#[test]
fn open_meteo_is_read_with_its_offset_and_units() {
    let answer = read(&file("open-meteo-marine.orca-fixture.json")).unwrap();
    assert_eq!(answer.issued_at, None);
    let waves = told(&answer, Variable::WaveHeight);
    assert_eq!(waves.len(), 8);
    // Midnight in India.
    assert_eq!(waves[0], "2026-09-05T18:30:00Z 2026-09-05T19:30:00Z 1.8");
    assert_eq!(
        told(&answer, Variable::WavePeriod)[3],
        "2026-09-05T21:30:00Z 2026-09-05T22:30:00Z 9.0"
    );
    // 2.5 km/h, and 3.6 would be one metre per second.
    assert!(told(&answer, Variable::CurrentSpeed)[0].ends_with(" 0.694444444"));

    let answer = read(&file("open-meteo-marine.real-nulls.json")).unwrap();
    assert!(!answer.series[0].has(Variable::WaveHeight), "nulls are no values");
    let error = read(&file("open-meteo.real-error.json")).unwrap_err();
    let reason = "Latitude must be in range of -90 to 90°. Given: 999.0.".to_owned();
    assert!(matches!(&error, ForecastError::Refused(told) if *told == reason), "{error:?}");
}

#[test]
fn what_is_no_forecast_is_refused_whole() {
    let not_a_forecast = |body: &str| match read(body.as_bytes()) {
        Err(ForecastError::NotAForecast(_)) => true,
        other => panic!("{body}: {other:?}"),
    };
    assert!(not_a_forecast("<html><body>502 Bad Gateway</body></html>"));
    assert!(not_a_forecast("{\"hourly\":{\"time\":[\"2026-03-10T06:00\""));
    assert!(not_a_forecast("{}"));
    assert!(not_a_forecast("{\"properties\":{\"timeseries\":[{\"time\":\"now\"}]}}"));
    let times = |times: &str, values: &str| {
        let body = format!(
            "{{\"hourly_units\":{{\"wave_height\":\"m\"}},\"hourly\":{{\"time\":{times},\"wave_height\":{values}}}}}"
        );
        match read(body.as_bytes()) {
            Err(ForecastError::Times { place, .. }) => place,
            other => panic!("{body}: {other:?}"),
        }
    };
    let twice = r#"["2026-03-10T06:00","2026-03-10T06:00"]"#;
    assert_eq!(times(twice, "[1,1]"), "points/1/time", "repeated");
    assert_eq!(times(r#"["2026-03-10T06:00"]"#, "[1,2]"), "hourly/wave_height");
    assert_eq!(times(r#"["yesterday"]"#, "[1]"), "hourly/time/0");
}

#[test]
fn made_up_values_are_missing() {
    let body = r#"{"hourly_units":{"wave_height":"m","wind_speed_10m":"m/s","wind_gusts_10m":"m/s"},
        "hourly":{"time":["2026-03-10T06:00","2026-03-10T07:00","2026-03-10T08:00"],
        "wave_height":[0,0.0,null],"wind_speed_10m":[5,8,5],"wind_gusts_10m":[9,7,7]}}"#;
    let answer = read(body.as_bytes()).unwrap();
    assert!(!answer.series.iter().any(|series| series.has(Variable::WaveHeight)), "a flat sea");
    let gusts = told(&answer, Variable::WindGust);
    assert_eq!(gusts[0], "2026-03-10T05:00:00Z 2026-03-10T06:00:00Z 9", "of the hour before");
    assert_eq!(gusts[1], "2026-03-10T06:00:00Z 2026-03-10T07:00:00Z 7", "above 5 at 06:00");
    assert_eq!(gusts[2], "2026-03-10T07:00:00Z 2026-03-10T08:00:00Z none", "below 8 at 07:00");
}

/// Of several models each has names of its own. One that knows nothing of a variable is passed over where
/// another knows it, and the steps that the service interpolates are known.
#[test]
fn models_of_waves_are_read_one_by_one() {
    let body = r#"{"hourly_units":{"wave_height_ewam":"m","wave_height_meteofrance_wave":"m"},
        "hourly":{"time":["2026-03-10T06:00","2026-03-10T07:00"],
        "wave_height_ewam":[null,null],"wave_period_ewam":[8,9],
        "wave_height_meteofrance_wave":[1.5,1.6],"wave_period_meteofrance_wave":[null,7],
        "wave_height_gwam":[1.2,1.3],"wave_period_gwam":[null,null]}}"#;
    let models = |names: &[&str]| -> Vec<String> { names.iter().map(|n| n.to_string()).collect() };
    let answer = read_of(body.as_bytes(), &models(&["ewam", "meteofrance_wave", "gwam"])).unwrap();
    assert_eq!(answer.native_step_s, [Some(3_600), Some(10_800), Some(3_600)]);
    let has: Vec<[bool; 2]> = answer
        .series
        .iter()
        .map(|one| [Variable::WaveHeight, Variable::WavePeriod].map(|variable| one.has(variable)))
        .collect();
    assert_eq!(has, [[false, true], [true, true], [true, false]]);
    assert!(told(&answer, Variable::WaveHeight)[0].ends_with(" 1.5"), "the first that has values");
    let none = read_of(body.as_bytes(), &models(&["ncep_gfswave025", "era5_ocean"]));
    assert!(matches!(none, Err(ForecastError::NoData(_))), "{none:?}");
    // Asked for alone, a model has the plain names.
    let plain = body.replace("_gwam", "");
    let answer = read_of(plain.as_bytes(), &models(&["ecmwf_wam025"])).unwrap();
    assert_eq!(answer.native_step_s, [Some(10_800)]);
    assert!(told(&answer, Variable::WaveHeight)[0].ends_with(" 1.2"));
}

/// The worked cases that say what a service answered: as good as the points that they give.
#[test]
fn answers_of_services_lead_to_the_worked_results() {
    let cases: Value = serde_json::from_slice(&file("window-cases.json")).unwrap();
    let mut seen = 0;
    for case in cases["cases"].as_array().unwrap() {
        let Some(answers) = case["answers"].as_array() else { continue };
        seen += 1;
        let id = case["id"].as_str().unwrap();
        let request = read_analysis(case["request"].to_string().as_bytes()).unwrap().unwrap();
        let Subject::Inline(schedule) = request.subject else { panic!("{id} has a schedule") };
        let read = |answer: &Value| read(answer.to_string().as_bytes()).unwrap().series;
        let series: Vec<Series> = answers.iter().flat_map(read).collect();
        let first = series.iter().filter_map(Series::first).min().unwrap();
        let question = Question {
            schedule: &schedule,
            states: &[],
            series: &series,
            is_inline: false,
            options: Options { start_from: Some(first), ..request.options },
            now: first,
        };
        let analyst = Analyst::new(question).unwrap();
        let result: Value =
            serde_json::from_str(&render_result(&schedule, &analyst.analyse())).unwrap();
        let wanted = &case["expect"]["result"];
        for (place, task) in schedule.tasks.iter().enumerate() {
            for part in ["windows", "earliest_start", "longest_window", "waiting_s"] {
                let (wanted, found) =
                    (&wanted["tasks"][place][part], &result["tasks"][place][part]);
                assert_eq!(wanted, found, "{id}: {part} of {}", task.id);
            }
            if let Some(wanted) = case["expect"]["steps"].get(&task.id) {
                let steps: Value =
                    serde_json::from_str(&render_steps(&analyst.steps(place))).unwrap();
                assert_eq!(&steps, wanted, "{id}: steps of {}", task.id);
            }
        }
        assert_eq!(result["earliest_completion"], wanted["earliest_completion"], "{id}");
    }
    assert_eq!(seen, 3);
}

/// However an answer is damaged, it is read or refused, and what is read can be analysed.
#[test]
fn damaged_answers_are_read_or_refused() {
    let names = [
        "met-locationforecast-complete.one-step.json",
        "met-oceanforecast-complete.real-excerpt.json",
        "open-meteo-marine.orca-fixture.json",
        "open-meteo-marine.real-nulls.json",
    ];
    fuzz("forecasts", names.map(file), |body: &[u8]| {
        let Ok(answer) = read(body) else { return };
        assert_eq!(answer.series.len(), answer.native_step_s.len());
        for (from, until) in answer.series.iter().flat_map(Series::spans) {
            assert!(from < until);
        }
    });
}

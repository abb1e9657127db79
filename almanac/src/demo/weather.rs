//! Forecasts of the demonstration: 48 hours from now, in the words of two services. Waves and wind rise
//! and fall, so that some windows open for almost any limits. Made up, and the same for whoever asks at
//! the same hour.

use almanac_ingestor::config::{ForecastConfig, ProviderConfig, ProviderKind};
use axum::{
    Router,
    extract::Query,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::{collections::HashMap, f64::consts::TAU, net::SocketAddr, time::Duration};

const HOURS: i64 = 48;
const HOUR_S: i64 = 3_600;
const FRESH_S: i64 = 600;

pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/met-norway/locationforecast", get(location))
        .route("/met-norway/oceanforecast", get(ocean))
        .route("/open-meteo/forecast", get(weather))
        .route("/open-meteo/marine", get(marine))
}

/// How `almanac up` asks for them.
pub(super) fn providers(
    address: SocketAddr,
    like: impl Fn(&str, ProviderKind, String) -> ProviderConfig,
) -> [ProviderConfig; 2] {
    let provider = |name: &str, kind, first: &str, marine: &str| {
        let forecasts = ForecastConfig {
            marine_url: format!("http://{address}/{name}/{marine}").into(),
            fresh_min: Duration::from_secs(60),
            requests_per_minute: 60_000,
            attribution: "made up by Almanac's demonstration".to_owned(),
            ..ForecastConfig::default()
        };
        let identity = concat!("almanac-demonstration/", env!("CARGO_PKG_VERSION"));
        let mut provider = like(name, kind, format!("http://{address}/{name}/{first}"));
        provider.headers.insert("User-Agent".to_owned(), identity.into());
        ProviderConfig { forecasts, ..provider }
    };
    [
        provider("met-norway", ProviderKind::MetNorway, "locationforecast", "oceanforecast"),
        provider("open-meteo", ProviderKind::OpenMeteo, "forecast", "marine"),
    ]
}

/// What is made up of one hour at one place.
struct Sample {
    time: Timestamp,
    wave_height: f64,
    wave_period: f64,
    wind_speed: f64,
    wind_gust: f64,
    current: f64,
    visibility: f64,
}

/// From the hour that has begun on. Everything follows from the number of the hour and from the place.
fn samples(now: Timestamp, lat: f64, lon: f64) -> Vec<Sample> {
    let first = now.as_second().div_euclid(HOUR_S);
    let sample = |hour: i64| {
        // What comes in from the west comes later in the east.
        let hours = hour as f64 - (lat + lon) / 7.0;
        let swing = |period: f64, shift: f64| (TAU * (hours - shift) / period).sin();
        let wave_height = 1.6 + 1.1 * swing(17.0, 0.0) + 0.2 * swing(5.0, 1.0);
        let wind_speed = 8.5 + 5.5 * swing(17.0, -2.0) + 1.0 * swing(3.0, 0.5);
        Sample {
            time: Timestamp::from_second(hour * HOUR_S).unwrap_or_default(),
            wave_height,
            wave_period: 5.5 + 1.5 * wave_height,
            wind_speed,
            wind_gust: wind_speed * 1.35,
            current: 0.4 + 0.3 * swing(12.4, 0.0),
            visibility: 24_000.0 - 6_000.0 * swing(29.0, 3.0),
        }
    };
    (first..first + HOURS).map(sample).collect()
}

/// With one decimal, as services write them.
fn tenths(value: f64) -> Value {
    json!((value * 10.0).round() / 10.0)
}

async fn location(Query(query): Query<HashMap<String, String>>, headers: HeaderMap) -> Response {
    met_norway(&query, &headers, |sample| {
        json!({
            "instant": { "details": {
                "wind_speed": tenths(sample.wind_speed),
                "wind_speed_of_gust": tenths(sample.wind_gust),
            } },
            "next_1_hours": { "summary": { "symbol_code": "cloudy" }, "details": {} },
        })
    })
}

async fn ocean(Query(query): Query<HashMap<String, String>>, headers: HeaderMap) -> Response {
    met_norway(&query, &headers, |sample| {
        json!({ "instant": { "details": {
            "sea_surface_wave_height": tenths(sample.wave_height),
            "sea_water_speed": tenths(sample.current),
        } } })
    })
}

fn met_norway(
    query: &HashMap<String, String>,
    headers: &HeaderMap,
    data: fn(&Sample) -> Value,
) -> Response {
    let Some((lat, lon)) = position(query, "lat", "lon") else { return nowhere() };
    let now = Timestamp::now();
    let samples = samples(now, lat, lon);
    let body = json!({
        "type": "Feature",
        "geometry": { "type": "Point", "coordinates": [lon, lat, 0] },
        "properties": {
            "meta": { "updated_at": samples[0].time, "units": {
                "wind_speed": "m/s", "wind_speed_of_gust": "m/s", "sea_surface_wave_height": "m",
                "sea_water_speed": "m/s",
            } },
            "timeseries": samples
                .iter()
                .map(|sample| json!({ "time": sample.time, "data": data(sample) }))
                .collect::<Vec<_>>(),
        },
    });
    fresh(headers, samples[0].time, now, &body)
}

/// Name, unit, and the value of a sample.
type Column = (&'static str, &'static str, fn(&[Sample], usize) -> f64);

async fn weather(Query(query): Query<HashMap<String, String>>, headers: HeaderMap) -> Response {
    let columns: [Column; 3] = [
        ("wind_speed_10m", "m/s", |samples, at| samples[at].wind_speed),
        // Of the hour before.
        ("wind_gusts_10m", "m/s", |samples, at| samples[at.saturating_sub(1)].wind_gust),
        ("visibility", "m", |samples, at| samples[at].visibility),
    ];
    open_meteo(&query, &headers, "", &columns)
}

async fn marine(Query(query): Query<HashMap<String, String>>, headers: HeaderMap) -> Response {
    let columns: [Column; 3] = [
        ("wave_height", "m", |samples, at| samples[at].wave_height),
        ("wave_period", "s", |samples, at| samples[at].wave_period),
        ("ocean_current_velocity", "m/s", |samples, at| samples[at].current),
    ];
    // Of several models each has names of its own; the first of those asked for knows everything.
    let models = query.get("models").map(|models| models.split(',').collect::<Vec<_>>());
    let suffix = match models.as_deref() {
        Some([first, _, ..]) => format!("_{first}"),
        _ => String::new(),
    };
    open_meteo(&query, &headers, &suffix, &columns)
}

fn open_meteo(
    query: &HashMap<String, String>,
    headers: &HeaderMap,
    suffix: &str,
    columns: &[Column],
) -> Response {
    let Some((lat, lon)) = position(query, "latitude", "longitude") else { return nowhere() };
    let now = Timestamp::now();
    let samples = samples(now, lat, lon);
    let times = samples.iter().map(|sample| sample.time.strftime("%Y-%m-%dT%H:%M").to_string());
    let mut hourly = json!({ "time": times.collect::<Vec<_>>() });
    let mut units = json!({ "time": "iso8601" });
    for (name, unit, value) in columns {
        let name = format!("{name}{suffix}");
        let values = (0..samples.len()).map(|at| tenths(value(&samples, at)));
        hourly[&name] = values.collect();
        units[&name] = json!(unit);
    }
    let body = json!({
        "latitude": lat, "longitude": lon, "utc_offset_seconds": 0, "timezone": "GMT",
        "hourly_units": units, "hourly": hourly,
    });
    fresh(headers, samples[0].time, now, &body)
}

fn position(query: &HashMap<String, String>, lat: &str, lon: &str) -> Option<(f64, f64)> {
    let number = |name: &str| query.get(name)?.parse::<f64>().ok();
    let (lat, lon) = (number(lat)?, number(lon)?);
    (lat.abs() <= 90.0 && lon.abs() <= 180.0).then_some((lat, lon))
}

fn nowhere() -> Response {
    let body =
        json!({ "error": true, "reason": "latitude or longitude is missing or out of range" });
    (StatusCode::BAD_REQUEST, axum::Json(body)).into_response()
}

/// Fresh for a while, and the same for the whole hour.
fn fresh(headers: &HeaderMap, hour: Timestamp, now: Timestamp, body: &Value) -> Response {
    let tag = format!("\"{}\"", hour.as_second());
    let until = hour + SignedDuration::from_secs(HOUR_S);
    let left = until.duration_since(now).as_secs().clamp(1, FRESH_S);
    let told = [(header::ETAG, tag.clone()), (header::CACHE_CONTROL, format!("max-age={left}"))];
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known == tag.as_str()) {
        return (StatusCode::NOT_MODIFIED, told).into_response();
    }
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (told, kind, body.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use almanac_domain::weather::{self, Analyst, Options, Question, Variable};
    use almanac_ingestor::forecasts::read_of;

    fn query(pairs: &[(&str, &str)]) -> Query<HashMap<String, String>> {
        Query(pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect())
    }

    async fn body(response: Response) -> Vec<u8> {
        assert_eq!(response.status(), StatusCode::OK);
        axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec()
    }

    /// What each service says of a place, with all of its products.
    async fn forecasts(lat: &str, lon: &str) -> [Vec<weather::Series>; 2] {
        let met = query(&[("lat", lat), ("lon", lon)]);
        let models = "meteofrance_wave,ecmwf_wam025";
        let open = query(&[("latitude", lat), ("longitude", lon), ("models", models)]);
        let none = HeaderMap::new;
        let models: Vec<String> = models.split(',').map(str::to_owned).collect();
        let mut of_met = read_of(&body(location(met.clone(), none()).await).await, &[]).unwrap();
        of_met.series.extend(read_of(&body(ocean(met, none()).await).await, &[]).unwrap().series);
        let mut of_open = read_of(&body(weather(open.clone(), none()).await).await, &[]).unwrap();
        let waves = read_of(&body(marine(open, none()).await).await, &models).unwrap();
        assert_eq!(waves.native_step_s, [Some(10_800)], "of the model that answers");
        of_open.series.extend(waves.series);
        [of_met.series, of_open.series]
    }

    fn schedule() -> weather::Schedule {
        let text = include_str!("../../../docs/examples/schedule.json");
        almanac_schemas::json::weather::read_schedule(text.as_bytes()).unwrap().unwrap()
    }

    /// Wherever a newcomer asks, and whenever, something can be done within the two days, and something
    /// cannot.
    #[tokio::test]
    async fn windows_open_and_close_at_any_place() {
        for (lat, lon) in [("61.5", "4.8"), ("-33.9", "151.2"), ("0", "0"), ("89.99", "-180")] {
            for series in forecasts(lat, lon).await {
                assert!(series.iter().any(|one| one.has(Variable::WindGust)));
                let schedule = schedule();
                let question = Question {
                    schedule: &schedule,
                    states: &[],
                    series: &series,
                    is_inline: false,
                    options: Options::default(),
                    now: Timestamp::now(),
                };
                let analysis = Analyst::new(question).unwrap().analyse();
                assert!(analysis.earliest_completion.is_some(), "{lat} {lon}: {analysis:?}");
                let windows = analysis.tasks.iter().map(|task| task.windows.len());
                assert!(windows.max() > Some(1), "{lat} {lon}: {analysis:?}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_known_is_not_sent_again() {
        let met = query(&[("lat", "1"), ("lon", "2")]);
        let first = location(met.clone(), HeaderMap::new()).await;
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
        let second = location(met, headers).await;
        // Unless the hour ends in between.
        assert!(
            second.status() == StatusCode::NOT_MODIFIED
                || second.headers()[header::ETAG] != first.headers()[header::ETAG]
        );
        let nowhere = location(query(&[("lat", "91"), ("lon", "2")]), HeaderMap::new()).await;
        assert_eq!(nowhere.status(), StatusCode::BAD_REQUEST);
    }
}

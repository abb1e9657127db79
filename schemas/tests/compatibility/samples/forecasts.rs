//! Forecasts, requests for them, and what is known of a place.

use crate::samples::now;
use almanac_schemas::{
    forecasts::{ColumnRecord, ForecastPublishedRecord, ForecastUnavailableRecord, SeriesRecord},
    ingest::{ForecastProductRecord, ForecastRequestedRecord, ForecastStateRecord},
};

pub(crate) fn forecast_published() -> ForecastPublishedRecord {
    let hour = 3_600_000;
    let from = now().as_millisecond();
    ForecastPublishedRecord {
        source: "met-norway".to_owned(),
        lat: "61.50".to_owned(),
        lon: "4.80".to_owned(),
        fetch_id: "f-1".to_owned(),
        fetched_at: from,
        fresh_until: from + hour,
        issued_at: Some(from - hour),
        attribution: "Data from MET Norway".to_owned(),
        series: vec![SeriesRecord {
            step_s: 3_600,
            native_step_s: Some(10_800),
            position_lat: Some("61.5".to_owned()),
            position_lon: Some("4.8".to_owned()),
            from_ms: vec![from, from + hour],
            until_ms: vec![from + hour, from + 2 * hour],
            columns: vec![ColumnRecord {
                variable: "wave_height_m".to_owned(),
                values: vec![Some("2.50".to_owned()), None],
            }],
        }],
        trimmed_after: Some(from + 2 * hour),
    }
}

pub(crate) fn forecast_unavailable() -> ForecastUnavailableRecord {
    ForecastUnavailableRecord {
        source: "open-meteo".to_owned(),
        lat: "61.50".to_owned(),
        lon: "4.80".to_owned(),
        fetch_id: "f-2".to_owned(),
        observed_at: now().as_millisecond(),
        code: "rate_limited".to_owned(),
        detail: "the provider answered 429".to_owned(),
        retry_at: Some(now().as_millisecond() + 30_000),
    }
}

pub(crate) fn forecast_requested() -> ForecastRequestedRecord {
    ForecastRequestedRecord {
        provider: "met-norway".to_owned(),
        lat: "61.50".to_owned(),
        lon: "4.80".to_owned(),
        requested_at: now().as_millisecond(),
        requested_by: "mary".to_owned(),
    }
}

pub(crate) fn forecast_state() -> ForecastStateRecord {
    let published = forecast_published();
    ForecastStateRecord {
        provider: published.source,
        lat: published.lat,
        lon: published.lon,
        configuration: "1f".to_owned(),
        fetch_id: published.fetch_id,
        answered: Some("requests.t.3.7".to_owned()),
        products: vec![
            ForecastProductRecord {
                name: "locationforecast".to_owned(),
                etag: Some("\"abc\"".to_owned()),
                last_modified: Some("Fri, 01 Jan 2021 00:00:00 GMT".to_owned()),
                fetched_at: published.fetched_at,
                fresh_until: published.fresh_until,
                issued_at: published.issued_at,
                no_data: None,
                series: published.series,
                trimmed_after: published.trimmed_after,
            },
            ForecastProductRecord {
                name: "oceanforecast".to_owned(),
                no_data: Some("no data at the given location".to_owned()),
                ..ForecastProductRecord::default()
            },
        ],
    }
}

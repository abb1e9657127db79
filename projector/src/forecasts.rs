//! From an event of `forecasts.events` to row changes.

use crate::projection::{Event, FoldError, Folded, Projection, Rows};
use almanac_schemas::{
    forecasts::{self, ForecastPublishedRecord, ForecastUnavailableRecord, TOPIC},
    json::weather,
};
use almanac_tables::forecasts::{PUBLISHED, Tables, UNAVAILABLE, history_key, history_partition};
use jiff::Timestamp;

impl Projection for Tables {
    fn fold(&self, event: &Event<'_>) -> Result<Folded, FoldError> {
        let mut rows = event.rows();
        let done = match event.decoded.record() {
            forecasts::PUBLISHED => {
                published(self, &event.decoded.read()?, event.position, &mut rows)
            }
            forecasts::UNAVAILABLE => unavailable(self, &event.decoded.read()?, &mut rows),
            _ => return Err(event.unknown(TOPIC)),
        };
        done.map(|()| rows.folded()).ok_or(FoldError::OutsideDomain)
    }
}

fn published(
    tables: &Tables,
    record: &ForecastPublishedRecord,
    position: u64,
    rows: &mut Rows,
) -> Option<()> {
    let place = record.place()?;
    // Whoever analyses with it later must be able to read it.
    record.to_series().ok()?;
    let fetched_at = Timestamp::from_millisecond(record.fetched_at).ok()?;
    let partition = history_partition(&place.key(&record.source), fetched_at);
    rows.put(
        &tables.history,
        partition,
        history_key(position),
        serde_json::to_string(record).ok()?,
    );
    let key = format!("{}/{PUBLISHED}", record.source);
    rows.put_own(&tables.forecasts, place.to_string(), key, weather::render_published(record)?);
    Some(())
}

fn unavailable(tables: &Tables, record: &ForecastUnavailableRecord, rows: &mut Rows) -> Option<()> {
    let place = record.place()?;
    let key = format!("{}/{UNAVAILABLE}", record.source);
    rows.put_own(&tables.forecasts, place.to_string(), key, weather::render_unavailable(record)?);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folding;
    use almanac_schemas::forecasts::{ColumnRecord, SeriesRecord};
    use almanac_tables::forecasts::VERSION;

    const HOUR_MS: i64 = 3_600_000;

    fn forecast(fetched_at: i64, wave: &str) -> ForecastPublishedRecord {
        let times: Vec<i64> = (0..3).map(|hour| fetched_at + hour * HOUR_MS).collect();
        ForecastPublishedRecord {
            source: "met-norway".to_owned(),
            lat: "61.50".to_owned(),
            lon: "4.80".to_owned(),
            fetch_id: "f".to_owned(),
            fetched_at,
            fresh_until: fetched_at + HOUR_MS,
            issued_at: Some(fetched_at - HOUR_MS),
            attribution: "MET Norway".to_owned(),
            series: vec![SeriesRecord {
                step_s: 3_600,
                native_step_s: Some(10_800),
                position_lat: Some("61.5".to_owned()),
                position_lon: Some("4.81".to_owned()),
                until_ms: times.iter().map(|time| time + HOUR_MS).collect(),
                from_ms: times,
                columns: vec![ColumnRecord {
                    variable: "wave_height_m".to_owned(),
                    values: vec![Some(wave.to_owned()), Some("1.0".to_owned()), None],
                }],
            }],
            trimmed_after: None,
        }
    }

    #[tokio::test]
    async fn the_newest_stands_per_source_and_all_stand_in_history() {
        let mut folding = Folding::new(Tables::of(VERSION).unwrap()).await;
        folding.event(forecasts::PUBLISHED, &forecast(0, "1.20")).await;
        folding.event(forecasts::PUBLISHED, &forecast(24 * HOUR_MS, "2.5")).await;
        let newest = folding.only("forecasts");
        assert_eq!(newest["fetched_at"], "1970-01-02T00:00:00Z");
        let wave = &newest["variables"]["wave_height_m"];
        assert_eq!((&wave["step"], &wave["native_step"]), (&"PT1H".into(), &"PT3H".into()));
        assert_eq!(wave["until"], "1970-01-02T02:00:00Z", "a null covers nothing");
        assert!(wave["distance_m"].as_i64().is_some_and(|metres| (400..700).contains(&metres)));
        let history = folding.of("forecast_history");
        let partitions: Vec<&str> = history.iter().map(|row| row.0.as_str()).collect();
        let day = |day: &str| format!("met-norway/61.50/4.80/{day}");
        assert_eq!(partitions, [day("1970-01-01"), day("1970-01-02")]);
        let first: ForecastPublishedRecord = serde_json::from_str(&history[0].2).unwrap();
        assert_eq!(first, forecast(0, "1.20"));
        let unavailable = ForecastUnavailableRecord {
            source: "met-norway".to_owned(),
            lat: "61.50".to_owned(),
            lon: "4.80".to_owned(),
            fetch_id: "g".to_owned(),
            observed_at: 1,
            code: "outside_grid".to_owned(),
            detail: "the place is outside the grid".to_owned(),
            retry_at: None,
        };
        folding.event(forecasts::UNAVAILABLE, &unavailable).await;
        assert_eq!(folding.of("forecasts").len(), 2, "beside what is still known");
        folding.repeats().await;
    }

    #[tokio::test]
    async fn what_nobody_could_analyse_with_is_refused() {
        let mut folding = Folding::new(Tables::of(VERSION).unwrap()).await;
        let mut bad = forecast(0, "two");
        bad.series[0].columns[0].values.truncate(1);
        let value = folding.codec().encode(forecasts::PUBLISHED, &bad).unwrap();
        assert!(matches!(folding.value(value).await, Err(FoldError::OutsideDomain)));
    }
}

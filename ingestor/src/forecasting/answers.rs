//! What requests are answered with: records of events, of state, and of what was refused.

use super::{Failure, PlaceFetch, Service};
use crate::{commit::CommitRequest, entry, publish::Publisher, role::Topics};
use almanac_domain::weather::Place;
use almanac_event_log::{Append, Headers, Record, partitioner::partition_of};
use almanac_processor::{Envelope, RoleError};
use almanac_schemas::{
    Codec, CodecError,
    forecasts::{
        ForecastPublishedRecord, ForecastUnavailableRecord, PUBLISHED, PUBLISHED_TYPE, UNAVAILABLE,
        UNAVAILABLE_TYPE, code,
    },
    ingest::{
        FORECAST_STATE, ForecastProductRecord, ForecastStateRecord, QUARANTINED, QuarantinedRecord,
    },
    plans::FeedObservedRecord,
};
use bytes::Bytes;
use jiff::Timestamp;

/// Below the log's limit for a record, with room for what else stands in the event and in the state.
const MAX_SERIES_BYTES: usize = 640 << 10;

/// The forecast that is known of a place; `None` where no product has data.
pub(super) fn published(
    service: &Service,
    state: &ForecastStateRecord,
) -> Option<ForecastPublishedRecord> {
    let with_data = || state.products.iter().filter(|product| product.no_data.is_none());
    let fetched_at = state.products.iter().map(|product| product.fetched_at).max()?;
    with_data().next()?;
    Some(ForecastPublishedRecord {
        source: state.provider.clone(),
        lat: state.lat.clone(),
        lon: state.lon.clone(),
        fetch_id: state.fetch_id.clone(),
        fetched_at,
        // One that knows nothing of the place is asked again later than the others.
        fresh_until: with_data().map(|product| product.fresh_until).min()?,
        issued_at: with_data().filter_map(|product| product.issued_at).min(),
        attribution: service.attribution().to_owned(),
        series: with_data().flat_map(|product| product.series.iter().cloned()).collect(),
        trimmed_after: with_data().filter_map(|product| product.trimmed_after).min(),
    })
}

/// Why there is nothing to publish although every product answered.
pub(super) fn outside_coverage(state: &ForecastStateRecord) -> Failure {
    let reasons: Vec<String> = state
        .products
        .iter()
        .filter_map(|product| Some(format!("{}: {}", product.name, product.no_data.as_ref()?)))
        .collect();
    Failure::new(code::OUTSIDE_COVERAGE, reasons.join("; "))
}

/// Leaves out the far end of what is too much for a record.
pub(super) fn trim(codec: &Codec, state: &mut ForecastStateRecord) -> Result<(), CodecError> {
    loop {
        let bytes = codec.encode(FORECAST_STATE, state)?.len();
        if bytes <= MAX_SERIES_BYTES {
            return Ok(());
        }
        let series = || state.products.iter().flat_map(|product| &product.series);
        let mut times: Vec<i64> = series().flat_map(|series| series.from_ms.clone()).collect();
        times.sort_unstable();
        // Somewhat less than would fit by proportion: columns are not equally wide.
        let kept =
            (times.len() as u128 * MAX_SERIES_BYTES as u128 * 9 / 10 / bytes as u128) as usize;
        let Some(end) = times.get(kept.min(times.len().saturating_sub(1))).copied() else {
            return Ok(());
        };
        for product in &mut state.products {
            trim_product(product, end);
        }
    }
}

fn trim_product(product: &mut ForecastProductRecord, end: i64) {
    for series in &mut product.series {
        let kept = series.from_ms.partition_point(|from| *from < end);
        if kept == series.from_ms.len() {
            continue;
        }
        series.from_ms.truncate(kept);
        series.until_ms.truncate(kept);
        for column in &mut series.columns {
            column.values.truncate(kept);
        }
        product.trimmed_after = Some(end);
    }
    product.series.retain(|series| !series.from_ms.is_empty());
}

/// Puts an event on `forecasts.events`.
fn put_event(
    publisher: &Publisher,
    batch: &mut CommitRequest,
    place: Place,
    event_type: &str,
    value: Bytes,
) {
    let key = place.key(&publisher.provider);
    let id = format!("{key}/{}", publisher.fetch_id);
    let time = publisher.observed_at.to_string();
    let envelope = Envelope {
        id: &id,
        source: &publisher.source,
        event_type,
        subject: &key,
        time: &time,
        sequence: None,
        causation: Some(&publisher.fetch_id),
        correlation: Some(&publisher.fetch_id),
        consistency_token: None,
        parent: publisher.parent.as_ref(),
    };
    let headers = envelope.headers();
    let key = Bytes::from(key);
    batch.append(Append {
        topic: publisher.topics.forecasts.clone(),
        partition: partition_of(&key, publisher.topics.partitions),
        record: publisher.record(key, value, headers),
    });
}

pub(super) fn put_published(
    publisher: &Publisher,
    batch: &mut CommitRequest,
    place: Place,
    published: &ForecastPublishedRecord,
) -> Result<(), CodecError> {
    let value = publisher.codec.encode(PUBLISHED, published)?;
    put_event(publisher, batch, place, PUBLISHED_TYPE, value);
    Ok(())
}

pub(super) fn put_unavailable(
    publisher: &Publisher,
    batch: &mut CommitRequest,
    place: Place,
    failure: &Failure,
) -> Result<(), CodecError> {
    let record = ForecastUnavailableRecord {
        source: publisher.provider.clone(),
        lat: place.lat().to_string(),
        lon: place.lon().to_string(),
        fetch_id: publisher.fetch_id.clone(),
        observed_at: publisher.observed_at.as_millisecond(),
        code: failure.code.to_owned(),
        detail: failure.detail.clone(),
        retry_at: failure.retry_at.map(Timestamp::as_millisecond),
    };
    let value = publisher.codec.encode(UNAVAILABLE, &record)?;
    put_event(publisher, batch, place, UNAVAILABLE_TYPE, value);
    Ok(())
}

/// What is remembered of a place.
pub(super) fn put_state(
    publisher: &Publisher,
    batch: &mut CommitRequest,
    place: Place,
    state: &ForecastStateRecord,
) -> Result<(), CodecError> {
    let value = publisher.codec.encode(FORECAST_STATE, state)?;
    batch.changes.push((entry::place_key(&publisher.provider, place), Some(value.to_vec())));
    batch.append(Append {
        topic: publisher.topics.state.clone(),
        partition: publisher.committer.partition,
        record: publisher.record(place.key(&publisher.provider).into(), value, Headers::default()),
    });
    Ok(())
}

/// Forgets a place that nobody asked for in a long time.
pub(super) fn put_forgotten(
    topics: &Topics,
    partition: u32,
    batch: &mut CommitRequest,
    provider: &str,
    place: Place,
) {
    batch.changes.push((entry::place_key(provider, place), None));
    let record = Record {
        key: place.key(provider).into(),
        value: None,
        headers: Headers::default(),
        timestamp_ms: Timestamp::now().as_millisecond(),
    };
    batch.append(Append { topic: topics.state.clone(), partition, record });
}

/// Keeps a body that is no forecast, and says where and why.
pub(super) async fn quarantine(
    publisher: &Publisher,
    fetch: &PlaceFetch,
) -> Result<Option<String>, RoleError> {
    let Some(refused) = &fetch.refused else { return Ok(None) };
    let payload_id = format!("{}.{}.{}", publisher.provider, publisher.fetch_id, refused.product);
    publisher.payload(&payload_id, &refused.body).await?;
    let record = QuarantinedRecord {
        provider: publisher.provider.clone(),
        observed_at: publisher.observed_at.as_millisecond(),
        payload_id: Some(payload_id.clone()),
        place: fetch.place.to_string(),
        subject: format!("forecast {}", refused.product),
        reason: refused.reason.clone(),
        fragment: refused.fragment.clone(),
    };
    let value = publisher.codec.encode(QUARANTINED, &record).map_err(RoleError::other)?;
    let mut batch = CommitRequest::default();
    publisher.put_quarantined(&mut batch, value);
    publisher.committer.submit(batch).await?.wait().await?;
    Ok(Some(payload_id))
}

/// A fetch in the words in which feeds are observed. Next is whenever somebody asks.
pub(super) fn observation(
    provider: &str,
    fetch: &PlaceFetch,
    payload_id: Option<String>,
    breaker: &str,
    failures: u32,
    next: &crate::schedule::Next,
) -> FeedObservedRecord {
    let outcome = match (&fetch.failure, fetch.changed) {
        (Some(_), _) => "failed",
        (None, true) => "changed",
        (None, false) if fetch.body_bytes.is_some() => "unchanged",
        (None, false) => "not_modified",
    };
    FeedObservedRecord {
        provider: provider.to_owned(),
        observed_at: fetch.began.as_millisecond(),
        outcome: outcome.to_owned(),
        detail: fetch
            .failure
            .as_ref()
            .map(|failure| format!("{}: {}", fetch.place, failure.detail)),
        listed_plans: None,
        listed: 0,
        changed: 0,
        delisted: 0,
        relisted: 0,
        quarantined: i64::from(fetch.refused.is_some()),
        faults: Vec::new(),
        body_bytes: fetch.body_bytes.map(|bytes| bytes as i64),
        duration_ms: i64::try_from(fetch.took.as_millis()).unwrap_or(i64::MAX),
        breaker: breaker.to_owned(),
        consecutive_failures: i64::from(failures),
        next_fetch_at: next.at.as_millisecond(),
        next_fetch_reason: next.reason.to_owned(),
        payload_id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use almanac_schemas::{
        BuiltInRegistry,
        forecasts::{ColumnRecord, SeriesRecord},
    };
    use std::sync::Arc;

    fn product(name: &str, samples: i64) -> ForecastProductRecord {
        ForecastProductRecord {
            name: name.to_owned(),
            series: vec![SeriesRecord {
                step_s: 3_600,
                native_step_s: None,
                position_lat: None,
                position_lon: None,
                from_ms: (0..samples).collect(),
                until_ms: (1..=samples).collect(),
                columns: vec![ColumnRecord {
                    variable: "wind_speed_ms".to_owned(),
                    values: (0..samples).map(|value| Some(format!("{value}.123"))).collect(),
                }],
            }],
            ..ForecastProductRecord::default()
        }
    }

    #[tokio::test]
    async fn what_is_too_much_for_a_record_loses_its_far_end() {
        let codec = Codec::new(Arc::new(BuiltInRegistry)).await.unwrap();
        let products = vec![product("long", 200_000), product("short", 100)];
        let mut state = ForecastStateRecord { products, ..ForecastStateRecord::default() };
        trim(&codec, &mut state).unwrap();
        let bytes = codec.encode(FORECAST_STATE, &state).unwrap().len();
        assert!((MAX_SERIES_BYTES / 2..=MAX_SERIES_BYTES).contains(&bytes), "{bytes}");
        let [long, short] = &state.products[..] else { panic!() };
        assert_eq!(short.series, product("short", 100).series, "it ends before the cut");
        assert_eq!(short.trimmed_after, None);
        let kept = long.series[0].from_ms.len();
        assert_eq!(long.trimmed_after, Some(kept as i64), "what begins then is gone");
        assert_eq!(long.series[0].columns[0].values.len(), kept);
        assert_eq!(long.series[0].until_ms.len(), kept);
    }
}

//! The decision note of an analysis.

use super::{Analyses, chart::zone};
use crate::{
    drawing::{Zone, note as write},
    v1::private::{VARY, of_the_caller},
};
use almanac_edge::{Problem, conditional, query::Parameters};
use axum::{
    extract::{Path, RawQuery, State},
    response::Response,
};
use http::{HeaderMap, HeaderValue, header};
use std::sync::Arc;

pub(super) async fn note(
    State(state): State<Arc<Analyses>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let parameters = Parameters::parse(query.as_deref(), &["timezone"])?;
    let zone = zone(&parameters)?;
    let completed = state.completed(&id, &headers).await?;
    let note = state.computed(completed, state.options.wait, move |loaded, analyst| {
        let zone = zone.unwrap_or_else(|| Zone::by_longitude(loaded.schedule.location.lon));
        loaded.show(analyst, &analyst.analyse(), |shown| write(shown, &zone))
    });
    let mut answer = of_the_caller(conditional::json(&headers, note.await?), VARY);
    let headers = answer.headers_mut();
    if headers.contains_key(header::CONTENT_TYPE) {
        let markdown = HeaderValue::from_static("text/markdown; charset=utf-8");
        headers.insert(header::CONTENT_TYPE, markdown);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(answer)
}

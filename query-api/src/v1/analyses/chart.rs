//! The drawing of an analysis.

use super::Analyses;
use crate::{
    drawing::{DEFAULT_WIDTH, View, WIDTHS, Zone, chart as draw},
    v1::private::{VARY, of_the_caller},
};
use almanac_edge::{
    Problem, conditional,
    query::{Parameters, bad},
};
use axum::{
    extract::{Path, RawQuery, State},
    response::Response,
};
use http::{HeaderMap, HeaderValue, header};
use jiff::Timestamp;
use std::sync::Arc;

/// The zone that a reader asks for, if one.
pub(super) fn zone(parameters: &Parameters) -> Result<Option<Zone>, Problem> {
    let Some(name) = parameters.one("timezone")? else { return Ok(None) };
    let unknown = || bad("timezone", "it must be a time zone such as Europe/Oslo");
    Zone::named(name).map(Some).ok_or_else(unknown)
}

pub(super) async fn chart(
    State(state): State<Arc<Analyses>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let parameters = Parameters::parse(query.as_deref(), &["width", "timezone", "now"])?;
    let width = match parameters.one("width")? {
        None => DEFAULT_WIDTH,
        Some(text) => {
            let (least, most) = (WIDTHS.start(), WIDTHS.end());
            let detail = format!("it must be a number of pixels from {least} to {most}");
            let width = text.parse().ok().filter(|width| WIDTHS.contains(width));
            width.ok_or_else(|| bad("width", &detail))?
        }
    };
    let zone = zone(&parameters)?;
    let now = parameters.time("now")?.unwrap_or_else(Timestamp::now);
    let completed = state.completed(&id, &headers).await?;
    let drawing = state.computed(completed, state.options.wait, move |loaded, analyst| {
        let zone = zone.unwrap_or_else(|| Zone::by_longitude(loaded.schedule.location.lon));
        let view = View { width, zone, now };
        loaded.show(analyst, &analyst.analyse(), |shown| draw(shown, &view))
    });
    let mut answer = of_the_caller(conditional::json(&headers, drawing.await?), VARY);
    let headers = answer.headers_mut();
    if headers.contains_key(header::CONTENT_TYPE) {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("image/svg+xml"));
    }
    // It has no script; should one ever slip in by a name, it does not run.
    let policy = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'");
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(answer)
}

//! Verdicts of a task, stretch by stretch, with what decided each.

use super::Analyses;
use crate::v1::{
    cursor,
    private::{VARY, of_the_caller},
};
use almanac_edge::{
    Problem, conditional,
    query::{Parameters, bad},
};
use almanac_schemas::json::weather::render_steps;
use axum::{
    extract::{Path, RawQuery, State},
    response::Response,
};
use http::HeaderMap;
use std::sync::Arc;

pub(super) async fn steps(
    State(state): State<Arc<Analyses>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let parameters = Parameters::parse(query.as_deref(), &["task", "limit", "cursor"])?;
    let limit = parameters.limit()?;
    let completed = state.completed(&id, &headers).await?;
    let task = parameters.one("task")?.ok_or_else(|| bad("task", "it is required"))?.to_owned();
    let bound = format!("{}/{task}", completed.id);
    let from: usize = cursor::after(&parameters, &bound)?.unwrap_or_default();
    let page = state.computed(completed, state.options.wait, move |loaded, analyst| {
        let place = loaded.schedule.tasks.iter().position(|one| one.id == task)?;
        let steps = analyst.steps(place);
        let first = from.min(steps.len());
        let page = &steps[first..steps.len().min(first.saturating_add(limit))];
        let next = first + page.len();
        Some((render_steps(page), (next < steps.len()).then_some(next)))
    });
    let page = page.await?;
    let (items, next) = page.ok_or_else(|| bad("task", "the schedule has no such task"))?;
    let next = cursor::next(&bound, next);
    let body = format!("{{\"items\":{items},\"next_cursor\":{next}}}");
    Ok(of_the_caller(conditional::json(&headers, body), VARY))
}

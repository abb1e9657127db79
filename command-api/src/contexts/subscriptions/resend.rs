//! Sending a notification once more, however it ended: what was to be delivered becomes due again as a
//! delivery of its own, under the same id of the event.

use super::Subscriptions;
use crate::{contexts::Context, deliveries::Missing, headers, write::CommandApi};
use almanac_domain::aggregate::Caller;
use almanac_edge::{Problem, ProblemType};
use almanac_schemas::notifications::DeliveryDueRecord;
use axum::{
    body::Body,
    extract::{Path, Request, State},
    response::Response,
};
use http::{HeaderName, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use serde_json::json;
use std::sync::Arc;
use uuid::Uuid;

const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

pub(super) async fn resend(
    State(api): State<Arc<CommandApi>>,
    Path((id, delivery)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let id = headers::id(&id, Subscriptions.noun())?;
    let head = api.head(&Subscriptions, request)?;
    let asked = api.body(head, api.options.max_body_bytes).await?;
    let (subject, is_admin) = (asked.caller.subject.clone(), asked.caller.is_admin());
    api.known(&Subscriptions, &Caller { subject, is_admin }, id).await?;
    let delivery = headers::id(&delivery, "delivery")?;
    if !api.is_open(&Subscriptions, id) {
        let detail = "the subscription is disabled: nothing is sent for it any more";
        return Err(Problem::new(ProblemType::Conflict, detail));
    }
    let due = api.deliveries.find(id, delivery).await.map_err(|missing| problem(&missing))?;
    let keyed = asked.keyed()?;
    let again = keyed.unwrap_or_else(Uuid::now_v7);
    if keyed.is_some() {
        match api.deliveries.find(id, again).await {
            Ok(before) => {
                let mut response = accepted(&before, delivery);
                response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
                return Ok(response);
            }
            Err(Missing::Outage(error)) => return Err(problem(&Missing::Outage(error))),
            Err(Missing::Unknown | Missing::Gone) => {}
        }
    }
    let due_at = Timestamp::now().as_millisecond();
    let due = DeliveryDueRecord { delivery_id: again.to_string(), due_at, ..due };
    let added = api.deliveries.add(&due).await;
    added.map_err(|error| Problem::unavailable("the event log", &error))?;
    Ok(accepted(&due, delivery))
}

fn problem(missing: &Missing) -> Problem {
    match missing {
        Missing::Unknown => {
            let detail = "the subscription has no delivery with this id, or it was forgotten";
            Problem::new(ProblemType::NotFound, detail)
        }
        Missing::Gone => {
            let detail = "the event of this delivery is not kept any more: \
                          deliveries can be sent again for as long as notifications.keep";
            Problem::new(ProblemType::Gone, detail)
        }
        Missing::Outage(_) => Problem::unavailable("the event log", missing),
    }
}

fn accepted(due: &DeliveryDueRecord, resends: Uuid) -> Response {
    let due_at = Timestamp::from_millisecond(due.due_at).unwrap_or_default();
    let body = json!({
        "id": due.delivery_id, "resends": resends, "event_id": due.event_id,
        "type": due.event_type, "subject": due.subject, "due_at": format!("{due_at:.3}"),
        "state": "due",
    });
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = StatusCode::ACCEPTED;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let list = format!("/v1/subscriptions/{}/deliveries", due.subscription_id);
    if let Ok(list) = HeaderValue::try_from(list) {
        headers.insert(header::LOCATION, list);
    }
    response
}

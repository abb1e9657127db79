//! A single analysis: where it stands, or what came of it.

use super::{Analyses, fresh::Found, missing, parse_id};
use crate::{
    answers::busy,
    v1::private::{VARY, may_read, of_the_caller},
};
use almanac_edge::{
    Problem, conditional,
    identity::Caller,
    prefer::{PREFERENCE_APPLIED, Preference},
    query::Parameters,
};
use almanac_errors::Words;
use almanac_schemas::{analyses::AnalysisEventRecord, json::weather::render_head};
use axum::{
    body::Body,
    extract::{Path, RawQuery, State},
    response::Response,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// Who waits looks again after so long, should the change feed be silent.
const LOOK: Duration = Duration::from_secs(1);

/// What there is to answer of an analysis.
pub(super) enum Told {
    /// Asked for at this time, and not in the tables yet.
    Asked(Timestamp),
    Open(Box<AnalysisEventRecord>),
    Ended(Box<AnalysisEventRecord>),
}

impl Told {
    pub(super) fn is_open(&self) -> bool {
        !matches!(self, Self::Ended(_))
    }
}

impl Analyses {
    /// Where an analysis stands, for its owner.
    pub(super) async fn tell(
        &self,
        id: &str,
        caller: &Caller,
        within: Duration,
    ) -> Result<Told, Problem> {
        let event = match self.find(id, caller, within).await? {
            Found::Event(event) => event,
            Found::Asked { at } => return Ok(Told::Asked(at)),
        };
        if !may_read(caller, &event.head().owner) {
            return Err(missing());
        }
        Ok(match event.knowledge().is_none_or(|known| known.state.is_ended()) {
            true => Told::Ended(event),
            false => Told::Open(event),
        })
    }

    /// The whole answer, as JSON.
    pub(super) async fn text_of(
        self: &Arc<Self>,
        told: Told,
        id: &str,
        within: Duration,
    ) -> Result<Bytes, Problem> {
        let (event, mut told) = match told {
            Told::Asked(at) => {
                let told = json!({"request_id": id, "version": 0, "state": "queued", "progress": 0.0,
                    "requested_at": at, "place": null});
                return Ok(told.to_string().into());
            }
            Told::Open(event) | Told::Ended(event) => {
                let told = head(&event, id)?;
                (event, told)
            }
        };
        match *event {
            AnalysisEventRecord::Requested(_) => {
                told.insert("place".to_owned(), json!(self.place(id).await?));
            }
            AnalysisEventRecord::Progressed(progressed) => {
                told.insert("stage".to_owned(), json!(progressed.stage));
            }
            AnalysisEventRecord::Completed(completed) => {
                return self.result(completed, within).await;
            }
            AnalysisEventRecord::Failed(failed) => {
                let error = json!({"code": failed.code, "detail": failed.detail});
                told.insert("error".to_owned(), error);
            }
            AnalysisEventRecord::Cancelled(_) => {}
        }
        Ok(Value::Object(told).to_string().into())
    }
}

fn head(event: &AnalysisEventRecord, id: &str) -> Result<Map<String, Value>, Problem> {
    let damaged = || {
        Problem::internal(&Words::from(format!("the row of analysis {id} is outside the domain")))
    };
    render_head(event).ok_or_else(damaged)
}

pub(super) async fn one(
    State(state): State<Arc<Analyses>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    Parameters::parse(query.as_deref(), &[])?;
    let caller = state.identity.caller(&headers)?;
    let id = parse_id(&id, missing)?;
    let preference = Preference::read(&headers);
    let deadline = preference.wait.map(|wait| Instant::now() + wait);
    let mut changes = state.changes_of(&id);
    let told = loop {
        changes.mark_unchanged();
        let left = || deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let told = state.tell(&id, &caller, left().unwrap_or(state.options.wait)).await?;
        let left = left();
        match left.filter(|_| told.is_open()) {
            Some(left) if !left.is_zero() => {
                // The sender lives as long as the model.
                let _ = tokio::time::timeout(left.min(LOOK), changes.changed()).await;
            }
            _ => break told,
        }
    };
    let is_open = told.is_open();
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    let body = state.text_of(told, &id, left.unwrap_or_default()).await?;
    let body = state.answers.share(&body).ok_or_else(busy)?;
    let tag = conditional::tag_of(xxhash_rust::xxh3::xxh3_128(&body));
    let answer = conditional::tagged(&headers, &tag, || Body::from(body));
    let mut answer = of_the_caller(answer, VARY);
    if is_open {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if let Some(applied) = preference.applied_to_read() {
        answer.headers_mut().insert(PREFERENCE_APPLIED, applied);
    }
    Ok(answer)
}

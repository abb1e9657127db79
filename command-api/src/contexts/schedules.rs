//! Schedules: documents whose tasks are started and completed.

use super::{
    Context, Decision, NewEvent, Routes, Undecided, body_of, caller_of, expected_of, invalid,
    known_of, not_json,
};
use crate::{
    CommandApiOptions,
    documents::{self, Answer, Api},
    headers,
    write::Write,
};
use almanac_domain::{
    Fault,
    aggregate::Refusal as Guarded,
    schedules::{Command, Knowledge, Refusal, decide},
};
use almanac_edge::{Problem, ProblemType, Scope, object, openapi::Fragment, openapi_fragment};
use almanac_schemas::{
    Codec, Decoded,
    commands::CommandRecord,
    json::{
        merge_patch,
        weather::{
            ScheduleRevision, read_moment, read_schedule, read_schedule_revision,
            render_known_schedule,
        },
    },
    schedules::{CONTEXT, DELETED, ScheduleEventRecord, TOPIC, encode, event_type},
};
use axum::extract::{Path, Request, State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub(crate) struct Schedules;

/// The body of a command to start or complete a task.
#[derive(Serialize, Deserialize)]
struct TaskMoment {
    task: String,
    at: Option<Timestamp>,
}

const START: &str = "start";
const COMPLETE: &str = "complete";

impl Context for Schedules {
    fn name(&self) -> &'static str {
        CONTEXT
    }

    fn noun(&self) -> &'static str {
        "schedule"
    }

    fn events(&self) -> &'static str {
        TOPIC
    }

    fn scope(&self) -> Scope {
        Scope::SchedulesWrite
    }

    fn deleted(&self) -> &'static str {
        "the schedule was deleted"
    }

    fn is_deletion(&self, record: &str) -> bool {
        record == DELETED
    }

    fn check(&self, verb: &str, body: &[u8]) -> Result<(), Problem> {
        match verb {
            "create" => {
                let read = read_schedule(body).map_err(|error| not_json(&error))?;
                read.map(drop).map_err(invalid)
            }
            "replace" => read_revision(body).map(drop),
            "patch" => merge_patch(b"{}", body).map(drop).map_err(|error| not_json(&error)),
            _ => Ok(()),
        }
    }

    fn openapi(&self) -> Fragment {
        openapi_fragment!("schedules.openapi.json")
    }

    fn routes(&self, _options: &CommandApiOptions) -> Routes {
        Routes {
            shared: documents::routes(&Self),
            only_here: almanac_edge::Routes::new()
                .post("/v1/schedules/{id}/tasks/{task}/start", of_task(START))
                .post("/v1/schedules/{id}/tasks/{task}/complete", of_task(COMPLETE)),
        }
    }

    fn decide(
        &self,
        codec: &Codec,
        newest: Option<&Decoded<'_>>,
        command: &CommandRecord,
        now: Timestamp,
    ) -> Result<Decision, Undecided> {
        let known = known_of(self, newest, ScheduleEventRecord::knowledge)?;
        let id = &command.aggregate_id;
        let (wanted, revision) = self.wanted(command, known.as_ref())?;
        let creates = matches!(wanted, Command::Create { .. });
        let (caller, expected) = (caller_of(command), expected_of(command));
        let event = decide(known.as_ref(), wanted, &caller, &expected, now)
            .map_err(|refusal| self.refused(refusal))?;
        // Told last: who may not change it, or expects another version, is told that.
        let differing = revision.zip(known.as_ref());
        let differing = differing.map(|(revision, known)| revision.differences(id, known));
        if let Some(faults) = differing.filter(|faults| !faults.is_empty()) {
            return Err(invalid(faults).into());
        }
        let after = event.as_ref().map(|event| &event.after).or(known.as_ref());
        let after = after.ok_or_else(|| Undecided::refused(self, &Guarded::Unknown))?;
        let body = body_of(id, &after.standing(), || render_known_schedule(id, after));
        let (status, version) = (if creates { 201 } else { 200 }, after.version);
        let event = event.as_ref().map(|event| {
            Ok::<_, Undecided>(NewEvent {
                value: encode(codec, id, event)?,
                event_type: event_type(&event.fact),
                occurred_at: event.occurred_at,
                version: event.after.version,
            })
        });
        Ok(Decision { status, version, body, event: event.transpose()? })
    }
}

impl Schedules {
    /// Beside it, the revision that a body is.
    fn wanted(
        &self,
        command: &CommandRecord,
        known: Option<&Knowledge>,
    ) -> Result<(Command, Option<ScheduleRevision>), Undecided> {
        let body = command.body.as_deref().unwrap_or_default().as_bytes();
        let moment = || {
            let read =
                serde_json::from_slice(body).and_then(object::<serde_json::Value, TaskMoment>);
            read.map_err(|error| Problem::new(ProblemType::BadRequest, error.to_string()))
        };
        let wanted = match command.verb.as_str() {
            "create" => {
                let read = read_schedule(body).map_err(|error| not_json(&error))?;
                Command::Create { schedule: Box::new(read.map_err(invalid)?) }
            }
            "replace" => return Ok(revise(body)?),
            "patch" => {
                let known = known.ok_or_else(|| Undecided::refused(self, &Guarded::Unknown))?;
                let target = render_known_schedule(&command.aggregate_id, known);
                let merged = merge_patch(target.as_bytes(), body);
                let merged = merged.map_err(|error| not_json(&error))?;
                return Ok(revise(merged.as_bytes())?);
            }
            "delete" => Command::Delete,
            START => {
                let TaskMoment { task, at } = moment()?;
                Command::StartTask { task, at }
            }
            COMPLETE => {
                let TaskMoment { task, at } = moment()?;
                Command::CompleteTask { task, at }
            }
            other => return Err(Undecided::unknown_verb(self, other)),
        };
        Ok((wanted, None))
    }

    fn refused(&self, refusal: Refusal) -> Undecided {
        let kind = match &refusal {
            Refusal::Aggregate(refusal) => return Undecided::refused(self, refusal),
            Refusal::InFuture | Refusal::BeforeStart { .. } => {
                let (place, rule) = (vec!["at".to_owned()], refusal.to_string());
                return invalid(vec![Fault { place, rule }]).into();
            }
            Refusal::UnknownTask { .. } => ProblemType::NotFound,
            Refusal::DropsTask { .. }
            | Refusal::NotStarted { .. }
            | Refusal::Started { .. }
            | Refusal::Completed { .. } => ProblemType::Conflict,
        };
        Problem::new(kind, refusal.to_string()).into()
    }
}

fn revise(body: &[u8]) -> Result<(Command, Option<ScheduleRevision>), Problem> {
    let revision = read_revision(body)?;
    Ok((Command::Revise { schedule: Box::new(revision.schedule.clone()) }, Some(revision)))
}

fn read_revision(body: &[u8]) -> Result<ScheduleRevision, Problem> {
    read_schedule_revision(body).map_err(|error| not_json(&error))?.map_err(invalid)
}

type Task = Path<(String, String)>;

/// Starts or completes a task, at the time that the body says or now.
fn of_task(verb: &'static str) -> impl Fn(Api, Task, Request) -> Answer + Clone {
    move |State(api), Path((id, task)), request| {
        Box::pin(async move {
            let id = headers::id(&id, Schedules.noun())?;
            let asked = api.read_of(&Schedules, request, id, false).await?;
            let at =
                read_moment(&asked.body).map_err(|error| not_json(&error))?.map_err(invalid)?;
            let body = serde_json::to_string(&TaskMoment { task, at }).ok();
            api.write(&asked, Write { verb, id, body, attachment: None }).await
        })
    }
}

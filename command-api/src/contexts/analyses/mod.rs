//! Analyses: requested by somebody, worked on and ended by workers.

mod inputs;
mod routes;

use super::{Context, Decision, NewEvent, Routes, Undecided, caller_of, expected_of};
use crate::CommandApiOptions;
use almanac_domain::{
    aggregate::Refusal,
    analyses::{Command, Failure, Knowledge, Stage, State, WORKER, decide},
};
use almanac_edge::{Problem, ProblemType, Scope, openapi::Fragment, openapi_fragment};
use almanac_event_log::Retention;
use almanac_schemas::{
    Codec, Decoded,
    analyses::{
        AnalysisCompletedRecord, AnalysisEventRecord, AnalysisFailedRecord,
        AnalysisProgressedRecord, AnalysisRequestedRecord, CANCELLED, COMPLETED, CONTEXT, FAILED,
        INPUTS, TOPIC, encode, event_type,
    },
    commands::CommandRecord,
};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::json;

pub(crate) struct Analyses;

const REQUEST: &str = "request";
const CANCEL: &str = "cancel";

impl Context for Analyses {
    fn name(&self) -> &'static str {
        CONTEXT
    }

    fn noun(&self) -> &'static str {
        "analysis"
    }

    fn events(&self) -> &'static str {
        TOPIC
    }

    /// What results rest on is kept as long as they are.
    fn more_topics(&self) -> &'static [(&'static str, Retention)] {
        &[(INPUTS, Retention::Forever)]
    }

    fn scope(&self) -> Scope {
        Scope::AnalysesWrite
    }

    fn deleted(&self) -> &'static str {
        "the analysis was deleted"
    }

    /// They end, and stay.
    fn is_deletion(&self, _record: &str) -> bool {
        false
    }

    fn is_open(&self, record: &str) -> Option<bool> {
        Some(![COMPLETED, FAILED, CANCELLED].contains(&record))
    }

    fn openapi(&self) -> Fragment {
        openapi_fragment!("openapi.json")
    }

    fn routes(&self, options: &CommandApiOptions) -> Routes {
        routes::routes(options)
    }

    fn decide(
        &self,
        codec: &Codec,
        newest: Option<&Decoded<'_>>,
        command: &CommandRecord,
        now: Timestamp,
    ) -> Result<Decision, Undecided> {
        let known = self.known(newest)?;
        let wanted = self.wanted(command)?;
        let requests = matches!(wanted, Command::Request { .. });
        let (caller, expected) = (caller_of(command), expected_of(command));
        let event = decide(known.as_ref(), wanted, &caller, &expected, now)
            .map_err(|refusal| Undecided::refused(self, &refusal))?;
        let after = event.as_ref().map(|event| &event.after).or(known.as_ref());
        let after = after.ok_or_else(|| Undecided::refused(self, &Refusal::Unknown))?;
        let id = &command.aggregate_id;
        let body = body(id, after.state);
        let (status, version) = (if requests { 202 } else { 200 }, after.version);
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

/// What a write is answered with. Results are read elsewhere.
fn body(id: &str, state: State) -> String {
    let progress = match state {
        State::Running(stage) => stage.progress(),
        State::Completed => 1.0,
        State::Queued | State::Failed | State::Cancelled => 0.0,
    };
    json!({"request_id": id, "state": state.as_str(), "progress": progress}).to_string()
}

impl Analyses {
    fn known(&self, newest: Option<&Decoded<'_>>) -> Result<Option<Knowledge>, Undecided> {
        let Some(newest) = newest else { return Ok(None) };
        let read = AnalysisEventRecord::read(newest);
        let read = read.map_err(|error| Undecided::Unreadable(error.into()))?;
        match read.and_then(|event| event.knowledge()) {
            Some(known) => Ok(Some(known)),
            None => Err(Undecided::unreadable(self, newest.record())),
        }
    }

    fn wanted(&self, command: &CommandRecord) -> Result<Command, Undecided> {
        Ok(match command.verb.as_str() {
            REQUEST => {
                let record: AnalysisRequestedRecord = read(command)?;
                let request = Box::new(record.to_domain().ok_or_else(unreadable)?);
                // Workers ask for others; everybody else for himself.
                let owner = (command.caller == WORKER).then_some(record.owner);
                Command::Request { request, owner }
            }
            "progress" => {
                let record: AnalysisProgressedRecord = read(command)?;
                let stage = Stage::parse(&record.stage).ok_or_else(unreadable)?;
                Command::Progress { stage }
            }
            "complete" => {
                let record: AnalysisCompletedRecord = read(command)?;
                let outcome = Box::new(record.to_domain().ok_or_else(unreadable)?);
                Command::Complete { outcome }
            }
            "fail" => {
                let AnalysisFailedRecord { code, detail, .. } = read(command)?;
                Command::Fail { failure: Failure { code, detail } }
            }
            CANCEL => Command::Cancel,
            other => return Err(Undecided::unknown_verb(self, other)),
        })
    }
}

fn read<T: DeserializeOwned>(command: &CommandRecord) -> Result<T, Problem> {
    let body = command.body.as_deref().unwrap_or_default();
    serde_json::from_str(body)
        .map_err(|error| Problem::new(ProblemType::BadRequest, error.to_string()))
}

fn unreadable() -> Problem {
    let detail = "the command says what no analysis can be";
    Problem::new(ProblemType::BadRequest, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use almanac_domain::{
        analyses::{Origin, Request, Subject},
        weather::Options,
    };
    use almanac_schemas::{BuiltInRegistry, analyses::AnalysisHead};
    use bytes::Bytes;
    use std::sync::Arc;

    fn command(verb: &str, caller: &str, body: String) -> CommandRecord {
        CommandRecord {
            request_id: "r".to_owned(),
            outcome_id: "r".to_owned(),
            context: CONTEXT.to_owned(),
            aggregate_id: "0198c5a0-0000-7000-8000-000000000002".to_owned(),
            verb: verb.to_owned(),
            caller: caller.to_owned(),
            is_admin: caller == "admin",
            issued_at: 0,
            deadline: 0,
            expected: None,
            fingerprint: String::new(),
            body: Some(body),
            attachment: None,
        }
    }

    fn request(owner: &str) -> String {
        let request = Request {
            subject: Subject::Stored("s".to_owned()),
            input: None,
            sources: Vec::new(),
            options: Options::default(),
            origin: Origin::Repeat,
        };
        let head = AnalysisHead { owner: owner.to_owned(), ..AnalysisHead::default() };
        serde_json::to_string(&AnalysisRequestedRecord::from_domain(head, &request)).unwrap()
    }

    async fn decided(
        codec: &Codec,
        newest: Option<&Bytes>,
        command: &CommandRecord,
    ) -> Result<Decision, u16> {
        let decoded = match newest {
            Some(value) => Some(codec.decode(value).await.unwrap()),
            None => None,
        };
        let now = Timestamp::UNIX_EPOCH;
        match Analyses.decide(codec, decoded.as_ref(), command, now) {
            Ok(decision) => Ok(decision),
            Err(Undecided::Refused { problem, .. }) => Err(problem.status().as_u16()),
            Err(_) => Err(0),
        }
    }

    #[tokio::test]
    async fn commands_become_events() {
        let codec = Codec::new(Arc::new(BuiltInRegistry)).await.unwrap();
        let requested = command(REQUEST, WORKER, request("mary"));
        let made = decided(&codec, None, &requested).await.unwrap_or_else(|_| panic!());
        assert_eq!((made.status, made.version), (202, 1));
        assert!(made.body.contains(r#""state":"queued""#), "{}", made.body);
        let event = made.event.unwrap();
        assert_eq!(event.event_type, "analysis.requested");
        // Whose it is: the schedule's owner's; of what somebody asks for, the caller's own.
        let cancelled = command(CANCEL, "mary", String::new());
        let made = decided(&codec, Some(&event.value), &cancelled).await;
        let made = made.unwrap_or_else(|_| panic!());
        assert_eq!((made.status, made.event.unwrap().event_type), (200, "analysis.cancelled"));
        let tom = command(CANCEL, "tom", String::new());
        assert_eq!(decided(&codec, Some(&event.value), &tom).await.err(), Some(403));
        let forged = command(REQUEST, "tom", request("mary"));
        let made = decided(&codec, None, &forged).await.unwrap_or_else(|_| panic!());
        let event = made.event.unwrap().value;
        let by_mary = decided(&codec, Some(&event), &cancelled).await;
        assert_eq!(by_mary.err(), Some(403), "it is Tom's");
    }

    #[tokio::test]
    async fn only_workers_tell_results() {
        let reserved = almanac_edge::identity::RESERVED;
        assert!(WORKER.starts_with(reserved), "a token could have it as its subject");
        let codec = Codec::new(Arc::new(BuiltInRegistry)).await.unwrap();
        let made = decided(&codec, None, &command(REQUEST, "mary", request(""))).await;
        let event = made.unwrap_or_else(|_| panic!()).event.unwrap().value;
        let failed = AnalysisFailedRecord {
            code: "no_forecast".to_owned(),
            detail: "none".to_owned(),
            ..AnalysisFailedRecord::default()
        };
        let body = serde_json::to_string(&failed).unwrap();
        for (caller, status) in [("mary", 403), ("admin", 403)] {
            let told = command("fail", caller, body.clone());
            assert_eq!(decided(&codec, Some(&event), &told).await.err(), Some(status));
        }
        let told = command("fail", WORKER, body);
        let made = decided(&codec, Some(&event), &told).await.unwrap_or_else(|_| panic!());
        let ended = made.event.unwrap().value;
        let made = decided(&codec, Some(&ended), &told).await.unwrap_or_else(|_| panic!());
        assert!(made.event.is_none() && made.status == 200, "it has ended");
        let odd = command("complete", WORKER, "{}".to_owned());
        assert_eq!(decided(&codec, Some(&event), &odd).await.err(), Some(400));
        let odd = command("bake", WORKER, "{}".to_owned());
        assert_eq!(decided(&codec, Some(&event), &odd).await.err(), Some(400));
    }
}

//! The context, as a file of `command-api/src/contexts/` declares it.

use crate::{
    record::{CONTEXT, GreetingMadeRecord, MADE, TOPIC},
    rules::{Greeting, decide},
};
use almanac_command_api::{
    CommandApi, CommandApiOptions,
    contexts::{Context, Decision, NewEvent, Routes, Undecided, expected_of, known_of},
    documents,
};
use almanac_edge::{Problem, ProblemType, Scope, openapi::Fragment, openapi_fragment};
use almanac_schemas::{Codec, Decoded, commands::CommandRecord};
use axum::{
    extract::{Request, State},
    response::Response,
};
use jiff::Timestamp;
use serde::Deserialize;
use std::sync::Arc;

pub(crate) struct Greetings;

#[derive(Deserialize)]
struct Body {
    text: String,
}

impl Context for Greetings {
    fn name(&self) -> &'static str {
        CONTEXT
    }

    fn noun(&self) -> &'static str {
        "greeting"
    }

    fn events(&self) -> &'static str {
        TOPIC
    }

    fn scope(&self) -> Scope {
        Scope::SchedulesWrite
    }

    fn deleted(&self) -> &'static str {
        "the greeting was deleted"
    }

    fn is_deletion(&self, _record: &str) -> bool {
        false
    }

    fn openapi(&self) -> Fragment {
        openapi_fragment!("context.openapi.json")
    }

    fn routes(&self, _options: &CommandApiOptions) -> Routes {
        let shared = almanac_edge::Routes::new().post("/v1/greetings", create);
        Routes { shared, ..Routes::default() }
    }

    fn decide(
        &self,
        codec: &Codec,
        newest: Option<&Decoded<'_>>,
        command: &CommandRecord,
        now: Timestamp,
    ) -> Result<Decision, Undecided> {
        let known = known_of(self, newest, GreetingMadeRecord::greeting)?;
        if command.verb != "create" {
            return Err(Undecided::unknown_verb(self, &command.verb));
        }
        let read = serde_json::from_str(command.body.as_deref().unwrap_or_default());
        let Body { text } =
            read.map_err(|error| Problem::new(ProblemType::BadRequest, error.to_string()))?;
        let wanted = Greeting { owner: command.caller.clone(), text };
        let made = decide(known.as_ref(), wanted, &expected_of(command))
            .map_err(|refusal| Undecided::refused(self, &refusal))?;
        let (id, version) = (command.aggregate_id.clone(), 1);
        let event = GreetingMadeRecord { id, version, owner: made.owner, text: made.text };
        let value = codec.encode(MADE, &event)?;
        let new = NewEvent { value, event_type: "greeting.made", occurred_at: now, version: 1 };
        Ok(Decision { status: 201, version: 1, body: event.body(), event: Some(new) })
    }
}

async fn create(State(api): State<Arc<CommandApi>>, request: Request) -> Result<Response, Problem> {
    documents::create(&api, &Greetings, request).await
}

//! Subscriptions: who is told of which events. Their secrets are sealed before they become a command.

mod resend;

use super::{
    Context, Decision, NewEvent, Routes, Undecided, body_of, caller_of, expected_of, invalid,
    known_of, not_json,
};
use crate::{
    CommandApiOptions, documents,
    write::{CommandApi, Write},
};
use almanac_domain::{
    aggregate::Refusal,
    subscriptions::{Command, Subscription, decide},
};
use almanac_edge::{Problem, ProblemType, Scope, openapi::Fragment, openapi_fragment};
use almanac_schemas::{
    Codec, Decoded,
    commands::CommandRecord,
    json::subscriptions,
    notifications::told_types,
    subscriptions::{
        CONTEXT, CREATED, DELETED, SubscriptionEventRecord, TOPIC, encode, event_type,
    },
};
use axum::{
    extract::{Request, State},
    response::Response,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

pub(crate) struct Subscriptions;

/// The body of a command to create one.
#[derive(Serialize, Deserialize)]
struct Creation {
    types: Vec<String>,
    subject: Option<String>,
    url: String,
    #[serde(with = "serde_bytes")]
    sealed: Vec<u8>,
}

/// The body of a command to disable one.
#[derive(Serialize, Deserialize)]
struct Disabling {
    reason: String,
}

impl Context for Subscriptions {
    fn name(&self) -> &'static str {
        CONTEXT
    }

    fn noun(&self) -> &'static str {
        "subscription"
    }

    fn events(&self) -> &'static str {
        TOPIC
    }

    fn scope(&self) -> Scope {
        Scope::SubscriptionsWrite
    }

    fn deleted(&self) -> &'static str {
        "the subscription was deleted"
    }

    fn is_deletion(&self, record: &str) -> bool {
        record == DELETED
    }

    fn openapi(&self) -> Fragment {
        openapi_fragment!("openapi.json")
    }

    /// Nothing is sent any more for one that was disabled.
    fn is_open(&self, record: &str) -> Option<bool> {
        Some(record == CREATED)
    }

    fn standings_version(&self) -> u32 {
        2
    }

    fn routes(&self, _options: &CommandApiOptions) -> Routes {
        let shared = almanac_edge::Routes::new()
            .post("/v1/subscriptions", create)
            .delete("/v1/subscriptions/{id}", documents::act(&Self, "delete", false));
        let only_here = almanac_edge::Routes::new()
            .post("/v1/subscriptions/{id}/deliveries/{delivery}/resend", resend::resend);
        Routes { shared, only_here }
    }

    fn decide(
        &self,
        codec: &Codec,
        newest: Option<&Decoded<'_>>,
        command: &CommandRecord,
        now: Timestamp,
    ) -> Result<Decision, Undecided> {
        let known = known_of(self, newest, SubscriptionEventRecord::knowledge)?;
        let id = &command.aggregate_id;
        let wanted = self.wanted(command)?;
        let creates = matches!(wanted, Command::Create { .. });
        let (caller, expected) = (caller_of(command), expected_of(command));
        let event = decide(known.as_ref(), wanted, &caller, &expected, now)
            .map_err(|refusal| Undecided::refused(self, &refusal))?;
        let after = event.as_ref().map(|event| &event.after).or(known.as_ref());
        let after = after.ok_or_else(|| Undecided::refused(self, &Refusal::Unknown))?;
        let body = body_of(id, &after.standing(), || subscriptions::render(id, after));
        let (status, version) = (if creates { 201 } else { 200 }, after.version);
        let event = event.as_ref().map(|event| {
            Ok::<_, Undecided>(NewEvent {
                value: encode(codec, id, event)?,
                event_type: event_type(event.fact),
                occurred_at: event.occurred_at,
                version: event.after.version,
            })
        });
        Ok(Decision { status, version, body, event: event.transpose()? })
    }
}

impl Subscriptions {
    fn wanted(&self, command: &CommandRecord) -> Result<Command, Undecided> {
        let body = command.body.as_deref().unwrap_or_default();
        let bad =
            |error: serde_json::Error| Problem::new(ProblemType::BadRequest, error.to_string());
        match command.verb.as_str() {
            "create" => {
                let Creation { types, subject, url, sealed } =
                    serde_json::from_str(body).map_err(bad)?;
                let subscription = Box::new(Subscription { types, subject, url });
                Ok(Command::Create { subscription, sealed })
            }
            "delete" => Ok(Command::Delete),
            "disable" => {
                let Disabling { reason } = serde_json::from_str(body).map_err(bad)?;
                Ok(Command::Disable { reason })
            }
            other => Err(Undecided::unknown_verb(self, other)),
        }
    }
}

async fn create(State(api): State<Arc<CommandApi>>, request: Request) -> Result<Response, Problem> {
    let mut asked =
        api.body(api.head(&Subscriptions, request)?, api.options.max_body_bytes).await?;
    let notifications = &api.options.notifications;
    let read = subscriptions::read(&asked.body, &told_types(), notifications.reach);
    let (subscription, secret) = read.map_err(|error| not_json(&error))?.map_err(invalid)?;
    let Some(sealing) = &notifications.sealing else {
        let detail =
            "this server has no key to keep secrets under; notifications.key_file names it";
        return Err(Problem::new(ProblemType::Unavailable, detail));
    };
    let id = asked.new_id()?;
    let sealed = sealing.seal(&secret.0, id.to_string().as_bytes());
    let sealed = sealed.map_err(|error| Problem::internal(&error))?;
    // Neither the secret nor what it could be found from is written to the log.
    let stand_in = sealing.stand_in(&secret.0).map_err(|error| Problem::internal(&error))?;
    let Subscription { types, subject, url } = subscription;
    let mut creation = Creation { types, subject, url, sealed: stand_in };
    asked.stands_for_body(serde_json::to_vec(&creation).unwrap_or_default());
    creation.sealed = sealed;
    let body = serde_json::to_string(&creation).ok();
    api.write(&asked, Write { verb: "create", id, body, attachment: None }).await
}

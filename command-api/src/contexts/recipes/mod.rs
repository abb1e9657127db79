//! Recipes: documents with a picture.

mod routes;
mod thumbnail;

use super::{
    Context, Decision, NewEvent, Routes, Undecided, body_of, caller_of, expected_of, invalid,
    known_of, not_json,
};
use crate::CommandApiOptions;
use almanac_domain::{
    aggregate::Refusal,
    recipes::{Command, Knowledge, decide},
};
use almanac_edge::{Problem, ProblemType, Scope, openapi::Fragment, openapi_fragment};
use almanac_schemas::{
    Codec, Decoded,
    commands::CommandRecord,
    json::{self, ServerMade, merge_patch, schema_org},
    recipes::{CONTEXT, DELETED, RecipeEventRecord, TOPIC, encode, event_type},
};
use jiff::Timestamp;

pub(crate) struct Recipes;

impl Context for Recipes {
    fn name(&self) -> &'static str {
        CONTEXT
    }

    fn noun(&self) -> &'static str {
        "recipe"
    }

    fn events(&self) -> &'static str {
        TOPIC
    }

    fn scope(&self) -> Scope {
        Scope::RecipesWrite
    }

    fn deleted(&self) -> &'static str {
        "the recipe was deleted; restoring it undoes that"
    }

    fn is_deletion(&self, record: &str) -> bool {
        record == DELETED
    }

    fn translated(&self, media_type: &str, body: &[u8]) -> Option<Result<String, Problem>> {
        (media_type == schema_org::MEDIA_TYPE).then(|| {
            let recipe = schema_org::read(body).map_err(|error| not_json(&error))?;
            Ok(json::recipes::body(&recipe.map_err(invalid)?))
        })
    }

    fn check(&self, verb: &str, body: &[u8]) -> Result<(), Problem> {
        match verb {
            "create" => read_new(body).map(drop),
            "replace" => read_revision(body).map(drop),
            "patch" => merge_patch(b"{}", body).map(drop).map_err(|error| not_json(&error)),
            _ => Ok(()),
        }
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
        let known = known_of(self, newest, RecipeEventRecord::knowledge)?;
        let id = &command.aggregate_id;
        let (wanted, server_made) = self.wanted(command, known.as_ref())?;
        let creates = matches!(wanted, Command::Create { .. });
        let (caller, expected) = (caller_of(command), expected_of(command));
        let event = decide(known.as_ref(), wanted, &caller, &expected, now)
            .map_err(|refusal| Undecided::refused(self, &refusal))?;
        // Told last: who may not change it, or expects another version, is told that.
        let rendered = known.as_ref().filter(|_| !server_made.is_empty());
        let rendered = rendered.map(|known| json::recipes::render(id, known));
        let differing = rendered.map(|rendered| server_made.differences(&rendered));
        if let Some(faults) = differing.filter(|faults| !faults.is_empty()) {
            return Err(invalid(faults).into());
        }
        let after = event.as_ref().map(|event| &event.after).or(known.as_ref());
        let after = after.ok_or_else(|| Undecided::refused(self, &Refusal::Unknown))?;
        let body = body_of(id, &after.standing(), || json::recipes::render(id, after));
        let (status, version) = (if creates { 201 } else { 200 }, after.version);
        let event = event.as_ref().map(|event| {
            let picture = thumbnail::of_command(command);
            Ok::<_, Undecided>(NewEvent {
                value: encode(codec, id, event, picture.as_ref())?,
                event_type: event_type(&event.fact),
                occurred_at: event.occurred_at,
                version: event.after.version,
            })
        });
        Ok(Decision { status, version, body, event: event.transpose()? })
    }
}

impl Recipes {
    /// Beside it, what the body says of what the server makes.
    fn wanted(
        &self,
        command: &CommandRecord,
        known: Option<&Knowledge>,
    ) -> Result<(Command, ServerMade), Undecided> {
        let body = command.body.as_deref().unwrap_or_default().as_bytes();
        let wanted = match command.verb.as_str() {
            "create" => Command::Create { recipe: Box::new(read_new(body)?) },
            "replace" => return Ok(revise(body)?),
            "patch" => {
                let known = known.ok_or_else(|| Undecided::refused(self, &Refusal::Unknown))?;
                let target = json::recipes::render(&command.aggregate_id, known);
                let merged = merge_patch(target.as_bytes(), body);
                let merged = merged.map_err(|error| not_json(&error))?;
                return Ok(revise(merged.as_bytes())?);
            }
            "delete" => Command::Delete,
            "restore" => Command::Restore,
            "thumbnail" => match thumbnail::of_command(command) {
                Some(picture) => Command::SetThumbnail { hash: picture.hash() },
                None => {
                    let detail = "the command has no picture";
                    return Err(Problem::new(ProblemType::BadRequest, detail).into());
                }
            },
            "remove_thumbnail" => Command::RemoveThumbnail,
            other => return Err(Undecided::unknown_verb(self, other)),
        };
        Ok((wanted, ServerMade::default()))
    }
}

fn revise(body: &[u8]) -> Result<(Command, ServerMade), Problem> {
    let (recipe, server_made) = read_revision(body)?;
    Ok((Command::Revise { recipe: Box::new(recipe) }, server_made))
}

/// A recipe from a request's body, or the problem that names all its faults.
fn read_new(body: &[u8]) -> Result<almanac_domain::recipes::Recipe, Problem> {
    json::recipes::read(body).map_err(|error| not_json(&error))?.map_err(invalid)
}

/// The same from the body of a recipe that there is, beside what it says of what the server makes.
fn read_revision(body: &[u8]) -> Result<(almanac_domain::recipes::Recipe, ServerMade), Problem> {
    json::recipes::read_revision(body).map_err(|error| not_json(&error))?.map_err(invalid)
}

//! Writes of aggregates that are documents: created, replaced, patched and deleted whole.

use crate::{
    contexts::Context,
    headers,
    write::{Asked, CommandApi, Write, text_of},
};
use almanac_edge::Problem;
use axum::{
    extract::{Path, Request, State},
    response::Response,
};
use futures::future::BoxFuture;
use http::{Method, header};
use std::sync::Arc;

pub type Api = State<Arc<CommandApi>>;
pub type Answer = BoxFuture<'static, Result<Response, Problem>>;

/// `POST` to the collection; `PUT`, `PATCH` and `DELETE` of one.
pub fn routes(context: &'static dyn Context) -> almanac_edge::Routes<Arc<CommandApi>> {
    let name = context.name();
    let creates = move |State(api): Api, request: Request| async move {
        create(&api, context, request).await
    };
    let changes = move |State(api): Api, Path(id): Path<String>, request: Request| async move {
        change(&api, context, &id, request).await
    };
    let one = format!("/v1/{name}/{{id}}");
    almanac_edge::Routes::new()
        .post(&format!("/v1/{name}"), creates)
        .put(&one, changes)
        .patch(&one, changes)
        .delete(&one, changes)
}

/// Something that is done to one of them, without a body that matters.
pub fn act(
    context: &'static dyn Context,
    verb: &'static str,
    restores: bool,
) -> impl Fn(Api, Path<String>, Request) -> Answer + Clone {
    move |State(api), Path(id), request| {
        Box::pin(async move {
            let id = headers::id(&id, context.noun())?;
            let asked = api.read_of(context, request, id, restores).await?;
            api.write(&asked, Write { verb, id, body: None, attachment: None }).await
        })
    }
}

pub async fn create(
    api: &CommandApi,
    context: &'static dyn Context,
    request: Request,
) -> Result<Response, Problem> {
    let asked = api.body(api.head(context, request)?, api.options.max_body_bytes).await?;
    let body = document(context, "create", &asked)?;
    let id = asked.new_id()?;
    api.write(&asked, Write { verb: "create", id, body, attachment: None }).await
}

pub(crate) async fn change(
    api: &CommandApi,
    context: &'static dyn Context,
    id: &str,
    request: Request,
) -> Result<Response, Problem> {
    let id = headers::id(id, context.noun())?;
    let asked = api.read_of(context, request, id, false).await?;
    let verb = match asked.method {
        Method::PUT => "replace",
        Method::PATCH => "patch",
        _ => "delete",
    };
    let body = document(context, verb, &asked)?;
    api.write(&asked, Write { verb, id, body, attachment: None }).await
}

/// The body that the command carries, checked.
fn document(
    context: &'static dyn Context,
    verb: &str,
    asked: &Asked,
) -> Result<Option<String>, Problem> {
    let media_type = asked.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let media_type = media_type.and_then(|kind| kind.split(';').next()).unwrap_or_default();
    let media_type = media_type.trim().to_ascii_lowercase();
    let translated = context.translated(&media_type, &asked.body).transpose()?;
    context.check(verb, translated.as_deref().map_or(&*asked.body, str::as_bytes))?;
    translated.map_or_else(|| text_of(&asked.body), |body| Ok(Some(body)))
}

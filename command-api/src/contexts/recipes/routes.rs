//! The addresses at which recipes are written.

use super::{Recipes, thumbnail};
use crate::{
    CommandApiOptions,
    contexts::Routes,
    documents::{self, act},
    headers, picture,
    write::{CommandApi, Write},
};
use almanac_edge::{Problem, ProblemType, Turns, prefer::Preference};
use almanac_errors::chain;
use axum::{
    Extension,
    extract::{Path, Request, State},
    response::Response,
    routing::put,
};
use http::{Method, header};
use std::sync::Arc;

const THUMBNAIL: &str = "/v1/recipes/{id}/thumbnail";

pub(super) fn routes(options: &CommandApiOptions) -> Routes {
    let refusal = "too many pictures are being decoded";
    let decoding = Turns::new(options.pictures, options.waiting_pictures, refusal);
    let thumbnail = put(set_thumbnail).layer(Extension(Arc::new(decoding)));
    Routes {
        shared: documents::routes(&Recipes)
            .route(&[Method::PUT], THUMBNAIL, thumbnail)
            .delete(THUMBNAIL, act(&Recipes, "remove_thumbnail", false)),
        only_here: almanac_edge::Routes::new()
            .post("/v1/recipes/{id}/restore", act(&Recipes, "restore", true)),
    }
}

async fn set_thumbnail(
    State(api): State<Arc<CommandApi>>,
    Extension(decoding): Extension<Arc<Turns>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let id = headers::id(&id, "recipe")?;
    let head = api.head(&Recipes, request)?;
    let declared = head.headers.get(header::CONTENT_TYPE);
    let declared = match picture::declared(declared.and_then(|value| value.to_str().ok())) {
        Ok(declared) => declared,
        Err(problem) => return Err(head.refused(problem).await),
    };
    let head = api.permitted(head, id, false).await?;
    let asked = api.body(head, picture::MAX_UPLOAD).await?;
    let wait = Preference::read(&asked.headers).wait.unwrap_or(api.options.wait);
    let turn = decoding.take(wait).await?;
    let body = asked.body.clone();
    let prepared = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        picture::prepare(declared, &body)
    });
    let picture = prepared.await.map_err(|error| {
        // A decoder that stumbles over a picture is no reason to send it again.
        tracing::error!(error = %chain(&error), "a picture could not be decoded");
        Problem::new(ProblemType::Invalid, "the picture cannot be decoded")
    })??;
    let body = Some(thumbnail::body(&picture));
    api.write(&asked, Write { verb: "thumbnail", id, body, attachment: Some(picture.image) }).await
}

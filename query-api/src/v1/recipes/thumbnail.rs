//! A recipe's picture, as it is or smaller.

use super::Recipes;
use super::{
    access::allowed,
    missing, parse_id,
    pictures::{Key, Small},
};
use crate::v1::store_problem;
use almanac_edge::{
    Problem, ProblemType, conditional,
    query::{Parameters, bad},
};
use almanac_errors::Words;
use almanac_schemas::{json, recipes::Picture};
use almanac_tables::recipes::THUMBNAIL;
use axum::{
    body::Body,
    extract::{Path, RawQuery, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use std::sync::Arc;

/// Widths that pictures are made in: the next one above what is asked for.
const WIDTHS: [u32; 5] = [64, 128, 256, 512, 1_024];
/// All that are kept are.
const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("image/jpeg");

pub(crate) async fn thumbnail(
    State(state): State<Arc<Recipes>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let parameters = Parameters::parse(query.as_deref(), &["width", "v"])?;
    let width = match parameters.one("width")? {
        None => None,
        Some(text) => match text.parse() {
            Ok(width @ 1..=1_024_u32) => WIDTHS.into_iter().find(|one| *one >= width),
            _ => return Err(bad("width", "it must be a number of pixels from 1 to 1024")),
        },
    };
    let id = parse_id(&id)?;
    let document = state.cache.document(&state, id).await?.ok_or_else(missing)?;
    let access = allowed(&state, &document, &headers)?;
    let hash = document.thumbnail().ok_or_else(none)?;
    let tag_of = |hash: &str| match width {
        Some(width) => format!("\"{hash}-{width}\""),
        None => format!("\"{hash}\""),
    };
    let (hash, mut response) = if conditional::matches(&headers, &tag_of(hash)) {
        (hash.into(), StatusCode::NOT_MODIFIED.into_response())
    } else {
        let load = load(state.clone(), id.to_string());
        let Small { hash, image } = match width {
            Some(width) => {
                let key = Key { hash: hash.into(), width };
                state.pictures.small(key, state.options.wait, load).await?
            }
            None => {
                let picture = load.await?;
                Small { hash: picture.hash().into(), image: picture.image.into() }
            }
        };
        let mut response = Response::new(Body::from(image));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, CONTENT_TYPE);
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        (hash, response)
    };
    // The address that the recipe gives names this very picture; the bare one may show another in a
    // while, and one of a picture before shows what is there now, which nobody may keep for it.
    let caching = match parameters.one("v")? {
        Some(wanted) if *wanted == *hash => "public, max-age=31536000, immutable",
        Some(_) => "no-cache",
        None => "public, max-age=300",
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    if let Ok(tag) = HeaderValue::try_from(tag_of(&hash)) {
        headers.insert(header::ETAG, tag);
    }
    Ok(access.applied(response))
}

fn none() -> Problem {
    Problem::new(ProblemType::NotFound, "the recipe has no picture")
}

async fn load(state: Arc<Recipes>, id: String) -> Result<Picture, Problem> {
    let row = state.store.get(&state.tables.thumbnails, &id, THUMBNAIL).await;
    // What the recipe says may be a moment older: rows of pictures are written first.
    let row = row.map_err(|error| store_problem(&error))?.ok_or_else(none)?;
    let picture = std::str::from_utf8(&row.body).ok().and_then(json::thumbnail::read);
    picture.ok_or_else(|| {
        Problem::internal(&Words::from(format!("the picture of recipe {id} is damaged")))
    })
}

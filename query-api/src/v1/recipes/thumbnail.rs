//! A recipe's picture, as it is or smaller.

use super::{missing, parse_id, served};
use crate::{state::ApiState, v1::store_problem};
use almanac_edge::{
    Problem, ProblemType, conditional,
    query::{Parameters, bad},
};
use almanac_projector::recipes::THUMBNAIL;
use almanac_schemas::{json, recipes::Picture};
use axum::{
    body::Body,
    extract::{Path, RawQuery, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use image::{DynamicImage, ImageFormat, codecs::jpeg::JpegEncoder, imageops::FilterType};
use std::sync::Arc;

/// Widths that pictures are made in: the next one above what is asked for.
const WIDTHS: [u32; 5] = [64, 128, 256, 512, 1_024];
const QUALITY: u8 = 82;

pub(crate) async fn thumbnail(
    State(state): State<Arc<ApiState>>,
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
    let document = served(state.recipe_cache.document(&state, id).await?)?;
    let hash = document
        .thumbnail()
        .ok_or_else(|| Problem::new(ProblemType::NotFound, "the recipe has no picture"))?;
    let tag = match width {
        Some(width) => format!("\"{hash}-{width}\""),
        None => format!("\"{hash}\""),
    };
    let mut response = if conditional::matches(&headers, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let picture = load(&state, &id.to_string()).await?;
        let kind = HeaderValue::try_from(&picture.content_type);
        let image = resized(&state, picture, width).await?;
        let mut response = Response::new(Body::from(image));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, kind.map_err(|error| Problem::internal(&error))?);
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    };
    // The address that the recipe gives names this very picture; the bare one may show another.
    let caching = match parameters.one("v")? == Some(hash) {
        true => "public, max-age=31536000, immutable",
        false => "public, max-age=300",
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(header::ETAG, tag);
    }
    Ok(response)
}

async fn load(state: &ApiState, id: &str) -> Result<Picture, Problem> {
    let row = state.store.get(&state.recipes.thumbnails, id, THUMBNAIL).await;
    let row = row.map_err(|error| store_problem(&error))?.ok_or_else(missing)?;
    let picture = std::str::from_utf8(&row.body).ok().and_then(json::thumbnail::read);
    picture.ok_or_else(|| Problem::internal(&format!("the picture of recipe {id} is damaged")))
}

/// Never larger than it is. Making it smaller takes a processor: few at the same time.
async fn resized(
    state: &ApiState,
    picture: Picture,
    width: Option<u32>,
) -> Result<Vec<u8>, Problem> {
    let Some(width) = width.filter(|width| *width < picture.width) else {
        return Ok(picture.image);
    };
    let turn = state.resizing.clone().acquire_owned().await;
    let turn = turn.map_err(|error| Problem::internal(&error))?;
    let small = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        resize(&picture.image, width)
    });
    let small = small.await.map_err(|error| Problem::internal(&error))?;
    small.map_err(|error| Problem::internal(&error))
}

fn resize(image: &[u8], width: u32) -> image::ImageResult<Vec<u8>> {
    let whole: DynamicImage = image::load_from_memory_with_format(image, ImageFormat::Jpeg)?;
    let small = whole.resize(width, u32::MAX, FilterType::CatmullRom);
    let mut bytes = Vec::new();
    small.to_rgb8().write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, QUALITY))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_keep_their_shape() {
        let whole = image::RgbImage::from_pixel(1_024, 300, image::Rgb([200, 10, 10]));
        let mut bytes = Vec::new();
        whole.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, 90)).unwrap();
        let small = resize(&bytes, 256).unwrap();
        let read = image::load_from_memory(&small).unwrap();
        assert_eq!((read.width(), read.height()), (256, 75));
        assert!(resize(b"x", 64).is_err());
    }
}

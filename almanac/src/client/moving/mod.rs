//! `almanac export` and `almanac import`: an installation as files, and back.

pub(super) mod certified;
mod container;
pub(crate) mod export;
pub(crate) mod import;
mod manifest;
mod mapping;
mod parts;

use super::Exit;
use reqwest::StatusCode;

/// Whether the server refuses something for what it is, with another status than these.
fn is_refused(error: &anyhow::Error, but: &[StatusCode]) -> bool {
    let is_it = |text: &str| but.iter().any(|status| text.starts_with(status.as_str()));
    matches!(error.downcast_ref(), Some(Exit::Refused(text)) if !is_it(text))
}

//! Properties of a recipe that the server makes, in what clients send.

use super::{canonical, recipes::render, walk::Object};
use almanac_domain::{Fault, recipes::Knowledge};
use jiff::Timestamp;
use serde_json::value::RawValue;
use uuid::Uuid;

pub(super) const SERVER_MADE: [&str; 5] =
    ["id", "version", "created_at", "updated_at", "thumbnail"];

/// What a body says of the properties that the server makes, as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerMade(Vec<(&'static str, String)>);

impl ServerMade {
    pub(super) fn of(object: &Object<'_>) -> Self {
        let said = SERVER_MADE.into_iter().filter_map(|name| {
            let raw = object.get(name)?;
            Some((name, raw.get().to_owned()))
        });
        Self(said.collect())
    }

    /// Where it says another thing than what is so: nobody but the server changes that.
    pub fn differences(&self, id: &str, known: &Knowledge) -> Vec<Fault> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let rendered = render(id, known);
        let Ok(so) = serde_json::from_str::<Object<'_>>(&rendered) else { return Vec::new() };
        let differs = |(name, said): &&(&'static str, String)| {
            so.get(name).is_none_or(|so| !says_the_same(name, said, so.get()))
        };
        let fault = |(name, _): &(&'static str, String)| {
            let so = so.get(name).map_or("null", RawValue::get);
            let rule = format!("the server makes it, and it is {so}; leave it out or as it is");
            Fault { place: vec![(*name).to_owned()], rule }
        };
        self.0.iter().filter(differs).map(fault).collect()
    }
}

/// Ids and times may be written in other ways.
fn says_the_same(name: &str, said: &str, so: &str) -> bool {
    fn both<T: PartialEq>(said: &str, so: &str, read: impl Fn(&str) -> Option<T>) -> bool {
        let text = |json: &str| serde_json::from_str::<String>(json).ok();
        let (said, so) =
            (text(said).and_then(|text| read(&text)), text(so).and_then(|so| read(&so)));
        said.is_some() && said == so
    }
    match name {
        "id" => both(said, so, |text| text.parse::<Uuid>().ok()),
        "created_at" | "updated_at" => both(said, so, |text| text.parse::<Timestamp>().ok()),
        _ => canonical(said.as_bytes()) == canonical(so.as_bytes()),
    }
}

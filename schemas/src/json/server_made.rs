//! Properties that the server makes, in what clients send.

use super::{canonical, walk::Object};
use almanac_domain::Fault;
use jiff::Timestamp;
use uuid::Uuid;

/// What a body says of the properties that the server makes, as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerMade(Vec<(Vec<String>, String)>);

impl ServerMade {
    /// What an object at a place says of the properties with these names.
    pub(super) fn take(&mut self, place: &[&str], object: &Object<'_>, names: &[&str]) {
        for name in names {
            if let Some(raw) = object.get(name) {
                let place = place.iter().chain([name]).map(|part| (*part).to_owned());
                self.0.push((place.collect(), raw.get().to_owned()));
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where it says another thing than `rendered`, which is what the server says: nobody else changes
    /// that.
    pub fn differences(&self, rendered: &str) -> Vec<Fault> {
        let Ok(so) = serde_json::from_str::<Object<'_>>(rendered) else { return Vec::new() };
        self.differences_from(|place| match place {
            [name] => so.get(name).map(|so| so.get().to_owned()),
            _ => None,
        })
    }

    /// The same where `so` says what is so at each place.
    pub(super) fn differences_from(&self, so: impl Fn(&[String]) -> Option<String>) -> Vec<Fault> {
        let fault = |(place, said): &(Vec<String>, String)| {
            let so = so(place);
            let name = place.last().map(String::as_str).unwrap_or_default();
            if so.as_ref().is_some_and(|so| says_the_same(name, said, so)) {
                return None;
            }
            let so = so.as_deref().unwrap_or("null");
            let rule = format!("the server makes it, and it is {so}; leave it out or as it is");
            Some(Fault { place: place.clone(), rule })
        };
        self.0.iter().filter_map(fault).collect()
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
        _ if said == "null" || so == "null" => said == so,
        "created_at" | "updated_at" | "started_at" | "completed_at" => {
            both(said, so, |text| text.parse::<Timestamp>().ok())
        }
        _ => canonical(said.as_bytes()) == canonical(so.as_bytes()),
    }
}

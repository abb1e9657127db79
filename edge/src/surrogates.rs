//! Surrogate keys: what an answer that shared caches may keep is about. A cache that is told that a key is
//! out of date drops all answers that carry it (ADR 82).
//!
//! An answer has two keys at most: one of what it shows, a single document or lists of a collection, and
//! one of the whole collection, for when nobody knows any more what exactly has changed.

use http::{HeaderMap, HeaderName, HeaderValue};
use std::fmt;
use uuid::Uuid;

/// What addresses under `/v1` are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Collection {
    /// As in its addresses.
    name: &'static str,
    /// One of it.
    one: &'static str,
}

pub const PLANS: Collection = Collection { name: "plans", one: "plan" };
pub const RECIPES: Collection = Collection { name: "recipes", one: "recipe" };
pub const ORGANIZERS: Collection = Collection { name: "organizers", one: "organizer" };
pub const PROVIDERS: Collection = Collection { name: "providers", one: "provider" };
pub const FORECASTS: Collection = Collection { name: "forecasts", one: "forecast" };

/// Those of which shared caches keep answers.
const COLLECTIONS: [Collection; 5] = [PLANS, RECIPES, ORGANIZERS, PROVIDERS, FORECASTS];
/// Answers from one of them, at an address of its own.
const SEARCH: (&str, Collection) = ("/search", PLANS);
/// What no key is longer than, beside its prefix.
pub(crate) const LONGEST: usize = 48;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Part {
    All,
    Lists,
    One(Uuid),
}

/// What answers have in common that are out of date together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    collection: Collection,
    part: Part,
}

impl Key {
    /// Of every answer about the collection.
    pub const fn all(collection: Collection) -> Self {
        Self { collection, part: Part::All }
    }

    /// Of every answer that is made of several.
    pub const fn lists(collection: Collection) -> Self {
        Self { collection, part: Part::Lists }
    }

    /// Of every answer about this one alone; `None` where it has no such answers.
    pub fn one(collection: Collection, id: &str) -> Option<Self> {
        Some(Self { collection, part: Part::One(id.parse().ok()?) })
    }

    /// The key of the collection that it is of.
    pub fn whole(self) -> Self {
        Self::all(self.collection)
    }

    pub fn is_of_one(self) -> bool {
        matches!(self.part, Part::One(_))
    }

    /// What an address shows.
    pub(crate) fn of(path: &str) -> Option<Self> {
        if path == SEARCH.0 {
            return Some(Self::lists(SEARCH.1));
        }
        let mut segments = path.strip_prefix("/v1/")?.split('/');
        // A list has forms of its own, such as `.ics`.
        let name = segments.next()?.split('.').next()?;
        let collection = COLLECTIONS.into_iter().find(|collection| collection.name == name)?;
        let one = segments.next().and_then(|id| Self::one(collection, id));
        // Ids that others gave are of any length: they count as questions to the collection.
        Some(one.unwrap_or(Self::lists(collection)))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Collection { name, one } = self.collection;
        match self.part {
            Part::All => f.write_str(name),
            Part::Lists => write!(f, "{name}:lists"),
            Part::One(id) => write!(f, "{one}:{id}"),
        }
    }
}

/// How keys are written.
#[derive(Clone, Debug)]
pub struct Surrogates {
    header: HeaderName,
    /// Of the installation: others may be behind the same cache.
    prefix: String,
    separator: char,
}

impl Surrogates {
    /// `None` where answers carry no keys. The prefix holds letters, digits, `.`, `_` and `-` only.
    pub fn new(header: &str, prefix: &str) -> Result<Option<Self>, http::Error> {
        if header.is_empty() {
            return Ok(None);
        }
        let header = HeaderName::try_from(header)?;
        // Cloudflare's tags may hold spaces.
        let separator = if header == "cache-tag" { ',' } else { ' ' };
        Ok(Some(Self { header, prefix: prefix.to_owned(), separator }))
    }

    pub fn header(&self) -> &HeaderName {
        &self.header
    }

    /// The length that no key exceeds.
    pub fn longest(&self) -> usize {
        self.prefix.len() + LONGEST
    }

    pub(crate) fn text(&self, key: Key) -> String {
        format!("{}{key}", self.prefix)
    }

    pub(crate) fn joined(&self, keys: impl IntoIterator<Item = Key>) -> String {
        let mut joined = String::new();
        for key in keys {
            if !joined.is_empty() {
                joined.push(self.separator);
            }
            joined.push_str(&self.text(key));
        }
        joined
    }

    /// Says what an answer is about.
    pub(crate) fn tell(&self, key: Key, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::try_from(self.joined([key, key.whole()])) {
            headers.insert(self.header.clone(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0190a5d0-0000-7000-8000-000000000007";

    fn told(surrogates: &Surrogates, path: &str) -> String {
        let mut headers = HeaderMap::new();
        if let Some(key) = Key::of(path) {
            surrogates.tell(key, &mut headers);
        }
        let value = headers.get(surrogates.header()).map(|value| value.to_str().unwrap());
        value.unwrap_or_default().to_owned()
    }

    #[test]
    fn an_address_tells_its_keys() {
        let surrogates = Surrogates::new("Surrogate-Key", "").unwrap().unwrap();
        for (path, keys) in [
            ("/search", "plans:lists plans".to_owned()),
            ("/v1/plans", "plans:lists plans".to_owned()),
            ("/v1/plans.ics", "plans:lists plans".to_owned()),
            ("/v1/recipes/vocabulary", "recipes:lists recipes".to_owned()),
            ("/v1/organizers/7/months", "organizers:lists organizers".to_owned()),
            ("/v1/forecasts/score", "forecasts:lists forecasts".to_owned()),
            (&format!("/v1/plans/{ID}"), format!("plan:{ID} plans")),
            (&format!("/v1/plans/{}/history", ID.to_uppercase()), format!("plan:{ID} plans")),
            (&format!("/v1/recipes/{ID}/thumbnail"), format!("recipe:{ID} recipes")),
            ("/v1/schedules/x", String::new()),
            ("/v1/plansets", String::new()),
            ("/metrics", String::new()),
        ] {
            assert_eq!(told(&surrogates, path), keys, "{path}");
        }
    }

    #[test]
    fn keys_are_those_of_the_installation_and_bounded() {
        let surrogates = Surrogates::new("cache-tag", "test.").unwrap().unwrap();
        let long = format!("/v1/organizers/{}/months", "x".repeat(100_000));
        assert_eq!(told(&surrogates, &long), "test.organizers:lists,test.organizers");
        for collection in COLLECTIONS {
            for key in [Key::lists(collection), Key::one(collection, ID).unwrap()] {
                assert!(surrogates.text(key).len() <= surrogates.longest(), "{key}");
            }
        }
        assert!(Surrogates::new("", "").unwrap().is_none());
        assert!(Surrogates::new("no header", "").is_err());
    }
}

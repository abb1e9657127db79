//! What somebody subscribes to.

use crate::check::{Check, Fault};
use std::collections::BTreeSet;

/// Published limits.
pub const MAX_TYPES: usize = 50;
const SUBJECT: usize = 200;
const URL: usize = 2_000;
/// Of a secret, as the Standard Webhooks say.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    pub types: Vec<String>,
    pub subject: Option<String>,
    pub url: Option<String>,
    /// As it was sent, and what it is decoded; `None` where it is no `whsec_` and base64.
    pub secret: Option<Option<Vec<u8>>>,
}

/// A subscription whose every part was checked, but for where its address leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// CloudEvents types, each once, in order.
    pub types: Vec<String>,
    pub subject: Option<String>,
    pub url: String,
}

/// The bytes that notifications are signed with.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Draft {
    /// A subscription and its secret, or all that is wrong at once. `known` are the types there are.
    pub fn check(self, known: &BTreeSet<String>) -> Result<(Subscription, Secret), Vec<Fault>> {
        let mut check = Check::default();
        check.count("types", self.types.len(), 1, MAX_TYPES);
        for (place, name) in self.types.iter().enumerate().take(MAX_TYPES) {
            if !known.contains(name) {
                let rule = "there are no events of this type to be told of";
                check.fault(&["types", &place.to_string()], rule);
            }
        }
        let subject = check.optional(&["subject"], self.subject, SUBJECT);
        if subject.as_ref().is_some_and(|subject| subject.trim().is_empty()) {
            check.fault(&["subject"], "it must not be blank; null is every subject");
        }
        let url = check.required(&["url"], self.url, URL);
        let secret = match self.secret {
            None => {
                check.fault(&["secret"], "it is required");
                Vec::new()
            }
            Some(Some(bytes)) if SECRET_BYTES.contains(&bytes.len()) => bytes,
            Some(_) => {
                let rule = "it must be whsec_ and the base64 of 24 to 64 random bytes";
                check.fault(&["secret"], rule);
                Vec::new()
            }
        };
        if !check.faults.is_empty() {
            check.faults.sort();
            return Err(check.faults);
        }
        let mut types = self.types;
        types.sort();
        types.dedup();
        Ok((Subscription { types, subject, url }, Secret(secret)))
    }
}

//! Tokens that were checked already, until they expire or the keys change.

use super::Caller;
use quick_cache::{Weighter, sync::Cache};
use std::sync::Arc;

/// Memory for them.
const BYTES: u64 = 8 << 20;
/// What one takes beside its text.
const BESIDE: u64 = 256;

#[derive(Clone)]
struct Weight;

impl Weighter<Box<str>, Arc<Verified>> for Weight {
    fn weight(&self, token: &Box<str>, verified: &Arc<Verified>) -> u64 {
        (token.len() + verified.caller.subject.len()) as u64 + BESIDE
    }
}

struct Verified {
    caller: Caller,
    /// Seconds since 1970.
    expires_at: u64,
    /// Of the keys it was checked with.
    generation: u64,
}

pub(super) struct VerifiedTokens(Cache<Box<str>, Arc<Verified>, Weight>);

impl VerifiedTokens {
    pub(super) fn new() -> Self {
        Self(Cache::with_weighter(4_096, BYTES, Weight))
    }

    pub(super) fn get(&self, token: &str, generation: u64, now: u64) -> Option<Caller> {
        let verified = self.0.get(token)?;
        let holds = verified.generation == generation && now < verified.expires_at;
        holds.then(|| verified.caller.clone())
    }

    pub(super) fn insert(&self, token: &str, caller: &Caller, generation: u64, expires_at: u64) {
        let verified = Verified { caller: caller.clone(), expires_at, generation };
        self.0.insert(token.into(), Arc::new(verified));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_until_it_expires_or_the_keys_change() {
        let tokens = VerifiedTokens::new();
        let caller = Caller { subject: "mary".to_owned(), scopes: Vec::new() };
        tokens.insert("a.b.c", &caller, 3, 1_000);
        assert_eq!(tokens.get("a.b.c", 3, 999), Some(caller));
        assert_eq!(tokens.get("a.b.c", 3, 1_000), None, "it has expired");
        assert_eq!(tokens.get("a.b.c", 4, 999), None, "the key may be gone");
        assert_eq!(tokens.get("a.b.d", 3, 999), None);
    }

    #[test]
    fn memory_is_bounded() {
        let tokens = VerifiedTokens::new();
        let caller = Caller { subject: "mary".to_owned(), scopes: Vec::new() };
        for number in 0..10_000 {
            tokens.insert(&format!("{number:08}{}", "x".repeat(4_000)), &caller, 1, 1_000);
        }
        assert!(tokens.0.weight() <= BYTES && tokens.0.len() > 100, "{}", tokens.0.weight());
    }
}

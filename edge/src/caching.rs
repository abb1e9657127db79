//! What caches may keep, by address: the one place that says so.
//!
//! A handler that knows better says it itself: answers that are somebody's (`private`), pictures
//! under the address of their content, problems (`no-store`). All others come here as
//! [`REVALIDATE`], and get what their address allows.

use crate::surrogates::{Key, Surrogates};
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use std::time::Duration;

/// What an answer says whose handler leaves it to the policy; and what clients see where there is
/// none: keep it, but ask before it is used again.
pub(crate) const REVALIDATE: HeaderValue = HeaderValue::from_static("public, no-cache");
/// An answer about the past that no later event changes. It is kept for a day, not for ever, since a release
/// may tell more of the same.
pub const SETTLED: HeaderValue = HeaderValue::from_static("public, max-age=86400, immutable");
const PRIVATELY_SETTLED: HeaderValue =
    HeaderValue::from_static("private, max-age=86400, immutable");
const PRIVATE: HeaderValue = HeaderValue::from_static("private, no-cache");
const CONSISTENCY_TOKEN: HeaderName = HeaderName::from_static("consistency-token");
const CONSISTENCY: HeaderName = HeaderName::from_static("consistency");
/// A reader with a token must not be given what was kept for one without.
const VARY: HeaderValue = HeaderValue::from_static("Accept-Encoding, Consistency-Token");
const ENCODING_ALONE: &str = "Accept-Encoding";

#[derive(Clone, Debug)]
pub struct CachingOptions {
    /// How old an answer of a shared cache may be; 0 makes it ask every time.
    pub shared_max_age: Duration,
    /// For so long after that it may give the old answer while it asks for the new one ...
    pub stale_while_revalidate: Duration,
    /// ... or when it cannot ask.
    pub stale_if_error: Duration,
    /// Whether what is public to read needs a token.
    pub closed_reads: bool,
    /// How answers say what they are about, if they do.
    pub surrogates: Option<Surrogates>,
}

impl Default for CachingOptions {
    fn default() -> Self {
        Self {
            shared_max_age: Duration::from_secs(2),
            stale_while_revalidate: Duration::from_secs(10),
            stale_if_error: Duration::from_secs(300),
            closed_reads: false,
            surrogates: None,
        }
    }
}

/// Addresses that may be kept alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// What is folded from events, and changes with them.
    Facts,
    /// What is in use, made from all of them.
    Vocabulary,
    /// What describes the surface, and changes with the version.
    Documents,
    /// A schema under its id, which never changes.
    Schemas,
    /// Everything else is asked for every time.
    Others,
}

impl Kind {
    /// `is_of_collection` says whether it is about things that are folded from events.
    fn of(path: &str, is_of_collection: bool) -> Self {
        match path {
            "/v1/recipes/vocabulary" => return Self::Vocabulary,
            "/openapi.json" | "/asyncapi.json" | "/docs" => return Self::Documents,
            _ => {}
        }
        let under = |prefix: &str| {
            path.strip_prefix(prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '.']))
        };
        if is_of_collection {
            return Self::Facts;
        }
        if under("/problems") {
            return Self::Documents;
        }
        if under("/schemas/ids") { Self::Schemas } else { Self::Others }
    }
}

impl Kind {
    /// Of what is the same for everybody, and follows no writes.
    fn open(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Schemas => "public, max-age=31536000, immutable",
            _ => {
                "public, max-age=60, s-maxage=300, stale-while-revalidate=3600, stale-if-error=86400"
            }
        })
    }
}

#[derive(Debug)]
pub struct Caching {
    facts: HeaderValue,
    vocabulary: HeaderValue,
    closed_reads: bool,
    surrogates: Option<Surrogates>,
}

/// What is known of an answer before it is there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    kind: Kind,
    has_identity: bool,
    has_token: bool,
    about: Option<Key>,
}

impl Caching {
    pub fn new(options: &CachingOptions) -> Self {
        let value = |age: Duration| {
            if options.shared_max_age.is_zero() {
                return REVALIDATE;
            }
            let text = format!(
                "public, max-age=0, s-maxage={}, stale-while-revalidate={}, stale-if-error={}",
                age.as_secs().max(1),
                options.stale_while_revalidate.as_secs(),
                options.stale_if_error.as_secs(),
            );
            HeaderValue::try_from(text).unwrap_or(REVALIDATE)
        };
        Self {
            facts: value(options.shared_max_age),
            vocabulary: value(options.shared_max_age.max(Duration::from_secs(60))),
            closed_reads: options.closed_reads,
            surrogates: options.surrogates.clone(),
        }
    }

    pub(crate) fn asked(&self, method: &Method, path: &str, headers: &HeaderMap) -> Option<Asked> {
        (*method == Method::GET || *method == Method::HEAD).then(|| {
            let about = Key::of(path);
            Asked {
                kind: Kind::of(path, about.is_some()),
                has_identity: headers.contains_key(header::AUTHORIZATION),
                has_token: headers.contains_key(CONSISTENCY_TOKEN),
                about,
            }
        })
    }

    /// Says on an answer what its address allows; and what it is about where that lets others keep it.
    pub(crate) fn tell(&self, asked: Asked, answer: &mut Response) {
        let headers = answer.headers_mut();
        self.allow(asked, headers);
        if let Some((surrogates, key)) = self.surrogates.as_ref().zip(asked.about)
            && headers.get(header::CACHE_CONTROL).is_some_and(is_kept)
        {
            surrogates.tell(key, headers);
        }
    }

    fn allow(&self, asked: Asked, headers: &mut HeaderMap) {
        if self.closed_reads && headers.get(header::CACHE_CONTROL) == Some(&SETTLED) {
            headers.insert(header::CACHE_CONTROL, PRIVATELY_SETTLED);
        }
        if headers.get(header::CACHE_CONTROL) != Some(&REVALIDATE) {
            return;
        }
        let is_open = matches!(asked.kind, Kind::Documents | Kind::Schemas);
        let is_ones_own =
            asked.has_identity || asked.has_token || headers.contains_key(CONSISTENCY);
        let value = if is_open {
            asked.kind.open()
        } else if self.closed_reads {
            PRIVATE
        } else if is_ones_own {
            REVALIDATE
        } else {
            match asked.kind {
                Kind::Facts => self.facts.clone(),
                Kind::Vocabulary => self.vocabulary.clone(),
                _ => return,
            }
        };
        headers.insert(header::CACHE_CONTROL, value);
        if is_open {
            return;
        }
        if headers.get(header::VARY).is_some_and(|vary| vary == ENCODING_ALONE) {
            headers.insert(header::VARY, VARY);
        } else {
            headers.append(header::VARY, HeaderValue::from_static("Consistency-Token"));
        }
    }
}

/// Whether shared caches give such an answer without asking.
fn is_kept(control: &HeaderValue) -> bool {
    control != REVALIDATE && control.as_bytes().starts_with(b"public, ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    const FACTS: &str =
        "public, max-age=0, s-maxage=2, stale-while-revalidate=10, stale-if-error=300";

    fn told(
        caching: &Caching,
        path: &str,
        asked: &[&'static str],
        answered: &[(HeaderName, &'static str)],
    ) -> (String, String) {
        let asked = asked.iter().map(|name| (name.parse().unwrap(), HeaderValue::from_static("x")));
        let asked = caching.asked(&Method::GET, path, &asked.collect()).unwrap();
        let mut answer = Response::new(Body::empty());
        answer.headers_mut().insert(header::VARY, HeaderValue::from_static(ENCODING_ALONE));
        answer.headers_mut().insert(header::CACHE_CONTROL, REVALIDATE);
        for (name, value) in answered {
            answer.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        caching.tell(asked, &mut answer);
        let all = |name| {
            let values = answer.headers().get_all(name).iter().map(|value| value.to_str().unwrap());
            values.collect::<Vec<_>>().join(", ")
        };
        (all(header::CACHE_CONTROL), all(header::VARY))
    }

    #[test]
    fn each_address_has_its_policy() {
        let caching = Caching::new(&CachingOptions::default());
        let vary = "Accept-Encoding, Consistency-Token";
        for path in
            ["/search", "/v1/plans", "/v1/plans.ics", "/v1/recipes/x/history", "/v1/forecasts"]
        {
            assert_eq!(told(&caching, path, &[], &[]), (FACTS.into(), vary.into()), "{path}");
        }
        let control = |path| told(&caching, path, &[], &[]).0;
        assert!(control("/v1/recipes/vocabulary").contains("s-maxage=60"));
        assert!(control("/docs").contains("max-age=60, s-maxage=300"));
        assert!(control("/schemas/ids/7").contains("immutable"));
        for path in ["/v1/schedules/x", "/v1/plansets", "/metrics", "/subjects"] {
            assert_eq!(control(path), "public, no-cache", "{path}");
        }
        assert!(caching.asked(&Method::POST, "/v1/recipes", &HeaderMap::new()).is_none());
    }

    #[test]
    fn what_is_for_one_reader_is_not_shared() {
        let caching = Caching::new(&CachingOptions::default());
        let control = |asked: &[&'static str], answered: &[(HeaderName, &'static str)]| {
            told(&caching, "/v1/recipes", asked, answered).0
        };
        assert_eq!(control(&["authorization"], &[]), "public, no-cache");
        assert_eq!(control(&["consistency-token"], &[]), "public, no-cache");
        assert_eq!(control(&[], &[(CONSISTENCY, "stale")]), "public, no-cache");
        for own in ["no-store", "private, no-store", "public, max-age=31536000, immutable"] {
            assert_eq!(control(&[], &[(header::CACHE_CONTROL, own)]), own, "the handler's");
        }
        let (_, vary) = told(&caching, "/v1/recipes", &[], &[(header::VARY, "Accept")]);
        assert_eq!(vary, "Accept, Consistency-Token");
        let closed = Caching::new(&CachingOptions { closed_reads: true, ..Default::default() });
        assert_eq!(told(&closed, "/search", &[], &[]).0, "private, no-cache");
        assert!(told(&closed, "/docs", &[], &[]).0.starts_with("public"));
        let settled = [(header::CACHE_CONTROL, "public, max-age=86400, immutable")];
        assert_eq!(SETTLED, settled[0].1);
        assert!(
            told(&caching, "/v1/plans/x", &[], &settled).0.starts_with("public, max-age=86400")
        );
        assert!(
            told(&closed, "/v1/plans/x", &[], &settled).0.starts_with("private, max-age=86400")
        );
        let none = CachingOptions { shared_max_age: Duration::ZERO, ..Default::default() };
        assert_eq!(told(&Caching::new(&none), "/search", &[], &[]).0, "public, no-cache");
    }

    #[test]
    fn what_shared_caches_keep_has_surrogate_keys() {
        let surrogates = Surrogates::new("surrogate-key", "").unwrap();
        let keys = |options: CachingOptions, asked: &[&'static str], answered: &'static str| {
            let caching =
                Caching::new(&CachingOptions { surrogates: surrogates.clone(), ..options });
            let asked =
                asked.iter().map(|name| (name.parse().unwrap(), HeaderValue::from_static("x")));
            let asked = caching.asked(&Method::GET, "/v1/plans", &asked.collect()).unwrap();
            let mut answer = Response::new(Body::empty());
            let answered = HeaderValue::from_static(answered);
            answer.headers_mut().insert(header::CACHE_CONTROL, answered);
            caching.tell(asked, &mut answer);
            let told = answer.headers().get("surrogate-key");
            told.map_or("", |keys| keys.to_str().unwrap()).to_owned()
        };
        let open = CachingOptions::default;
        for kept in ["public, no-cache", "public, max-age=86400, immutable"] {
            assert_eq!(keys(open(), &[], kept), "plans:lists plans", "{kept}");
        }
        for other in ["no-store", "no-cache", "private, no-store"] {
            assert_eq!(keys(open(), &[], other), "", "{other}");
        }
        assert_eq!(keys(open(), &["authorization"], "public, no-cache"), "");
        let closed = CachingOptions { closed_reads: true, ..open() };
        assert_eq!(keys(closed, &[], "public, no-cache"), "");
        let none = CachingOptions { shared_max_age: Duration::ZERO, ..open() };
        assert_eq!(keys(none, &[], "public, no-cache"), "");
    }
}

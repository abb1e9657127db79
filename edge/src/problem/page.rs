//! A page for each type of problem: what `type` of a problem document leads to.

use super::ProblemType;

/// In what a type means, beside its title and status.
struct Meaning {
    /// What happened.
    what: &'static str,
    /// What the client does about it.
    action: &'static str,
    retry: Retry,
}

enum Retry {
    /// The same request will be refused in the same way.
    Useless,
    /// After the time that `Retry-After` tells; nothing was done.
    Later,
    /// After reading the current state, with a request made from it.
    Changed,
    /// The outcome may not be known: with the same idempotency key a repetition is safe.
    WithKey,
}

impl ProblemType {
    pub const ALL: [Self; 18] = [
        Self::BadRequest,
        Self::UnknownParameter,
        Self::BadCursor,
        Self::NotFound,
        Self::Gone,
        Self::Conflict,
        Self::Stale,
        Self::Forbidden,
        Self::Unauthorized,
        Self::Invalid,
        Self::IdempotencyKeyReused,
        Self::MethodNotAllowed,
        Self::TooLarge,
        Self::Timeout,
        Self::UnsupportedMediaType,
        Self::TooManyRequests,
        Self::Unavailable,
        Self::Internal,
    ];

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.parts().0 == name)
    }

    fn meaning(self) -> Meaning {
        let (what, action, retry) = match self {
            Self::BadRequest => (
                "The request could not be read: its head, a parameter or a field of its head is malformed.",
                "Compare the request with /openapi.json; the detail names what is malformed.",
                Retry::Useless,
            ),
            Self::UnknownParameter => (
                "The address has a query parameter that this operation does not know. It is refused, so that a mistyped filter does not answer everything.",
                "Correct the name; /openapi.json lists the parameters of each operation.",
                Retry::Useless,
            ),
            Self::BadCursor => (
                "The cursor is not one that this list gave out, or it was given out for other filters.",
                "Begin with the first page, and pass on cursors unchanged, beside the same parameters.",
                Retry::Useless,
            ),
            Self::NotFound => (
                "Nothing has this address, or it belongs to somebody else.",
                "Check the id. A read right after a write needs the write's Consistency-Token.",
                Retry::Useless,
            ),
            Self::Gone => (
                "It was deleted. Its history is still there for its owner.",
                "Its owner can restore it where the calendar allows that.",
                Retry::Useless,
            ),
            Self::Conflict => (
                "The request contradicts how things stand: something like it is under way, or the number that was expected is another.",
                "Read how things stand, as the detail says, and decide again.",
                Retry::Changed,
            ),
            Self::Stale => (
                "If-Match names a version that is not the current one: somebody else changed it in between. ETag tells the current version where it is known.",
                "Read it again, apply the change to what is there now, and send it with the new version.",
                Retry::Changed,
            ),
            Self::Forbidden => (
                "The caller is known, and may not do this: a scope is missing, or it belongs to somebody else.",
                "Ask for a token with the scope that /openapi.json names.",
                Retry::Useless,
            ),
            Self::Unauthorized => (
                "There is no bearer token, or it is not good: expired, not valid yet, of another issuer or audience, or badly signed. WWW-Authenticate says which.",
                "Get a new token and repeat the request.",
                Retry::Changed,
            ),
            Self::Invalid => (
                "The body can be read, and breaks a rule. errors names every fault by a JSON pointer.",
                "Correct what errors names.",
                Retry::Useless,
            ),
            Self::IdempotencyKeyReused => (
                "The Idempotency-Key was used before for another request of the same caller.",
                "Use a new key for each new request, and the same key only to repeat one unchanged.",
                Retry::Useless,
            ),
            Self::MethodNotAllowed => (
                "The address exists, and not with this method. Allow lists those it has.",
                "Use a method that Allow lists.",
                Retry::Useless,
            ),
            Self::TooLarge => (
                "The body, or the head of the request, is larger than is taken.",
                "Send less; the detail names the bound.",
                Retry::Useless,
            ),
            Self::Timeout => (
                "The request did not arrive within the time that clients have for it.",
                "Repeat it, with the same Idempotency-Key if it is a write.",
                Retry::WithKey,
            ),
            Self::UnsupportedMediaType => (
                "The body has a media type or a coding that this operation does not take.",
                "Set Content-Type to one that /openapi.json names.",
                Retry::Useless,
            ),
            Self::TooManyRequests => (
                "A limit of this caller is used up. /v1/limits shows all limits and what is left of them.",
                "Wait as long as Retry-After says; spread requests, ask for larger pages, or ask the operator for more.",
                Retry::Later,
            ),
            Self::Unavailable => (
                "A server that this one needs does not answer, or more is asked for than can be answered.",
                "Repeat the request after the time that Retry-After says, and back off exponentially after that.",
                Retry::WithKey,
            ),
            Self::Internal => (
                "A fault of Almanac. Its cause is in the log, under the Request-Id of the answer.",
                "Tell the operator the Request-Id. Repeat a write only with the same Idempotency-Key.",
                Retry::WithKey,
            ),
        };
        Meaning { what, action, retry }
    }

    /// The page of this type.
    pub fn page(self) -> String {
        let (name, title, status) = self.parts();
        let Meaning { what, action, retry } = self.meaning();
        let retry = match retry {
            Retry::Useless => "No: the same request is refused again.",
            Retry::Later => "Yes, after the seconds in Retry-After. Nothing was done.",
            Retry::Changed => "Not as it is: first read how things stand.",
            Retry::WithKey => {
                "Yes. A write is repeated safely with the same Idempotency-Key: it is done once."
            }
        };
        document(
            title,
            &format!(
                "<p class=quiet><code>/problems/{name}</code> · status {status}<p>{what}\
                 <h2>What to do</h2><p>{action}<h2>Does a retry help?</h2><p>{retry}\
                 <p><a href=/problems>All types of problems</a> · <a href=/docs>the API</a>"
            ),
        )
    }

    /// A page that leads to all of them.
    pub fn list() -> String {
        let rows = Self::ALL.map(|kind| {
            let (name, title, status) = kind.parts();
            format!("<tr><td>{}<td><a href=/problems/{name}>{name}</a><td>{title}", status.as_u16())
        });
        document(
            "Types of problems",
            &format!(
                "<p>Errors are problem documents of RFC 9457 (<code>application/problem+json</code>): \
                 <code>type</code> leads to one of these pages, <code>detail</code> tells what is wrong \
                 with the request at hand, <code>errors</code> which fields, <code>instance</code> names \
                 the request. Programs compare <code>type</code>.<table><tr><th>status<th>type\
                 <th>title{}</table>",
                rows.concat()
            ),
        )
    }
}

fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport \
         content=\"width=device-width, initial-scale=1\"><title>{title}</title><style>\
         body{{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:45rem;padding:1rem 1.5rem}}\
         td,th{{padding:.2rem 1rem .2rem 0;text-align:left}}.quiet{{opacity:.75}}\
         :root{{color-scheme:light dark}}</style><h1>{title}</h1>{body}</html>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_type_has_a_page_under_the_name_that_documents_use() {
        let list = ProblemType::list();
        let mut names = BTreeSet::new();
        for kind in ProblemType::ALL {
            let document = super::super::Problem::new(kind, "").body();
            let document: serde_json::Value = serde_json::from_str(&document).unwrap();
            let address = document["type"].as_str().unwrap();
            let name = address.strip_prefix("/problems/").unwrap();
            assert_eq!(ProblemType::named(name), Some(kind));
            assert!(kind.page().contains(document["title"].as_str().unwrap()));
            assert!(list.contains(&format!("href={address}>")), "{address}");
            names.insert(name.to_owned());
        }
        assert_eq!(names.len(), ProblemType::ALL.len());
        assert_eq!(ProblemType::named("none"), None);
    }
}

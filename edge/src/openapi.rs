//! The OpenAPI document: fragments that lie beside the routes they describe, merged once at start.

use crate::{
    limits::{Class, SEARCH},
    routes::{Operation, Routes},
};
use bytes::Bytes;
use http::Method;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Part of the document: `paths` with operations, and `components`.
#[derive(Clone, Copy, Debug)]
pub struct Fragment {
    /// The source file that includes it.
    pub beside: &'static str,
    pub text: &'static str,
}

/// A file beside the one that names it.
#[macro_export]
macro_rules! openapi_fragment {
    ($file:literal) => {
        $crate::openapi::Fragment { beside: file!(), text: include_str!($file) }
    };
}

/// The head of the document, and what operations of every fragment refer to.
const COMMON: Fragment = crate::openapi_fragment!("openapi.json");

#[derive(Debug, thiserror::Error)]
pub enum FragmentError {
    #[error("the OpenAPI fragment beside {beside} is not JSON")]
    NotJson { beside: &'static str, source: serde_json::Error },
    #[error("the OpenAPI fragment beside {beside} has {what}, where objects of objects belong")]
    Misplaced { beside: &'static str, what: String },
    #[error("the OpenAPI fragment beside {beside} has {what}, which another one has, too")]
    Twice { beside: &'static str, what: String },
    #[error("nothing in the OpenAPI document is {0}, which it refers to")]
    Dangling(String),
}

/// The document as it is served.
pub fn document(fragments: impl IntoIterator<Item = Fragment>) -> Result<Bytes, FragmentError> {
    Ok(with_limits(merged(fragments)?).to_string().into())
}

fn merged(fragments: impl IntoIterator<Item = Fragment>) -> Result<Value, FragmentError> {
    let mut document = read(&COMMON)?;
    document.insert("paths".to_owned(), json!({}));
    for fragment in fragments {
        for (place, groups) in read(&fragment)? {
            let misplaced =
                |what: String| FragmentError::Misplaced { beside: fragment.beside, what };
            let Value::Object(groups) = groups else { return Err(misplaced(place)) };
            if !["paths", "components"].contains(&&*place) {
                return Err(misplaced(place));
            }
            let into = document.entry(place.clone()).or_insert_with(|| json!({}));
            for (group, entries) in groups {
                let Value::Object(entries) = entries else { return Err(misplaced(group)) };
                for (name, entry) in entries {
                    let what = format!("{name} of {group}");
                    if into[&group].get(&name).is_some() {
                        return Err(FragmentError::Twice { beside: fragment.beside, what });
                    }
                    into[&group][name] = entry;
                }
            }
        }
    }
    let document = Value::Object(document);
    let mut references = BTreeSet::new();
    collect_references(&document, &mut references);
    let is_missing = |reference: &&str| document.pointer(&reference[1..]).is_none();
    if let Some(missing) = references.into_iter().find(is_missing) {
        return Err(FragmentError::Dangling(missing.to_owned()));
    }
    Ok(document)
}

fn read(fragment: &Fragment) -> Result<Map<String, Value>, FragmentError> {
    let beside = fragment.beside;
    serde_json::from_str(fragment.text).map_err(|source| FragmentError::NotJson { beside, source })
}

/// References into the document.
fn collect_references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(fields) => {
            let reference = fields.get("$ref").and_then(Value::as_str);
            found.extend(reference.filter(|reference| reference.starts_with('#')));
            fields.values().for_each(|value| collect_references(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| collect_references(value, found)),
        _ => {}
    }
}

/// Adds what holds for every operation that counts against a limit, so that fragments need not repeat
/// it: the fields of the limit on each answer, and the answers beyond it.
fn with_limits(mut document: Value) -> Value {
    const FIELDS: [&str; 2] = ["RateLimit", "RateLimit-Policy"];
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    for (path, operations) in paths {
        for (method, operation) in operations.as_object_mut().into_iter().flatten() {
            let method = method.to_uppercase().parse::<Method>().unwrap_or_default();
            let answers = operation.get_mut("responses").and_then(Value::as_object_mut);
            let Some(answers) = answers else { continue };
            if Class::of(&method, path).is_none() {
                continue;
            }
            let schema = if path == SEARCH { "SearchError" } else { "Problem" };
            let kind = if path == SEARCH { "json" } else { "problem+json" };
            for (status, description) in [
                ("429", "A limit of this caller is used up; nothing was done."),
                ("503", "Too much is asked for at the moment; nothing was done."),
            ] {
                let answer = answers.entry(status).or_insert_with(|| {
                    json!({
                        "description": description,
                        "headers": { "Request-Id": { "$ref": "#/components/headers/RequestId" } },
                        "content": { format!("application/{kind}"): {
                            "schema": { "$ref": format!("#/components/schemas/{schema}") },
                        } },
                    })
                });
                answer["headers"]["Retry-After"] =
                    json!({ "$ref": "#/components/headers/RetryAfter" });
            }
            for answer in answers.values_mut().filter(|answer| answer.get("$ref").is_none()) {
                for field in FIELDS {
                    let name = field.replace('-', "");
                    let reference = format!("#/components/headers/{name}");
                    answer["headers"][field] = json!({ "$ref": reference });
                }
            }
        }
    }
    document
}

/// What routes and fragments disagree about, in words: each crate with routes has a test that this is
/// nothing.
pub fn differences<S: Clone + Send + Sync + 'static>(
    routes: &Routes<S>,
    fragments: impl IntoIterator<Item = Fragment>,
) -> Result<Vec<String>, FragmentError> {
    let mut described = BTreeMap::new();
    for fragment in fragments {
        let fragment_paths = read(&fragment)?.remove("paths").unwrap_or_default();
        for (path, operations) in fragment_paths.as_object().into_iter().flatten() {
            for (method, _) in operations.as_object().into_iter().flatten() {
                described.insert(Operation::new(method, path), fragment.beside);
            }
        }
    }
    let operations = routes.operations();
    let bare = operations.iter().filter(|operation| !described.contains_key(operation));
    let bare = bare.map(|Operation { path, method }| format!("no fragment has {method} {path}"));
    let dead = described.iter().filter(|(operation, _)| !operations.contains(operation));
    let dead = dead.map(|(Operation { path, method }, beside)| {
        format!("the fragment beside {beside} has {method} {path}, which is no route")
    });
    Ok(bare.chain(dead).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(text: &'static str) -> Fragment {
        Fragment { beside: "here", text }
    }

    const PLANS: &str = r##"{"paths": {"/v1/plans": {"get": {"responses": {"200": {"$ref": "#/components/responses/P"}}}}},
        "components": {"responses": {"P": {"description": "plans"}}}}"##;

    #[test]
    fn fragments_become_one_document() {
        let writes = r#"{"paths": {"/v1/plans": {"post": {"responses": {"201": {}}}}}}"#;
        let document = merged([fragment(PLANS), fragment(writes)]).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        let methods = document["paths"]["/v1/plans"].as_object().unwrap();
        assert_eq!(methods.keys().collect::<Vec<_>>(), ["get", "post"]);
        assert_eq!(document["components"]["responses"]["P"]["description"], "plans");
        assert!(document["components"]["schemas"]["Problem"].is_object());
    }

    #[test]
    fn what_does_not_fit_together_is_said_with_its_file() {
        let told = |text| merged([fragment(PLANS), fragment(text)]).unwrap_err().to_string();
        let twice =
            "the OpenAPI fragment beside here has P of responses, which another one has, too";
        assert_eq!(told(PLANS), twice);
        let reference = r##"{"paths": {"/x": {"get": {"$ref": "#/components/schemas/Absent"}}}}"##;
        assert!(told(reference).contains("#/components/schemas/Absent"), "{}", told(reference));
        assert!(told(r#"{"info": {"title": {}}}"#).contains("here has info"));
        assert!(told(r#"{"paths": {"/x": 1}}"#).contains("here has /x"));
        assert!(told("{").contains("here is not JSON"));
    }

    #[test]
    fn operations_that_are_limited_tell_it() {
        let document = with_limits(merged([fragment(PLANS)]).unwrap());
        let answers = &document["paths"]["/v1/plans"]["get"]["responses"];
        assert!(answers["200"]["headers"].is_null(), "a reference says it itself");
        for status in ["429", "503"] {
            let headers = &answers[status]["headers"];
            assert_eq!(headers["RateLimit"]["$ref"], "#/components/headers/RateLimit");
            assert_eq!(headers["Retry-After"]["$ref"], "#/components/headers/RetryAfter");
        }
    }

    #[test]
    fn a_route_without_an_operation_is_found_and_so_is_the_reverse() {
        let routes =
            Routes::<()>::new().post("/v1/plans", async || ()).undocumented("/x", async || ());
        let found = differences(&routes, [fragment(PLANS)]).unwrap();
        let wanted = [
            "no fragment has post /v1/plans",
            "the fragment beside here has get /v1/plans, which is no route",
        ];
        assert_eq!(found, wanted);
        let routes = Routes::<()>::new().get("/v1/plans", async || ());
        assert!(differences(&routes, [fragment(PLANS)]).unwrap().is_empty());
    }
}

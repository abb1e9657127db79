//! Query strings, headers and tokens as hostile clients may send them.

use crate::{
    conditional,
    identity::{Identity, IdentityOptions, Minted, Scope, make_key, mint},
    prefer::Preference,
    query::Parameters,
};
use almanac_fuzzing::fuzz;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use std::time::Duration;

#[test]
fn any_query_is_parameters_or_a_problem() {
    let known = ["q", "limit", "cursor", "starts_from"];
    let query = "q=caf%C3%A9+au+lait&limit=20&starts_from=2021-06-30T21:00:00%2B02:00&cursor=00ff";
    fuzz("query-parameters", [query], |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        match Parameters::parse(Some(&text), &known) {
            Ok(parameters) => {
                assert!(parameters.limit().is_err() || parameters.limit().unwrap() <= 500);
                let _ = (parameters.time("starts_from"), parameters.one("q"));
            }
            Err(problem) => assert!(problem.body().len() < 16 << 10, "{}", problem.body().len()),
        }
    });
}

#[test]
fn any_header_is_read_or_passed_over() {
    let seeds = ["W/\"0f-gzip\", \"1\"", "*", "respond-async, wait=10; handling=strict", "wait=99"];
    fuzz("headers", seeds, |bytes: &[u8]| {
        let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
        let prefer = HeaderName::from_static("prefer");
        let headers =
            HeaderMap::from_iter([(header::IF_NONE_MATCH, value.clone()), (prefer, value)]);
        let _ = conditional::matches(&headers, "W/\"0f\"");
        let _ = Preference::read(&headers);
    });
}

/// Nothing but the token itself is taken for it.
#[test]
fn no_other_token_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("identity.json");
    make_key(&file).unwrap();
    let minted = Minted {
        subject: "mary",
        scopes: &[Scope::RecipesWrite],
        lifetime: Duration::from_secs(3_600),
        issuer: None,
        audience: None,
    };
    let token = mint(&file, &minted).unwrap();
    let options = IdentityOptions { files: vec![file], ..Default::default() };
    let identity = Identity::new(options).unwrap();
    let bearer = format!("Bearer {token}");
    let none = "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJtYXJ5IiwiZXhwIjo5OTk5OTk5OTk5fQ.".to_owned();
    fuzz("bearer-tokens", [bearer.clone(), none], |bytes: &[u8]| {
        let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value)]);
        if identity.caller(&headers).is_ok() {
            let told = std::str::from_utf8(bytes).unwrap();
            let (scheme, sent) = told.split_once(' ').unwrap();
            assert!(scheme.eq_ignore_ascii_case("bearer"), "{told}");
            assert_eq!(sent.trim(), token);
        }
    });
}

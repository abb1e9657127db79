//! What a token's claims say: for whom it is, and what it allows.

use super::{Caller, IdentityOptions, RESERVED, Scope};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

const MAX_SUBJECT: usize = 255;
/// Where providers write scopes: OAuth 2.0 (RFC 9068), and Entra ID or Okta.
const SCOPES: [&str; 2] = ["scope", "scp"];

pub(super) type Claims = Map<String, Value>;

/// A claim whose values stand for scopes: roles, groups, or scopes of another name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimMapping {
    /// The claim's name; names within names with dots between, or a JSON pointer (RFC 6901).
    pub claim: String,
    /// What each value allows.
    pub values: BTreeMap<String, Vec<Scope>>,
}

pub(super) fn caller_of(claims: &Claims, options: &IdentityOptions) -> Result<Caller, String> {
    let subject = match claims.get("sub") {
        Some(Value::String(subject)) => subject.clone(),
        _ => return Err("the token lacks sub, or it is no text".to_owned()),
    };
    let is_usable = !subject.trim().is_empty()
        && subject.len() <= MAX_SUBJECT
        && !subject.chars().any(char::is_control);
    if !is_usable {
        return Err(format!("sub must have 1 to {MAX_SUBJECT} bytes of text"));
    }
    if subject.starts_with(RESERVED) {
        return Err(format!("sub must not begin with {RESERVED}: such are parts of Almanac"));
    }
    // Scopes of other services are none of ours.
    let named = SCOPES.iter().filter_map(|name| claims.get(*name)).flat_map(words);
    let mut found: Vec<Scope> = named.filter_map(|name| name.parse().ok()).collect();
    for mapping in &options.claims {
        let Some(value) = find(claims, &mapping.claim) else { continue };
        let whole = value.as_str().and_then(|text| mapping.values.get(text));
        let mapped = words(value).filter_map(|word| mapping.values.get(word));
        found.extend(whole.into_iter().chain(mapped).flatten());
    }
    let mut scopes = Vec::new();
    for scope in found {
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    Ok(Caller { subject, scopes })
}

/// Whether the token is meant for this installation, where another claim than `aud` says so: access
/// tokens of Cognito name the client instead.
pub(super) fn is_for(claims: &Claims, claim: &str, audience: &str) -> bool {
    match claims.get(claim) {
        Some(Value::String(one)) => one == audience,
        Some(Value::Array(all)) => all.iter().any(|one| one == audience),
        _ => false,
    }
}

/// The words of a text, or the texts of a list.
fn words(value: &Value) -> Box<dyn Iterator<Item = &str> + '_> {
    match value {
        Value::String(text) => Box::new(text.split(' ')),
        Value::Array(values) => Box::new(values.iter().filter_map(Value::as_str)),
        _ => Box::new(std::iter::empty()),
    }
}

/// A claim by its path. Names with dots in them, such as addresses, are tried before a dot is taken
/// for a step.
fn find<'a>(claims: &'a Claims, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    if let Some(pointer) = path.strip_prefix('/') {
        let (first, rest) = pointer
            .split_once('/')
            .map_or((pointer, ""), |(first, _)| (first, &pointer[first.len()..]));
        return claims.get(&first.replace("~1", "/").replace("~0", "~"))?.pointer(rest);
    }
    path.match_indices('.').find_map(|(dot, _)| {
        let Some(Value::Object(inner)) = claims.get(&path[..dot]) else { return None };
        find(inner, &path[dot + 1..])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A claim, and what each of its values allows.
    type Mapped<'a> = (&'a str, &'a [(&'a str, &'a [Scope])]);

    fn scopes(claims: Value, mappings: &[Mapped<'_>]) -> Vec<Scope> {
        let claims = claims.as_object().unwrap();
        let mapping = |(claim, values): &Mapped<'_>| ClaimMapping {
            claim: (*claim).to_owned(),
            values: values.iter().map(|(name, all)| ((*name).to_owned(), all.to_vec())).collect(),
        };
        let options = IdentityOptions {
            claims: mappings.iter().map(mapping).collect(),
            ..Default::default()
        };
        caller_of(claims, &options).unwrap().scopes
    }

    /// An access token of version 2.0: delegated scopes in `scp`, app roles in `roles`, ids of
    /// groups in `groups`.
    #[test]
    fn tokens_of_entra_id() {
        let token = json!({
            "aud": "6e74172b-be56-4843-9ff4-e66a39bb12e3",
            "iss": "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0",
            "azp": "6e74172b-be56-4843-9ff4-e66a39bb12e3", "azpacr": "0", "ver": "2.0",
            "oid": "690222be-ff1a-4d56-abd1-7e4f7d38e474", "tid": "72f988bf-86f1-41af-91ab-2d7cd011db47",
            "sub": "HKZpfaHyWadeOouYlitjrI-KffTm222X5rrV3xDqfKQ", "name": "Mary",
            "scp": "User.Read recipes:write", "roles": ["Almanac.Operator", "Other"],
            "groups": ["0760b6cf-170e-4a14-91b3-4b78e0739963"],
        });
        let roles: &[(&str, &[Scope])] =
            &[("Almanac.Operator", &[Scope::OperatorRead, Scope::Admin])];
        let groups: &[(&str, &[Scope])] =
            &[("0760b6cf-170e-4a14-91b3-4b78e0739963", &[Scope::SchedulesWrite])];
        assert_eq!(scopes(token.clone(), &[]), [Scope::RecipesWrite]);
        assert_eq!(
            scopes(token, &[("roles", roles), ("groups", groups)]),
            [Scope::RecipesWrite, Scope::OperatorRead, Scope::Admin, Scope::SchedulesWrite]
        );
    }

    /// An access token: scopes with the resource server's name before them, groups, no `aud`.
    #[test]
    fn tokens_of_cognito() {
        let token = json!({
            "sub": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "token_use": "access", "version": 2,
            "iss": "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_example",
            "client_id": "1example23456789", "username": "mary", "jti": "x", "auth_time": 1,
            "scope": "openid almanac/recipes.write", "cognito:groups": ["planners", "others"],
        });
        let scope: &[(&str, &[Scope])] = &[("almanac/recipes.write", &[Scope::RecipesWrite])];
        let groups: &[(&str, &[Scope])] =
            &[("planners", &[Scope::SchedulesWrite, Scope::AnalysesWrite])];
        assert_eq!(scopes(token.clone(), &[]), []);
        assert_eq!(
            scopes(token.clone(), &[("scope", scope), ("cognito:groups", groups)]),
            [Scope::RecipesWrite, Scope::SchedulesWrite, Scope::AnalysesWrite]
        );
        let claims = token.as_object().unwrap();
        assert!(is_for(claims, "client_id", "1example23456789"));
        assert!(
            !is_for(claims, "client_id", "another") && !is_for(claims, "aud", "1example23456789")
        );
    }

    /// An access token: roles of the realm, and of each client.
    #[test]
    fn tokens_of_keycloak() {
        let token = json!({
            "iss": "https://keycloak.example/realms/sea", "aud": ["almanac", "account"], "typ": "Bearer",
            "sub": "b8b5b9ae-3d6d-4d4c-9b3e-6f3f0a1a0a0a", "azp": "console", "sid": "x", "acr": "1",
            "realm_access": {"roles": ["offline_access", "planner"]},
            "resource_access": {"almanac": {"roles": ["operator"]}, "my.client": {"roles": ["cook"]}},
            "scope": "openid profile email", "preferred_username": "mary",
        });
        let planner: &[(&str, &[Scope])] = &[("planner", &[Scope::SchedulesWrite])];
        let operator: &[(&str, &[Scope])] = &[("operator", &[Scope::Admin])];
        let cook: &[(&str, &[Scope])] = &[("cook", &[Scope::RecipesWrite])];
        assert_eq!(
            scopes(
                token,
                &[
                    ("realm_access.roles", planner),
                    ("resource_access.almanac.roles", operator),
                    ("/resource_access/my.client/roles", cook),
                    ("absent.roles", cook),
                ]
            ),
            [Scope::SchedulesWrite, Scope::Admin, Scope::RecipesWrite]
        );
    }

    #[test]
    fn claims_are_found_by_name_and_by_path() {
        let claims = json!({
            "https://almanac.example/roles": 1, "a": {"b.c": {"d": 2}, "e": {"f": 3}}, "x/y": {"~": 4},
        });
        let found = |path| find(claims.as_object().unwrap(), path).and_then(Value::as_i64);
        assert_eq!(found("https://almanac.example/roles"), Some(1));
        assert_eq!(found("a.b.c.d"), Some(2));
        assert_eq!(found("a.e.f"), Some(3));
        assert_eq!(found("/x~1y/~0"), Some(4));
        assert_eq!(found("a.x"), None);
    }

    #[test]
    fn lists_of_scopes_are_read_and_own_subjects_refused() {
        let with = |claims| scopes(claims, &[]);
        assert_eq!(with(json!({"sub": "a", "scp": ["events:read"]})), [Scope::EventsRead]);
        assert_eq!(with(json!({"sub": "a", "scope": ["admin"], "scp": 7})), [Scope::Admin]);
        let of =
            |claims: Value| caller_of(claims.as_object().unwrap(), &IdentityOptions::default());
        for claims in [json!({"sub": "urn:almanac:worker"}), json!({"sub": 7}), json!({})] {
            assert!(of(claims.clone()).is_err(), "{claims}");
        }
    }
}

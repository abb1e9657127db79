use super::*;
use http::HeaderValue;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use std::time::Duration;

/// RFC 8037, appendix A: an Ed25519 key pair.
const ED_PUBLIC: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
const ED_PRIVATE_DER: &[u8] = &[
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
    0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4,
    0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
];

fn jwks(folder: &Path) -> PathBuf {
    let file = folder.join("jwks.json");
    let set = json!({"keys": [
        {"kty": "OKP", "crv": "Ed25519", "x": ED_PUBLIC, "kid": "one", "alg": "EdDSA", "use": "sig"},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB", "use": "enc"},
    ]});
    std::fs::write(&file, set.to_string()).unwrap();
    file
}

fn signed(head: Header, claims: &Value) -> String {
    encode(&head, claims, &EncodingKey::from_ed_der(ED_PRIVATE_DER)).unwrap()
}

fn bearer(token: &str) -> HeaderMap {
    let value = HeaderValue::try_from(format!("Bearer {token}")).unwrap();
    HeaderMap::from_iter([(header::AUTHORIZATION, value)])
}

fn in_an_hour() -> i64 {
    jiff::Timestamp::now().as_second() + 3_600
}

#[test]
fn own_tokens_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys").join("identity.json");
    make_key(&file).unwrap();
    let before = std::fs::read(&file).unwrap();
    make_key(&file).unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), before, "made once");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    let mut minted = Minted {
        subject: "mary",
        scopes: &[Scope::RecipesWrite],
        lifetime: Duration::from_secs(60),
        issuer: None,
        audience: None,
    };
    let token = mint(&file, &minted).unwrap();
    let identity =
        Identity::new(IdentityOptions { files: vec![file.clone()], ..Default::default() }).unwrap();
    let caller = identity.require(&bearer(&token), Scope::RecipesWrite).unwrap();
    assert_eq!((caller.subject.as_str(), caller.is_admin()), ("mary", false));
    let refused = identity.require(&bearer(&token), Scope::Admin).unwrap_err();
    assert_eq!(refused.status(), 403);

    minted.lifetime = Duration::ZERO;
    let other = folder.path().join("other").join("identity.json");
    let together = std::thread::scope(|scope| {
        let made = [(); 8].map(|()| scope.spawn(|| (make_key(&other), std::fs::read(&other))));
        made.map(|made| made.join().unwrap())
    });
    for (made, seen) in together {
        made.unwrap();
        assert_eq!(seen.unwrap(), std::fs::read(&other).unwrap(), "one key for all");
    }
    assert_eq!(
        std::fs::read_dir(folder.path().join("other")).unwrap().count(),
        1,
        "no draft stays"
    );
    let foreign = mint(&other, &minted).unwrap();
    let cut = &token[..token.len() - 3];
    for bad in [foreign.as_str(), cut, "", "a.b.c", &"x".repeat(10_000)] {
        assert_eq!(identity.caller(&bearer(bad)).unwrap_err().status(), 401, "{bad}");
    }
    assert_eq!(identity.caller(&HeaderMap::new()).unwrap_err().status(), 401);
    let mut twice = bearer(&token);
    twice.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer x"));
    assert_eq!(identity.caller(&twice).unwrap_err().status(), 401, "two tokens");
}

#[test]
fn a_providers_keys_decide() {
    let folder = tempfile::tempdir().unwrap();
    let identity = Identity::new(IdentityOptions {
        files: vec![jwks(folder.path())],
        issuer: Some("https://id.example".to_owned()),
        audience: Some("almanac".to_owned()),
        ..Default::default()
    })
    .unwrap();
    let good = json!({
        "sub": "mary", "scope": "openid recipes:write", "exp": in_an_hour(),
        "iss": "https://id.example", "aud": ["almanac", "others"],
    });
    let head = || Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::EdDSA) };
    let caller = identity.caller(&bearer(&signed(head(), &good))).unwrap();
    assert_eq!(caller.subject, "mary");
    assert!(caller.has(Scope::RecipesWrite) && !caller.is_admin());

    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        if claims[name].is_null() {
            claims.as_object_mut().unwrap().remove(name);
        }
        signed(head(), &claims)
    };
    let other_key = Header { kid: Some("two".to_owned()), ..head() };
    for (what, token) in [
        ("expired", with("exp", json!(1_000_000))),
        ("without an end", with("exp", Value::Null)),
        ("of another issuer", with("iss", json!("https://evil.example"))),
        ("without an issuer", with("iss", Value::Null)),
        ("for others", with("aud", json!("others"))),
        ("for nobody", with("aud", Value::Null)),
        ("not yet valid", with("nbf", json!(in_an_hour()))),
        ("without a subject", with("sub", Value::Null)),
        ("of a blank subject", with("sub", json!(" "))),
        ("of a subject that breaks lines", with("sub", json!("a\nb"))),
        ("of a subject without end", with("sub", json!("a".repeat(300)))),
        ("with another key's id", signed(other_key, &good)),
    ] {
        let problem = identity.caller(&bearer(&token)).unwrap_err();
        assert_eq!(problem.status(), 401, "{what}");
    }
    // RFC 7515, section 4.1.11: who does not understand a critical header refuses the token.
    for names in [&["b64"][..], &["exp"], &["http://id.example/may-only-read"], &[]] {
        let crit = Some(names.iter().map(|&name| name.to_owned()).collect());
        let token = signed(Header { crit, ..head() }, &good);
        let problem = identity.caller(&bearer(&token)).unwrap_err();
        assert_eq!(problem.status(), 401, "critical: {names:?}");
        assert!(problem.detail().contains("critical"), "{}", problem.detail());
    }
    // The public key as a shared secret, and no signature at all.
    let shared = EncodingKey::from_secret(ED_PUBLIC.as_bytes());
    let head = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::HS256) };
    let confused = encode(&head, &good, &shared).unwrap();
    let unsigned = format!("eyJhbGciOiJub25lIn0.{}.", confused.split('.').nth(1).unwrap());
    for token in [confused, unsigned] {
        assert_eq!(identity.caller(&bearer(&token)).unwrap_err().status(), 401);
    }
}

#[test]
fn files_without_keys_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let open = |text: &str| {
        let file = folder.path().join("keys.json");
        std::fs::write(&file, text).unwrap();
        let options = IdentityOptions { files: vec![file], ..Default::default() };
        Identity::new(options).err().unwrap().to_string()
    };
    assert!(open("{}").contains("no JWK set"));
    assert!(open("{\"keys\": []}").contains("holds no key"));
    let missing =
        IdentityOptions { files: vec![folder.path().join("absent")], ..Default::default() };
    assert!(Identity::new(missing).err().unwrap().to_string().contains("cannot read"));
}

#[test]
fn the_local_user_needs_no_token() {
    let options = IdentityOptions { local_user: true, ..Default::default() };
    let identity = Identity::new(options).unwrap();
    let local = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static("127.0.0.1:1"))]);
    let caller = identity.caller(&local).unwrap();
    assert_eq!((caller.subject.as_str(), caller.is_admin()), (LOCAL, true));
    let far = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static("a.example"))]);
    assert_eq!(identity.caller(&far).unwrap_err().status(), 403);
    let mut passed_on = local.clone();
    passed_on.insert("x-forwarded-for", HeaderValue::from_static("192.0.2.1"));
    let refused = identity.require(&passed_on, Scope::Admin).unwrap_err();
    assert_eq!(refused.status(), 401, "a proxy on this machine is not its clients");
    // A token that is there and bad is no way to be the local user.
    let mut bad = bearer("x");
    bad.extend(local);
    assert_eq!(identity.caller(&bad).unwrap_err().status(), 401);
}

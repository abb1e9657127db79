use super::*;
use http::HeaderValue;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use std::path::Path;

/// RFC 8037, appendix A: an Ed25519 key pair.
pub(super) const ED_PUBLIC: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
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

/// Whoever signs tokens for people could otherwise speak for Almanac's own parts.
#[test]
fn no_token_speaks_for_almanac() {
    let folder = tempfile::tempdir().unwrap();
    let files = vec![jwks(folder.path())];
    let identity = Identity::new(IdentityOptions { files, ..Default::default() }).unwrap();
    let of = |subject: &str| {
        let claims = json!({"sub": subject, "exp": in_an_hour(), "scope": "admin"});
        let head = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::EdDSA) };
        identity.require(&bearer(&signed(head, &claims)), Scope::Admin)
    };
    assert_eq!(of("mary").unwrap().subject, "mary");
    assert_eq!(of("urn:almanac:worker").unwrap_err().status(), 401);
}

/// An identity provider on a loopback address, which serves what a test tells it to and counts.
#[derive(Clone)]
struct Provider {
    address: std::net::SocketAddr,
    served: std::sync::Arc<parking_lot::Mutex<Served>>,
}

#[derive(Default)]
struct Served {
    jwks: String,
    issuer: Option<String>,
    requests: usize,
    hangs: bool,
}

impl Provider {
    async fn start(jwks: &Value) -> Self {
        use axum::{Router, extract::State, routing::get};
        let (listener, address) = crate::bind("127.0.0.1:0").await.unwrap();
        let served = Served { jwks: jwks.to_string(), ..Served::default() };
        let provider =
            Self { address, served: std::sync::Arc::new(parking_lot::Mutex::new(served)) };
        let keys = get(|State(provider): State<Self>| async move {
            let (text, hangs) = {
                let mut served = provider.served.lock();
                served.requests += 1;
                (served.jwks.clone(), served.hangs)
            };
            if hangs {
                std::future::pending::<()>().await;
            }
            text
        });
        let discovery = get(|State(provider): State<Self>| async move {
            let issuer = provider.served.lock().issuer.clone();
            let issuer = issuer.unwrap_or_else(|| provider.url(""));
            json!({"issuer": issuer, "jwks_uri": provider.url("/keys")}).to_string()
        });
        let router = Router::new()
            .route("/keys", keys)
            .route("/.well-known/openid-configuration", discovery)
            .with_state(provider.clone());
        tokio::spawn(crate::serve(listener, router, Default::default(), Default::default()));
        provider
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn requests(&self) -> usize {
        self.served.lock().requests
    }

    fn serve(&self, jwks: &Value) {
        self.served.lock().jwks = jwks.to_string();
    }

    /// An installation that takes this provider's tokens and follows its keys.
    fn taken_by(&self, address: KeyAddress) -> std::sync::Arc<Identity> {
        let remote = RemoteOptions { address, timeout: Duration::from_millis(500), ca_file: None };
        let options = IdentityOptions { remote: Some(remote), ..Default::default() };
        let identity = std::sync::Arc::new(Identity::new(options).unwrap());
        let following = identity.clone();
        tokio::spawn(async move { following.follow().await });
        identity
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..1_000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

/// RFC 8032, section 7.1: the key pair of the second test.
const OTHER_PUBLIC: &str = "PUAXw-hDiVqStwqnTRt-vJyYLM8uxJaMwM1V8Sr0Zgw";
const OTHER_SEED: [u8; 32] = [
    0x4c, 0xcd, 0x08, 0x9b, 0x28, 0xff, 0x96, 0xda, 0x9d, 0xb6, 0xc3, 0x46, 0xec, 0x11, 0x4e, 0x0f,
    0x5b, 0x8a, 0x31, 0x9f, 0x35, 0xab, 0xa6, 0x24, 0xda, 0x8c, 0xf6, 0xed, 0x4f, 0xb8, 0xa6, 0xfb,
];

fn public(id: &str, x: &str) -> Value {
    json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": id, "use": "sig"})
}

/// A token of mary's under a key's id; of the first key, or else of the other one.
fn token(id: &str, is_first: bool) -> HeaderMap {
    let mut der = ED_PRIVATE_DER.to_vec();
    if !is_first {
        der[16..].copy_from_slice(&OTHER_SEED);
    }
    let head = Header { kid: Some(id.to_owned()), ..Header::new(Algorithm::EdDSA) };
    let claims = json!({"sub": "mary", "scp": "recipes:write", "exp": in_an_hour()});
    bearer(&encode(&head, &claims, &EncodingKey::from_ed_der(&der)).unwrap())
}

async fn status(identity: &Identity, headers: &HeaderMap) -> u16 {
    identity.prepare(headers).await;
    identity.caller(headers).map_or_else(|problem| problem.status().as_u16(), |_| 200)
}

#[tokio::test]
async fn keys_are_rotated_with_one_fetch_for_all_callers() {
    let provider = Provider::start(&json!({"keys": [public("one", ED_PUBLIC)]})).await;
    let identity = provider.taken_by(KeyAddress::Jwks(provider.url("/keys")));
    until("the first keys", async || status(&identity, &token("one", true)).await == 200).await;
    let before = provider.requests();
    assert_eq!(before, 1, "who comes before the first answer waits for it");
    provider.serve(&json!({"keys": [public("two", OTHER_PUBLIC)]}));
    // A minute has not passed if somebody asked for an unknown key at the start.
    identity.ring.forget_asking();
    let new = token("two", false);
    let callers = futures::future::join_all((0..50).map(|_| status(&identity, &new))).await;
    assert_eq!(callers, vec![200; 50]);
    assert_eq!(provider.requests(), before + 1, "all callers share a fetch");
    assert_eq!(status(&identity, &token("one", true)).await, 401, "its key is gone, it was known");
    for number in 0..20 {
        assert_eq!(status(&identity, &token(&format!("made-up-{number}"), true)).await, 401);
    }
    assert_eq!(provider.requests(), before + 1, "and no other follows within the minute");
}

#[tokio::test]
async fn an_address_that_lies_or_hangs_changes_nothing() {
    let provider = Provider::start(&json!({"keys": [public("one", ED_PUBLIC)]})).await;
    let identity = provider.taken_by(KeyAddress::Jwks(provider.url("/keys")));
    until("the first keys", async || status(&identity, &token("one", true)).await == 200).await;
    let secret = json!({"kty": "oct", "alg": "HS256", "kid": "x", "k": "c2VjcmV0"});
    for lie in [
        json!({"keys": []}),
        json!({"keys": [secret]}),
        json!("<html>"),
        json!({"keys": [public("two", OTHER_PUBLIC)], "padding": "x".repeat(300 << 10)}),
    ] {
        provider.serve(&lie);
        identity.ring.forget_asking();
        assert_eq!(status(&identity, &token("two", false)).await, 401, "{:.20}", lie.to_string());
        assert_eq!(status(&identity, &token("one", true)).await, 200, "the known keys stand");
    }
    provider.served.lock().hangs = true;
    identity.ring.forget_asking();
    let (new, known) = (token("two", false), token("one", true));
    let waiting = status(&identity, &new);
    let other = async {
        until("the hanging fetch", async || identity.ring.is_asking()).await;
        status(&identity, &known).await
    };
    assert_eq!(futures::join!(waiting, other), (401, 200), "who has a known key does not wait");
}

#[tokio::test]
async fn without_keys_nobody_is_refused_for_good() {
    let provider = Provider::start(&json!("nothing yet")).await;
    let identity = provider.taken_by(KeyAddress::Jwks(provider.url("/keys")));
    let early = token("one", true);
    assert_eq!(status(&identity, &early).await, 503);
    provider.serve(&json!({"keys": [public("one", ED_PUBLIC)]}));
    until("keys at last", async || status(&identity, &early).await == 200).await;
}

#[tokio::test]
async fn an_issuer_names_its_keys() {
    let provider = Provider::start(&json!({"keys": [public("one", ED_PUBLIC)]})).await;
    let identity = provider.taken_by(KeyAddress::Discovery(provider.url("")));
    until("its keys", async || status(&identity, &token("one", true)).await == 200).await;
    // The document of another issuer is none.
    provider.served.lock().issuer = Some("https://evil.example".to_owned());
    let before = provider.requests();
    let misled = provider.taken_by(KeyAddress::Discovery(provider.url("")));
    assert_eq!(status(&misled, &token("one", true)).await, 503);
    assert_eq!(provider.requests(), before, "its keys are not asked for");
}

#[tokio::test]
async fn files_are_read_again_when_they_change() {
    let folder = tempfile::tempdir().unwrap();
    let file = jwks(folder.path());
    let options = IdentityOptions { files: vec![file.clone()], ..Default::default() };
    let identity = std::sync::Arc::new(Identity::new(options).unwrap());
    let following = identity.clone();
    tokio::spawn(async move { following.follow().await });
    assert_eq!(status(&identity, &token("one", true)).await, 200);
    std::fs::write(&file, "half of a fi").unwrap();
    let (old, new) = (token("one", true), token("two", false));
    // Put in its place, as secrets are.
    let draft = folder.path().join("draft");
    std::fs::write(&draft, json!({"keys": [public("two", OTHER_PUBLIC)]}).to_string()).unwrap();
    assert_eq!(status(&identity, &old).await, 200, "the known keys stand");
    std::fs::rename(&draft, &file).unwrap();
    until("the new key", async || status(&identity, &new).await == 200).await;
    assert_eq!(status(&identity, &old).await, 401, "the old one is gone");
}

#[test]
fn only_allowed_algorithms_and_the_configured_audience_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let with = |algorithms: &[&str], claim: &str| {
        Identity::new(IdentityOptions {
            files: vec![jwks(folder.path())],
            algorithms: algorithms.iter().map(|name| name.parse().unwrap()).collect(),
            audience: Some("almanac".to_owned()),
            audience_claim: claim.to_owned(),
            ..Default::default()
        })
        .unwrap()
    };
    let head = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::EdDSA) };
    let claims = json!({"sub": "mary", "client_id": "almanac", "exp": in_an_hour()});
    let headers = bearer(&signed(head, &claims));
    assert!(with(&["EdDSA"], "client_id").caller(&headers).is_ok());
    let other = with(&["RS256"], "client_id").caller(&headers).unwrap_err();
    assert!(other.detail().contains("algorithm"), "{}", other.detail());
    let nobody = with(&["EdDSA"], "aud").caller(&headers).unwrap_err();
    assert!(nobody.detail().contains("for others"), "{}", nobody.detail());
    for name in ["none", "rs256", ""] {
        assert!(name.parse::<SigningAlgorithm>().is_err(), "{name}");
    }
}

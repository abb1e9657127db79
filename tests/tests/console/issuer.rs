//! An identity provider on loopback that signs everybody in as who was told: OpenID Connect as far as the page
//! uses it. It holds the code's verifier against the challenge, as a real one does.

use axum::{
    Router,
    extract::{Query, State},
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Json, Redirect, Response},
    routing::{get, post},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{collections::HashMap, net::SocketAddr, sync::Arc};

type Fields = HashMap<String, String>;

#[derive(Default)]
struct Known {
    /// What the page is given as its access token.
    token: String,
    /// What the last request of an authorization asked for.
    asked: Fields,
    /// Nonce that identity tokens have instead of the one asked for.
    nonce: Option<String>,
}

pub(crate) struct Issuer {
    address: SocketAddr,
    known: Arc<Mutex<Known>>,
}

type Shared = State<(SocketAddr, Arc<Mutex<Known>>)>;
const ANY_ORIGIN: [(HeaderName, &str); 1] = [(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")];

impl Issuer {
    pub(crate) async fn start() -> Self {
        let (listener, address) = almanac_edge::bind("127.0.0.1:0").await.unwrap();
        let known = Arc::<Mutex<Known>>::default();
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/authorize", get(authorize))
            .route("/token", post(token))
            .route("/mistaken", post(mistaken))
            .with_state((address, known.clone()));
        tokio::spawn(almanac_edge::serve(listener, router, Default::default(), Default::default()));
        Self { address, known }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn gives(&self, token: &str) {
        self.known.lock().token = token.to_owned();
    }
}

async fn discovery(State((address, _)): Shared) -> Response {
    let url = format!("http://{address}");
    let body = json!({
        "issuer": url,
        "authorization_endpoint": format!("{url}/authorize"),
        "token_endpoint": format!("{url}/token"),
    });
    (ANY_ORIGIN, Json(body)).into_response()
}

async fn authorize(State((_, known)): Shared, Query(asked): Query<Fields>) -> Response {
    let field = |name: &str| asked.get(name).cloned().unwrap_or_default();
    let is_whole = field("response_type") == "code"
        && field("client_id") == "almanac-page"
        && field("code_challenge_method") == "S256"
        && field("scope").split(' ').any(|scope| scope == "openid")
        && !field("nonce").is_empty();
    if !is_whole {
        return (StatusCode::BAD_REQUEST, format!("{asked:?}")).into_response();
    }
    let back = format!("{}?code=once&state={}", field("redirect_uri"), field("state"));
    known.lock().asked = asked;
    Redirect::to(&back).into_response()
}

async fn token(State((address, known)): Shared, body: String) -> Response {
    let form = reqwest::Url::parse(&format!("http://form/?{body}")).unwrap();
    let form: Fields = form.query_pairs().into_owned().collect();
    let mut known = known.lock();
    let asked = std::mem::take(&mut known.asked);
    let field = |name: &str| form.get(name).cloned().unwrap_or_default();
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(field("code_verifier")));
    let is_right = field("grant_type") == "authorization_code"
        && field("code") == "once"
        && asked.get("code_challenge") == Some(&challenge)
        && asked.get("redirect_uri") == form.get("redirect_uri")
        && asked.get("client_id") == form.get("client_id");
    if !is_right {
        let body = Json(json!({"error": "invalid_grant"}));
        return (StatusCode::BAD_REQUEST, ANY_ORIGIN, body).into_response();
    }
    let claims: Value = json!({
        "iss": format!("http://{address}"),
        "aud": asked["client_id"],
        "sub": "mary",
        "exp": jiff::Timestamp::now().as_second() + 300,
        "nonce": known.nonce.clone().unwrap_or_else(|| asked["nonce"].clone()),
    });
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let id_token = format!("{}.{}.c2lnbmVk", part(json!({"alg": "none"})), part(claims));
    let body = json!({"token_type": "Bearer", "access_token": known.token, "id_token": id_token});
    (ANY_ORIGIN, Json(body)).into_response()
}

/// From here on its identity tokens are of another sign-in.
async fn mistaken(State((_, known)): Shared) {
    known.lock().nonce = Some("another".to_owned());
}

//! An identity provider: a key set at an address, and tokens signed with its key.

use axum::{Router, http::StatusCode, routing::get};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// RFC 8037, appendix A: an Ed25519 key pair.
const PUBLIC: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
const PRIVATE_DER: &[u8] = &[
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
    0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4,
    0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
];

pub(crate) struct KeyServer {
    address: SocketAddr,
    is_there: Arc<AtomicBool>,
}

impl KeyServer {
    /// It answers with errors until it appears.
    pub(crate) async fn start() -> Self {
        let (listener, address) = almanac_edge::bind("127.0.0.1:0").await.unwrap();
        let is_there = Arc::new(AtomicBool::new(false));
        let there = is_there.clone();
        let answer = move || async move {
            let key = json!({"kty": "OKP", "crv": "Ed25519", "x": PUBLIC, "kid": "one"});
            match there.load(Ordering::Relaxed) {
                true => (StatusCode::OK, json!({"keys": [key]}).to_string()),
                false => (StatusCode::BAD_GATEWAY, "no keys".to_owned()),
            }
        };
        let router = Router::new().route("/keys", get(answer));
        tokio::spawn(almanac_edge::serve(listener, router, Default::default(), Default::default()));
        Self { address, is_there }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/keys", self.address)
    }

    pub(crate) fn appear(&self) {
        self.is_there.store(true, Ordering::Relaxed);
    }

    pub(crate) fn vanish(&self) {
        self.is_there.store(false, Ordering::Relaxed);
    }

    /// The header of a token with these claims.
    pub(crate) fn token(&self, mut claims: Value) -> String {
        claims["exp"] = (jiff::Timestamp::now().as_second() + 3_600).into();
        let head = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::EdDSA) };
        let token = encode(&head, &claims, &EncodingKey::from_ed_der(PRIVATE_DER)).unwrap();
        format!("Bearer {token}")
    }
}

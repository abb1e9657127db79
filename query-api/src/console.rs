//! The page at `/`: the built files of `console/`, packed into the binary.

use crate::{state::PageOptions, v1::documents::html};
use almanac_edge::{Problem, ProblemType, Routes, conditional};
use axum::{
    extract::Path,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use rust_embed::{Embed, EmbeddedFile};
use serde_json::json;
use std::borrow::Cow;

#[derive(Embed)]
#[folder = "../console/dist"]
struct Built;

/// Scripts and styles of our own, requests to this server, and nothing else: whatever a feed or a user
/// managed to put into the page would find nothing to run and nobody to tell. Pictures that need a
/// token are fetched, and shown as `data:`. Where people sign in at an identity provider, the page asks
/// that for tokens.
fn policy(options: &PageOptions) -> HeaderValue {
    let sign_in = options.sign_in.as_ref();
    let others = sign_in.map_or_else(String::new, |known| format!(" {}", known.origins.join(" ")));
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
         connect-src 'self'{others}; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
    );
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

/// What the page has to know before anybody has signed in.
fn settings(options: &PageOptions) -> Bytes {
    let oidc = options.sign_in.as_ref().map(|known| {
        json!({
            "issuer": known.issuer, "client_id": known.client_id, "scope": known.scope,
        })
    });
    json!({ "oidc": oidc }).to_string().into()
}

/// The name of an asset holds a hash of what is in it.
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

pub(crate) fn routes<S: Clone + Send + Sync + 'static>(options: &PageOptions) -> Routes<S> {
    let (policy, settings) = (policy(options), settings(options));
    let page = async |headers: HeaderMap| page(&headers, policy);
    let settings = async |headers: HeaderMap| conditional::json(&headers, settings);
    Routes::new()
        .get("/", page)
        .get("/console.json", settings)
        .undocumented("/assets/{name}", asset)
}

fn page(headers: &HeaderMap, policy: HeaderValue) -> Response {
    let Some(file) = Built::get("index.html") else { return missing() };
    html(headers, bytes_of(file), policy)
}

async fn asset(Path(name): Path<String>) -> Response {
    let Some(file) = Built::get(&format!("assets/{name}")) else { return missing() };
    let kind = match name.rsplit('.').next() {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        _ => "application/octet-stream",
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, FOR_EVER),
        (header::VARY, HeaderValue::from_static("Accept-Encoding")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, bytes_of(file)).into_response()
}

fn missing() -> Response {
    Problem::new(ProblemType::NotFound, "there is no such part of the page").into_response()
}

fn bytes_of(file: EmbeddedFile) -> Bytes {
    match file.data {
        Cow::Borrowed(data) => Bytes::from_static(data),
        Cow::Owned(data) => Bytes::from(data),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::SignIn;
    use axum::{body::Body, extract::Request};
    use http::StatusCode;
    use http_body_util::BodyExt;
    use sha2::{Digest, Sha256};
    use std::{
        fs,
        path::{Path as FilePath, PathBuf},
    };
    use tower::ServiceExt;

    async fn ask(path: &str, headers: &[(header::HeaderName, &str)]) -> Response {
        ask_of(&PageOptions::default(), path, headers).await
    }

    async fn ask_of(
        options: &PageOptions,
        path: &str,
        headers: &[(header::HeaderName, &str)],
    ) -> Response {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = path.parse().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        routes::<()>(options).into_router().oneshot(request).await.unwrap()
    }

    fn header<'a>(answer: &'a Response, name: &header::HeaderName) -> &'a str {
        answer.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[tokio::test]
    async fn the_page_is_asked_for_again_and_its_parts_are_not() {
        let page = ask("/", &[]).await;
        assert_eq!(page.status(), StatusCode::OK);
        assert_eq!(header(&page, &header::CONTENT_TYPE), "text/html; charset=utf-8");
        assert_eq!(header(&page, &header::CACHE_CONTROL), "public, no-cache");
        let policy = header(&page, &header::CONTENT_SECURITY_POLICY);
        assert!(
            policy.starts_with("default-src 'none';") && !policy.contains("unsafe"),
            "{policy}"
        );
        let tag = header(&page, &header::ETAG).to_owned();
        let again = ask("/", &[(header::IF_NONE_MATCH, &tag)]).await;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);

        let text = page.into_body().collect().await.unwrap().to_bytes();
        let text = std::str::from_utf8(&text).unwrap();
        assert!(!text.contains("http://") || text.matches("http://").eq(["http://"]), "{text}");
        let parts: Vec<&str> =
            text.split('"').filter(|part| part.starts_with("/assets/")).collect();
        assert!(parts.len() >= 2, "a script and a style: {text}");
        for part in parts {
            let answer = ask(part, &[]).await;
            assert_eq!(answer.status(), StatusCode::OK, "{part}");
            assert!(header(&answer, &header::CACHE_CONTROL).ends_with("immutable"));
            assert!(header(&answer, &header::CONTENT_TYPE).starts_with("text/"));
        }
        for missing in ["/assets/none.js", "/assets/..%2Fsources.sha256"] {
            assert_eq!(ask(missing, &[]).await.status(), StatusCode::NOT_FOUND, "{missing}");
        }
    }

    #[tokio::test]
    async fn the_page_may_ask_an_identity_provider_that_is_configured() {
        let sign_in = SignIn {
            issuer: "https://id.example/realms/a".to_owned(),
            client_id: "page".to_owned(),
            scope: "openid".to_owned(),
            origins: vec!["https://id.example".to_owned()],
        };
        let options = PageOptions { sign_in: Some(sign_in), ..PageOptions::default() };
        for (options, connect, oidc) in [
            (&PageOptions::default(), "connect-src 'self';", json!(null)),
            (
                &options,
                "connect-src 'self' https://id.example;",
                json!({"issuer": "https://id.example/realms/a", "client_id": "page", "scope": "openid"}),
            ),
        ] {
            let page = ask_of(options, "/", &[]).await;
            let policy = header(&page, &header::CONTENT_SECURITY_POLICY);
            assert!(policy.contains(connect), "{policy}");
            let settings = ask_of(options, "/console.json", &[]).await;
            let settings = settings.into_body().collect().await.unwrap().to_bytes();
            let settings: serde_json::Value = serde_json::from_slice(&settings).unwrap();
            assert_eq!(settings, json!({ "oidc": oidc }));
        }
    }

    fn files_of(path: &FilePath, found: &mut Vec<PathBuf>) {
        if !path.is_dir() {
            return found.push(path.to_owned());
        }
        for entry in fs::read_dir(path).unwrap() {
            files_of(&entry.unwrap().path(), found);
        }
    }

    /// `vite.config.js` writes the same hash beside what it builds.
    #[test]
    fn the_built_files_are_as_new_as_their_sources() {
        let console = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("../console");
        let mut files = Vec::new();
        for name in [
            "index.html",
            "package-lock.json",
            "package.json",
            "src",
            "tsconfig.json",
            "vite.config.js",
        ] {
            files_of(&console.join(name), &mut files);
        }
        let name_of = |file: &PathBuf| file.strip_prefix(&console).unwrap().display().to_string();
        files.sort_by_key(name_of);
        let mut hash = Sha256::new();
        for file in &files {
            hash.update(name_of(file));
            hash.update([0]);
            hash.update(fs::read(file).unwrap());
            hash.update([0]);
        }
        let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let built = fs::read_to_string(console.join("dist/sources.sha256")).unwrap();
        assert_eq!(
            built.trim(),
            hash,
            "console/dist is older than its sources: run `make console`"
        );
    }
}

//! Requests that no honest client sends, byte by byte: what two readers could take for different
//! requests, paths in disguise, names that lead here from elsewhere, and heads without end.

use super::bearer;
use almanac_tests::process::{Engine, Installation, PATIENCE, Process};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const RECIPE: &str = r#"{"name":"r","ingredients":[{"ingredient":"i"}],"steps":[{"text":"Eat."}]}"#;

/// Everything that is answered to these bytes until the connection ends, or after `Connection: close`.
async fn answers(process: &Process, request: &[u8]) -> String {
    let address = process.url("").trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address).await.unwrap();
    // Whoever is cut off in the middle of a head hears the answer none the less.
    let _ = stream.write_all(request).await;
    let (mut all, mut part) = (Vec::new(), vec![0; 1 << 16]);
    let reading = async {
        while let Ok(read @ 1..) = stream.read(&mut part).await {
            all.extend_from_slice(&part[..read]);
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("the connection is closed");
    String::from_utf8_lossy(&all).into_owned()
}

fn statuses(answers: &str) -> Vec<&str> {
    let heads = answers.split("HTTP/1.").skip(1);
    heads.map(|head| head.split(' ').nth(1).unwrap_or_default()).collect()
}

/// The statuses of one request: a first line, fields, and a body.
async fn asked(process: &Process, head: &str, body: &str) -> Vec<String> {
    let request = format!("{}\r\nConnection: close\r\n\r\n{body}", head.replace('\n', "\r\n"));
    let answers = answers(process, request.as_bytes()).await;
    statuses(&answers).into_iter().map(str::to_owned).collect()
}

async fn recipes(process: &Process) -> usize {
    let (_, events) = process.get("/v1/events/recipes.events?after=beginning").await;
    events["items"].as_array().unwrap().len()
}

/// What ends where is said once, or the request is refused and nothing behind it is read: a proxy before
/// this and this never take one byte for parts of different requests.
#[tokio::test(flavor = "multi_thread")]
async fn no_request_hides_in_another() {
    let installation = Installation::new(Engine::Embedded);
    let process = installation.up().await;
    let post = "POST /v1/recipes HTTP/1.1\nHost: 127.0.0.1";
    let hidden = format!(
        "POST /v1/recipes HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n\r\n{RECIPE}",
        RECIPE.len()
    );
    for (what, fields) in [
        ("two lengths", "Content-Length: 0\nContent-Length: 5"),
        ("a list of lengths", "Content-Length: 0, 5"),
        ("a signed length", "Content-Length: +0"),
        ("a negative length", "Content-Length: -1"),
        ("a length in hex", "Content-Length: 0x0"),
        ("a length beyond 64 bits", "Content-Length: 18446744073709551616"),
        ("a coding that is not last", "Transfer-Encoding: chunked, identity"),
        ("an unknown coding", "Transfer-Encoding: xchunked"),
        ("a space before the colon", "Transfer-Encoding : chunked"),
        ("a folded line", "X-A: b\n Content-Length: 0"),
        ("a name with a control character", "X\u{1}A: b"),
        ("a value with NUL", "X-A: b\0c"),
        ("a lone carriage return", "X-A: b\rTransfer-Encoding: chunked"),
    ] {
        let seen = asked(&process, &format!("{post}\n{fields}"), &hidden).await;
        assert_eq!(seen, ["400"], "{what}");
    }
    // Both a coding and a length: the coding counts, as RFC 9112 says, and the connection ends with it,
    // so what stands behind the last chunk is nobody's request.
    let both = format!("{post}\nContent-Length: 5\nTransfer-Encoding: chunked");
    let seen = asked(&process, &both, &format!("0\r\n\r\n{hidden}")).await;
    assert_eq!(seen, ["400"], "the body is empty, and that is all");
    for (what, chunks) in [
        ("a chunk's size without a number", "x\r\n\r\n"),
        ("a chunk longer than its size", "1\r\nab\r\n0\r\n\r\n"),
        ("a size beyond 64 bits", "10000000000000000\r\na\r\n0\r\n\r\n"),
    ] {
        let chunked = format!("{post}\nTransfer-Encoding: chunked");
        let seen = asked(&process, &chunked, &format!("{chunks}{hidden}")).await;
        assert_eq!(seen, ["400"], "{what}");
    }
    assert_eq!(recipes(&process).await, 0, "nothing hidden was carried out");
    // The same bytes without the disguise are a write.
    let plain = format!("{post}\nContent-Length: {}", RECIPE.len());
    assert_eq!(asked(&process, &plain, RECIPE).await, ["201"]);
    assert_eq!(recipes(&process).await, 1);
}

/// A path means what it says, letter by letter, or nothing.
#[tokio::test(flavor = "multi_thread")]
async fn paths_in_disguise_lead_nowhere() {
    let installation = Installation::new(Engine::Embedded).with("identity.local_user = false");
    let process = installation.up().await;
    let mary = bearer(&installation, "mary", "recipes:write");
    for path in [
        "/v1/recipes/../admin/projections",
        "/v1/recipes/%2e%2e/admin/projections",
        "/v1/recipes/..%2fadmin%2fprojections",
        "/v1/recipes/..%252fadmin%252fprojections",
        "/v1/recipes/..;/admin/projections",
        "/v1/recipes/..\\admin\\projections",
        "//v1/admin/projections",
        "/v1//admin/projections",
        "/V1/admin/projections",
        "/v1/admin/projections/",
        "/v1/%61dmin/projections",
        "/v1/recipes/%00",
        "/v1/recipes/%ff",
        "/../../../../etc/passwd",
        "/assets/..%2f..%2f..%2fetc%2fpasswd",
        "/assets/%2e%2e/%2e%2e/etc/passwd",
        "/schemas/ids/..%2f1",
        "/problems/..%2f..%2fetc%2fpasswd",
    ] {
        for token in ["", mary.as_str()] {
            let authorization = match token {
                "" => String::new(),
                token => format!("\nAuthorization: {token}"),
            };
            let head = format!("GET {path} HTTP/1.1\nHost: x{authorization}");
            let seen = asked(&process, &head, "").await;
            let is_nothing =
                matches!(seen.as_slice(), [one] if ["400", "404"].contains(&one.as_str()));
            assert!(is_nothing, "{path}: {seen:?}");
        }
    }
    // And that one is there, and not hers.
    let head = format!("GET /v1/admin/projections HTTP/1.1\nHost: x\nAuthorization: {mary}");
    assert_eq!(asked(&process, &head, "").await, ["403"]);
}

/// A name of somebody else's that is made to lead to this machine is not this machine, however the
/// request names it.
#[tokio::test(flavor = "multi_thread")]
async fn names_that_lead_here_are_not_here() {
    let installation = Installation::new(Engine::Embedded);
    let process = installation.up().await;
    let length = format!("Content-Length: {}", RECIPE.len());
    for (head, expected) in [
        ("POST /v1/recipes HTTP/1.1\nHost: 127.0.0.1", "201"),
        ("POST /v1/recipes HTTP/1.1\nHost: evil.example", "403"),
        (
            "POST /v1/recipes HTTP/1.1\nHost: evil.example:8080\nOrigin: http://evil.example:8080",
            "403",
        ),
        ("POST /v1/recipes HTTP/1.1\nHost: 127.0.0.1\nOrigin: http://evil.example", "403"),
        ("POST /v1/recipes HTTP/1.1\nHost: 127.0.0.1\nHost: evil.example", "403"),
        ("POST /v1/recipes HTTP/1.1", "403"),
        ("POST /v1/recipes HTTP/1.0", "403"),
        // The whole address in the first line goes before Host (RFC 9112, section 3.2.2).
        ("POST http://evil.example/v1/recipes HTTP/1.1\nHost: 127.0.0.1", "403"),
        ("POST /v1/recipes HTTP/1.1\nHost: 127.0.0.1\nX-Forwarded-Host: evil.example", "401"),
    ] {
        let seen = asked(&process, &format!("{head}\n{length}"), RECIPE).await;
        assert_eq!(seen, [expected], "{head}");
    }
}

/// A head is bounded, and so is each of its parts; whoever exceeds them is told, and others are served.
#[tokio::test(flavor = "multi_thread")]
async fn heads_are_bounded() {
    let installation = Installation::new(Engine::Embedded);
    let process = installation.up().await;
    let long = |length: usize| "x".repeat(length);
    for (what, head, expected) in [
        (
            "a query of 100 kB",
            format!("GET /v1/plans?q={} HTTP/1.1\nHost: x", long(100_000)),
            "414",
        ),
        ("a path of 1 MB", format!("GET /{} HTTP/1.1\nHost: x", long(1_000_000)), "431"),
        (
            "a token of 1 MB",
            format!("GET /v1/recipes HTTP/1.1\nHost: x\nAuthorization: Bearer {}", long(1_000_000)),
            "431",
        ),
        (
            "a token of 100 kB",
            format!("POST /v1/recipes HTTP/1.1\nHost: x\nAuthorization: Bearer {}", long(100_000)),
            "401",
        ),
        (
            "a thousand fields",
            format!("GET /v1/recipes HTTP/1.1\nHost: x{}", "\nX-A: b".repeat(1_000)),
            "431",
        ),
    ] {
        assert_eq!(asked(&process, &head, "").await, [expected], "{what}");
    }
    let parameters = "a=b&".repeat(10_000);
    let many = format!("GET /v1/plans?{parameters} HTTP/1.1\nHost: x");
    let request = format!("{}\r\nConnection: close\r\n\r\n", many.replace('\n', "\r\n"));
    let refused = answers(&process, request.as_bytes()).await;
    assert_eq!(statuses(&refused), ["400"]);
    assert!(refused.len() < 8_192, "a refusal of {} bytes", refused.len());
    assert_eq!(process.get("/v1/recipes").await.0, 200);
}

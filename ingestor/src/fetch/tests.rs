//! Fetches from a server on loopback.

use super::*;
use crate::tests::{Server, answer, provider};
use almanac_errors::chain;
use std::io::Read;

fn fetcher(url: &str, change: impl FnOnce(&mut ProviderConfig)) -> Fetcher {
    let mut provider = provider("p", url);
    change(&mut provider);
    let options = IngestOptions { max_body_bytes: 1 << 16, ..IngestOptions::default() };
    Fetcher::new(&provider, &options).unwrap()
}

async fn text(fetcher: &Fetcher) -> Result<(String, Option<&'static str>), FetchError> {
    let Fetched::Body(mut body) = fetcher.fetch(&Validators::default()).await? else {
        panic!("a body was asked for");
    };
    let mut text = String::new();
    body.file.read_to_string(&mut text).unwrap();
    assert_eq!(body.bytes, text.len() as u64);
    Ok((text, body.charset))
}

fn gz(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn bodies_are_decompressed_and_their_charset_is_known() {
    let server = Server::start(|head| {
        let body = gz(b"<planList/>");
        let headers = match head.split_whitespace().nth(1).unwrap() {
            "/named" => {
                "Content-Encoding: X-GZIP\r\nContent-Type: text/xml;charset=\"ISO-8859-1\"\r\n"
            }
            "/twice" => "Content-Encoding: gzip\r\nContent-Type: application/gzip\r\n",
            "/unnamed" => "Content-Type: application/xml; charset=none\r\n",
            _ => "Content-Encoding: sdch\r\n",
        };
        answer("200 OK", headers, &body)
    })
    .await;
    let at = |path: &str| fetcher(&format!("http://{}{path}", server.address), |_| {});
    let plain = "<planList/>".to_owned();
    assert_eq!(text(&at("/named")).await.unwrap(), (plain.clone(), Some("windows-1252")));
    assert_eq!(text(&at("/twice")).await.unwrap(), (plain.clone(), None));
    assert_eq!(text(&at("/unnamed")).await.unwrap(), (plain, None));
    let refused = text(&at("/other")).await;
    assert!(
        matches!(&refused, Err(FetchError::UnknownCoding { name }) if name == "sdch"),
        "{refused:?}"
    );
    assert!(server.heads()[0].contains("accept-encoding: gzip, deflate, br, zstd\r\n"));
}

#[tokio::test]
async fn a_body_that_grows_beyond_the_limit_is_refused() {
    let server = Server::start(|_| answer("200 OK", "", &gz(&vec![b' '; (1 << 16) + 1]))).await;
    let found = text(&fetcher(&format!("http://{}/", server.address), |_| {})).await;
    assert!(matches!(found, Err(FetchError::TooLarge { limit: 0x1_0000 })), "{found:?}");
}

/// The client library names the whole address in its errors, and other layers may.
#[tokio::test]
async fn errors_do_not_tell_keys() {
    // Bound and closed: nobody listens there.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let cut_off =
        Server::start(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<".to_vec()).await;
    let garbage = Server::start(|_| b"apikey=k3y-in-garbage\r\n\r\n".to_vec()).await;
    let nowhere = Server::start(|_| answer("302 Found", "Location: http://[\r\n", b"")).await;
    let away = Server::start(|_| {
        answer("302 Found", "Location: http://u:s3cret-too@other.example/?key=s3cret-too\r\n", b"")
    })
    .await;
    for address in [address, cut_off.address, garbage.address, nowhere.address, away.address] {
        let url = format!("http://mary:s3cret@{address}/t0ken/plans.xml?apikey=k3y-in-query");
        let fetcher = fetcher(&url, |provider| {
            provider.headers.insert("X-Api-Key".to_owned(), "k3y-in-header".into());
        });
        let error = text(&fetcher).await.unwrap_err();
        let error = format!("{} {error:?}", chain(&error));
        for secret in
            ["mary", "s3cret", "t0ken", "k3y-in-query", "k3y-in-header", "apikey=k3y-in-q"]
        {
            assert!(!error.contains(secret), "{secret} in {error}");
        }
    }
    let mut wrong = provider("p", "ftp://mary:s3cret@h.example/?apikey=k3y");
    for url in ["ftp://mary:s3cret@h/?apikey=s3cret", "http://mary:s3cret@:x/", "s3cret"] {
        wrong.url = url.into();
        let error = wrong.validate().unwrap_err().to_string();
        assert!(!error.contains("s3cret") && !error.contains("mary"), "{error}");
    }
}

#[tokio::test]
async fn keys_go_to_the_configured_host_only() {
    let other = Server::start(|head| {
        let body = match head.split_whitespace().nth(1) {
            Some("/back") => return answer("302 Found", "Location: /plans.xml\r\n", b""),
            _ => b"<planList/>",
        };
        answer("200 OK", "", body)
    })
    .await;
    let target = format!("http://{}/back", other.address);
    let home = Server::start(move |head| match head.split_whitespace().nth(1) {
        Some("/moved?apikey=k3y") => answer("301 Moved", &format!("Location: {target}\r\n"), b""),
        Some("/first") => answer("307 Temporary Redirect", "Location: second\r\n", b""),
        Some("/round") => answer("302 Found", "Location: /round\r\n", b""),
        _ => answer("200 OK", "", b"<planList/>"),
    })
    .await;
    let at = |path: &str, anywhere| {
        fetcher(&format!("http://mary:s3cret@{}{path}", home.address), |provider| {
            provider.headers.insert("X-Api-Key".to_owned(), "k3y".into());
            provider.headers.insert("Accept-Encoding".to_owned(), "identity".into());
            provider.allow_redirects_to_other_hosts = anywhere;
        })
    };
    let refused = text(&at("/moved?apikey=k3y", false)).await;
    let elsewhere = format!("http://{}", other.address);
    assert!(
        matches!(&refused, Err(FetchError::ForeignRedirect(to)) if *to == elsewhere),
        "{refused:?}"
    );
    assert!(other.heads().is_empty());

    text(&at("/moved?apikey=k3y", true)).await.unwrap();
    assert_eq!(other.heads().len(), 2, "its own redirect was followed, too");
    for head in other.heads() {
        let head = head.to_ascii_lowercase();
        for secret in ["k3y", "referer", "authorization", "s3cret", "mary", "identity"] {
            assert!(!head.contains(secret), "{secret} in {head}");
        }
        assert!(head.contains("user-agent: almanac/"), "{head}");
    }

    let before = home.heads().len();
    text(&at("/first", false)).await.unwrap();
    let heads = home.heads().split_off(before);
    assert_eq!(heads.len(), 2);
    for head in heads {
        let head = head.to_ascii_lowercase();
        assert!(head.contains("x-api-key: k3y") && head.contains("authorization: basic"), "{head}");
        assert!(head.contains("accept-encoding: identity") && !head.contains("referer"), "{head}");
    }
    let round = text(&at("/round", true)).await;
    assert!(matches!(round, Err(FetchError::TooManyRedirects)), "{round:?}");
}

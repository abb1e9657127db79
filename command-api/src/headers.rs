//! Headers of a write: which version is expected, which request it repeats.

use almanac_edge::{Problem, ProblemType, conditional, query::bad};
use http::{HeaderMap, HeaderName};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const MAX_KEY: usize = 255;

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(bad(name.as_str(), "it is given more than once"));
    }
    let text = first.to_str().map_err(|_| bad(name.as_str(), "it must be visible ASCII"))?;
    Ok(Some(text.trim()))
}

/// The versions in `If-Match`; `None` when any will do. A weak tag is taken as well: proxies weaken
/// tags when they compress, or add the coding to them, and a version is no less exact for it.
pub(crate) fn if_match(headers: &HeaderMap) -> Result<Option<Vec<u64>>, Problem> {
    let Some(text) = text(headers, &http::header::IF_MATCH)? else { return Ok(None) };
    if text == "*" {
        return Ok(None);
    }
    let versions = text.split(',').map(|tag| {
        let number = conditional::opaque(tag.trim())?;
        number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok())?
    });
    let versions: Option<Vec<u64>> = versions.collect();
    match versions {
        Some(versions) if versions.len() <= 20 => Ok(Some(versions)),
        _ => Err(bad("if-match", "it must be *, or versions such as \"3\"")),
    }
}

/// The key of a request that may be repeated, with or without the quotes of a structured field.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(text) = text(headers, &IDEMPOTENCY_KEY)? else { return Ok(None) };
    let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    if bare.is_empty() || bare.len() > MAX_KEY {
        return Err(bad("idempotency-key", "it must have 1 to 255 characters"));
    }
    Ok(Some(bare.to_owned()))
}

/// An id in a path; what is none names nothing.
pub(crate) fn id(text: &str, what: &str) -> Result<uuid::Uuid, Problem> {
    let detail = format!("there is no {what} with this id");
    text.parse().map_err(|_| Problem::new(ProblemType::NotFound, detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(name: &'static str, values: &[&'static str]) -> HeaderMap {
        let name = HeaderName::from_static(name);
        values.iter().map(|value| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn versions_are_read() {
        let read = |values: &[&'static str]| if_match(&headers("if-match", values)).ok();
        assert_eq!(read(&[]), Some(None));
        assert_eq!(read(&["*"]), Some(None));
        assert_eq!(read(&["\"3\""]), Some(Some(vec![3])));
        assert_eq!(read(&["W/\"3\", \"12\""]), Some(Some(vec![3, 12])));
        let by_proxies = ["\"3-gzip\"", "\"3;br\"", "W/\"3--gzip\"", "\"3-gzip\", W/\"3;zstd\""];
        assert_eq!(by_proxies.map(|tags| read(&[tags]).flatten().unwrap()[0]), [3; 4]);
        for bad in [
            "\"3-\"",
            "\"3-x\"",
            "\"-gzip\"",
            "\"3gzip\"",
            "3",
            "\"x\"",
            "\"-1\"",
            "\"\"",
            "W/3",
            "\"99999999999999999999\"",
            "\"1\",",
            "",
        ] {
            assert_eq!(read(&[bad]), None, "{bad:?}");
        }
        assert_eq!(read(&["\"1\"", "\"2\""]), None, "given twice");
    }

    #[test]
    fn keys_are_bounded() {
        let read = |value: &'static str| idempotency_key(&headers("idempotency-key", &[value]));
        assert_eq!(read("\"a-1\"").unwrap().as_deref(), Some("a-1"));
        assert_eq!(read("a-1").unwrap().as_deref(), Some("a-1"));
        assert!(read("").is_err() && read("\"\"").is_err());
    }
}

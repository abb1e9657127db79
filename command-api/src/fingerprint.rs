//! What tells two requests with one idempotency key apart.

use almanac_schemas::json::canonical;
use xxhash_rust::xxh3::Xxh3;

/// Of what is asked for. The same JSON, written in another way, asks for the same: the body counts in
/// its canonical form. Beside it stands the hash of the body as it came, which is all that earlier
/// versions remembered: a key that they took is known after an upgrade.
pub(crate) fn of(verb: &str, expected: Option<&[u64]>, body: &[u8]) -> String {
    let as_it_came = hash(verb, expected, body);
    match canonical(body) {
        Some(text) => format!("{}-{as_it_came}", hash(verb, expected, text.as_bytes())),
        None => as_it_came,
    }
}

fn hash(verb: &str, expected: Option<&[u64]>, body: &[u8]) -> String {
    let mut hash = Xxh3::new();
    hash.update(verb.as_bytes());
    hash.update(format!("{expected:?}").as_bytes());
    hash.update(body);
    format!("{:032x}", hash.digest128())
}

/// Whether two of them are of the same request.
pub(crate) fn agree(one: &str, other: &str) -> bool {
    match (one.split_once('-'), other.split_once('-')) {
        (Some((one, _)), Some((other, _))) => one == other,
        (one_parts, other_parts) => {
            one_parts.map_or(one, |(_, came)| came) == other_parts.map_or(other, |(_, came)| came)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_json_is_the_same_request() {
        let of_body = |body: &str| of("create", None, body.as_bytes());
        let one = of_body(r#"{"name":"Crème","calories":420,"tags":[]}"#);
        for same in [
            "{ \"tags\" : [ ],\n \"calories\":420.0, \"name\":\"Cr\\u00e8me\" }",
            r#"{"calories":42e1,"name":"Crème","tags":[]}"#,
        ] {
            assert!(agree(&one, &of_body(same)), "{same}");
        }
        for other in ["{}", r#"{"name":"Crème","calories":421,"tags":[]}"#, "", "{"] {
            assert!(!agree(&one, &of_body(other)), "{other}");
        }
        let body = br#"{"name":"Cr\u00e8me"}"#;
        assert!(!agree(&of("create", None, body), &of("replace", None, body)));
        assert!(!agree(&of("replace", Some(&[1]), body), &of("replace", Some(&[2]), body)));
        let (picture, other) = (&b"\xff\xd8\xff-1"[..], &b"\xff\xd8\xff-2"[..]);
        assert!(agree(&of("thumbnail", None, picture), &of("thumbnail", None, picture)));
        assert!(!agree(&of("thumbnail", None, picture), &of("thumbnail", None, other)));
    }

    #[test]
    fn what_earlier_versions_remembered_is_known() {
        let body = br#"{"a": 1}"#;
        let (remembered, asked) = (hash("create", None, body), of("create", None, body));
        assert!(agree(&remembered, &asked) && agree(&asked, &remembered));
        assert!(!agree(&remembered, &of("create", None, br#"{"a": 2}"#)));
    }
}

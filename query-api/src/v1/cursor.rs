//! Cursors: where a page ended, bound to the filters it was made with. Opaque to clients.

use almanac_edge::{Problem, ProblemType, query::Parameters};
use std::{fmt::Display, str::FromStr};
use xxhash_rust::xxh3::xxh3_64;

/// What a page says of the one after it, as JSON: a cursor of `key`, the last it has, for requests
/// with the same `filters`; or null where none comes.
pub(super) fn next(filters: &str, key: Option<impl Display>) -> String {
    key.map_or("null".to_owned(), |key| format!("\"{}\"", encode(filters, &key.to_string())))
}

fn encode(filters: &str, key: &str) -> String {
    let text = format!("{:016x}{key}", xxh3_64(filters.as_bytes()));
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// Where the page before ended, of a request with these filters; `None` for the first page.
pub(super) fn after<T: FromStr>(
    parameters: &Parameters,
    filters: &str,
) -> Result<Option<T>, Problem> {
    parameters.one("cursor")?.map(|cursor| decode(filters, cursor)).transpose()
}

/// The number of the first event of a page of an aggregate's history: they count from 1 without gaps.
pub(super) fn first_event(parameters: &Parameters, id: &str) -> Result<u64, Problem> {
    let after: Option<u64> = after(parameters, id)?;
    Ok(after.unwrap_or_default().saturating_add(1))
}

/// The key of a cursor that was made with the same filters.
pub(super) fn decode<T: FromStr>(filters: &str, cursor: &str) -> Result<T, Problem> {
    let bad = || {
        let detail = "it is not one of this installation, or of a request with other filters";
        Problem::new(ProblemType::BadCursor, detail)
    };
    // A number may begin with a plus sign as well, a cursor may not.
    let is_hex = cursor.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !cursor.len().is_multiple_of(2) || cursor.len() > 2_000 || !is_hex {
        return Err(bad());
    }
    let bytes: Option<Vec<u8>> = (0..cursor.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&cursor[at..at + 2], 16).ok())
        .collect();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(bad)?;
    let (hash, key) = text.split_at_checked(16).ok_or_else(bad)?;
    if hash != format!("{:016x}", xxh3_64(filters.as_bytes())) {
        return Err(bad());
    }
    key.parse().map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_fit_their_filters_only() {
        let cursor = encode("a=1", "2021/ñ");
        assert_eq!(decode::<String>("a=1", &cursor).unwrap(), "2021/ñ");
        assert!(decode::<u64>("a=1", &cursor).is_err());
        assert!(decode::<String>("a=2", &cursor).is_err());
        let signed = format!("{}+a", &cursor[..cursor.len() - 2]);
        for bad in ["", "zz", "abc", "ñ", &"a".repeat(5_000), &cursor[2..], &signed] {
            assert!(decode::<String>("a=1", bad).is_err(), "{bad}");
        }
    }
}

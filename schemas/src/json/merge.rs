//! JSON Merge Patch (RFC 7396) on texts, so that numbers keep the digits they came with.

use super::walk::{NotJson, parse};
use serde_json::value::RawValue;
use std::{borrow::Cow, collections::BTreeMap};

/// Objects merge, null removes, everything else replaces.
pub fn merge_patch(target: &[u8], patch: &[u8]) -> Result<String, NotJson> {
    // Both were checked for depth, which bounds the recursion.
    let (target, patch) = (parse(target)?, parse(patch)?);
    merge(Some(target), patch)
}

type Members<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

fn members(raw: &RawValue) -> Result<Option<Members<'_>>, NotJson> {
    if !raw.get().starts_with('{') {
        return Ok(None);
    }
    let members = serde_json::from_str(raw.get());
    members.map(Some).map_err(|error| NotJson::Syntax(error.into()))
}

fn merge(target: Option<&RawValue>, patch: &RawValue) -> Result<String, NotJson> {
    let Some(changes) = members(patch)? else { return Ok(patch.get().to_owned()) };
    let mut merged: BTreeMap<Cow<'_, str>, Cow<'_, str>> = BTreeMap::new();
    let kept = match target {
        Some(target) => members(target)?.unwrap_or_default(),
        None => Members::new(),
    };
    for (name, value) in &kept {
        merged.insert(name.clone(), Cow::Borrowed(value.get()));
    }
    for (name, value) in changes {
        if value.get() == "null" {
            merged.remove(&name);
        } else {
            let value = merge(kept.get(&name).copied(), value)?;
            merged.insert(name, Cow::Owned(value));
        }
    }
    let mut text = String::from("{");
    for (place, (name, value)) in merged.iter().enumerate() {
        if place > 0 {
            text.push(',');
        }
        text.push_str(&serde_json::to_string(name).unwrap_or_default());
        text.push(':');
        text.push_str(value);
    }
    text.push('}');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 7396, appendix A, with objects as targets.
    #[test]
    fn patches_merge_as_the_rfc_says() {
        for (target, patch, expected) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, r#"{}"#),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
            (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
            (r#"{"a":"foo"}"#, "null", "null"),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"a":1,"e":null}"#),
            (r#"[1,2]"#, r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
            (r#"{}"#, r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
            (r#"{"n":10.50}"#, r#"{"m":1e2}"#, r#"{"m":1e2,"n":10.50}"#),
        ] {
            let merged = merge_patch(target.as_bytes(), patch.as_bytes());
            assert_eq!(merged.unwrap(), expected, "{target} {patch}");
        }
        assert!(matches!(merge_patch(b"{}", b"{"), Err(NotJson::Syntax(_))));
        let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
        let merged = merge_patch(b"{}", deep.as_bytes());
        assert!(matches!(merged, Err(NotJson::TooDeep { limit: 16 })), "{merged:?}");
    }
}

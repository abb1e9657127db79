//! One text for all ways to write the same JSON, after RFC 8785: no spaces, members by the UTF-16
//! units of their names, the shortest escapes. Numbers keep all their digits, which those of the RFC,
//! being binary floating point, do not; so the text is to be hashed and compared, not to be sent.

use super::{number::Number, walk::parse};
use serde_json::value::RawValue;
use std::{borrow::Cow, collections::BTreeMap};

/// `None` for what is no JSON, is nested deeper than a body may be, or holds strings that are no
/// Unicode text: that is the same as another body only where it is so byte by byte.
pub fn canonical(body: &[u8]) -> Option<String> {
    let mut text = String::with_capacity(body.len());
    put(&mut text, parse(body).ok()?)?;
    Some(text)
}

/// The depth was checked, which bounds the recursion.
fn put(out: &mut String, raw: &RawValue) -> Option<()> {
    let text = raw.get();
    match text.bytes().next()? {
        b'{' => {
            // Of a name that is there twice the last counts, as everywhere.
            let members: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(text).ok()?;
            let mut members: Vec<_> = members.into_iter().collect();
            members.sort_by(|(one, _), (other, _)| one.encode_utf16().cmp(other.encode_utf16()));
            put_all(out, ('{', '}'), members, |out, (name, value)| {
                out.push_str(&serde_json::to_string(&name).ok()?);
                out.push(':');
                put(out, value)
            })
        }
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            put_all(out, ('[', ']'), items, put)
        }
        b'"' => {
            let string: Cow<'_, str> = serde_json::from_str(text).ok()?;
            out.push_str(&serde_json::to_string(&string).ok()?);
            Some(())
        }
        b't' | b'f' | b'n' => {
            out.push_str(text);
            Some(())
        }
        _ => {
            match Number::parse(text) {
                Some(number) => out.push_str(&number.to_string()),
                None => out.push_str(text),
            }
            Some(())
        }
    }
}

fn put_all<T>(
    out: &mut String,
    (open, close): (char, char),
    items: Vec<T>,
    mut put: impl FnMut(&mut String, T) -> Option<()>,
) -> Option<()> {
    out.push(open);
    for (place, item) in items.into_iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        put(out, item)?;
    }
    out.push(close);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 8785, sections 3.2.2 and 3.2.3, but for its numbers.
    #[test]
    fn texts_are_canonical_as_the_rfc_says() {
        for (text, expected) in [
            (
                r#"{"string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false]}"#,
                "{\"literals\":[null,true,false],\"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}",
            ),
            (
                r#"{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh","1":"One","\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}"#,
                "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u{80}\":\"Control\",\"ö\":\"Latin Small Letter O With Diaeresis\",\"€\":\"Euro Sign\",\"\u{1f600}\":\"Emoji: Grinning Face\",\"\u{fb33}\":\"Hebrew Letter Dalet With Dagesh\"}",
            ),
        ] {
            assert_eq!(canonical(text.as_bytes()).as_deref(), Some(expected));
            assert_eq!(canonical(expected.as_bytes()).as_deref(), Some(expected));
        }
    }

    #[test]
    fn the_same_is_the_same_however_it_is_written() {
        let one = canonical(br#"{"a":[420,{"b":null,"c":"\u00e9"}],"d":10.5}"#).unwrap();
        for other in [
            "{ \"d\" : 1050e-2,\n\t\"a\" : [ 42e1 , { \"c\" : \"é\" , \"b\" : null } ] }",
            r#"{"a":1,"\u0061":[420.0,{"b":null,"c":"é"}],"d":10.50}"#,
        ] {
            assert_eq!(canonical(other.as_bytes()).as_deref(), Some(one.as_str()), "{other}");
        }
        for (one, other) in [
            ("[1,2]", "[2,1]"),
            ("0.1", "0.10000000000000000001"),
            ("9007199254740993", "9007199254740992"),
            ("\"1\"", "1"),
            ("{\"a\":null}", "{}"),
            ("1e99999999999999999999", "1e99999999999999999998"),
        ] {
            assert_ne!(canonical(one.as_bytes()), canonical(other.as_bytes()), "{one} {other}");
        }
        let deep = format!("{}1{}", "[".repeat(50_000), "]".repeat(50_000));
        for none in ["", "{", "{} {}", "\"\\ud800\"", &deep] {
            assert_eq!(canonical(none.as_bytes()), None);
        }
    }
}

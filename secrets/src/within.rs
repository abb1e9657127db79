//! What of an address may be told: who serves it, and neither the name and password before the
//! host nor anything behind it, which is where keys stand.

use std::borrow::Cow;

/// The text with every address in it cut down to scheme, host and port.
pub fn without_secrets(text: &str) -> Cow<'_, str> {
    const MARK: &str = "://";
    if !text.contains(MARK) {
        return Cow::Borrowed(text);
    }
    let mut told = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(MARK) {
        let (before, after) = rest.split_at(at + MARK.len());
        told.push_str(before);
        let ends =
            |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '<' | '>' | '`');
        let (address, behind) = after.split_at(after.find(ends).unwrap_or(after.len()));
        let authority = address.split(['/', '?', '#', '\\']).next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        // Marks of the sentence around it are not the address's.
        let sentence = [')', ']', '}', '.', ',', ':', ';', '\''];
        let end = address.trim_end_matches(sentence);
        told.push_str(host.trim_end_matches(sentence));
        if end.len() > authority.trim_end_matches(sentence).len() {
            told.push_str("/…");
        }
        told.push_str(&address[end.len()..]);
        rest = behind;
    }
    told.push_str(rest);
    Cow::Owned(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scheme_host_and_port_are_told() {
        for (text, told) in [
            ("nothing here", "nothing here"),
            (
                "error sending request for url (http://user:pa@ss@h.example:8080/a/b.xml?apikey=k#f): refused",
                "error sending request for url (http://h.example:8080/…): refused",
            ),
            ("http://key@h", "http://h"),
            (
                "\"https://u:p@[::1]:9/x\" and http://b?k=1, too",
                "\"https://[::1]:9/…\" and http://b/…, too",
            ),
            ("at http://127.0.0.1:7.", "at http://127.0.0.1:7."),
            ("://", "://"),
            ("http://u:p@é.example/ñ?clé=ü end", "http://é.example/… end"),
        ] {
            assert_eq!(without_secrets(text), told);
        }
    }
}

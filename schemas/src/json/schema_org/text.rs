//! Texts as pages write them: with entities and marks of HTML, alone or in lists and objects.

use serde_json::Value;

/// One line: entities resolved, marks of HTML and line breaks taken for spaces.
pub(super) fn line(text: &str) -> String {
    plain(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The lines that are not empty. A break, an item or a paragraph of HTML ends a line, too.
pub(super) fn lines(text: &str) -> Vec<String> {
    let lines = plain(text);
    let lines = lines.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.filter(|line| !line.is_empty()).collect()
}

/// Marks are taken out before and after entities are resolved: some pages escape them once more.
fn plain(text: &str) -> String {
    without_marks(&html_escape::decode_html_entities(&without_marks(text)))
}

fn without_marks(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('<') {
        out.push_str(before);
        let name = after.trim_start_matches('/');
        match after.find('>') {
            // "less than 5 < 6" is no mark.
            Some(end) if name.starts_with(|first: char| first.is_ascii_alphabetic()) => {
                let name: String = name.chars().take_while(char::is_ascii_alphanumeric).collect();
                let is_block = matches!(&*name.to_ascii_lowercase(), "br" | "p" | "li" | "div");
                out.push(if is_block { '\n' } else { ' ' });
                rest = &after[end + 1..];
            }
            _ => {
                out.push('<');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// A line of whatever a property holds: a text, a number, or an object with a text of its own.
pub(super) fn of(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => line(text),
        Value::Number(number) => number.to_string(),
        Value::Object(object) => {
            let names = ["@value", "text", "name"];
            names.iter().find_map(|name| of(object.get(*name)?))?
        }
        Value::Array(all) => all.iter().find_map(of)?,
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}

/// All of them, where there may be one or a list.
pub(super) fn all(value: &Value) -> Vec<String> {
    match value {
        Value::Array(all) => all.iter().filter_map(of).collect(),
        one => of(one).into_iter().collect(),
    }
}

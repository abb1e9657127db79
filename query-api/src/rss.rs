//! Feeds (RSS 2.0): what others' readers show of ours.

use jiff::Timestamp;
use quick_xml::{
    Writer,
    escape::escape,
    events::{BytesDecl, BytesText, Event},
};
use std::io;

pub(crate) const CONTENT_TYPE: &str = "application/rss+xml; charset=utf-8";

pub(crate) struct Channel {
    pub(crate) title: String,
    pub(crate) about: String,
    /// The page that shows the same to people, this feed, and the one behind it if there is more.
    pub(crate) home: String,
    pub(crate) here: String,
    pub(crate) next: Option<String>,
}

pub(crate) struct Item {
    /// Never changes, and names nothing else anywhere.
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) link: String,
    pub(crate) lines: Vec<String>,
    pub(crate) category: String,
    pub(crate) published: Timestamp,
    pub(crate) changed: Timestamp,
}

pub(crate) fn render(channel: &Channel, items: &[Item]) -> io::Result<Vec<u8>> {
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 1);
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let rss = writer.create_element("rss");
    let names = [("version", "2.0"), ("xmlns:atom", "http://www.w3.org/2005/Atom")];
    rss.with_attributes(names).write_inner_content(|writer| {
        writer.create_element("channel").write_inner_content(|writer| {
            put(writer, "title", &channel.title)?;
            put(writer, "link", &channel.home)?;
            put(writer, "description", &escape(&channel.about))?;
            let next = channel.next.as_deref().map(|next| ("next", next));
            for (rel, href) in [("self", &*channel.here)].into_iter().chain(next) {
                let attributes = [("rel", rel), ("href", href), ("type", "application/rss+xml")];
                writer.create_element("atom:link").with_attributes(attributes).write_empty()?;
            }
            // Of the answers, so that the same plans make the same feed.
            if let Some(changed) = items.iter().map(|item| item.changed).max() {
                put(writer, "lastBuildDate", &date(changed))?;
            }
            items.iter().try_for_each(|item| put_item(writer, item))
        })?;
        Ok(())
    })?;
    Ok(writer.into_inner())
}

type Out = Writer<Vec<u8>>;

fn put_item(writer: &mut Out, item: &Item) -> io::Result<()> {
    writer.create_element("item").write_inner_content(|writer| {
        put(writer, "title", &item.title)?;
        put(writer, "link", &item.link)?;
        let id = BytesText::new(&item.id);
        let guid = writer.create_element("guid").with_attribute(("isPermaLink", "false"));
        guid.write_text_content(id)?;
        put(writer, "pubDate", &date(item.published))?;
        put(writer, "category", &item.category)?;
        // Readers take a description for markup: what is text is escaped for that as well.
        let lines: Vec<_> = item.lines.iter().map(|line| escape(line.as_str())).collect();
        put(writer, "description", &lines.join("<br>"))
    })?;
    Ok(())
}

fn put(writer: &mut Out, name: &str, text: &str) -> io::Result<()> {
    writer.create_element(name).write_text_content(BytesText::new(&clean(text)))?;
    Ok(())
}

/// What XML cannot hold, escaped or not.
fn clean(text: &str) -> String {
    let is_outside = |c: char| {
        c.is_control() && !matches!(c, '\n' | '\t') || matches!(c, '\u{fffe}' | '\u{ffff}')
    };
    text.chars().map(|c| if is_outside(c) { ' ' } else { c }).collect()
}

/// As RFC 822 has it, with the year of RFC 1123.
fn date(at: Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_no_markup() {
        let at: Timestamp = "2026-11-08T09:05:01.9Z".parse().unwrap();
        let channel = Channel {
            title: "Plans".to_owned(),
            about: "a & b".to_owned(),
            home: "http://a/#/plans".to_owned(),
            here: "http://a/v1/plans.rss?a=1&b=2".to_owned(),
            next: None,
        };
        let item = Item {
            id: "urn:uuid:a".to_owned(),
            title: "<b>Jazz</b>\u{8}]]>".to_owned(),
            link: "https://a.example/?a=1&b=2".to_owned(),
            lines: vec!["<i>".to_owned(), "b".to_owned()],
            category: "fever".to_owned(),
            published: at,
            changed: at,
        };
        let text = String::from_utf8(render(&channel, &[item]).unwrap()).unwrap();
        for part in [
            "<title>&lt;b&gt;Jazz&lt;/b&gt; ]]&gt;</title>",
            "<description>&amp;lt;i&amp;gt;&lt;br&gt;b</description>",
            "<pubDate>Sun, 08 Nov 2026 09:05:01 GMT</pubDate>",
            "<guid isPermaLink=\"false\">urn:uuid:a</guid>",
            "href=\"http://a/v1/plans.rss?a=1&amp;b=2\"",
            "<description>a &amp;amp; b</description>",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}

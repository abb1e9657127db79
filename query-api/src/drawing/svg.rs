//! Elements of a drawing. Text goes through the XML writer, so that it stays text.

use quick_xml::{
    Writer,
    events::{BytesEnd, BytesStart, BytesText, Event},
};

/// Writes into memory, which does not fail.
pub(super) struct Svg(Writer<Vec<u8>>);

type Attributes<'a> = &'a [(&'a str, String)];

impl Svg {
    pub(super) fn new() -> Self {
        Self(Writer::new(Vec::new()))
    }

    fn write(&mut self, event: Event<'_>) {
        let _ = self.0.write_event(event);
    }

    fn start<'a>(
        name: &'a str,
        class: &'a str,
        attributes: &'a [(&'a str, String)],
    ) -> BytesStart<'a> {
        let mut start = BytesStart::new(name);
        if !class.is_empty() {
            start.push_attribute(("class", class));
        }
        start.extend_attributes(attributes.iter().map(|(name, value)| (*name, value.as_str())));
        start
    }

    pub(super) fn open(&mut self, name: &str, class: &str, attributes: Attributes<'_>) {
        let start = Self::start(name, class, attributes);
        self.write(Event::Start(start));
    }

    pub(super) fn close(&mut self, name: &str) {
        self.write(Event::End(BytesEnd::new(name)));
    }

    pub(super) fn empty(&mut self, name: &str, class: &str, attributes: Attributes<'_>) {
        let start = Self::start(name, class, attributes);
        self.write(Event::Empty(start));
    }

    /// An element with text alone. Control characters have no place in XML.
    pub(super) fn with_text(
        &mut self,
        name: &str,
        class: &str,
        attributes: Attributes<'_>,
        text: &str,
    ) {
        self.open(name, class, attributes);
        let text: String = text.chars().filter(|letter| !letter.is_control()).collect();
        self.write(Event::Text(BytesText::new(&text)));
        self.close(name);
    }

    pub(super) fn text(&mut self, class: &str, x: f64, y: f64, text: &str) {
        self.with_text("text", class, &[("x", number(x)), ("y", number(y))], text);
    }

    pub(super) fn line(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        let ends = [("x1", x1), ("y1", y1), ("x2", x2), ("y2", y2)];
        self.empty("line", class, &ends.map(|(name, value)| (name, number(value))));
    }

    pub(super) fn path(&mut self, class: &str, data: String) {
        if !data.is_empty() {
            self.empty("path", class, &[("d", data)]);
        }
    }

    /// Rectangles of one height, as one path.
    pub(super) fn bars(&mut self, class: &str, spans: &[(f64, f64)], top: f64, height: f64) {
        let bar = |(from, to): &(f64, f64)| {
            let (x, y, wide, high) = (number(*from), number(top), to - from, number(height));
            format!("M{x} {y}h{}v{high}h-{}z", number(wide), number(wide))
        };
        self.path(class, spans.iter().map(bar).collect());
    }

    /// CSS that is ours: it holds nothing that would have to be escaped.
    pub(super) fn style(&mut self, css: &str) {
        self.open("style", "", &[]);
        self.write(Event::Text(BytesText::from_escaped(css)));
        self.close("style");
    }

    pub(super) fn finish(self) -> String {
        String::from_utf8(self.0.into_inner()).unwrap_or_default()
    }
}

/// A tenth of a unit is finer than any screen.
pub(super) fn number(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").unwrap_or(&text).to_owned()
}

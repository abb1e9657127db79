//! The plans feed of ticket providers (`fever-plans`): XML to plans and faults.
//!
//! The body is hostile input. It is read as a stream, one element at a time; entities are not
//! expanded, nesting and the size of a tag are limited. What is wrong with one plan or zone is a
//! [`FeedItem::Fault`] and the rest counts; what is wrong with the body as a whole is a
//! [`BodyError`] and nothing of it counts.

mod charset;
mod draft;
mod limit;

use crate::config::FeedSettings;
use almanac_domain::plans::{Plan, PlanIdentity, Zone};
use almanac_errors::{Cause, chain};
use draft::{PlanDraft, attributes_of, read_zone};
use limit::LimitedReader;
use quick_xml::{
    Reader,
    events::{BytesStart, Event},
};
use std::io::BufRead;

/// A place in the body, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub line: u64,
    pub column: u64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Why the body as a whole was not believed.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("line {place}: not well-formed XML")]
    NotXml { place: Place, source: quick_xml::Error },
    #[error("line {place}: the body ends before its root element does")]
    Truncated { place: Place },
    #[error("line {place}: the root element is {found}, not planList or eventList")]
    NotAFeed { place: Place, found: String },
    #[error("line {place}: elements are nested deeper than {limit}")]
    TooDeep { place: Place, limit: usize },
    #[error("line {place}: a tag or text is longer than {limit} bytes")]
    TagTooLong { place: Place, limit: usize },
    #[error("the body is in the unknown encoding {label:?}")]
    UnknownEncoding { label: String },
    #[error("line {place}: not in the encoding of the body")]
    NotDecodable { place: Place, source: Cause },
    #[error("line {place}: cannot read the body")]
    Io { place: Place, source: Cause },
}

impl BodyError {
    /// With its causes, at most as long as any reason: they quote the body.
    pub fn told(&self) -> String {
        clipped(chain(self).to_string())
    }
}

/// Part of a body that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub place: Place,
    /// Which plan or zone, in the provider's ids.
    pub subject: String,
    pub reason: String,
    /// The raw piece, shortened.
    pub fragment: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedItem {
    Plan {
        plan: Box<Plan>,
        place: Place,
    },
    /// `plan` is named when a whole plan was refused whose identity is known: it is not gone.
    Fault {
        fault: Fault,
        plan: Option<PlanIdentity>,
    },
}

impl FeedItem {
    /// About how much memory it takes.
    pub(crate) fn size(&self) -> usize {
        let texts = match self {
            Self::Plan { plan, .. } => {
                let name = |zone: &Zone| zone.name.as_ref().map_or(0, String::len);
                let zones = plan
                    .zones
                    .iter()
                    .map(|zone| zone.zone_id.len() + name(zone) + size_of::<Zone>());
                plan.title.len() + zones.sum::<usize>()
            }
            Self::Fault { fault, .. } => {
                fault.subject.len() + fault.reason.len() + fault.fragment.len()
            }
        };
        size_of::<Plan>() + texts
    }
}

const MAX_DEPTH: usize = 32;
pub(crate) const MAX_FRAGMENT: usize = 600;
/// Of a reason: it may quote what is wrong, and a name may be as long as a tag.
const MAX_REASON: usize = 400;

/// Words of the feed family's dialects.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    PlanList,
    EventList,
}

impl Dialect {
    fn of_root(name: &str) -> Option<Self> {
        match name {
            "planList" => Some(Self::PlanList),
            "eventList" => Some(Self::EventList),
            _ => None,
        }
    }

    fn base(self) -> &'static str {
        match self {
            Self::PlanList => "base_plan",
            Self::EventList => "base_event",
        }
    }

    fn plan(self) -> &'static str {
        match self {
            Self::PlanList => "plan",
            Self::EventList => "event",
        }
    }
}

/// Reads a body to its end and hands every plan and fault to `sink`. Nothing that was handed out
/// may be believed before this returns `Ok`. `charset` is what its Content-Type said.
pub fn read(
    body: impl BufRead,
    charset: Option<&str>,
    settings: &FeedSettings,
    sink: &mut dyn FnMut(FeedItem) -> Result<(), BodyError>,
) -> Result<(), BodyError> {
    let body = charset::decoded(body, charset)?;
    let body = LimitedReader::new(body, settings.max_tag_bytes);
    let mut reader = Reader::from_reader(body);
    reader.config_mut().check_end_names = true;
    let mut parser = Parser {
        settings,
        sink,
        dialect: None,
        depth: 0,
        base: None,
        plan: None,
        place: Place { line: 1, column: 1 },
    };
    let mut buffer = Vec::with_capacity(4_096);
    let mut seen_root = false;
    loop {
        buffer.clear();
        parser.place = reader.get_mut().begin_event();
        let event = match reader.read_event_into(&mut buffer) {
            Ok(event) => event,
            Err(error) => return Err(body_error(parser.place, settings, error)),
        };
        match event {
            Event::Start(tag) => {
                seen_root = true;
                parser.open(&tag, false)?;
            }
            Event::Empty(tag) => {
                seen_root = true;
                parser.open(&tag, true)?;
            }
            Event::End(_) => parser.close()?,
            Event::Eof => break,
            // Document types are passed over: their entities are never defined for us, so a
            // reference to one is a fault where it stands.
            Event::Text(_)
            | Event::CData(_)
            | Event::Comment(_)
            | Event::Decl(_)
            | Event::PI(_)
            | Event::DocType(_)
            | Event::GeneralRef(_) => {}
        }
    }
    if !seen_root || parser.depth > 0 {
        return Err(BodyError::Truncated { place: parser.place });
    }
    Ok(())
}

fn body_error(place: Place, settings: &FeedSettings, error: quick_xml::Error) -> BodyError {
    match error {
        quick_xml::Error::Io(error) if limit::is_too_long(&error) => {
            BodyError::TagTooLong { place, limit: settings.max_tag_bytes }
        }
        quick_xml::Error::Encoding(error) => {
            BodyError::NotDecodable { place, source: error.into() }
        }
        quick_xml::Error::Io(error) => BodyError::Io { place, source: error.into() },
        source => BodyError::NotXml { place, source },
    }
}

fn clipped(mut text: String) -> String {
    if text.len() > MAX_REASON {
        text.truncate(text.floor_char_boundary(MAX_REASON));
        text.push('…');
    }
    text
}

struct Parser<'s> {
    settings: &'s FeedSettings,
    sink: &'s mut dyn FnMut(FeedItem) -> Result<(), BodyError>,
    dialect: Option<Dialect>,
    depth: usize,
    /// The base plan that is open, and the depth it was opened at.
    base: Option<(Base, usize)>,
    plan: Option<(PlanDraft, usize)>,
    place: Place,
}

/// What the plans of a base plan share; faults in it are those plans' faults.
#[derive(Clone, Default)]
struct Base {
    id: Option<String>,
    title: Option<String>,
    sell_mode: Option<String>,
    organizer_id: Option<String>,
    timezone: Option<String>,
    fault: Option<String>,
}

impl Parser<'_> {
    fn open(&mut self, tag: &BytesStart<'_>, empty: bool) -> Result<(), BodyError> {
        let local = tag.local_name();
        let name: &str = local.as_ref();
        let Some(dialect) = self.dialect else {
            let Some(dialect) = Dialect::of_root(name) else {
                let found = name.chars().take(40).collect();
                return Err(BodyError::NotAFeed { place: self.place, found });
            };
            self.dialect = Some(dialect);
            self.depth = usize::from(!empty);
            return Ok(());
        };
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(BodyError::TooDeep { place: self.place, limit: MAX_DEPTH });
        }
        if name == dialect.base() && self.base.is_none() {
            self.base = Some((self.read_base(tag, dialect), self.depth));
        } else if name == dialect.plan() && self.plan.is_none() {
            let no_base = Base::default();
            let base = self.base.as_ref().map_or(&no_base, |(base, _)| base);
            let draft = PlanDraft::open(tag, base, dialect, self.place);
            self.plan = Some((draft, self.depth));
        } else if name == "zone"
            && let Some((draft, _)) = &mut self.plan
        {
            match read_zone(tag) {
                Ok(zone) => draft.add_zone(zone, self.settings),
                Err((zone_id, reason)) => {
                    let fault = Fault {
                        place: self.place,
                        subject: format!("{} zone {}", draft.subject(), zone_id),
                        reason,
                        fragment: fragment(tag),
                    };
                    (self.sink)(FeedItem::Fault { fault, plan: None })?;
                }
            }
        }
        if empty { self.close() } else { Ok(()) }
    }

    fn close(&mut self) -> Result<(), BodyError> {
        if let Some((draft, _)) = self.plan.take_if(|(_, depth)| *depth == self.depth) {
            let place = draft.place;
            let item = match draft.finish(self.settings) {
                Ok(plan) => FeedItem::Plan { plan: Box::new(plan), place },
                Err(refused) => {
                    let (fault, plan) = *refused;
                    FeedItem::Fault { fault, plan }
                }
            };
            (self.sink)(item)?;
        }
        self.base.take_if(|(_, depth)| *depth == self.depth);
        self.depth = self.depth.saturating_sub(1);
        Ok(())
    }

    fn read_base(&self, tag: &BytesStart<'_>, dialect: Dialect) -> Base {
        let mut base = Base::default();
        let id_name = match dialect {
            Dialect::PlanList => "base_plan_id",
            Dialect::EventList => "base_event_id",
        };
        let read = attributes_of(tag, |name, value| match name {
            _ if name == id_name => base.id = Some(value.into_owned()),
            "title" => base.title = Some(value.into_owned()),
            "sell_mode" => base.sell_mode = Some(value.into_owned()),
            "organizer_company_id" => base.organizer_id = Some(value.into_owned()),
            _ if draft::names_timezone(name) => base.timezone = Some(value.into_owned()),
            _ => {}
        });
        base.fault = read.err();
        base
    }
}

/// The raw tag, shortened.
fn fragment(tag: &BytesStart<'_>) -> String {
    let text: &str = tag;
    let end = text.floor_char_boundary(MAX_FRAGMENT.min(text.len()));
    ["<", &text[..end], ">"].concat()
}

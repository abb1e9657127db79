//! A plan while its element is open, and its zones.

use super::{Base, Dialect, Fault, Place, clipped, fragment};
use crate::config::FeedSettings;
use almanac_domain::plans::{
    Plan, PlanIdentity, SaidTime, SellMode, Zone, read_zone as read_timezone,
};
use quick_xml::{XmlVersion, events::BytesStart};
use rust_decimal::Decimal;
use std::borrow::Cow;

const MAX_ID: usize = 256;
const MAX_TEXT: usize = 2_000;
const MAX_CAPACITY: i64 = 10_000_000;
/// Prices beyond are a mistake, and far below what a decimal holds exactly.
const MAX_PRICE: i64 = 1_000_000_000_000;
const MAX_PRICE_DECIMALS: u32 = 6;

/// Hands every attribute to `take`. The first that is malformed ends it.
pub(super) fn attributes_of<'t>(
    tag: &'t BytesStart<'_>,
    mut take: impl FnMut(&str, Cow<'t, str>),
) -> Result<(), String> {
    for attribute in tag.attributes() {
        let attribute =
            attribute.map_err(|error| clipped(format!("malformed attribute: {error}")))?;
        let key = attribute.key;
        let name: &str = key.as_ref();
        let value = attribute
            .normalized_value(XmlVersion::Implicit1_0)
            .map_err(|error| clipped(format!("{name} is malformed: {error}")))?;
        if value.contains('\0') {
            return Err(clipped(format!("{name} holds a NUL character")));
        }
        take(name, value);
    }
    Ok(())
}

/// Whether an attribute of a plan or base plan says in which time zone its times are.
pub(super) fn names_timezone(name: &str) -> bool {
    matches!(name, "timezone" | "time_zone" | "tz")
}

pub(super) struct PlanDraft {
    pub(super) place: Place,
    fragment: String,
    base_plan_id: Option<String>,
    plan_id: Option<String>,
    title: Option<String>,
    organizer_id: Option<String>,
    sell_mode: Option<String>,
    starts_at: Option<String>,
    ends_at: Option<String>,
    sell_from: Option<String>,
    sell_to: Option<String>,
    sold_out: Option<String>,
    timezone: Option<String>,
    zones: Vec<Zone>,
    zone_bytes: usize,
    fault: Option<String>,
}

impl PlanDraft {
    pub(super) fn open(tag: &BytesStart<'_>, base: &Base, dialect: Dialect, place: Place) -> Self {
        let mut draft = Self {
            place,
            fragment: fragment(tag),
            base_plan_id: base.id.clone(),
            plan_id: None,
            title: base.title.clone(),
            organizer_id: base.organizer_id.clone(),
            sell_mode: base.sell_mode.clone(),
            starts_at: None,
            ends_at: None,
            sell_from: None,
            sell_to: None,
            sold_out: None,
            timezone: base.timezone.clone(),
            zones: Vec::new(),
            zone_bytes: 0,
            fault: base.fault.clone().map(|fault| format!("in its {}: {fault}", dialect.base())),
        };
        let [id, start, end, only] = match dialect {
            Dialect::PlanList => ["plan_id", "plan_start_date", "plan_end_date", "plan_date"],
            Dialect::EventList => ["event_id", "event_start_date", "event_end_date", "event_date"],
        };
        let read = attributes_of(tag, |name, value| {
            let slot = match name {
                _ if name == id => &mut draft.plan_id,
                // A single date is the start; the end is then unknown.
                _ if name == start || (name == only && draft.starts_at.is_none()) => {
                    &mut draft.starts_at
                }
                _ if name == end => &mut draft.ends_at,
                "sell_from" => &mut draft.sell_from,
                "sell_to" => &mut draft.sell_to,
                "sold_out" => &mut draft.sold_out,
                _ if names_timezone(name) => &mut draft.timezone,
                _ => return,
            };
            *slot = Some(value.into_owned());
        });
        if let Err(reason) = read {
            draft.fault.get_or_insert(reason);
        }
        draft
    }

    pub(super) fn subject(&self) -> String {
        let clip = |text: &Option<String>| -> String {
            text.as_deref().unwrap_or("?").chars().take(64).collect()
        };
        format!("plan {}/{}", clip(&self.base_plan_id), clip(&self.plan_id))
    }

    pub(super) fn add_zone(&mut self, zone: Zone, settings: &FeedSettings) {
        self.zone_bytes += zone.zone_id.len() + zone.name.as_ref().map_or(0, String::len) + 32;
        let over =
            self.zones.len() >= settings.max_zones || self.zone_bytes > settings.max_plan_bytes;
        if over {
            // Kept small from here on; a record of the log must stay below 1 MB.
            self.zones.clear();
            self.fault.get_or_insert(format!(
                "more than {} zones or {} bytes of them",
                settings.max_zones, settings.max_plan_bytes
            ));
        } else if self.fault.is_none() {
            self.zones.push(zone);
        }
    }

    /// The plan, or what is wrong with it and, where that is known, which plan it is.
    pub(super) fn finish(
        mut self,
        settings: &FeedSettings,
    ) -> Result<Plan, Box<(Fault, Option<PlanIdentity>)>> {
        let identity = self.identity(settings);
        let finished = match (&identity, self.fault.take()) {
            (_, Some(reason)) => Err(reason),
            (Err(reason), None) => Err(reason.clone()),
            (Ok(identity), None) => self.build(identity.clone(), settings),
        };
        finished.map_err(|reason| {
            let fault = Fault {
                place: self.place,
                subject: self.subject(),
                reason,
                fragment: std::mem::take(&mut self.fragment),
            };
            Box::new((fault, identity.ok()))
        })
    }

    fn identity(&self, settings: &FeedSettings) -> Result<PlanIdentity, String> {
        Ok(PlanIdentity {
            provider: settings.provider.clone(),
            base_plan_id: required_id("base_plan_id", self.base_plan_id.as_deref())?,
            plan_id: required_id("plan_id", self.plan_id.as_deref())?,
        })
    }

    fn build(&mut self, identity: PlanIdentity, settings: &FeedSettings) -> Result<Plan, String> {
        let title = self.title.take().filter(|title| !title.trim().is_empty());
        let title = limited("title", title.ok_or("title is missing")?, MAX_TEXT)?;
        // What the feed says of one plan or base plan goes before what holds for the provider.
        let timezone = match self.timezone.as_deref().filter(|name| !name.trim().is_empty()) {
            None => Cow::Borrowed(&settings.timezone),
            Some(name) => Cow::Owned(read_timezone(name).ok_or_else(|| {
                let name: String = name.chars().take(64).collect();
                format!("time zone {name:?} is not known")
            })?),
        };
        let said = |name: &str, text: &Option<String>| match text.as_deref() {
            None | Some("") => Ok(None),
            Some(text) => SaidTime::parse(text, &timezone)
                .map(Some)
                .map_err(|error| format!("{name}: {error}")),
        };
        let time = |name, text| said(name, text).map(|said| said.map(|said| said.time()));
        let start = said("start", &self.starts_at)?.ok_or("start is missing")?;
        let starts_at = start.time();
        let ends_at = said("end", &self.ends_at)?.map(|end| end.ending(&start));
        if let Some(ends_at) = ends_at
            && ends_at < starts_at
        {
            return Err(format!("ends at {ends_at}, before it starts at {starts_at}"));
        }
        let organizer_id = match self.organizer_id.take().filter(|id| !id.is_empty()) {
            Some(id) => Some(limited("organizer_company_id", id, MAX_ID)?),
            None => None,
        };
        let sell_mode = limited("sell_mode", self.sell_mode.take().unwrap_or_default(), MAX_ID)?;
        let url = settings.url_of(&identity);
        Ok(Plan {
            title,
            organizer_id,
            sell_mode: SellMode::parse(&sell_mode),
            starts_at,
            ends_at,
            sell_from: time("sell_from", &self.sell_from)?,
            sell_to: time("sell_to", &self.sell_to)?,
            sold_out: flag("sold_out", self.sold_out.as_deref())?,
            currency: settings.currency.clone(),
            url,
            zones: std::mem::take(&mut self.zones),
            identity,
        })
    }
}

/// Reads one zone, or says which one it is and what is wrong with it.
pub(super) fn read_zone(tag: &BytesStart<'_>) -> Result<Zone, (String, String)> {
    let (mut zone_id, mut name, mut capacity, mut price, mut numbered) =
        (None, None, None, None, None);
    let read = attributes_of(tag, |attribute, value| match attribute {
        "zone_id" => zone_id = Some(value),
        "name" => name = Some(value),
        "capacity" => capacity = Some(value),
        "price" => price = Some(value),
        "numbered" => numbered = Some(value),
        _ => {}
    });
    let build = || -> Result<Zone, String> {
        read?;
        let name = match name.filter(|name| !name.is_empty()) {
            Some(name) => Some(limited("name", name.into_owned(), MAX_TEXT)?),
            None => None,
        };
        Ok(Zone {
            zone_id: required_id("zone_id", zone_id.as_deref())?,
            name,
            capacity: read_capacity(capacity.as_deref())?,
            price: read_price(price.as_deref())?,
            numbered: flag("numbered", numbered.as_deref())?,
        })
    };
    let clipped = || zone_id.as_deref().unwrap_or("?").chars().take(64).collect();
    build().map_err(|reason| (clipped(), reason))
}

fn required_id(name: &str, value: Option<&str>) -> Result<String, String> {
    let value = value.map(str::trim).filter(|value| !value.is_empty());
    let value = value.ok_or_else(|| format!("{name} is missing"))?;
    if value.chars().any(char::is_control) {
        return Err(format!("{name} holds a control character"));
    }
    limited(name, value.to_owned(), MAX_ID)
}

fn limited(name: &str, value: String, limit: usize) -> Result<String, String> {
    if value.len() > limit {
        return Err(format!("{name} is longer than {limit} bytes"));
    }
    Ok(value)
}

fn flag(name: &str, value: Option<&str>) -> Result<bool, String> {
    match value.map(str::trim) {
        None | Some("" | "false" | "0") => Ok(false),
        Some("true" | "1") => Ok(true),
        Some(other) => Err(format!(
            "{name} is {:?}, not true or false",
            other.chars().take(40).collect::<String>()
        )),
    }
}

fn read_capacity(value: Option<&str>) -> Result<u32, String> {
    let text = value.map(str::trim).filter(|text| !text.is_empty()).ok_or("capacity is missing")?;
    let clipped = || text.chars().take(40).collect::<String>();
    let number: i64 = text.parse().map_err(|_| format!("capacity {:?} is no number", clipped()))?;
    if !(0..=MAX_CAPACITY).contains(&number) {
        return Err(format!("capacity {} is not within 0 to {MAX_CAPACITY}", clipped()));
    }
    u32::try_from(number).map_err(|_| format!("capacity {} is too large", clipped()))
}

fn read_price(value: Option<&str>) -> Result<Option<Decimal>, String> {
    let Some(text) = value.map(str::trim).filter(|text| !text.is_empty()) else { return Ok(None) };
    let clipped = || text.chars().take(40).collect::<String>();
    let price: Decimal =
        Decimal::from_str_exact(text).map_err(|_| format!("price {:?} is no number", clipped()))?;
    if price.is_sign_negative() && !price.is_zero() {
        return Err(format!("price {} is negative", clipped()));
    }
    if price > Decimal::from(MAX_PRICE) || price.scale() > MAX_PRICE_DECIMALS {
        return Err(format!(
            "price {} is over {MAX_PRICE} or has more than {MAX_PRICE_DECIMALS} decimals",
            clipped()
        ));
    }
    Ok(Some(price.abs()))
}

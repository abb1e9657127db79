//! Rows as the JSON that is served. Written by hand: prices keep the digits that the provider
//! wrote, which a JSON library's number would not.

use almanac_schemas::plans::{LocalTimeRecord, PlanEventRecord, PlanRecord, ZoneRecord};
use jiff::Timestamp;
use rust_decimal::Decimal;
use std::fmt::Write;

/// Texts that several rows of one event share.
pub(super) struct Rendered {
    /// An EventSummary of the search contract.
    pub(super) summary: String,
    /// The plan without zones, without its closing brace.
    plan: String,
    zones: String,
}

impl Rendered {
    pub(super) fn of(event: &PlanEventRecord<'_>) -> Option<Self> {
        let plan = &event.plan;
        let (low, high) = price_range(&plan.zones)?;
        let range = Range { low: low.as_deref(), high: high.as_deref() };
        Some(Self {
            summary: summary(plan, &range)?,
            plan: plan_text(event, &range)?,
            zones: zones_text(&plan.zones)?,
        })
    }

    pub(super) fn index_body(&self) -> String {
        format!("{{\"summary\":{},\"plan\":{}}}}}", self.summary, self.plan)
    }

    pub(super) fn plan_body(&self) -> String {
        format!("{},\"zones\":{}}}", self.plan, self.zones)
    }

    pub(super) fn history_body(&self, event: &PlanEventRecord<'_>, kind: &str) -> Option<String> {
        let mut out = String::with_capacity(self.plan.len() + 192);
        write!(out, "{{\"sequence\":{},\"type\":\"{kind}\",\"occurred_at\":", event.sequence)
            .ok()?;
        instant(&mut out, event.occurred_at)?;
        out.push_str(",\"changed\":[");
        for (place, field) in event.changed.iter().enumerate() {
            if place > 0 {
                out.push(',');
            }
            text(&mut out, field)?;
        }
        write!(out, "],\"plan\":{}}}", self.plan_body()).ok()?;
        Some(out)
    }
}

struct Range<'a> {
    low: Option<&'a str>,
    high: Option<&'a str>,
}

/// The price range in the provider's digits. `None` when a price is no number, which nothing that
/// we wrote is.
pub(crate) fn price_range(zones: &[ZoneRecord<'_>]) -> Option<(Option<String>, Option<String>)> {
    let mut priced: Vec<(i64, Option<Decimal>)> = Vec::with_capacity(zones.len());
    for zone in zones {
        let price = match &zone.price {
            Some(price) => Some(price.parse().ok()?),
            None => None,
        };
        priced.push((zone.capacity, price));
    }
    let range = almanac_domain::plans::price_range(priced);
    Some(range.map(|(low, high)| (low.to_string(), high.to_string())).unzip())
}

fn summary(plan: &PlanRecord<'_>, range: &Range<'_>) -> Option<String> {
    let mut out = String::with_capacity(256);
    out.push_str("{\"id\":");
    text(&mut out, &plan.id)?;
    out.push_str(",\"title\":");
    text(&mut out, &plan.title)?;
    date_and_time(&mut out, "start", Some(plan.starts_at))?;
    date_and_time(&mut out, "end", plan.ends_at)?;
    prices(&mut out, range)?;
    out.push('}');
    Some(out)
}

fn date_and_time(out: &mut String, name: &str, time: Option<LocalTimeRecord>) -> Option<()> {
    let Some(time) = time else {
        return write!(out, ",\"{name}_date\":null,\"{name}_time\":null").ok();
    };
    let time = time.to_domain()?.to_text();
    let time = std::str::from_utf8(&time).ok()?;
    for part in [",\"", name, "_date\":\"", &time[..10], "\",\"", name, "_time\":\"", &time[11..19]]
    {
        out.push_str(part);
    }
    out.push('"');
    Some(())
}

fn prices(out: &mut String, range: &Range<'_>) -> Option<()> {
    let (low, high) = (range.low.unwrap_or("null"), range.high.unwrap_or("null"));
    write!(out, ",\"min_price\":{low},\"max_price\":{high}").ok()
}

fn plan_text(event: &PlanEventRecord<'_>, range: &Range<'_>) -> Option<String> {
    let plan = &event.plan;
    let mut out = String::with_capacity(640);
    for (name, value) in [
        ("{\"id\":", &plan.id),
        (",\"provider\":", &plan.provider),
        (",\"base_plan_id\":", &plan.base_plan_id),
        (",\"plan_id\":", &plan.plan_id),
        (",\"title\":", &plan.title),
    ] {
        out.push_str(name);
        text(&mut out, value)?;
    }
    out.push_str(",\"organizer_id\":");
    optional_text(&mut out, plan.organizer_id.as_deref())?;
    let times = [
        ("starts_at", Some(plan.starts_at)),
        ("ends_at", plan.ends_at),
        ("sell_from", plan.sell_from),
        ("sell_to", plan.sell_to),
    ];
    for (name, time) in times {
        match time {
            Some(time) => {
                let time = time.to_domain()?.to_text();
                for part in [",\"", name, "\":\"", std::str::from_utf8(&time).ok()?, "\""] {
                    out.push_str(part);
                }
            }
            None => write!(out, ",\"{name}\":null").ok()?,
        }
    }
    write!(out, ",\"sold_out\":{},\"sell_mode\":", plan.sold_out).ok()?;
    text(&mut out, &plan.sell_mode)?;
    prices(&mut out, range)?;
    // Lists show no zones, and whether any place is left decides whether a plan is on sale.
    let left = plan.zones.iter().map(|zone| zone.capacity.max(0));
    let capacity = left.fold(0, i64::saturating_add);
    write!(out, ",\"capacity\":{capacity},\"currency\":").ok()?;
    optional_text(&mut out, plan.currency.as_deref())?;
    out.push_str(",\"url\":");
    optional_text(&mut out, plan.url.as_deref())?;
    write!(out, ",\"listed\":{},\"first_seen_at\":", event.listed).ok()?;
    instant(&mut out, event.first_seen_at)?;
    // While it is listed, the reader puts the provider's last good body here.
    out.push_str(",\"last_seen_at\":");
    instant(&mut out, event.occurred_at)?;
    write!(out, ",\"sequence\":{}", event.sequence).ok()?;
    Some(out)
}

fn zones_text(zones: &[ZoneRecord<'_>]) -> Option<String> {
    let mut out = String::with_capacity(2 + zones.len() * 96);
    out.push('[');
    for (place, zone) in zones.iter().enumerate() {
        out.push_str(if place > 0 { ",{\"zone_id\":" } else { "{\"zone_id\":" });
        text(&mut out, &zone.zone_id)?;
        out.push_str(",\"name\":");
        optional_text(&mut out, zone.name.as_deref())?;
        write!(out, ",\"capacity\":{},\"price\":", zone.capacity).ok()?;
        match &zone.price {
            // Only what reads as a number may stand there without quotes.
            Some(price) => write!(out, "{}", price.parse::<Decimal>().ok()?).ok()?,
            None => out.push_str("null"),
        }
        write!(out, ",\"numbered\":{}}}", zone.numbered).ok()?;
    }
    out.push(']');
    Some(out)
}

fn text(out: &mut String, value: &str) -> Option<()> {
    // Most texts need no escaping.
    if value.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        out.push('"');
        out.push_str(value);
        out.push('"');
        return Some(());
    }
    out.push_str(&serde_json::to_string(value).ok()?);
    Some(())
}

fn optional_text(out: &mut String, value: Option<&str>) -> Option<()> {
    match value {
        Some(value) => text(out, value),
        None => {
            out.push_str("null");
            Some(())
        }
    }
}

pub(super) fn instant(out: &mut String, unix_ms: i64) -> Option<()> {
    write!(out, "\"{:.3}\"", Timestamp::from_millisecond(unix_ms).ok()?).ok()
}

//! Filters of `/v1/plans`.

use almanac_domain::text::Wanted;
use almanac_edge::{
    Problem,
    query::{Parameters, bad},
};
use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::Deserialize;
use std::{borrow::Cow, collections::BTreeSet};

pub(super) const KNOWN: &[&str] = &[
    "starts_from",
    "starts_until",
    "ends_until",
    "overlaps_from",
    "overlaps_until",
    "provider",
    "base_plan_id",
    "organizer_id",
    "id",
    "q",
    "min_price",
    "max_price",
    "sale",
    "listed",
    "sort",
    "limit",
    "cursor",
];

/// Words that are looked for in each title, as many as questions combine for recipes.
const MAX_WORDS: usize = 20;
/// No text of so many words is longer.
const MAX_TEXT: usize = 1_000;

/// What `q` asks for: no more words than questions combine, each once.
pub(super) fn wanted(parameters: &Parameters) -> Result<Wanted, Problem> {
    let Some(text) = parameters.one("q")? else { return Ok(Wanted::default()) };
    if text.chars().count() > MAX_TEXT {
        return Err(bad("q", &format!("it must not be longer than {MAX_TEXT} characters")));
    }
    let wanted = Wanted::parse(text);
    if wanted.terms().len() > MAX_WORDS {
        return Err(bad("q", &format!("it must not have more than {MAX_WORDS} words")));
    }
    Ok(wanted)
}

/// What filters look at.
#[derive(Deserialize)]
pub(super) struct PlanView<'a> {
    #[serde(borrow)]
    pub(super) id: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) provider: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) base_plan_id: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) organizer_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) title: Cow<'a, str>,
    pub(super) starts_at: Timestamp,
    pub(super) ends_at: Option<Timestamp>,
    pub(super) sell_from: Option<Timestamp>,
    sell_to: Option<Timestamp>,
    sold_out: bool,
    /// Places left in all zones together.
    capacity: i64,
    #[serde(borrow)]
    min_price: Option<&'a serde_json::value::RawValue>,
    #[serde(borrow)]
    max_price: Option<&'a serde_json::value::RawValue>,
    pub(super) listed: bool,
}

impl PlanView<'_> {
    pub(super) fn provider(&self) -> &str {
        &self.provider
    }

    pub(super) fn min_price(&self) -> Option<Decimal> {
        self.min_price?.get().parse().ok()
    }

    pub(super) fn max_price(&self) -> Option<Decimal> {
        self.max_price?.get().parse().ok()
    }

    /// When it has ended or is no longer sold.
    pub(super) fn over_at(&self) -> Timestamp {
        let end = self.ends_at.unwrap_or(self.starts_at);
        self.sell_to.map_or(end, |to| to.min(end))
    }

    pub(super) fn has_no_places(&self) -> bool {
        self.sold_out || self.capacity == 0
    }

    /// Over once it ended or is no longer sold; otherwise sold out, by the provider's word or because
    /// no zone has a place left, not yet on sale, or on.
    fn sale(&self, now: Timestamp) -> Sale {
        if self.over_at() <= now {
            Sale::Over
        } else if self.has_no_places() {
            Sale::SoldOut
        } else if self.sell_from.is_some_and(|from| from > now) {
            Sale::Upcoming
        } else {
            Sale::On
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sale {
    Upcoming,
    On,
    SoldOut,
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Start,
    Price,
}

pub(super) struct Filter {
    pub(super) starts_from: Option<Timestamp>,
    pub(super) starts_until: Option<Timestamp>,
    pub(super) ends_until: Option<Timestamp>,
    pub(super) overlaps_from: Option<Timestamp>,
    pub(super) overlaps_until: Option<Timestamp>,
    pub(super) providers: BTreeSet<String>,
    pub(super) base_plan_ids: BTreeSet<String>,
    pub(super) organizer_ids: BTreeSet<String>,
    pub(super) ids: BTreeSet<String>,
    pub(super) wanted: Wanted,
    pub(super) min_price: Option<Decimal>,
    pub(super) max_price: Option<Decimal>,
    pub(super) sale: BTreeSet<Sale>,
    pub(super) listed: Option<bool>,
    pub(super) sort: Sort,
    pub(super) descending: bool,
    pub(super) now: Timestamp,
}

impl Filter {
    pub(super) fn parse(parameters: &Parameters) -> Result<Self, Problem> {
        let price = |name| -> Result<Option<Decimal>, Problem> {
            match parameters.one(name)? {
                None => Ok(None),
                Some(text) => {
                    text.parse().map(Some).map_err(|_| bad(name, "it must be a decimal number"))
                }
            }
        };
        let texts = |name| parameters.all(name).map(str::to_owned).collect();
        let sale = parameters
            .all("sale")
            .map(|word| match word {
                "upcoming" => Ok(Sale::Upcoming),
                "on" => Ok(Sale::On),
                "sold_out" => Ok(Sale::SoldOut),
                "over" => Ok(Sale::Over),
                _ => Err(bad("sale", "it must be upcoming, on, sold_out or over")),
            })
            .collect::<Result<_, _>>()?;
        let listed = match parameters.one("listed")? {
            None => None,
            Some("true") => Some(true),
            Some("false") => Some(false),
            Some(_) => return Err(bad("listed", "it must be true or false")),
        };
        let (sort, descending) = match parameters.one("sort")? {
            None | Some("start") => (Sort::Start, false),
            Some("-start") => (Sort::Start, true),
            Some("price") => (Sort::Price, false),
            Some("-price") => (Sort::Price, true),
            Some(_) => return Err(bad("sort", "it must be start, -start, price or -price")),
        };
        let mut ids = BTreeSet::new();
        for id in parameters.all("id") {
            let id: uuid::Uuid = id.parse().map_err(|_| bad("id", "it must be a UUID"))?;
            ids.insert(id.to_string());
        }
        let wanted = wanted(parameters)?;
        Ok(Self {
            starts_from: parameters.time("starts_from")?,
            starts_until: parameters.time("starts_until")?,
            ends_until: parameters.time("ends_until")?,
            overlaps_from: parameters.time("overlaps_from")?,
            overlaps_until: parameters.time("overlaps_until")?,
            providers: texts("provider"),
            base_plan_ids: texts("base_plan_id"),
            organizer_ids: texts("organizer_id"),
            ids,
            wanted,
            min_price: price("min_price")?,
            max_price: price("max_price")?,
            sale,
            listed,
            sort,
            descending,
            now: Timestamp::now(),
        })
    }

    /// Instants in seconds between which starts may lie, both inclusive.
    pub(super) fn start_range(&self) -> (i64, i64) {
        let low = self.starts_from.map_or(i64::MIN, Timestamp::as_second);
        let until = [self.starts_until, self.ends_until, self.overlaps_until];
        let high = until.into_iter().flatten().map(Timestamp::as_second).min();
        (low, high.unwrap_or(i64::MAX))
    }

    pub(super) fn accepts(&self, plan: &PlanView<'_>) -> bool {
        let any = |wanted: &BTreeSet<String>, found: Option<&str>| {
            wanted.is_empty() || found.is_some_and(|found| wanted.contains(found))
        };
        let end = plan.ends_at.unwrap_or(plan.starts_at);
        self.starts_from.is_none_or(|from| plan.starts_at >= from)
            && self.starts_until.is_none_or(|until| plan.starts_at < until)
            && self.ends_until.is_none_or(|until| plan.ends_at.is_some_and(|end| end < until))
            && self.overlaps_from.is_none_or(|from| end > from || plan.starts_at >= from)
            && self.overlaps_until.is_none_or(|until| plan.starts_at < until)
            && any(&self.providers, Some(&plan.provider))
            && any(&self.base_plan_ids, Some(&plan.base_plan_id))
            && any(&self.organizer_ids, plan.organizer_id.as_deref())
            && any(&self.ids, Some(&plan.id))
            && self.listed.is_none_or(|listed| listed == plan.listed)
            && (self.sale.is_empty() || self.sale.contains(&plan.sale(self.now)))
            && self.min_price.is_none_or(|low| plan.max_price().is_some_and(|high| high >= low))
            && self.max_price.is_none_or(|high| plan.min_price().is_some_and(|low| low <= high))
            && self.wanted.begins_in(&plan.title)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_bought_has_places_left() {
        let plan = |more: &str| {
            format!(
                r#"{{"id":"a","provider":"p","base_plan_id":"1","organizer_id":null,"title":"t",
                "starts_at":"2031-06-30T21:00:00+02:00","ends_at":null,"sell_to":null,
                "min_price":null,"max_price":null,"listed":true,{more}}}"#
            )
        };
        let now: Timestamp = "2031-01-01T00:00:00Z".parse().unwrap();
        for (more, expected) in [
            (r#""sold_out":false,"capacity":1,"sell_from":null"#, Sale::On),
            (r#""sold_out":false,"capacity":0,"sell_from":null"#, Sale::SoldOut),
            (r#""sold_out":true,"capacity":1,"sell_from":null"#, Sale::SoldOut),
            (r#""sold_out":false,"capacity":1,"sell_from":"2031-02-01T00:00:00Z""#, Sale::Upcoming),
        ] {
            let text = plan(more);
            let view: PlanView<'_> = serde_json::from_str(&text).unwrap();
            assert_eq!(view.sale(now), expected, "{more}");
            assert_eq!(view.sale("2032-01-01T00:00:00Z".parse().unwrap()), Sale::Over);
        }
    }

    #[test]
    fn words_are_few_and_each_is_looked_for_once() {
        let parse = |query: &str| {
            let parameters = Parameters::parse(Some(query), KNOWN).unwrap();
            Filter::parse(&parameters).map(|filter| filter.wanted.terms().len())
        };
        assert_eq!(parse("q=Jazz+jazz+night+JAZZ").unwrap(), 2);
        assert_eq!(parse(&format!("q={}", "jazz+".repeat(150))).unwrap(), 1);
        let all: Vec<String> = (0..MAX_WORDS + 1).map(|number| format!("w{number}")).collect();
        assert_eq!(parse(&format!("q={}", all[1..].join("+"))).unwrap(), MAX_WORDS);
        for q in [all.join("+"), "jazz+".repeat(10_000), "x".repeat(100_000)] {
            let problem = parse(&format!("q={q}")).unwrap_err();
            assert_eq!(problem.status(), 400);
            assert!(problem.body().contains("\"pointer\":\"q\""), "{}", problem.body());
        }
    }
}

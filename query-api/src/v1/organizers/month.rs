//! What is told of one month.

use rust_decimal::Decimal;
use serde::Deserialize;
use std::{borrow::Cow, collections::BTreeMap};

/// A row, as the projection writes it.
#[derive(Deserialize)]
struct Counted<'a> {
    listed: bool,
    sold_out: bool,
    #[serde(borrow)]
    currency: Option<Cow<'a, str>>,
    #[serde(borrow)]
    min_price: Option<Cow<'a, str>>,
    #[serde(borrow)]
    max_price: Option<Cow<'a, str>>,
}

pub(super) struct Month {
    pub(super) name: String,
    plans: u64,
    listed: u64,
    sold_out: u64,
    /// Lowest and highest of each plan, by currency.
    prices: BTreeMap<Option<String>, Vec<(Decimal, Decimal)>>,
}

impl Month {
    pub(super) fn new(name: &str) -> Self {
        let prices = BTreeMap::new();
        Self { name: name.to_owned(), plans: 0, listed: 0, sold_out: 0, prices }
    }

    /// A row that cannot be read says nothing; nothing that we wrote is one.
    pub(super) fn add(&mut self, body: &[u8]) {
        let Ok(plan) = serde_json::from_slice::<Counted<'_>>(body) else { return };
        self.plans += 1;
        self.listed += u64::from(plan.listed);
        self.sold_out += u64::from(plan.sold_out);
        let price = |text: Option<Cow<'_, str>>| text?.parse::<Decimal>().ok();
        if let (Some(low), Some(high)) = (price(plan.min_price), price(plan.max_price)) {
            let currency = plan.currency.map(Cow::into_owned);
            self.prices.entry(currency).or_default().push((low, high));
        }
    }

    /// `None` for a month without plans.
    pub(super) fn render(&self) -> Option<String> {
        if self.plans == 0 {
            return None;
        }
        let share = Decimal::from(self.sold_out) / Decimal::from(self.plans);
        let prices: Vec<String> =
            self.prices.iter().filter_map(|(currency, prices)| told(currency, prices)).collect();
        Some(format!(
            "{{\"month\":\"{}\",\"plans\":{},\"listed\":{},\"sold_out\":{},\"sold_out_share\":{},\
             \"prices\":[{}]}}",
            self.name,
            self.plans,
            self.listed,
            self.sold_out,
            share.round_dp(4),
            prices.join(",")
        ))
    }
}

/// Numbers by hand: a JSON library's would not keep the digits.
fn told(currency: &Option<String>, prices: &[(Decimal, Decimal)]) -> Option<String> {
    let mut lows: Vec<Decimal> = prices.iter().map(|(low, _)| *low).collect();
    lows.sort_unstable();
    let (min, max) = (lows.first()?, prices.iter().map(|(_, high)| high).max()?);
    let (median, currency) = (median(&lows)?, serde_json::to_string(currency).ok()?);
    let plans = lows.len();
    Some(format!(
        "{{\"currency\":{currency},\"plans\":{plans},\"min\":{min},\"median\":{median},\"max\":{max}}}"
    ))
}

/// Of sorted numbers: the middle one, or what lies halfway between the two in the middle.
fn median(sorted: &[Decimal]) -> Option<Decimal> {
    let (low, high) =
        (sorted.get(sorted.len().checked_sub(1)? / 2)?, sorted.get(sorted.len() / 2)?);
    if low == high {
        return Some(*high);
    }
    let half = low.checked_add(*high)?.checked_mul(Decimal::new(5, 1))?;
    // Half a cent is told, but no zero behind the last digit of both.
    let short = half.round_dp(low.scale().max(high.scale()));
    Some(if short == half { short } else { half })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_exact() {
        for (numbers, expected) in [
            (&["3"][..], "3"),
            (&["20.00", "30.00"], "25.00"),
            (&["0.1", "0.2"], "0.15"),
            (&["1", "2.50", "1000000000000.01"], "2.50"),
            (&["1", "1.00", "1", "7"], "1"),
        ] {
            let mut sorted: Vec<Decimal> =
                numbers.iter().map(|text| text.parse().unwrap()).collect();
            sorted.sort();
            assert_eq!(median(&sorted).unwrap().to_string(), expected, "{numbers:?}");
        }
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn a_month_tells_counts_and_prices_of_each_currency() {
        let mut month = Month::new("2031-06");
        assert_eq!(month.render(), None);
        for (sold_out, currency, low, high) in [
            (false, r#""EUR""#, r#""20.00""#, r#""30.00""#),
            (false, r#""EUR""#, r#""7.5""#, r#""7.5""#),
            (true, "null", "null", "null"),
            (false, "null", r#""5""#, r#""6""#),
        ] {
            month.add(
                format!(
                    r#"{{"listed":{},"sold_out":{sold_out},"currency":{currency},"min_price":{low},"max_price":{high}}}"#,
                    !sold_out
                )
                .as_bytes(),
            );
        }
        month.add(b"damaged");
        let expected = r#"{"month":"2031-06","plans":4,"listed":3,"sold_out":1,"sold_out_share":0.25,"prices":[{"currency":null,"plans":1,"min":5,"median":5,"max":6},{"currency":"EUR","plans":2,"min":7.5,"median":13.75,"max":30.00}]}"#;
        assert_eq!(month.render().unwrap(), expected);
    }
}

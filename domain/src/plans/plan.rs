//! A plan as a provider states it.

use super::LocalTime;
use rust_decimal::Decimal;
use uuid::Uuid;

/// What a provider guarantees to be unique: one plan_id stands under several base plans.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PlanIdentity {
    pub provider: String,
    pub base_plan_id: String,
    pub plan_id: String,
}

/// Namespace of plans' public ids: the UUIDv5 of `https://almanac.example/plans` in the URL
/// namespace. It must never change.
const NAMESPACE: Uuid = Uuid::from_u128(0xd8c7_39b4_007f_5e18_8b6a_d5a8_0af3_299b);

impl PlanIdentity {
    /// The public id: UUIDv5 over provider, base_plan_id and plan_id, separated by NUL, which
    /// none of them holds.
    pub fn public_id(&self) -> Uuid {
        Self::public_id_of(&self.provider, &self.base_plan_id, &self.plan_id)
    }

    pub fn public_id_of(provider: &str, base_plan_id: &str, plan_id: &str) -> Uuid {
        let mut name = Vec::with_capacity(provider.len() + base_plan_id.len() + plan_id.len() + 2);
        name.extend_from_slice(provider.as_bytes());
        name.push(0);
        name.extend_from_slice(base_plan_id.as_bytes());
        name.push(0);
        name.extend_from_slice(plan_id.as_bytes());
        Uuid::new_v5(&NAMESPACE, &name)
    }
}

/// How a plan is sold. Only online plans are ever listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SellMode {
    Online,
    Offline,
    /// Something the provider did not agree on with us; it counts as not online.
    Other(String),
}

impl SellMode {
    pub fn parse(text: &str) -> Self {
        match text {
            "online" => Self::Online,
            "offline" => Self::Offline,
            other => Self::Other(other.to_owned()),
        }
    }

    pub fn as_str(&self) -> &str {
        match self {
            Self::Online => "online",
            Self::Offline => "offline",
            Self::Other(text) => text,
        }
    }

    pub fn is_online(&self) -> bool {
        *self == Self::Online
    }
}

/// A part of the venue. A zone_id may repeat within a plan: zones are a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    pub zone_id: String,
    pub name: Option<String>,
    /// Places left.
    pub capacity: u32,
    /// In the provider's currency, with as many decimals as it stated.
    pub price: Option<Decimal>,
    pub numbered: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub identity: PlanIdentity,
    pub title: String,
    pub organizer_id: Option<String>,
    pub sell_mode: SellMode,
    pub starts_at: LocalTime,
    pub ends_at: Option<LocalTime>,
    pub sell_from: Option<LocalTime>,
    pub sell_to: Option<LocalTime>,
    pub sold_out: bool,
    /// ISO 4217, by the provider's configuration.
    pub currency: Option<String>,
    /// Where to buy, by the provider's configuration.
    pub url: Option<String>,
    pub zones: Vec<Zone>,
}

/// What of a plan can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    Title,
    OrganizerId,
    SellMode,
    StartsAt,
    EndsAt,
    SellFrom,
    SellTo,
    SoldOut,
    Currency,
    Url,
    Zones,
}

impl Field {
    /// The name in the public API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Title => "title",
            Self::OrganizerId => "organizer_id",
            Self::SellMode => "sell_mode",
            Self::StartsAt => "starts_at",
            Self::EndsAt => "ends_at",
            Self::SellFrom => "sell_from",
            Self::SellTo => "sell_to",
            Self::SoldOut => "sold_out",
            Self::Currency => "currency",
            Self::Url => "url",
            Self::Zones => "zones",
        }
    }
}

impl Plan {
    /// The lowest and highest price over the zones with capacity left; `None` when none of them
    /// has a price.
    pub fn price_range(&self) -> Option<(Decimal, Decimal)> {
        price_range(self.zones.iter().map(|zone| (zone.capacity, zone.price)))
    }

    /// The fields in which the two differ. Identity is not compared.
    pub fn differences(&self, other: &Self) -> Vec<Field> {
        let comparisons = [
            (Field::Title, self.title != other.title),
            (Field::OrganizerId, self.organizer_id != other.organizer_id),
            (Field::SellMode, self.sell_mode != other.sell_mode),
            (Field::StartsAt, self.starts_at != other.starts_at),
            (Field::EndsAt, self.ends_at != other.ends_at),
            (Field::SellFrom, self.sell_from != other.sell_from),
            (Field::SellTo, self.sell_to != other.sell_to),
            (Field::SoldOut, self.sold_out != other.sold_out),
            (Field::Currency, self.currency != other.currency),
            (Field::Url, self.url != other.url),
            // Decimals compare by value, but 20.0 and 20.00 are served differently.
            (Field::Zones, !same_zones(&self.zones, &other.zones)),
        ];
        comparisons.into_iter().filter_map(|(field, differs)| differs.then_some(field)).collect()
    }
}

/// The rule of [`Plan::price_range`], over capacities and prices of zones.
pub fn price_range<C: PartialOrd + From<u8>>(
    zones: impl IntoIterator<Item = (C, Option<Decimal>)>,
) -> Option<(Decimal, Decimal)> {
    let mut range: Option<(Decimal, Decimal)> = None;
    for (capacity, price) in zones {
        let Some(price) = price.filter(|_| capacity > C::from(0)) else { continue };
        range = Some(match range {
            None => (price, price),
            Some((low, high)) => (low.min(price), high.max(price)),
        });
    }
    range
}

/// Zones are a list in which one may stand twice, but their order says nothing: providers that
/// answer from several servers send the same zones now in one order, now in another.
fn same_zones(left: &[Zone], right: &[Zone]) -> bool {
    fn key(zone: &Zone) -> impl Ord + '_ {
        let price = zone.price.map(|price| (price, price.scale()));
        (&zone.zone_id, &zone.name, zone.capacity, price, zone.numbered)
    }
    let sorted = |zones: &[Zone]| {
        let mut order: Vec<usize> = (0..zones.len()).collect();
        order.sort_unstable_by(|a, b| key(&zones[*a]).cmp(&key(&zones[*b])));
        order
    };
    left.len() == right.len()
        && (left.iter().map(key).eq(right.iter().map(key))
            || sorted(left)
                .into_iter()
                .zip(sorted(right))
                .all(|(a, b)| key(&left[a]) == key(&right[b])))
}

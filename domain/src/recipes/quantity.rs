//! How much of an ingredient, in exact decimals.

use super::limits;
use rust_decimal::Decimal;
use std::cmp::Ordering;

macro_rules! units {
    ($($name:ident = $text:literal: $meaning:literal,)*) => {
        /// The published list of units.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Unit {
            $(#[doc = $meaning] $name,)*
        }

        impl Unit {
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name in the public API.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// What it means, for people.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => $meaning,)*
                }
            }
        }
    };
}

units! {
    Milligram = "MG": "milligram",
    Gram = "G": "gram",
    Kilogram = "KG": "kilogram",
    Ounce = "OZ": "avoirdupois ounce, 28.349523125 g",
    Pound = "LB": "avoirdupois pound, 453.59237 g",
    Millilitre = "ML": "millilitre",
    Centilitre = "CL": "centilitre",
    Decilitre = "DL": "decilitre",
    Litre = "L": "litre",
    Teaspoon = "TSP": "teaspoon, 5 ml",
    Tablespoon = "TBSP": "tablespoon, 15 ml",
    Cup = "CUP": "cup, 240 ml",
    FluidOunce = "FL_OZ": "US fluid ounce, 29.5735295625 ml",
    Pint = "PINT": "US liquid pint, 473.176473 ml",
    Quart = "QUART": "US liquid quart, 946.352946 ml",
    Centimetre = "CM": "centimetre",
    Piece = "PIECE": "piece",
    Clove = "CLOVE": "clove",
    Slice = "SLICE": "slice",
    Sprig = "SPRIG": "sprig",
    Bunch = "BUNCH": "bunch",
    Handful = "HANDFUL": "handful",
    Pinch = "PINCH": "pinch",
    Can = "CAN": "can",
    Package = "PACKAGE": "package",
}

impl Unit {
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|unit| unit.as_str() == text)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    Exact(Decimal),
    /// From the first to the second, both inclusive; the first is the smaller.
    Between(Decimal, Decimal),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantity {
    pub amount: Amount,
    pub unit: Unit,
}

/// Units that are asked for. Spoons, and what is counted, are of both systems; centimetres are the
/// only length there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    Metric,
    Imperial,
}

impl System {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "metric" => Some(Self::Metric),
            "imperial" => Some(Self::Imperial),
            _ => None,
        }
    }

    /// What a unit of the other system becomes: the largest of these that there is one of, or the
    /// smallest.
    fn ladder(self, unit: Unit) -> &'static [Unit] {
        use Unit::{
            Centilitre, Cup, Decilitre, FluidOunce, Gram, Kilogram, Litre, Milligram, Millilitre,
            Ounce, Pint, Pound, Quart, Teaspoon,
        };
        match (self, unit) {
            (Self::Metric, Ounce | Pound) => &[Kilogram, Gram, Milligram],
            (Self::Metric, Cup | FluidOunce | Pint | Quart) => &[Litre, Millilitre],
            (Self::Imperial, Milligram | Gram | Kilogram) => &[Pound, Ounce],
            (Self::Imperial, Millilitre | Centilitre | Decilitre | Litre) => {
                &[Quart, Pint, FluidOunce, Teaspoon]
            }
            _ => &[],
        }
    }
}

impl Unit {
    /// Ten thousand millionths of a gram or millilitre: every unit is a whole number of them.
    fn size(self) -> i128 {
        match self {
            Self::Milligram => 10_000_000,
            Self::Gram | Self::Millilitre => 10_000_000_000,
            Self::Kilogram | Self::Litre => 10_000_000_000_000,
            Self::Ounce => 283_495_231_250,
            Self::Pound => 4_535_923_700_000,
            Self::Centilitre => 100_000_000_000,
            Self::Decilitre => 1_000_000_000_000,
            Self::Teaspoon => 50_000_000_000,
            Self::Tablespoon => 150_000_000_000,
            Self::Cup => 2_400_000_000_000,
            Self::FluidOunce => 295_735_295_625,
            Self::Pint => 4_731_764_730_000,
            Self::Quart => 9_463_529_460_000,
            // Never converted.
            _ => 1,
        }
    }
}

/// A factor that is a fraction, so that an amount is rounded once, at the end.
#[derive(Clone, Copy)]
struct Ratio {
    over: i128,
    under: i128,
}

impl Ratio {
    fn new(over: i128, under: i128) -> Self {
        let (mut one, mut other) = (over, under);
        while other != 0 {
            (one, other) = (other, one % other);
        }
        Self { over: over / one.max(1), under: under / one.max(1) }
    }

    /// Half to even at the last decimal that a recipe may have. `None` where that is zero, or has
    /// more digits than a recipe may have.
    fn of(self, value: Decimal) -> Option<Decimal> {
        const DECIMALS: u32 = limits::QUANTITY_DECIMALS;
        let value = value.normalize();
        let (more, fewer) = match DECIMALS.checked_sub(value.scale()) {
            Some(missing) => (10_i128.pow(missing), 1),
            None => (1, 10_i128.pow(value.scale() - DECIMALS)),
        };
        let over = value.mantissa().checked_mul(self.over)?.checked_mul(more)?;
        let under = self.under.checked_mul(fewer)?;
        let (whole, rest) = (over / under, over % under);
        let up = match (rest.checked_mul(2)?).cmp(&under) {
            Ordering::Less => false,
            Ordering::Equal => whole % 2 == 1,
            Ordering::Greater => true,
        };
        let rounded = whole + i128::from(up);
        let too_many = 10_i128.pow(limits::QUANTITY_DIGITS + DECIMALS);
        let fits = (1..too_many).contains(&rounded);
        fits.then(|| Decimal::from_i128_with_scale(rounded, DECIMALS).normalize())
    }
}

impl Quantity {
    /// As much for `wanted` people as this is for `given`, in units of `system` if one is asked for.
    /// Exact as far as a quantity's six decimals go, then rounded half to even. `None` where no
    /// quantity of a recipe can say it.
    pub fn adjusted(&self, wanted: u32, given: u32, system: Option<System>) -> Option<Self> {
        let people = (i128::from(wanted), i128::from(given.max(1)));
        let in_unit = |unit: Unit| {
            let (from, to) =
                if unit == self.unit { (1, 1) } else { (self.unit.size(), unit.size()) };
            let people = Ratio::new(people.0, people.1);
            let ratio = Ratio::new(people.over * from, people.under * to);
            let amount = match self.amount {
                Amount::Exact(value) => Amount::Exact(ratio.of(value)?),
                Amount::Between(low, high) => Amount::Between(ratio.of(low)?, ratio.of(high)?),
            };
            Some(Self { amount, unit })
        };
        let ladder = system.map_or(&[][..], |system| system.ladder(self.unit));
        let Some((smallest, larger)) = ladder.split_last() else { return in_unit(self.unit) };
        let is_one = |quantity: &Self| match quantity.amount {
            Amount::Exact(least) | Amount::Between(least, _) => least >= Decimal::ONE,
        };
        larger.iter().filter_map(|unit| in_unit(*unit)).find(is_one).or_else(|| in_unit(*smallest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_are_read_back() {
        for unit in Unit::ALL {
            assert_eq!(Unit::parse(unit.as_str()), Some(*unit));
        }
        assert_eq!(Unit::parse("g"), None, "the list is to the letter");
    }

    fn grams(amount: &str) -> Quantity {
        Quantity { amount: Amount::Exact(amount.parse().unwrap()), unit: Unit::Gram }
    }

    fn shown(quantity: Option<Quantity>) -> String {
        match quantity {
            Some(Quantity { amount: Amount::Exact(value), unit }) => {
                format!("{value} {}", unit.as_str())
            }
            Some(Quantity { amount: Amount::Between(low, high), unit }) => {
                format!("{low}-{high} {}", unit.as_str())
            }
            None => "none".to_owned(),
        }
    }

    #[test]
    fn amounts_are_rounded_once_at_the_last_decimal_of_a_recipe() {
        for (amount, wanted, given, expected) in [
            ("1", 1, 3, "0.333333 G"),
            ("2", 1, 3, "0.666667 G"),
            ("0.000001", 1, 2, "none"),
            ("0.000003", 1, 2, "0.000002 G"),
            ("0.000001", 3, 2, "0.000002 G"),
            ("10.50", 6, 2, "31.5 G"),
            ("999999999.999999", 1, 1, "999999999.999999 G"),
            ("999999999", 2, 1, "none"),
            ("999999999.999999", 10_000, 10_000, "999999999.999999 G"),
        ] {
            assert_eq!(shown(grams(amount).adjusted(wanted, given, None)), expected, "{amount}");
        }
    }

    #[test]
    fn units_are_converted_by_their_definitions() {
        use Unit::{
            Centimetre, Clove, Cup, Decilitre, FluidOunce, Kilogram, Litre, Milligram, Millilitre,
            Ounce, Pint, Pound, Quart, Tablespoon, Teaspoon,
        };
        let (metric, imperial) = (System::Metric, System::Imperial);
        for (amount, unit, system, expected) in [
            ("1", Ounce, metric, "28.349523 G"),
            ("1000000", Ounce, metric, "28349.523125 KG"),
            ("0.5", Pound, metric, "226.796185 G"),
            ("0.01", Ounce, metric, "283.495231 MG"),
            ("1", FluidOunce, metric, "29.57353 ML"),
            ("1", Pint, metric, "473.176473 ML"),
            ("2", Quart, metric, "1.892706 L"),
            ("1.5", Cup, metric, "360 ML"),
            ("100", Decilitre, metric, "100 DL"),
            ("3", Tablespoon, metric, "3 TBSP"),
            ("1", Kilogram, imperial, "2.204623 LB"),
            ("100", Unit::Gram, imperial, "3.527396 OZ"),
            ("500", Milligram, imperial, "0.017637 OZ"),
            ("5", Millilitre, imperial, "1 TSP"),
            ("1", Decilitre, imperial, "3.381402 FL_OZ"),
            ("0.5", Litre, imperial, "1.056688 PINT"),
            ("1", Litre, imperial, "1.056688 QUART"),
            ("1", Cup, imperial, "1 CUP"),
            ("20", Teaspoon, imperial, "20 TSP"),
            ("2", Clove, imperial, "2 CLOVE"),
            ("2", Centimetre, imperial, "2 CM"),
        ] {
            let quantity = Quantity { amount: Amount::Exact(amount.parse().unwrap()), unit };
            assert_eq!(shown(quantity.adjusted(1, 1, Some(system))), expected, "{amount} {unit:?}");
        }
        let amount = Amount::Between(Decimal::new(8, 0), Decimal::new(20, 0));
        let range = Quantity { amount, unit: Ounce };
        assert_eq!(shown(range.adjusted(3, 1, Some(metric))), "680.388555-1700.971388 G");
    }

    proptest! {
        #[test]
        fn what_is_answered_is_a_quantity_that_a_recipe_may_have(
            units in 1_i64..1_000_000_000_000_000, scale in 0_u32..=6, which in 0..Unit::ALL.len(),
            wanted in 1_u32..10_000, given in 1_u32..10_000, system in 0_usize..3,
        ) {
            let amount = Amount::Exact(Decimal::new(units, scale));
            let quantity = Quantity { amount, unit: Unit::ALL[which] };
            let system = [None, Some(System::Metric), Some(System::Imperial)][system];
            if let Some(Quantity { amount: Amount::Exact(value), .. }) =
                quantity.adjusted(wanted, given, system)
            {
                let ceiling = Decimal::from(10_i64.pow(limits::QUANTITY_DIGITS));
                prop_assert!(value > Decimal::ZERO && value < ceiling && value.scale() <= 6);
            }
        }

        #[test]
        fn scaling_there_and_back_is_exact(
            units in 1_i64..10_000_000, scale in 0_u32..=6, people in 1_u32..100, times in 1_u32..50
        ) {
            let amount = Amount::Exact(Decimal::new(units, scale));
            let quantity = Quantity { amount, unit: Unit::Gram };
            let there = quantity.adjusted(people * times, people, None).unwrap();
            prop_assert_eq!(there.adjusted(people, people * times, None), Some(quantity));
            prop_assert_eq!(quantity.adjusted(people, people, None), Some(quantity));
        }
    }
}

//! How much of an ingredient, in exact decimals.

use rust_decimal::Decimal;

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

impl Quantity {
    /// As much for `wanted` people as this is for `given`. Exact where a decimal can be: a third is
    /// rounded at the twelfth decimal, half to even.
    pub fn scaled(&self, wanted: u32, given: u32) -> Self {
        const DECIMALS: u32 = 12;
        let scale = |value: Decimal| {
            // Multiplied first, so that what comes out even is exact.
            (value * Decimal::from(wanted) / Decimal::from(given.max(1)))
                .round_dp(DECIMALS)
                .normalize()
        };
        let amount = match self.amount {
            Amount::Exact(value) => Amount::Exact(scale(value)),
            Amount::Between(low, high) => Amount::Between(scale(low), scale(high)),
        };
        Self { amount, unit: self.unit }
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

    proptest! {
        #[test]
        fn scaling_there_and_back_is_exact(
            units in 0_i64..1_000_000_000, scale in 0_u32..6, people in 1_u32..100, times in 1_u32..50
        ) {
            let amount = Amount::Exact(Decimal::new(units, scale));
            let quantity = Quantity { amount, unit: Unit::Gram };
            let there = quantity.scaled(people * times, people);
            prop_assert_eq!(there.scaled(people, people * times), quantity);
            prop_assert_eq!(quantity.scaled(people, people), quantity);
        }
    }
}

//! A line of ingredients: "1 1/2 cups flour, sifted".

use almanac_domain::recipes::{IngredientDraft, QuantityDraft, Unit, limits};
use rust_decimal::Decimal;

/// An amount and a unit are understood, or the line is the ingredient's name.
pub(super) fn read(line: &str) -> IngredientDraft {
    let Some((amount, rest)) = amount(line) else { return named(line, None, None) };
    // "1 (14 oz) can tomatoes"
    let (aside, rest) = match rest.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
        Some((aside, rest)) => (Some(aside.trim()), rest.trim_start()),
        None => (None, rest),
    };
    let (unit, rest) = unit(rest);
    let rest = rest.strip_prefix("of ").unwrap_or(rest).trim();
    if rest.is_empty() {
        // An amount of nothing.
        return named(line, None, None);
    }
    match amount.quantity(unit.unwrap_or(Unit::Piece)) {
        Some(quantity) => named(rest, aside, Some(quantity)),
        None => {
            // It stays readable: "1/3 cup" of sugar has no finite decimal.
            let said = &line[..line.len() - rest.len()];
            let said = said.strip_suffix("of ").unwrap_or(said).trim();
            named(rest, Some(said), None)
        }
    }
}

/// What follows a comma, or stands in parentheses at the end, is how it is prepared.
fn named(text: &str, aside: Option<&str>, quantity: Option<QuantityDraft>) -> IngredientDraft {
    let (name, mut preparation) = match text.split_once(", ") {
        Some((name, preparation)) => (name, preparation.to_owned()),
        None => match text.strip_suffix(')').and_then(|text| text.split_once(" (")) {
            Some((name, preparation)) if !preparation.contains(['(', ')']) => {
                (name, preparation.to_owned())
            }
            _ => (text, String::new()),
        },
    };
    if let Some(aside) = aside {
        let rest = std::mem::take(&mut preparation);
        preparation = if rest.is_empty() { aside.to_owned() } else { format!("{aside}, {rest}") };
    }
    IngredientDraft {
        ingredient: Some(name.trim().to_owned()),
        section: None,
        preparation: Some(preparation).filter(|text| !text.is_empty()),
        quantity,
    }
}

/// One number, or a smallest and a largest one, as fractions.
struct Amount {
    low: Fraction,
    high: Option<Fraction>,
}

impl Amount {
    /// Where the numbers have finite decimals that a recipe may have.
    fn quantity(&self, unit: Unit) -> Option<QuantityDraft> {
        let unit = Some(unit.as_str().to_owned());
        let low = Some(self.low.decimal()?);
        Some(match &self.high {
            None => QuantityDraft { value: low, min: None, max: None, unit },
            Some(high) => {
                let high = Some(high.decimal()?).filter(|high| Some(*high) > low)?;
                QuantityDraft { value: None, min: low, max: Some(high), unit }
            }
        })
    }
}

/// The amount that a line begins with, and what follows it.
fn amount(line: &str) -> Option<(Amount, &str)> {
    let (low, rest) = number(line)?;
    let between = rest.trim_start();
    let dashes = ["-", "\u{2013}", "\u{2014}", "to ", "or "];
    let high = dashes
        .iter()
        .find_map(|dash| number(between.strip_prefix(dash)?.trim_start()))
        .filter(|_| !between.starts_with("or ") || rest.starts_with(' '));
    match high {
        Some((high, rest)) => Some((Amount { low, high: Some(high) }, rest.trim_start())),
        // "7-up" and "00 flour" begin with no amount.
        None if between.starts_with(['-', '/', '.', '%', '"', '\'']) => None,
        None => Some((Amount { low, high: None }, between)),
    }
}

#[derive(Clone, Copy)]
struct Fraction {
    over: i64,
    under: i64,
}

impl Fraction {
    fn decimal(self) -> Option<Decimal> {
        let value = Decimal::from(self.over).checked_div(Decimal::from(self.under))?.normalize();
        let is_exact = value.checked_mul(Decimal::from(self.under))? == Decimal::from(self.over);
        let fits = value.scale() <= limits::QUANTITY_DECIMALS && !value.is_zero();
        (is_exact && fits).then_some(value)
    }
}

/// "2", "1.5", "1,5", "3/4", "1 1/2", "1½", "½".
fn number(text: &str) -> Option<(Fraction, &str)> {
    if let Some((vulgar, rest)) = vulgar(text) {
        return Some((vulgar, rest));
    }
    let (whole, rest) = digits(text)?;
    if let Some((Fraction { over, under }, rest)) = vulgar(rest.trim_start()) {
        return Some((Fraction { over: whole * under + over, under }, rest));
    }
    if let Some((under, rest)) = rest.strip_prefix(['/', '\u{2044}']).and_then(digits) {
        return (under > 0).then_some((Fraction { over: whole, under }, rest));
    }
    // A comma before three digits may be a decimal point or separate thousands.
    if let Some(after) = rest.strip_prefix(['.', ','])
        && let Some((decimals, end)) = digits(after)
    {
        let count = after.len() - end.len();
        if rest.starts_with(',') && count == 3 || count > 6 {
            return None;
        }
        let under = 10_i64.pow(count as u32);
        return Some((Fraction { over: whole * under + decimals, under }, end));
    }
    // "1 1/2"
    let mixed = rest.strip_prefix([' ', '-']).and_then(|rest| {
        let (over, rest) = digits(rest)?;
        let (under, rest) = rest.strip_prefix(['/', '\u{2044}']).and_then(digits)?;
        (0 < over && over < under).then_some((over, under, rest))
    });
    match mixed {
        Some((over, under, rest)) => Some((Fraction { over: whole * under + over, under }, rest)),
        None => Some((Fraction { over: whole, under: 1 }, rest)),
    }
}

/// Up to six digits.
fn digits(text: &str) -> Option<(i64, &str)> {
    let end = text.find(|one: char| !one.is_ascii_digit()).unwrap_or(text.len());
    let number = text[..end].parse().ok().filter(|_| end <= 6)?;
    Some((number, &text[end..]))
}

fn vulgar(text: &str) -> Option<(Fraction, &str)> {
    let first = text.chars().next()?;
    let (over, under) = match first {
        '½' => (1, 2),
        '⅓' => (1, 3),
        '⅔' => (2, 3),
        '¼' => (1, 4),
        '¾' => (3, 4),
        '⅕' => (1, 5),
        '⅖' => (2, 5),
        '⅗' => (3, 5),
        '⅘' => (4, 5),
        '⅙' => (1, 6),
        '⅚' => (5, 6),
        '⅛' => (1, 8),
        '⅜' => (3, 8),
        '⅝' => (5, 8),
        '⅞' => (7, 8),
        _ => return None,
    };
    Some((Fraction { over, under }, &text[first.len_utf8()..]))
}

/// The unit that a text begins with, as a word of its own.
fn unit(text: &str) -> (Option<Unit>, &str) {
    let word_end = |text: &str| {
        let is_part = |one: char| one.is_alphabetic() || matches!(one, '.' | '_');
        text.find(|one: char| !is_part(one)).unwrap_or(text.len())
    };
    let first = word_end(text);
    let after = text[first..].trim_start();
    let second = word_end(after);
    let two = format!("{} {}", &text[..first], &after[..second]);
    if let Some(unit) = known(&two) {
        return (Some(unit), after[second..].trim_start());
    }
    match known(&text[..first]) {
        Some(unit) => (Some(unit), after),
        None => (None, text),
    }
}

fn known(word: &str) -> Option<Unit> {
    // "T" is a tablespoon and "t" a teaspoon, to some: neither is read.
    let word = word.to_lowercase().replace(['_', '.'], " ");
    let word = word.split_whitespace().collect::<Vec<_>>().join(" ");
    Some(match word.strip_suffix('s').filter(|one| one.len() > 1).unwrap_or(&word) {
        "mg" | "milligram" => Unit::Milligram,
        "g" | "gr" | "gram" | "gramme" => Unit::Gram,
        "kg" | "kilo" | "kilogram" => Unit::Kilogram,
        "oz" | "ounce" => Unit::Ounce,
        "lb" | "pound" => Unit::Pound,
        "ml" | "milliliter" | "millilitre" => Unit::Millilitre,
        "cl" | "centiliter" | "centilitre" => Unit::Centilitre,
        "dl" | "deciliter" | "decilitre" => Unit::Decilitre,
        "l" | "liter" | "litre" => Unit::Litre,
        "tsp" | "teaspoon" => Unit::Teaspoon,
        "tbsp" | "tbs" | "tablespoon" => Unit::Tablespoon,
        "cup" => Unit::Cup,
        "fl oz" | "fluid ounce" => Unit::FluidOunce,
        "pt" | "pint" => Unit::Pint,
        "qt" | "quart" => Unit::Quart,
        "cm" | "centimeter" | "centimetre" => Unit::Centimetre,
        "piece" | "pc" => Unit::Piece,
        "clove" => Unit::Clove,
        "slice" => Unit::Slice,
        "sprig" => Unit::Sprig,
        "bunch" | "bunche" => Unit::Bunch,
        "handful" => Unit::Handful,
        "pinch" | "pinche" => Unit::Pinch,
        "can" | "tin" => Unit::Can,
        "package" | "pkg" | "packet" => Unit::Package,
        _ => return None,
    })
}

//! Numbers of JSON as they are meant: `420`, `420.0` and `42e1` are the same.

use rust_decimal::Decimal;
use std::fmt;

/// A number: its digits, without zeros before the first and after the last that counts, times a
/// power of ten. Zero has no digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Number {
    is_negative: bool,
    digits: String,
    exponent: i64,
}

impl Number {
    /// Takes what a JSON parser let pass as a number. `None` where it is none, or its power of ten
    /// has no number that we can count with.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (is_negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if !rest.starts_with(|first: char| first.is_ascii_digit()) {
            return None;
        }
        let (mantissa, power) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = [whole, fraction].concat();
        let digits = all.trim_matches('0');
        if digits.is_empty() {
            return Some(Self { is_negative: false, digits: String::new(), exponent: 0 });
        }
        let zeros_behind = all.len() - all.trim_end_matches('0').len();
        let power: i64 = power.parse().ok()?;
        let exponent = power
            .checked_add(i64::try_from(zeros_behind).ok()?)?
            .checked_sub(i64::try_from(fraction.len()).ok()?)?;
        Some(Self { is_negative, digits: digits.to_owned(), exponent })
    }

    /// The whole number that it is.
    pub(super) fn whole(&self) -> Option<i64> {
        const MOST: usize = 19;
        let zeros = usize::try_from(self.exponent).ok()?;
        if self.digits.len().checked_add(zeros)? > MOST {
            return None;
        }
        if self.digits.is_empty() {
            return Some(0);
        }
        let sign = if self.is_negative { "-" } else { "" };
        format!("{sign}{}{}", self.digits, "0".repeat(zeros)).parse().ok()
    }

    /// The decimal that it is, if 28 digits are enough.
    pub(super) fn decimal(&self) -> Option<Decimal> {
        const MOST: i64 = 28;
        if self.digits.is_empty() {
            return Some(Decimal::ZERO);
        }
        if !(-MOST..=MOST).contains(&self.exponent) {
            return None;
        }
        let zeros = usize::try_from(self.exponent.max(0)).ok()?;
        if self.digits.len() + zeros > MOST as usize {
            return None;
        }
        let mantissa: i128 = format!("{}{}", self.digits, "0".repeat(zeros)).parse().ok()?;
        let scale = u32::try_from(-self.exponent.min(0)).ok()?;
        let mantissa = if self.is_negative { -mantissa } else { mantissa };
        Decimal::try_from_i128_with_scale(mantissa, scale).ok()
    }
}

/// One text for one number.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.digits.is_empty() {
            return f.write_str("0");
        }
        let sign = if self.is_negative { "-" } else { "" };
        write!(f, "{sign}{}", self.digits)?;
        if self.exponent != 0 { write!(f, "e{}", self.exponent) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_has_one_text() {
        for (alike, text, whole) in [
            (&["420", "420.0", "42e1", "4.2E+2", "42000e-2", "0420"][..], "42e1", Some(420)),
            (&["0", "-0", "0.000", "0e999999999999999999999", "-0.0e5"], "0", Some(0)),
            (&["-7", "-7.00", "-0.7e1"], "-7", Some(-7)),
            (&["10.5", "10.50", "105e-1"], "105e-1", None),
            (
                &["9223372036854775807", "9223372036854775807.0"],
                "9223372036854775807",
                Some(i64::MAX),
            ),
            (&["9223372036854775808"], "9223372036854775808", None),
            (&["1e400", "10e399"], "1e400", None),
            (&["1e-30"], "1e-30", None),
        ] {
            for one in alike {
                let number = Number::parse(one).unwrap();
                assert_eq!((number.to_string().as_str(), number.whole()), (text, whole), "{one}");
            }
        }
        for none in ["1e99999999999999999999", "\"1\"", "-", "null", "[1]"] {
            assert_eq!(Number::parse(none), None, "{none}");
        }
    }

    #[test]
    fn zeros_take_no_digits_of_a_decimal() {
        let read = |text: &str| Number::parse(text)?.decimal();
        let many = format!("10.5{}", "0".repeat(60));
        assert_eq!(read(&many), Some(Decimal::new(105, 1)));
        assert_eq!(read(&format!("{}1.5", "0".repeat(60))), Some(Decimal::new(15, 1)));
        assert_eq!(read("-1.5e3"), Some(Decimal::from(-1_500)));
        assert_eq!(read("1e-28").map(|one| one.scale()), Some(28));
        assert_eq!(read("0.00"), Some(Decimal::ZERO));
        for too_many in ["1e29", "1e-29", "12345678901234567890123456789", "1e400"] {
            assert_eq!(read(too_many), None, "{too_many}");
        }
    }
}

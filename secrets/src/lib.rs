//! Configuration that must not be told: values that cannot be printed, and addresses that can,
//! without what lets somebody in.
//!
//! Neither type has the text in its `Debug` or its serialized form, so that no log line, error or
//! printed configuration shows it by accident. Who needs the text says `expose`.

mod address;
mod kept;
mod seal;
mod within;

pub use address::{Address, NoWebAddress, masked, masked_within};
pub use kept::Kept;
pub use seal::{SealError, SealingKey, write_once};
pub use within::without_secrets;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;

/// What stands in the place of a secret.
pub const MASK: &str = "********";

/// A password, a key, the value of a header.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text: only for whoever asks for it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: Into<String>> From<T> for Secret {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// That there is none may be told.
impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.0.is_empty() { "" } else { MASK })
    }
}

/// An error names the type that it found and not, as serde's own do, the value.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        fn found<E: de::Error>(what: &str) -> Result<Secret, E> {
            Err(E::custom(format_args!("a secret must be text in quotes, not {what}")))
        }

        impl de::Visitor<'_> for Visitor {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a secret, which is text in quotes")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
                Ok(Secret(text.to_owned()))
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Secret, E> {
                Ok(Secret(text))
            }

            fn visit_bool<E: de::Error>(self, _: bool) -> Result<Secret, E> {
                found("true or false")
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Secret, E> {
                found("a number")
            }

            fn visit_u64<E: de::Error>(self, _: u64) -> Result<Secret, E> {
                found("a number")
            }

            fn visit_i128<E: de::Error>(self, _: i128) -> Result<Secret, E> {
                found("a number")
            }

            fn visit_u128<E: de::Error>(self, _: u128) -> Result<Secret, E> {
                found("a number")
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Secret, E> {
                found("a number")
            }
        }
        // Not as text, which makes some formats complain by themselves, of the value.
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        let secret: Secret = serde_json::from_str("\"hunter2\"").unwrap();
        assert_eq!(secret.expose(), "hunter2");
        assert_eq!(format!("{secret:?} {:#?}", Some(&secret)).matches("hunter2").count(), 0);
        assert_eq!(serde_json::to_string(&secret).unwrap(), format!("\"{MASK}\""));
        assert_eq!(serde_json::to_string(&Secret::default()).unwrap(), "\"\"");
    }

    #[test]
    fn nor_is_one_of_another_type() {
        for (value, kind) in [
            ("8346372", "number"),
            ("-8346372", "number"),
            ("8346372.5", "number"),
            ("true", "true or false"),
        ] {
            let error = serde_json::from_str::<Secret>(value).unwrap_err().to_string();
            assert!(error.contains(kind) && !error.contains("8346372"), "{error}");
        }
    }
}

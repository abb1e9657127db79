//! Consistency tokens: positions of commands, as clients carry them from a write to a read.

use crate::recipes;
use std::{fmt, str::FromStr};
use uuid::Uuid;

/// The position of a command. Clients take its text as opaque; events carry it in the header
/// [`CONSISTENCY_TOKEN`], so that whoever sees an event can ask for answers that include it.
///
/// A token of recipes names no context: there were no others at first, and clients and tables hold
/// such tokens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// Whose tables hold what the command led to.
    pub context: Box<str>,
    /// Id of the topic of commands: positions in another incarnation mean nothing.
    pub topic: Uuid,
    pub partition: u32,
    pub offset: u64,
}

/// A CloudEvents extension attribute.
pub const CONSISTENCY_TOKEN: &str = "ce_consistencytoken";

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if &*self.context != recipes::CONTEXT {
            write!(f, "{}.", self.context)?;
        }
        write!(f, "{}-{}-{}", self.topic.simple(), self.partition, self.offset)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no consistency token")]
pub struct NotAToken;

impl FromStr for Token {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let mut parts = text.split('-');
        let mut next = || parts.next().ok_or(NotAToken);
        let (topic, partition, offset) = (next()?, next()?, next()?);
        let (context, topic) = topic.split_once('.').unwrap_or((recipes::CONTEXT, topic));
        let is_name = (1..=32).contains(&context.len())
            && context.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        if !is_name {
            return Err(NotAToken);
        }
        let number = |text: &str| {
            let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            if is_plain { text.parse::<u64>().ok() } else { None }
        };
        let token = Self {
            context: context.into(),
            topic: Uuid::try_parse(topic).map_err(|_| NotAToken)?,
            partition: number(partition).and_then(|n| n.try_into().ok()).ok_or(NotAToken)?,
            offset: number(offset).ok_or(NotAToken)?,
        };
        // One text for each token: what differs from ours was made up.
        if parts.next().is_none() && token.to_string() == text { Ok(token) } else { Err(NotAToken) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_back_and_nothing_else_is() {
        let (topic, context) = (Uuid::from_u128(7), recipes::CONTEXT.into());
        let token = Token { context, topic, partition: 3, offset: u64::MAX };
        let text = token.to_string();
        assert_eq!(text, format!("{}-3-{}", topic.simple(), u64::MAX), "as clients have it");
        let other = Token { context: "weather_windows".into(), ..token.clone() };
        assert_eq!(other.to_string(), format!("weather_windows.{text}"));
        assert_eq!(other.to_string().parse(), Ok(other));
        assert_eq!(text.parse(), Ok(token));
        for bad in [
            &format!("recipes.{text}"),
            &format!(".{text}"),
            &format!("a.b.{text}"),
            &format!("A.{text}"),
            &format!("{}.{text}", "a".repeat(33)),
            "",
            "-",
            "--",
            "x",
            &text.replace("-3-", "-03-"),
            &text.replace("-3-", "--3-"),
            &format!("{text}-1"),
            &format!("{text}0"),
            &text.to_uppercase().replace('0', "A"),
            &text[1..],
        ] {
            assert_eq!(bad.parse::<Token>(), Err(NotAToken), "{bad}");
        }
    }
}

//! Query parameters, read strictly: what is unknown is a mistake that is better told.

use crate::{FieldError, Problem, ProblemType};
use jiff::Timestamp;

/// The parameters of a request in their order.
pub struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads a query string; a parameter that is not among `known` is refused.
    pub fn parse(query: Option<&str>, known: &[&str]) -> Result<Self, Problem> {
        let pairs: Vec<(String, String)> =
            form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect();
        let unknown: Vec<FieldError> = pairs
            .iter()
            .filter(|(name, _)| !known.contains(&name.as_str()))
            .map(|(name, _)| FieldError {
                pointer: name.chars().take(64).collect(),
                detail: "unknown parameter".to_owned(),
            })
            .take(20)
            .collect();
        if !unknown.is_empty() {
            let detail = format!("known here: {}", known.join(", "));
            return Err(Problem::new(ProblemType::UnknownParameter, detail).with_errors(unknown));
        }
        Ok(Self(pairs))
    }

    /// Every value of a parameter that may repeat.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The value of a parameter that may not repeat.
    pub fn one<'a>(&'a self, name: &'a str) -> Result<Option<&'a str>, Problem> {
        let mut values = self.all(name);
        let first = values.next();
        if values.next().is_some() {
            return Err(bad(name, "it is given more than once"));
        }
        Ok(first)
    }

    /// An instant, if it is given.
    pub fn time(&self, name: &str) -> Result<Option<Timestamp>, Problem> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        // A plus that was not escaped arrives as a space.
        let time = text.replacen(' ', "+", 1).parse().map(Some);
        time.map_err(|_| bad(name, "it must be an RFC 3339 date-time with an offset"))
    }

    /// `limit`, by default 50, at most 500.
    pub fn limit(&self) -> Result<usize, Problem> {
        match self.one("limit")? {
            None => Ok(50),
            Some(text) => match text.parse() {
                Ok(limit @ 1..=500) => Ok(limit),
                _ => Err(bad("limit", "it must be a number from 1 to 500")),
            },
        }
    }
}

/// A parameter that cannot be read.
pub fn bad(name: &str, detail: &str) -> Problem {
    let error = FieldError { pointer: name.to_owned(), detail: detail.to_owned() };
    Problem::new(ProblemType::BadRequest, format!("{name}: {detail}")).with_errors(vec![error])
}

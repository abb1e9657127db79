//! `almanac doctor`: looks for what is wrong with an installation, and says what to do. It changes nothing,
//! and says the same while nothing runs.

mod installation;
mod machine;
mod servers;

use super::{Client, Target, show::clean};
use crate::{config::Config, say::say};
use anyhow::bail;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;

/// Look for what is wrong with an installation, and say what to do about it
///
/// Looks at the configuration and this machine, at Kafka, the schema registry and ScyllaDB where the
/// configuration names them, and at the installation that runs, if one does. Nothing is changed.
/// Ends with 0 if nothing failed, warnings or not, and with 1 otherwise.
///
/// Examples:
///   almanac doctor
///   almanac --config /etc/almanac.toml doctor --at-most 3
///   almanac doctor --json | jq 'select(.state != "ok")'
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Doctor {
    #[command(flatten)]
    target: Target,
    /// Print each finding as JSON, one a line
    #[arg(long)]
    json: bool,
    /// How many seconds each server may take to answer
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    at_most: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ok,
    Warn,
    Fail,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What one look found.
#[derive(Clone, Debug)]
struct Finding {
    check: String,
    state: State,
    found: String,
    /// What to do.
    advice: Option<String>,
    /// A page of the repository.
    runbook: Option<String>,
}

impl Finding {
    fn new(check: &str, state: State, found: impl Into<String>) -> Self {
        let (check, found) = (check.to_owned(), found.into());
        Self { check, state, found, advice: None, runbook: None }
    }

    fn ok(check: &str, found: impl Into<String>) -> Self {
        Self::new(check, State::Ok, found)
    }

    fn warn(check: &str, found: impl Into<String>) -> Self {
        Self::new(check, State::Warn, found)
    }

    fn fail(check: &str, found: impl Into<String>) -> Self {
        Self::new(check, State::Fail, found)
    }

    fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    fn runbook(mut self, runbook: impl Into<String>) -> Self {
        self.runbook = Some(runbook.into());
        self
    }

    fn line(&self) -> String {
        let state = self.state.as_str();
        let mut line = format!("{state:<5} {:<18} {}", self.check, clean(&self.found));
        if let Some(advice) = &self.advice {
            line.push_str(&format!("; {}", clean(advice)));
        }
        if let Some(runbook) = &self.runbook {
            line.push_str(&format!(" ({})", clean(runbook)));
        }
        line
    }

    fn json(&self) -> Value {
        json!({
            "check": self.check,
            "state": self.state.as_str(),
            "found": self.found,
            "advice": self.advice,
            "runbook": self.runbook,
        })
    }
}

pub(crate) async fn run(doctor: &Doctor, config: anyhow::Result<Config>) -> anyhow::Result<()> {
    let mut told = Told { json: doctor.json, failed: 0 };
    let config = match config {
        Ok(config) => config,
        Err(error) => {
            let found = almanac_errors::chain(&*error).to_string();
            let advice = "mend it; almanac.example.toml has every key with its default";
            told.tell(&[Finding::fail("configuration", found).advise(advice)]);
            return told.end();
        }
    };
    let engine = match config.engine {
        crate::config::Engine::Embedded => "embedded",
        crate::config::Engine::Cluster => "cluster",
    };
    let found = format!("read, engine = {engine:?}; `almanac config` prints what is in force");
    told.tell(&[Finding::ok("configuration", found)]);
    told.tell(&machine::checks(&config));
    let at_most = Duration::from_secs(doctor.at_most);
    // Each is told as it comes: what waits for a server that is away holds up nothing before it.
    if config.engine == crate::config::Engine::Cluster {
        told.tell(&servers::kafka(&config, at_most).await);
        told.tell(&servers::registry(&config, at_most).await);
        told.tell(&servers::read_store(&config, at_most).await);
    }
    let client = Client::new(&doctor.target, &config)?;
    told.tell(&installation::checks(&client, &config, at_most).await);
    told.end()
}

struct Told {
    json: bool,
    failed: usize,
}

impl Told {
    fn tell(&mut self, findings: &[Finding]) {
        for one in findings {
            match self.json {
                true => say!("{}", one.json()),
                false => say!("{}", one.line()),
            }
            self.failed += usize::from(one.state == State::Fail);
        }
        crate::say::flush();
    }

    fn end(self) -> anyhow::Result<()> {
        match self.failed {
            0 => Ok(()),
            1 => bail!("one check failed"),
            n => bail!("{n} checks failed"),
        }
    }
}

/// Clocks that differ by more make tokens expire early and lags look long.
const SKEW_WARN_MS: i64 = 2_000;
const SKEW_FAIL_MS: i64 = 30_000;

/// How far another clock is from this one; `within` is how precise what it told is, and how long it took.
fn clock(whose: &str, theirs_ms: i64, within: Duration) -> Finding {
    let check = "clock";
    let apart = Timestamp::now().as_millisecond() - theirs_ms;
    let within = i64::try_from(within.as_millis()).unwrap_or(i64::MAX);
    let least = (apart.abs() - within).max(0);
    let seconds = apart as f64 / 1_000.0;
    let state = match least {
        ..=SKEW_WARN_MS => {
            return Finding::ok(check, format!("this machine's agrees with that of {whose}"));
        }
        _ if least <= SKEW_FAIL_MS => State::Warn,
        _ => State::Fail,
    };
    Finding::new(check, state, format!("this machine's is {seconds:.1} s ahead of that of {whose}"))
        .advise("synchronize the clocks of both (NTP)")
}

/// The same by the `Date` of an answer that came within `took`, if it is one.
fn clock_of(whose: &str, date: &str, took: Duration) -> Option<Finding> {
    let date = jiff::fmt::rfc2822::parse(date).ok()?;
    // It tells whole seconds.
    let within = took + Duration::from_secs(1);
    Some(clock(whose, date.timestamp().as_millisecond(), within))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_line_with_what_to_do() {
        let one = Finding::fail("kafka", "away\u{1b}[2J").advise("start it").runbook("docs/x.md");
        assert_eq!(one.line(), "fail  kafka              away\u{fffd}[2J; start it (docs/x.md)");
        assert_eq!(one.json()["state"], "fail");
    }

    #[test]
    fn clocks_apart_are_told_by_how_far() {
        let now = Timestamp::now().as_millisecond();
        let state = |apart: i64| clock("it", now - apart, Duration::from_secs(1)).state;
        assert_eq!(state(1_500), State::Ok);
        assert_eq!(state(-10_000), State::Warn);
        assert_eq!(state(60_000), State::Fail);
    }
}

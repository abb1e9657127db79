//! What is not well, as operators are told it.

use serde_json::{Value, json};

/// As alerts have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// Users notice, or will soon.
    Page,
    /// It can wait for the morning.
    Ticket,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) severity: Severity,
    pub(crate) what: String,
    /// RFC 3339, where it is known.
    pub(crate) since: Option<String>,
    pub(crate) runbook: Runbook,
}

impl Trouble {
    pub(crate) fn new(severity: Severity, runbook: Runbook, what: impl Into<String>) -> Self {
        Self { severity, what: what.into(), since: None, runbook }
    }

    pub(crate) fn since(mut self, since: Option<String>) -> Self {
        self.since = since;
        self
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "severity": match self.severity {
                Severity::Page => "page",
                Severity::Ticket => "ticket",
            },
            "what": self.what,
            "since": self.since,
            "runbook": self.runbook.address(),
        })
    }
}

/// A page of docs/runbooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runbook {
    CutOffFromLog,
    Down,
    FeedsStale,
    Kafka,
    ParkedKeys,
    ProjectionBehind,
    ProviderFailing,
    ProviderPaused,
    ProviderSuspect,
    Rebuild,
    Scylla,
    TaskDeaths,
}

impl Runbook {
    #[cfg(test)]
    const ALL: [Self; 12] = [
        Self::CutOffFromLog,
        Self::Down,
        Self::FeedsStale,
        Self::Kafka,
        Self::ParkedKeys,
        Self::ProjectionBehind,
        Self::ProviderFailing,
        Self::ProviderPaused,
        Self::ProviderSuspect,
        Self::Rebuild,
        Self::Scylla,
        Self::TaskDeaths,
    ];

    fn address(self) -> &'static str {
        match self {
            Self::CutOffFromLog => "docs/runbooks/cut-off-from-log.md",
            Self::Down => "docs/runbooks/down.md",
            Self::FeedsStale => "docs/runbooks/slo-feeds-stale.md",
            Self::Kafka => "docs/runbooks/kafka.md",
            Self::ParkedKeys => "docs/runbooks/parked-keys.md",
            Self::ProjectionBehind => "docs/runbooks/projection-behind.md",
            Self::ProviderFailing => "docs/runbooks/provider-failing.md",
            Self::ProviderPaused => "docs/runbooks/provider-paused.md",
            Self::ProviderSuspect => "docs/runbooks/provider-suspect.md",
            Self::Rebuild => "docs/runbooks/rebuild.md",
            Self::Scylla => "docs/runbooks/scylla.md",
            Self::TaskDeaths => "docs/runbooks/task-deaths.md",
        }
    }
}

/// What a read model tells operators beside how far its tables are.
#[derive(Debug)]
pub(crate) struct Account {
    /// Under which name it is told.
    pub(crate) name: &'static str,
    pub(crate) items: Vec<Value>,
    pub(crate) troubles: Vec<Trouble>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_runbook_is_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for runbook in Runbook::ALL {
            assert!(root.join(runbook.address()).is_file(), "{}", runbook.address());
        }
    }
}

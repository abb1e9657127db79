//! From what was known and what is said now to what happened.

use super::{Field, LocalTime, Plan};
use jiff::Timestamp;

/// What is known of a plan: the fold of its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Knowledge {
    /// Number of events so far.
    pub sequence: u64,
    pub plan: Plan,
    /// In the provider's feed as of its last good body.
    pub listed: bool,
    /// Was sellable online at some time: only such plans are served in lists, and then for good.
    pub ever_online: bool,
    pub first_seen_at: Timestamp,
}

/// One event of a plan, complete: rows can be folded from it without reading anything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanEvent {
    pub fact: PlanFact,
    /// What is known after the event.
    pub after: Knowledge,
    pub occurred_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanFact {
    Listed,
    Changed { changes: Changes },
    Delisted,
    Relisted { changes: Changes },
}

/// What an event changed, and where the plan stood before: whoever indexes plans by time takes
/// them out there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    pub fields: Vec<Field>,
    pub previous_starts_at: LocalTime,
    pub previous_ends_at: Option<LocalTime>,
}

/// The provider's feed holds `plan`. `None` when that is nothing new.
pub fn decide(known: Option<&Knowledge>, plan: Plan, now: Timestamp) -> Option<PlanEvent> {
    let Some(known) = known else {
        let ever_online = plan.sell_mode.is_online();
        let after = Knowledge { sequence: 1, plan, listed: true, ever_online, first_seen_at: now };
        return Some(PlanEvent { fact: PlanFact::Listed, after, occurred_at: now });
    };
    let fields = plan.differences(&known.plan);
    if known.listed && fields.is_empty() {
        return None;
    }
    let changes = Changes {
        fields,
        previous_starts_at: known.plan.starts_at,
        previous_ends_at: known.plan.ends_at,
    };
    let fact =
        if known.listed { PlanFact::Changed { changes } } else { PlanFact::Relisted { changes } };
    let after = Knowledge {
        sequence: known.sequence + 1,
        ever_online: known.ever_online || plan.sell_mode.is_online(),
        plan,
        listed: true,
        first_seen_at: known.first_seen_at,
    };
    Some(PlanEvent { fact, after, occurred_at: now })
}

/// The provider's feed no longer holds the plan. `None` when that is known already.
pub fn delist(known: &Knowledge, now: Timestamp) -> Option<PlanEvent> {
    if !known.listed {
        return None;
    }
    let after = Knowledge { sequence: known.sequence + 1, listed: false, ..known.clone() };
    Some(PlanEvent { fact: PlanFact::Delisted, after, occurred_at: now })
}

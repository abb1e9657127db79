//! What follows from the events of operators.

use almanac_domain::operations::{Knowledge, Mending, MendingFact, Pausing, Remedy};
use almanac_schemas::{
    imports::{BaseRecord, ImportEvent},
    mending::{self, MendingEventRecord},
    operations::{OperationEventRecord, event_type, fact_of},
    pausing,
};
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

/// Rebuilds that are told of: the newest. Of older ones their events tell.
const REBUILDS: usize = 1_000;
/// Requests about parked keys that are told of: the newest.
const MENDINGS: usize = 200;
/// Actions that are told of: the newest.
const NOTED: usize = 10_000;

/// One action, for the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    pub time: Timestamp,
    pub actor: String,
    /// CloudEvents type of its event.
    pub event_type: &'static str,
    pub target: String,
    pub reason: String,
    /// The state of the same rebuild before it.
    pub before: Option<String>,
    /// The state that followed.
    pub outcome: String,
}

/// An export that comes into an installation, or came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    pub id: String,
    /// SHA-256 of the export's manifest.
    pub manifest: String,
    pub source: String,
    /// Partitions whose records do not begin at offset 0.
    pub bases: Vec<BaseRecord>,
    /// Records that came, once all did.
    pub completed: Option<u64>,
}

/// More never were.
const IMPORTS: usize = 1_000;

#[derive(Clone, Debug, Default)]
pub struct Known {
    newest: HashMap<String, Knowledge>,
    /// By id, which begins with the time that it was made; as it was left.
    rebuilds: BTreeMap<String, Knowledge>,
    /// By id.
    mendings: BTreeMap<String, Arc<Mending>>,
    noted: VecDeque<Noted>,
    /// In the order of the log.
    imports: Vec<Import>,
    /// By provider; resumed ones as well.
    pausings: BTreeMap<String, Pausing>,
}

impl Known {
    pub(crate) fn take(&mut self, record: &str, event: &OperationEventRecord) {
        let (Some(known), Some(fact)) = (event.knowledge(record), fact_of(record)) else { return };
        // Of one projection they come in order; a reader that starts over may bring some twice.
        let newest = self.newest.get(&event.projection);
        if newest.is_some_and(|newest| newest.version >= known.version) {
            return;
        }
        let before = newest
            .filter(|newest| newest.rebuild.request.id == event.rebuild_id)
            .map(|newest| newest.rebuild.state.as_str().to_owned());
        self.note(Noted {
            time: known.updated_at,
            actor: event.actor.clone(),
            event_type: event_type(fact),
            target: format!("{}/{}", event.projection, event.rebuild_id),
            reason: event.reason.clone(),
            before,
            outcome: event.state.clone(),
        });
        self.rebuilds.insert(event.rebuild_id.clone(), known.clone());
        if self.rebuilds.len() > REBUILDS {
            self.rebuilds.pop_first();
        }
        self.newest.insert(event.projection.clone(), known);
    }

    fn note(&mut self, noted: Noted) {
        self.noted.push_back(noted);
        if self.noted.len() > NOTED {
            self.noted.pop_front();
        }
    }

    pub(crate) fn take_import(&mut self, event: &ImportEvent) {
        let (id, at, actor, reason) = match event {
            ImportEvent::Started(one) => (&one.import_id, one.occurred_at, &one.actor, &one.reason),
            ImportEvent::Completed(one) => {
                (&one.import_id, one.occurred_at, &one.actor, &one.reason)
            }
        };
        let has_room = self.imports.len() < IMPORTS;
        let known = self.imports.iter_mut().find(|import| import.id == *id);
        let outcome = match (event, known) {
            (ImportEvent::Started(one), None) if has_room => {
                self.imports.push(Import {
                    id: one.import_id.clone(),
                    manifest: one.manifest.clone(),
                    source: one.source.clone(),
                    bases: one.bases.clone(),
                    completed: None,
                });
                "under_way"
            }
            (ImportEvent::Completed(one), Some(known)) if known.completed.is_none() => {
                known.completed = Some(u64::try_from(one.records).unwrap_or_default());
                "completed"
            }
            // A reader that starts over may bring some twice.
            _ => return,
        };
        self.note(Noted {
            time: Timestamp::from_millisecond(at).unwrap_or_default(),
            actor: actor.clone(),
            event_type: event.event_type(),
            target: format!("import/{id}"),
            reason: reason.clone(),
            before: None,
            outcome: outcome.to_owned(),
        });
    }

    /// What came into this installation. Only an empty one takes an import, so that the first in its log is
    /// its own; any others are the past of the installation that was exported.
    pub fn import(&self) -> Option<&Import> {
        self.imports.first()
    }

    /// The same of an event that is of parked keys.
    pub(crate) fn take_mending(&mut self, record: &str, event: &MendingEventRecord) {
        let Some((remedy, fact)) = mending::fact_of(record) else { return };
        let Some(known) = event.knowledge(record) else { return };
        let is_old =
            self.mendings.get(&known.id).is_some_and(|newest| newest.version >= known.version);
        if is_old {
            return;
        }
        let outcome = match fact {
            MendingFact::Requested => "requested".to_owned(),
            MendingFact::Reported => {
                format!("{} succeeded, {} failed", known.succeeded(), known.failed().count())
            }
        };
        self.note(Noted {
            time: known.updated_at,
            actor: event.actor.clone(),
            event_type: mending::event_type(remedy, fact),
            target: target_of(&known),
            reason: event.reason.clone(),
            before: None,
            outcome,
        });
        self.mendings.insert(known.id.clone(), Arc::new(known));
        if self.mendings.len() > MENDINGS {
            // Those that are over first: of what is under way somebody still has to report.
            let oldest = self.mendings.values().min_by_key(|one| (!one.is_over(), one.updated_at));
            if let Some(id) = oldest.map(|one| one.id.clone()) {
                self.mendings.remove(&id);
            }
        }
    }

    pub(crate) fn take_pausing(&mut self, event: Pausing) {
        let newest = self.pausings.get(&event.provider);
        if newest.is_some_and(|newest| newest.version >= event.version) {
            return;
        }
        self.note(Noted {
            time: event.since,
            actor: event.by.clone(),
            event_type: pausing::event_type(&event),
            target: format!("providers/{}", event.provider),
            reason: event.reason.clone(),
            before: None,
            outcome: if event.is_paused { "paused" } else { "resumed" }.to_owned(),
        });
        self.pausings.insert(event.provider.clone(), event);
    }

    /// Who lets a provider rest, if anybody does.
    pub fn paused(&self, provider: &str) -> Option<&Pausing> {
        self.pausings.get(provider).filter(|known| known.is_paused)
    }

    /// All that rest, by name.
    pub fn all_paused(&self) -> impl Iterator<Item = &Pausing> {
        self.pausings.values().filter(|known| known.is_paused)
    }

    /// Partial rebuilds, the newest first.
    pub fn repairs(&self) -> impl Iterator<Item = &Arc<Mending>> {
        self.mendings.values().rev().filter(|known| known.remedy == Remedy::Repair)
    }

    /// What was asked for about parked keys, and partial rebuilds.
    pub fn mending(&self, id: &str) -> Option<&Arc<Mending>> {
        self.mendings.get(id)
    }

    /// Of these not all outcomes are known.
    pub fn open_mendings(&self) -> impl Iterator<Item = &Arc<Mending>> {
        self.mendings.values().filter(|known| !known.is_over())
    }

    /// The newest rebuild of a projection, and what tables it has.
    pub fn of(&self, projection: &str) -> Option<&Knowledge> {
        self.newest.get(projection)
    }

    /// The same, if it is of the version of the fold that a program has. Another version has tables of
    /// its own.
    pub fn of_fold(&self, projection: &str, fold: u32) -> Option<&Knowledge> {
        self.of(projection).filter(|known| known.rebuild.request.fold == fold)
    }

    /// The generation of tables that reads are answered from.
    pub fn live(&self, projection: &str, fold: u32) -> u32 {
        self.of_fold(projection, fold).map_or(0, |known| known.live)
    }

    /// The generations whose tables are filled.
    pub fn filled(&self, projection: &str, fold: u32) -> Vec<u32> {
        self.of_fold(projection, fold).map_or_else(|| vec![0], Knowledge::filled)
    }

    pub fn rebuild(&self, id: &str) -> Option<&Knowledge> {
        self.rebuilds.get(id)
    }

    /// The newest first.
    pub fn rebuilds(&self) -> impl Iterator<Item = &Knowledge> {
        self.rebuilds.values().rev()
    }

    /// The newest first.
    pub fn noted(&self) -> impl Iterator<Item = &Noted> {
        self.noted.iter().rev()
    }
}

fn target_of(known: &Mending) -> String {
    let first = known.targets.first().map(|(target, _)| target);
    if let Some(first) = first.filter(|_| known.remedy == Remedy::Repair) {
        let what = match &first.source {
            Some(source) => source.clone(),
            None if first.key.is_empty() => format!("partition {}", first.partition),
            None => first.key.clone(),
        };
        return format!("{}/{what}", first.projection);
    }
    match known.targets.as_slice() {
        [(only, _)] => format!("{}/{}", only.projection, only.key),
        all => format!("{} parked keys", all.len()),
    }
}

//! That an installation was filled with what another exported.

use crate::samples::now;
use almanac_schemas::imports::{
    self, BaseRecord, ImportCompletedRecord, ImportEvent, ImportStartedRecord,
};

pub(crate) fn import_events() -> [(&'static str, ImportEvent); 2] {
    let (id, import_id) = (imports::ID.to_string(), "i".to_owned());
    let (actor, reason) = ("mary".to_owned(), "to move".to_owned());
    let started = ImportStartedRecord {
        id: id.clone(),
        version: 1,
        occurred_at: now().as_millisecond(),
        actor: actor.clone(),
        reason: reason.clone(),
        import_id: import_id.clone(),
        manifest: "00ff".to_owned(),
        source: "0.1.0 on embedded".to_owned(),
        bases: vec![BaseRecord { topic: "operations.events".to_owned(), partition: 3, offset: 1 }],
    };
    let completed = ImportCompletedRecord {
        id,
        version: 2,
        occurred_at: now().as_millisecond(),
        actor,
        reason,
        import_id,
        records: 7,
    };
    [
        (imports::STARTED, ImportEvent::Started(started)),
        (imports::COMPLETED, ImportEvent::Completed(completed)),
    ]
}

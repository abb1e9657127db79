//! What goes wrong while folding: an event that cannot be folded, which is its own fault, and all else, which
//! makes the owner start over.

use crate::projection::{Event, FoldError, Folded, Projection};
use almanac_errors::chain;
use almanac_event_log::LogError;
use almanac_operations::SendError;
use almanac_processor::RoleError;
use almanac_read_store::StoreError;
use almanac_schemas::CodecError;
use almanac_tables::parked::{Category, Fault};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Why an owner gives its partition up, and starts over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Registry(CodecError),
    /// The tables are of another topic.
    #[error("{0}")]
    Foreign(String),
    #[error(transparent)]
    Role(#[from] RoleError),
    #[error(transparent)]
    Send(#[from] SendError),
}

impl Failed {
    /// As operators are told.
    pub(crate) fn category(&self) -> &'static str {
        match self {
            Self::Store(_) => "store",
            Self::Registry(_) => "registry",
            Self::Log(_) | Self::Foreign(_) | Self::Role(_) | Self::Send(_) => "log",
        }
    }
}

impl From<Failed> for RoleError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Store(error @ StoreError::Stopped { .. }) => Self::Final(error.into()),
            Failed::Store(error) => Self::other(error),
            Failed::Log(error) => error.into(),
            Failed::Role(error) => error,
            Failed::Foreign(text) => Self::other(text),
            Failed::Registry(error) => Self::other(error),
            Failed::Send(error) => Self::other(error),
        }
    }
}

/// What of an event's value is at fault.
pub(crate) fn fault_of(error: &CodecError) -> Fault {
    let category = match error {
        CodecError::BadSchema { .. } | CodecError::Registry(_) => Category::Schema,
        _ => Category::Event,
    };
    Fault { category, detail: chain(error).to_string() }
}

/// Folds an event. A fold that panics panics of the event, of which alone it is a function: the others are
/// folded as ever.
pub(crate) fn guarded(projection: &dyn Projection, event: &Event<'_>) -> Result<Folded, Fault> {
    let folded = catch_unwind(AssertUnwindSafe(|| projection.fold(event)));
    match folded {
        Ok(Ok(folded)) => Ok(folded),
        Ok(Err(error)) => Err(Fault {
            category: match &error {
                FoldError::UnknownRecord { .. } => Category::UnknownEvent,
                FoldError::Codec(error) => fault_of(error).category,
                FoldError::OutsideDomain => Category::Event,
            },
            detail: chain(&error).to_string(),
        }),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            let detail = format!("the fold panicked: {}", text.unwrap_or_default());
            Err(Fault { category: Category::Panic, detail })
        }
    }
}

#[cfg(test)]
mod tests;

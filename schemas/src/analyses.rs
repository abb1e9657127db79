//! Records of `analyses.events` and `analyses.inputs`. The same structs are the JSON bodies of the
//! commands that lead to them, in which the decider sets version, times and owner.

mod parts;

pub use parts::{
    ChangeRecord, ForecastRefRecord, InputRecord, OptionsRecord, PlannedTaskRecord, WarningRecord,
};

use crate::{
    codec::{Codec, CodecError, Decoded},
    schedules::ScheduleRecord,
};
use almanac_domain::analyses::{
    Event, Fact, Failure, Knowledge, Origin, Outcome, Request, Stage, State, Subject,
};
use bytes::Bytes;
use jiff::Timestamp;
use parts::{all, instant};
use serde::{Deserialize, Serialize};

/// Name of the context in commands, tokens and progress.
pub const CONTEXT: &str = "analyses";
pub const TOPIC: &str = "analyses.events";
pub const INPUTS: &str = "analyses.inputs";
pub const REQUESTED: &str = "almanac.analyses.AnalysisRequested";
pub const PROGRESSED: &str = "almanac.analyses.AnalysisProgressed";
pub const COMPLETED: &str = "almanac.analyses.AnalysisCompleted";
pub const FAILED: &str = "almanac.analyses.AnalysisFailed";
pub const CANCELLED: &str = "almanac.analyses.AnalysisCancelled";
pub const INPUT_CHUNK: &str = "almanac.analyses.InputChunk";

/// A forecast that came with a request takes no more bytes of JSON.
pub const MAX_INPUT_BYTES: usize = 8 << 20;

/// What every event of an analysis says, read from any of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnalysisHead {
    pub id: String,
    pub version: i64,
    pub occurred_at: i64,
    pub requested_at: i64,
    pub owner: String,
    pub schedule_id: Option<String>,
    pub origin: String,
}

/// Records of events that say more than [`AnalysisHead`]: its fields come first.
macro_rules! with_head {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        pub struct $name {
            pub id: String,
            pub version: i64,
            pub occurred_at: i64,
            pub requested_at: i64,
            pub owner: String,
            pub schedule_id: Option<String>,
            pub origin: String,
            $(pub $field: $type,)*
        }

        impl $name {
            pub fn head(&self) -> AnalysisHead {
                AnalysisHead {
                    id: self.id.clone(),
                    version: self.version,
                    occurred_at: self.occurred_at,
                    requested_at: self.requested_at,
                    owner: self.owner.clone(),
                    schedule_id: self.schedule_id.clone(),
                    origin: self.origin.clone(),
                }
            }

            fn with_head(self, head: AnalysisHead) -> Self {
                Self {
                    id: head.id,
                    version: head.version,
                    occurred_at: head.occurred_at,
                    requested_at: head.requested_at,
                    owner: head.owner,
                    schedule_id: head.schedule_id,
                    origin: head.origin,
                    ..self
                }
            }
        }
    };
}

with_head!(AnalysisRequestedRecord {
    schedule: Option<ScheduleRecord>,
    input: Option<InputRecord>,
    sources: Vec<String>,
    options: OptionsRecord,
});

with_head!(AnalysisProgressedRecord { progress: f64, stage: String });

with_head!(
    /// Instants are RFC 3339.
    AnalysisCompletedRecord {
        schedule_version: Option<i64>,
        now: String,
        start_from: String,
        forecasts: Vec<ForecastRefRecord>,
        is_stale: bool,
        warnings: Vec<WarningRecord>,
        earliest_completion: Option<String>,
        tasks: Vec<PlannedTaskRecord>,
        previous: Option<String>,
        changes: Vec<ChangeRecord>,
    }
);

with_head!(AnalysisFailedRecord { code: String, detail: String });

/// A piece of a forecast that came with a request; all pieces together are its JSON, in zstd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputChunkRecord<'a> {
    pub analysis_id: String,
    pub owner: String,
    pub chunk: i32,
    pub chunks: i32,
    #[serde(borrow, with = "serde_bytes")]
    pub bytes: &'a [u8],
}

/// Any event of an analysis.
#[derive(Clone, Debug, PartialEq)]
pub enum AnalysisEventRecord {
    Requested(Box<AnalysisRequestedRecord>),
    Progressed(AnalysisProgressedRecord),
    Completed(Box<AnalysisCompletedRecord>),
    Failed(AnalysisFailedRecord),
    Cancelled(AnalysisHead),
}

impl AnalysisEventRecord {
    /// `None` for a record that is no event of an analysis.
    pub fn read(decoded: &Decoded<'_>) -> Result<Option<Self>, CodecError> {
        Ok(Some(match decoded.record() {
            REQUESTED => Self::Requested(Box::new(decoded.read()?)),
            PROGRESSED => Self::Progressed(decoded.read()?),
            COMPLETED => Self::Completed(Box::new(decoded.read()?)),
            FAILED => Self::Failed(decoded.read()?),
            CANCELLED => Self::Cancelled(decoded.read()?),
            _ => return Ok(None),
        }))
    }

    pub fn from_domain(id: &str, event: &Event) -> Self {
        let after = &event.after;
        let head = AnalysisHead {
            id: id.to_owned(),
            version: after.version as i64,
            occurred_at: event.occurred_at.as_millisecond(),
            requested_at: after.requested_at.as_millisecond(),
            owner: after.owner.clone(),
            schedule_id: after.schedule_id.clone(),
            origin: after.origin.as_str().to_owned(),
        };
        match &event.fact {
            Fact::Requested(request) => {
                Self::Requested(Box::new(AnalysisRequestedRecord::from_domain(head, request)))
            }
            Fact::Progressed(stage) => {
                Self::Progressed(AnalysisProgressedRecord::from_domain(head, *stage))
            }
            Fact::Completed(outcome) => {
                Self::Completed(Box::new(AnalysisCompletedRecord::from_domain(head, outcome)))
            }
            Fact::Failed(failure) => Self::Failed(AnalysisFailedRecord::from_domain(head, failure)),
            Fact::Cancelled => Self::Cancelled(head),
        }
    }

    pub fn record(&self) -> &'static str {
        match self {
            Self::Requested(_) => REQUESTED,
            Self::Progressed(_) => PROGRESSED,
            Self::Completed(_) => COMPLETED,
            Self::Failed(_) => FAILED,
            Self::Cancelled(_) => CANCELLED,
        }
    }

    pub fn head(&self) -> AnalysisHead {
        match self {
            Self::Requested(record) => record.head(),
            Self::Progressed(record) => record.head(),
            Self::Completed(record) => record.head(),
            Self::Failed(record) => record.head(),
            Self::Cancelled(head) => head.clone(),
        }
    }

    /// What is known after the event.
    pub fn knowledge(&self) -> Option<Knowledge> {
        let state = match self {
            Self::Requested(_) => State::Queued,
            Self::Progressed(record) => State::Running(Stage::parse(&record.stage)?),
            Self::Completed(_) => State::Completed,
            Self::Failed(_) => State::Failed,
            Self::Cancelled(_) => State::Cancelled,
        };
        let head = self.head();
        Some(Knowledge {
            version: u64::try_from(head.version).ok()?,
            owner: head.owner,
            schedule_id: head.schedule_id,
            origin: Origin::parse(&head.origin)?,
            state,
            requested_at: Timestamp::from_millisecond(head.requested_at).ok()?,
            updated_at: Timestamp::from_millisecond(head.occurred_at).ok()?,
        })
    }

    pub fn encode(&self, codec: &Codec) -> Result<Bytes, CodecError> {
        match self {
            Self::Requested(record) => codec.encode(REQUESTED, record),
            Self::Progressed(record) => codec.encode(PROGRESSED, record),
            Self::Completed(record) => codec.encode(COMPLETED, record),
            Self::Failed(record) => codec.encode(FAILED, record),
            Self::Cancelled(record) => codec.encode(CANCELLED, record),
        }
    }
}

/// CloudEvents type of an event of an analysis.
pub fn event_type(fact: &Fact) -> &'static str {
    match fact {
        Fact::Requested(_) => "analysis.requested",
        Fact::Progressed(_) => "analysis.progressed",
        Fact::Completed(_) => "analysis.completed",
        Fact::Failed(_) => "analysis.failed",
        Fact::Cancelled => "analysis.cancelled",
    }
}

/// Encodes an event under the newest schema of its record.
pub fn encode(codec: &Codec, id: &str, event: &Event) -> Result<Bytes, CodecError> {
    AnalysisEventRecord::from_domain(id, event).encode(codec)
}

impl AnalysisProgressedRecord {
    pub fn from_domain(head: AnalysisHead, stage: Stage) -> Self {
        let (progress, stage) = (stage.progress(), stage.as_str().to_owned());
        Self { progress, stage, ..Self::default() }.with_head(head)
    }
}

impl AnalysisFailedRecord {
    pub fn from_domain(head: AnalysisHead, failure: &Failure) -> Self {
        let Failure { code, detail } = failure.clone();
        Self { code, detail, ..Self::default() }.with_head(head)
    }
}

impl AnalysisRequestedRecord {
    pub fn from_domain(head: AnalysisHead, request: &Request) -> Self {
        let (schedule_id, schedule) = match &request.subject {
            Subject::Stored(id) => (Some(id.clone()), None),
            Subject::Inline(schedule) => (None, Some(ScheduleRecord::from_domain(schedule, &[]))),
        };
        let head = AnalysisHead { schedule_id, origin: request.origin.as_str().to_owned(), ..head };
        let record = Self {
            schedule,
            input: request.input.as_ref().map(InputRecord::from),
            sources: request.sources.clone(),
            options: OptionsRecord::from(&request.options),
            ..Self::default()
        };
        record.with_head(head)
    }

    /// `None` when a value is outside the domain, which nothing that we wrote is.
    pub fn to_domain(&self) -> Option<Request> {
        let subject = match (&self.schedule_id, &self.schedule) {
            (Some(id), None) => Subject::Stored(id.clone()),
            (None, Some(schedule)) => Subject::Inline(Box::new(schedule.to_domain()?.0)),
            _ => return None,
        };
        let input = match &self.input {
            Some(input) => Some(input.to_domain()?),
            None => None,
        };
        Some(Request {
            subject,
            input,
            sources: self.sources.clone(),
            options: self.options.to_domain()?,
            origin: Origin::parse(&self.origin)?,
        })
    }
}

impl AnalysisCompletedRecord {
    pub fn from_domain(head: AnalysisHead, outcome: &Outcome) -> Self {
        let text = |at: Timestamp| at.to_string();
        let record = Self {
            schedule_version: outcome.schedule_version.map(|version| version as i64),
            now: text(outcome.now),
            start_from: text(outcome.start_from),
            forecasts: outcome.forecasts.iter().map(ForecastRefRecord::from).collect(),
            is_stale: outcome.is_stale,
            warnings: outcome.warnings.iter().map(WarningRecord::from).collect(),
            earliest_completion: outcome.earliest_completion.map(text),
            tasks: outcome.tasks.iter().map(PlannedTaskRecord::from).collect(),
            previous: outcome.previous.clone(),
            changes: outcome.changes.iter().map(ChangeRecord::from).collect(),
            ..Self::default()
        };
        record.with_head(head)
    }

    /// `None` when a value is outside the domain, which nothing that we wrote is.
    pub fn to_domain(&self) -> Option<Outcome> {
        let schedule_version = match self.schedule_version {
            Some(version) => Some(u64::try_from(version).ok()?),
            None => None,
        };
        Some(Outcome {
            schedule_version,
            now: self.now.parse().ok()?,
            start_from: self.start_from.parse().ok()?,
            forecasts: all(&self.forecasts, ForecastRefRecord::to_domain)?,
            is_stale: self.is_stale,
            warnings: all(&self.warnings, WarningRecord::to_domain)?,
            earliest_completion: instant(&self.earliest_completion)?,
            tasks: all(&self.tasks, PlannedTaskRecord::to_domain)?,
            previous: self.previous.clone(),
            changes: all(&self.changes, ChangeRecord::to_domain)?,
        })
    }
}

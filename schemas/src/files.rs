//! Every schema version that ever landed. Lines are appended, never changed: the position of a
//! file in this list is its id in the built-in registry.

use std::collections::BTreeSet;

/// One version of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchemaFile {
    /// Topic without the installation's prefix.
    pub topic: &'static str,
    /// Full name of the record.
    pub record: &'static str,
    pub version: u32,
    pub text: &'static str,
}

macro_rules! schema {
    ($topic:literal, $namespace:literal, $record:literal, $version:literal) => {
        SchemaFile {
            topic: $topic,
            record: concat!($namespace, ".", $record),
            version: $version,
            text: include_str!(concat!("../avro/", $topic, "/", $record, ".v", $version, ".avsc")),
        }
    };
}

pub const ALL: &[SchemaFile] = &[
    schema!("plans.events", "almanac.plans", "PlanListed", 1),
    schema!("plans.events", "almanac.plans", "PlanChanged", 1),
    schema!("plans.events", "almanac.plans", "PlanDelisted", 1),
    schema!("plans.events", "almanac.plans", "PlanRelisted", 1),
    schema!("plans.events", "almanac.plans", "FeedObserved", 1),
    schema!("ingest.requests", "almanac.ingest", "FetchRequested", 1),
    schema!("ingest.state", "almanac.ingest", "PlanState", 1),
    schema!("ingest.state", "almanac.ingest", "ProviderState", 1),
    schema!("ingest.payloads", "almanac.ingest", "PayloadChunk", 1),
    schema!("ingest.quarantine", "almanac.ingest", "Quarantined", 1),
    schema!("projections.changes", "almanac.projections", "PartitionsChanged", 1),
    schema!("ingest.requests", "almanac.ingest", "ReplayRequested", 1),
    // Only its documentation differs: a further outcome.
    schema!("plans.events", "almanac.plans", "FeedObserved", 2),
    schema!("recipes.events", "almanac.recipes", "RecipeCreated", 1),
    schema!("recipes.events", "almanac.recipes", "RecipeRevised", 1),
    schema!("recipes.events", "almanac.recipes", "RecipeDeleted", 1),
    schema!("recipes.events", "almanac.recipes", "RecipeRestored", 1),
    schema!("commands", "almanac.commands", "Command", 1),
    schema!("replies", "almanac.commands", "Reply", 1),
    schema!("recipes.events", "almanac.recipes", "RecipeCreated", 2),
    schema!("recipes.events", "almanac.recipes", "RecipeRevised", 2),
    schema!("recipes.events", "almanac.recipes", "RecipeDeleted", 2),
    schema!("recipes.events", "almanac.recipes", "RecipeRestored", 2),
    schema!("recipes.events", "almanac.recipes", "RecipeThumbnailSet", 1),
    schema!("commands", "almanac.commands", "Command", 2),
    schema!("replies", "almanac.commands", "Reply", 2),
    schema!("projections.changes", "almanac.projections", "PartitionsChanged", 2),
    schema!("ingest.state", "almanac.ingest", "ProviderState", 2),
    schema!("ingest.payloads", "almanac.ingest", "PayloadChunk", 2),
    schema!("projections.changes", "almanac.projections", "PartitionsChanged", 3),
    schema!("replies", "almanac.commands", "Reply", 3),
    schema!("recipes.events", "almanac.recipes", "RecipeThumbnailRemoved", 1),
    schema!("analyses.events", "almanac.analyses", "AnalysisRequested", 1),
    schema!("analyses.events", "almanac.analyses", "AnalysisProgressed", 1),
    schema!("analyses.events", "almanac.analyses", "AnalysisCompleted", 1),
    schema!("analyses.events", "almanac.analyses", "AnalysisFailed", 1),
    schema!("analyses.events", "almanac.analyses", "AnalysisCancelled", 1),
    schema!("analyses.inputs", "almanac.analyses", "InputChunk", 1),
    schema!("forecasts.events", "almanac.forecasts", "ForecastPublished", 1),
    schema!("forecasts.events", "almanac.forecasts", "ForecastUnavailable", 1),
    schema!("ingest.requests", "almanac.ingest", "ForecastRequested", 1),
    schema!("ingest.state", "almanac.ingest", "ForecastState", 1),
    schema!("schedules.events", "almanac.schedules", "ScheduleCreated", 1),
    schema!("schedules.events", "almanac.schedules", "ScheduleRevised", 1),
    schema!("schedules.events", "almanac.schedules", "ScheduleDeleted", 1),
    schema!("schedules.events", "almanac.schedules", "TaskStarted", 1),
    schema!("schedules.events", "almanac.schedules", "TaskCompleted", 1),
    schema!("subscriptions.events", "almanac.subscriptions", "SubscriptionCreated", 1),
    schema!("subscriptions.events", "almanac.subscriptions", "SubscriptionDeleted", 1),
    schema!("subscriptions.events", "almanac.subscriptions", "SubscriptionDisabled", 1),
    schema!("notifications.deliveries", "almanac.notifications", "DeliveryDue", 1),
    schema!("notifications.deliveries", "almanac.notifications", "DeliveryAttempted", 1),
    schema!("notifications.state", "almanac.notifications", "FanOutPosition", 1),
    schema!("operations.events", "almanac.operations", "RebuildRequested", 1),
    schema!("operations.events", "almanac.operations", "RebuildAdvanced", 1),
    schema!("operations.events", "almanac.operations", "RebuildVerified", 1),
    schema!("operations.events", "almanac.operations", "RebuildFailed", 1),
    schema!("operations.events", "almanac.operations", "RebuildPaused", 1),
    schema!("operations.events", "almanac.operations", "RebuildResumed", 1),
    schema!("operations.events", "almanac.operations", "RebuildCancelled", 1),
    schema!("operations.events", "almanac.operations", "GenerationActivated", 1),
    schema!("operations.events", "almanac.operations", "GenerationRolledBack", 1),
    schema!("operations.events", "almanac.operations", "GenerationDropped", 1),
    schema!("projections.changes", "almanac.projections", "PartitionsChanged", 4),
    schema!("operations.events", "almanac.operations", "ImportStarted", 1),
    schema!("operations.events", "almanac.operations", "ImportCompleted", 1),
    schema!("operations.events", "almanac.operations", "RedriveRequested", 1),
    schema!("operations.events", "almanac.operations", "RedriveReported", 1),
    schema!("operations.events", "almanac.operations", "DiscardRequested", 1),
    schema!("operations.events", "almanac.operations", "DiscardReported", 1),
    schema!("operations.events", "almanac.operations", "RepairRequested", 1),
    schema!("operations.events", "almanac.operations", "RepairReported", 1),
    schema!("operations.events", "almanac.operations", "ProviderPaused", 1),
    schema!("operations.events", "almanac.operations", "ProviderResumed", 1),
];

impl SchemaFile {
    /// TopicRecordNameStrategy; `prefix` is the installation's topic prefix.
    pub fn subject(&self, prefix: &str) -> String {
        format!("{prefix}{}-{}", self.topic, self.record)
    }

    /// CloudEvents type of the events of this record: `plan.listed` of `almanac.plans.PlanListed`.
    pub fn event_type(&self) -> String {
        let name = self.record.rsplit('.').next().unwrap_or_default();
        let mut event_type = String::new();
        for letter in name.chars() {
            if letter.is_ascii_uppercase() && !event_type.is_empty() {
                event_type.push(if event_type.contains('.') { '_' } else { '.' });
            }
            event_type.push(letter.to_ascii_lowercase());
        }
        event_type
    }

    /// The id in the built-in registry.
    pub fn built_in_id(&self) -> Option<u32> {
        ALL.iter().position(|file| file == self).map(|place| place as u32 + 1)
    }

    /// This version of a record, if it ever landed.
    pub fn named(record: &str, version: u32) -> Option<&'static Self> {
        ALL.iter().find(|file| file.record == record && file.version == version)
    }

    /// The version that a registry's text is of. Registries write schemas in ways of their own, and some
    /// drop what decides nothing, such as documentation.
    pub fn of_text(text: &str) -> Option<&'static Self> {
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
        let wanted = json(text)?;
        if let Some(found) = ALL.iter().find(|file| json(file.text).as_ref() == Some(&wanted)) {
            return Some(found);
        }
        let canonical =
            |text: &str| Some(apache_avro::Schema::parse_str(text).ok()?.canonical_form());
        let wanted = canonical(text)?;
        ALL.iter().rev().find(|file| canonical(file.text).as_ref() == Some(&wanted))
    }

    /// The newest version of a record.
    pub fn newest(record: &str) -> Option<&'static Self> {
        ALL.iter().filter(|file| file.record == record).max_by_key(|file| file.version)
    }

    /// The newest version of every record.
    pub fn all_newest() -> impl Iterator<Item = &'static Self> {
        ALL.iter().filter(|file| Self::newest(file.record) == Some(file))
    }
}

/// The topics that hold domain facts, without the installation's prefix.
pub fn event_topics() -> BTreeSet<&'static str> {
    ALL.iter().map(|file| file.topic).filter(|topic| topic.ends_with(".events")).collect()
}

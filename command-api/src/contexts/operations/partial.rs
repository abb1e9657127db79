//! Partial rebuilds: the events of a key, of a provider or of a partition, folded once more over the rows that
//! there are.

use super::{broken, locate, projections, shown};
use crate::write::{Asked, CommandApi, Write};
use almanac_domain::operations::{MAX_TARGETS, MendingCommand, Remedy, Target};
use almanac_edge::Problem;
use almanac_schemas::json::mending;
use async_trait::async_trait;
use axum::response::Response;
use serde::Deserialize;

/// What alone is rebuilt.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Only {
    /// Events with this key.
    Key(String),
    /// Events of this provider.
    Provider(String),
    /// Events of one partition of each topic.
    Partition(u32),
}

/// Where the events lie, and which tables they are folded into.
#[async_trait]
pub trait Parts: Send + Sync {
    /// None where the topics have no such partition.
    async fn parts(&self, projection: &str, only: &Only) -> Result<Vec<Target>, Problem>;
}

pub(super) fn read(only: &serde_json::Value) -> Result<Only, Problem> {
    let read = serde_json::from_value::<Only>(only.clone());
    let read = read.map_err(|error| {
        broken(&["only"], &format!("one of key, provider and partition is named: {error}"))
    })?;
    match &read {
        Only::Key(text) | Only::Provider(text) if text.is_empty() => {
            Err(broken(&["only"], "it must not be empty"))
        }
        _ => Ok(read),
    }
}

pub(super) async fn begin(
    api: &CommandApi,
    asked: &Asked,
    projection: &str,
    only: &Only,
    reason: &str,
) -> Result<Response, Problem> {
    let of = projections(api)?;
    let targets = of.parts.parts(projection, only).await?;
    if targets.is_empty() {
        return Err(broken(&["only", "partition"], "its topics have no such partition"));
    }
    if targets.len() > MAX_TARGETS {
        let rule =
            format!("it would take more than {MAX_TARGETS} parts: name a partition or a key");
        return Err(broken(&["only"], &rule));
    }
    let id = asked.new_id()?;
    let wanted = MendingCommand::Request { id: id.to_string(), remedy: Remedy::Repair, targets };
    let (verb, body) = mending::command(&wanted, reason);
    let write = Write { verb, id, body: Some(body), attachment: None };
    let mut response = api.write(asked, write).await?;
    shown(of).await;
    locate(&mut response, &id.to_string());
    Ok(response)
}

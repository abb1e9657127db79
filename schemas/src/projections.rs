//! Records of the projections' change feed.

use serde::{Deserialize, Serialize};

pub const CHANGES: &str = "projections.changes";
pub const PARTITIONS_CHANGED: &str = "almanac.projections.PartitionsChanged";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableChangeRecord {
    pub table: String,
    pub partitions: Vec<String>,
    #[serde(default)]
    pub keys: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionsChangedRecord {
    pub projection: String,
    pub version: i32,
    pub source_topic: String,
    pub source_partition: i32,
    pub position: i64,
    pub tables: Vec<TableChangeRecord>,
    #[serde(default)]
    pub consistency_token: Option<String>,
    #[serde(default)]
    pub tables_id: Option<String>,
    #[serde(default)]
    pub generation: i32,
}

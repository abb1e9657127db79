//! Whether schema versions fit each other: BACKWARD_TRANSITIVE, every version reads what all
//! earlier ones wrote. And every field says what it means.

use crate::files::{ALL, SchemaFile};
use apache_avro::{Schema, schema_compatibility::SchemaCompatibility};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{record} version {version}: {detail}")]
pub struct Finding {
    pub record: &'static str,
    pub version: u32,
    pub detail: String,
}

/// Checks every file of this program.
pub fn check_all() -> Vec<Finding> {
    check(ALL)
}

pub fn check(files: &[SchemaFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        let finding =
            |detail: String| Finding { record: file.record, version: file.version, detail };
        let reader = match Schema::parse_str(file.text) {
            Ok(reader) => reader,
            Err(error) => {
                findings.push(finding(error.to_string()));
                continue;
            }
        };
        let json: serde_json::Value = serde_json::from_str(file.text).unwrap_or_default();
        let mut undocumented = Vec::new();
        collect_undocumented(&json, file.record, &mut undocumented);
        findings.extend(
            undocumented.into_iter().map(|field| finding(format!("{field} has no doc sentence"))),
        );
        let earlier = files.iter().filter(|earlier| {
            earlier.record == file.record
                && earlier.topic == file.topic
                && earlier.version < file.version
        });
        for earlier in earlier {
            let Ok(writer) = Schema::parse_str(earlier.text) else { continue };
            if let Err(error) = SchemaCompatibility::can_read(&writer, &reader) {
                let version = earlier.version;
                findings.push(finding(format!("cannot read version {version}: {error}")));
            }
        }
    }
    findings
}

fn collect_undocumented(json: &serde_json::Value, path: &str, found: &mut Vec<String>) {
    match json {
        serde_json::Value::Object(object) => {
            if let Some(fields) = object.get("fields").and_then(|fields| fields.as_array()) {
                for field in fields {
                    let name = field.get("name").and_then(|name| name.as_str()).unwrap_or("?");
                    let path = format!("{path}.{name}");
                    let doc = field.get("doc").and_then(|doc| doc.as_str()).unwrap_or_default();
                    if !doc.ends_with('.') {
                        found.push(path.clone());
                    }
                    if let Some(inner) = field.get("type") {
                        collect_undocumented(inner, &path, found);
                    }
                }
            } else {
                for inner in ["type", "items", "values"].iter().filter_map(|key| object.get(*key)) {
                    collect_undocumented(inner, path, found);
                }
            }
        }
        serde_json::Value::Array(variants) => {
            variants.iter().for_each(|variant| collect_undocumented(variant, path, found));
        }
        _ => {}
    }
}

//! A binary of the next release, made of this one: each record that it writes has one schema version more.
//!
//! Schemas are texts in the binary. A later version of each, which is shorter because it has no line breaks, takes
//! the place of its text in a copy. Everything else is this release's, so the new field is null.

use crate::process::binary;
use almanac_schemas::{Registry, RegistryError, check, files::SchemaFile};
use memchr::memmem;
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};
use tempfile::TempDir;

/// How all files of schemas begin.
const BEGINNING: &[u8] = b"{\n  \"type\": \"record\",\n  \"name\": \"";
const FIELD: &str = "of_the_next_release";

pub struct NextRelease {
    folder: TempDir,
}

impl NextRelease {
    pub fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut program = fs::read(binary()).expect("`make test` builds the binary");
        let texts: Vec<(&[u8], Vec<u8>)> = SchemaFile::all_newest().map(replaced).collect();
        let places: Vec<usize> = memmem::find_iter(&program, BEGINNING).collect();
        let mut found = vec![0; texts.len()];
        for place in places {
            let is_here = |(text, _): &(&[u8], _)| program[place..].starts_with(text);
            if let Some(which) = texts.iter().position(is_here) {
                let next = &texts[which].1;
                program[place..place + next.len()].copy_from_slice(next);
                found[which] += 1;
            }
        }
        for (file, copies) in SchemaFile::all_newest().zip(found) {
            assert!(copies > 0, "{} is not in {}", file.record, binary().display());
        }
        let next = Self { folder };
        fs::write(next.binary(), program).unwrap();
        fs::set_permissions(next.binary(), fs::Permissions::from_mode(0o755)).unwrap();
        next
    }

    pub fn binary(&self) -> PathBuf {
        self.folder.path().join("almanac")
    }

    /// Whether a schema is one of the next release.
    pub async fn wrote(registry: &dyn Registry, id: u32) -> Result<bool, RegistryError> {
        Ok(registry.fetch(id).await?.text.contains(FIELD))
    }
}

/// The text of a version, and that of the version after it, filled up to the same length.
fn replaced(file: &'static SchemaFile) -> (&'static [u8], Vec<u8>) {
    let mut schema: Value = serde_json::from_str(file.text).unwrap();
    // First: who reads one version as if it were the other takes every byte after it for something else.
    let field = json!({"name": FIELD, "type": ["null", "string"], "doc": "Null.", "default": null});
    schema["fields"].as_array_mut().unwrap().insert(0, field);
    let mut next = schema.to_string();
    assert!(next.len() <= file.text.len(), "the next version of {} is longer", file.record);
    while next.len() < file.text.len() {
        next.push(' ');
    }
    let version = SchemaFile { version: file.version + 1, text: next.clone().leak(), ..*file };
    let findings = check::check(&[*file, version]);
    assert!(findings.is_empty(), "{findings:#?}");
    (file.text.as_bytes(), next.into_bytes())
}

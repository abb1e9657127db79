//! Later versions read what earlier ones wrote.

use almanac_schemas::{check, files::SchemaFile, ingest::FETCH_REQUESTED};

#[test]
fn every_version_reads_the_earlier_ones() {
    let findings = check::check_all();
    assert!(findings.is_empty(), "{findings:#?}");
}

#[test]
fn an_incompatible_version_is_found() {
    let first = *SchemaFile::newest(FETCH_REQUESTED).unwrap();
    let text = first.text.replacen("\"requested_by\"", "\"asked_by\"", 1);
    let second = SchemaFile { version: 2, text: text.leak(), ..first };
    let findings = check::check(&[first, second]);
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert!(findings[0].to_string().contains("cannot read version 1"), "{}", findings[0]);
}

//! Others read our bytes: as JSON, and by the reference implementation.

use crate::{
    golden::{from_hex, golden, to_hex},
    wire::codec,
};
use almanac_schemas::{files::ALL, json::AnyJson, recipes};
use apache_avro::{reader::datum::GenericDatumReader, writer::datum::GenericDatumWriter};
use std::fs;

/// Whoever has no Avro library reads every event as JSON.
#[tokio::test]
async fn every_record_is_json() {
    let codec = codec().await;
    for file in ALL {
        let value = from_hex(&fs::read_to_string(golden(file)).unwrap());
        let AnyJson(json) = codec.decode(&value).await.unwrap().read().unwrap();
        let schema: serde_json::Value = serde_json::from_str(file.text).unwrap();
        let fields = schema["fields"].as_array().unwrap();
        assert!(fields.iter().all(|field| json.get(field["name"].as_str().unwrap()).is_some()));
        if file.record == recipes::THUMBNAIL_SET {
            assert_eq!(json["image"], "AP8B");
        }
    }
}

/// The fast codec and the reference implementation agree on every byte.
#[test]
fn bytes_are_those_of_apache_avro() {
    for file in ALL {
        let value = from_hex(&fs::read_to_string(golden(file)).unwrap());
        let schema = apache_avro::Schema::parse_str(file.text).unwrap();
        let mut datum = &value[5..];
        let read =
            GenericDatumReader::builder(&schema).build().unwrap().read_value(&mut datum).unwrap();
        assert!(datum.is_empty(), "{}: {} bytes are left", file.record, datum.len());
        let written =
            GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(read).unwrap();
        assert_eq!(to_hex(&written), to_hex(&value[5..]), "{}", file.record);
    }
}

//! Bare loops that the benchmarks compare with: the least that any implementation must do.

use almanac_schemas::plans::{LocalTimeRecord, PlanRecord, ZoneRecord};
use quick_xml::{Reader, events::Event};
use std::borrow::Cow;

/// Parses the bytes of a feed with the XML reader that the ingestor uses, and encodes an Avro
/// datum of the same shape and size for every plan. Returns the bytes made.
pub fn parse_and_encode(body: &str) -> usize {
    let schema: serde_json::Value = serde_json::from_str(
        almanac_schemas::files::SchemaFile::newest("almanac.ingest.PlanState").unwrap().text,
    )
    .unwrap();
    let fields = schema["fields"].as_array().unwrap();
    let plan_schema = fields.last().unwrap()["type"].to_string();
    let schema: serde_avro_fast::Schema = plan_schema.parse().unwrap();
    let mut config = serde_avro_fast::ser::SerializerConfig::new(&schema);
    let mut reader = Reader::from_reader(body.as_bytes());
    let (mut buffer, mut bytes) = (Vec::new(), 0);
    let mut zones = 0;
    loop {
        buffer.clear();
        match reader.read_event_into(&mut buffer).unwrap() {
            Event::Eof => return bytes,
            Event::Start(tag) | Event::Empty(tag) => {
                let mut read = 0;
                for attribute in tag.attributes() {
                    read += attribute.unwrap().value.len();
                }
                assert!(read < 10_000);
                zones += usize::from(tag.local_name().as_ref() == "zone");
            }
            Event::End(tag) if tag.local_name().as_ref() == "plan" => {
                let zone = ZoneRecord {
                    zone_id: Cow::Borrowed("40"),
                    name: Some(Cow::Borrowed("Platea")),
                    capacity: 243,
                    price: Some(Cow::Borrowed("20.00")),
                    numbered: true,
                };
                let time =
                    LocalTimeRecord { unix_seconds: 1_625_079_600, utc_offset_seconds: 7_200 };
                let plan = PlanRecord {
                    id: Cow::Borrowed("7e96adad-7f16-52b7-8efb-b211e700c34b"),
                    provider: Cow::Borrowed("hundred"),
                    base_plan_id: Cow::Borrowed("b12345"),
                    plan_id: Cow::Borrowed("12345"),
                    title: Cow::Borrowed("Camela en concierto 12345"),
                    organizer_id: Some(Cow::Borrowed("12")),
                    sell_mode: Cow::Borrowed("online"),
                    starts_at: time,
                    ends_at: Some(time),
                    sell_from: Some(time),
                    sell_to: Some(time),
                    sold_out: false,
                    currency: None,
                    url: None,
                    zones: vec![zone; std::mem::take(&mut zones)],
                };
                bytes += serde_avro_fast::to_datum_vec(&plan, &mut config).unwrap().len();
            }
            _ => {}
        }
    }
}

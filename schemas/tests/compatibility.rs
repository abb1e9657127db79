//! Bytes of every version, for ever: golden files, the reference implementation, and the check.

use almanac_domain::{
    plans::{LocalTime, Plan, PlanEvent, PlanIdentity, SellMode, Zone, decide, delist},
    recipes::{self as recipe_domain, Command, Draft, IngredientDraft, QuantityDraft, StepDraft},
};
use almanac_schemas::{
    BuiltInRegistry, Codec, Registry, check,
    commands::{COMMAND, CommandRecord, REPLY, ReplyRecord},
    files::{ALL, SchemaFile},
    ingest::{
        FETCH_REQUESTED, FetchRequestedRecord, PAYLOAD_CHUNK, PROVIDER_STATE, PayloadChunkRecord,
        ProviderStateRecord, QUARANTINED, QuarantinedRecord, REPLAY_REQUESTED,
        ReplayRequestedRecord,
    },
    json::AnyJson,
    plans::{
        self, FEED_OBSERVED, FaultRecord, FeedObservedRecord, PlanEncoder, PlanEventRecord,
        PlanRecord, PlanStateRecord, STATE,
    },
    projections::{PARTITIONS_CHANGED, PartitionsChangedRecord, TableChangeRecord},
    recipes::{self, RecipeEventRecord},
};
use apache_avro::{reader::datum::GenericDatumReader, writer::datum::GenericDatumWriter};
use jiff::{Timestamp, tz::TimeZone};
use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc};

async fn codec() -> Codec {
    Codec::new(Arc::new(BuiltInRegistry)).await.unwrap()
}

fn time(text: &str) -> LocalTime {
    LocalTime::parse(text, &TimeZone::get("Europe/Madrid").unwrap()).unwrap()
}

fn now() -> Timestamp {
    "2021-01-01T00:00:00.250Z".parse().unwrap()
}

fn plan() -> Plan {
    Plan {
        identity: PlanIdentity {
            provider: "fever".to_owned(),
            base_plan_id: "1591".to_owned(),
            plan_id: "1642".to_owned(),
        },
        title: "Los Morancos – ¡olé!".to_owned(),
        organizer_id: Some("1".to_owned()),
        sell_mode: SellMode::Online,
        starts_at: time("2021-07-31T20:00:00"),
        ends_at: Some(time("2021-07-31T21:20:00")),
        sell_from: Some(time("2021-06-26T00:00:00")),
        sell_to: None,
        sold_out: false,
        currency: Some("EUR".to_owned()),
        url: None,
        zones: vec![
            Zone {
                zone_id: "186".to_owned(),
                name: Some("Amfiteatre".to_owned()),
                capacity: 0,
                price: "75.00".parse().ok(),
                numbered: true,
            },
            Zone {
                zone_id: "186".to_owned(),
                name: None,
                capacity: 14,
                price: None,
                numbered: false,
            },
        ],
    }
}

fn events() -> [PlanEvent; 4] {
    let listed = decide(None, plan(), now()).unwrap();
    let later = Plan { ends_at: None, sold_out: true, ..plan() };
    let changed = decide(Some(&listed.after), later.clone(), now()).unwrap();
    let delisted = delist(&changed.after, now()).unwrap();
    let relisted = decide(Some(&delisted.after), later, now()).unwrap();
    [listed, changed, delisted, relisted]
}

fn feed_observed() -> FeedObservedRecord {
    FeedObservedRecord {
        provider: "fever".to_owned(),
        observed_at: now().as_millisecond(),
        outcome: "changed".to_owned(),
        detail: None,
        listed_plans: Some(3),
        listed: 1,
        changed: 2,
        delisted: 0,
        relisted: 0,
        quarantined: 1,
        faults: vec![FaultRecord {
            place: "14:10".to_owned(),
            subject: "plan 444/1642".to_owned(),
            reason: "impossible start".to_owned(),
        }],
        body_bytes: Some(1_731),
        duration_ms: 12,
        breaker: "closed".to_owned(),
        consecutive_failures: 0,
        next_fetch_at: now().as_millisecond() + 30_000,
        next_fetch_reason: "interval".to_owned(),
        payload_id: Some("p-1".to_owned()),
    }
}

/// Bytes of the newest version of every record, by record.
async fn encoded(codec: &Codec) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let encoder = PlanEncoder::new(codec).unwrap();
    for event in events() {
        let id = event.after.plan.identity.public_id().to_string();
        let bytes = encoder.plan(&PlanRecord::from_domain(&event.after.plan, &id)).unwrap();
        let (record, value) = encoder.event(&event, &bytes).unwrap();
        found.insert(record.to_owned(), value.to_vec());
        let state = encoder.state(7, &event.after, &bytes).unwrap();
        found.insert(STATE.to_owned(), state.to_vec());
    }
    let mut put = |record: &'static str, value: Result<bytes::Bytes, _>| {
        let value: Result<bytes::Bytes, almanac_schemas::CodecError> = value;
        found.insert(record.to_owned(), value.unwrap().to_vec());
    };
    put(FEED_OBSERVED, codec.encode(FEED_OBSERVED, &feed_observed()));
    let requested = FetchRequestedRecord {
        provider: "fever".to_owned(),
        requested_at: now().as_millisecond(),
        requested_by: "local".to_owned(),
    };
    put(FETCH_REQUESTED, codec.encode(FETCH_REQUESTED, &requested));
    let replay = ReplayRequestedRecord {
        provider: "fever".to_owned(),
        requested_at: now().as_millisecond(),
        requested_by: "local".to_owned(),
        since: Some(now().as_millisecond() - 1),
    };
    put(REPLAY_REQUESTED, codec.encode(REPLAY_REQUESTED, &replay));
    let state = ProviderStateRecord {
        provider: "fever".to_owned(),
        etag: Some("\"abc\"".to_owned()),
        last_modified: None,
        configuration: "1f".to_owned(),
        plans: 4,
        listed_plans: 3,
        suspect_bodies: 0,
        body_hash: Some("00ff".to_owned()),
        suspect_since: Some(now().as_millisecond()),
    };
    put(PROVIDER_STATE, codec.encode(PROVIDER_STATE, &state));
    let chunk = PayloadChunkRecord {
        payload_id: "p-1".to_owned(),
        provider: "fever".to_owned(),
        fetched_at: now().as_millisecond(),
        content_encoding: "zstd".to_owned(),
        chunk: 0,
        chunks: 1,
        bytes: &[0, 1, 255],
        charset: Some("windows-1252".to_owned()),
    };
    put(PAYLOAD_CHUNK, codec.encode(PAYLOAD_CHUNK, &chunk));
    let quarantined = QuarantinedRecord {
        provider: "fever".to_owned(),
        observed_at: now().as_millisecond(),
        payload_id: None,
        place: "14:10".to_owned(),
        subject: "plan 444/1642".to_owned(),
        reason: "impossible start".to_owned(),
        fragment: "<plan/>".to_owned(),
    };
    put(QUARANTINED, codec.encode(QUARANTINED, &quarantined));
    let changed = PartitionsChangedRecord {
        projection: "plans".to_owned(),
        version: 1,
        source_topic: "plans.events".to_owned(),
        source_partition: 3,
        position: 9,
        tables: vec![TableChangeRecord {
            table: "plans_by_start".to_owned(),
            partitions: vec!["2021-06-30".to_owned()],
            keys: vec!["k".to_owned()],
        }],
        consistency_token: Some("t".to_owned()),
        tables_id: Some("u".to_owned()),
    };
    put(PARTITIONS_CHANGED, codec.encode(PARTITIONS_CHANGED, &changed));
    for (record, event) in recipe_events() {
        put(record, recipes::encode(codec, RECIPE_ID, &event, Some(&picture())));
    }
    put(COMMAND, codec.encode(COMMAND, &command()));
    put(REPLY, codec.encode(REPLY, &reply()));
    found
}

fn golden(file: &SchemaFile) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(format!("{}.v{}.hex", file.record, file.version))
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    let text = text.trim();
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

const RECIPE_ID: &str = "0198c5a0-0000-7000-8000-000000000001";

fn picture() -> recipes::Picture {
    recipes::Picture {
        content_type: "image/jpeg".to_owned(),
        width: 640,
        height: 480,
        image: vec![0, 255, 1],
    }
}

/// One event of each kind, of a recipe with every part that there is.
fn recipe_events() -> Vec<(&'static str, recipe_domain::Event)> {
    let quantity = |value: &str| QuantityDraft {
        value: value.parse().ok(),
        unit: Some("G".to_owned()),
        ..QuantityDraft::default()
    };
    let ingredient = |name: &str, quantity| IngredientDraft {
        ingredient: Some(name.to_owned()),
        section: Some("sauce".to_owned()),
        preparation: Some("destalked".to_owned()),
        quantity,
    };
    let between = QuantityDraft {
        min: "1".parse().ok(),
        max: "2.50".parse().ok(),
        unit: Some("CLOVE".to_owned()),
        ..QuantityDraft::default()
    };
    let draft = Draft {
        name: Some("Crème brûlée".to_owned()),
        description: Some("Burnt on purpose.".to_owned()),
        author: Some("Mary".to_owned()),
        difficulty: Some("HARD".to_owned()),
        calories: Some(420),
        tags: vec!["quick".to_owned()],
        ingredients: vec![
            ingredient("FRESH_THYME", Some(quantity("10.50"))),
            ingredient("GARLIC_CLOVE", Some(between)),
            ingredient("SALT", None),
        ],
        steps: vec![StepDraft {
            text: Some("Burn.".to_owned()),
            ingredients: vec!["SALT".to_owned()],
            duration_s: Some(120),
        }],
        serves: Some((2, 4)),
        tools: vec!["TORCH".to_owned()],
        notes: vec!["Careful.".to_owned()],
        preparation_s: Some(300),
        cooking_s: None,
    };
    let revised = Draft { name: Some("Crème".to_owned()), ..draft.clone() };
    let caller = recipe_domain::Caller { subject: "mary".to_owned(), is_admin: false };
    let commands = [
        (recipes::CREATED, Command::Create { recipe: Box::new(draft.check().unwrap()) }),
        (recipes::REVISED, Command::Revise { recipe: Box::new(revised.check().unwrap()) }),
        (recipes::DELETED, Command::Delete),
        (recipes::RESTORED, Command::Restore),
        (recipes::THUMBNAIL_SET, Command::SetThumbnail { hash: "00ff".to_owned() }),
        (recipes::THUMBNAIL_REMOVED, Command::RemoveThumbnail),
    ];
    let mut known = None;
    let mut events = Vec::new();
    for (record, command) in commands {
        let any = recipe_domain::Expected::Any;
        let event = recipe_domain::decide(known.as_ref(), command, &caller, &any, now());
        let event = event.unwrap().unwrap();
        known = Some(event.after.clone());
        events.push((record, event));
    }
    events
}

fn command() -> CommandRecord {
    CommandRecord {
        request_id: "r".to_owned(),
        outcome_id: "o".to_owned(),
        context: "recipes".to_owned(),
        aggregate_id: RECIPE_ID.to_owned(),
        verb: "patch".to_owned(),
        caller: "mary".to_owned(),
        is_admin: false,
        issued_at: now().as_millisecond(),
        deadline: now().as_millisecond() + 5_000,
        expected: Some(vec![1, 2]),
        fingerprint: "00ff".to_owned(),
        body: Some("{}".to_owned()),
        attachment: Some(vec![0, 255]),
    }
}

fn reply() -> ReplyRecord {
    ReplyRecord {
        request_id: "r".to_owned(),
        outcome_id: "o".to_owned(),
        caller: "mary".to_owned(),
        aggregate_id: RECIPE_ID.to_owned(),
        fingerprint: "00ff".to_owned(),
        command_offset: 7,
        decided_at: now().as_millisecond(),
        expires_at: now().as_millisecond() + 86_400_000,
        replayed: false,
        status: 200,
        version: Some(3),
        body: "{}".to_owned(),
        events_through: Some(6),
        context: "recipes".to_owned(),
        through: Some(BTreeMap::from([("recipes".to_owned(), 5)])),
    }
}

/// What is written today is what was written when the version landed. `ALMANAC_WRITE_GOLDEN=1`
/// writes files that are missing, for a new version; it never changes one.
#[tokio::test]
async fn golden_bytes_stay() {
    let encoded = encoded(&codec().await).await;
    for file in SchemaFile::all_newest() {
        let path = golden(file);
        let bytes =
            encoded.get(file.record).unwrap_or_else(|| panic!("no sample of {}", file.record));
        if !path.exists() && std::env::var_os("ALMANAC_WRITE_GOLDEN").is_some() {
            fs::write(&path, to_hex(bytes) + "\n").unwrap();
        }
        let stored =
            fs::read_to_string(&path).unwrap_or_else(|_| panic!("{} is missing", path.display()));
        assert_eq!(to_hex(bytes), stored.trim(), "{} version {}", file.record, file.version);
    }
}

/// Every version's golden bytes are read by today's types.
#[tokio::test]
async fn golden_bytes_are_read() {
    let codec = codec().await;
    for file in ALL {
        let value = from_hex(&fs::read_to_string(golden(file)).unwrap());
        let decoded = codec.decode(&value).await.unwrap();
        assert_eq!(decoded.record(), file.record);
        match file.record {
            FEED_OBSERVED => {
                assert_eq!(decoded.read::<FeedObservedRecord>().unwrap(), feed_observed())
            }
            FETCH_REQUESTED => drop(decoded.read::<FetchRequestedRecord>().unwrap()),
            REPLAY_REQUESTED => {
                let replay = decoded.read::<ReplayRequestedRecord>().unwrap();
                assert_eq!(replay.since, Some(replay.requested_at - 1));
            }
            PROVIDER_STATE => {
                let state = decoded.read::<ProviderStateRecord>().unwrap();
                let since = Some(now().as_millisecond()).filter(|_| file.version > 1);
                assert_eq!((state.listed_plans, state.suspect_since), (3, since));
            }
            PAYLOAD_CHUNK => {
                let chunk = decoded.read::<PayloadChunkRecord<'_>>().unwrap();
                let charset = Some("windows-1252".to_owned()).filter(|_| file.version > 1);
                assert_eq!((chunk.bytes, chunk.charset), ([0, 1, 255].as_slice(), charset));
            }
            QUARANTINED => drop(decoded.read::<QuarantinedRecord>().unwrap()),
            COMMAND => {
                let read = decoded.read::<CommandRecord>().unwrap();
                let attachment = command().attachment.filter(|_| file.version > 1);
                assert_eq!(read, CommandRecord { attachment, ..command() });
            }
            REPLY => {
                let read = decoded.read::<ReplyRecord>().unwrap();
                let events_through = reply().events_through.filter(|_| file.version > 1);
                let through = reply().through.filter(|_| file.version > 2);
                assert_eq!(read, ReplyRecord { events_through, through, ..reply() });
            }
            record if record.starts_with("almanac.recipes.") => {
                let read = decoded.read::<RecipeEventRecord>().unwrap();
                let mut expected = recipe_events().into_iter();
                let (_, event) = expected.find(|(name, _)| *name == record).unwrap();
                assert_eq!(read.knowledge(record).unwrap(), event.after);
                let picture = read.clone().into_picture();
                assert_eq!(picture, (record == recipes::THUMBNAIL_SET).then(self::picture));
            }
            PARTITIONS_CHANGED => drop(decoded.read::<PartitionsChangedRecord>().unwrap()),
            STATE => {
                let state = decoded.read::<PlanStateRecord<'_>>().unwrap();
                assert_eq!(state.knowledge().unwrap(), events()[3].after);
            }
            _ => {
                let event = decoded.read::<PlanEventRecord<'_>>().unwrap();
                let expected = &events()[event.sequence as usize - 1];
                assert_eq!(event.plan.to_domain().unwrap(), expected.after.plan);
                assert_eq!(event.listed, expected.after.listed);
                let changes = matches!(event.sequence, 2 | 4);
                assert_eq!(event.previous_starts_at.is_some(), changes);
            }
        }
    }
}

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

#[tokio::test]
async fn bad_bytes_are_errors() {
    let codec = codec().await;
    for bad in [&b""[..], b"\x00\x00\x00", b"\x01\x00\x00\x00\x01abc", b"\x00\xff\xff\xff\xff"] {
        assert!(codec.decode(bad).await.is_err(), "{bad:?}");
    }
    let whole = encoded(&codec).await.remove(FEED_OBSERVED).unwrap();
    for length in 5..whole.len() {
        let decoded = codec.decode(&whole[..length]).await.unwrap();
        assert!(decoded.read::<FeedObservedRecord>().is_err(), "cut at {length}");
    }
}

#[tokio::test]
async fn the_built_in_registry_numbers_the_files() {
    for file in ALL {
        let id = BuiltInRegistry.register(file).await.unwrap();
        assert_eq!(BuiltInRegistry.fetch(id).await.unwrap().text, file.text);
    }
    assert!(BuiltInRegistry.fetch(0).await.is_err());
    assert!(BuiltInRegistry.fetch(9_999).await.is_err());
}

#[test]
fn types_of_events_follow_from_their_records() {
    let of = |record: &str| SchemaFile::newest(record).unwrap().event_type();
    for (record, event) in recipe_events() {
        assert_eq!(of(record), recipes::event_type(&event.fact));
    }
    for (record, event_type) in [
        (plans::LISTED, "plan.listed"),
        (plans::CHANGED, "plan.changed"),
        (plans::DELISTED, "plan.delisted"),
        (plans::RELISTED, "plan.relisted"),
        (plans::FEED_OBSERVED, "feed.observed"),
    ] {
        assert_eq!(of(record), event_type);
    }
}

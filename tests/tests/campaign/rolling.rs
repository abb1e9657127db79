//! A rolling restart: each process stops in order and comes back under its name, and no partition moves.

use super::{
    stage::{Ground, NOTHING, Stage},
    takeover::{Held, joins_anew},
};
use almanac_event_log::kafka::KafkaLog;
use almanac_tests::{
    bare_cluster::{ends_of, records_from},
    process::Engine,
    readers::{CutOff, Readers},
};
use bytes::Buf;
use std::collections::{BTreeMap, BTreeSet};

/// Where Kafka keeps what it knows of groups, as records of this version of their key.
const GROUPS: &str = "__consumer_offsets";
const KEY_OF_A_GROUP: i16 = 2;

/// Stops and starts the processes in these places, one after the other.
pub(crate) async fn restarted(roles: &'static [&'static str], places: &[usize]) {
    let ground = Ground { long_sessions: true, ..NOTHING };
    let mut stage = Stage::begin(Engine::Cluster, roles, ground, 1).await;
    stage.well().await;
    for place in places {
        Held::by(&stage, *place).await;
    }
    let log = KafkaLog::connect(almanac_tests::kafka()).unwrap();
    let begun = ends_of(&log, GROUPS).await;
    let readers = Readers::start(&stage.reads, CutOff::Fails);
    let mut groups = BTreeSet::new();
    for place in places {
        let held = Held::by(&stage, *place).await;
        groups.extend(held.groups().map(str::to_owned));
        stage.restart(*place);
        stage.well().await;
        joins_anew(&stage, *place, &held).await;
        held.is_still_held(&stage, *place).await;
    }
    let reads = readers.finish().await;
    let mut generations: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
    for record in records_from(&log, GROUPS, &begun).await {
        let value = record.record.value.as_deref();
        if let Some((group, generation)) = value.and_then(|it| read(&record.record.key, it)) {
            generations.entry(group).or_default().insert(generation);
        }
    }
    for group in &groups {
        // A member that takes its own place is written down; one generation is no rebalance.
        let of_group = generations.get(group);
        assert_eq!(of_group.map(BTreeSet::len), Some(1), "{group}: {of_group:?}");
    }
    println!("campaign: {} restarts without a rebalance, {reads} reads", places.len());
    stage.goes_on().await;
    stage.end().await;
}

/// The group that a record tells of, and its generation.
fn read(mut key: &[u8], mut value: &[u8]) -> Option<(String, i32)> {
    if key.try_get_i16().ok()? != KEY_OF_A_GROUP {
        return None;
    }
    let group = text(&mut key)?;
    // The version of the value, and the kind of group.
    value.try_get_i16().ok()?;
    text(&mut value)?;
    Some((group, value.try_get_i32().ok()?))
}

fn text(from: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(from.try_get_i16().ok()?).ok()?;
    let (text, rest) = from.split_at_checked(length)?;
    *from = rest;
    String::from_utf8(text.to_vec()).ok()
}

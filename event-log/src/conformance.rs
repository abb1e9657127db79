//! The suite that every adapter of [`EventLog`] passes. Each check makes topics and groups of its
//! own, so that one cluster serves all of them. A failed check panics, as in any test.

use crate::{
    Append, Durability, EventLog, GroupEvent, GroupMember, GroupOptions, GroupState,
    HeadersBuilder, InputPosition, Isolation, LogError, LogReader, Ownership, ReadLimit, Record,
    Retention, Retry, StoredRecord, TopicSpec,
};
use bytes::Bytes;
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

const LIMIT: ReadLimit = ReadLimit { records: 1_000, bytes: 1 << 20 };
/// Generous: a check that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Makes a test of every check, so that one failure hides no other. `$open` is an asynchronous function
/// that opens an adapter: a log, and whatever has to live as long as it.
#[macro_export]
macro_rules! event_log_conformance {
    ($open:path) => {
        $crate::event_log_conformance! { $open =>
            topics_are_created_once_and_checked
            records_come_back_as_they_were
            appends_at_the_same_time_each_have_their_place
            readers_start_anywhere_and_hear_news
            offsets_are_found_by_time
            one_reader_serves_many_partitions
            a_transaction_is_seen_whole
            positions_move_with_the_transaction
            groups_are_told_with_members_and_positions
            ends_are_reached_past_control_records
            a_new_transactor_fences_the_old_one
            a_new_transactor_knows_what_became_of_the_old_ones_write
            an_old_batch_is_refused_under_a_new_generation
            partitions_move_between_members
            what_is_too_large_is_refused_and_nothing_written
            unknown_places_are_named
            retention_is_a_setting_of_the_topic
            the_newest_record_of_every_key_stays
            acknowledged_records_are_read_by_whoever_opens_the_topic
        }
    };
    ($open:path => $($check:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $check() {
            let (log, _kept) = $open().await;
            $crate::conformance::$check(&log).await;
        }
    )*};
}

/// A topic name that no other run uses.
pub fn unique(name: &str) -> String {
    format!("{name}-{}", &Uuid::new_v4().simple().to_string()[..12])
}

pub fn spec(name: &str, partitions: u32) -> TopicSpec {
    TopicSpec {
        name: name.to_owned(),
        partitions,
        retention: Retention::Forever,
        durability: Durability::Synced,
    }
}

pub async fn topic(log: &dyn EventLog, name: &str, partitions: u32) -> Arc<str> {
    let name = unique(name);
    log.ensure_topics(&[spec(&name, partitions)]).await.unwrap();
    name.into()
}

pub fn append(topic: &Arc<str>, partition: u32, text: &str) -> Append {
    let mut headers = HeadersBuilder::default();
    headers.push("ce_id", text.as_bytes());
    Append {
        topic: topic.clone(),
        partition,
        record: Record {
            key: Bytes::copy_from_slice(b"key"),
            value: Some(Bytes::copy_from_slice(text.as_bytes())),
            headers: headers.build(),
            timestamp_ms: 1_625_079_600_000,
        },
    }
}

pub fn text(record: &StoredRecord) -> String {
    String::from_utf8_lossy(record.record.value.as_deref().unwrap_or_default()).into_owned()
}

/// Reads until `count` records are there.
pub async fn take(reader: &mut dyn LogReader, count: usize) -> Vec<StoredRecord> {
    let mut found = Vec::new();
    let reading = async {
        while found.len() < count {
            found.extend(reader.next(LIMIT, PATIENCE).await.unwrap().records);
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("records in time");
    found
}

/// Everything that is committed in a partition.
pub async fn everything(log: &dyn EventLog, topic: &str, partition: u32) -> Vec<String> {
    let end = log.end(topic, partition, Isolation::Uncommitted).await.unwrap();
    let start = log.start(topic, partition).await.unwrap();
    let mut reader = log.read_to(topic, partition, start, end).await.unwrap();
    let mut found = Vec::new();
    loop {
        let batch = reader.next(LIMIT, PATIENCE).await.unwrap();
        if batch.records.is_empty() && !batch.at_end.is_empty() {
            return found;
        }
        found.extend(batch.records.iter().map(text));
    }
}

pub fn group_options(group: &str, topic: &str, instance: &str) -> GroupOptions {
    GroupOptions {
        group: group.to_owned(),
        topic: topic.to_owned(),
        instance: instance.to_owned(),
        session_timeout: Duration::from_secs(2),
    }
}

pub async fn assigned(member: &mut dyn GroupMember) -> Vec<Ownership> {
    let waiting = async {
        loop {
            match member.next().await.unwrap() {
                GroupEvent::Assigned(ownerships) => return ownerships,
                GroupEvent::Revoked(revocation) => drop(revocation),
            }
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("an assignment in time")
}

/// Joins a group of its own and returns the first partition.
async fn sole_owner(log: &dyn EventLog, input: &str) -> (Box<dyn GroupMember>, Ownership) {
    let mut member = log.join(group_options(&unique("group"), input, "one")).await.unwrap();
    let owned = assigned(&mut *member).await.remove(0);
    (member, owned)
}

pub fn position(topic: &Arc<str>, partition: u32, next_offset: u64) -> InputPosition {
    InputPosition { topic: topic.clone(), partition, next_offset }
}

pub async fn topics_are_created_once_and_checked(log: &dyn EventLog) {
    let name = unique("created");
    log.ensure_topics(&[spec(&name, 3)]).await.unwrap();
    log.ensure_topics(&[spec(&name, 3)]).await.expect("the same again is fine");
    let described = log.topic(&name).await.unwrap();
    assert_eq!(described.partitions, 3);
    assert_eq!(log.topic(&name).await.unwrap().id, described.id, "an id is stable");
    let other = log.topic(&topic(log, "created", 1).await).await.unwrap();
    assert_ne!(other.id, described.id);

    let error = log.ensure_topics(&[spec(&name, 4)]).await.unwrap_err();
    assert!(error.to_string().contains(&name) && error.to_string().contains('3'), "{error}");
    assert_eq!(error.retry(), Retry::Never);
    let compacted = TopicSpec { retention: Retention::Compacted, ..spec(&name, 3) };
    let error = log.ensure_topics(&[compacted]).await.unwrap_err();
    assert!(matches!(error, LogError::WrongTopicSettings { .. }), "{error}");
}

pub async fn records_come_back_as_they_were(log: &dyn EventLog) {
    let topic = topic(log, "records", 2).await;
    let tombstone = Append {
        record: Record { value: None, ..append(&topic, 1, "").record },
        ..append(&topic, 1, "")
    };
    let offsets =
        log.append(vec![append(&topic, 1, "a"), tombstone, append(&topic, 1, "")]).await.unwrap();
    assert_eq!(offsets, [Some(0), Some(1), Some(2)]);
    let mut reader = log.read(&topic, &[(1, 0)]).await.unwrap();
    let found = take(&mut *reader, 3).await;
    assert_eq!(found[0].record, append(&topic, 1, "a").record);
    assert_eq!((&*found[0].topic, found[0].partition, found[0].offset), (&*topic, 1, 0));
    assert_eq!(found[1].record.value, None, "a tombstone is not an empty value");
    assert_eq!(found[2].record.value, Some(Bytes::new()));
    assert_eq!(everything(log, &topic, 0).await, Vec::<String>::new());
}

pub async fn appends_at_the_same_time_each_have_their_place(log: &dyn EventLog) {
    let topic = topic(log, "crowd", 1).await;
    // So many that an adapter gathers some of them, and some not.
    let appends = (0..300).map(|n| log.append(vec![append(&topic, 0, &n.to_string())]));
    let offsets = futures::future::try_join_all(appends).await.unwrap();
    let found = everything(log, &topic, 0).await;
    let mut numbers: Vec<usize> = found.iter().map(|text| text.parse().unwrap()).collect();
    for (n, offset) in offsets.iter().enumerate() {
        // Where an acknowledgement was lost on the way, it may be unknown.
        assert!(offset[0].is_none_or(|offset| numbers[offset as usize] == n), "{n} at {offset:?}");
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..300).collect::<Vec<_>>(), "each is there once");
}

pub async fn readers_start_anywhere_and_hear_news(log: &dyn EventLog) {
    let topic = topic(log, "news", 1).await;
    let texts: Vec<String> = (0..10).map(|n| n.to_string()).collect();
    log.append(texts.iter().map(|text| append(&topic, 0, text)).collect()).await.unwrap();
    let mut reader = log.read(&topic, &[(0, 7)]).await.unwrap();
    assert_eq!(take(&mut *reader, 3).await.iter().map(text).collect::<Vec<_>>(), texts[7..]);

    let idle = loop {
        let batch = reader.next(LIMIT, Duration::from_millis(50)).await.unwrap();
        // Reaching the end is told, then nothing comes until something happens.
        if batch.at_end.is_empty() {
            break batch;
        }
    };
    assert!(idle.records.is_empty());
    let waiting = tokio::spawn(async move { take(&mut *reader, 1).await });
    log.append(vec![append(&topic, 0, "news")]).await.unwrap();
    assert_eq!(text(&waiting.await.unwrap()[0]), "news");

    let mut small = log.read(&topic, &[(0, 0)]).await.unwrap();
    let limit = ReadLimit { records: 4, bytes: 1 << 20 };
    let mut sizes = 0;
    while sizes < 11 {
        let batch = small.next(limit, PATIENCE).await.unwrap();
        assert!(batch.records.len() <= 4, "the caller's limit holds");
        sizes += batch.records.len();
    }
}

pub async fn offsets_are_found_by_time(log: &dyn EventLog) {
    let topic = topic(log, "times", 2).await;
    let first = append(&topic, 1, "").record.timestamp_ms;
    let at = |seconds: i64| {
        let mut one = append(&topic, 1, "");
        one.record.timestamp_ms += seconds * 1_000;
        one
    };
    log.append((0..20).map(at).collect()).await.unwrap();
    for (time, expected) in [(0, 0), (first, 0), (first + 4_001, 5), (first + 5_000, 5)] {
        assert_eq!(log.offsets_at(&topic, time).await.unwrap()[1], expected, "{time}");
    }
    let later = log.offsets_at(&topic, first + 20_000).await.unwrap();
    assert_eq!(later, [0, 20], "where nothing is that young, the end");
    let unknown = log.offsets_at(&unique("nowhere"), 0).await.unwrap_err();
    assert!(matches!(unknown, LogError::UnknownTopic { .. }), "{unknown}");
}

pub async fn one_reader_serves_many_partitions(log: &dyn EventLog) {
    let topic = topic(log, "partitions", 4).await;
    let appends = (0..40).map(|n| append(&topic, n % 4, &n.to_string())).collect();
    log.append(appends).await.unwrap();
    let mut reader = log.read(&topic, &[(0, 0), (1, 5), (3, 0)]).await.unwrap();
    let found = take(&mut *reader, 25).await;
    let of = |partition| -> Vec<u64> {
        found.iter().filter(|r| r.partition == partition).map(|r| r.offset).collect()
    };
    assert_eq!(of(0), (0..10).collect::<Vec<_>>(), "in order within a partition");
    assert_eq!(of(1), (5..10).collect::<Vec<_>>());
    assert_eq!(of(2), Vec::<u64>::new());
    assert_eq!(of(3), (0..10).collect::<Vec<_>>());
}

pub async fn a_transaction_is_seen_whole(log: &dyn EventLog) {
    let input = topic(log, "input", 1).await;
    let output = topic(log, "output", 3).await;
    let (member, owned) = sole_owner(log, &input).await;
    let mut transactor = log.transactor(&unique("tx"), &owned).await.unwrap();
    let appends = (0..30).map(|n| append(&output, n % 3, &n.to_string())).collect();
    let offsets = transactor.commit(appends, position(&input, 0, 0)).await.unwrap();
    assert_eq!(offsets.len(), 30);
    for partition in 0..3 {
        let expected: Vec<String> =
            (0..30).filter(|n| n % 3 == partition).map(|n| n.to_string()).collect();
        assert_eq!(everything(log, &output, partition).await, expected);
    }
    member.leave().await.unwrap();
}

pub async fn positions_move_with_the_transaction(log: &dyn EventLog) {
    let input = topic(log, "input", 1).await;
    let (member, owned) = sole_owner(log, &input).await;
    let mut transactor = log.transactor(&unique("tx"), &owned).await.unwrap();
    assert_eq!(log.committed(&owned).await.unwrap(), None);
    log.append((0..5).map(|n| append(&input, 0, &n.to_string())).collect()).await.unwrap();
    transactor.commit(Vec::new(), position(&input, 0, 3)).await.expect("a position alone is fine");
    assert_eq!(log.committed(&owned).await.unwrap(), Some(3));
    transactor.commit(Vec::new(), position(&input, 0, 3)).await.expect("an unchanged one too");
    assert_eq!(log.committed(&owned).await.unwrap(), Some(3));
    member.leave().await.unwrap();
}

pub async fn groups_are_told_with_members_and_positions(log: &dyn EventLog) {
    let input = topic(log, "input", 2).await;
    let group = unique("told");
    let mut member = log.join(group_options(&group, &input, "one")).await.unwrap();
    let owned = assigned(&mut *member).await.swap_remove(0);
    let transactor = log.transactor(&unique("tx"), &owned).await;
    let partition = owned.partition;
    log.append((0..5).map(|n| append(&input, partition, &n.to_string())).collect()).await.unwrap();
    transactor.unwrap().commit(Vec::new(), position(&input, partition, 3)).await.unwrap();

    let known = log.groups(100_000).await.unwrap();
    assert!(known.names.contains(&group), "{known:?}");
    assert!(known.names.is_sorted() && known.left_off == 0 && known.unheard.is_none());
    let none = log.groups(0).await.unwrap();
    assert!(none.names.is_empty() && none.left_off > 0, "{none:?}");

    let places = [(input.clone(), 0), (input.clone(), 1)];
    let names = [unique("nobody"), group.clone()];
    let described = log.describe_groups(&names, &places).await.unwrap();
    let [nobody, told] = &described[..] else { panic!("{described:?}") };
    assert_eq!((&nobody.name, nobody.state), (&names[0], GroupState::Dead));
    assert!(nobody.members.is_empty() && nobody.committed.is_empty(), "{nobody:?}");
    assert_eq!((&told.name, told.state), (&group, GroupState::Stable));
    assert!(told.fault.is_none(), "{told:?}");
    assert_eq!(told.committed, [position(&input, partition, 3)], "one was never committed");
    let [one] = &told.members[..] else { panic!("{told:?}") };
    assert_eq!(one.instance.as_deref(), Some("one"));
    let mut given = one.assigned.clone();
    given.sort();
    assert_eq!(given, places);
    member.leave().await.unwrap();
}

pub async fn ends_are_reached_past_control_records(log: &dyn EventLog) {
    let input = topic(log, "input", 1).await;
    let output = topic(log, "output", 1).await;
    let (member, owned) = sole_owner(log, &input).await;
    let mut transactor = log.transactor(&unique("tx"), &owned).await.unwrap();
    for n in 0..5 {
        let appends = vec![append(&output, 0, &n.to_string())];
        transactor.commit(appends, position(&input, 0, 0)).await.unwrap();
    }
    // On Kafka every transaction leaves a control record: the end is not the last offset plus one.
    assert_eq!(everything(log, &output, 0).await, ["0", "1", "2", "3", "4"]);
    let end = log.end(&output, 0, Isolation::Uncommitted).await.unwrap();
    let mut reader = log.read_to(&output, 0, end, end).await.unwrap();
    let batch = reader.next(LIMIT, PATIENCE).await.unwrap();
    assert!(batch.records.is_empty() && !batch.at_end.is_empty(), "nothing left is told at once");
    // Who reads on knows that nothing is left, too: its position lies behind the control records.
    let mut reader = log.read(&output, &[(0, 0)]).await.unwrap();
    assert_eq!(take(&mut *reader, 5).await.len(), 5);
    let standing = async {
        while reader.position(0) != Some(end) {
            assert!(reader.next(LIMIT, PATIENCE).await.unwrap().records.is_empty());
        }
    };
    tokio::time::timeout(PATIENCE, standing).await.expect("the end in time");
    member.leave().await.unwrap();
}

pub async fn a_new_transactor_fences_the_old_one(log: &dyn EventLog) {
    let input = topic(log, "input", 1).await;
    let output = topic(log, "output", 1).await;
    let (member, owned) = sole_owner(log, &input).await;
    let id = unique("tx");
    let mut old = log.transactor(&id, &owned).await.unwrap();
    old.commit(vec![append(&output, 0, "old")], position(&input, 0, 0)).await.unwrap();
    let mut new = log.transactor(&id, &owned).await.unwrap();
    let error =
        old.commit(vec![append(&output, 0, "zombie")], position(&input, 0, 1)).await.unwrap_err();
    assert_eq!(error.retry(), Retry::StartOver, "{error}");
    new.commit(vec![append(&output, 0, "new")], position(&input, 0, 1)).await.unwrap();
    assert_eq!(everything(log, &output, 0).await, ["old", "new"]);
    member.leave().await.unwrap();
}

/// What an old transactor has under way when a new one comes is either fenced, or below the end and
/// in the position that the new one finds: else it would handle the same input again.
pub async fn a_new_transactor_knows_what_became_of_the_old_ones_write(log: &dyn EventLog) {
    let input = topic(log, "input", 1).await;
    let output = topic(log, "output", 1).await;
    let (member, owned) = sole_owner(log, &input).await;
    let id = unique("tx");
    for turn in 1..=20 {
        let mut old = log.transactor(&id, &owned).await.unwrap();
        let before = log.committed(&owned).await.unwrap();
        let appends = vec![append(&output, 0, &turn.to_string())];
        let (written, found) =
            futures::future::join(old.commit(appends, position(&input, 0, turn)), async {
                tokio::time::sleep(Duration::from_micros(turn * 150)).await;
                let _new = log.transactor(&id, &owned).await.unwrap();
                let end = log.end(&output, 0, Isolation::Uncommitted).await.unwrap();
                (end, log.committed(&owned).await.unwrap())
            })
            .await;
        let (end, committed) = found;
        match written {
            Ok(offsets) => {
                assert_eq!(committed, Some(turn));
                assert!(offsets[0].is_none_or(|offset| offset < end), "{offsets:?} of {end}");
            }
            Err(error) => {
                assert_eq!(error.retry(), Retry::StartOver, "{error}");
                let is_written = committed == Some(turn);
                assert!(is_written || committed == before, "{committed:?} after {before:?}");
            }
        }
        // Either way it stays so.
        assert_eq!(log.committed(&owned).await.unwrap(), committed);
    }
    member.leave().await.unwrap();
}

/// A batch taken under one generation cannot be committed under the next. The second half shows
/// why the generation is captured with the assignment: a refreshed one would be let through.
pub async fn an_old_batch_is_refused_under_a_new_generation(log: &dyn EventLog) {
    let input = topic(log, "input", 2).await;
    let output = topic(log, "output", 1).await;
    let group = unique("group");
    let mut first = log.join(group_options(&group, &input, "one")).await.unwrap();
    let old = assigned(&mut *first).await.remove(0);
    let id = unique("tx");
    let mut transactor = log.transactor(&id, &old).await.unwrap();
    transactor.commit(vec![append(&output, 0, "mine")], position(&input, 0, 1)).await.unwrap();

    // A second member makes the group move on; the first lets go and gets less back.
    let second = log.join(group_options(&group, &input, "two")).await.unwrap();
    let joining = tokio::spawn(async move {
        let mut second = second;
        let owned = assigned(&mut *second).await;
        (second, owned)
    });
    let GroupEvent::Revoked(revocation) = first.next().await.unwrap() else {
        panic!("everything is revoked before it is assigned anew");
    };
    drop(revocation);
    let current = assigned(&mut *first).await;
    let (second, of_second) = joining.await.unwrap();
    assert_eq!(current.len() + of_second.len(), 2, "each partition has one owner");

    let error = transactor
        .commit(vec![append(&output, 0, "zombie")], position(&input, old.partition, 2))
        .await
        .unwrap_err();
    assert_eq!(error.retry(), Retry::StartOver, "{error}");
    assert_eq!(everything(log, &output, 0).await, ["mine"]);

    // With the newest generation instead, the same batch passes for a partition that this member
    // may not even own: nothing but the captured generation protects.
    let refreshed = &current[0];
    let foreign = of_second[0].partition;
    let mut careless = log.transactor(&unique("tx"), refreshed).await.unwrap();
    careless
        .commit(vec![append(&output, 0, "let through")], position(&input, foreign, 2))
        .await
        .expect("neither engine checks the partition");
    first.leave().await.unwrap();
    second.leave().await.unwrap();
}

pub async fn partitions_move_between_members(log: &dyn EventLog) {
    let input = topic(log, "input", 4).await;
    let group = unique("group");
    let mut first = log.join(group_options(&group, &input, "one")).await.unwrap();
    assert_eq!(assigned(&mut *first).await.len(), 4);
    let second = log.join(group_options(&group, &input, "two")).await.unwrap();
    let joining = tokio::spawn(async move {
        let mut second = second;
        let owned = assigned(&mut *second).await;
        (second, owned)
    });
    let GroupEvent::Revoked(revocation) = first.next().await.unwrap() else {
        panic!("a revocation comes first");
    };
    // While the first has not let go, nobody else owns anything.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!joining.is_finished());
    drop(revocation);
    let mut of_first: Vec<u32> =
        assigned(&mut *first).await.iter().map(|owned| owned.partition).collect();
    let (second, of_second) = joining.await.unwrap();
    of_first.extend(of_second.iter().map(|owned| owned.partition));
    of_first.sort_unstable();
    assert_eq!(of_first, [0, 1, 2, 3]);
    second.leave().await.unwrap();
    let again = tokio::time::timeout(PATIENCE, async {
        loop {
            let owned = assigned(&mut *first).await;
            if owned.len() == 4 {
                return owned;
            }
        }
    });
    assert_eq!(again.await.expect("what the second had comes back").len(), 4);
    first.leave().await.unwrap();
}

pub async fn what_is_too_large_is_refused_and_nothing_written(log: &dyn EventLog) {
    let input = topic(log, "input", 1).await;
    let output = topic(log, "output", 1).await;
    let (member, owned) = sole_owner(log, &input).await;
    let mut transactor = log.transactor(&unique("tx"), &owned).await.unwrap();
    let huge: String = (0..2_000_000).map(|n| char::from(b'a' + (n * 7 % 26) as u8)).collect();
    let appends = vec![append(&output, 0, "small"), append(&output, 0, &huge)];
    let error = transactor.commit(appends, position(&input, 0, 1)).await.unwrap_err();
    assert!(matches!(error, LogError::RecordTooLarge { .. }), "{error}");
    assert!(error.to_string().contains(&*output), "{error}");
    assert_eq!(everything(log, &output, 0).await, Vec::<String>::new());
    transactor
        .commit(vec![append(&output, 0, "small")], position(&input, 0, 1))
        .await
        .expect("the transactor lives on after a clean refusal");
    assert_eq!(everything(log, &output, 0).await, ["small"]);
    member.leave().await.unwrap();
}

pub async fn unknown_places_are_named(log: &dyn EventLog) {
    let absent = unique("absent");
    let error = log.topic(&absent).await.unwrap_err();
    assert!(matches!(error, LogError::UnknownTopic { .. }), "{error}");
    let error = log.end(&absent, 0, Isolation::Committed).await.unwrap_err();
    assert!(error.to_string().contains(&absent), "{error}");
}

/// What would lose facts or mix them up is refused; that plumbing is kept longer than wanted is not.
pub async fn retention_is_a_setting_of_the_topic(log: &dyn EventLog) {
    let week = Retention::For(Duration::from_secs(7 * 24 * 3_600));
    for (retention, other) in [
        (Retention::Forever, Retention::Compacted),
        (week, Retention::Forever),
        (Retention::Compacted, Retention::Forever),
        (week, Retention::Compacted),
    ] {
        let wanted = TopicSpec { retention, ..spec(&unique("retention"), 1) };
        log.ensure_topics(std::slice::from_ref(&wanted)).await.unwrap();
        log.ensure_topics(std::slice::from_ref(&wanted)).await.expect("the same again is fine");
        let other = TopicSpec { retention: other, ..wanted };
        let error = log.ensure_topics(&[other]).await.unwrap_err();
        assert!(matches!(error, LogError::WrongTopicSettings { .. }), "{retention:?}: {error}");
    }
}

/// Whether and when older ones go is the adapter's; what a reader folds is the same.
pub async fn the_newest_record_of_every_key_stays(log: &dyn EventLog) {
    let name = unique("compacted");
    let wanted = TopicSpec { retention: Retention::Compacted, ..spec(&name, 1) };
    log.ensure_topics(&[wanted]).await.unwrap();
    let name: Arc<str> = name.into();
    let key = |number: usize| format!("key {}", number % 7);
    for chunk in (0..700).collect::<Vec<usize>>().chunks(50) {
        let appends = chunk.iter().map(|number| {
            let mut append = append(&name, 0, &number.to_string());
            append.record.key = key(*number).into();
            append
        });
        log.append(appends.collect()).await.unwrap();
    }
    let end = log.end(&name, 0, Isolation::Uncommitted).await.unwrap();
    let mut reader = log.read_to(&name, 0, 0, end).await.unwrap();
    let mut newest = std::collections::BTreeMap::new();
    loop {
        let batch = reader.next(LIMIT, PATIENCE).await.unwrap();
        if batch.records.is_empty() && !batch.at_end.is_empty() {
            break;
        }
        for record in &batch.records {
            newest.insert(record.record.key.clone(), text(record));
        }
    }
    let expected = (693..700).map(|number| (key(number).into(), number.to_string())).collect();
    assert_eq!(newest, expected);
}

pub async fn acknowledged_records_are_read_by_whoever_opens_the_topic(log: &dyn EventLog) {
    for durability in [Durability::Synced, Durability::Buffered] {
        let name = unique("durable");
        log.ensure_topics(&[TopicSpec { durability, ..spec(&name, 1) }]).await.unwrap();
        let name: Arc<str> = name.into();
        for number in 0..20 {
            log.append(vec![append(&name, 0, &number.to_string())]).await.unwrap();
            // Acknowledged is readable: nobody waits for a flush.
            assert_eq!(everything(log, &name, 0).await.len(), number + 1, "{durability:?}");
        }
    }
}

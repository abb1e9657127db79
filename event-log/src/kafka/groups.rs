//! Consumer groups, those of others included, by librdkafka's ListConsumerGroups,
//! DescribeConsumerGroups and ListConsumerGroupOffsets.
//!
//! The call that the Rust wrapper offers describes every group of every broker at once, with all that
//! their members joined with. These list names alone, and describe those that are wanted.
#![expect(unsafe_code, reason = "foreign function calls; each block says why it is sound")]

use super::answered::{Asked, error, text};
use crate::{
    GroupDescription, GroupMemberDescription, GroupNames, GroupState, InputPosition, LogError,
    LogResult, Offset,
};
use rdkafka::{bindings as sys, consumer::BaseConsumer};
use std::{ffi::CString, slice, sync::Arc, time::Duration};
use sys::{
    rd_kafka_admin_op_t as Operation, rd_kafka_consumer_group_state_t as State,
    rd_kafka_event_t as Event,
};

const GONE: sys::rd_kafka_resp_err_t =
    sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_GROUP_ID_NOT_FOUND;
const ALL: &str = "kafka's consumer groups";

/// Blocks up to `timeout`, as all of these do.
pub(super) fn list(
    consumer: &BaseConsumer,
    at_most: usize,
    timeout: Duration,
) -> LogResult<GroupNames> {
    let operation = Operation::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPS;
    let asked = Asked { consumer, operation, what: ALL, timeout };
    // SAFETY: the pointers are live for the call.
    let call = |client, options, queue| unsafe {
        sys::rd_kafka_ListConsumerGroups(client, options, queue);
    };
    // SAFETY: the event is one of ListConsumerGroups.
    asked.answered(call, |event| unsafe { read_names(event, at_most) })
}

/// # Safety
/// `event` is a live event of ListConsumerGroups.
unsafe fn read_names(event: *mut Event, at_most: usize) -> LogResult<GroupNames> {
    // SAFETY: what librdkafka returns from the event lives as long; arrays have the length it tells.
    unsafe {
        let result = sys::rd_kafka_event_ListConsumerGroups_result(event);
        let mut count = 0;
        let valid = sys::rd_kafka_ListConsumerGroups_result_valid(result, &mut count);
        let names = array(valid, count).iter();
        let names: Vec<String> =
            names.map(|one| text(sys::rd_kafka_ConsumerGroupListing_group_id(*one))).collect();
        let mut count = 0;
        let errors = sys::rd_kafka_ListConsumerGroups_result_errors(result, &mut count);
        let fault = array(errors, count).iter().find_map(|one| error(ALL, *one));
        match fault {
            Some(fault) if names.is_empty() => Err(fault),
            fault => {
                let unheard = fault.map(|fault| almanac_errors::chain(&fault).to_string());
                Ok(GroupNames::first(names, at_most, unheard))
            }
        }
    }
}

pub(super) fn describe(
    consumer: &BaseConsumer,
    names: &[String],
    timeout: Duration,
) -> LogResult<Vec<GroupDescription>> {
    let owned = names.iter().map(|name| c_string(name)).collect::<LogResult<Vec<_>>>()?;
    let mut pointers: Vec<_> = owned.iter().map(|name| name.as_ptr()).collect();
    let operation = Operation::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
    let asked = Asked { consumer, operation, what: ALL, timeout };
    // SAFETY: `pointers`, and the names that they point to, outlive the call.
    let call = |client, options, queue| unsafe {
        let (names, count) = (pointers.as_mut_ptr(), pointers.len());
        sys::rd_kafka_DescribeConsumerGroups(client, names, count, options, queue);
    };
    // SAFETY: the event is one of DescribeConsumerGroups.
    let mut found = asked.answered(call, |event| unsafe { Ok(read_groups(event)) })?;
    // In the order in which they were asked for.
    found.sort_by_cached_key(|one| names.iter().position(|name| *name == one.name));
    Ok(found)
}

/// # Safety
/// `event` is a live event of DescribeConsumerGroups.
unsafe fn read_groups(event: *mut Event) -> Vec<GroupDescription> {
    // SAFETY: as above.
    unsafe {
        let result = sys::rd_kafka_event_DescribeConsumerGroups_result(event);
        let mut count = 0;
        let groups = sys::rd_kafka_DescribeConsumerGroups_result_groups(result, &mut count);
        array(groups, count).iter().map(|one| read_group(*one)).collect()
    }
}

/// # Safety
/// `group` is live.
unsafe fn read_group(group: *const sys::rd_kafka_ConsumerGroupDescription_t) -> GroupDescription {
    // SAFETY: the caller vouches for `group`; what is read from it lives as long.
    unsafe {
        let name = text(sys::rd_kafka_ConsumerGroupDescription_group_id(group));
        let state = match sys::rd_kafka_ConsumerGroupDescription_state(group) {
            State::RD_KAFKA_CONSUMER_GROUP_STATE_STABLE => GroupState::Stable,
            State::RD_KAFKA_CONSUMER_GROUP_STATE_EMPTY => GroupState::Empty,
            State::RD_KAFKA_CONSUMER_GROUP_STATE_DEAD => GroupState::Dead,
            State::RD_KAFKA_CONSUMER_GROUP_STATE_PREPARING_REBALANCE
            | State::RD_KAFKA_CONSUMER_GROUP_STATE_COMPLETING_REBALANCE => GroupState::Rebalancing,
            _ => GroupState::Unknown,
        };
        let why = sys::rd_kafka_ConsumerGroupDescription_error(group);
        // Newer brokers say so of a group that is not there, older ones that it is dead.
        let is_gone = sys::rd_kafka_error_code(why) == GONE;
        let state = if is_gone { GroupState::Dead } else { state };
        let fault = error(&format!("consumer group {name}"), why).filter(|_| !is_gone);
        let count = sys::rd_kafka_ConsumerGroupDescription_member_count(group);
        let members = (0..count)
            .map(|at| read_member(sys::rd_kafka_ConsumerGroupDescription_member(group, at)))
            .collect();
        GroupDescription { name, state, members, committed: Vec::new(), fault }
    }
}

/// # Safety
/// `member` is live.
unsafe fn read_member(member: *const sys::rd_kafka_MemberDescription_t) -> GroupMemberDescription {
    // SAFETY: the caller vouches for `member`; what is read from it lives as long.
    unsafe {
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        let assignment = sys::rd_kafka_MemberDescription_assignment(member);
        let assigned = if assignment.is_null() {
            Vec::new()
        } else {
            let places = sys::rd_kafka_MemberAssignment_partitions(assignment);
            places_of(places).map(|(topic, partition, _)| (topic, partition)).collect()
        };
        GroupMemberDescription {
            id: text(sys::rd_kafka_MemberDescription_consumer_id(member)),
            client: text(sys::rd_kafka_MemberDescription_client_id(member)),
            instance: some(text(sys::rd_kafka_MemberDescription_group_instance_id(member))),
            host: some(text(sys::rd_kafka_MemberDescription_host(member))),
            assigned,
        }
    }
}

pub(super) fn committed(
    consumer: &BaseConsumer,
    group: &str,
    places: &[(Arc<str>, u32)],
    timeout: Duration,
) -> LogResult<Vec<InputPosition>> {
    let what = format!("the positions of consumer group {group}");
    let name = c_string(group)?;
    let topics = places.iter().map(|(topic, _)| c_string(topic)).collect::<LogResult<Vec<_>>>()?;
    let operation = Operation::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS;
    let asked = Asked { consumer, operation, what: &what, timeout };
    // SAFETY: names outlive the call, which copies what it is given; what is made here is destroyed once.
    let call = |client, options, queue| unsafe {
        let list = sys::rd_kafka_topic_partition_list_new(0);
        for ((_, partition), topic) in places.iter().zip(&topics) {
            sys::rd_kafka_topic_partition_list_add(list, topic.as_ptr(), *partition as i32);
        }
        let mut wanted = sys::rd_kafka_ListConsumerGroupOffsets_new(name.as_ptr(), list);
        sys::rd_kafka_ListConsumerGroupOffsets(client, &mut wanted, 1, options, queue);
        sys::rd_kafka_ListConsumerGroupOffsets_destroy(wanted);
        sys::rd_kafka_topic_partition_list_destroy(list);
    };
    // SAFETY: the event is one of ListConsumerGroupOffsets.
    asked.answered(call, |event| unsafe { read_committed(event, &what) })
}

/// # Safety
/// `event` is a live event of ListConsumerGroupOffsets.
unsafe fn read_committed(event: *mut Event, what: &str) -> LogResult<Vec<InputPosition>> {
    // SAFETY: as above.
    unsafe {
        let result = sys::rd_kafka_event_ListConsumerGroupOffsets_result(event);
        let mut count = 0;
        let groups = sys::rd_kafka_ListConsumerGroupOffsets_result_groups(result, &mut count);
        let mut found = Vec::new();
        for group in array(groups, count) {
            if let Some(fault) = error(what, sys::rd_kafka_group_result_error(*group)) {
                return Err(fault);
            }
            let places = places_of(sys::rd_kafka_group_result_partitions(*group));
            // Below zero nothing was committed.
            found.extend(places.filter_map(|(topic, partition, offset)| {
                let next_offset = Offset::try_from(offset).ok()?;
                Some(InputPosition { topic, partition, next_offset })
            }));
        }
        Ok(found)
    }
}

/// Topic, partition and offset of each element.
///
/// # Safety
/// `list` is null or live for as long as what is returned.
unsafe fn places_of<'a>(
    list: *const sys::rd_kafka_topic_partition_list_t,
) -> impl Iterator<Item = (Arc<str>, u32, i64)> + 'a {
    // SAFETY: the caller vouches for `list`; it has as many elements as it says, each with a name.
    let elements = unsafe {
        if list.is_null() { &[] } else { array((*list).elems.cast_const(), (*list).cnt as usize) }
    };
    elements.iter().map(|one| {
        // SAFETY: as above.
        let topic = unsafe { text(one.topic) };
        (topic.into(), one.partition.max(0) as u32, one.offset)
    })
}

/// # Safety
/// `first` is null, or the first of `count` elements that live for as long as what is returned.
unsafe fn array<'a, T>(first: *const T, count: usize) -> &'a [T] {
    // SAFETY: the caller vouches for them.
    if first.is_null() || count == 0 { &[] } else { unsafe { slice::from_raw_parts(first, count) } }
}

fn c_string(text: &str) -> LogResult<CString> {
    CString::new(text).map_err(|error| LogError::Refused {
        what: format!("the name {text:?}"),
        source: error.into(),
    })
}

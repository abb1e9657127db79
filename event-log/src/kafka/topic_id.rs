//! A topic's id and partition count, by librdkafka's DescribeTopics.
//!
//! The Rust wrapper does not offer this call, and without the id a topic that was deleted and
//! created again cannot be told from the one whose positions are remembered.
#![expect(unsafe_code, reason = "foreign function calls; each block says why it is sound")]

use super::{answered::Asked, query_error};
use crate::{LogError, LogResult, TopicDescription, TopicId};
use rdkafka::{
    bindings as sys,
    consumer::BaseConsumer,
    error::{KafkaError, RDKafkaErrorCode},
};
use std::{ffi::CString, time::Duration};
use uuid::Uuid;

/// Blocks up to `timeout`.
pub(super) fn describe(
    consumer: &BaseConsumer,
    topic: &str,
    timeout: Duration,
) -> LogResult<TopicDescription> {
    let name =
        CString::new(topic).map_err(|_| LogError::UnknownTopic { topic: topic.to_owned() })?;
    let mut names = [name.as_ptr()];
    let asked = Asked {
        consumer,
        operation: sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        what: &format!("kafka topic {topic}"),
        timeout,
    };
    // SAFETY: `names` and what it points to outlive the call; the collection is destroyed once, after
    // the call that reads it.
    let call = |client, options, queue| unsafe {
        let collection = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), 1);
        sys::rd_kafka_DescribeTopics(client, collection, options, queue);
        sys::rd_kafka_TopicCollection_destroy(collection);
    };
    // SAFETY: the event is one of DescribeTopics.
    asked.answered(call, |event| unsafe { read_answer(event, topic) })
}

/// # Safety
/// `event` is a live event of DescribeTopics.
unsafe fn read_answer(
    event: *mut sys::rd_kafka_event_t,
    topic: &str,
) -> LogResult<TopicDescription> {
    // SAFETY: the caller vouches for `event`; what librdkafka returns from it lives as long.
    unsafe {
        let unknown = || LogError::UnknownTopic { topic: topic.to_owned() };
        let result = sys::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return Err(unknown());
        }
        let mut count = 0;
        let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        if topics.is_null() || count == 0 {
            return Err(unknown());
        }
        let description = *topics;
        let error = sys::rd_kafka_TopicDescription_error(description);
        let code = sys::rd_kafka_error_code(error);
        if code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            let code = RDKafkaErrorCode::from(code);
            return Err(query_error(topic, None, &KafkaError::MetadataFetch(code)));
        }
        let id = sys::rd_kafka_TopicDescription_topic_id(description);
        let mut partitions = 0;
        let _ = sys::rd_kafka_TopicDescription_partitions(description, &mut partitions);
        let high = sys::rd_kafka_Uuid_most_significant_bits(id) as u64;
        let low = sys::rd_kafka_Uuid_least_significant_bits(id) as u64;
        Ok(TopicDescription {
            id: TopicId(Uuid::from_u64_pair(high, low)),
            partitions: u32::try_from(partitions).unwrap_or(u32::MAX),
        })
    }
}

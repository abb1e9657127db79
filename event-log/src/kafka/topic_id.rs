//! A topic's id and partition count, by librdkafka's DescribeTopics.
//!
//! The Rust wrapper does not offer this call, and without the id a topic that was deleted and
//! created again cannot be told from the one whose positions are remembered.
#![expect(unsafe_code, reason = "foreign function calls; each block says why it is sound")]

use super::query_error;
use crate::{LogError, LogResult, TopicDescription, TopicId};
use rdkafka::{
    bindings as sys,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
};
use std::{
    ffi::{CStr, CString},
    time::Duration,
};
use uuid::Uuid;

/// Blocks up to `timeout`.
pub(super) fn describe(
    consumer: &BaseConsumer,
    topic: &str,
    timeout: Duration,
) -> LogResult<TopicDescription> {
    let name =
        CString::new(topic).map_err(|_| LogError::UnknownTopic { topic: topic.to_owned() })?;
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let mut names = [name.as_ptr()];
    // SAFETY: every pointer made here is checked before use and destroyed exactly once at the
    // end; `names` and the client outlive the call; the result borrows from the event, which is
    // destroyed last.
    unsafe {
        let client = consumer.client().native_ptr();
        let collection = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), 1);
        let options = sys::rd_kafka_AdminOptions_new(
            client,
            sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        );
        let mut text: [std::ffi::c_char; 256] = [0; 256];
        sys::rd_kafka_AdminOptions_set_request_timeout(
            options,
            timeout_ms,
            text.as_mut_ptr(),
            text.len(),
        );
        let queue = sys::rd_kafka_queue_new(client);
        sys::rd_kafka_DescribeTopics(client, collection, options, queue);
        let event = sys::rd_kafka_queue_poll(queue, timeout_ms);
        let answer = read_answer(event, topic, timeout);
        if !event.is_null() {
            sys::rd_kafka_event_destroy(event);
        }
        sys::rd_kafka_queue_destroy(queue);
        sys::rd_kafka_AdminOptions_destroy(options);
        sys::rd_kafka_TopicCollection_destroy(collection);
        answer
    }
}

/// # Safety
/// `event` is null or a live event of DescribeTopics.
unsafe fn read_answer(
    event: *mut sys::rd_kafka_event_t,
    topic: &str,
    timeout: Duration,
) -> LogResult<TopicDescription> {
    if event.is_null() {
        let what = format!("describing kafka topic {topic}");
        return Err(LogError::TimedOut { what, after_ms: timeout.as_millis() });
    }
    // SAFETY: the caller vouches for `event`; what librdkafka returns from it lives as long.
    unsafe {
        if sys::rd_kafka_event_error(event) != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
        {
            let text = sys::rd_kafka_event_error_string(event);
            let detail = if text.is_null() {
                "unknown error".to_owned()
            } else {
                CStr::from_ptr(text).to_string_lossy().into_owned()
            };
            return Err(LogError::Unavailable { what: format!("kafka topic {topic}"), detail });
        }
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

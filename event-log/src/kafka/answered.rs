//! Administrative questions that the Rust wrapper does not offer: librdkafka takes them with a queue, and
//! answers with an event.
#![expect(unsafe_code, reason = "foreign function calls; each block says why it is sound")]

use crate::{LogError, LogResult};
use rdkafka::{
    bindings as sys,
    consumer::{BaseConsumer, Consumer},
    error::RDKafkaErrorCode,
};
use std::{
    ffi::{CStr, c_char},
    time::Duration,
};

pub(super) struct Asked<'a> {
    pub(super) consumer: &'a BaseConsumer,
    pub(super) operation: sys::rd_kafka_admin_op_t,
    /// What is asked about, for errors.
    pub(super) what: &'a str,
    pub(super) timeout: Duration,
}

impl Asked<'_> {
    /// Makes the call, and reads the event that answers it. Blocks up to the timeout.
    pub(super) fn answered<T>(
        &self,
        call: impl FnOnce(
            *mut sys::rd_kafka_t,
            *const sys::rd_kafka_AdminOptions_t,
            *mut sys::rd_kafka_queue_t,
        ),
        read: impl FnOnce(*mut sys::rd_kafka_event_t) -> LogResult<T>,
    ) -> LogResult<T> {
        let timeout_ms = i32::try_from(self.timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: every pointer made here is destroyed exactly once at the end; the client outlives the
        // call; what is read borrows from the event, which is destroyed after it was read.
        unsafe {
            let client = self.consumer.client().native_ptr();
            let options = sys::rd_kafka_AdminOptions_new(client, self.operation);
            let mut text: [c_char; 256] = [0; 256];
            sys::rd_kafka_AdminOptions_set_request_timeout(
                options,
                timeout_ms,
                text.as_mut_ptr(),
                text.len(),
            );
            let queue = sys::rd_kafka_queue_new(client);
            call(client, options, queue);
            let event = sys::rd_kafka_queue_poll(queue, timeout_ms);
            let answer = self.fault(event).map_or_else(|| read(event), Err);
            if !event.is_null() {
                sys::rd_kafka_event_destroy(event);
            }
            sys::rd_kafka_queue_destroy(queue);
            sys::rd_kafka_AdminOptions_destroy(options);
            answer
        }
    }

    /// # Safety
    /// `event` is null or live.
    unsafe fn fault(&self, event: *mut sys::rd_kafka_event_t) -> Option<LogError> {
        if event.is_null() {
            let what = format!("asking about {}", self.what);
            return Some(LogError::TimedOut { what, after_ms: self.timeout.as_millis() });
        }
        // SAFETY: the caller vouches for `event`; its text lives as long.
        unsafe {
            let code = sys::rd_kafka_event_error(event);
            (code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR)
                .then(|| fault(self.what, code, text(sys::rd_kafka_event_error_string(event))))
        }
    }
}

/// What an error says of something.
pub(super) fn fault(what: &str, code: sys::rd_kafka_resp_err_t, told: String) -> LogError {
    use RDKafkaErrorCode::{
        ClusterAuthorizationFailed, GroupAuthorizationFailed, TopicAuthorizationFailed,
    };
    let (what, source) = (what.to_owned(), told.into());
    match RDKafkaErrorCode::from(code) {
        ClusterAuthorizationFailed | GroupAuthorizationFailed | TopicAuthorizationFailed => {
            LogError::Refused { what, source }
        }
        _ => LogError::Unavailable { what, source },
    }
}

/// An error that librdkafka hands out, if it is one.
///
/// # Safety
/// `error` is null or live.
pub(super) unsafe fn error(what: &str, error: *const sys::rd_kafka_error_t) -> Option<LogError> {
    // SAFETY: the caller vouches for `error`; for null the code is that of no error.
    unsafe {
        let code = sys::rd_kafka_error_code(error);
        (code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR)
            .then(|| fault(what, code, text(sys::rd_kafka_error_string(error))))
    }
}

/// A text of librdkafka's; empty where there is none.
///
/// # Safety
/// `text` is null or a string that ends with a zero.
pub(super) unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller vouches for `text`.
    unsafe { CStr::from_ptr(text).to_string_lossy().into_owned() }
}

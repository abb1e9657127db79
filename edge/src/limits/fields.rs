//! `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10): structured fields,
//! one item per policy.
//!
//! A token bucket of `burst` tokens that fill at `rate` is the quota of `burst` requests in the time
//! that a bucket takes to fill.

use super::{Class, Rate, days::Left};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::{fmt::Write, time::Duration};

pub(crate) const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
pub(crate) const STATE: HeaderName = HeaderName::from_static("ratelimit");

/// Whole seconds, rounded up.
pub(super) fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// What a class's answers say of its policies.
#[derive(Debug)]
pub(super) struct Policy {
    class: Class,
    value: HeaderValue,
}

impl Policy {
    pub(super) fn new(class: Class, share: &Rate) -> Self {
        let name = class.name();
        let mut text = format!("\"{name}\";q={};w={}", share.burst, window_s(share));
        if let Some(quota) = share.per_day {
            let _ = write!(text, ", \"{name}-day\";q={quota};w=86400");
        }
        let value = HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""));
        Self { class, value }
    }
}

/// The time that a bucket takes to fill.
pub(super) fn window_s(rate: &Rate) -> u64 {
    let window = Duration::try_from_secs_f64(f64::from(rate.burst) / rate.rate);
    seconds(window.unwrap_or(Duration::MAX)).max(1)
}

/// What is left of a caller's limit after a request.
#[derive(Debug)]
pub(crate) struct Taken<'a> {
    policy: &'a Policy,
    left: u32,
    full_in: Duration,
    pub(super) day: Option<Left>,
}

impl<'a> Taken<'a> {
    pub(super) fn of(policy: &'a Policy, left: u32, full_in: Duration) -> Self {
        Self { policy, left, full_in, day: None }
    }

    /// Adds both fields to an answer.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        let name = self.policy.class.name();
        let mut text = String::with_capacity(64);
        let _ = write!(text, "\"{name}\";r={};t={}", self.left, seconds(self.full_in));
        if let Some(day) = self.day {
            let _ = write!(text, ", \"{name}-day\";r={};t={}", day.requests, day.reset_s);
        }
        if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(text)) {
            headers.insert(STATE, value);
        }
        headers.insert(POLICY, self.policy.value.clone());
    }
}

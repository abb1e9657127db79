//! Who took an instance's place in a consumer group.
//!
//! A broker fences a static member when another joins under its instance. That may be a second
//! process with the same setting, or an earlier request of the member's own that a broker answered
//! late. Brokers tell what the holder of a place joined with, so that carries a mark of its process.

use super::asker::{Asker, Member};
use crate::LogError;
use almanac_errors::{Cause, chain};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::{
    fmt,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use uuid::Uuid;

const PREFIX: &str = "almanac-process-";
/// How long a group may be between two assignments before it is given up to learn who is in it.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(200);

/// Marks a process among others of the same name: when it started, and a number of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ProcessMark {
    started_ms: u64,
    number: u32,
}

impl ProcessMark {
    pub(super) fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let started_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let (number, ..) = Uuid::new_v4().as_fields();
        Self { started_ms, number }
    }

    /// The mark in what a member joined with.
    fn within(metadata: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(metadata);
        let (_, mark) = text.split_once(PREFIX)?;
        Some(Self {
            started_ms: u64::from_str_radix(mark.get(..12)?, 16).ok()?,
            number: u32::from_str_radix(mark.get(13..21)?, 16).ok()?,
        })
    }
}

impl fmt::Display for ProcessMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{:012x}-{:08x}", self.started_ms, self.number)
    }
}

/// What follows from having been fenced. Of two processes with one instance, the one that started
/// later is refused: the other goes on, however often the later one is started again.
pub(super) fn judge(asker: &Asker, group: &str, instance: &str, process: &ProcessMark) -> LogError {
    let deadline = Instant::now() + PATIENCE;
    let holder = loop {
        let holder = match asker.members(group) {
            Ok(members) => match members.into_iter().find(|member| is_of(&member.id, instance)) {
                None => break None,
                // Between two assignments a coordinator does not tell what members joined with.
                Some(holder) => Some(holder).filter(|holder| !holder.metadata.is_empty()),
            },
            Err(error) => {
                tracing::debug!(group, error = %chain(&error), "it cannot be asked who has the place of a member");
                None
            }
        };
        if holder.is_some() || Instant::now() >= deadline {
            break holder;
        }
        std::thread::sleep(PAUSE);
    };
    judge_holder(holder.as_ref(), group, instance, process)
}

/// An error as a cause. librdkafka blames another consumer whenever a static member is fenced, also
/// where a broker answered this member's own earlier request late.
pub(super) fn cause(error: &KafkaError) -> Cause {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::FencedInstanceId) => "a later member has this one's place".into(),
        _ => error.clone().into(),
    }
}

/// Brokers make the id of a static member of its instance and a random UUID.
fn is_of(member_id: &str, instance: &str) -> bool {
    let unique = member_id.strip_prefix(instance).and_then(|rest| rest.strip_prefix('-'));
    unique.is_some_and(|unique| Uuid::try_parse(unique).is_ok())
}

fn judge_holder(
    holder: Option<&Member>,
    group: &str,
    instance: &str,
    process: &ProcessMark,
) -> LogError {
    let fenced = |words: String| {
        let transactional_id = group.to_owned();
        LogError::Fenced { transactional_id, source: words.into() }
    };
    let Some(holder) = holder else {
        return fenced(format!(
            "its membership as {instance} is over; the group does not tell who has its place"
        ));
    };
    match ProcessMark::within(&holder.metadata) {
        Some(other) if other == *process => fenced(format!(
            "a broker answered an earlier request of this same process, which is {instance}, late"
        )),
        Some(other) if other > *process => fenced(format!(
            "another process has the same `instance` ({instance}); it started later and is refused"
        )),
        _ => LogError::Refused {
            what: format!("joining consumer group {group} as {instance}"),
            source: "another process, which started earlier, is in it under that name; set `instance` to a name of its own for each process".into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Retry;

    fn mark(started_ms: u64, number: u32) -> ProcessMark {
        ProcessMark { started_ms, number }
    }

    fn judged(holder: Option<&str>, process: &ProcessMark) -> LogError {
        let member = holder.map(|mark| Member {
            id: format!("a-decider-{}", Uuid::new_v4()),
            // Topics and the like stand around it.
            metadata: [b"\0\x03\xff\0\x05input\0\x2a", mark.as_bytes(), b"\0"].concat(),
        });
        judge_holder(member.as_ref(), "almanac-decider", "a-decider", process)
    }

    #[test]
    fn the_later_of_two_processes_is_refused() {
        let (older, newer) = (mark(1_000, 7), mark(2_000, 3));
        let name = ProcessMark::to_string;
        let refused = judged(Some(&name(&older)), &newer);
        assert_eq!(refused.retry(), Retry::Never);
        let text = chain(&refused).to_string();
        assert!(text.contains("set `instance` to a name of its own"), "{text}");
        assert_eq!(judged(Some(&name(&newer)), &older).retry(), Retry::StartOver);
        // In the same millisecond one of the two is refused all the same.
        let twin = mark(1_000, 8);
        assert_eq!(judged(Some(&name(&older)), &twin).retry(), Retry::Never);
        assert_eq!(judged(Some(&name(&twin)), &older).retry(), Retry::StartOver);
        // A process that tells no mark was there first.
        assert_eq!(judged(Some("rack-7"), &newer).retry(), Retry::Never);
    }

    /// After a broker was away, an answer that comes late is nobody else's fault.
    #[test]
    fn a_process_does_not_blame_others_for_its_own_requests() {
        let process = mark(1_000, 7);
        let own = judged(Some(&process.to_string()), &process);
        assert_eq!(own.retry(), Retry::StartOver);
        assert!(chain(&own).to_string().contains("this same process"), "{own:?}");
        let unknown = judged(None, &process);
        assert_eq!(unknown.retry(), Retry::StartOver);
        let fenced = KafkaError::ConsumerCommit(RDKafkaErrorCode::FencedInstanceId);
        for told in [chain(&unknown).to_string(), chain(&*cause(&fenced)).to_string()] {
            assert!(!told.contains("other consumer"), "{told}");
        }
        assert!(is_of("a-decider-2b1f9a8e-1c1d-4c1a-9a59-5b1f6b8a7c11", "a-decider"));
        assert!(!is_of("a-decider-2b1f9a8e-1c1d-4c1a-9a59-5b1f6b8a7c11", "a"));
    }
}

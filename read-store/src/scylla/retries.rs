//! When the driver tries a request again.

use scylla::{
    errors::{DbError, RequestAttemptError},
    policies::retry::{DefaultRetryPolicy, RequestInfo, RetryDecision, RetryPolicy, RetrySession},
};

/// How often one request meets a server that forgot its statement, before that is an error.
const FORGOTTEN: u32 = 10;

/// The driver's default policy, and patience with servers that forget. The driver prepares a
/// forgotten statement again and executes it once more; Cassandra may have lost it again by then,
/// since preparing evicts what another connection prepared at the same time.
#[derive(Debug)]
pub(super) struct Patient;

impl RetryPolicy for Patient {
    fn new_session(&self) -> Box<dyn RetrySession> {
        Box::new(PatientSession { usual: DefaultRetryPolicy::new().new_session(), forgotten: 0 })
    }
}

struct PatientSession {
    usual: Box<dyn RetrySession>,
    forgotten: u32,
}

impl RetrySession for PatientSession {
    fn decide_should_retry(&mut self, request: RequestInfo) -> RetryDecision {
        let forgot =
            matches!(request.error, RequestAttemptError::DbError(DbError::Unprepared { .. }, _));
        if !forgot {
            return self.usual.decide_should_retry(request);
        }
        self.forgotten += 1;
        if self.forgotten < FORGOTTEN {
            RetryDecision::RetrySameTarget(None)
        } else {
            RetryDecision::DontRetry
        }
    }

    fn reset(&mut self) {
        self.usual.reset();
        self.forgotten = 0;
    }
}

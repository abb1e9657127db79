//! The log's own threads. One that panics takes the log with it: that is told, so that its process can
//! end and another recover.

use super::segment::io_error;
use crate::{LogError, LogResult};
use almanac_errors::chain;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    thread::JoinHandle,
};
use tokio::sync::watch;

/// The first thread that died, and why.
pub(super) type Death = watch::Sender<Option<LogError>>;

pub(super) fn spawn(
    name: &'static str,
    folder: &Path,
    death: &Death,
    work: impl FnOnce() + Send + 'static,
) -> LogResult<JoinHandle<()>> {
    let (death, of) = (death.clone(), folder.to_owned());
    let run = move || {
        let Err(panic) = catch_unwind(AssertUnwindSafe(work)) else { return };
        let message = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
            (Some(text), _) => (*text).to_owned(),
            (_, Some(text)) => text.clone(),
            _ => "no message".to_owned(),
        };
        let error = LogError::Died { thread: name, folder: of, message };
        tracing::error!(error = %chain(&error), "a thread of the log died");
        death.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert(error);
            is_first
        });
    };
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    spawned.map_err(io_error("start a thread for", folder))
}

/// Resolves once a thread has died.
pub(super) async fn died(death: &Death) -> LogError {
    match death.subscribe().wait_for(Option::is_some).await.map(|first| first.clone()) {
        Ok(Some(error)) => error,
        // The log keeps the sender.
        _ => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_thread_that_panics_is_told_and_one_that_ends_is_not() {
        let (death, folder) = (Death::new(None), Path::new("/data/log"));
        spawn("log-cleaner", folder, &death, || ()).unwrap().join().unwrap();
        assert!(death.borrow().is_none());
        let waiting = tokio::spawn({
            let death = death.clone();
            async move { died(&death).await }
        });
        spawn("log-writer", folder, &death, || panic!("index {} of 7", 9)).unwrap().join().unwrap();
        let error = waiting.await.unwrap().to_string();
        for part in ["log-writer", "/data/log", "index 9 of 7"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert_eq!(died(&death).await.to_string(), error, "who asks later learns it as well");
    }
}

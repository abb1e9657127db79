use super::*;
use almanac_errors::chain;
use std::{error::Error, io};

/// Whoever holds the role's error still learns what the disk said, and people read it once.
#[test]
fn a_failure_of_the_store_keeps_what_failed_below() {
    let full = io::Error::new(io::ErrorKind::StorageFull, "disk full");
    let (action, folder) = ("write", "/data".into());
    let stopped = StoreError::Stopped { action, folder, source: full.into() };
    let failed = RoleError::from(Failed::from(stopped));
    assert!(matches!(&failed, RoleError::Final(cause) if cause.is::<StoreError>()), "{failed:?}");
    let below = failed.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    assert_eq!(below.map(io::Error::kind), Some(io::ErrorKind::StorageFull));
    let told = chain(&failed).to_string();
    assert!(told.starts_with("cannot write the tables in /data"), "{told}");
    assert_eq!(told.matches("disk full").count(), 1, "{told}");
    assert_eq!((told, true), (failed.ending().why, failed.ending().is_final));
}

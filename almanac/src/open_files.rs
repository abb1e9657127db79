//! How many files and connections the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What stays free of connections: for tables, the log, and servers.
const RESERVED: u64 = 512;

/// Asks for as many as the system grants. What programs start with is often 1,024, for the sake of
/// those that cannot handle more; and who runs out of them can neither answer nor write.
pub(crate) fn raise() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// As many connections as are wanted, or for which there are files.
pub(crate) fn connections(wanted: usize) -> usize {
    let Some(open_files) = getrlimit(Resource::Nofile).current else { return wanted };
    let most = most_connections(open_files);
    if wanted > most {
        tracing::warn!(
            open_files,
            "http.max_connections is {wanted}, but the limit of open files leaves room for {most}"
        );
    }
    wanted.min(most)
}

pub(crate) fn most_connections(open_files: u64) -> usize {
    usize::try_from(open_files.saturating_sub(RESERVED).max(open_files / 2)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_to_everything_else() {
        assert_eq!(most_connections(20_000), 19_488);
        assert_eq!(most_connections(1_024), 512);
        assert_eq!(most_connections(256), 128);
    }

    #[test]
    fn the_limit_is_what_the_system_grants() {
        raise();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}

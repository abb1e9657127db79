//! Whose the files are: what is kept in `data_dir` (recipes with their writers' names, bodies of
//! providers, the key of tokens) is for this process's user alone.

use almanac_errors::chain;
use rustix::fs::Mode;
use std::{
    fs::{self, Permissions},
    io::ErrorKind,
    os::unix::fs::PermissionsExt,
    path::Path,
};

/// From here on, folders are made with 0700 and files with 0600, by whichever library.
pub(crate) fn by_default() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}

/// Earlier versions left the rights to the umask of whoever started them. Only what is ours is
/// changed: `data_dir` itself may be a folder that holds other things.
pub(crate) fn tighten(data_dir: &Path) {
    for name in ["log", "tables", "state", "identity.jwks.json"] {
        let path = data_dir.join(name);
        let changed = fs::metadata(&path).and_then(|found| {
            let mode = found.permissions().mode() & 0o777;
            match mode & 0o077 {
                0 => Ok(()),
                _ => fs::set_permissions(&path, Permissions::from_mode(mode & 0o700)),
            }
        });
        match changed {
            Err(error) if error.kind() != ErrorKind::NotFound => tracing::warn!(
                path = %path.display(), error = %chain(&error),
                "others on this machine can read this, and their rights cannot be taken away"
            ),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_earlier_versions_made_is_closed_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |name: &str| {
            fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777
        };
        let set = |name: &str, mode| {
            fs::set_permissions(folder.path().join(name), Permissions::from_mode(mode)).unwrap();
        };
        for name in ["log", "state", "notes"] {
            fs::create_dir(folder.path().join(name)).unwrap();
            set(name, 0o755);
        }
        fs::write(folder.path().join("identity.jwks.json"), "{}").unwrap();
        set("identity.jwks.json", 0o644);
        tighten(folder.path());
        assert_eq!([mode("log"), mode("state"), mode("identity.jwks.json")], [0o700, 0o700, 0o600]);
        assert_eq!(mode("notes"), 0o755, "what is not ours stays as it is");
        tighten(&folder.path().join("absent"));
    }
}

//! This machine: the folder for data, its disk, and files that may be open.

use super::Finding;
use crate::{config::Config, open_files};
use rustix::{
    fs::{Access, AtFlags, CWD, accessat, statvfs},
    process::{Resource, getrlimit},
};
use std::{fs, path::Path};

/// Below this, tables and local state may stop at any time; and where it begins to matter.
const LEAST_FREE: u64 = 512 << 20;
const LITTLE_FREE: u64 = 4 << 30;

pub(super) fn checks(config: &Config) -> Vec<Finding> {
    vec![folder(config), disk(config), files(config)]
}

/// The folder itself, or what it would be made in.
fn existing(folder: &Path) -> Option<&Path> {
    folder.ancestors().find(|one| fs::symlink_metadata(one).is_ok())
}

fn folder(config: &Config) -> Finding {
    let check = "data folder";
    let folder = match std::path::absolute(&config.data_dir) {
        Ok(folder) => folder,
        Err(error) => return Finding::fail(check, format!("data_dir is no path: {error}")),
    };
    let shown = folder.display();
    let Some(there) = existing(&folder) else {
        return Finding::fail(check, format!("nothing of {shown} is there"));
    };
    if !there.is_dir() {
        return Finding::fail(check, format!("{} is no folder", there.display()))
            .advise("set data_dir to a folder, or remove the file");
    }
    // What is in it may be of another user although the folder is not.
    let inside = fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let all = std::iter::once(there.to_owned()).chain(inside.filter(|path| path.is_dir()));
    for path in all {
        let wanted = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
        if let Err(error) = accessat(CWD, &path, wanted, AtFlags::EACCESS) {
            let error = std::io::Error::from(error);
            return Finding::fail(check, format!("{} cannot be used: {error}", path.display()))
                .advise(
                    "give it to the user that runs almanac (chown -R), or set data_dir to another",
                );
        }
    }
    if there == folder {
        return Finding::ok(check, format!("{shown} can be read and written"));
    }
    Finding::ok(check, format!("{shown} is not there yet, and can be made in {}", there.display()))
}

fn disk(config: &Config) -> Finding {
    let check = "disk";
    let folder = std::path::absolute(&config.data_dir).unwrap_or_default();
    let Some(there) = existing(&folder) else {
        return Finding::warn(check, "there is no folder to look at");
    };
    let room = match statvfs(there) {
        Ok(room) => room,
        Err(error) => {
            let error = std::io::Error::from(error);
            return Finding::warn(
                check,
                format!("room in {} is not known: {error}", there.display()),
            );
        }
    };
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    let found = format!("{:.1} GB are free for {}", free as f64 / 1e9, folder.display());
    match free {
        ..LEAST_FREE => Finding::fail(check, found)
            .advise("free some: writes are refused without")
            .runbook("docs/runbooks/disk-full.md"),
        LEAST_FREE..LITTLE_FREE => {
            Finding::warn(check, found).advise("watch it").runbook("docs/runbooks/disk-full.md")
        }
        _ => Finding::ok(check, found),
    }
}

/// The limit was raised at the start as far as the system grants.
fn files(config: &Config) -> Finding {
    let check = "open files";
    let Some(limit) = getrlimit(Resource::Nofile).current else {
        return Finding::ok(check, "may be as many as wanted");
    };
    let (wanted, most) = (config.http.max_connections, open_files::most_connections(limit));
    if wanted > most {
        let found = format!(
            "the limit of {limit} leaves room for {most} connections, of {wanted} in http.max_connections"
        );
        return Finding::warn(check, found).advise(
            "raise it (ulimit -Hn, LimitNOFILE of systemd), or lower http.max_connections",
        );
    }
    Finding::ok(check, format!("the limit is {limit}"))
}

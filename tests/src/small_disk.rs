//! A disk that can be made full.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// A file system of its own that can be made full.
pub struct SmallDisk {
    pub folder: PathBuf,
}

impl SmallDisk {
    pub fn mount(folder: &Path, megabytes: u64) -> Self {
        use std::os::unix::fs::MetadataExt;
        std::fs::create_dir_all(folder).unwrap();
        let own = std::fs::metadata(folder).unwrap();
        let options = format!("size={megabytes}m,mode=0700,uid={},gid={}", own.uid(), own.gid());
        let arguments = ["-t", "tmpfs", "-o", &options, "tmpfs"];
        let mounted = as_root("mount", |command| command.args(arguments).arg(folder));
        assert!(
            mounted,
            "cannot mount a small disk: this test needs root, or sudo without a password"
        );
        Self { folder: folder.to_owned() }
    }

    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }

    pub fn fill(&self) {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(self.filler());
        let error = std::io::copy(&mut std::io::repeat(1), &mut file.unwrap()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    }

    /// Leaves room for a page: one small write of somebody.
    pub fn leave_little(&self) {
        let file = std::fs::OpenOptions::new().write(true).open(self.filler()).unwrap();
        file.set_len(file.metadata().unwrap().len().saturating_sub(4_096)).unwrap();
    }

    pub fn free(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        as_root("umount", |command| command.arg("-l").arg(&self.folder));
    }
}

fn as_root(program: &str, arguments: impl Fn(&mut Command) -> &mut Command) -> bool {
    let succeeds = |command: &mut Command| command.status().is_ok_and(|status| status.success());
    succeeds(arguments(&mut Command::new(program)))
        || succeeds(arguments(Command::new("sudo").args(["-n", program])))
}

//! A time of day that jumps, for processes of tests.

use jiff::Timestamp;
use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

/// Less than a jump, and more than anybody waits.
const NEAR_S: i64 = 600;

/// Processes that are started with its variables have its time of day, and no other clock than before.
pub struct Clock {
    library: PathBuf,
    ahead: PathBuf,
}

impl Clock {
    /// One that goes right, with its files in this folder.
    pub fn new(folder: &Path) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/clock.c");
        let (library, ahead) = (folder.join("clock.so"), folder.join("clock"));
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O2", "-o"]).arg(&library).arg(source);
        let compiled = compiler.status().expect("cc, which `make check-tools` looks for");
        assert!(compiled.success(), "{compiler:?}: {compiled}");
        fs::write(&ahead, 0_i64.to_le_bytes()).unwrap();
        Self { library, ahead }
    }

    pub fn variables(&self) -> [(&'static str, &str); 2] {
        [
            ("LD_PRELOAD", self.library.to_str().unwrap()),
            ("ALMANAC_TEST_CLOCK", self.ahead.to_str().unwrap()),
        ]
    }

    /// Goes this many seconds ahead from now on, or behind, also for processes that run already.
    pub fn set(&self, ahead_s: i64) {
        // In place: it is mapped into memory.
        let file = fs::OpenOptions::new().write(true).open(&self.ahead).unwrap();
        file.write_all_at(&ahead_s.to_le_bytes(), 0).unwrap();
    }

    /// Whether somebody told this time of day just now, who has this clock.
    pub fn is_of(&self, told: Timestamp) -> bool {
        let ahead_s = i64::from_le_bytes(fs::read(&self.ahead).unwrap().try_into().unwrap());
        let difference = told.duration_since(Timestamp::now()).as_secs();
        (difference - ahead_s).abs() < NEAR_S
    }
}

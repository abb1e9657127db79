//! The embedded engine: one process, its folder, and a disk.

use super::{
    Kind, kind,
    rebuilds::killed_in_each_state,
    stage::{Ground, HOUR, NOTHING, Stage},
};
use almanac_tests::process::PATIENCE;
use futures::FutureExt;
use rand::RngExt;
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

pub(crate) const ROLES: &[&str] = &["up"];

pub(crate) const KINDS: [Kind; 7] = [
    kind("kill -9 of all roles", 4, 100, |stage, times| killed(stage, times).boxed()),
    kind("SIGSTOP", 1, 8, |stage, times| stopped(stage, times).boxed()),
    kind("torn last write", 2, 20, |stage, times| torn(stage, times).boxed()),
    kind("changed byte of the log", 2, 20, |stage, times| damaged(stage, times).boxed()),
    Kind {
        ground: Ground { clock: true, ..NOTHING },
        ..kind("jump of the clock", 4, 16, |stage, times| jumped(stage, times).boxed())
    },
    kind("kill -9 in each state of a rebuild", 1, 3, |stage, times| rebuilt(stage, times).boxed()),
    Kind {
        ground: Ground { small_disk: true, ..NOTHING },
        ..kind("full disk", 1, 6, |stage, times| full(stage, times).boxed())
    },
];

async fn killed(stage: &mut Stage, times: u64) {
    for number in 0..times {
        // Half of them while it starts.
        if number % 2 == 0 {
            stage.processes[0].ready().await;
        }
        stage.work(20..500).await;
        stage.kill_and_start(0);
    }
}

async fn stopped(stage: &mut Stage, times: u64) {
    for _ in 0..times {
        stage.processes[0].ready().await;
        stage.work(50..500).await;
        stage.processes[0].pause().await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        stage.processes[0].signal("CONT");
        stage.faults += 1;
    }
}

/// The newest file of the log.
fn segment(stage: &Stage) -> PathBuf {
    let folder = stage.installation.folder().join("up/log");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let logs = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.max().expect("a file of the log")
}

/// What a power failure leaves: the beginning of a frame that nobody was told of.
async fn torn(stage: &mut Stage, times: u64) {
    const HEADER: usize = 16;
    for _ in 0..times {
        stage.processes[0].ready().await;
        stage.work(50..500).await;
        stage.processes[0].kill_alive();
        let path = segment(stage);
        let bytes = fs::read(&path).unwrap();
        let payload = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
        let torn = stage.random.random_range(1..HEADER + payload);
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(&bytes[..torn]).unwrap();
        stage.start(0);
        stage.faults += 1;
    }
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x20;
    fs::write(path, bytes).unwrap();
}

/// A byte of what was acknowledged changes: the process names file and place, and serves nothing.
async fn damaged(stage: &mut Stage, times: u64) {
    for _ in 0..times {
        stage.processes[0].ready().await;
        stage.work(50..500).await;
        stage.processes[0].kill_alive();
        let path = segment(stage);
        let half = fs::metadata(&path).unwrap().len() as usize / 2;
        let at = stage.random.random_range(0..half);
        flip(&path, at);
        let before = stage.processes[0].log().len();
        stage.start(0);
        let deadline = Instant::now() + PATIENCE;
        while !stage.processes[0].has_ended() {
            assert!(Instant::now() < deadline, "it starts with byte {at} changed");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let log = stage.processes[0].log();
        let told = format!("log file {} is damaged at byte ", path.display());
        let named = log[before..].split(&told).nth(1).unwrap_or_else(|| panic!("{log}"));
        let digits: String = named.chars().take_while(char::is_ascii_digit).collect();
        assert!(digits.parse::<usize>().unwrap() <= at, "the frame of byte {at} is named: {named}");
        flip(&path, at);
        stage.start(0);
        stage.faults += 1;
    }
}

async fn full(stage: &mut Stage, times: u64) {
    for _ in 0..times {
        stage.processes[0].ready().await;
        stage.work(50..500).await;
        let before = stage.processes[0].log().len();
        let disk = stage.disk.as_ref().expect("a small disk");
        disk.fill();
        let deadline = Instant::now() + PATIENCE;
        while !stage.processes[0].has_ended()
            && !stage.processes[0].log()[before..].contains("No space left on device")
        {
            assert!(Instant::now() < deadline, "nobody says that the disk is full");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        disk.free();
        stage.faults += 1;
        // It may have ended by itself, or do so now.
        stage.processes[0].kill();
        stage.start(0);
    }
}

/// An hour ahead, back, an hour behind, back: in turn under a process that runs, and between two.
async fn jumped(stage: &mut Stage, times: u64) {
    for number in 0..times {
        stage.processes[0].ready().await;
        stage.work(50..500).await;
        let hours = [1, 0, -1, 0][number as usize % 4];
        let is_between_two = (number + number / 4) % 2 == 1;
        if is_between_two {
            stage.processes[0].kill_alive();
        }
        let clock = stage.clock.as_ref().expect("a clock");
        clock.set(hours * HOUR);
        if is_between_two {
            stage.start(0);
        }
        stage.goes_on().await;
        let clock = stage.clock.as_ref().expect("a clock");
        let at = stage.observed_at().await.expect("news of the feed");
        assert!(clock.is_of(at.parse().unwrap()), "{hours} h ahead, and the feed was read at {at}");
        stage.faults += 1;
    }
}

async fn rebuilt(stage: &mut Stage, times: u64) {
    for _ in 0..times {
        stage.processes[0].ready().await;
        stage.work(1_000..2_000).await;
        killed_in_each_state(stage, &[0]).await;
    }
}

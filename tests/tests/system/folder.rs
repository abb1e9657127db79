//! The folder of the embedded engine: one process at a time, and a disk that is full.

use super::observed;
use almanac_tests::{
    process::{Engine, Installation, binary},
    provider::{Provider, feed},
};
use axum::response::IntoResponse;
use std::{process::Command, time::Duration};

/// A second process on the same folder is refused with a clear message.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_is_refused() {
    let installation = Installation::new(Engine::Embedded);
    let _first = installation.up().await;
    let mut second = installation.start("up", "up");
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !second.has_ended() {
        assert!(std::time::Instant::now() < deadline, "the second process goes on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(second.log().contains("is in use by another process"), "{}", second.log());
}

/// Everything that is kept is for the user of the process alone, whatever the umask says.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_reads_the_folder() {
    let provider = Provider::start().await;
    provider.serve(feed(50, 1));
    let installation = Installation::new(Engine::Embedded).with_provider("p", &provider.url());
    let mut process = installation.up().await;
    observed(&process, "p", "unchanged").await;
    let body = almanac_tests::recipe("Soup", "SALT");
    let json = [("content-type", "application/json")];
    process.send("POST", "/v1/recipes", &json, body).await.unwrap();
    let mut count = 0;
    let mut folders = vec![installation.folder().join("up")];
    while let Some(folder) = folders.pop() {
        assert_eq!(mode(&folder), 0o700, "{}", folder.display());
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                // fjall may have removed one of its files meanwhile.
                false if !path.exists() => {}
                false => assert_eq!(mode(&path), 0o600, "{}", path.display()),
            }
            count += 1;
        }
    }
    assert!(count > 20, "{count} files and folders");
    assert!(process.stop().success());
}

fn mode(path: &std::path::Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// A disk that is full costs the writes that meet it, and nothing else. `ulimit -f` stands in for
/// a full disk: writes beyond it fail in the same way.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_nothing() {
    let provider = Provider::start().await;
    provider.serve(feed(50, 1));
    let installation = Installation::new(Engine::Embedded).with_provider("p", &provider.url());
    {
        let mut process = installation.up().await;
        observed(&process, "p", "unchanged").await;
        assert!(process.stop().success());
    }
    provider.answer(|number, _| feed(2_000, 10 + number).into_response());
    let config = installation.folder().join("up.toml");
    let script = "trap '' XFSZ; ulimit -f 1200; exec \"$0\" --config \"$1\" up";
    let log = std::fs::File::create(installation.folder().join("full.log")).unwrap();
    let mut limited = Command::new("bash")
        .args(["-c", script])
        .arg(binary())
        .arg(&config)
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    tokio::time::sleep(Duration::from_secs(6)).await;
    let full = std::fs::read_to_string(installation.folder().join("full.log")).unwrap();
    let still_there = limited.try_wait().unwrap().is_none();
    let _ = limited.kill();
    let _ = limited.wait();
    assert!(full.contains("cannot write"), "the log says what is wrong: {full}");
    assert!(still_there, "it goes on: {full}");

    provider.serve(feed(2_000, 7));
    let process = installation.up().await;
    // Twice: what the first says may not have reached the tables of every partition yet.
    observed(&process, "p", "unchanged").await;
    observed(&process, "p", "unchanged").await;
    almanac_tests::oracle::check_sequences(&process).await;
}

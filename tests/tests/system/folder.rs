//! The folder of the embedded engine: one process at a time, and a disk that is full.

use super::observed;
use almanac_tests::{
    process::{Engine, Installation, PATIENCE, binary},
    provider::{Provider, feed},
    small_disk::SmallDisk,
};
use axum::response::IntoResponse;
use reqwest::StatusCode;
use std::{collections::BTreeSet, process::Command, time::Duration};

/// A second process on the same folder is refused with a clear message.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_is_refused() {
    let installation = Installation::new(Engine::Embedded);
    let _first = installation.up().await;
    let mut second = installation.start("up", "up");
    let deadline = std::time::Instant::now() + PATIENCE;
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
    let told = || std::fs::read_to_string(installation.folder().join("full.log")).unwrap();
    let deadline = std::time::Instant::now() + PATIENCE;
    // It fetches again after the writes that failed: so it went on.
    let mut fetched = None;
    while fetched.is_none_or(|fetched| provider.requests() < fetched + 2)
        && limited.try_wait().unwrap().is_none()
        && std::time::Instant::now() < deadline
    {
        if fetched.is_none() && told().contains("cannot write") {
            fetched = Some(provider.requests());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let full = told();
    let still_there = limited.try_wait().unwrap().is_none();
    assert!(fetched.is_some_and(|fetched| provider.requests() >= fetched + 2), "it stops: {full}");
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

/// Fills the disk under this folder of `data_dir` while recipes are written, until the process ends.
/// What was acknowledged is there after a start with room, once.
async fn ends_and_loses_nothing(part: &str) {
    let installation = Installation::new(Engine::Embedded);
    let disk = SmallDisk::mount(&installation.folder().join("up").join(part), 64);
    let mut process = installation.up().await;
    let json = [("content-type", "application/json")];
    let (mut posted, mut made) = (BTreeSet::new(), BTreeSet::new());
    let deadline = std::time::Instant::now() + PATIENCE;
    let mut asked_at_the_end = 0;
    while !process.has_ended() {
        assert!(std::time::Instant::now() < deadline, "it goes on:\n{}", process.log());
        if process.log().contains("ending the process") {
            if let Ok(answer) = process.send("GET", "/readyz", &[], "").await {
                assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.body);
                asked_at_the_end += 1;
            }
            continue;
        }
        if posted.len() == 20 {
            disk.fill();
        }
        let name = format!("Soup {}", posted.len());
        posted.insert(name.clone());
        let body = almanac_tests::recipe(&name, "SALT");
        // It may end while it is asked.
        let Ok(answer) = process.send("POST", "/v1/recipes", &json, body).await else { continue };
        match answer.status {
            StatusCode::CREATED => drop(made.insert(name)),
            // The log has no room, or whoever decides has ended.
            StatusCode::ACCEPTED | StatusCode::SERVICE_UNAVAILABLE => disk.leave_little(),
            _ => panic!("{}", answer.body),
        }
    }
    println!("{part:?}: {} of {} made, {asked_at_the_end} asked", made.len(), posted.len());
    assert!(made.len() >= 20, "{made:?}");
    let log = process.log();
    let folder = disk.folder.display().to_string();
    let says = |line: &str| line.contains(&folder) && line.contains("No space left on device");
    assert!(log.lines().any(says), "{log}");
    let last = log.lines().last().unwrap_or_default();
    assert!(last.starts_with("almanac: ") && last.contains(&folder), "{last}");
    assert!(last.contains("until the process is started again"), "{last}");

    disk.free();
    let process = installation.up().await;
    let everything = || async {
        let (_, page) = process.get("/v1/recipes?limit=500").await;
        let items = page["items"].as_array()?;
        let found: BTreeSet<String> =
            items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect();
        assert_eq!(found.len(), items.len(), "each is there once");
        assert!(found.is_subset(&posted));
        found.is_superset(&made).then_some(())
    };
    process.until("all that was acknowledged", everything).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_on_a_full_disk_end_the_process() {
    ends_and_loses_nothing("tables").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn local_state_on_a_full_disk_ends_the_process() {
    ends_and_loses_nothing("state").await;
}

/// The log goes on; what it took then does not come to the tables.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_nothing_that_was_acknowledged() {
    ends_and_loses_nothing("").await;
}

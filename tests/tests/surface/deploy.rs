//! What operators are given (rules of alerts, dashboards, the check after a deployment) against the
//! real binary: it works, and every metric and label of Almanac that they name exists.

use crate::canary::Canary;
use almanac_tests::{
    process::{Engine, Installation},
    recipe, root,
};
use reqwest::StatusCode;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Counters that `/metrics` shows from their first event on, and where that is rare: their names and
/// labels are looked for where they are registered.
const RARE: [(&str, &str); 4] = [
    ("almanac_task_deaths_total", "processor/src/supervise.rs"),
    ("almanac_foreign_records_total", "processor/src/foreign.rs"),
    ("almanac_notification_attempts_total", "worker/src/notifications/metrics.rs"),
    ("almanac_purge_failing", "edge/src/purge.rs"),
];

fn files(folder: &str) -> Vec<(PathBuf, String)> {
    let folder = root().join(folder);
    let mut files: Vec<(PathBuf, String)> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read_to_string(path).unwrap().replace("\\\"", "\"")))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{}", folder.display());
    files
}

/// Words with this prefix, and what follows each.
fn words<'a>(text: &'a str, prefix: &str) -> Vec<(&'a str, &'a str)> {
    let part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':';
    let found = text.match_indices(prefix).map(|(at, _)| at);
    found
        .filter(|at| *at == 0 || !part(text.as_bytes()[at - 1]))
        .map(|at| {
            let rest = &text[at..];
            let length = rest.bytes().take_while(|byte| part(*byte)).count();
            rest.split_at(length)
        })
        .collect()
}

/// Names of the labels that a selector in braces asks for.
fn labels(after: &str) -> Vec<&str> {
    let Some(selector) = after.strip_prefix('{').and_then(|rest| rest.split_once('}')) else {
        return Vec::new();
    };
    let mut parts = selector.0.split('"');
    let mut names = Vec::new();
    while let Some(before) = parts.next() {
        let name = before.trim_start_matches(',').trim_end_matches(['=', '~', '!']).trim();
        names.extend((!name.is_empty()).then_some(name));
        parts.next();
    }
    names
}

/// Why this metric of Almanac is not what it is taken for, if so.
fn fault(metrics: &str, name: &str, labels: &[&str]) -> Option<String> {
    if let Some((_, file)) = RARE.iter().find(|(rare, _)| *rare == name) {
        let source = fs::read_to_string(root().join(file)).unwrap();
        let registered = format!("\"{}\"", name.trim_end_matches("_total"));
        let missing = |label: &&&str| !source.contains(&format!("    {label}: "));
        let known = source.contains(&registered) && !labels.iter().any(|label| missing(&label));
        return (!known).then(|| format!("{name} {labels:?} is not in {file}"));
    }
    let samples: Vec<&str> = metrics
        .lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
        .collect();
    let missing = labels.iter().find(|label| {
        let label = format!("{label}=\"");
        !samples.iter().any(|sample| sample.contains(&label))
    });
    match (samples.is_empty(), missing) {
        (true, _) => Some(format!("{name} does not exist")),
        (false, Some(label)) => Some(format!("{name} has no label {label}")),
        (false, None) => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_and_dashboards_name_what_exists() {
    let installation = Installation::new(Engine::Embedded).with_demo();
    let process = installation.up().await;
    let check = |url: String| {
        let mut command = Command::new(root().join("deploy/smoke.sh"));
        tokio::task::spawn_blocking(move || command.arg(url).output().unwrap())
    };
    let smoke = check(process.url("")).await.unwrap();
    assert!(smoke.status.success(), "{smoke:?}");
    assert!(String::from_utf8_lossy(&smoke.stdout).contains("ok     its windows"), "{smoke:?}");

    // A forecast of a service, for its metrics.
    let schedule = root().join("docs/examples/schedule.json").display().to_string();
    let analysed = installation.command("up", &["analyse", &schedule]);
    assert!(analysed.status.success(), "{analysed:?}");
    let written = process.send("POST", "/v1/recipes", &[], recipe("deployed", "salt")).await;
    assert_eq!(written.unwrap().status, StatusCode::CREATED);

    let canary = Canary::of(&process);

    let texts = [files("deploy/prometheus/rules"), files("deploy/grafana/dashboards")].concat();
    let named: BTreeSet<(&Path, &str, Vec<&str>)> = texts
        .iter()
        .flat_map(|(path, text)| words(text, "almanac_").into_iter().map(move |word| (path, word)))
        .map(|(path, (name, after))| (path.as_path(), name, labels(after)))
        .collect();
    assert!(named.len() > 50, "{named:?}");
    // What counts fetches and folded events appears with the first of them.
    process
        .until("all metrics", || async {
            let mut metrics = client_metrics(process.url("/metrics")).await;
            metrics += &canary.metrics().await?;
            let faults: Vec<String> = named
                .iter()
                .filter_map(|(path, name, labels)| {
                    Some(format!("{}: {}", path.display(), fault(&metrics, name, labels)?))
                })
                .collect();
            if !faults.is_empty() {
                eprintln!("{faults:#?}");
            }
            faults.is_empty().then_some(())
        })
        .await;

    let recorded = &texts.iter().find(|(path, _)| path.ends_with("recording.yaml")).unwrap().1;
    for (path, text) in &texts {
        for (name, _) in words(text, "almanac:") {
            let record = format!("record: {name}\n");
            assert!(recorded.contains(&record), "{}: {name} is not recorded", path.display());
        }
    }
}

async fn client_metrics(url: String) -> String {
    almanac_tests::process::client().get(url).send().await.unwrap().text().await.unwrap()
}

/// Every alert has a runbook, a person at night can start from the index, and links lead somewhere.
#[test]
fn every_alert_has_a_runbook() {
    let mut alerts = 0;
    for (path, text) in files("deploy/prometheus/rules") {
        for rule in text.split("- alert: ").skip(1) {
            alerts += 1;
            let name = rule.lines().next().unwrap();
            let runbook = rule.split_once("runbook_url: ").map(|(_, rest)| rest);
            let runbook = runbook.and_then(|rest| rest.lines().next()).expect(name);
            let text = fs::read_to_string(root().join(runbook)).expect(runbook);
            assert!(text.contains(name), "{runbook} does not name {name} of {}", path.display());
        }
    }
    assert!(alerts > 30, "{alerts}");
    let index = fs::read_to_string(root().join("docs/runbooks/README.md")).unwrap();
    let pages = files("docs/runbooks");
    for (path, text) in &pages {
        let name = path.file_name().unwrap().to_str().unwrap();
        let linked = |text: &str| text.contains(&format!("({name})"));
        let reached = linked(&index) || pages.iter().any(|(_, other)| linked(other));
        assert!(name == "README.md" || reached, "{name} is not linked from anywhere");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            let there = link.is_empty() || root().join("docs/runbooks").join(link).exists();
            assert!(there, "{name} links to {link}");
        }
    }
}

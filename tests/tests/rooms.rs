//! What the rooms of the tree may know. A context's or a projection's name stands in its own files; where
//! another file needs it, this list says why. And what a page says of the tests is held against them.

use std::{collections::BTreeMap, path::Path, process::Command};

/// Files of a calendar of its own: there, its name is the subject.
const OWN: &[&str] = &[
    "domain/src/plans/",
    "domain/src/recipes/",
    "schemas/src/plans.rs",
    "schemas/src/recipes.rs",
    "schemas/src/json/recipes.rs",
    "schemas/src/json/schema_org/",
    "schemas/src/json/thumbnail.rs",
    "ingestor/src/",
    "command-api/src/contexts/recipes",
    "command-api/src/picture/",
    "tables/src/plans/",
    "tables/src/recipes/",
    "projector/src/plans/",
    "projector/src/recipes.rs",
    "query-api/src/search/",
    "query-api/src/v1/plans/",
    "query-api/src/v1/recipes/",
    "almanac/src/client/plans.rs",
    "almanac/src/client/recipes",
    "almanac/src/client/show/plan.rs",
    "almanac/src/client/show/recipe.rs",
    "almanac/src/demo",
];

/// Elsewhere, with the reason.
const ALLOWED: &[(&str, &str)] = &[
    ("domain/src/lib.rs", "lists the modules"),
    ("schemas/src/lib.rs", "lists the modules"),
    ("schemas/src/json/mod.rs", "lists the modules"),
    ("schemas/src/files.rs", "lists every schema"),
    ("schemas/src/token.rs", "tokens of recipes name no context: they are older than contexts"),
    ("schemas/src/commands.rs", "replies of recipes name no context: they are older than contexts"),
    ("schemas/src/fuzzed.rs", "reads what strangers may write of every calendar"),
    ("command-api/src/contexts/mod.rs", "lists the contexts"),
    ("tables/src/lib.rs", "lists the modules"),
    ("projector/src/lib.rs", "lists the projections"),
    ("query-api/src/models.rs", "lists the read models"),
    ("query-api/src/v1/mod.rs", "lists the modules"),
    ("tables/src/organizers.rs", "what an organizer has are plans"),
    ("projector/src/organizers.rs", "what an organizer has are plans"),
    ("query-api/src/v1/organizers/", "what an organizer has are plans"),
    ("almanac/src/main.rs", "lists the commands"),
    ("almanac/src/client/mod.rs", "lists the commands"),
    ("almanac/src/client/show.rs", "lists what is shown"),
    ("almanac/src/client/canary/probes.rs", "tries what users of the first two calendars do"),
    ("schemas/src/ingest.rs", "what an owner remembers of a feed"),
    ("almanac/src/up.rs", "shows a newcomer the first addresses"),
    ("schemas/src/notifications/mod.rs", "lists the topics that subscribers are told of"),
    ("edge/src/caching.rs", "the one table of what caches may keep of each address"),
    ("edge/src/surrogates.rs", "the one list of what shared caches keep answers about"),
    ("edge/src/identity.rs", "lists the scopes"),
];

fn is_of(file: &str, places: impl IntoIterator<Item = &'static str>) -> bool {
    places.into_iter().any(|place| file.starts_with(place))
}

/// Lines of code that name plans or recipes; comments may tell of them, and tests use them.
fn naming(text: &str) -> Vec<String> {
    // Behind a module of tests there is nothing; behind one that is a file of its own there may be.
    let is_here = |at: &usize| text[*at..].lines().nth(1).is_some_and(|line| line.ends_with('{'));
    let tests = text.match_indices("#[cfg(test)]\nmod ").map(|(at, _)| at).find(is_here);
    let code = &text[..tests.unwrap_or(text.len())];
    let names = |line: &&str| {
        let code = line.split("//").next().unwrap_or_default();
        let words = code.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        words.flat_map(|word| word.split('_')).any(|word| {
            let word = word.to_ascii_lowercase();
            word == "recipes" || word == "plans"
        })
    };
    code.lines().filter(names).map(str::to_owned).collect()
}

/// The product's files with their texts, without tests.
fn sources() -> Vec<(String, String)> {
    let root = almanac_tests::root();
    let listed = Command::new("git").current_dir(root).args(["ls-files", "*/src/*.rs"]).output();
    let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
    assert!(listed.lines().count() > 100, "the files of the repository are not listed");
    let of_the_product = listed.lines().filter(|file| !file.contains("test"));
    let read = |file: &str| {
        let text = std::fs::read_to_string(Path::new(root).join(file)).ok()?;
        Some((file.to_owned(), text))
    };
    of_the_product.filter_map(read).collect()
}

/// A log line that lacks the causes of an error lacks what would help (ADR 0067).
#[test]
fn errors_are_logged_with_their_causes() {
    let bare = |(file, text): &(String, String)| {
        let lines = text.lines().filter(|line| line.contains("%error") || line.contains("?error"));
        lines.map(|line| format!("{file}: {}", line.trim())).collect::<Vec<_>>()
    };
    let found: Vec<_> = sources().iter().flat_map(bare).collect();
    assert!(found.is_empty(), "these log an error without `chain`: {found:#?}");
}

#[test]
fn calendars_are_named_in_their_own_rooms_only() {
    let mut found = BTreeMap::new();
    for (file, text) in sources() {
        let lines = naming(&text);
        if !is_of(&file, OWN.iter().copied()) && !lines.is_empty() {
            found.insert(file, lines);
        }
    }
    let unreasoned: Vec<_> = found
        .iter()
        .filter(|(file, _)| !is_of(file, ALLOWED.iter().map(|(file, _)| *file)))
        .collect();
    assert!(unreasoned.is_empty(), "these name a calendar without a reason: {unreasoned:#?}");
    let needless: Vec<_> = ALLOWED
        .iter()
        .filter(|(file, _)| !found.keys().any(|known| known.starts_with(file)))
        .collect();
    assert!(needless.is_empty(), "these name no calendar any more: {needless:?}");
}

/// Every test that the threat model names exists, and it says of no threat that nothing shows.
#[test]
fn the_threat_model_names_tests_that_exist() {
    let root = almanac_tests::root();
    let page = std::fs::read_to_string(root.join("docs/threat-model.md")).unwrap();
    let is_there = |file: &str, name: &str| {
        let text = std::fs::read_to_string(root.join(file)).unwrap_or_default();
        match file.ends_with(".sh") {
            true => text.lines().any(|line| line.starts_with(&format!("{name}() {{"))),
            false => {
                let (before, _) = text.split_once(&format!("fn {name}(")).unwrap_or_default();
                let attributes = before.trim_end().trim_end_matches("async").lines().rev();
                let mut attributes = attributes.map(str::trim).filter(|line| !line.is_empty());
                let last = attributes.find(|line| !line.starts_with("#[expect"));
                last.is_some_and(|line| {
                    line.starts_with("#[test]") || line.starts_with("#[tokio::test")
                })
            }
        }
    };
    let mut named = 0;
    for line in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| |")) {
        let tests = line.rsplit('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2);
        let tests: Vec<&str> = tests.collect();
        assert!(!tests.is_empty(), "nothing shows what stands against this: {line}");
        for test in tests {
            let (file, name) = test.split_once("::").unwrap_or((test, ""));
            assert!(is_there(file, name), "{test} does not exist, and the threat model names it");
            named += 1;
        }
    }
    assert!(named > 80, "{named} tests are named");
}

/// `make test` optimizes a crate that is not listed as if it were a dependency, twice.
#[test]
fn the_quick_profile_lists_every_crate() {
    let manifest = std::fs::read_to_string(almanac_tests::root().join("Cargo.toml")).unwrap();
    let (_, members) = manifest.split_once("members = [").unwrap();
    let (members, _) = members.split_once(']').unwrap();
    let folders = members.split(',').map(|member| member.trim().trim_matches('"'));
    let names = folders.filter(|folder| !folder.is_empty()).map(|folder| match folder {
        "almanac" => folder.to_owned(),
        part => format!("almanac-{part}"),
    });
    let listed = manifest.lines().filter_map(|line| {
        line.strip_prefix("[profile.quick.package.")?.strip_suffix(']').map(str::to_owned)
    });
    assert_eq!(listed.collect::<Vec<_>>(), names.collect::<Vec<_>>());
}

/// What `tests/run.py` makes of a run whose tests fail once, twice, too often, or not at all to their end.
#[test]
fn what_fails_is_run_once_more() {
    let folder = tempfile::tempdir().unwrap();
    let cargo = folder.path().join("cargo");
    // Stands for cargo: `$FAILING` fails in the first run, `$TWICE` in the second as well.
    let script = r#"#!/bin/sh
echo "     Running tests/some.rs (target/quick/deps/some-1)" >&2
case "$*" in *--no-fail-fast*) failing=$FAILING ;; *) failing=$TWICE; echo "again: $*" ;; esac
for name in one two three four; do
  case " $failing " in *" $name "*) echo "test $name ... FAILED" ;; *) echo "test $name ... ok" ;; esac
done
[ -z "$KILLED" ] || { echo 'error: test failed, to rerun pass `-p almanac-tests --test some`' >&2; exit 101; }
[ -n "$failing" ] || { echo "test result: ok. 4 passed; 0 failed; 0 ignored"; exit 0; }
echo "test result: FAILED. 3 passed; 1 failed; 0 ignored"
echo 'error: test failed, to rerun pass `-p almanac-tests --test some`' >&2
exit 101
"#;
    std::fs::write(&cargo, script).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&cargo, executable).unwrap();
    let run = |failing: &str, twice: &str, killed: &str| {
        let mut command = Command::new(almanac_tests::root().join("tests/run.py"));
        let command = command.args(["--profile", "quick"]).env("CARGO", &cargo);
        let command = command.env("FAILING", failing).env("TWICE", twice).env("KILLED", killed);
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(run("", "", "").0, 0);
    let (status, told) = run("two three", "", "");
    let second = "again: test --profile quick --workspace --test some -- --exact --test-threads=1";
    assert!(told.contains(&format!("{second} two three")), "{told}");
    assert!(status == 0 && told.ends_with("passed the second time only: two, three\n"), "{told}");
    let (status, told) = run("two", "two", "");
    assert!(status == 1 && told.ends_with("failed twice: two\n"), "{told}");
    let (status, told) = run("one two three four", "", "");
    assert!(status == 1 && told.ends_with("more than 3 tests are unstable\n"), "{told}");
    let (status, told) = run("two", "", "killed");
    assert!(status == 101 && told.ends_with("tests did not run to their end\n"), "{told}");
}

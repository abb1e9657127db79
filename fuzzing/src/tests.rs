use crate::{random::*, *};
use std::{collections::HashMap, fs, panic::AssertUnwindSafe};

/// Of the stored inputs: in one file, of one target, and all together.
const MOST_BYTES: [usize; 3] = [16 << 10, 60 << 10, 1 << 20];
const MOST_FILES: usize = 60;

#[test]
fn seeds_are_reached_and_edited() {
    let seeds = ["first", "second"];
    assert_eq!(edited(&seeds, &[0]), b"first");
    assert_eq!(edited(&seeds, &[1]), b"second");
    assert_eq!(edited(&seeds, b"\x02bytes"), b"bytes");
    assert_eq!(edited(&seeds, &[0, 0, 0, 0, 0, b'w']), b"wirst");
    assert_eq!(edited(&seeds, &[0, 0, 128, 1, 0, b'-']), b"fir-st");
    assert_eq!(edited(&seeds, &[0, 0, 0, 2, 3, 0]), b"st");
    assert_eq!(edited(&seeds, &[0, 0, 0, 5, 9, 1]), b"second");
    let mut reached = 0_usize;
    let owned = seeds.map(|seed| seed.as_bytes().to_vec()).to_vec();
    run(owned, Vec::new(), |bytes| reached += usize::from(bytes.len() > 6));
    assert!(reached > 0);
    let long = [&[0][..], &[0, 0, 3, 255, 255].repeat(50)].concat();
    assert_eq!(edited(&seeds, &long).len(), LONGEST);
}

/// Each as it is, and first; what fails is named.
#[test]
fn stored_inputs_are_run() {
    let folder = tempfile::tempdir().unwrap();
    assert!(stored(&folder.path().join("none")).is_empty());
    for name in ["two", "one"] {
        fs::write(folder.path().join(name), name).unwrap();
    }
    let mut seen = Vec::new();
    run(Vec::new(), stored(folder.path()), |bytes| seen.push(bytes.to_vec()));
    assert_eq!(seen[..2], [b"one", b"two"]);
    let edits = seen[2..].iter().filter(|bytes| bytes.starts_with(b"one") && bytes.len() > 3);
    assert!(edits.count() > 0, "they are edited, too");

    let fail = || run(Vec::new(), stored(folder.path()), |bytes| assert_ne!(bytes, b"two"));
    let failure = std::panic::catch_unwind(AssertUnwindSafe(fail)).unwrap_err();
    let message = failure.downcast_ref::<String>().unwrap();
    let file = folder.path().join("two");
    assert_eq!(message, &format!("a stored input fails: {}", file.display()));
}

/// `make fuzz` runs what is listed: every call of `fuzz`, under its own name, in the test that holds it.
#[test]
fn every_target_is_listed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut calls: HashMap<String, [String; 3]> = HashMap::new();
    for member in fs::read_dir(root).unwrap().map(|entry| entry.unwrap()) {
        let name = member.file_name().into_string().unwrap();
        if name == "fuzzing" || !member.path().join("Cargo.toml").exists() {
            continue;
        }
        for folder in ["src", "tests"] {
            let mut waiting = vec![member.path().join(folder)];
            while let Some(path) = waiting.pop() {
                if path.is_dir() {
                    waiting.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let package = format!("almanac-{name}");
                    let file = path.file_stem().unwrap().to_str().unwrap();
                    let program = if folder == "src" { "lib" } else { file };
                    for (target, test) in called(&fs::read_to_string(&path).unwrap()) {
                        let place = [package.clone(), program.to_owned(), test];
                        let before = calls.insert(target.clone(), place);
                        assert!(before.is_none(), "{target} is fuzzed twice");
                    }
                }
            }
        }
    }
    for [name, package, program, test] in targets() {
        let found =
            calls.remove(name).unwrap_or_else(|| panic!("{name} is listed, but not fuzzed"));
        let last = test.rsplit("::").next().unwrap();
        assert_eq!(found, [package, program, last], "{name} is listed elsewhere");
    }
    assert!(calls.is_empty(), "not listed in fuzzing/targets: {calls:?}");
}

/// The names that a file's calls of `fuzz` give, and the functions that they are in.
fn called(source: &str) -> Vec<(String, String)> {
    let calls = source.match_indices("fuzz(").filter_map(|(at, call)| {
        let (name, _) =
            source[at + call.len()..].trim_start().strip_prefix('"')?.split_once('"')?;
        let (_, function) = source[..at].rsplit_once("fn ")?;
        Some((name.to_owned(), function.split_once('(')?.0.to_owned()))
    });
    calls.collect()
}

/// Everyone who clones the repository gets them, and every run of the tests runs them.
#[test]
fn the_corpus_is_small() {
    let mut all = 0;
    for [name, ..] in targets() {
        assert!(!stored(&corpus().join(name)).is_empty(), "nothing is stored for {name}");
    }
    for folder in fs::read_dir(corpus()).unwrap().map(|entry| entry.unwrap()) {
        let name = folder.file_name().into_string().unwrap();
        assert!(targets().any(|[listed, ..]| listed == name), "{name} is no target");
        let files = stored(&folder.path());
        let longest = files.iter().map(|stored| stored.bytes.len()).max().unwrap_or(0);
        let bytes: usize = files.iter().map(|stored| stored.bytes.len()).sum();
        all += bytes;
        assert!(files.len() <= MOST_FILES, "{name}: {} files", files.len());
        assert!(longest <= MOST_BYTES[0], "{name}: a file of {longest} bytes");
        assert!(bytes <= MOST_BYTES[1], "{name}: {bytes} bytes");
    }
    assert!(all <= MOST_BYTES[2], "{all} bytes");
}

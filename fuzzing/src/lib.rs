//! Bytes from outside, as tests make them up: real inputs, stored ones, and edits of both. With the feature `guided`,
//! libFuzzer makes them up, guided by what they reach (`make fuzz`).

#[cfg(feature = "guided")]
mod guided;
#[cfg(any(test, not(feature = "guided")))]
mod random;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

/// Of an input that edits may make longer.
const LONGEST: usize = 64 << 10;
/// A name, a package, a program of tests and a test: one target a line.
const TARGETS: &str = include_str!("../targets");

/// Gives a test every input that is stored for its `name`; then one of `seeds` with edits, or bytes alone, a
/// thousand times, or as often as `PROPTEST_CASES` says, and as often one of `seeds` or of what is stored. What
/// makes it panic is made as short as possible and shown.
///
/// With the feature `guided` the test runs under libFuzzer instead, and the process ends with it.
pub fn fuzz<S: AsRef<[u8]>>(name: &str, seeds: impl Into<Vec<S>>, test: impl FnMut(&[u8])) {
    assert!(
        targets().any(|[listed, ..]| listed == name),
        "{name} is missing in fuzzing/targets, where `make fuzz` finds what to run"
    );
    let seeds = seeds.into().iter().map(|seed| seed.as_ref().to_vec()).collect();
    let corpus = corpus().join(name);
    #[cfg(feature = "guided")]
    guided::run(name, seeds, &corpus, test);
    #[cfg(not(feature = "guided"))]
    random::run(seeds, random::stored(&corpus), test);
}

fn targets() -> impl Iterator<Item = [&'static str; 4]> {
    TARGETS.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.try_into().unwrap_or_else(|_| panic!("fuzzing/targets: {line:?} is not four words"))
    })
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

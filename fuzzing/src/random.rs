//! Random bytes fail at the first check of most formats. So what `proptest` makes up is read as a choice of
//! a real input and a list of edits to it.

use crate::LONGEST;
use proptest::{
    arbitrary::any,
    collection::vec,
    test_runner::{Config, TestCaseError, TestRunner},
};
use std::{
    cell::RefCell,
    fs,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
};

/// Of what is read as edits.
const LONGEST_INPUT: usize = 256;
/// What parsers tend to take wrongly.
const TOKENS: [&[u8]; 16] = [
    b"\0",
    b"\xff\xff\xff\xff",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    b"99999999999999999999999",
    b"-1",
    b"1e400",
    b"\xef\xbb\xbf",
    b"\xc3\x28",
    b"\"",
    b"<![CDATA[",
    b"&#x110000;",
    b"]]>",
    b"{\"",
    b"[[[[[[[[",
    b"%00",
    b"\r\n\r\n",
];

/// A stored input and the file that holds it.
pub(crate) struct Stored {
    pub(crate) file: PathBuf,
    pub(crate) bytes: Vec<u8>,
}

/// What a folder holds, in one order everywhere. Nothing, where there is none.
pub(crate) fn stored(folder: &Path) -> Vec<Stored> {
    if !folder.exists() {
        return Vec::new();
    }
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |file: PathBuf| {
        let bytes = fs::read(&file).unwrap_or_else(|error| panic!("{file:?}: {error}"));
        Stored { file, bytes }
    };
    files.into_iter().map(read).collect()
}

/// What is stored, then edits of the seeds alone, of which stored inputs are too many to leave much, and edits of
/// all there is.
pub(crate) fn run(mut seeds: Vec<Vec<u8>>, stored: Vec<Stored>, mut test: impl FnMut(&[u8])) {
    for Stored { file, bytes } in &stored {
        if std::panic::catch_unwind(AssertUnwindSafe(|| test(bytes))).is_err() {
            panic!("a stored input fails: {}", file.display());
        }
    }
    run_edits(&seeds, &mut test);
    if !stored.is_empty() {
        seeds.extend(stored.into_iter().map(|stored| stored.bytes));
        run_edits(&seeds, &mut test);
    }
}

fn run_edits(seeds: &[Vec<u8>], test: &mut impl FnMut(&[u8])) {
    let test = RefCell::new(test);
    let cases = match std::env::var_os("PROPTEST_CASES") {
        Some(_) => Config::default().cases,
        None => 1_000,
    };
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let inputs = vec(any::<u8>(), 0..LONGEST_INPUT);
    let outcome = TestRunner::new(config).run(&inputs, |input| {
        let bytes = edited(seeds, &input);
        let mut test = test.borrow_mut();
        // What a test keeps is not looked at again but to make the input shorter.
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| test(&bytes)));
        outcome.map_err(|_| TestCaseError::fail(format!("{:?}", String::from_utf8_lossy(&bytes))))
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

/// What `input` says of `seeds`: the first byte chooses, and five bytes each are an edit.
pub(crate) fn edited<S: AsRef<[u8]>>(seeds: &[S], input: &[u8]) -> Vec<u8> {
    let Some((choice, edits)) = input.split_first() else { return Vec::new() };
    let Some(seed) = seeds.get(usize::from(*choice) % (seeds.len() + 1)) else {
        return edits.to_vec();
    };
    let mut bytes = seed.as_ref().to_vec();
    for edit in edits.chunks_exact(5) {
        let place = usize::from(u16::from_le_bytes([edit[0], edit[1]]));
        let at = place * (bytes.len() + 1) / (1 << 16);
        let (kind, length, value) = (edit[2], usize::from(edit[3]), edit[4]);
        let end = (at + length).min(bytes.len());
        match kind % 6 {
            0 if at < bytes.len() => bytes[at] = value,
            1 => bytes.insert(at, value),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let again = bytes[at..end].repeat(1 + usize::from(value) % 64);
                bytes.splice(at..at, again);
            }
            4 => {
                let token = TOKENS[usize::from(value) % TOKENS.len()];
                bytes.splice(at..at, token.iter().copied());
            }
            _ => {
                let other = seeds[usize::from(value) % seeds.len()].as_ref();
                let from = place.min(other.len());
                let part = &other[from..(from + length).min(other.len())];
                bytes.splice(at..end, part.iter().copied());
            }
        }
        bytes.truncate(LONGEST);
    }
    bytes
}

//! Bytes from outside, as tests make them up: real inputs with edits, or bytes alone.
//!
//! Random bytes fail at the first check of most formats. So what `proptest` makes up is read as a choice of
//! a real input and a list of edits to it.

use proptest::{
    arbitrary::any,
    collection::vec,
    test_runner::{Config, TestCaseError, TestRunner},
};
use std::{cell::RefCell, panic::AssertUnwindSafe};

/// Of what is read as edits.
const LONGEST_INPUT: usize = 256;
/// Of an input that edits may make longer.
const LONGEST: usize = 64 << 10;
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

/// Gives a test one of some seeds with edits, or bytes alone, a thousand times, or as often as
/// `PROPTEST_CASES` says. What makes it panic is made as short as possible and shown.
pub fn fuzz<S: AsRef<[u8]>>(seeds: impl Into<Vec<S>>, test: impl FnMut(&[u8])) {
    let (seeds, test) = (seeds.into(), RefCell::new(test));
    let cases = match std::env::var_os("PROPTEST_CASES") {
        Some(_) => Config::default().cases,
        None => 1_000,
    };
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let inputs = vec(any::<u8>(), 0..LONGEST_INPUT);
    let outcome = TestRunner::new(config).run(&inputs, |input| {
        let bytes = edited(&seeds, &input);
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
pub fn edited<S: AsRef<[u8]>>(seeds: &[S], input: &[u8]) -> Vec<u8> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
        fuzz(seeds, |bytes| reached += usize::from(bytes.len() > 6));
        assert!(reached > 0);
        let long = [&[0][..], &[0, 0, 3, 255, 255].repeat(50)].concat();
        assert_eq!(edited(&seeds, &long).len(), LONGEST);
    }
}

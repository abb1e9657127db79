//! Table `recipe_vocabulary`: the words that recipes are written in, so that what is in use is told
//! without looking at every recipe.
//!
//! A row says what the newest event of one source partition about a word did: take it up, or drop
//! it. Where it was taken up it is in use, since nothing has dropped it there since. Where all
//! partitions dropped it last, others may still have it: only then the question's table is asked.

use super::Question;
use sha2::{Digest, Sha256};

/// Partitions of a kind's words. A row has about a hundred bytes: this keeps them below 100 MB up to
/// some millions of words.
const BUCKETS: u8 = 8;
/// Between a word and the source partition. Folded text has none, and whatever goes on with another
/// character sorts behind it.
const SEPARATOR: char = '\t';

const TAKEN_UP: &str = "{\"in_use\":true}";
const DROPPED: &str = "{\"in_use\":false}";

/// The kind of a question's words, where these are published.
fn kind_of(question: Question) -> Option<&'static str> {
    Question::PUBLISHED.iter().find(|(one, _)| *one == question).map(|(_, kind)| *kind)
}

fn partition_of(kind: &str, word: &str) -> String {
    format!("{kind}/{}", Sha256::digest(word)[0] % BUCKETS)
}

/// All partitions of a kind.
pub fn partitions(kind: &str) -> impl Iterator<Item = String> {
    (0..BUCKETS).map(move |bucket| format!("{kind}/{bucket}"))
}

/// The word of a row, and whether the row says that it is in use.
pub fn read(clustering: &str, body: &[u8]) -> Option<(String, bool)> {
    let (word, _) = clustering.rsplit_once(SEPARATOR)?;
    Some((word.to_owned(), body == TAKEN_UP.as_bytes()))
}

/// Partition, clustering key and body of the row that tells what the newest event of a source
/// partition did to a word.
pub fn row(
    kind: &str,
    word: &str,
    source_partition: u32,
    is_taken_up: bool,
) -> (String, String, &'static str) {
    let body = if is_taken_up { TAKEN_UP } else { DROPPED };
    (partition_of(kind, word), format!("{word}{SEPARATOR}{source_partition:06}"), body)
}

/// [`row`] for a question's answer; nothing for questions whose words are not published.
pub fn row_of(
    question: Question,
    word: &str,
    source_partition: u32,
    is_taken_up: bool,
) -> Option<(String, String, &'static str)> {
    Some(row(kind_of(question)?, word, source_partition, is_taken_up))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn words_are_spread_read_back_and_in_order() {
        let mut partitions_seen = BTreeSet::new();
        for number in 0..200 {
            let word = format!("1/2 word {number}");
            let row = row_of(Question::Tag, &word, 7, number % 2 == 0);
            let (partition, clustering, body) = row.unwrap();
            assert_eq!(read(&clustering, body.as_bytes()), Some((word, number % 2 == 0)));
            partitions_seen.insert(partition);
        }
        assert_eq!(partitions_seen, partitions("tag").collect());
        assert!(row_of(Question::Author, "mary", 0, true).is_none());
        // The rows of a word stand together, before those of words that go on.
        let key = |word: &str, partition| row_of(Question::Tag, word, partition, true).unwrap().1;
        assert!(key("salt", 900_000) < key("salt flakes", 0));
        assert!(key("salt", 1) < key("salt", 2));
    }
}

//! What a text is found by.
//!
//! Words are runs of letters and digits. Chinese, Japanese, Thai and others write no spaces between
//! words, and where one ends is a matter of dictionaries that do not agree; such a run is found by
//! every part of it instead. An index keeps its characters and its pairs of neighbours, which tell
//! all recipes that can have a longer part; whether they have it, the text itself tells.

use super::fold;
use icu_properties::{
    CodePointMapData, CodePointMapDataBorrowed,
    props::{GeneralCategory, GeneralCategoryGroup, LineBreak, Script},
    script::ScriptWithExtensions,
};
use std::collections::BTreeSet;

const CATEGORIES: CodePointMapDataBorrowed<'_, GeneralCategory> = CodePointMapData::new();
const LINE_BREAKS: CodePointMapDataBorrowed<'_, LineBreak> = CodePointMapData::new();
/// Pairs that are looked up of one run: they narrow the search, and need not be all.
const MAX_PAIRS: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Neither letter nor digit.
    Between,
    Word,
    /// Of a script that separates no words.
    Run,
}

/// `before` is the kind of what a mark stands on.
fn kind(character: char, before: Kind) -> Kind {
    if character.is_ascii() {
        return if character.is_ascii_alphanumeric() { Kind::Word } else { Kind::Between };
    }
    if character >= '\u{300}' && GeneralCategoryGroup::Mark.contains(CATEGORIES.get(character)) {
        before
    } else if !character.is_alphanumeric() {
        Kind::Between
    } else if character >= '\u{e00}' && separates_no_words(character) {
        Kind::Run
    } else {
        Kind::Word
    }
}

fn separates_no_words(character: char) -> bool {
    const SCRIPTS: [Script; 4] =
        [Script::Han, Script::Hiragana, Script::Katakana, Script::Bopomofo];
    let scripts = ScriptWithExtensions::new();
    SCRIPTS.iter().any(|script| scripts.has_script(character, *script))
        // Thai, Lao, Khmer, Burmese and their kin.
        || LINE_BREAKS.get(character) == LineBreak::ComplexContext
}

/// Words and runs of folded text.
fn parts(folded: &str) -> impl Iterator<Item = (Kind, &str)> {
    let mut rest = folded;
    std::iter::from_fn(move || {
        loop {
            let mut before = Kind::Between;
            let mut kinds = rest.char_indices().map(|(at, character)| {
                before = kind(character, before);
                (at, before)
            });
            let (_, first) = kinds.next()?;
            let end = kinds.find(|(_, kind)| *kind != first).map_or(rest.len(), |(at, _)| at);
            let (part, behind) = rest.split_at(end);
            rest = behind;
            if first != Kind::Between {
                return Some((first, part));
            }
        }
    })
}

/// Each pair of neighbours, with the place of its first character.
fn pairs(run: &str) -> impl Iterator<Item = &str> {
    let seconds = run.char_indices().skip(1);
    run.char_indices()
        .zip(seconds)
        .map(|((start, _), (at, second))| &run[start..at + second.len_utf8()])
}

/// What an index keeps of a text: its words; of runs, the characters and the pairs.
pub fn terms(text: &str) -> BTreeSet<String> {
    let mut terms = BTreeSet::new();
    terms_of_folded(&fold(text), |term| {
        terms.insert(term.to_owned());
    });
    terms
}

/// The same of a text that is folded already, one after the other; they may repeat.
pub fn terms_of_folded<'a>(folded: &'a str, mut take: impl FnMut(&'a str)) {
    for (kind, part) in parts(folded) {
        if kind == Kind::Word {
            take(part);
        } else {
            part.char_indices().for_each(|(at, one)| take(&part[at..at + one.len_utf8()]));
            pairs(part).for_each(&mut take);
        }
    }
}

/// What a text must have to be found: every word and every run of a question, once each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    words: BTreeSet<String>,
    runs: BTreeSet<String>,
}

impl Wanted {
    pub fn parse(question: &str) -> Self {
        let mut wanted = Self::default();
        for (kind, part) in parts(&fold(question)) {
            let parts = if kind == Kind::Word { &mut wanted.words } else { &mut wanted.runs };
            parts.insert(part.to_owned());
        }
        wanted
    }

    /// How much is wanted: words and runs.
    pub fn len(&self) -> usize {
        self.words.len() + self.runs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Each begins a term that an index has of every text with these words.
    pub fn words(&self) -> &BTreeSet<String> {
        &self.words
    }

    /// Terms that an index has of every text with these words and runs.
    pub fn terms(&self) -> BTreeSet<String> {
        let mut terms = self.words.clone();
        terms.append(&mut self.terms_of_runs());
        terms
    }

    /// Terms that an index has of every text with these runs.
    pub fn terms_of_runs(&self) -> BTreeSet<String> {
        let mut terms = BTreeSet::new();
        for run in &self.runs {
            let pairs: Vec<&str> = pairs(run).collect();
            let Some(last) = pairs.last() else {
                terms.insert(run.clone());
                continue;
            };
            // Each character is in one of them, up to the bound.
            let some = pairs.iter().step_by(2).take(MAX_PAIRS).chain([last]);
            terms.extend(some.map(|pair| (*pair).to_owned()));
        }
        terms
    }

    /// Whether only the texts themselves tell: a run of three characters or more may be missing
    /// where all of its pairs are.
    pub fn needs_the_texts(&self) -> bool {
        self.runs.iter().any(|run| run.chars().nth(2).is_some())
    }

    /// Whether each run is in one of these texts. The words are the index's to tell.
    pub fn runs_are_in<'a>(&self, texts: impl IntoIterator<Item = &'a str>) -> bool {
        let texts: Vec<String> = texts.into_iter().map(fold).collect();
        self.runs.iter().all(|run| texts.iter().any(|text| text.contains(run.as_str())))
    }

    /// Whether each word begins a word of the text, and each run is in it.
    pub fn begins_in(&self, text: &str) -> bool {
        self.is_empty() || self.begins_in_folded(&fold(text))
    }

    /// The same of a text that is folded already.
    pub fn begins_in_folded(&self, folded: &str) -> bool {
        let begins = |word: &String| {
            let found = folded.match_indices(word.as_str());
            found.into_iter().any(|(at, _)| is_a_beginning(&folded[..at]))
        };
        self.runs.iter().all(|run| folded.contains(run.as_str())) && self.words.iter().all(begins)
    }
}

/// Whether what follows this begins a word.
fn is_a_beginning(before: &str) -> bool {
    // A mark has no kind of its own: it takes that of what it stands on.
    let mut marks =
        before.chars().rev().skip_while(|one| kind(*one, Kind::Run) != kind(*one, Kind::Word));
    marks.next().is_none_or(|one| kind(one, Kind::Between) != Kind::Word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(terms: BTreeSet<String>) -> Vec<String> {
        terms.into_iter().collect()
    }

    #[test]
    fn words_are_runs_of_letters_and_digits() {
        assert_eq!(
            list(terms("Ñandú: ¡El ÚLTIMO_show! El 2º d’Or")),
            ["2o", "d", "el", "nandu", "or", "show", "ultimo"]
        );
        assert_eq!(list(terms("हिन्दी गीत")), ["गीत", "हिन्दी"], "marks part no word");
        assert_eq!(list(terms("3個の卵")), ["3", "の", "の卵", "個", "個の", "卵"]);
        assert_eq!(list(terms("!\u{301} _")), Vec::<String>::new());
    }

    #[test]
    fn a_part_of_a_run_is_found() {
        let found = |wanted: &str, text: &str| {
            let wanted = Wanted::parse(wanted);
            assert!(!wanted.is_empty());
            let by_terms = wanted.terms().is_subset(&terms(text))
                && (!wanted.needs_the_texts() || wanted.runs_are_in([text]));
            assert_eq!(by_terms, wanted.begins_in(text), "{wanted:?} {text}");
            by_terms
        };
        for part in ["豆腐", "麻婆豆腐", "婆豆", "豆", "婆豆腐", "麻婆 豆腐", "麻婆豆腐 recipe"]
        {
            assert!(found(part, "四川の麻婆豆腐（recipe）"), "{part}");
        }
        assert!(!found("豆麻", "麻婆豆腐"));
        assert!(!found("腐豆腐", "豆腐麻腐豆"), "all pairs, but not the run");
        assert!(found("ﾗｰﾒﾝ", "味噌ラーメン"));
        assert!(found("ไก่", "ข้าวมันไก่"), "Thai");
        let long = "生姜焼き定食と味噌汁と漬物とご飯大盛り無料券付き";
        assert!(found(long, &format!("本日は{long}です")));
        assert!(Wanted::parse(long).terms().len() <= MAX_PAIRS + 1);
    }

    #[test]
    fn beginnings_of_words_are_found() {
        let begins = |wanted: &str, text: &str| Wanted::parse(wanted).begins_in(text);
        assert!(begins("pink flo", "PINK FLOYD: the wall"));
        assert!(begins("camela", "Camela en concierto"));
        assert!(!begins("loyd", "Pink Floyd"));
        assert!(begins("show", "大show 2021") && begins("大", "大show"));
        assert!(begins("μουσ", "Ο ΜΟΥΣΑΚΆΣ"));
        assert!(!begins("दी", "हिन्दी"), "behind a mark a word goes on");
        assert!(begins("", "anything"));
        // Found inside a word first, then at a beginning.
        assert!(begins("an", "Dan and Ana"));
    }

    #[test]
    fn a_word_that_is_wanted_twice_is_wanted_once() {
        assert_eq!(Wanted::parse("tofu TOFU töfu 豆腐 豆腐").len(), 2);
    }

    proptest! {
        #[test]
        fn a_text_is_found_by_what_it_says(text in "[a-c \u{301}豆腐麻婆カ\u{3099}ก่์]{0,10}") {
            let wanted = Wanted::parse(&text);
            prop_assert!(wanted.terms().is_subset(&terms(&text)));
            let terms = terms(&text);
            for word in wanted.words() {
                prop_assert!(terms.iter().any(|term| term.starts_with(word)), "{word}");
            }
            prop_assert!(wanted.runs_are_in([text.as_str()]));
            prop_assert!(wanted.begins_in(&text));
        }
    }
}

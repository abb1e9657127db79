//! Text folded for comparison: case, accents, ways to write a letter, what is invisible, `_` and
//! runs of spaces make no difference.

use icu_casemap::{CaseMapper, CaseMapperBorrowed};
use icu_normalizer::{ComposingNormalizerBorrowed, DecomposingNormalizerBorrowed};
use icu_properties::{
    CodePointMapData, CodePointMapDataBorrowed, CodePointSetData, CodePointSetDataBorrowed,
    props::{CanonicalCombiningClass, DefaultIgnorableCodePoint, GeneralCategory},
};

const DECOMPOSED: DecomposingNormalizerBorrowed<'_> = DecomposingNormalizerBorrowed::new_nfkd();
const COMPOSED: ComposingNormalizerBorrowed<'_> = ComposingNormalizerBorrowed::new_nfc();
const CASES: CaseMapperBorrowed<'_> = CaseMapper::new();
const IGNORABLE: CodePointSetDataBorrowed<'_> =
    CodePointSetData::new::<DefaultIgnorableCodePoint>();
const CLASSES: CodePointMapDataBorrowed<'_, CanonicalCombiningClass> = CodePointMapData::new();
const CATEGORIES: CodePointMapDataBorrowed<'_, GeneralCategory> = CodePointMapData::new();

/// `FRESH_THYME`, `fresh thyme` and ` Fresh  Thyme` are all `fresh thyme`; `Crème` and `CREME` are
/// `creme`, in whichever normal form they come.
pub fn fold(text: &str) -> String {
    let mut folded = Folded(String::with_capacity(text.len()));
    // Most texts are, and no table says more of them.
    if text.is_ascii() {
        text.chars().for_each(|character| folded.push(character.to_ascii_lowercase()));
        return folded.finish();
    }
    let decomposed = DECOMPOSED.normalize(text);
    let bare: String = decomposed.chars().filter(|one| !is_passed_over(*one)).collect();
    for character in CASES.fold_string(&bare).chars() {
        match undecomposed(character) {
            Some(letters) => letters.chars().for_each(|letter| folded.push(letter)),
            None => folded.push(character),
        }
    }
    // What was left of the marks belongs to its letters again.
    COMPOSED.normalize(&folded.finish()).into_owned()
}

struct Folded(String);

impl Folded {
    fn push(&mut self, character: char) {
        let character = if character == '_' || character.is_whitespace() { ' ' } else { character };
        if character != ' ' || !(self.0.is_empty() || self.0.ends_with(' ')) {
            self.0.push(character);
        }
    }

    fn finish(mut self) -> String {
        self.0.truncate(self.0.trim_end().len());
        self.0
    }
}

/// Accents, and what nobody sees, such as soft hyphens and zero-width spaces.
fn is_passed_over(character: char) -> bool {
    if character < '\u{300}' {
        return character == '\u{ad}';
    }
    IGNORABLE.contains(character)
        || is_accent(CLASSES.get(character))
        || CATEGORIES.get(character) == GeneralCategory::EnclosingMark
}

/// Marks that are put on a letter: those of Latin, Greek and Cyrillic, the points of Hebrew and
/// Arabic. The others make another letter of it, such as the voicing of kana (8), or are vowels and
/// tones, as in Devanagari (0) and Thai (103, 107): without them, words of no relation are alike.
fn is_accent(class: CanonicalCombiningClass) -> bool {
    matches!(class.0, 1 | 10..=36 | 200..=240)
}

/// Letters in which a stroke or another letter is no mark to Unicode, and which are nevertheless
/// typed without it.
fn undecomposed(folded: char) -> Option<&'static str> {
    Some(match folded {
        'æ' => "ae",
        'œ' => "oe",
        'ø' => "o",
        'đ' | 'ð' => "d",
        'ł' => "l",
        'ħ' => "h",
        'ŧ' => "t",
        'þ' => "th",
        'ı' => "i",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NFD: DecomposingNormalizerBorrowed<'_> = DecomposingNormalizerBorrowed::new_nfd();

    #[test]
    fn what_looks_alike_is_alike() {
        for (alike, folded) in [
            (
                &["FRESH_THYME", "fresh thyme", " Fresh \t Thyme ", "frésh__thyme"][..],
                "fresh thyme",
            ),
            (&["Crème", "Cre\u{300}me", "CRÈME"], "creme"),
            (&["İstanbul", "I\u{307}stanbul", "ISTANBUL", "ıstanbul"], "istanbul"),
            (&["Phở", "pho\u{31b}\u{309}", "PHO"], "pho"),
            (&["Straße", "STRASSE", "STRAẞE"], "strasse"),
            (&["Μουσακάς", "ΜΟΥΣΑΚΑΣ", "μουσακας"], "μουσακασ"),
            (
                &["soft\u{ad}hyphen", "softhyphen", "soft\u{200b}hyphen", "\u{feff}SOFTHYPHEN"],
                "softhyphen",
            ),
            (&["Œuf", "oeuf"], "oeuf"),
            (&["Smørrebrød", "smorrebrod"], "smorrebrod"),
            (&["ＴＯＦＵ", "tofu"], "tofu"),
            (&["ﬁnanciers", "FINANCIERS"], "financiers"),
            (&["ｶﾞｰﾘｯｸ", "ガーリック", "カ\u{3099}ーリック"], "ガーリック"),
            (&["김치", "\u{1100}\u{1175}\u{11b7}\u{110e}\u{1175}"], "김치"),
            (&["ёлка", "елка", "ЁЛКА"], "елка"),
            (&["שָׁלוֹם", "שלום"], "שלום"),
            (&["مُحَمَّد", "محمد"], "محمد"),
            (&["___", "\u{200b}", "\u{301}", " \u{a0}"], ""),
        ] {
            for text in alike {
                assert_eq!(fold(text), folded, "{text:?}");
            }
        }
    }

    #[test]
    fn marks_that_make_another_word_stay() {
        for (one, other) in [("かき", "がき"), ("दल", "दिल"), ("दल", "दुल"), ("ขาว", "ข่าว")]
        {
            assert_ne!(fold(one), fold(other));
        }
    }

    #[test]
    fn every_character_is_folded_for_good() {
        for character in '\0'..=char::MAX {
            let text = format!("a{character}\u{301}\u{5b0}b");
            let folded = fold(&text);
            assert_eq!(fold(&folded), folded, "{text:?}");
            assert_eq!(fold(&NFD.normalize(&text)), folded, "{text:?}");
            assert_eq!(fold(&COMPOSED.normalize(&text)), folded, "{text:?}");
        }
    }

    /// Text in which marks, kana, jamo, spaces and what is invisible are frequent.
    fn texts() -> impl Strategy<Value = String> {
        let characters = prop_oneof![
            any::<char>(),
            prop::char::range('A', 'z'),
            prop::char::range('\u{300}', '\u{36f}'),
            prop::char::range('\u{c0}', '\u{24f}'),
            prop::char::range('\u{390}', '\u{3ce}'),
            prop::char::range('\u{591}', '\u{652}'),
            prop::char::range('\u{900}', '\u{e4e}'),
            prop::char::range('\u{1100}', '\u{11ff}'),
            prop::char::range('\u{1f00}', '\u{200f}'),
            prop::char::range('\u{3041}', '\u{30ff}'),
            prop::char::range('\u{ff66}', '\u{ff9f}'),
        ];
        prop::collection::vec(characters, 0..12).prop_map(|text| text.into_iter().collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]
        #[test]
        fn normal_forms_make_no_difference(text in texts()) {
            let folded = fold(&text);
            prop_assert_eq!(&fold(&NFD.normalize(&text)), &folded);
            prop_assert_eq!(&fold(&COMPOSED.normalize(&text)), &folded);
            prop_assert_eq!(&fold(&folded), &folded);
        }

        #[test]
        fn the_short_way_of_ascii_leads_to_the_same(text in "[ -~\t\n]{0,20}") {
            let long_way = fold(&format!("{text}\u{ad}"));
            prop_assert_eq!(fold(&text), long_way);
        }
    }
}

//! Text folded for comparison: case, accents, `_` and runs of spaces make no difference.

/// `FRESH_THYME`, `fresh thyme` and ` Fresh  Thyme` are all `fresh thyme`.
pub fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    let mut push = |character: char| {
        let character = if character == '_' || character.is_whitespace() { ' ' } else { character };
        if character != ' ' || !(folded.is_empty() || folded.ends_with(' ')) {
            folded.push(character);
        }
    };
    for character in text.chars() {
        // Most are, and the tables of Unicode say no more of them.
        if character.is_ascii() {
            push(character.to_ascii_lowercase());
        } else {
            character.to_lowercase().map(fold_accent).for_each(&mut push);
        }
    }
    folded.truncate(folded.trim_end().len());
    folded
}

/// The words of a text, folded.
pub fn words(text: &str) -> Vec<String> {
    fold(text)
        .split(|character: char| !character.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The base letter of accented Latin letters, as the languages of Europe use them.
fn fold_accent(character: char) -> char {
    match character {
        'à'..='å' | 'ā' | 'ă' | 'ą' => 'a',
        'ç' | 'ć' | 'č' => 'c',
        'ď' | 'đ' => 'd',
        'è'..='ë' | 'ē' | 'ė' | 'ę' | 'ě' => 'e',
        'ğ' => 'g',
        'ì'..='ï' | 'ī' | 'į' | 'ı' => 'i',
        'ł' => 'l',
        'ñ' | 'ń' | 'ň' => 'n',
        'ò'..='ö' | 'ø' | 'ō' | 'ő' => 'o',
        'ř' => 'r',
        'ś' | 'š' | 'ş' | 'ș' => 's',
        'ť' | 'ţ' | 'ț' => 't',
        'ù'..='ü' | 'ū' | 'ů' | 'ű' | 'ų' => 'u',
        'ý' | 'ÿ' => 'y',
        'ź' | 'ż' | 'ž' => 'z',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_alike_is_alike() {
        for text in ["FRESH_THYME", "fresh thyme", " Fresh \t Thyme ", "frésh__thyme"] {
            assert_eq!(fold(text), "fresh thyme", "{text:?}");
        }
        assert_eq!(fold("___"), "");
        assert_eq!(words("Ñandú: ¡El ÚLTIMO_show!"), ["nandu", "el", "ultimo", "show"]);
    }
}

//! JSON texts in a quarter of their bytes: a million plans are to stay in memory.
//!
//! Texts of one form differ in their values only. The form (names, punctuation, `null`, `true`) is kept
//! once; a text is the values that stand in it. Nothing is lost: unpacked, it is the same text.

use foldhash::{HashMap, HashMapExt};
use parking_lot::Mutex;
use std::{ops::Range, sync::Arc};
use uuid::Uuid;

/// Forms that are remembered. Plans have as many as there are ways to leave out what is optional.
const MAX_FORMS: usize = 1_024;
const LAST_SEEN: &str = ",\"last_seen_at\":\"";
const ZONED: &[u8; 25] = b"0000-00-00T00:00:00+00:00";
const INSTANT: &[u8; 24] = b"0000-00-00T00:00:00.000Z";
const IS_WEST: u64 = 1 << 63;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Uuid,
    /// As [`ZONED`], with either sign.
    Zoned,
    /// As [`INSTANT`].
    Instant,
}

impl Kind {
    fn of(value: &[u8]) -> Self {
        match value.len() {
            36 if uuid_of(value).is_some() => Self::Uuid,
            25 if zoned_of(value).is_some() => Self::Zoned,
            24 if digits_of(value, INSTANT).is_some() => Self::Instant,
            _ => Self::Text,
        }
    }

    /// Stands for a value in the text of a form: JSON has no such characters.
    fn mark(self) -> char {
        match self {
            Self::Text => '\u{1}',
            Self::Uuid => '\u{2}',
            Self::Zoned => '\u{3}',
            Self::Instant => '\u{4}',
        }
    }
}

/// Of a UUID, if it is written as the library writes it.
fn uuid_of(value: &[u8]) -> Option<Uuid> {
    let uuid = Uuid::try_parse_ascii(value).ok()?;
    let mut written = [0; 36];
    (uuid.hyphenated().encode_lower(&mut written).as_bytes() == value).then_some(uuid)
}

/// The digits of what looks like the template, as one number.
fn digits_of(value: &[u8], template: &[u8]) -> Option<u64> {
    let mut number = 0;
    for (byte, expected) in value.iter().zip(template) {
        match expected {
            b'0' if byte.is_ascii_digit() => number = number * 10 + u64::from(byte - b'0'),
            b'0' => return None,
            expected if byte == expected => {}
            _ => return None,
        }
    }
    Some(number)
}

fn zoned_of(value: &[u8]) -> Option<u64> {
    let is_west = value.get(19) == Some(&b'-');
    let mut template = *ZONED;
    if is_west {
        template[19] = b'-';
    }
    Some(digits_of(value, &template)? | if is_west { IS_WEST } else { 0 })
}

fn put_digits(out: &mut Vec<u8>, template: &[u8], mut number: u64) {
    let start = out.len();
    out.extend_from_slice(template);
    for byte in out[start..].iter_mut().rev().filter(|byte| **byte == b'0') {
        *byte = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Where the values of a JSON text stand: strings without their quotes, and numbers.
fn values(text: &str) -> impl Iterator<Item = Range<usize>> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            match *bytes.get(at)? {
                b'"' => {
                    let start = at + 1;
                    let end = end_of_string(bytes, start)?;
                    at = end + 1;
                    // Otherwise it is a name.
                    if bytes.get(at) != Some(&b':') {
                        return Some(start..end);
                    }
                }
                b'-' | b'0'..=b'9' => {
                    let start = at;
                    let is_part =
                        |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
                    at += bytes[start..].iter().take_while(|byte| is_part(byte)).count();
                    return Some(start..at);
                }
                _ => at += 1,
            }
        }
    })
}

/// The quote that ends it.
fn end_of_string(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        at += memchr::memchr2(b'"', b'\\', &bytes[at..])?;
        if bytes[at] == b'"' {
            return Some(at);
        }
        at = (at + 2).min(bytes.len());
    }
}

/// What texts have in common.
#[derive(Debug)]
pub(super) struct Form {
    text: String,
    /// For each value: where it stands in the text, and how it is packed.
    values: Vec<(u32, Kind)>,
    /// Which of the values says when something was last seen.
    last_seen: Option<usize>,
}

impl Form {
    fn weight(&self) -> usize {
        self.text.len() * 2 + self.values.len() * 8 + 150
    }

    /// The text whose values these are, with another time when it was last seen, if there is one.
    fn put(&self, out: &mut Vec<u8>, mut packed: &[u8], last_seen: Option<&str>) -> Option<()> {
        let mut from = 0;
        for (number, (at, kind)) in self.values.iter().enumerate() {
            out.extend_from_slice(self.text.as_bytes().get(from..*at as usize)?);
            from = *at as usize;
            let start = out.len();
            match kind {
                Kind::Text => {
                    let length = take_length(&mut packed)?;
                    out.extend_from_slice(packed.split_off(..length)?);
                }
                Kind::Uuid => {
                    let uuid = Uuid::from_bytes(*take(&mut packed)?);
                    let mut written = [0; 36];
                    out.extend_from_slice(uuid.hyphenated().encode_lower(&mut written).as_bytes());
                }
                Kind::Zoned => {
                    let number = u64::from_le_bytes(*take(&mut packed)?);
                    put_digits(out, ZONED, number & !IS_WEST);
                    if number & IS_WEST != 0 {
                        out[start + 19] = b'-';
                    }
                }
                Kind::Instant => put_digits(out, INSTANT, u64::from_le_bytes(*take(&mut packed)?)),
            }
            if let Some(time) = last_seen.filter(|_| self.last_seen == Some(number)) {
                out.truncate(start);
                out.extend_from_slice(time.as_bytes());
            }
        }
        out.extend_from_slice(self.text.as_bytes().get(from..)?);
        Some(())
    }
}

fn take<'a, const BYTES: usize>(packed: &mut &'a [u8]) -> Option<&'a [u8; BYTES]> {
    let (taken, rest) = packed.split_first_chunk()?;
    *packed = rest;
    Some(taken)
}

fn take_length(packed: &mut &[u8]) -> Option<usize> {
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        let [byte] = *take(packed)?;
        length |= usize::from(byte & 0x7f).checked_shl(shift)?;
        shift += 7;
        if byte < 0x80 {
            return Some(length);
        }
    }
}

fn put_length(out: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

/// All forms that were seen.
pub(super) struct Forms {
    known: Mutex<HashMap<String, Arc<Form>>>,
    /// Of whatever has a form that is not known: all of it is a value.
    whole: Arc<Form>,
}

impl Default for Forms {
    fn default() -> Self {
        let whole = Form { text: String::new(), values: vec![(0, Kind::Text)], last_seen: None };
        Self { known: Mutex::new(HashMap::new()), whole: Arc::new(whole) }
    }
}

impl Forms {
    fn of(&self, key: &str) -> Option<Arc<Form>> {
        let mut known = self.known.lock();
        if let Some(form) = known.get(key) {
            return Some(form.clone());
        }
        if known.len() >= MAX_FORMS {
            return None;
        }
        let mut form = Form { text: String::new(), values: Vec::new(), last_seen: None };
        let kinds = [Kind::Text, Kind::Uuid, Kind::Zoned, Kind::Instant];
        for character in key.chars() {
            match kinds.into_iter().find(|kind| kind.mark() == character) {
                Some(kind) => {
                    if form.text.ends_with(LAST_SEEN) && form.last_seen.is_none() {
                        form.last_seen = Some(form.values.len());
                    }
                    form.values.push((form.text.len() as u32, kind));
                }
                None => form.text.push(character),
            }
        }
        let form = Arc::new(form);
        known.insert(key.to_owned(), form.clone());
        Some(form)
    }

    pub(super) fn weight(&self) -> usize {
        self.known.lock().values().map(|form| form.weight()).sum()
    }
}

/// Texts, packed one after the other.
#[derive(Default)]
pub(super) struct Packed {
    forms: Vec<Arc<Form>>,
    /// Where each text begins, and which of the forms it has.
    places: Vec<(u32, u16)>,
    bytes: Vec<u8>,
}

impl Packed {
    /// Only texts without control characters, as in JSON.
    pub(super) fn push(&mut self, text: &str, forms: &Forms) {
        let mut key = String::with_capacity(text.len());
        let (mut from, start) = (0, self.bytes.len());
        for range in values(text) {
            let value = &text.as_bytes()[range.clone()];
            let kind = Kind::of(value);
            key.push_str(&text[from..range.start]);
            key.push(kind.mark());
            from = range.end;
            match kind {
                Kind::Text => {
                    put_length(&mut self.bytes, value.len());
                    self.bytes.extend_from_slice(value);
                }
                Kind::Uuid => {
                    self.bytes.extend_from_slice(uuid_of(value).unwrap_or_default().as_bytes());
                }
                Kind::Zoned => {
                    let number = zoned_of(value).unwrap_or_default();
                    self.bytes.extend_from_slice(&number.to_le_bytes());
                }
                Kind::Instant => {
                    let number = digits_of(value, INSTANT).unwrap_or_default();
                    self.bytes.extend_from_slice(&number.to_le_bytes());
                }
            }
        }
        key.push_str(&text[from..]);
        let form = forms.of(&key).unwrap_or_else(|| {
            self.bytes.truncate(start);
            put_length(&mut self.bytes, text.len());
            self.bytes.extend_from_slice(text.as_bytes());
            forms.whole.clone()
        });
        let known = self.forms.iter().position(|known| Arc::ptr_eq(known, &form));
        let place = known.unwrap_or_else(|| {
            self.forms.push(form);
            self.forms.len() - 1
        });
        // There are no more forms than that.
        self.places.push((start as u32, place as u16));
    }

    pub(super) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.places.shrink_to_fit();
        self.forms.shrink_to_fit();
    }

    /// Appends a text, with another time when it was last seen where its form names one. Whether it
    /// does.
    pub(super) fn put(&self, number: usize, out: &mut Vec<u8>, last_seen: Option<&str>) -> bool {
        let Some((at, form)) = self.places.get(number) else { return false };
        let Some(form) = self.forms.get(usize::from(*form)) else { return false };
        let packed = self.bytes.get(*at as usize..).unwrap_or_default();
        form.put(out, packed, last_seen).is_some() && form.last_seen.is_some()
    }

    pub(super) fn weight(&self) -> usize {
        self.bytes.len() + self.places.len() * 8 + self.forms.len() * 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAN: &str = r#"{"id":"0190a5b0-7e6b-7cc1-8a54-2b1d8a1b0c11","provider":"p","plan_id":"1","title":"\"A\\","organizer_id":null,"starts_at":"2021-06-30T21:00:00+02:00","ends_at":"2021-06-30T21:00:00-03:30","sold_out":false,"min_price":20.00,"max_price":-1.5e3,"url":"","first_seen_at":"2021-06-30T21:00:00.123Z","last_seen_at":"2021-06-30T21:00:00.456Z","sequence":12}"#;

    fn unpacked(packed: &Packed, number: usize, last_seen: Option<&str>) -> String {
        let mut out = b"before".to_vec();
        packed.put(number, &mut out, last_seen);
        String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_owned()
    }

    #[test]
    fn plans_are_small_and_the_same() {
        let (forms, mut packed) = (Forms::default(), Packed::default());
        packed.push(PLAN, &forms);
        packed.push(&PLAN.replace("\"p\"", "\"another\""), &forms);
        assert_eq!(packed.forms.len(), 1);
        assert!(packed.bytes.len() < PLAN.len() / 2, "{}", packed.bytes.len());
        assert_eq!(unpacked(&packed, 0, None), PLAN);
        let later = "2022-01-01T00:00:00.000Z";
        let seen = unpacked(&packed, 1, Some(later));
        let expected =
            PLAN.replace("\"p\"", "\"another\"").replace("2021-06-30T21:00:00.456Z", later);
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_form_too_many_is_no_form() {
        let (forms, mut packed) = (Forms::default(), Packed::default());
        for number in 0..MAX_FORMS + 2 {
            packed.push(&format!("{{\"a{number}\":{number}}}"), &forms);
        }
        assert_eq!(forms.known.lock().len(), MAX_FORMS);
        for number in 0..MAX_FORMS + 2 {
            assert_eq!(
                unpacked(&packed, number, Some("now")),
                format!("{{\"a{number}\":{number}}}")
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(
            texts in proptest::collection::vec("[ -~ñ豆]{0,40}", 1..8),
            numbers in proptest::collection::vec(any::<f64>(), 1..8),
            ids in proptest::collection::vec(any::<u128>(), 1..4),
            times in proptest::collection::vec("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([+-][0-9]{2}:[0-9]{2}|.[0-9]{3}Z|Z)", 1..5),
        ) {
            let ids: Vec<String> = ids.into_iter().map(|id| Uuid::from_u128(id).to_string()).collect();
            let nested = serde_json::json!({"a": texts, "b": {"c": numbers, "d": true}, "e": ids, "f": times});
            let (forms, mut packed) = (Forms::default(), Packed::default());
            packed.push(&nested.to_string(), &forms);
            packed.push(&texts.join(" "), &forms);
            prop_assert_eq!(unpacked(&packed, 0, None), nested.to_string());
            prop_assert_eq!(unpacked(&packed, 1, None), texts.join(" "));
        }
    }
}

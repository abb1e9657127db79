//! How long and how many. Published to clients with the vocabulary of recipes, so that they can
//! refuse before we do. Lengths are in characters.

pub const NAME: usize = 200;
pub const DESCRIPTION: usize = 4_000;
pub const AUTHOR: usize = 200;
/// Of ingredients, tools and tags.
pub const WORD: usize = 100;
pub const SECTION: usize = 100;
pub const PREPARATION: usize = 200;
pub const STEP_TEXT: usize = 4_000;
pub const NOTE: usize = 2_000;
pub const INGREDIENTS: usize = 100;
pub const STEPS: usize = 100;
pub const TAGS: usize = 50;
pub const TOOLS: usize = 50;
pub const NOTES: usize = 50;
pub const CALORIES: i64 = 100_000;
pub const SERVES: i64 = 10_000;
/// Four weeks: long enough to cure a ham's first half, short enough to be a mistake beyond.
pub const SECONDS: i64 = 28 * 24 * 3600;
/// Digits of a quantity before and after the point.
pub const QUANTITY_DIGITS: u32 = 9;
pub const QUANTITY_DECIMALS: u32 = 6;

/// Name and value of each, for the page that publishes them.
pub const ALL: [(&str, i64); 17] = [
    ("name_characters", NAME as i64),
    ("description_characters", DESCRIPTION as i64),
    ("author_characters", AUTHOR as i64),
    ("word_characters", WORD as i64),
    ("section_characters", SECTION as i64),
    ("preparation_characters", PREPARATION as i64),
    ("step_text_characters", STEP_TEXT as i64),
    ("note_characters", NOTE as i64),
    ("ingredients", INGREDIENTS as i64),
    ("steps", STEPS as i64),
    ("tags", TAGS as i64),
    ("tools", TOOLS as i64),
    ("notes", NOTES as i64),
    ("calories", CALORIES),
    ("serves", SERVES),
    ("quantity_digits", QUANTITY_DIGITS as i64),
    ("quantity_decimals", QUANTITY_DECIMALS as i64),
];

//! Text as it is compared and searched: [`fold`] decides what is alike, [`terms`] what a text is
//! found by, [`Wanted`] whether it is.
//!
//! The tables are Unicode's, by way of ICU4X. Another version of them may fold a few texts anew, and
//! so is another version of the projections that keep folded text.

mod fold;
mod search;

pub use fold::fold;
pub use search::{Wanted, terms, terms_of_folded};

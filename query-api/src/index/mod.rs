//! What indexes in memory are made of: fields, whose terms know their rows, and the intersection of what
//! several filters select, in the order that a page wants.

mod field;
mod intersection;

pub(crate) use field::{AnyOf, Field};
pub(crate) use intersection::{Intersection, Union};

//! The domain of Almanac: what is true of plans, without I/O and without a wire format.

pub mod plans;

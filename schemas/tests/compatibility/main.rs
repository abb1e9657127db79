//! Bytes of every version, for ever: golden files, the reference implementation, and the check.

mod encoded;
mod golden;
mod reference;
mod samples;
mod versions;
mod wire;

//! The rules, as a folder of `domain/src/` has them: no I/O.

use almanac_domain::aggregate::{Expected, Refusal, Standing, permit_creation};

/// All that is known of a greeting.
pub(crate) struct Greeting {
    pub(crate) owner: String,
    pub(crate) text: String,
}

/// A greeting is made once, and stays as it is.
pub(crate) fn decide(
    known: Option<&Greeting>,
    wanted: Greeting,
    expected: &Expected,
) -> Result<Greeting, Refusal> {
    let standing =
        known.map(|known| Standing { version: 1, owner: known.owner.clone(), is_deleted: false });
    permit_creation(standing.as_ref(), expected)?;
    Ok(wanted)
}

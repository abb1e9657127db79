//! The projection, as a file of `projector/src/` has it.

use crate::{
    record::{GreetingMadeRecord, MADE, TOPIC},
    tables::{Tables, id_bucket},
};
use almanac_projector::{Event, FoldError, Folded, Projection};

impl Projection for Tables {
    fn fold(&self, event: &Event<'_>) -> Result<Folded, FoldError> {
        if event.decoded.record() != MADE {
            return Err(event.unknown(TOPIC));
        }
        let made: GreetingMadeRecord = event.decoded.read()?;
        let mut rows = event.rows();
        rows.put_own(&self.greetings, id_bucket(&made.id), made.id.as_str(), made.body());
        Ok(rows.folded())
    }
}

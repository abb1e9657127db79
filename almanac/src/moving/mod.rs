//! What leaves an installation as files and comes into another one: which topics, and the form in which
//! records travel. The client writes and reads the files; the server knows records only.

pub(crate) mod bodies;
mod export;
mod holding;
pub(crate) mod import;
mod line;
mod surface;

pub(crate) use holding::{Holding, refuse_writes};
pub(crate) use line::{Line, Moved, MovedTopic, Named, Outline, Place, decode, encode};
pub(crate) use surface::{Moving, OPENAPI, routes};

use almanac_schemas::{analyses::INPUTS, commands::REPLIES, files::event_topics, ingest::STATE};

/// The topics that move, without the installation's prefix, in the order in which their ends are looked
/// up. What stands in one of them may name what stands in a later one, never the other way round: so an
/// export that is made while others write lacks nothing that it names.
pub(crate) fn topics() -> Vec<&'static str> {
    let events = event_topics();
    [REPLIES, STATE].into_iter().chain(events).chain([INPUTS]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Commands never move: whoever brought them along would decide them again.
    #[test]
    fn facts_move_and_commands_do_not() {
        let topics = topics();
        assert!(event_topics().iter().all(|topic| topics.contains(topic)));
        assert!(!topics.contains(&almanac_schemas::commands::TOPIC));
        let place = |name: &str| topics.iter().position(|topic| *topic == name).unwrap();
        assert!(place("replies") < place("recipes.events"));
        assert!(place("ingest.state") < place("plans.events"));
        assert!(place("analyses.events") < place("forecasts.events"));
        assert!(place("analyses.events") < place("analyses.inputs"));
    }
}

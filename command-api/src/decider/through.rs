//! How far the commands of each context led to events: what readers wait for.
//!
//! All contexts share a partition's commands, and each has tables of its own. A reader that waits
//! for one context must not wait for an event of another, which its tables never see.

use almanac_event_log::Offset;
use almanac_processor::{LocalState, StateError};
use almanac_schemas::Token;
use std::collections::BTreeMap;
use uuid::Uuid;

/// What its keys begin with, among the aggregates, whose keys are UUIDs.
const NEWEST_TOKEN: &str = "newest-token";

/// Where the token of a context's newest event stands in the local state.
pub(super) fn key_of(context: &str) -> Vec<u8> {
    format!("{NEWEST_TOKEN}/{context}").into_bytes()
}

/// By context, the offset of the newest command that led to an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Through(BTreeMap<String, Offset>);

impl Through {
    /// What a local state that is complete says of the commands in this topic.
    pub(super) fn read(state: &LocalState, commands: Uuid) -> Result<Self, StateError> {
        let mut through = Self::default();
        for entry in state.scan(NEWEST_TOKEN.as_bytes()) {
            let (_, text) = entry?;
            let token = std::str::from_utf8(&text).ok().and_then(|text| text.parse::<Token>().ok());
            if let Some(token) = token.filter(|token| token.topic == commands) {
                through.reach(&token.context, token.offset);
            }
        }
        Ok(through)
    }

    /// Takes in what another local state says.
    pub(super) fn take(&mut self, other: Self) {
        for (context, offset) in other.0 {
            self.reach(&context, offset);
        }
    }

    /// A command of this context led to an event.
    pub(super) fn reach(&mut self, context: &str, offset: Offset) {
        let newest = self.0.entry(context.to_owned()).or_default();
        *newest = (*newest).max(offset);
    }

    /// As the reply to a command of this context tells it: of its own context, and of all.
    pub(super) fn told_to(&self, context: &str) -> (Option<i64>, BTreeMap<String, i64>) {
        let own = self.0.get(context).map(|offset| *offset as i64);
        (own, self.0.iter().map(|(context, offset)| (context.clone(), *offset as i64)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use almanac_processor::StateFolder;

    #[test]
    fn contexts_do_not_wait_for_each_other() {
        let mut through = Through::default();
        assert_eq!(through.told_to("recipes"), (None, BTreeMap::new()));
        through.reach("recipes", 3);
        through.reach("schedules", 7);
        through.reach("schedules", 5);
        let all = BTreeMap::from([("recipes".to_owned(), 3), ("schedules".to_owned(), 7)]);
        assert_eq!(through.told_to("recipes"), (Some(3), all.clone()));
        assert_eq!(through.told_to("schedules"), (Some(7), all.clone()));
        assert_eq!(through.told_to("analyses"), (None, all));
    }

    #[test]
    fn what_each_context_led_to_is_known_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let topic = almanac_event_log::TopicId(Uuid::from_u128(7));
        let states = StateFolder::open(folder.path()).unwrap();
        let (state, _) = states.partition(1, topic, 0).unwrap();
        let token = |context: &str, topic, offset| {
            let token = Token { context: context.into(), topic, partition: 1, offset };
            (key_of(context), Some(token.to_string().into_bytes()))
        };
        let foreign = Uuid::from_u128(8);
        state
            .apply(
                [
                    token("recipes", topic.0, 3),
                    token("schedules", topic.0, 7),
                    token("analyses", foreign, 9),
                    (b"0190f3a2-0000-7000-8000-000000000000".to_vec(), Some(b"event".to_vec())),
                ],
                None,
            )
            .unwrap();
        let mut expected = Through::default();
        expected.reach("recipes", 3);
        expected.reach("schedules", 7);
        assert_eq!(Through::read(&state, topic.0).unwrap(), expected);
    }
}

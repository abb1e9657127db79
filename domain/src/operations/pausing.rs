//! Providers that an operator lets rest: they are asked for nothing until they are resumed. Each is an
//! aggregate of its own, from its first pause on.

use crate::aggregate::Caller;
use jiff::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    Pause,
    Resume,
}

/// What is known of a provider after an event: whether it rests, and who said so last, when and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pausing {
    pub provider: String,
    /// Number of events so far.
    pub version: u64,
    pub is_paused: bool,
    pub by: String,
    pub reason: String,
    pub since: Timestamp,
    /// Of the first pause.
    pub created_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PauseRefusal {
    #[error("only an admin may do this")]
    NotAllowed,
    #[error("the provider {0} is not paused by an operator")]
    NotPaused(String),
}

/// Decides one command: what is known after its event. `Ok(None)`: it is so already, and stands as whoever
/// came first said.
pub fn decide_pausing(
    known: Option<&Pausing>,
    provider: &str,
    command: Pause,
    reason: &str,
    caller: &Caller,
    now: Timestamp,
) -> Result<Option<Pausing>, PauseRefusal> {
    if !caller.is_admin {
        return Err(PauseRefusal::NotAllowed);
    }
    let is_paused = known.is_some_and(|known| known.is_paused);
    match command {
        Pause::Pause if is_paused => return Ok(None),
        Pause::Resume if known.is_none() => {
            return Err(PauseRefusal::NotPaused(provider.to_owned()));
        }
        Pause::Resume if !is_paused => return Ok(None),
        Pause::Pause | Pause::Resume => {}
    }
    Ok(Some(Pausing {
        provider: provider.to_owned(),
        version: known.map_or(1, |known| known.version + 1),
        is_paused: command == Pause::Pause,
        by: caller.subject.clone(),
        reason: reason.to_owned(),
        // Clocks of deciders differ.
        since: known.map_or(now, |known| now.max(known.since)),
        created_at: known.map_or(now, |known| known.created_at),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_000).unwrap()
    }

    /// What is known after these commands, each by whom it is of.
    fn given(commands: &[(Pause, &str)]) -> Option<Pausing> {
        let mut known = None;
        for (command, subject) in commands {
            let event = when(known.as_ref(), *command, subject).unwrap();
            known = event.or(known);
        }
        known
    }

    fn when(
        known: Option<&Pausing>,
        command: Pause,
        subject: &str,
    ) -> Result<Option<Pausing>, PauseRefusal> {
        let caller = Caller { subject: subject.to_owned(), is_admin: subject != "mary" };
        decide_pausing(known, "fever", command, &format!("{subject} says so"), &caller, now())
    }

    #[test]
    fn who_pauses_first_is_told_until_somebody_resumes() {
        let paused = given(&[(Pause::Pause, "ann"), (Pause::Pause, "bob")]).unwrap();
        assert_eq!((paused.is_paused, paused.version, paused.by.as_str()), (true, 1, "ann"));
        assert_eq!((paused.reason.as_str(), paused.since), ("ann says so", now()));
        let resumed = when(Some(&paused), Pause::Resume, "bob").unwrap().unwrap();
        assert_eq!((resumed.is_paused, resumed.version, resumed.by.as_str()), (false, 2, "bob"));
        assert_eq!(when(Some(&resumed), Pause::Resume, "ann"), Ok(None), "it goes on already");
        let again = when(Some(&resumed), Pause::Pause, "bob").unwrap().unwrap();
        assert_eq!((again.is_paused, again.version, again.created_at), (true, 3, now()));
    }

    #[test]
    fn what_never_rested_is_not_resumed_and_others_may_do_neither() {
        let refused = PauseRefusal::NotPaused("fever".to_owned());
        assert_eq!(when(None, Pause::Resume, "ann"), Err(refused));
        assert_eq!(when(None, Pause::Pause, "mary"), Err(PauseRefusal::NotAllowed));
        let paused = given(&[(Pause::Pause, "ann")]);
        assert_eq!(when(paused.as_ref(), Pause::Resume, "mary"), Err(PauseRefusal::NotAllowed));
    }
}

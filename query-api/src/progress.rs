//! How far commands are folded into the tables that this process reads, as the change feed tells;
//! and waiting for it.

use almanac_errors::chain;
use almanac_event_log::{EventLog, Isolation, LogResult, Offset, ReadLimit, TopicId};
use almanac_schemas::{
    Codec, Token,
    commands::{REPLIES, REPLY, ReplyRecord, TOPIC},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{Mutex, watch};

/// A token that is not reached by then may be of a command that led to nothing.
const UNDECIDED_AFTER: Duration = Duration::from_millis(250);
/// Replies looked at from the end, at first: the last one may be followed by marks of transactions.
const TAIL: u64 = 64;
const LIMIT: ReadLimit = ReadLimit { records: 256, bytes: 4 << 20 };
const TAIL_WAIT: Duration = Duration::from_secs(1);

pub(crate) struct Progress {
    commands: String,
    commands_id: TopicId,
    replies: String,
    partitions: u32,
    /// By context and partition: the newest command whose events are folded.
    folded: HashMap<&'static str, Vec<watch::Sender<Option<Offset>>>>,
    /// By partition. Who looks holds the lock: each look is a reader of its own, and all who wait
    /// want to know the same.
    decided: Vec<Mutex<Option<Look>>>,
}

/// What the newest reply of a partition told, if there was one.
struct Look {
    at: Instant,
    found: Option<Arc<Decided>>,
}

/// Up to `command` everything is decided; `through` are, by context, the last to lead to an event.
struct Decided {
    command: Offset,
    through: BTreeMap<String, i64>,
}

impl Decided {
    fn of(reply: ReplyRecord) -> Option<Self> {
        let command = u64::try_from(reply.command_offset).ok()?;
        let through = match (reply.through, reply.events_through) {
            (Some(through), _) => through,
            // From when there was one context.
            (None, Some(offset)) => BTreeMap::from([(reply.context, offset)]),
            (None, None) => BTreeMap::new(),
        };
        Some(Self { command, through })
    }

    fn through(&self, context: &str) -> Option<Offset> {
        u64::try_from(*self.through.get(context)?).ok()
    }
}

impl Progress {
    /// Needs the topics to be there. `contexts` are those whose tables this process reads.
    pub(crate) async fn open(
        log: &dyn EventLog,
        prefix: &str,
        contexts: &[&'static str],
    ) -> LogResult<Self> {
        let commands = format!("{prefix}{TOPIC}");
        let described = log.topic(&commands).await?;
        let partitions = described.partitions;
        let nothing = || (0..partitions).map(|_| watch::Sender::new(None)).collect();
        Ok(Self {
            commands,
            commands_id: described.id,
            replies: format!("{prefix}{REPLIES}"),
            partitions,
            folded: contexts.iter().map(|context| (*context, nothing())).collect(),
            decided: (0..partitions).map(|_| Mutex::new(None)).collect(),
        })
    }

    /// Of every topic of the installation.
    pub(crate) fn partitions(&self) -> u32 {
        self.partitions
    }

    /// The topic of commands.
    pub(crate) fn commands(&self) -> &str {
        &self.commands
    }

    pub(crate) fn commands_id(&self) -> TopicId {
        self.commands_id
    }

    /// Whether the token is of this installation.
    pub(crate) fn is_ours(&self, token: &Token) -> bool {
        token.topic == self.commands_id.0
            && token.partition < self.partitions
            && self.folded.contains_key(&*token.context)
    }

    fn folded(&self, token: &Token) -> Option<&watch::Sender<Option<Offset>>> {
        self.folded.get(&*token.context)?.get(token.partition as usize)
    }

    /// Takes in what a projector reports. It never moves back.
    pub(crate) fn raise(&self, reported: Option<&str>) {
        let token = reported.and_then(|text| text.parse::<Token>().ok());
        let Some(token) = token.filter(|token| self.is_ours(token)) else { return };
        let Some(folded) = self.folded(&token) else { return };
        folded.send_if_modified(|folded| {
            let is_news = folded.is_none_or(|folded| folded < token.offset);
            if is_news {
                *folded = Some(token.offset);
            }
            is_news
        });
    }

    /// Takes in how far the tables of a context are, by partition. It never moves back.
    pub(crate) fn raise_all(&self, context: &str, reached: &HashMap<u32, Offset>) {
        self.set(context, |folded, partition| folded.max(reached.get(&partition).copied()));
    }

    /// Other tables are read from now on: it may move back, and whoever waits for more goes on waiting.
    pub(crate) fn replace(&self, context: &str, reached: &HashMap<u32, Offset>) {
        self.set(context, |_, partition| reached.get(&partition).copied());
    }

    fn set(&self, context: &str, new: impl Fn(Option<Offset>, u32) -> Option<Offset>) {
        for (partition, folded) in (0..).zip(self.folded.get(context).into_iter().flatten()) {
            folded.send_modify(|folded| *folded = new(*folded, partition));
        }
    }

    /// Waits until the events of all these commands are folded, for ever.
    pub(crate) async fn reached(&self, log: &dyn EventLog, codec: &Codec, tokens: &[&Token]) {
        for token in tokens {
            self.reached_one(log, codec, token).await;
        }
    }

    async fn reached_one(&self, log: &dyn EventLog, codec: &Codec, token: &Token) {
        // What is not ours was refused before.
        let Some(folded) = self.folded(token) else { return };
        let mut folded = folded.subscribe();
        // Everything up to here has to be folded; it may turn out to be less than the token says.
        let mut through = Some(token.offset);
        let mut is_decided = false;
        loop {
            let is_there = |folded: &Option<Offset>| through.is_none() || *folded >= through;
            let changed = folded.wait_for(is_there);
            if is_decided {
                // The sender lives as long as this.
                let _ = changed.await;
                return;
            }
            if tokio::time::timeout(UNDECIDED_AFTER, changed).await.is_ok() {
                return;
            }
            match self.decided(log, codec, token.partition).await {
                Ok(Some(decided)) if decided.command >= token.offset => {
                    // Later events than those of this command need not be waited for.
                    through = decided.through(&token.context).map(|last| last.min(token.offset));
                    is_decided = true;
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(error = %chain(&error), "the newest reply cannot be read")
                }
            }
        }
    }

    /// What the newest reply of a partition tells; looked up by one at a time, and at most every so
    /// often.
    async fn decided(
        &self,
        log: &dyn EventLog,
        codec: &Codec,
        partition: u32,
    ) -> LogResult<Option<Arc<Decided>>> {
        let mut known = self.decided[partition as usize].lock().await;
        if let Some(look) = &*known
            && look.at.elapsed() < UNDECIDED_AFTER
        {
            return Ok(look.found.clone());
        }
        let found = self.newest_reply(log, codec, partition).await;
        let found = found.map(|newest| newest.map(Arc::new));
        // During an outage, too, the others do not ask one after the other.
        *known = Some(Look { at: Instant::now(), found: found.as_ref().ok().cloned().flatten() });
        found
    }

    async fn newest_reply(
        &self,
        log: &dyn EventLog,
        codec: &Codec,
        partition: u32,
    ) -> LogResult<Option<Decided>> {
        let end = log.end(&self.replies, partition, Isolation::Committed).await?;
        let start = log.start(&self.replies, partition).await?;
        let mut tail = TAIL;
        loop {
            let from = end.saturating_sub(tail).max(start);
            let mut reader = log.read_to(&self.replies, partition, from, end).await?;
            let mut newest: Option<Decided> = None;
            loop {
                let batch = reader.next(LIMIT, TAIL_WAIT).await?;
                for record in &batch.records {
                    let Some(value) = &record.record.value else { continue };
                    let Ok(decoded) = codec.decode(value).await else { continue };
                    if decoded.record() != REPLY {
                        continue;
                    }
                    let Ok(reply) = decoded.read::<ReplyRecord>() else { continue };
                    newest = Decided::of(reply);
                }
                if batch.records.is_empty() {
                    break;
                }
            }
            if newest.is_some() || from == start {
                return Ok(newest);
            }
            tail = tail.saturating_mul(8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use almanac_event_log::{
        Append, Durability, Headers, Record, Retention, TopicSpec,
        embedded::{EmbeddedLog, EmbeddedOptions},
    };
    use almanac_schemas::BuiltInRegistry;
    use std::sync::Arc;

    struct Installation {
        log: EmbeddedLog,
        codec: Codec,
        progress: Progress,
        _folder: tempfile::TempDir,
    }

    async fn installation() -> Installation {
        let folder = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(EmbeddedOptions::new(folder.path())).unwrap();
        let spec = |name: &str| TopicSpec {
            name: name.to_owned(),
            partitions: 2,
            retention: Retention::Forever,
            durability: Durability::Buffered,
        };
        log.ensure_topics(&[spec(TOPIC), spec(REPLIES)]).await.unwrap();
        let codec = Codec::new(Arc::new(BuiltInRegistry)).await.unwrap();
        let progress = Progress::open(&log, "", &["recipes", "schedules"]).await.unwrap();
        Installation { log, codec, progress, _folder: folder }
    }

    impl Installation {
        fn token(&self, offset: u64) -> Token {
            self.token_of("recipes", offset)
        }

        fn token_of(&self, context: &str, offset: u64) -> Token {
            let topic = self.progress.commands_id.0;
            Token { context: context.into(), topic, partition: 1, offset }
        }

        async fn reached(&self, offset: u64) -> bool {
            self.reached_of("recipes", offset).await
        }

        async fn reached_of(&self, context: &str, offset: u64) -> bool {
            let wait = Duration::from_millis(600);
            let token = self.token_of(context, offset);
            let tokens = [&token];
            let reached = self.progress.reached(&self.log, &self.codec, &tokens);
            tokio::time::timeout(wait, reached).await.is_ok()
        }

        /// As an earlier version wrote it, or a later one with what each context led to.
        async fn reply(&self, command: i64, events_through: Option<i64>) {
            self.reply_of("recipes", command, events_through, None).await;
        }

        async fn reply_of(
            &self,
            context: &str,
            command: i64,
            events_through: Option<i64>,
            through: Option<&[(&str, i64)]>,
        ) {
            let through = through.map(|through| {
                through.iter().map(|(context, offset)| ((*context).to_owned(), *offset)).collect()
            });
            let reply = ReplyRecord {
                request_id: String::new(),
                outcome_id: String::new(),
                caller: String::new(),
                aggregate_id: String::new(),
                fingerprint: String::new(),
                command_offset: command,
                decided_at: 0,
                expires_at: 0,
                replayed: false,
                status: 200,
                version: None,
                body: String::new(),
                events_through,
                context: context.to_owned(),
                through,
            };
            let value = Some(self.codec.encode(REPLY, &reply).unwrap());
            let record =
                Record { key: "k".into(), value, headers: Headers::default(), timestamp_ms: 0 };
            let append = Append { topic: REPLIES.into(), partition: 1, record };
            self.log.append(vec![append]).await.unwrap();
        }
    }

    #[tokio::test]
    async fn tokens_are_reached_when_their_events_are_folded() {
        let installation = installation().await;
        assert!(!installation.reached(5).await, "nothing is folded");
        installation.progress.raise(Some(&installation.token(4).to_string()));
        assert!(installation.reached(4).await);
        assert!(!installation.reached(5).await);
        installation.progress.raise(Some(&installation.token(9).to_string()));
        installation.progress.raise(Some(&installation.token(3).to_string()));
        installation.progress.raise(Some("nonsense"));
        assert!(installation.reached(9).await, "it never moves back");
        let foreign = Token { topic: uuid::Uuid::from_u128(1), ..installation.token(1) };
        let beyond = Token { partition: 2, ..installation.token(1) };
        let unknown = installation.token_of("elsewhere", 1);
        for other in [foreign, beyond, unknown] {
            assert!(!installation.progress.is_ours(&other), "{other}");
        }
    }

    /// A command that was refused leads to no event: its token is reached all the same.
    #[tokio::test]
    async fn commands_that_led_to_nothing_are_not_waited_for() {
        let installation = installation().await;
        installation.reply(6, None).await;
        assert!(installation.reached(6).await, "nothing ever happened");
        installation.reply(7, Some(7)).await;
        installation.reply(8, Some(7)).await;
        assert!(!installation.reached(8).await, "what came before it is not folded");
        installation.progress.raise(Some(&installation.token(7).to_string()));
        assert!(installation.reached(8).await);
        assert!(!installation.reached(9).await, "it is not decided");
    }

    /// Commands of all contexts lie in the same partitions; their events are in tables that know
    /// nothing of each other.
    #[tokio::test]
    async fn a_context_waits_for_no_other() {
        let installation = installation().await;
        let raise = |context: &str, offset| {
            let token = installation.token_of(context, offset);
            installation.progress.raise(Some(&token.to_string()));
        };
        let through = [("recipes", 4), ("schedules", 8)];
        installation.reply_of("schedules", 8, Some(8), Some(&through)).await;
        raise("recipes", 4);
        assert!(installation.reached(4).await);
        assert!(installation.reached(7).await, "between 4 and 8 no recipe changed");
        assert!(!installation.reached_of("schedules", 8).await, "its tables are not there yet");
        raise("schedules", 8);
        assert!(installation.reached_of("schedules", 8).await);
        // The newest reply of the partition is of a command that changed nothing, of the other.
        installation.reply_of("recipes", 9, Some(4), Some(&through)).await;
        assert!(installation.reached(9).await);
        assert!(installation.reached_of("schedules", 9).await);
    }
}

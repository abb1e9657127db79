//! How a context's aggregates stand, as every API instance knows it: it follows their events, so that
//! what cannot be is refused before its body is read and before it is a command in the log.
//!
//! The decider alone decides. What is known here may be older, so that nothing is refused for what
//! may have changed since: before an aggregate counts as absent, deleted or at another version, all that
//! the log held when the request came has been taken in. Where that takes too long, or the log does
//! not answer, the request becomes a command.

use crate::contexts::Context;
use almanac_domain::aggregate::{Caller, Expected, Refusal, Standing, permit};
use almanac_errors::chain;
use almanac_event_log::{EventLog, StoredRecord};
use almanac_processor::{
    Changes, Follow, Followed, GatherLimits, GatheredState, RoleError, StateFolder,
};
use almanac_schemas::Codec;
use async_trait::async_trait;
use parking_lot::Mutex;
use serde::Deserialize;
use std::{collections::HashMap, sync::Arc, time::Duration};
use uuid::Uuid;

pub(crate) struct Standings {
    followed: Followed,
    fold: Arc<StandingFold>,
    /// For a request to learn that what is known is complete.
    check_wait: Duration,
}

struct StandingFold {
    context: &'static dyn Context,
    codec: Arc<Codec>,
    open: Mutex<Open>,
    /// While a test holds it, nothing is taken in.
    #[cfg(test)]
    pause: tokio::sync::RwLock<()>,
}

/// Aggregates that something is still to come of, and how many each owner has.
#[derive(Default)]
struct Open {
    owners: HashMap<Uuid, Arc<str>>,
    counts: HashMap<Arc<str>, usize>,
}

/// Of any event of any context.
#[derive(Deserialize)]
struct Event {
    version: i64,
    owner: String,
}

impl Standings {
    pub(crate) fn new(
        context: &'static dyn Context,
        log: Arc<dyn EventLog>,
        codec: Arc<Codec>,
        topic: Arc<str>,
        partitions: u32,
        check_wait: Duration,
    ) -> Arc<Self> {
        let followed = Followed::new(log, topic, partitions);
        let fold = StandingFold {
            context,
            codec,
            open: Mutex::default(),
            #[cfg(test)]
            pause: tokio::sync::RwLock::default(),
        };
        Arc::new(Self { followed, fold: Arc::new(fold), check_wait })
    }

    /// Name of the context.
    pub(crate) fn context(&self) -> &'static str {
        self.fold.context.name()
    }

    /// How many aggregates of an owner something is still to come of, as far as it is known here.
    pub(crate) fn open_of(&self, owner: &str) -> usize {
        self.fold.open.lock().counts.get(owner).copied().unwrap_or_default()
    }

    /// What a decider would refuse of this for certain.
    pub(crate) async fn permit(
        &self,
        id: Uuid,
        restores: bool,
        caller: &Caller,
        expected: &Expected,
    ) -> Result<(), Refusal> {
        let Some(standing) = self.standing(id).await else { return Ok(()) };
        match permit(standing.as_ref(), restores, caller, expected) {
            // An owner is one for ever.
            judged @ (Ok(()) | Err(Refusal::NotAllowed)) => return judged,
            Err(_) if !self.is_complete(id).await => return Ok(()),
            Err(_) => {}
        }
        match self.standing(id).await {
            Some(standing) => permit(standing.as_ref(), restores, caller, expected),
            None => Ok(()),
        }
    }

    /// Whether something is still to come of an aggregate, as far as it is known here.
    pub(crate) fn is_open(&self, id: Uuid) -> bool {
        self.fold.open.lock().owners.contains_key(&id)
    }

    /// What holds of an aggregate with all taken in that was acknowledged before; `None` where that
    /// cannot be told.
    pub(crate) async fn certainly(&self, id: Uuid, caller: &Caller) -> Option<Result<(), Refusal>> {
        if !self.is_complete(id).await {
            return None;
        }
        let standing = self.standing(id).await?;
        Some(permit(standing.as_ref(), false, caller, &Expected::Any))
    }

    /// How an aggregate stands, or that it is not there; `None` where that cannot be told.
    async fn standing(&self, id: Uuid) -> Option<Option<Standing>> {
        match self.followed.get(self.partition_of(id), id.as_bytes().to_vec()).await {
            Ok(Some(Some(entry))) => read(&entry).map(Some),
            Ok(Some(None)) => Some(None),
            Ok(None) => None,
            Err(error) => {
                let context = self.context();
                tracing::warn!(error = %chain(&error), context, "how an aggregate stands cannot be looked up");
                None
            }
        }
    }

    fn partition_of(&self, id: Uuid) -> u32 {
        self.followed.partition_of(id.to_string().as_bytes())
    }

    /// Whether all is taken in that the log holds of this aggregate's partition now.
    async fn is_complete(&self, id: Uuid) -> bool {
        let complete = self.followed.complete(self.partition_of(id));
        match tokio::time::timeout(self.check_wait, complete).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::debug!(error = %chain(&error), "the end of a topic of events cannot be read");
                false
            }
            Err(_) => false,
        }
    }

    /// Follows the events until an error. `flush` tells when changes of local state go to disk.
    pub(crate) async fn follow(
        &self,
        folder: &StateFolder,
        flush: GatherLimits,
    ) -> Result<(), RoleError> {
        self.followed.follow(folder, flush, &self.fold).await
    }
}

/// Where it stands that something is still to come of an aggregate: longer than the keys of standings.
fn open_key(id: Uuid) -> Vec<u8> {
    [OPEN, &id.as_bytes()[..]].concat()
}

const OPEN: &[u8] = b"open/";

#[async_trait]
impl Follow for StandingFold {
    /// An aggregate that something is still to come of, by its owner, or nothing any more.
    type Note = (Uuid, Option<Arc<str>>);

    fn resumed(&self, states: &[GatheredState]) -> Result<(), RoleError> {
        let mut open = Open::default();
        for state in states {
            for entry in state.on_disk().scan(OPEN) {
                let (key, owner) = entry?;
                // The others are standings of ids that begin with the same bytes.
                let id = key.get(OPEN.len()..).and_then(|id| Uuid::from_slice(id).ok());
                let Some(id) = id else { continue };
                open.put(id, Some(String::from_utf8_lossy(&owner).as_ref().into()));
            }
        }
        *self.open.lock() = open;
        Ok(())
    }

    async fn fold(
        &self,
        stored: &StoredRecord,
        changes: &mut Changes,
    ) -> Result<Option<Self::Note>, RoleError> {
        #[cfg(test)]
        let _pause = self.pause.read().await;
        // Keys that are none of ours stand for no aggregate.
        let key = std::str::from_utf8(&stored.record.key).ok();
        let Some(id) = key.and_then(|key| Uuid::try_parse(key).ok()) else { return Ok(None) };
        let Some(value) = &stored.record.value else { return Ok(None) };
        let known = match self.codec.decode(value).await {
            Ok(decoded) => {
                let record = decoded.record();
                let event = decoded.read::<Event>().ok();
                event.map(|event| {
                    let is_deleted = self.context.is_deletion(record);
                    let version = u64::try_from(event.version).unwrap_or_default();
                    let standing = Standing { version, owner: event.owner, is_deleted };
                    (standing, self.context.is_open(record))
                })
            }
            Err(error) if error.is_outage() => return Err(RoleError::other(error)),
            Err(_) => None,
        };
        // Of what cannot be read, nothing is known: the decider says so.
        let entry = known.as_ref().map_or_else(Vec::new, |(standing, _)| write(standing));
        changes.push((id.as_bytes().to_vec(), Some(entry)));
        let Some((standing, Some(is_open))) = known else { return Ok(None) };
        let owner = is_open.then(|| standing.owner.as_str().into());
        changes.push((open_key(id), is_open.then(|| standing.owner.into_bytes())));
        Ok(Some((id, owner)))
    }

    fn taken(&self, notes: Vec<Self::Note>) {
        let mut open = self.open.lock();
        for (id, owner) in notes {
            open.put(id, owner);
        }
    }
}

impl Open {
    fn put(&mut self, id: Uuid, owner: Option<Arc<str>>) {
        if let Some(before) = self.owners.remove(&id)
            && let Some(count) = self.counts.get_mut(&before)
        {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&before);
            }
        }
        if let Some(owner) = owner {
            *self.counts.entry(owner.clone()).or_default() += 1;
            self.owners.insert(id, owner);
        }
    }
}

fn write(standing: &Standing) -> Vec<u8> {
    let deleted = [u8::from(standing.is_deleted)];
    [&standing.version.to_be_bytes()[..], &deleted, standing.owner.as_bytes()].concat()
}

fn read(entry: &[u8]) -> Option<Standing> {
    let (version, rest) = entry.split_at_checked(8)?;
    let (deleted, owner) = rest.split_first()?;
    Some(Standing {
        version: u64::from_be_bytes(version.try_into().ok()?),
        owner: std::str::from_utf8(owner).ok()?.to_owned(),
        is_deleted: *deleted != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        contexts::{ALL, find},
        topics::Topics,
    };
    use almanac_domain::recipes::{Command, Draft, IngredientDraft, Knowledge, StepDraft, decide};
    use almanac_event_log::{
        Append, Headers, Record,
        embedded::{EmbeddedLog, EmbeddedOptions},
        partitioner::partition_of,
    };
    use almanac_schemas::{BuiltInRegistry, recipes::encode};
    use tokio::task::JoinHandle;

    const CHECK_WAIT: Duration = Duration::from_secs(1);

    struct Installation {
        log: Arc<dyn EventLog>,
        codec: Arc<Codec>,
        topics: Topics,
        standings: Arc<Standings>,
        folder: tempfile::TempDir,
    }

    fn mary() -> Caller {
        Caller { subject: "mary".to_owned(), is_admin: false }
    }

    fn recipe() -> Command {
        let text = || Some("salt".to_owned());
        let draft = Draft {
            name: text(),
            ingredients: vec![IngredientDraft { ingredient: text(), ..Default::default() }],
            steps: vec![StepDraft { text: text(), ..Default::default() }],
            ..Default::default()
        };
        Command::Create { recipe: Box::new(draft.check().unwrap()) }
    }

    impl Installation {
        async fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let options = EmbeddedOptions::new(folder.path().join("log"));
            let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::open(options).unwrap());
            let topics = Topics::new("", 2);
            log.ensure_topics(&topics.specs(Duration::from_secs(60))).await.unwrap();
            let codec = Arc::new(Codec::new(Arc::new(BuiltInRegistry)).await.unwrap());
            let (place, context) = find(ALL, "recipes").unwrap();
            let topic = topics.events[place].clone();
            let standings =
                Standings::new(context, log.clone(), codec.clone(), topic, 2, CHECK_WAIT);
            Self { log, codec, topics, standings, folder }
        }

        fn topic(&self) -> Arc<str> {
            self.topics.events[find(ALL, "recipes").unwrap().0].clone()
        }

        fn follow(&self) -> JoinHandle<()> {
            let folder = StateFolder::open(&self.folder.path().join("standings")).unwrap();
            let standings = self.standings.clone();
            tokio::spawn(async move {
                standings.follow(&folder, GatherLimits::default()).await.unwrap();
            })
        }

        /// Does this to a recipe, as a decider would.
        async fn done(&self, id: Uuid, known: Option<&Knowledge>, command: Command) -> Knowledge {
            let now = jiff::Timestamp::now();
            let event = decide(known, command, &mary(), &Expected::Any, now).unwrap().unwrap();
            let id = id.to_string();
            let value = Some(encode(&self.codec, &id, &event, None).unwrap());
            let partition = partition_of(id.as_bytes(), 2);
            let (key, headers) = (id.into(), Headers::default());
            let record = Record { key, value, headers, timestamp_ms: 0 };
            let append = Append { topic: self.topic(), partition, record };
            self.log.append(vec![append]).await.unwrap();
            event.after
        }

        async fn permit(&self, id: Uuid, subject: &str, versions: &[u64]) -> Result<(), Refusal> {
            let caller = Caller { subject: subject.to_owned(), is_admin: subject == "admin" };
            let expected = match versions {
                [] => Expected::Any,
                versions => Expected::Versions(versions.to_vec()),
            };
            self.standings.permit(id, false, &caller, &expected).await
        }

        async fn refused(&self, id: Uuid, subject: &str, versions: &[u64]) -> Refusal {
            loop {
                if let Err(refusal) = self.permit(id, subject, versions).await {
                    return refusal;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_cannot_be_is_refused() {
        let installation = Installation::new().await;
        let (there, gone, absent) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
        installation.done(there, None, recipe()).await;
        let deleted = installation.done(gone, None, recipe()).await;
        installation.done(gone, Some(&deleted), Command::Delete).await;
        assert_eq!(installation.permit(absent, "mary", &[]).await, Ok(()), "nothing is known yet");
        let following = installation.follow();
        assert_eq!(installation.refused(there, "tom", &[]).await, Refusal::NotAllowed);
        assert_eq!(installation.refused(absent, "mary", &[]).await, Refusal::Unknown);
        assert_eq!(installation.refused(gone, "mary", &[]).await, Refusal::Deleted { version: 2 });
        assert_eq!(installation.refused(there, "mary", &[7]).await, Refusal::Stale { current: 1 });
        for who in ["mary", "admin"] {
            assert_eq!(installation.permit(there, who, &[1]).await, Ok(()));
        }
        let restored = installation.standings.permit(gone, true, &mary(), &Expected::Any).await;
        assert_eq!(restored, Ok(()));
        following.abort();
    }

    /// An instance that lags behind refuses nothing that another has acknowledged meanwhile.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_may_have_changed_is_the_deciders() {
        let installation = Installation::new().await;
        let (there, gone) = (Uuid::now_v7(), Uuid::now_v7());
        let known = installation.done(there, None, recipe()).await;
        let deleted = installation.done(gone, None, recipe()).await;
        let deleted = installation.done(gone, Some(&deleted), Command::Delete).await;
        let _following = installation.follow();
        installation.refused(gone, "mary", &[]).await;
        installation.refused(there, "mary", &[2]).await;
        let _lagging = installation.standings.fold.pause.write().await;
        installation.done(gone, Some(&deleted), Command::Restore).await;
        installation.done(there, Some(&known), Command::Delete).await;
        let late = Uuid::now_v7();
        installation.done(late, None, recipe()).await;
        for (id, versions) in [(gone, &[][..]), (gone, &[3]), (there, &[2]), (late, &[])] {
            assert_eq!(installation.permit(id, "mary", versions).await, Ok(()), "{versions:?}");
        }
        // An owner stays one.
        assert_eq!(installation.permit(there, "tom", &[]).await, Err(Refusal::NotAllowed));
    }
    /// What of analyses has no end is counted by owner, after a restart as well.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_open_is_counted() {
        use almanac_domain::analyses::{self, Origin, Request, Subject};
        use almanac_schemas::analyses::encode;
        let Installation { log, codec, topics, folder, .. } = Installation::new().await;
        let (place, context) = find(ALL, "analyses").unwrap();
        let topic = topics.events[place].clone();
        let states = StateFolder::open(&folder.path().join("analyses")).unwrap();
        let flush = GatherLimits { age: Duration::ZERO, ..GatherLimits::default() };
        let start = || {
            let standings =
                Standings::new(context, log.clone(), codec.clone(), topic.clone(), 2, CHECK_WAIT);
            let (following, states) = (standings.clone(), states.clone());
            let task = tokio::spawn(async move { following.follow(&states, flush).await });
            (standings, task)
        };
        let until = async |standings: &Standings, subject: &str, count: usize| {
            while standings.open_of(subject) != count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let request = || {
            let request = Request {
                subject: Subject::Stored("s".to_owned()),
                input: None,
                sources: Vec::new(),
                options: Default::default(),
                origin: Origin::Request,
            };
            analyses::Command::Request { request: Box::new(request), owner: None }
        };
        let write = async |id: Uuid, event: &analyses::Event| {
            let id = id.to_string();
            let value = Some(encode(&codec, &id, event).unwrap());
            let partition = partition_of(id.as_bytes(), 2);
            let (key, headers) = (id.into(), Headers::default());
            let record = Record { key, value, headers, timestamp_ms: 0 };
            let append = Append { topic: topic.clone(), partition, record };
            log.append(vec![append]).await.unwrap();
        };
        let decide = |known: Option<&analyses::Knowledge>, command, subject: &str| {
            let caller = Caller { subject: subject.to_owned(), is_admin: false };
            let now = jiff::Timestamp::now();
            analyses::decide(known, command, &caller, &Expected::Any, now).unwrap().unwrap()
        };
        let (standings, task) = start();
        let ids = [Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7()];
        for (id, subject) in ids.into_iter().zip(["mary", "mary", "tom"]) {
            write(id, &decide(None, request(), subject)).await;
        }
        until(&standings, "mary", 2).await;
        until(&standings, "tom", 1).await;
        task.abort();
        let _ = task.await;
        let (standings, _task) = start();
        until(&standings, "mary", 2).await;
        let known = decide(None, request(), "mary").after;
        write(ids[0], &decide(Some(&known), analyses::Command::Cancel, "mary")).await;
        until(&standings, "mary", 1).await;
        assert_eq!(standings.open_of("nobody"), 0);
    }
}

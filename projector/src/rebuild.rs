//! What carries a rebuild out: the owners of its partitions fold as they are told, and the owner of the
//! first one leads from state to state.
//!
//! All that is decided is an event, and all that is done is in positions and rows: whoever owns the first
//! partition next goes on where the rebuild stands. Commands that come twice change nothing.

use crate::{Projection, compare, pace::Pace, role::Projector};
use almanac_domain::operations::{Command, Failure, Knowledge, State, Step};
use almanac_errors::chain;
use almanac_event_log::{EventLog, LogError, Offset};
use almanac_operations::{Operations, SendError};
use almanac_processor::RoleError;
use almanac_read_store::StoreError;
use almanac_schemas::files;
use almanac_tables::{
    Projected, Source, hex,
    positions::{self, Ends, Hold, Positions, reach},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// Between two looks at how far the partitions are.
const LOOK: Duration = Duration::from_millis(100);
/// A command of which nothing is seen is sent again.
const AGAIN: Duration = Duration::from_secs(10);
/// Before what failed is tried again.
const PAUSE: Duration = Duration::from_secs(2);
/// How long owners may take to stand still, and the rebuild to catch up with the live tables.
const PATIENCE: Duration = Duration::from_secs(60);
/// Live tables that stand still, as at an event that cannot be folded, are not waited for longer than this.
const PATIENCE_LIVE: Duration = Duration::from_secs(20);
/// How often rows that go on changing are looked at.
const ROUNDS: usize = 20;

pub struct Rebuilding {
    pub operations: Arc<Operations>,
    /// How long tables are kept beside the live ones.
    pub keep: Duration,
    pace: Pace,
}

/// What the owner of a partition does now.
#[derive(Default)]
pub(crate) struct Orders {
    /// Events a second of all partitions together.
    pub(crate) events_per_s: u32,
    pub(crate) is_paused: bool,
    /// It is to be as fast as it can, into tables that nobody reads.
    pub(crate) is_loading: bool,
    /// Other orders may come at any moment.
    pub(crate) is_under_way: bool,
    /// It may be told to stand still.
    pub(crate) is_verifying: bool,
    /// No event from here on is folded.
    pub(crate) until: Option<Offset>,
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Send(#[from] SendError),
    #[error("{0}")]
    NotInTime(&'static str),
}

impl Rebuilding {
    pub fn new(operations: Arc<Operations>, keep: Duration) -> Self {
        Self { operations, keep, pace: Pace::default() }
    }

    pub(crate) fn pace(&self) -> &Pace {
        &self.pace
    }

    /// The rebuild whose tables these are, if it is the newest of its projection.
    fn known(&self, source: &Source) -> Option<Knowledge> {
        let known = self.operations.known();
        let known = known.of_fold(source.projection, source.edition.version)?;
        (known.rebuild.generation == source.edition.generation).then(|| known.clone())
    }

    pub(crate) fn orders(&self, source: &Source, partition: u32) -> Orders {
        let Some(known) = self.known(source) else { return Orders::default() };
        let state = known.rebuild.state;
        Orders {
            events_per_s: match state {
                State::Hydrating => known.rebuild.request.events_per_s,
                _ => 0,
            },
            is_paused: state == State::Paused,
            is_loading: state == State::Hydrating && known.rebuild.request.events_per_s == 0,
            is_under_way: known.rebuild.is_under_way(),
            is_verifying: state == State::Verifying,
            until: until(&known, source.topic, partition),
        }
    }

    /// Ends the rebuild, if these are tables of one that goes on.
    pub(crate) async fn fail(&self, source: &Source, category: &str, detail: &str) {
        let Some(known) = self.known(source).filter(|known| known.rebuild.is_under_way()) else {
            return;
        };
        let failure = Failure { category: category.to_owned(), detail: detail.to_owned() };
        let command = Command::Of(known.rebuild.request.id, Step::Fail(failure));
        if let Err(error) = self.operations.send(source.projection, &command, detail).await {
            tracing::warn!(error = %chain(&error), projection = source.projection, "cannot tell that a rebuild failed");
        }
    }
}

fn until(known: &Knowledge, topic: &str, partition: u32) -> Option<Offset> {
    let until: Value = serde_json::from_str(known.rebuild.request.until.as_deref()?).ok()?;
    until.get(format!("{topic}/{partition}"))?.as_u64()
}

/// Leads the rebuild for as long as the first partition is owned.
pub(crate) async fn lead(
    projector: &Projector,
    rebuilding: &Rebuilding,
    log: &dyn EventLog,
) -> Result<(), RoleError> {
    let mut leader = Leader { projector, rebuilding, log, ends: None, sent: None };
    let mut changes = rebuilding.operations.changes();
    loop {
        let pause = match leader.step().await {
            Ok(()) => LOOK,
            Err(error) => {
                let projection = projector.source.projection;
                tracing::warn!(error = %chain(&error), projection, "a rebuild cannot go on; trying again");
                PAUSE
            }
        };
        tokio::select! {
            _ = changes.changed() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

struct Leader<'a> {
    projector: &'a Projector,
    rebuilding: &'a Rebuilding,
    log: &'a dyn EventLog,
    /// Where the topics ended when this owner began.
    ends: Option<Ends>,
    /// The version that a command was sent at, and when.
    sent: Option<(u64, Instant)>,
}

impl Leader<'_> {
    fn projection(&self) -> &Arc<dyn Projection> {
        &self.projector.projection
    }

    async fn step(&mut self) -> Result<(), Failed> {
        let Some(known) = self.rebuilding.known(&self.projector.source) else { return Ok(()) };
        let waits =
            self.sent.is_some_and(|(version, at)| version == known.version && at.elapsed() < AGAIN);
        if waits {
            return Ok(());
        }
        let rebuild = &known.rebuild;
        match rebuild.state {
            State::Hydrating => {
                let Some(ends) = self.ends(&known).await? else { return Ok(()) };
                if reach(&self.positions().await?, &ends) {
                    self.send(&known, Step::Advance(State::Lagging)).await?;
                }
            }
            State::Lagging => {
                let is_there = rebuild.request.until.is_some()
                    || positions::are_as_far(
                        &self.positions().await?,
                        &self.live_positions(&known).await?,
                    );
                if is_there {
                    self.send(&known, Step::Advance(State::Verifying)).await?;
                }
            }
            State::Verifying => self.verify(&known).await?,
            State::Ready if !rebuild.is_dropped => {
                if rebuild.request.dry_run {
                    self.send(&known, Step::Drop).await?;
                } else if rebuild.request.automatic && rebuild.differences == Some(0) {
                    self.send(&known, Step::Activate).await?;
                }
            }
            State::Active | State::RolledBack if known.kept.is_some() => {
                let age = jiff::Timestamp::now().duration_since(known.updated_at);
                if age
                    > jiff::SignedDuration::try_from(self.rebuilding.keep)
                        .unwrap_or(jiff::SignedDuration::MAX)
                {
                    self.send(&known, Step::Drop).await?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    async fn send(&mut self, known: &Knowledge, step: Step) -> Result<(), Failed> {
        let command = Command::Of(known.rebuild.request.id.clone(), step);
        let operations = &self.rebuilding.operations;
        operations.send(self.projection().name(), &command, "").await?;
        self.sent = Some((known.version, Instant::now()));
        Ok(())
    }

    /// Where to fold to before the rebuild counts as hydrated. `None` where that would be never.
    async fn ends(&mut self, known: &Knowledge) -> Result<Option<Ends>, Failed> {
        if let Some(ends) = &self.ends {
            return Ok(Some(ends.clone()));
        }
        let mut ends = self.ends_now().await?;
        for ((topic, partition), end) in &mut ends {
            let until = until(known, topic, *partition).unwrap_or(*end);
            if until > *end {
                let detail = format!(
                    "{topic}/{partition} ends at {end}, before {until}, which the rebuild is to reach: these are \
                     positions of another installation, or of a topic that was made anew since"
                );
                self.rebuilding.fail(&self.projector.source, "log", &detail).await;
                self.sent = Some((known.version, Instant::now()));
                return Ok(None);
            }
            *end = until;
        }
        Ok(Some(self.ends.insert(ends).clone()))
    }

    async fn ends_now(&self) -> Result<Ends, LogError> {
        let topics = self.projection().topics();
        positions::ends_of(self.log, self.projector.prefix(), topics).await
    }

    async fn positions(&self) -> Result<Positions, StoreError> {
        let projection = self.projection();
        positions::read(&*self.projector.store, projection.name(), projection.edition()).await
    }

    async fn live_positions(&self, known: &Knowledge) -> Result<Positions, StoreError> {
        let (name, mut edition) = (self.projection().name(), self.projection().edition());
        edition.generation = known.live;
        positions::read(&*self.projector.store, name, edition).await
    }

    /// Waits until the rebuild and the live tables are where the topics end now: what one of them holds by
    /// now, both have folded then.
    async fn caught_up(&self, known: &Knowledge) -> Result<(), Failed> {
        let ends = self.ends_now().await?;
        let began = Instant::now();
        loop {
            let is_waited_for = began.elapsed() < PATIENCE_LIVE;
            if reach(&self.positions().await?, &ends)
                && (!is_waited_for || reach(&self.live_positions(known).await?, &ends))
            {
                return Ok(());
            }
            if began.elapsed() > PATIENCE {
                return Err(Failed::NotInTime("the rebuild does not come to where its topics end"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn hold(&self, number: i64, is_held: bool) -> Result<(), StoreError> {
        let write = positions::write_hold(&self.projector.source, Hold { number, is_held })?;
        self.projector.store.write(vec![write]).await
    }

    /// Waits until all partitions stand still; where.
    async fn held(&self, number: i64) -> Result<Positions, Failed> {
        let mut partitions = 0;
        for topic in self.projection().topics() {
            let name = format!("{}{topic}", self.projector.prefix());
            partitions += self.log.topic(&name).await?.partitions as usize;
        }
        let until = Instant::now() + PATIENCE;
        loop {
            let positions = self.positions().await?;
            let held = positions.values().filter(|at| at.held_for == Some(number)).count();
            if held == partitions {
                return Ok(positions);
            }
            if Instant::now() > until {
                return Err(Failed::NotInTime("not all partitions of the rebuild stand still"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn verify(&mut self, known: &Knowledge) -> Result<(), Failed> {
        let number = jiff::Timestamp::now().as_millisecond();
        self.hold(number, true).await?;
        let compared = self.compare(known, number).await;
        // Whatever came of it, the partitions go on.
        self.hold(number, false).await?;
        let Some((positions, compared)) = compared? else { return Ok(()) };
        let is_compared = known.rebuild.request.until.is_none();
        let store = &*self.projector.store;
        let suspects = match (is_compared, compared.is_cut) {
            (false, _) => Vec::new(),
            (true, false) => compared.suspects.clone(),
            // Too many to look at each again: the first are named as they are.
            (true, true) => compared.suspects.iter().take(1_000).cloned().collect(),
        };
        let mut settled = compare::Settled::of(suspects);
        for _ in 0..ROUNDS {
            if settled.unsettled() == 0 {
                break;
            }
            if !compared.is_cut {
                self.caught_up(known).await?;
            }
            settled.look(store, compared.is_cut).await?;
        }
        let different = match compared.is_cut {
            true => compared.suspects.len() as u64,
            false => settled.different.len() as u64,
        };
        let live = settled.live_of(compared.rebuilt);
        let live = (is_compared && !compared.is_cut)
            .then(|| json!({"rows": live.rows, "digest": live.digest()}));
        let request = &known.rebuild.request;
        let certificate = json!({
            "projection": request.projection,
            "version": request.fold,
            "generation": known.rebuild.generation,
            "live_generation": known.live,
            "fold": fold_hash(&**self.projection()),
            "positions": positions.iter().map(|((topic, partition), at)| {
                (format!("{topic}/{partition}"), json!({
                    "topic_id": at.topic_id, "position": at.next_offset, "events": at.digest,
                }))
            }).collect::<serde_json::Map<_, _>>(),
            "rebuilt": {"rows": compared.rebuilt.rows, "digest": compared.rebuilt.digest()},
            "live": live,
            "different_rows": different,
            "unsettled_rows": settled.unsettled(),
            "differences": settled.named,
            "actor": known.rebuild.requested_by,
            "reason": known.rebuild.reason,
            "requested_at": format!("{:.3}", known.rebuild.requested_at),
            "verified_at": format!("{:.3}", jiff::Timestamp::now()),
        });
        let step = Step::Verify { certificate: certificate.to_string(), differences: different };
        self.send(known, step).await
    }

    /// Nothing where a partition moved meanwhile, as one does that another process took over.
    async fn compare(
        &self,
        known: &Knowledge,
        number: i64,
    ) -> Result<Option<(Positions, compare::Compared)>, Failed> {
        let positions = self.held(number).await?;
        let projection = self.projection();
        let live = crate::open(projection.name(), known.live)?;
        let live = live.ok_or(Failed::NotInTime("the live tables are of no projection"))?;
        let store = &self.projector.store;
        let compared = compare::compare(store, live.layout(), projection.layout()).await?;
        let is_same = self.held(number).await? == positions;
        Ok(is_same.then_some((positions, compared)))
    }
}

/// Of what determines the rows beside the events: the schemas that they are read with, and the version of
/// the fold.
fn fold_hash(projection: &dyn Projected) -> String {
    let mut hash = Sha256::new();
    hash.update(projection.name().as_bytes());
    hash.update(projection.version().to_be_bytes());
    for file in files::ALL.iter().filter(|file| projection.topics().contains(&file.topic)) {
        hash.update(file.text.as_bytes());
    }
    hex(&hash.finalize())
}

/// Bytes before the datum: a mark, and the id of the schema in the registry of the installation.
const HEADER: usize = 5;

/// An event's body as every installation has it.
pub(crate) fn datum(value: &[u8]) -> &[u8] {
    value.get(HEADER..).unwrap_or(value)
}

/// The digest of all events up to one, from that of all before it. A certificate names it, and an export
/// is held against it.
pub fn chained(before: Option<&str>, key: &[u8], datum: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(before.unwrap_or_default().as_bytes());
    hash.update((key.len() as u64).to_be_bytes());
    hash.update(key);
    hash.update(datum);
    hex(&hash.finalize())
}

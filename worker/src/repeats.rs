//! Schedules that are analysed by themselves: when their time comes, or when a newer forecast arrives.
//!
//! When a repeat is due follows from the log alone: from the schedule, its newest repeat and the newest
//! forecasts of its place. Its id follows from schedule and time. So whoever takes over fires the same
//! timer, and the decider refuses what was fired before.

use crate::{
    board::Board,
    commands::{Commands, Said},
    forecasts::Forecasts,
};
use almanac_domain::{
    analyses::{Origin, Request, Subject},
    weather::{MIN_REPEAT_S, Options},
};
use almanac_processor::{RoleError, Timers};
use almanac_schemas::analyses::{AnalysisHead, AnalysisRequestedRecord};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};
use tokio::sync::Notify;
use uuid::Uuid;

/// Namespace of the ids of repeats. It must never change.
const NAMESPACE: Uuid = Uuid::from_u128(0x3b0c_71d5_2f6e_5c44_9a1f_60d8_e7b2_4c93);
/// Newer forecasts lead to repeats no more often.
const FORECAST_PAUSE_MS: i64 = MIN_REPEAT_S * 1_000;
/// Partitions change hands without a word.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What makes a schedule repeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Repeating {
    pub(crate) id: Uuid,
    pub(crate) partition: u32,
    pub(crate) owner: String,
    pub(crate) every_ms: i64,
    /// When the schedule was made: its times are counted from there.
    pub(crate) since_ms: i64,
    /// The place of its forecasts, as their keys have it.
    pub(crate) place: Option<String>,
}

/// The newest repeat of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastRepeat {
    pub(crate) id: Uuid,
    pub(crate) requested_at: i64,
    /// What counted as now when it was made; none while it is open.
    pub(crate) computed_at: Option<i64>,
}

impl Repeating {
    /// When the next repeat is due, in milliseconds; `None` while the last one is open. `fetched_at` is
    /// of the newest forecast of its place.
    fn due(&self, last: Option<&LastRepeat>, fetched_at: Option<i64>) -> Option<i64> {
        let every = self.every_ms.max(1);
        let Some(last) = last else { return Some(self.since_ms.saturating_add(every)) };
        let computed_at = last.computed_at?;
        let passed = last.requested_at.saturating_sub(self.since_ms).div_euclid(every);
        let regular = self.since_ms.saturating_add(every.saturating_mul(passed + 1));
        let newer = fetched_at.filter(|fetched_at| *fetched_at > computed_at);
        let pause = last.requested_at.saturating_add(FORECAST_PAUSE_MS);
        Some(newer.map_or(regular, |fetched_at| regular.min(fetched_at.max(pause))))
    }
}

/// The id of the repeat that is due at this time.
fn repeat_id(schedule: Uuid, due_ms: i64) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("{schedule}/{due_ms}").as_bytes())
}

/// What is known of repeats; the followers of the topics tell it.
#[derive(Default)]
pub(crate) struct Repeats {
    inner: Mutex<Inner>,
    wake: Notify,
}

#[derive(Default)]
struct Inner {
    schedules: HashMap<Uuid, Repeating>,
    by_place: HashMap<String, BTreeSet<Uuid>>,
    last: HashMap<Uuid, LastRepeat>,
    /// Schedules whose timers are to be set anew.
    changed: BTreeSet<Uuid>,
}

impl Repeats {
    /// All schedules that repeat, when following begins.
    pub(crate) fn schedules(&self, all: Vec<Repeating>) {
        let mut inner = self.inner.lock();
        let gone: Vec<Uuid> = inner.schedules.keys().copied().collect();
        for id in gone {
            inner.put(id, None);
        }
        for one in all {
            inner.put(one.id, Some(one));
        }
        drop(inner);
        self.wake.notify_one();
    }

    pub(crate) fn schedule(&self, id: Uuid, repeating: Option<Repeating>) {
        self.inner.lock().put(id, repeating);
        self.wake.notify_one();
    }

    /// The newest repeats of schedules; what is older than what is known changes nothing.
    pub(crate) fn repeated(&self, repeats: impl IntoIterator<Item = (Uuid, LastRepeat)>) {
        let mut inner = self.inner.lock();
        for (schedule, last) in repeats {
            let known = inner.last.get(&schedule);
            let is_newer =
                |known: &LastRepeat| (known.requested_at, known.id) <= (last.requested_at, last.id);
            if known.is_none_or(is_newer) {
                inner.last.insert(schedule, last);
                inner.changed.insert(schedule);
            }
        }
        drop(inner);
        self.wake.notify_one();
    }

    /// There is a forecast of this key: of a source and a place.
    pub(crate) fn forecast(&self, key: &str) {
        let Some((_, place)) = key.split_once('/') else { return };
        let mut inner = self.inner.lock();
        let Inner { by_place, changed, .. } = &mut *inner;
        if let Some(schedules) = by_place.get(place) {
            changed.extend(schedules);
            drop(inner);
            self.wake.notify_one();
        }
    }

    /// Fires what is due, for ever. An error is an outage.
    pub(crate) async fn run(
        &self,
        board: &Board,
        forecasts: &Forecasts,
        commands: &Commands,
        providers: &[String],
        again: Duration,
    ) -> Result<(), RoleError> {
        let again_ms = i64::try_from(again.as_millis()).unwrap_or(i64::MAX);
        // The time at which a timer wakes us, and the time that it is for.
        let mut timers: Timers<Uuid, i64> = Timers::default();
        self.inner.lock().change_all();
        loop {
            let changed = std::mem::take(&mut self.inner.lock().changed);
            for id in changed {
                match self.due(id, forecasts, providers).await? {
                    Some((_, due)) => timers.set(id, due),
                    None => timers.cancel(&id),
                }
            }
            let now = Timestamp::now().as_millisecond();
            for (id, _) in timers.take_due(now) {
                // What it was set for may have changed since.
                let Some((repeating, due)) = self.due(id, forecasts, providers).await? else {
                    continue;
                };
                if due > now {
                    timers.set(id, due);
                    continue;
                }
                // Seen again by whoever owns it then; and fired again, if nothing comes of it.
                timers.set(id, now.saturating_add(again_ms));
                if board.owns(repeating.partition) {
                    commands.send(repeat_id(id, due), &request(&repeating)).await?;
                    tracing::debug!(schedule = %id, due, "a schedule is analysed again");
                }
            }
            let now = Timestamp::now().as_millisecond();
            let wait = timers.next_due().map(|due| u64::try_from(due - now).unwrap_or_default());
            let wait = wait.map_or(LOOK_EVERY, Duration::from_millis).min(LOOK_EVERY);
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn due(
        &self,
        id: Uuid,
        forecasts: &Forecasts,
        providers: &[String],
    ) -> Result<Option<(Repeating, i64)>, RoleError> {
        let (repeating, last) = {
            let inner = self.inner.lock();
            let Some(repeating) = inner.schedules.get(&id) else { return Ok(None) };
            (repeating.clone(), inner.last.get(&id).copied())
        };
        let mut fetched_at = None;
        for provider in providers {
            let Some(place) = &repeating.place else { break };
            let key = format!("{provider}/{place}");
            let newest = forecasts.newest(&key).await;
            let newest = newest.map_err(RoleError::other)?;
            fetched_at = fetched_at.max(newest.published.map(|published| published.fetched_at));
        }
        let due = repeating.due(last.as_ref(), fetched_at);
        Ok(due.map(|due| (repeating, due)))
    }
}

impl Inner {
    fn put(&mut self, id: Uuid, repeating: Option<Repeating>) {
        let before = self.schedules.remove(&id);
        if let Some(place) = before.and_then(|before| before.place)
            && let Some(schedules) = self.by_place.get_mut(&place)
        {
            schedules.remove(&id);
            if schedules.is_empty() {
                self.by_place.remove(&place);
            }
        }
        if let Some(repeating) = repeating {
            if let Some(place) = repeating.place.clone() {
                self.by_place.entry(place).or_default().insert(id);
            }
            self.schedules.insert(id, repeating);
        }
        self.changed.insert(id);
    }

    fn change_all(&mut self) {
        self.changed.extend(self.schedules.keys());
    }
}

fn request(repeating: &Repeating) -> Said {
    let head = AnalysisHead { owner: repeating.owner.clone(), ..AnalysisHead::default() };
    let request = Request {
        subject: Subject::Stored(repeating.id.to_string()),
        input: None,
        sources: Vec::new(),
        options: Options::default(),
        origin: Origin::Repeat,
    };
    Said::Requested(Box::new(AnalysisRequestedRecord::from_domain(head, &request)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    fn hourly() -> Repeating {
        Repeating {
            id: Uuid::from_u128(1),
            partition: 0,
            owner: "mary".to_owned(),
            every_ms: 60 * MINUTE,
            since_ms: 0,
            place: Some("61.50/4.80".to_owned()),
        }
    }

    fn last(requested_at: i64, computed_at: Option<i64>) -> LastRepeat {
        LastRepeat { id: Uuid::nil(), requested_at, computed_at }
    }

    #[test]
    fn a_schedule_repeats_at_its_times() {
        assert_eq!(hourly().due(None, None), Some(60 * MINUTE));
        let late = last(61 * MINUTE, Some(61 * MINUTE));
        assert_eq!(hourly().due(Some(&late), None), Some(120 * MINUTE));
        // What was missed is made up for once.
        let long_ago = last(500 * MINUTE, Some(500 * MINUTE));
        assert_eq!(hourly().due(Some(&long_ago), None), Some(540 * MINUTE));
    }

    #[test]
    fn nothing_piles_up() {
        assert_eq!(hourly().due(Some(&last(60 * MINUTE, None)), Some(70 * MINUTE)), None);
    }

    #[test]
    fn a_newer_forecast_repeats_it_but_not_too_often() {
        let last = last(60 * MINUTE, Some(61 * MINUTE));
        let due = |fetched_at| hourly().due(Some(&last), Some(fetched_at * MINUTE)).unwrap();
        assert_eq!(due(60), 120 * MINUTE, "it was used already");
        assert_eq!(due(62), 75 * MINUTE, "15 minutes after the last");
        assert_eq!(due(80), 80 * MINUTE);
        assert_eq!(due(119), 119 * MINUTE);
        assert_eq!(due(130), 120 * MINUTE, "its own time comes first");
    }

    #[test]
    fn the_same_time_has_the_same_id() {
        let schedule = Uuid::from_u128(1);
        assert_eq!(repeat_id(schedule, 5), repeat_id(schedule, 5));
        assert_ne!(repeat_id(schedule, 5), repeat_id(schedule, 6));
        assert_ne!(repeat_id(schedule, 5), repeat_id(Uuid::from_u128(2), 5));
    }

    #[test]
    fn places_lead_to_their_schedules() {
        let repeats = Repeats::default();
        repeats.schedules(vec![hourly()]);
        let changed = |repeats: &Repeats| std::mem::take(&mut repeats.inner.lock().changed).len();
        assert_eq!(changed(&repeats), 1);
        repeats.forecast("met-norway/61.50/4.80");
        assert_eq!(changed(&repeats), 1);
        repeats.forecast("met-norway/61.51/4.80");
        assert_eq!(changed(&repeats), 0);
        repeats.repeated([(hourly().id, last(5, None)), (hourly().id, last(3, None))]);
        assert_eq!(repeats.inner.lock().last[&hourly().id].requested_at, 5);
        repeats.schedule(hourly().id, None);
        assert_eq!(changed(&repeats), 1);
        repeats.forecast("met-norway/61.50/4.80");
        assert_eq!(changed(&repeats), 0);
    }
}

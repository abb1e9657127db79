//! The axis of time: where an instant lies, and which of them have marks.

use super::Zone;
use almanac_domain::weather::Window;
use jiff::{SignedDuration, Timestamp};

/// Between two marks, in hours.
const STEPS_H: [i64; 12] = [1, 2, 3, 6, 12, 24, 48, 168, 336, 720, 2_190, 8_760];
/// Of a mark with its date.
const LABEL: f64 = 76.0;
/// Shorter stretches than this are drawn as one with their neighbours.
const FINEST: f64 = 1.0;

pub(super) struct Axis {
    from: Timestamp,
    seconds: f64,
    left: f64,
    width: f64,
}

pub(super) struct Mark {
    pub(super) x: f64,
    pub(super) utc: String,
    pub(super) local: String,
}

impl Axis {
    pub(super) fn new(shown: Window, left: f64, width: f64) -> Self {
        let seconds = shown.to.duration_since(shown.from).as_secs_f64().max(1.0);
        Self { from: shown.from, seconds, left, width }
    }

    pub(super) fn x(&self, instant: Timestamp) -> f64 {
        let share = instant.duration_since(self.from).as_secs_f64() / self.seconds;
        self.left + share.clamp(0.0, 1.0) * self.width
    }

    pub(super) fn shows(&self, instant: Timestamp) -> bool {
        let after = instant.duration_since(self.from).as_secs_f64();
        (0.0..=self.seconds).contains(&after)
    }

    /// Where stretches lie, in order; what is too fine to be told apart is one.
    pub(super) fn spans(&self, windows: impl Iterator<Item = Window>) -> Vec<(f64, f64)> {
        let mut spans: Vec<(f64, f64)> = Vec::new();
        for window in windows {
            let (from, to) = (self.x(window.from), self.x(window.to));
            match spans.last_mut() {
                Some(last) if from - last.1 < FINEST => last.1 = last.1.max(to),
                _ => spans.push((from, to.max(from + FINEST))),
            }
        }
        spans.retain(|(from, to)| to > from);
        spans
    }

    pub(super) fn marks(&self, zone: &Zone) -> Vec<Mark> {
        let most = (self.width / LABEL).floor().max(1.0);
        let hours = self.seconds / 3_600.0;
        let step = STEPS_H.into_iter().find(|step| hours / *step as f64 <= most);
        let step = step.unwrap_or((hours / most).ceil() as i64) * 3_600;
        let first = self.from.as_second().div_euclid(step) * step;
        let marks = (0..=most as i64 + 1).filter_map(|number| {
            let instant = Timestamp::from_second(first + number * step).ok()?;
            let margin =
                SignedDuration::from_secs((LABEL / self.width * self.seconds / 2.0) as i64);
            let is_whole = self.shows(instant)
                && instant.checked_sub(margin).is_ok_and(|early| self.shows(early))
                && instant.checked_add(margin).is_ok_and(|late| self.shows(late));
            let format = if step < 365 * 86_400 { "%m-%d %H:%M" } else { "%Y-%m-%d" };
            is_whole.then(|| Mark {
                x: self.x(instant),
                utc: instant.strftime(format).to_string(),
                local: zone.at(instant).strftime(format).to_string(),
            })
        });
        marks.collect()
    }
}

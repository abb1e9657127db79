//! Fewer, longer stretches of time, for a chart: each has the worst verdict within it.

use super::{Step, Verdict};
use jiff::{SignedDuration, Timestamp};

/// Verdicts of stretches of equal length from `from` on. What no step covers is unknown.
pub fn resample(
    steps: &[Step],
    from: Timestamp,
    length: SignedDuration,
    count: usize,
) -> Vec<Verdict> {
    let mut verdicts = Vec::with_capacity(count);
    let (mut next, mut begin) = (0, from);
    for _ in 0..count {
        let Ok(end) = begin.checked_add(length) else { break };
        while steps.get(next).is_some_and(|step| step.until <= begin) {
            next += 1;
        }
        let within = steps[next..].iter().take_while(|step| step.time < end);
        let (mut covered, mut worst) = (begin, Verdict::Go);
        for step in within {
            // A hole between two steps is a gap.
            if step.time > covered {
                worst = worst.max(Verdict::Unknown);
            }
            covered = covered.max(step.until);
            worst = worst.max(step.verdict);
        }
        if covered < end {
            worst = worst.max(Verdict::Unknown);
        }
        verdicts.push(worst);
        begin = end;
    }
    verdicts
}

//! Windows against a reference that looks at every minute, and what must hold of any series.

use almanac_domain::weather::{
    Analysis, Analyst, Between, Combine, Limit, Location, Options, Question, Schedule, Series,
    SeriesDraft, Step, Task, TaskState, Variable, Verdict, resample,
};
use jiff::{SignedDuration, Timestamp};
use proptest::{collection::vec, option, prelude::*, sample::subsequence};
use rust_decimal::Decimal;
use std::ops::Range;

const MINUTES: i64 = 48 * 60;

fn at(minute: i64) -> Timestamp {
    "2026-03-10T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minute)
}

fn minute(timestamp: Timestamp) -> i64 {
    timestamp.duration_since(at(0)).as_mins()
}

const VARIABLES: [Variable; 2] = [Variable::WaveHeight, Variable::WindSpeed];

/// Tenths, for each of the two variables.
#[derive(Clone, Debug)]
struct Sample {
    from: i64,
    until: i64,
    values: [Option<i64>; 2],
}

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let value = || option::weighted(0.85, 0_i64..20);
    // Quarter-hours; how long each lasts, as a share of the way to the next.
    let sample = (1_i64..32, 1_i64..=4, value(), value());
    (0_i64..8, vec(sample, 1..14)).prop_map(|(first, samples)| {
        let mut from = first * 15;
        let mut built = Vec::new();
        for (distance, quarters, wave, wind) in samples {
            let next = from + distance * 15;
            let until = if quarters == 4 { next } else { from + (distance * 15 * quarters) / 4 };
            built.push(Sample { from, until: until.max(from + 1), values: [wave, wind] });
            from = next;
        }
        built
    })
}

fn series(samples: &[Sample]) -> Series {
    let column = |place: usize| {
        let value = |sample: &Sample| sample.values[place].map(|tenths| Decimal::new(tenths, 1));
        (VARIABLES[place], samples.iter().map(value).collect())
    };
    let draft = SeriesDraft {
        source: "own".to_owned(),
        step_s: None,
        times: samples.iter().map(|sample| at(sample.from)).collect(),
        untils: samples.iter().map(|sample| Some(at(sample.until))).collect(),
        columns: vec![column(0), column(1)],
    };
    draft.check().unwrap()
}

#[derive(Clone, Copy, Debug)]
struct Bounds {
    max: i64,
    min: Option<i64>,
}

fn limits() -> impl Strategy<Value = [Option<Bounds>; 2]> {
    let bounds = || (5_i64..20, option::weighted(0.3, 0_i64..5));
    (bounds(), option::of(bounds())).prop_map(|(wave, wind)| {
        [Some(wave), wind].map(|bounds| bounds.map(|(max, min)| Bounds { max, min }))
    })
}

fn schedule(limits: &[Option<Bounds>; 2], minutes: i64) -> Schedule {
    let limits = limits.iter().zip(VARIABLES).filter_map(|(bounds, variable)| {
        let Bounds { max, min } = (*bounds)?;
        let tenths = |value| Decimal::new(value, 1);
        Some(Limit { variable, min: min.map(tenths), max: Some(tenths(max)) })
    });
    Schedule {
        name: "one task".to_owned(),
        location: Location { lat: Decimal::ONE, lon: Decimal::ONE },
        repeat_every_s: None,
        tasks: vec![Task {
            id: "a".to_owned(),
            name: "a".to_owned(),
            duration_s: minutes * 60,
            contingency_s: None,
            predecessors: Vec::new(),
            limits: limits.collect(),
        }],
    }
}

fn options(between: Between, combine: Combine) -> Options {
    Options { between, combine, ..Options::default() }
}

fn analysis(schedule: &Schedule, series: &[Series], options: Options) -> Option<Analysis> {
    Some(analyst(schedule, series, options)?.analyse())
}

/// `None` where a limited variable has no value at all.
fn analyst<'a>(
    schedule: &'a Schedule,
    series: &'a [Series],
    options: Options,
) -> Option<Analyst<'a>> {
    let question = Question { schedule, states: &[], series, is_inline: true, options, now: at(0) };
    Analyst::new(question).ok()
}

/// The verdict of one variable's value.
fn of_value(bounds: Bounds, value: Option<i64>) -> Verdict {
    match value {
        None => Verdict::Unknown,
        Some(value) if value > bounds.max || bounds.min.is_some_and(|min| value < min) => {
            Verdict::NoGo
        }
        Some(_) => Verdict::Go,
    }
}

/// The verdict of a minute, told from the samples one by one.
fn reference(
    sources: &[&[Sample]],
    limits: &[Option<Bounds>; 2],
    between: Between,
    combine: Combine,
    minute: i64,
) -> Verdict {
    // Per source: the sample that covers the minute, and the one that ends it where it counts.
    let covering = |samples: &[Sample]| {
        let sample = samples.iter().find(|one| (one.from..one.until).contains(&minute))?.clone();
        if between == Between::Hold || sample.until - sample.from <= 60 {
            return Some((sample, None));
        }
        if minute - sample.from < 60 {
            return Some((sample, None));
        }
        let ending = samples.iter().find(|one| one.from == sample.until)?.clone();
        Some((sample, Some(ending)))
    };
    let mut worst = Verdict::Go;
    for (place, bounds) in limits.iter().enumerate() {
        let Some(bounds) = *bounds else { continue };
        let mut with_value = Vec::new();
        let mut ended_only = Verdict::Unknown;
        for samples in sources {
            let Some((sample, ending)) = covering(samples) else { continue };
            let own = of_value(bounds, sample.values[place]);
            let ending = ending.map(|ending| of_value(bounds, ending.values[place]));
            let verdict = ending.map_or(own, |ending| own.max(ending));
            match sample.values[place] {
                Some(_) => with_value.push(verdict),
                None => ended_only = ended_only.max(verdict),
            }
        }
        let verdict = match combine {
            Combine::First => with_value.first().copied(),
            // A long span that began with a missing value may end in one that refuses.
            Combine::Worst if ended_only == Verdict::NoGo => Some(Verdict::NoGo),
            Combine::Worst => with_value.into_iter().max(),
        };
        worst = worst.max(verdict.unwrap_or(ended_only));
    }
    worst
}

/// Runs of minutes for which it is true.
fn runs(is: impl Fn(i64) -> bool) -> Vec<Range<i64>> {
    let mut runs: Vec<Range<i64>> = Vec::new();
    for minute in (0..MINUTES * 3).filter(|minute| is(*minute)) {
        match runs.last_mut() {
            Some(run) if run.end == minute => run.end += 1,
            _ => runs.push(minute..minute + 1),
        }
    }
    runs
}

fn ways() -> impl Strategy<Value = (Between, Combine)> {
    (
        prop_oneof![Just(Between::Worst), Just(Between::Hold)],
        prop_oneof![Just(Combine::First), Just(Combine::Worst)],
    )
}

/// Tasks of these durations, each with some of those before it as predecessors.
fn chain(limits: &[Option<Bounds>; 2], tasks: &[(i64, u8)]) -> Schedule {
    let mut chained = schedule(limits, 1);
    let model = chained.tasks.remove(0);
    for (place, (minutes, mask)) in tasks.iter().enumerate() {
        let before = (0..place).filter(|before| mask & (1 << before) != 0);
        chained.tasks.push(Task {
            id: place.to_string(),
            duration_s: minutes * 60,
            predecessors: before.map(|before| before.to_string()).collect(),
            // One of them needs no forecast.
            limits: if mask & 0x80 == 0 { model.limits.clone() } else { Vec::new() },
            ..model.clone()
        });
    }
    chained
}

proptest! {
    #[test]
    fn a_plan_is_as_early_as_can_be_and_says_how_late_it_may_be(
        one in samples(), limits in limits(), tasks in vec((1_i64..200, any::<u8>()), 1..6),
    ) {
        let all = [series(&one)];
        let schedule = chain(&limits, &tasks);
        let options = options(Between::Worst, Combine::First);
        let Some(planned) = analysis(&schedule, &all, options) else { return Ok(()) };
        let start_from = planned.start_from;
        let is_possible = |place: usize, start: Timestamp| {
            let result = &planned.tasks[place];
            let mut windows = result.start_windows.iter().map(|start| start.window);
            start >= start_from
                && (result.is_unrestricted
                    || windows.any(|window| window.from <= start && start <= window.to))
        };
        // The completion when a task starts at that time, and the others as they can.
        let completion = |place: usize, at: Timestamp| {
            let mut states = vec![TaskState::Planned; tasks.len()];
            states[place] = TaskState::Started { at };
            let question = Question {
                schedule: &schedule, states: &states, series: &all, is_inline: true, options,
                now: start_from,
            };
            Analyst::new(question).unwrap().analyse().earliest_completion
        };
        for (place, task) in schedule.tasks.iter().enumerate() {
            let ends = task.predecessors.iter().map(|id| planned.plan[id.parse::<usize>().unwrap()].end);
            let Some(release) = ends.collect::<Option<Vec<_>>>() else {
                prop_assert_eq!(planned.plan[place].start, None);
                continue;
            };
            let release = release.into_iter().fold(start_from, Timestamp::max);
            let horizon = minute(release)..=MINUTES * 3;
            let first = horizon.map(at).find(|start| is_possible(place, *start));
            prop_assert_eq!(planned.plan[place].start, first, "task {}", place);
            let Some(latest) = planned.plan[place].latest_start else {
                prop_assert_eq!(planned.earliest_completion, None);
                continue;
            };
            prop_assert!(is_possible(place, latest) && Some(latest) >= first);
            prop_assert_eq!(completion(place, latest), planned.earliest_completion);
            let later = (minute(latest) + 1..=MINUTES * 3).map(at);
            if let Some(later) = later.into_iter().find(|start| is_possible(place, *start)) {
                let with = completion(place, later);
                prop_assert!(with.is_none() || with > planned.earliest_completion);
            }
        }
    }

    #[test]
    fn every_minute_agrees_with_the_reference(
        one in samples(), other in samples(), limits in limits(), minutes in 1_i64..600,
        (between, combine) in ways(),
    ) {
        let sources = [&one[..], &other[..]];
        let all = [series(&one), series(&other)];
        let schedule = schedule(&limits, minutes);
        let Some(analysis) = analysis(&schedule, &all, options(between, combine)) else {
            return Ok(());
        };
        let is_go = |minute| {
            let is_covered = sources.iter().any(|samples| {
                samples.iter().any(|sample| (sample.from..sample.until).contains(&minute))
            });
            is_covered
                && reference(&sources, &limits, between, combine, minute) == Verdict::Go
        };
        let go = runs(is_go);
        let found: Vec<Range<i64>> = analysis.tasks[0]
            .windows
            .iter()
            .map(|window| minute(window.from)..minute(window.to))
            .collect();
        prop_assert_eq!(&found, &go);
        // A start is possible when each of its minutes is a go.
        let first = one[0].from.min(other[0].from);
        let starts: Vec<(i64, i64)> = go
            .iter()
            .filter(|run| run.end - run.start.max(first) >= minutes)
            .map(|run| (run.start.max(first), run.end - minutes))
            .collect();
        let found: Vec<(i64, i64)> = analysis.tasks[0]
            .start_windows
            .iter()
            .map(|start| (minute(start.window.from), minute(start.window.to)))
            .collect();
        prop_assert_eq!(&found, &starts);
        prop_assert_eq!(analysis.plan[0].start.map(minute), starts.first().map(|range| range.0));
    }

    #[test]
    fn steps_tell_the_verdict_of_every_minute(
        one in samples(), limits in limits(), (between, combine) in ways(),
    ) {
        let all = [series(&one)];
        let schedule = schedule(&limits, 60);
        let Some(analyst) = analyst(&schedule, &all, options(between, combine)) else {
            return Ok(());
        };
        let steps = analyst.steps(0);
        for pair in steps.windows(2) {
            prop_assert_eq!(pair[0].until, pair[1].time, "steps leave nothing out");
        }
        for step in &steps {
            prop_assert_eq!(step.decided_by.is_none(), step.verdict == Verdict::Go);
            for minute in [minute(step.time), minute(step.until) - 1] {
                let wanted = reference(&[&one], &limits, between, combine, minute);
                prop_assert_eq!(step.verdict, wanted, "minute {}", minute);
            }
        }
    }

    #[test]
    fn resampling_adds_no_go(
        one in samples(), limits in limits(), length in 1_i64..300, first in -100_i64..600,
    ) {
        let all = [series(&one)];
        let schedule = schedule(&limits, 60);
        let options = options(Between::Worst, Combine::First);
        let Some(analyst) = analyst(&schedule, &all, options) else { return Ok(()) };
        let steps = analyst.steps(0);
        let coarse = resample(&steps, at(first), SignedDuration::from_mins(length), 20);
        prop_assert_eq!(coarse.len(), 20);
        for (number, verdict) in (0..).zip(coarse) {
            let begin = first + number * length;
            let of_minute = |minute: i64| {
                let covers = |step: &&Step| step.time <= at(minute) && at(minute) < step.until;
                steps.iter().find(covers).map_or(Verdict::Unknown, |step| step.verdict)
            };
            let worst = (begin..begin + length).map(of_minute).max();
            prop_assert_eq!(Some(verdict), worst, "from minute {}", begin);
        }
    }

    #[test]
    fn a_lost_sample_never_adds_a_start(
        (whole, kept) in samples().prop_flat_map(|whole| {
            let kept = subsequence(whole.clone(), whole.len().saturating_sub(1));
            (Just(whole), kept)
        }),
        limits in limits(), minutes in 1_i64..600, (between, combine) in ways(),
    ) {
        prop_assume!(!kept.is_empty());
        let schedule = schedule(&limits, minutes);
        let possible = |samples: &[Sample]| {
            let all = [series(samples)];
            let found = analysis(&schedule, &all, options(between, combine))?;
            let starts = found.tasks[0].start_windows.iter();
            Some(starts.map(|one| (one.window.from, one.window.to)).collect::<Vec<_>>())
        };
        let (Some(before), Some(after)) = (possible(&whole), possible(&kept)) else {
            return Ok(());
        };
        for (from, to) in after {
            let was = before.iter().any(|(known, until)| *known <= from && to <= *until);
            prop_assert!(was, "{from} to {to} was not possible with all samples");
        }
    }

    #[test]
    fn the_worst_of_sources_permits_nothing_that_one_refuses(
        one in samples(), other in samples(), limits in limits(),
    ) {
        let schedule = schedule(&limits, 30);
        let worst = options(Between::Worst, Combine::Worst);
        let all = [series(&one), series(&other)];
        let Some(both) = analysis(&schedule, &all, worst) else { return Ok(()) };
        for alone in &all {
            let alone = std::slice::from_ref(alone);
            let Some(alone) = analyst(&schedule, alone, worst) else { continue };
            let refused = alone.steps(0).into_iter().filter(|step| step.verdict == Verdict::NoGo);
            for step in refused {
                for window in &both.tasks[0].windows {
                    prop_assert!(window.to <= step.time || step.until <= window.from);
                }
            }
        }
    }
}

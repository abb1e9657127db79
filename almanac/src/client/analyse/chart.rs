//! A small chart of an analysis in text: a row per task, each column the worst of its time.

use almanac_domain::weather::{Step, Verdict, resample};
use jiff::{SignedDuration, Timestamp};
use std::fmt::Write;

/// Columns of a row.
const WIDTH: usize = 72;
const LEGEND: &str = "# go   . no go   ? unknown   = no limits; each column the worst of its time";

/// Where the chart begins, and how long a column is.
pub(super) struct Scale {
    from: Timestamp,
    column: SignedDuration,
}

impl Scale {
    pub(super) fn of(steps: &[Step]) -> Option<Self> {
        let (from, until) = (steps.first()?.time, steps.last()?.until);
        let (seconds, columns) = (until.duration_since(from).as_secs().max(1), WIDTH as i64);
        Some(Self { from, column: SignedDuration::from_secs((seconds + columns - 1) / columns) })
    }

    pub(super) fn row(&self, steps: &[Step]) -> String {
        let verdicts = resample(steps, self.from, self.column, WIDTH);
        verdicts.into_iter().map(symbol).collect()
    }
}

fn symbol(verdict: Verdict) -> char {
    match verdict {
        Verdict::Go => '#',
        Verdict::NoGo => '.',
        Verdict::Unknown => '?',
    }
}

/// What the chart shows of a task.
pub(super) struct Row {
    pub(super) id: String,
    /// `None`: without limits.
    pub(super) verdicts: Option<String>,
    pub(super) told: String,
    /// Its start, its end, and the last start that delays nothing.
    pub(super) planned: Option<(Timestamp, Timestamp, Option<Timestamp>)>,
}

/// What is told of a task beside its row.
pub(super) struct Starts<'a> {
    pub(super) failed: Option<&'a str>,
    pub(super) is_unrestricted: bool,
    pub(super) ranges: usize,
    pub(super) longest: Option<(Timestamp, Timestamp, &'a str)>,
}

impl Starts<'_> {
    pub(super) fn tell(&self) -> String {
        if let Some(refusal) = self.failed {
            return format!("not answered: {refusal}");
        }
        if self.is_unrestricted {
            return "no limits".to_owned();
        }
        match (self.ranges, self.longest) {
            (0, None) => "never within limits".to_owned(),
            (0, Some((from, to, ended_by))) => {
                let hours = to.duration_since(from).as_secs() as f64 / 3_600.0;
                let ended_by = match ended_by {
                    "end_of_forecast" => "the end of the forecast".to_owned(),
                    "gap" => "a gap in the forecast".to_owned(),
                    other => match other.strip_prefix("missing:") {
                        Some(variable) => format!("a missing {variable}"),
                        None => other.to_owned(),
                    },
                };
                format!("no start; the longest window has {hours:.1} h, ended by {ended_by}")
            }
            (1, _) => "1 range of starts".to_owned(),
            (count, _) => format!("{count} ranges of starts"),
        }
    }
}

/// `completion` is the earliest one of the whole plan.
pub(super) fn render(scale: Option<&Scale>, rows: &[Row], completion: Option<Timestamp>) -> String {
    let Some(Scale { from, column }) = scale else {
        return "no task has limits: all can start at once".to_owned();
    };
    let mut text = String::new();
    let longest = rows.iter().map(|row| row.id.chars().count()).max().unwrap_or(0);
    let name_width = longest.clamp(4, 24);
    let end = *from + SignedDuration::from_secs(column.as_secs() * WIDTH as i64);
    let (first, last) = (minute(*from), minute(end));
    let gap = WIDTH.saturating_sub(first.len() + last.len());
    let _ = writeln!(text, "{:name_width$}  {first}{:gap$}{last}", "", "");
    for Row { id, verdicts, told, planned } in rows {
        let name: String = id.chars().take(name_width).collect();
        let row = verdicts.clone().unwrap_or_else(|| "=".repeat(WIDTH));
        let _ = writeln!(text, "{name:name_width$}  {row:WIDTH$}  {told}");
        if let Some((start, end, latest)) = planned {
            let (start, end) = (minute(*start), minute(*end));
            let _ = write!(text, "{:name_width$}  planned {start} to {end}", "");
            if let Some(latest) = latest {
                let _ = write!(text, ", at the latest {}", minute(*latest));
            }
            text.push('\n');
        }
    }
    let completion = completion.map_or("none".to_owned(), minute);
    let _ = writeln!(text, "\nearliest completion: {completion}");
    text.push_str(LEGEND);
    text
}

pub(super) fn minute(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%MZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_a_window_is_told_in_words() {
        let at = |hour: i64| Timestamp::from_second(hour * 3_600).unwrap();
        let told = |ended_by| {
            let longest = Some((at(0), at(3), ended_by));
            Starts { failed: None, is_unrestricted: false, ranges: 0, longest }.tell()
        };
        assert_eq!(
            told("missing:wave_height_m"),
            "no start; the longest window has 3.0 h, ended by a missing wave_height_m"
        );
        assert!(told("gap").ends_with("a gap in the forecast"));
        assert!(told("end_of_forecast").ends_with("the end of the forecast"));
        assert!(told("wind_speed_ms").ends_with("ended by wind_speed_ms"));
    }
}

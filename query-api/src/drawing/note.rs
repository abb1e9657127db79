//! The decision note: what was asked, what it rests on, and what follows, as Markdown for a vessel's
//! papers.

use super::{Shown, Zone, words};
use almanac_domain::weather::{Between, Combine, PlannedTask, Task, TaskResult, Window};
use std::fmt::Write;

/// Ranges of possible starts and windows listed of each task; the answer as JSON has all.
const LISTED: usize = 20;

pub fn note(shown: &Shown<'_>, zone: &Zone) -> String {
    let mut text = String::new();
    let schedule = shown.schedule;
    line(&mut text, &format!("# Weather windows: {}", escaped(&schedule.name)));
    asked(&mut text, shown, zone);
    rests_on(&mut text, shown);
    for warning in shown.warnings {
        line(&mut text, &format!("- **{}**: {}", escaped(&warning.0), escaped(&warning.1)));
    }
    line(&mut text, "\n## Decision");
    line(
        &mut text,
        &match shown.analysis.earliest_completion {
            Some(end) => format!("Earliest completion: **{}**.", words::both(end, zone)),
            None => "**No completion within the forecast.**".to_owned(),
        },
    );
    table(&mut text, shown, zone);
    for (place, task) in schedule.tasks.iter().enumerate() {
        one_task(&mut text, shown, place, task, zone);
    }
    line(
        &mut text,
        "\nUnknown never counts as within limits, and nothing is interpolated. This note is computed from \
         a forecast: it does not replace the judgement of master and marine representative.",
    );
    text
}

fn line(text: &mut String, one: &str) {
    text.push_str(one);
    text.push('\n');
}

fn asked(text: &mut String, shown: &Shown<'_>, zone: &Zone) {
    let asked = &shown.asked;
    line(text, "\n## What was asked");
    line(text, &format!("- Place: {}", words::place(&shown.schedule.location)));
    line(text, &format!("- Start from: {}", words::both(shown.analysis.start_from, zone)));
    line(text, &format!("- Local time: {}", escaped(zone.name())));
    if let Some(id) = asked.id {
        line(text, &format!("- Analysis: `{id}`"));
    }
    if let Some(id) = asked.schedule_id {
        let version = asked.schedule_version.map(|version| format!(", version {version}"));
        line(text, &format!("- Schedule: `{id}`{}", version.unwrap_or_default()));
    }
    if let Some(requested) = asked.requested_at {
        line(text, &format!("- Requested: {}", words::utc(requested)));
    }
    line(text, &format!("- Analysed: {}", words::utc(asked.now)));
    let options = &asked.options;
    let between = match options.between {
        Between::Worst => "the worse of two samples counts after the first hour of a longer span",
        Between::Hold => "a sample counts for its whole span",
    };
    let combine = match options.combine {
        Combine::First => "the first source that has a value counts",
        Combine::Worst => "the worst of all sources counts",
    };
    line(text, &format!("- Between samples: {between}"));
    line(text, &format!("- Sources: {combine}"));
    match options.alpha {
        None => line(text, "- Uncertainty: limits count as they are"),
        Some(table) => line(
            text,
            &format!(
                "- Uncertainty: alpha factors of DNV-OS-H101 (2011), Sec. 4, table {}; superseded by \
                 DNV-ST-N001, whose tables are others",
                table.as_str()
            ),
        ),
    }
}

fn rests_on(text: &mut String, shown: &Shown<'_>) {
    line(text, "\n## What it rests on");
    if shown.sources.is_empty() {
        line(text, "- No forecast: no task has limits");
    }
    for source in shown.sources {
        line(text, &format!("- {}", escaped(&words::source(source))));
        if let Some(attribution) = &source.attribution {
            line(text, &format!("  {}", escaped(attribution)));
        }
    }
    for variable in &shown.analysis.variables {
        let step = words::duration(variable.step_s);
        let (name, source) = (variable.variable.meaning(), escaped(&variable.source));
        let until = words::utc(variable.until);
        line(text, &format!("- {name}: {source}, every {step}, until {until}"));
    }
}

fn table(text: &mut String, shown: &Shown<'_>, zone: &Zone) {
    line(text, "\n| task | start | end | latest start | margin |");
    line(text, "|---|---|---|---|---|");
    for (place, task) in shown.schedule.tasks.iter().enumerate() {
        let planned: &PlannedTask = &shown.analysis.plan[place];
        let told = |instant: Option<jiff::Timestamp>| {
            instant.map_or("none".to_owned(), |instant| words::both(instant, zone))
        };
        let margin = margin(&shown.analysis.tasks[place], planned);
        line(
            text,
            &format!(
                "| {} | {} | {} | {} | {} |",
                escaped(&task.name),
                told(planned.start),
                told(planned.end),
                told(planned.latest_start),
                margin.unwrap_or_default()
            ),
        );
    }
}

/// Of the window that the planned start lies in.
fn margin(result: &TaskResult, planned: &PlannedTask) -> Option<String> {
    let start = planned.start?;
    let holds = |window: &Window| window.from <= start && start <= window.to;
    let chosen = result.start_windows.iter().find(|range| holds(&range.window))?;
    let margin = chosen.margin.as_ref()?;
    let (unit, name) = (words::unit(margin.variable), margin.variable.meaning());
    Some(format!("{} {unit}, {name}", margin.amount))
}

fn one_task(text: &mut String, shown: &Shown<'_>, place: usize, task: &Task, zone: &Zone) {
    let result = &shown.analysis.tasks[place];
    line(text, &format!("\n### {}", escaped(&task.name)));
    line(text, &format!("- Takes {}", words::duration(task.duration_s)));
    if !task.predecessors.is_empty() {
        line(text, &format!("- After {}", escaped(&task.predecessors.join(", "))));
    }
    for limit in &task.limits {
        line(text, &format!("- Limit: {}", words::limit(limit)));
    }
    if let Some(alpha) = result.alpha {
        line(
            text,
            &format!(
                "- Wave height limit used: {} m (factor {}, row {} h of table {})",
                alpha.limit,
                alpha.factor,
                alpha.row,
                alpha.table.as_str()
            ),
        );
    }
    if let Some(refusal) = result.failed {
        line(text, &format!("- **Not answered:** {refusal}"));
        return;
    }
    if result.is_unrestricted {
        line(text, "- No limits: it starts when its predecessors have ended");
        return;
    }
    if let Some(risk) = shown.analysis.plan[place].at_risk {
        line(text, &format!("- **At risk** from {}", words::both(risk, zone)));
    }
    let starts = result.start_windows.iter().map(|start| start.window);
    ranges(text, "Possible starts", starts, zone);
    ranges(text, "Within limits", result.windows.iter().copied(), zone);
    if let Some(longest) = &result.longest_window {
        let Window { from, to } = longest.window;
        let lasts = words::duration(to.duration_since(from).as_secs());
        let ended_by = words::ended_by(longest);
        let from = words::utc(from);
        line(text, &format!("- Longest window: {lasts} from {from}, ended by {ended_by}"));
    }
}

fn ranges(text: &mut String, title: &str, windows: impl Iterator<Item = Window>, zone: &Zone) {
    let windows: Vec<Window> = windows.collect();
    if windows.is_empty() {
        return line(text, &format!("- {title}: none"));
    }
    line(text, &format!("- {title}:"));
    for window in windows.iter().take(LISTED) {
        let (from, to) = (words::both(window.from, zone), words::both(window.to, zone));
        line(text, &format!("  - {from} to {to}"));
    }
    if windows.len() > LISTED {
        let _ = writeln!(text, "  - and {} more", windows.len() - LISTED);
    }
}

/// What a user or a service wrote stays text: no markup, no further lines, no cells.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '|' | '!' | '~' | '&' => {
                safe.push('\\');
                safe.push(letter);
            }
            letter if letter.is_control() => safe.push(' '),
            letter => safe.push(letter),
        }
    }
    safe
}

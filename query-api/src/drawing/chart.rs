//! The drawing of an analysis: limited values with their limits above, one row per task below, on one
//! axis of time. It has no script and nothing from outside; colours follow the reader's preference.

use super::{
    Shown, Zone,
    axis::Axis,
    svg::{Svg, number},
    words,
};
use almanac_domain::weather::{
    PlannedTask, Stretch, Task, TaskResult, TaskState, Variable, Verdict, Window,
};
use jiff::Timestamp;
use rust_decimal::{Decimal, prelude::ToPrimitive};
use std::{collections::BTreeSet, ops::RangeInclusive};

/// What may be asked for, in units that a screen shows as pixels.
pub const WIDTHS: RangeInclusive<u32> = 320..=2_000;
pub const DEFAULT_WIDTH: u32 = 960;

/// How a reader wants it.
#[derive(Clone, Debug)]
pub struct View {
    pub width: u32,
    pub zone: Zone,
    /// Marked as now, where it lies within the forecast.
    pub now: Timestamp,
}

/// A schedule may have a thousand tasks; a page is read with fewer.
const MAX_ROWS: usize = 100;
/// More limits of one variable than these are drawn as the strictest and the loosest.
const MAX_LIMITS: usize = 4;
const EDGE: f64 = 12.0;
const LINE: f64 = 20.0;
const PANEL: f64 = 84.0;
const BAR: f64 = 16.0;

const STYLE: &str = "svg{--paper:#fff;--ink:#1b1f24;--soft:#57606a;--rule:#d0d7de;--go:#3fa66a;--start:#176f3d;--value:#0b61a4;--limit:#b3261e;--plan:#1b1f24;--unknown:#8c959f;--now:#8250df;font:13px system-ui,sans-serif;max-width:100%;height:auto;color-scheme:light dark}\
@media(prefers-color-scheme:dark){svg{--paper:#0d1117;--ink:#e6edf3;--soft:#9da7b1;--rule:#30363d;--go:#2f7d50;--start:#7ee2a8;--value:#6cb6ff;--limit:#ff8a80;--plan:#e6edf3;--unknown:#6e7681;--now:#c297ff}}\
@media print{svg{--paper:#fff;--ink:#000;--soft:#333;--rule:#999;--go:#bbb;--start:#444;--value:#000;--limit:#000;--plan:#000;--unknown:#777;--now:#000}}\
text{fill:var(--ink)}.soft{fill:var(--soft)}.title{font-size:17px;font-weight:600}.end{text-anchor:end}.mid{text-anchor:middle}\
.paper{fill:var(--paper)}.rule{stroke:var(--rule)}.none{stroke:var(--rule);stroke-width:3}.value{fill:none;stroke:var(--value);stroke-width:2}\
.limit{stroke:var(--limit);stroke-dasharray:6 4}.limit-text{fill:var(--limit);paint-order:stroke;stroke:var(--paper);stroke-width:4px}.go{fill:var(--go)}.start{fill:var(--start)}\
.unknown{fill:url(#hatch)}.hatch{stroke:var(--unknown);stroke-width:2}.plan{fill:none;stroke:var(--plan);stroke-width:2}.done{fill:var(--soft)}\
.risk{stroke:var(--limit);stroke-width:3}.now{stroke:var(--now);stroke-width:2;stroke-dasharray:2 3}.now-text{fill:var(--now)}";

/// An SVG document.
pub fn chart(shown: &Shown<'_>, view: &View) -> String {
    let width = f64::from(view.width.clamp(*WIDTHS.start(), *WIDTHS.end()));
    let variables: Vec<(Variable, Vec<Stretch>)> = Variable::ALL
        .into_iter()
        .map(|variable| (variable, shown.analyst.values(variable)))
        .filter(|(_, stretches)| !stretches.is_empty())
        .collect();
    let axis = Axis::new(whole(shown, &variables), EDGE, width - 2.0 * EDGE);
    let mut body = Body { svg: Svg::new(), axis, width, y: EDGE };
    body.header(shown, view);
    let top = body.y;
    body.marks(view);
    for (variable, stretches) in &variables {
        body.panel(shown, *variable, stretches);
    }
    let rows = shown.schedule.tasks.len().min(MAX_ROWS);
    for place in 0..rows {
        body.row(shown, place);
    }
    if shown.schedule.tasks.len() > rows {
        let left = shown.schedule.tasks.len() - rows;
        body.line_of_text("soft", &format!("{left} more tasks are not drawn"));
    }
    body.now(view.now, top);
    body.legend();
    let (height, content) = (body.y + EDGE, body.svg.finish());
    document(shown, view, (width, height), &content)
}

/// From the first to the last instant of the forecast and of the plan.
fn whole(shown: &Shown<'_>, variables: &[(Variable, Vec<Stretch>)]) -> Window {
    let forecast = variables.iter().flat_map(|(_, stretches)| {
        [stretches.first().map(|one| one.window.from), stretches.last().map(|one| one.window.to)]
    });
    let plan = shown.analysis.plan.iter().flat_map(|planned| [planned.start, planned.end]);
    let instants = forecast.chain(plan).flatten().chain([shown.analysis.start_from]);
    let (from, to) = instants.fold((Timestamp::MAX, Timestamp::MIN), |(from, to), instant| {
        (from.min(instant), to.max(instant))
    });
    Window { from, to }
}

fn document(shown: &Shown<'_>, view: &View, (width, height): (f64, f64), content: &str) -> String {
    let mut svg = Svg::new();
    let root = [
        ("xmlns", "http://www.w3.org/2000/svg".to_owned()),
        ("viewBox", format!("0 0 {} {}", number(width), number(height))),
        ("width", number(width)),
        ("height", number(height)),
        ("role", "img".to_owned()),
        ("aria-labelledby", "name".to_owned()),
        ("aria-describedby", "told".to_owned()),
    ];
    svg.open("svg", "", &root);
    svg.with_text("title", "", &[("id", "name".to_owned())], &shown.schedule.name);
    svg.with_text("desc", "", &[("id", "told".to_owned())], &told(shown, view));
    svg.style(STYLE);
    let (size, angle) = ("6".to_owned(), "rotate(45)".to_owned());
    svg.open("defs", "", &[]);
    let pattern = [
        ("id", "hatch".to_owned()),
        ("width", size.clone()),
        ("height", size),
        ("patternUnits", "userSpaceOnUse".to_owned()),
        ("patternTransform", angle),
    ];
    svg.open("pattern", "", &pattern);
    svg.line("hatch", (0.0, 0.0), (0.0, 6.0));
    svg.close("pattern");
    svg.close("defs");
    let whole = [("width", "100%".to_owned()), ("height", "100%".to_owned())];
    svg.empty("rect", "paper", &whole);
    svg.close("svg");
    let mut text = svg.finish();
    // The content was written by the same writer.
    text.insert_str(text.len() - "</svg>".len(), content);
    text
}

/// The drawing in words, for those who do not see it.
fn told(shown: &Shown<'_>, view: &View) -> String {
    let mut text = format!("Weather windows at {}. ", words::place(&shown.schedule.location));
    text.push_str(&completion(shown));
    for (task, planned) in shown.schedule.tasks.iter().zip(&shown.analysis.plan).take(MAX_ROWS) {
        text.push_str(&format!(". {}: {}", task.name, planned_in_words(planned, &view.zone)));
    }
    text
}

fn completion(shown: &Shown<'_>) -> String {
    match shown.analysis.earliest_completion {
        Some(end) => format!("Earliest completion {}", words::utc(end)),
        None => "No completion within the forecast".to_owned(),
    }
}

fn planned_in_words(planned: &PlannedTask, zone: &Zone) -> String {
    let Some((start, end)) = planned.start.zip(planned.end) else {
        return "no possible start".to_owned();
    };
    let mut text = format!("{} to {}", words::both(start, zone), words::utc(end));
    if let Some(latest) = planned.latest_start.filter(|latest| *latest != start) {
        text.push_str(&format!(", at the latest from {}", words::utc(latest)));
    }
    if let Some(risk) = planned.at_risk {
        text.push_str(&format!(", at risk from {}", words::utc(risk)));
    }
    text
}

struct Body {
    svg: Svg,
    axis: Axis,
    width: f64,
    /// Where the next thing is drawn.
    y: f64,
}

impl Body {
    /// Text that goes on in further lines where it needs to.
    fn line_of_text(&mut self, class: &str, text: &str) {
        let letter = if class == "title" { 9.0 } else { 6.8 };
        for line in wrapped(text, ((self.width - 2.0 * EDGE) / letter) as usize) {
            self.y += LINE;
            self.svg.text(class, EDGE, self.y - 5.0, &line);
        }
    }

    fn header(&mut self, shown: &Shown<'_>, view: &View) {
        self.line_of_text("title", &shown.schedule.name);
        self.line_of_text("", &completion(shown));
        let place = words::place(&shown.schedule.location);
        self.line_of_text("soft", &format!("{place}; local time {}", view.zone.name()));
        for source in shown.sources {
            self.line_of_text("soft", &words::source(source));
            if let Some(attribution) = &source.attribution {
                self.line_of_text("soft", attribution);
            }
        }
        for (code, detail) in shown.warnings {
            self.line_of_text("limit-text", &format!("{code}: {detail}"));
        }
        self.y += 6.0;
    }

    fn marks(&mut self, view: &View) {
        let marks = self.axis.marks(&view.zone);
        let (utc, local) = (self.y + 14.0, self.y + 30.0);
        self.svg.text("soft", EDGE, utc, "UTC");
        self.svg.text("soft", EDGE, local, "local");
        for mark in marks.iter().filter(|mark| mark.x > EDGE + 76.0) {
            self.svg.text("mid", mark.x, utc, &mark.utc);
            self.svg.text("soft mid", mark.x, local, &mark.local);
            self.svg.line("rule", (mark.x, local + 4.0), (mark.x, local + 10.0));
        }
        self.y = local + 10.0;
        self.svg.line("rule", (EDGE, self.y), (self.width - EDGE, self.y));
        self.y += 6.0;
    }

    fn panel(&mut self, shown: &Shown<'_>, variable: Variable, stretches: &[Stretch]) {
        let limits = Limits::of(shown, variable);
        let values = stretches.iter().filter_map(|stretch| stretch.value.map(|(_, high)| high));
        let highest = values.chain(limits.all()).max().unwrap_or(Decimal::ONE);
        let highest = highest.to_f64().unwrap_or(1.0).max(f64::MIN_POSITIVE) * 1.12;
        let title = format!("{}, {}", variable.meaning(), words::unit(variable));
        self.line_of_text("", &title);
        let (top, bottom) = (self.y, self.y + PANEL);
        let y = |value: Decimal| bottom - value.to_f64().unwrap_or_default() / highest * PANEL;
        let missing = stretches.iter().filter(|stretch| stretch.value.is_none());
        let missing = self.axis.spans(missing.map(|stretch| stretch.window));
        self.svg.bars("unknown", &missing, top, PANEL);
        self.svg.line("rule", (EDGE, bottom), (self.width - EDGE, bottom));
        let data = curve(&self.axis, stretches, limits.is_low_worse(), y);
        self.svg.path("value", data);
        for (word, limit) in limits.drawn() {
            let at = y(limit);
            self.svg.line("limit", (EDGE, at), (self.width - EDGE, at));
            let text = format!("{word} {}", limit.normalize());
            self.svg.text("limit-text end", self.width - EDGE, at - 3.0, &text);
        }
        self.y = bottom + 8.0;
    }

    fn row(&mut self, shown: &Shown<'_>, place: usize) {
        let task: &Task = &shown.schedule.tasks[place];
        let (result, planned) = (&shown.analysis.tasks[place], &shown.analysis.plan[place]);
        let state = shown.states.get(place).copied().unwrap_or_default();
        self.line_of_text("", &label(task, result, planned, state));
        self.y += 3.0;
        let (top, middle) = (self.y, self.y + BAR / 2.0);
        self.svg.line("none", (EDGE, middle), (self.width - EDGE, middle));
        if result.is_unrestricted {
            self.svg.bars("go", &[(EDGE, self.width - EDGE)], top + 4.0, BAR - 8.0);
        }
        let verdicts = shown.analyst.verdicts(place);
        let of = |wanted: Verdict| {
            let some = verdicts.iter().filter(move |(_, verdict)| *verdict == wanted);
            self.axis.spans(some.map(|(window, _)| *window))
        };
        let (go, unknown) = (of(Verdict::Go), of(Verdict::Unknown));
        let starts = self.axis.spans(result.start_windows.iter().map(|start| start.window));
        self.svg.bars("go", &go, top, BAR);
        self.svg.bars("unknown", &unknown, top, BAR);
        self.svg.bars("start", &starts, top + BAR - 5.0, 5.0);
        if let (Some(start), Some(end)) = (planned.start, planned.end) {
            let span = (self.axis.x(start), self.axis.x(end).max(self.axis.x(start) + 2.0));
            let is_done = matches!(state, TaskState::Completed { .. });
            let class = if is_done { "done" } else { "plan" };
            self.svg.bars(class, &[span], top - 2.0, BAR + 4.0);
        }
        if let Some(risk) = planned.at_risk {
            let x = self.axis.x(risk);
            self.svg.line("risk", (x, top - 4.0), (x, top + BAR + 4.0));
        }
        self.y = top + BAR + 8.0;
    }

    fn now(&mut self, now: Timestamp, top: f64) {
        if self.axis.shows(now) {
            let x = self.axis.x(now);
            self.svg.line("now", (x, top), (x, self.y));
            let class = if x > self.width / 2.0 { "now-text end" } else { "now-text" };
            self.y += 12.0;
            self.svg.text(class, x, self.y, "now");
            self.y += 4.0;
        }
    }

    /// Shapes tell apart what colours do, for whoever sees or prints none.
    fn legend(&mut self) {
        let entries: [(&str, f64, f64, &str); 4] = [
            ("go", 0.0, BAR, "within limits"),
            ("start", BAR - 5.0, 5.0, "possible starts"),
            ("unknown", 0.0, BAR, "unknown"),
            ("plan", 0.0, BAR, "planned"),
        ];
        let mut x = EDGE;
        self.y += 8.0;
        for (class, below, height, text) in entries {
            let needs = 36.0 + text.len() as f64 * 7.0;
            if x + needs > self.width - EDGE {
                x = EDGE;
                self.y += LINE;
            }
            self.svg.bars(class, &[(x, x + 24.0)], self.y + below, height);
            self.svg.text("soft", x + 30.0, self.y + 13.0, text);
            x += needs + 12.0;
        }
        self.y += BAR;
    }
}

fn label(task: &Task, result: &TaskResult, planned: &PlannedTask, state: TaskState) -> String {
    let name = format!("{} ({})", task.name, words::duration(task.duration_s));
    if let Some(refusal) = result.failed {
        return format!("{name}: not answered, {refusal}");
    }
    let begun = match state {
        TaskState::Planned => "",
        TaskState::Started { .. } => "started ",
        TaskState::Completed { .. } => "completed, started ",
    };
    match (planned.start, planned.latest_start) {
        (Some(start), Some(latest)) if latest != start => {
            format!("{name}: {begun}{}, at the latest {}", words::utc(start), words::utc(latest))
        }
        (Some(start), _) => format!("{name}: {begun}{}", words::utc(start)),
        (None, _) => format!("{name}: no possible start"),
    }
}

/// Lines of so many letters, broken between words where that is possible. Whoever needs more than a few
/// has the answer as JSON.
fn wrapped(text: &str, fits: usize) -> Vec<String> {
    const LINES: usize = 3;
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split_whitespace() {
        let letters = word.chars().count();
        if used > 0 && used + 1 + letters > fits {
            lines.push(String::new());
            used = 0;
        }
        if let Some(line) = lines.last_mut() {
            if used > 0 {
                line.push(' ');
                used += 1;
            }
            line.extend(word.chars().take(fits));
            used += letters.min(fits);
        }
    }
    if lines.len() > LINES {
        lines.truncate(LINES);
        lines[LINES - 1].push('…');
    }
    lines
}

/// The distinct limits of a variable.
#[derive(Default)]
struct Limits {
    most: BTreeSet<Decimal>,
    least: BTreeSet<Decimal>,
}

impl Limits {
    fn of(shown: &Shown<'_>, variable: Variable) -> Self {
        let mut limits = Self::default();
        for task in 0..shown.schedule.tasks.len() {
            for limit in shown.analyst.limits(task).iter().filter(|one| one.variable == variable) {
                limits.most.extend(limit.max);
                limits.least.extend(limit.min);
            }
        }
        limits
    }

    fn all(&self) -> impl Iterator<Item = Decimal> {
        self.most.iter().chain(&self.least).copied()
    }

    fn is_low_worse(&self) -> bool {
        self.most.is_empty()
    }

    fn drawn(&self) -> Vec<(&'static str, Decimal)> {
        let sides = [("max", &self.most), ("min", &self.least)];
        let drawn = sides.into_iter().flat_map(|(word, limits)| {
            let some: Vec<Decimal> = match limits.len() {
                0..=MAX_LIMITS => limits.iter().copied().collect(),
                _ => limits.first().into_iter().chain(limits.last()).copied().collect(),
            };
            some.into_iter().map(move |limit| (word, limit))
        });
        drawn.collect()
    }
}

/// Steps from value to value, broken where one is missing. What is too fine for the eye is drawn as
/// its worst value, so that a long forecast stays a small drawing.
fn curve(
    axis: &Axis,
    stretches: &[Stretch],
    is_low_worse: bool,
    y: impl Fn(Decimal) -> f64,
) -> String {
    let mut data = String::new();
    let mut is_open = false;
    let mut next = 0;
    while let Some(first) = stretches.get(next) {
        let from = axis.x(first.window.from);
        let mut to = axis.x(first.window.to);
        let mut worst = worst_of(first, is_low_worse);
        next += 1;
        while to - from < 1.0
            && let Some(other) = stretches.get(next)
        {
            let value = worst_of(other, is_low_worse);
            worst = match (worst, value) {
                (Some(one), Some(other)) if is_low_worse => Some(one.min(other)),
                (one, other) => one.max(other),
            };
            to = axis.x(other.window.to);
            next += 1;
        }
        let Some(worst) = worst else {
            is_open = false;
            continue;
        };
        let at = number(y(worst));
        match is_open {
            true => data.push_str(&format!("V{at}H{}", number(to))),
            false => data.push_str(&format!("M{} {at}H{}", number(from), number(to))),
        }
        is_open = true;
    }
    data
}

fn worst_of(stretch: &Stretch, is_low_worse: bool) -> Option<Decimal> {
    stretch.value.map(|(low, high)| if is_low_worse { low } else { high })
}

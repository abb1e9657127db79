//! How far long work is, on the standard error: a bar where a person watches, otherwise a line now and then.

use crate::say::tell;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

/// Between two lines.
const LINE: Duration = Duration::from_secs(2);
/// Between two looks of the bar.
const LOOK: Duration = Duration::from_millis(100);

pub(crate) struct Progress {
    /// Where the standard error is a terminal.
    bar: Option<ProgressBar>,
    told: Option<Instant>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            // Not worth failing over.
            let style = ProgressStyle::with_template("{bar:24} {wide_msg}");
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { bar, told: None }
    }

    /// `done` of `all`; the line says the same. News are told at once.
    pub(crate) fn at(&mut self, done: u64, all: u64, is_news: bool, line: impl FnOnce() -> String) {
        let pause = if self.bar.is_some() { LOOK } else { LINE };
        if !is_news && self.told.is_some_and(|told| told.elapsed() < pause) {
            return;
        }
        self.told = Some(Instant::now());
        match &self.bar {
            Some(bar) => {
                bar.set_length(all);
                bar.set_position(done.min(all));
                bar.set_message(line());
            }
            None => tell(&line()),
        }
    }

    /// A line that stays.
    pub(crate) fn tell(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| tell(line)),
            None => tell(line),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

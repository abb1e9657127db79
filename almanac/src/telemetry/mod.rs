//! Logs: for people on a terminal, plain lines elsewhere, JSON on demand. And spans of requests.

mod bounded;
mod otlp;
mod throttle;
mod traced;
#[cfg(test)]
mod written;

pub(crate) use otlp::Spans;
pub(crate) use throttle::{Throttle, WINDOW};

use bounded::Bounded;
use std::io::IsTerminal;
use traced::Traced;
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

pub(crate) fn start(format: Format, filter: &str, throttle: &Throttle) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter)?;
    let registry = tracing_subscriber::registry().with(filter);
    let throttle = throttle.clone();
    match format {
        Format::Json => {
            let layer = fmt::layer().json().map_event_format(Traced);
            let layer = layer.with_writer(|| Bounded::json(std::io::stderr()));
            registry.with(layer.with_filter(throttle)).init();
        }
        Format::Text => {
            let on_terminal = std::io::stderr().is_terminal();
            let writer = || Bounded::text(std::io::stderr());
            let layer = fmt::layer().with_ansi(on_terminal).with_writer(writer);
            registry.with(layer.with_target(false).with_filter(throttle)).init();
        }
    }
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = almanac_processor::supervise::message(panic.payload());
        tracing::error!(thread = thread.name(), at, panic = message, "a panic");
    }));
    Ok(())
}

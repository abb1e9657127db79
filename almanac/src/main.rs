//! The one binary: configuration, roles, and the operator's commands.

mod admin;
mod client;
mod config;
mod demo;
mod engine;
mod incarnations;
mod lineage;
mod moving;
mod open_files;
mod private;
mod profile;
mod projecting;
mod roles;
mod say;
mod schemas;
mod tasks;
mod telemetry;
mod token;
mod up;

use almanac_errors::chain;
use almanac_processor::{Supervisor, TaskName};
use clap::{CommandFactory, Parser, Subcommand};
use std::{path::PathBuf, process::ExitCode};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: profile::Allocator = profile::Allocator;

const GLOBAL: &str = "Options of every command";

/// Almanac keeps the calendars people plan by.
///
/// `almanac up` runs everything in one process, with a demonstration feed when none is configured.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    /// Configuration file; every key can also be set in the environment (ALMANAC__HTTP__LISTEN)
    #[arg(long, global = true, value_name = "FILE", env = "ALMANAC_CONFIG", help_heading = GLOBAL)]
    config: Option<PathBuf>,
    /// How to log: text for people, json for machines
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text", help_heading = GLOBAL)]
    log_format: telemetry::Format,
    /// What to log, such as info or almanac_ingestor=debug
    #[arg(
        long,
        global = true,
        value_name = "FILTER",
        default_value = "info,scylla=error",
        env = "ALMANAC_LOG",
        help_heading = GLOBAL
    )]
    log: String,
    /// How many warnings one place in the program may log within ten seconds; while there are more, how
    /// many is logged once a minute
    #[arg(
        long,
        global = true,
        value_name = "NUMBER",
        default_value_t = 20,
        env = "ALMANAC_LOG_WARNINGS",
        help_heading = GLOBAL
    )]
    log_warnings: u64,
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run every role in one process, on one port
    Up(up::Up),
    #[command(flatten)]
    Role(roles::Named),
    /// Print the configuration that is in force, with secrets masked
    Config,
    Ingest(client::ingest::Ingest),
    Search(client::plans::Search),
    Plans(Box<client::plans::Plans>),
    Consume(client::consume::Consume),
    Recipes(client::recipes::Recipes),
    Analyse(Box<client::analyse::Analyse>),
    Schedules(client::schedules::Schedules),
    Subscriptions(client::subscriptions::Subscriptions),
    Status(client::status::Status),
    Doctor(client::doctor::Doctor),
    Topics(client::status::Topics),
    Groups(client::groups::Groups),
    Trace(client::trace::Trace),
    Projections(client::projections::Projections),
    Export(client::moving::export::Export),
    Import(client::moving::import::Import),
    Parked(client::parked::Parked),
    Audit(client::projections::Audit),
    Canary(client::canary::Canary),
    Token(token::Token),
    /// Print a script that completes commands, to be read by a shell
    ///
    /// Example, for this shell:  source <(almanac completions bash)
    Completions {
        shell: clap_complete::Shell,
    },
    /// Check and register event schemas
    #[command(subcommand)]
    Schemas(schemas::Command),
}

fn main() -> ExitCode {
    // The allocator asks for huge pages, where a few bytes in use hold two megabytes: an idle
    // process was twice as large. Where the system refuses, it only costs that.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    open_files::raise();
    moving::bodies::bound();
    private::by_default();
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("almanac: {}", chain(&*error));
            match error.downcast_ref::<client::Exit>() {
                Some(exit) => exit.code().into(),
                None => ExitCode::FAILURE,
            }
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let throttle = telemetry::Throttle::new(arguments.log_warnings);
    telemetry::start(arguments.log_format, &arguments.log, &throttle)?;
    let config = config::Config::load(arguments.config.as_deref());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // What is wrong with the configuration is one of its findings.
    if let Verb::Doctor(doctor) = &arguments.command {
        let outcome = runtime.block_on(client::doctor::run(doctor, config));
        runtime.shutdown_timeout(std::time::Duration::from_secs(1));
        return outcome;
    }
    let mut config = config?;
    let background = background_runtime()?;
    let windows = throttle.clone();
    runtime.spawn(async move {
        let (task, never) = (TaskName::new("log windows"), CancellationToken::new());
        let run = || async {
            windows.clone().run().await;
            Ok(())
        };
        let _ = Supervisor::default().keep(&task, &never, telemetry::WINDOW, run).await;
    });
    let outcome = match &arguments.command {
        Verb::Up(up) => {
            up.apply(&mut config);
            runtime.block_on(up::run(config, roles::ALL, true, background.handle()))
        }
        Verb::Role(role) => {
            runtime.block_on(up::run(config, &[role.0], false, background.handle()))
        }
        Verb::Config => {
            say::text(&toml::to_string(&config)?);
            Ok(())
        }
        Verb::Ingest(ingest) => runtime.block_on(client::ingest::run(ingest, &config)),
        Verb::Search(search) => runtime.block_on(client::plans::search(search, &config)),
        Verb::Plans(plans) => runtime.block_on(client::plans::list(plans, &config)),
        Verb::Consume(consume) => runtime.block_on(client::consume::run(consume, &config)),
        Verb::Recipes(recipes) => runtime.block_on(client::recipes::run(recipes, &config)),
        Verb::Analyse(analyse) => runtime.block_on(client::analyse::run(analyse, &config)),
        Verb::Schedules(schedules) => runtime.block_on(client::schedules::run(schedules, &config)),
        Verb::Subscriptions(subscriptions) => {
            runtime.block_on(client::subscriptions::run(subscriptions, &config))
        }
        Verb::Projections(projections) => {
            runtime.block_on(client::projections::run(projections, &config))
        }
        Verb::Status(status) => runtime.block_on(client::status::run(status, &config)),
        // Above.
        Verb::Doctor(_) => Ok(()),
        Verb::Topics(topics) => runtime.block_on(client::status::topics(topics, &config)),
        Verb::Groups(groups) => runtime.block_on(client::groups::run(groups, &config)),
        Verb::Trace(trace) => runtime.block_on(client::trace::run(trace, &config)),
        Verb::Export(export) => runtime.block_on(client::moving::export::run(export, &config)),
        Verb::Import(import) => runtime.block_on(client::moving::import::run(import, &config)),
        Verb::Parked(parked) => runtime.block_on(client::parked::run(parked, &config)),
        Verb::Audit(audit) => runtime.block_on(client::projections::audit(audit, &config)),
        Verb::Canary(canary) => runtime.block_on(client::canary::run(canary, &config)),
        Verb::Token(token) => token::run(token, &config),
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "almanac", &mut script);
            say::text(&String::from_utf8_lossy(&script));
            Ok(())
        }
        Verb::Schemas(command) => runtime.block_on(schemas::run(command, &config)),
    };
    // A thread that is stuck in a library must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    background.shutdown_timeout(std::time::Duration::from_secs(5));
    throttle.end();
    outcome
}

/// Where fetching, comparing and folding run: on threads of their own, behind those that answer
/// requests when both want the processor.
fn background_runtime() -> std::io::Result<tokio::runtime::Runtime> {
    const NICENESS: i32 = 10;
    tokio::runtime::Builder::new_multi_thread()
        .thread_name("background")
        .on_thread_start(|| {
            // On Linux this is the thread's own. Where it cannot be set, all are equal.
            let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS);
        })
        .enable_all()
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Roles and `up` are run by themselves.
    #[test]
    fn help_teaches_by_example() {
        let is_run = |name: &str| roles::ALL.iter().any(|role| role.name() == name);
        for command in Arguments::command().get_subcommands() {
            let name = command.get_name();
            if is_run(name) || ["up", "config", "schemas"].contains(&name) {
                continue;
            }
            assert!(command.get_about().is_some_and(|about| !about.to_string().contains("xample")));
            let long = command.get_long_about().map(ToString::to_string).unwrap_or_default();
            assert!(long.contains(&format!("almanac {name}")), "{name}: {long}");
        }
    }
}

//! The one binary: configuration, roles, and the operator's commands.

mod admin;
mod client;
mod config;
mod demo;
mod engine;
mod lineage;
mod open_files;
mod private;
mod roles;
mod schemas;
mod tasks;
mod telemetry;
mod token;
mod up;

use almanac_processor::{Supervisor, TaskName};
use clap::{Parser, Subcommand};
use roles::Roles;
use std::{path::PathBuf, process::ExitCode};
use tokio_util::sync::CancellationToken;

/// Half of a search's own time went into the system's allocator, most of it into giving memory back
/// between requests.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Almanac keeps the calendars people plan by.
///
/// `almanac up` runs everything in one process, with a demonstration feed when none is configured.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    /// Configuration file; every key can also be set in the environment (ALMANAC__HTTP__LISTEN)
    #[arg(long, global = true, value_name = "FILE", env = "ALMANAC_CONFIG")]
    config: Option<PathBuf>,
    /// How to log: text for people, json for machines
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    log_format: telemetry::Format,
    /// What to log, such as info or almanac_ingestor=debug
    #[arg(
        long,
        global = true,
        value_name = "FILTER",
        default_value = "info,scylla=error",
        env = "ALMANAC_LOG"
    )]
    log: String,
    /// How many warnings one place in the program may log within ten seconds; while there are more, how
    /// many is logged once a minute
    #[arg(
        long,
        global = true,
        value_name = "NUMBER",
        default_value_t = 20,
        env = "ALMANAC_LOG_WARNINGS"
    )]
    log_warnings: u64,
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run every role in one process, on one port
    Up,
    /// Fetch providers and publish what changed
    Ingestor,
    /// Fold events into tables
    Projector,
    /// Answer searches and other reads over HTTP
    QueryApi,
    /// Take writes over HTTP and decide them
    CommandApi,
    /// Print the configuration that is in force, with secrets masked
    Config,
    /// Ask a running installation to fetch a provider or to read stored bodies again
    Ingest(client::ingest::Ingest),
    /// Create, find and change recipes of a running installation
    Recipes(client::recipes::Recipes),
    /// Find when the tasks of a schedule can start, given limits and a forecast
    Analyse(client::analyse::Analyse),
    /// Mint a bearer token for development, signed with the key that Almanac made
    Token(token::Token),
    /// Check and register event schemas
    #[command(subcommand)]
    Schemas(schemas::Command),
}

fn main() -> ExitCode {
    // The allocator asks for huge pages, where a few bytes in use hold two megabytes: an idle
    // process was twice as large. Where the system refuses, it only costs that.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    open_files::raise();
    private::by_default();
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("almanac: {}", with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

/// Each cause once: some errors tell theirs themselves.
fn with_causes(error: &anyhow::Error) -> String {
    let mut told = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !told.contains(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let throttle = telemetry::Throttle::new(arguments.log_warnings);
    telemetry::start(arguments.log_format, &arguments.log, &throttle)?;
    let config = config::Config::load(arguments.config.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
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
        Verb::Up => runtime.block_on(up::run(config, Roles::ALL, true, background.handle())),
        Verb::Ingestor => {
            let roles = Roles { ingestor: true, ..Roles::NONE };
            runtime.block_on(up::run(config, roles, false, background.handle()))
        }
        Verb::Projector => {
            let roles = Roles { projector: true, ..Roles::NONE };
            runtime.block_on(up::run(config, roles, false, background.handle()))
        }
        Verb::QueryApi => {
            let roles = Roles { query_api: true, ..Roles::NONE };
            runtime.block_on(up::run(config, roles, false, background.handle()))
        }
        Verb::CommandApi => {
            let roles = Roles { command_api: true, ..Roles::NONE };
            runtime.block_on(up::run(config, roles, false, background.handle()))
        }
        Verb::Config => {
            print!("{}", toml::to_string(&config)?);
            Ok(())
        }
        Verb::Ingest(ingest) => runtime.block_on(client::ingest::run(ingest, &config)),
        Verb::Recipes(recipes) => runtime.block_on(client::recipes::run(recipes, &config)),
        Verb::Analyse(analyse) => client::analyse::run(analyse),
        Verb::Token(token) => token::run(token, &config),
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

//! `make bench`: measures beside a baseline in the same run and prints a report in Markdown.
//!
//!   almanac-bench report [NAME…]  run everything, or the sections named
//!   almanac-bench bare FILE PORT  the baseline server: answers the bytes of FILE from memory
//!   almanac-bench bare-writes PORT  the same for writes: reads a recipe, appends it, syncs
//!   almanac-bench write-path transactional|plain PORT  command API and deciders on Kafka

mod analyses;
mod bare;
mod edge;
mod feeds;
mod ingest;
mod lists;
mod load;
mod page;
mod reads;
mod rebuild;
mod search;
mod start;
mod takeover;
mod visible;
mod write_path;
mod writes;

use almanac_tests::process::Engine;

const SECTIONS: [&str; 18] = [
    "search",
    "lists",
    "ingest-embedded",
    "ingest-cluster",
    "visible-embedded",
    "visible-cluster",
    "search-while-ingesting",
    "start",
    "writes-embedded",
    "writes-cluster",
    "reads",
    "take-over",
    "edge",
    "rebuild-embedded",
    "rebuild-cluster",
    "analyses-embedded",
    "analyses-cluster",
    "page",
];

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["bare", file, port] => bare::serve(file, port).await,
        ["bare-writes", port] => almanac_tests::bare_writes::serve(port).await,
        ["write-path", "transactional", port] => write_path::serve(true, port).await,
        ["write-path", "plain", port] => write_path::serve(false, port).await,
        ["report", sections @ ..] if sections.iter().all(|one| SECTIONS.contains(one)) => {
            report(sections).await;
        }
        _ => {
            eprintln!(
                "usage: almanac-bench report [SECTION...] | bare FILE PORT | bare-writes PORT | write-path transactional|plain PORT\nsections, all of them when none is named: {}",
                SECTIONS.join(" ")
            );
            std::process::exit(2);
        }
    }
}

async fn report(wanted: &[&str]) {
    for section in SECTIONS {
        if !wanted.is_empty() && !wanted.contains(&section) {
            continue;
        }
        let mut out = String::new();
        match section {
            "lists" => lists::report(&mut out).await,
            "search" => search::report(&mut out).await,
            "ingest-embedded" => ingest::report(&mut out, Engine::Embedded).await,
            "ingest-cluster" => ingest::report(&mut out, Engine::Cluster).await,
            "visible-embedded" => visible::report(&mut out, Engine::Embedded).await,
            "visible-cluster" => visible::report(&mut out, Engine::Cluster).await,
            "search-while-ingesting" => search::while_ingesting(&mut out).await,
            "writes-embedded" => writes::embedded(&mut out).await,
            "writes-cluster" => writes::cluster(&mut out).await,
            "reads" => reads::report(&mut out).await,
            "analyses-embedded" => analyses::report(&mut out, Engine::Embedded).await,
            "analyses-cluster" => analyses::report(&mut out, Engine::Cluster).await,
            "edge" => edge::report(&mut out).await,
            "rebuild-embedded" => rebuild::report(&mut out, Engine::Embedded).await,
            "rebuild-cluster" => rebuild::report(&mut out, Engine::Cluster).await,
            "page" => page::report(&mut out).await,
            "take-over" => takeover::report(&mut out).await,
            _ => start::report(&mut out).await,
        }
        // Each section is printed when it is done: a run that is cut short still says something.
        println!("{out}");
    }
}

/// Writes one line of the report.
macro_rules! line {
    ($out:expr, $($part:tt)*) => {{
        use std::fmt::Write as _;
        let _ = writeln!($out, $($part)*);
    }};
}
pub(crate) use line;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn percentile_99(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() * 99 / 100).or(values.last()).copied().unwrap_or(f64::NAN)
}

/// Resident memory of a process in MB: now, and at its peak since it began.
fn resident_mb(pid: u32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) / 1024
    };
    (field("VmRSS"), field("VmHWM"))
}

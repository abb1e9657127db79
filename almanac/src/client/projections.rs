//! `almanac projections …` and `almanac audit`: the tables of projections, rebuilt, verified and switched
//! between, and who did it. What a command says at its end comes from the outcome that the server stored.

mod verify;

use super::{
    Client, Exit, Target,
    progress::Progress,
    show::{items, text},
};
use crate::{
    config::Config,
    say::{say, tell},
};
use anyhow::bail;
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

/// Between two looks at a rebuild.
const LOOK: Duration = Duration::from_millis(500);

/// Rebuild the tables of projections, compare, switch and roll back
///
/// Examples:
///   almanac projections list
///   almanac projections rebuild plans --dry-run --reason 'do the tables hold what the log says?'
///   almanac projections rebuild plans --reason 'a fold was mended'
///   almanac projections activate plans --reason 'verified'
///   almanac projections rebuild recipes --key 0198c5a0-0000-7000-8000-000000000001 --reason 'a row is damaged'
///   almanac projections verify --certificate plans.json --export /backup/almanac
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Projections {
    #[command(flatten)]
    target: Target,
    /// Print the server's JSON instead of text for people
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Args)]
struct Why {
    /// Why, for the audit; needed beyond this machine
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

#[derive(clap::Args)]
struct Of {
    /// Id of the rebuild, or the name of a projection for its newest
    rebuild: String,
    #[command(flatten)]
    why: Why,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Activate {
    Auto,
    Manual,
}

/// Options of rebuilds of all tables of a projection.
const WHOLE: [&str; 3] = ["dry_run", "activate", "events_per_s"];

#[derive(clap::Subcommand)]
enum Command {
    /// List projections, and how far their tables are
    List,
    /// Show one projection: its tables, and how far each partition is
    Show { name: String },
    /// Build the tables of a projection once more, beside the live ones, and compare both
    Rebuild {
        name: String,
        /// Verify and report, then drop the new tables
        #[arg(long)]
        dry_run: bool,
        /// Switch by itself once verified without a difference, or wait for `activate`
        #[arg(long, default_value = "manual")]
        activate: Activate,
        /// Events read a second, of all partitions together; 0 without a limit
        #[arg(long, value_name = "NUMBER", default_value_t = 10_000)]
        events_per_s: u32,
        /// Fold the events of one key alone, over the rows of the live tables
        #[arg(long, value_name = "KEY", group = "only", conflicts_with_all = WHOLE)]
        key: Option<String>,
        /// The same of one provider
        #[arg(long, value_name = "NAME", group = "only", conflicts_with_all = WHOLE)]
        provider: Option<String>,
        /// The same of one partition of each of its topics
        #[arg(long, value_name = "NUMBER", group = "only", conflicts_with_all = WHOLE)]
        partition: Option<u32>,
        /// Do not wait for its end
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        why: Why,
    },
    /// Wait for a rebuild until it is ready, active, or ended
    Wait {
        /// Id of the rebuild, or the name of a projection for its newest
        rebuild: String,
        /// Give up after so many seconds
        #[arg(long, value_name = "SECONDS")]
        at_most: Option<u64>,
    },
    /// Switch reads to the tables of a rebuild
    Activate(Of),
    /// Switch reads back to the tables before it
    Rollback(Of),
    /// End a rebuild and drop its tables
    Cancel(Of),
    /// Let a rebuild stand still
    Pause(Of),
    /// Let a paused rebuild go on
    Resume(Of),
    /// Drop the tables that are kept beside the live ones
    Drop(Of),
    /// Fold the log once more up to the positions of a certificate, and hold the rows against it
    Verify {
        /// File with the certificate; - is the standard input
        #[arg(long, value_name = "FILE")]
        certificate: PathBuf,
        /// The export that came in here, where the certificate is of the installation before: offsets
        /// are others since
        #[arg(long, value_name = "FOLDER")]
        export: Option<PathBuf>,
        #[command(flatten)]
        why: Why,
    },
    /// Name the rows and columns that a rebuild found different
    Diff {
        /// Id of the rebuild, or the name of a projection for its newest
        rebuild: String,
    },
}

/// What operators did, and why; the newest first
///
/// Example:
///   almanac audit --json | jq .reason
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Audit {
    #[command(flatten)]
    target: Target,
    /// Print the server's JSON instead of text for people
    #[arg(long)]
    json: bool,
}

pub(crate) async fn audit(audit: &Audit, config: &Config) -> anyhow::Result<()> {
    let client = Client::new(&audit.target, config)?;
    for item in client.all(&["v1", "admin", "audit"], &[]).await? {
        match audit.json {
            true => say!("{item}"),
            false => say!(
                "{}  {}  {} {}  {}  {}",
                text(&item, "time"),
                text(&item, "actor"),
                text(&item, "action"),
                text(&item, "target"),
                text(&item, "outcome"),
                text(&item, "reason")
            ),
        }
    }
    Ok(())
}

pub(crate) async fn run(projections: &Projections, config: &Config) -> anyhow::Result<()> {
    let client = Client::new(&projections.target, config)?;
    let json = projections.json;
    match &projections.command {
        Command::List => {
            for one in client.all(&["v1", "admin", "projections"], &[]).await? {
                match json {
                    true => say!("{one}"),
                    false => say!("{}", summary(&one)),
                }
            }
            Ok(())
        }
        Command::Show { name } => {
            let one = projection(&client, name).await?;
            if json {
                say!("{one}");
                return Ok(());
            }
            say!("{}", summary(&one));
            for version in items(&one, "versions") {
                for at in items(version, "partitions") {
                    say!(
                        "  {}  {}/{}  {} of {}  {} behind",
                        text(version, "version"),
                        text(at, "topic"),
                        at["partition"],
                        at["position"],
                        at["end"],
                        at["lag_events"]
                    );
                }
            }
            Ok(())
        }
        Command::Rebuild {
            name,
            dry_run,
            activate,
            events_per_s,
            key,
            provider,
            partition,
            no_wait,
            why,
        } => {
            let one = projection(&client, name).await?;
            let only = match (key, provider, partition) {
                (Some(key), ..) => json!({"key": key}),
                (_, Some(provider), _) => json!({"provider": provider}),
                (.., Some(partition)) => json!({"partition": partition}),
                _ => Value::Null,
            };
            if !only.is_null() {
                let body = json!({"reason": why.reason, "only": only});
                let rebuild = begin(&client, name, &body).await?;
                return match no_wait {
                    true => told(&rebuild, json),
                    false => told(&wait(&client, text(&rebuild, "id"), None).await?, json),
                };
            }
            tell(&takes(&one, *events_per_s));
            let activate = match activate {
                Activate::Auto => "auto",
                Activate::Manual => "manual",
            };
            let body = json!({
                "reason": why.reason, "dry_run": dry_run, "activate": activate,
                "events_per_s": events_per_s,
            });
            let rebuild = begin(&client, name, &body).await?;
            let id = text(&rebuild, "id").to_owned();
            tell(&format!("rebuild {id} of {name} begins"));
            match no_wait {
                true => told(&rebuild, json),
                false => told(&wait(&client, &id, None).await?, json),
            }
        }
        Command::Wait { rebuild, at_most } => {
            let id = id_of(&client, rebuild).await?;
            told(&wait(&client, &id, at_most.map(Duration::from_secs)).await?, json)
        }
        Command::Activate(of) => act(&client, "activate", of, json).await,
        Command::Rollback(of) => act(&client, "rollback", of, json).await,
        Command::Cancel(of) => act(&client, "cancel", of, json).await,
        Command::Pause(of) => act(&client, "pause", of, json).await,
        Command::Resume(of) => act(&client, "resume", of, json).await,
        Command::Drop(of) => act(&client, "drop", of, json).await,
        Command::Verify { certificate, export, why } => {
            let certificate = verify::Certificate::read(certificate)?;
            certificate.verify(&client, export.as_deref(), &why.reason, json).await
        }
        Command::Diff { rebuild } => {
            let id = id_of(&client, rebuild).await?;
            let found = one(&client, &id).await?;
            if json {
                say!("{}", found["differences"]);
                return Ok(());
            }
            for one in items(&found, "differences") {
                let text = |name: &str| one[name].as_str().unwrap_or("(missing)").to_owned();
                say!(
                    "{} {} {} {}\n  live     {}\n  rebuilt  {}",
                    text("table"),
                    text("partition"),
                    text("key"),
                    text("column"),
                    text("live"),
                    text("rebuilt")
                );
            }
            let rows = found["different_rows"].as_u64();
            say!(
                "{} rows differ",
                rows.map_or("not compared yet:".to_owned(), |rows| rows.to_string())
            );
            Ok(())
        }
    }
}

fn summary(one: &Value) -> String {
    let versions = items(one, "versions").map(|version| {
        let lag: u64 =
            items(version, "partitions").filter_map(|at| at["lag_events"].as_u64()).sum();
        format!(
            "{} {} ({lag} behind, {} parked)",
            text(version, "version"),
            text(version, "state"),
            version["parked"]
        )
    });
    let versions: Vec<String> = versions.collect();
    format!("{}  {}", text(one, "name"), versions.join(", "))
}

/// What a rebuild will take.
fn takes(one: &Value, events_per_s: u32) -> String {
    let version = &one["versions"][0];
    let events: u64 = items(version, "partitions").filter_map(|at| at["end"].as_u64()).sum();
    let time = match events_per_s {
        0 => "as fast as the store takes them".to_owned(),
        rate => format!("about {} s at {rate} events a second", events.div_ceil(u64::from(rate))),
    };
    format!("reads up to {events} events, {time}; its tables take as much disk as the live ones")
}

async fn projection(client: &Client, name: &str) -> anyhow::Result<Value> {
    client.send_json(client.request(Method::GET, &["v1", "admin", "projections", name], &[])).await
}

async fn begin(client: &Client, name: &str, body: &Value) -> anyhow::Result<Value> {
    let path = ["v1", "admin", "projections", name, "rebuilds"];
    let begun =
        client.send_json(client.request(Method::POST, &path, &[]).body(body.to_string())).await?;
    if begun["projection"].is_null() {
        bail!(
            "the server took the rebuild on and has not decided it yet; `almanac projections list` tells"
        );
    }
    Ok(begun)
}

async fn one(client: &Client, id: &str) -> anyhow::Result<Value> {
    client.send_json(client.request(Method::GET, &["v1", "admin", "rebuilds", id], &[])).await
}

/// An id as it is, or that of a projection's newest rebuild.
async fn id_of(client: &Client, named: &str) -> anyhow::Result<String> {
    let all = client.all(&["v1", "admin", "rebuilds"], &[]).await?;
    let found = all
        .iter()
        .find(|one| one["id"] == named || (one["projection"] == named && one["only"].is_null()));
    let id = found.and_then(|one| one["id"].as_str()).map(str::to_owned);
    id.ok_or_else(|| {
        Exit::Refused(format!("there is no rebuild {named}, nor one of a projection {named}"))
            .into()
    })
}

async fn act(client: &Client, verb: &str, of: &Of, json: bool) -> anyhow::Result<()> {
    let id = id_of(client, &of.rebuild).await?;
    let path = ["v1", "admin", "rebuilds", &id, verb];
    let body = json!({ "reason": of.why.reason }).to_string();
    let done = client.send_json(client.request(Method::POST, &path, &[]).body(body)).await?;
    match json {
        true => say!("{done}"),
        false => say!("{}", line(&done)),
    }
    Ok(())
}

fn line(rebuild: &Value) -> String {
    let part = |name| text(rebuild, name);
    let mut line = format!("{} {} {}", part("projection"), part("id"), part("state"));
    if let Some(rows) = rebuild["different_rows"].as_u64() {
        line.push_str(&format!(", {rows} rows differ"));
    }
    if rebuild["dropped"] == true {
        line.push_str(", dropped");
    }
    if let Some(share) = rebuild["progress"]["share"].as_f64() {
        line.push_str(&format!(", {:.1} %", share * 100.0));
        if let Some(rate) = rebuild["progress"]["events_per_s"].as_f64() {
            line.push_str(&format!(", {rate:.0} events/s"));
        }
        if let Some(to_go) = rebuild["progress"]["ready_in_s"].as_f64() {
            line.push_str(&format!(", {to_go:.0} s to go"));
        }
    }
    line
}

/// Whether a rebuild goes on by itself no further.
fn rests(rebuild: &Value) -> bool {
    let is_automatic = rebuild["activate"] == "auto" && rebuild["different_rows"] == 0;
    match rebuild["state"].as_str() {
        Some("ready") if rebuild["dry_run"] == true => rebuild["dropped"] == true,
        Some("ready") => !is_automatic,
        Some("active" | "rolled_back" | "failed" | "cancelled" | "paused") => true,
        _ => false,
    }
}

async fn wait(client: &Client, id: &str, at_most: Option<Duration>) -> anyhow::Result<Value> {
    let (began, mut progress, mut last) = (Instant::now(), Progress::new(), String::new());
    loop {
        let rebuild = one(client, id).await?;
        if rests(&rebuild) {
            return Ok(rebuild);
        }
        let state = text(&rebuild, "state").to_owned();
        let share = rebuild["progress"]["share"].as_f64().unwrap_or_default();
        progress.at((share * 1_000.0) as u64, 1_000, state != last, || line(&rebuild));
        last = state;
        if at_most.is_some_and(|at_most| began.elapsed() > at_most) {
            return Err(Exit::NotInTime(format!("not in time: {}", line(&rebuild))).into());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The outcome; one that failed is told last, and ends the program with 1.
fn told(rebuild: &Value, json: bool) -> anyhow::Result<()> {
    match json {
        true => say!("{rebuild}"),
        false => say!("{}", line(rebuild)),
    }
    match rebuild["state"].as_str() {
        Some("failed") => {
            let failure = &rebuild["failure"];
            let (category, detail) = (text(failure, "category"), text(failure, "detail"));
            bail!("the rebuild failed ({category}): {detail}")
        }
        Some("cancelled") => bail!("the rebuild was cancelled"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_is_waited_for() {
        let rebuild = |state: &str, activate: &str, rows: u64| json!({"state": state, "activate": activate, "different_rows": rows, "dry_run": false});
        for (state, activate, rows, is_over) in [
            ("hydrating", "manual", 0, false),
            ("ready", "manual", 0, true),
            ("ready", "auto", 0, false),
            ("ready", "auto", 2, true),
            ("active", "auto", 0, true),
            ("failed", "auto", 0, true),
        ] {
            assert_eq!(
                rests(&rebuild(state, activate, rows)),
                is_over,
                "{state} {activate} {rows}"
            );
        }
        let dry =
            json!({"state": "ready", "dry_run": true, "dropped": false, "activate": "manual"});
        assert!(!rests(&dry));
        assert!(told(&json!({"state": "failed", "failure": {}}), true).is_err());
    }
}

//! `almanac schedules …`: schedules from a terminal.

use super::{Client, Target, read, show};
use crate::config::Config;
use jiff::Timestamp;
use reqwest::Method;
use serde_json::json;
use std::path::PathBuf;

const ALL: [&str; 2] = ["v1", "schedules"];

/// Create, show and change schedules of a running installation, and say which tasks are done
///
/// Examples:
///   almanac schedules create docs/examples/schedule.json
///   almanac schedules start ID lift
///   almanac analyse ID
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Schedules {
    #[command(flatten)]
    target: Target,
    /// Print the server's JSON instead of text for people
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List schedules of one's own
    List {
        /// At most so many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
        limit: u32,
        /// Where the last page ended
        #[arg(long)]
        cursor: Option<String>,
        /// Those of this subject alone; for admins, who see all otherwise
        #[arg(long, value_name = "SUBJECT")]
        owner: Option<String>,
    },
    /// Show a schedule with the states of its tasks
    Show { id: String },
    /// Create a schedule from a file of JSON
    Create {
        /// The file; - is the standard input
        file: PathBuf,
        /// Makes repeating the command safe: the same key creates one schedule
        #[arg(long, value_name = "KEY")]
        idempotency_key: Option<String>,
    },
    /// Replace a schedule; tasks that keep their ids keep their states
    Replace {
        id: String,
        /// The file; - is the standard input
        file: PathBuf,
        /// Only if it is at this version
        #[arg(long, value_name = "NUMBER")]
        if_version: Option<u64>,
    },
    /// Delete a schedule
    Delete {
        id: String,
        /// Only if it is at this version
        #[arg(long, value_name = "NUMBER")]
        if_version: Option<u64>,
    },
    /// Say that a task was started
    Start(TaskAt),
    /// Say that a task was completed
    Complete(TaskAt),
}

#[derive(clap::Args)]
struct TaskAt {
    /// The schedule
    id: String,
    /// The task
    task: String,
    /// When; now when absent
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
}

pub(crate) async fn run(schedules: &Schedules, config: &Config) -> anyhow::Result<()> {
    let client = Client::new(&schedules.target, config)?;
    let (json, one) = (schedules.json, |id| ["v1", "schedules", id]);
    match &schedules.command {
        Command::List { limit, cursor, owner } => {
            let limit = limit.to_string();
            let mut query = vec![("limit", limit.as_str())];
            query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            query.extend(owner.as_deref().map(|owner| ("owner", owner)));
            show::list(&client.send_json(client.request(Method::GET, &ALL, &query)).await?, json)
        }
        Command::Show { id } => {
            let request = client.request(Method::GET, &one(id), &[]);
            show::schedule(&client.send_json(request).await?, json)
        }
        Command::Create { file, idempotency_key } => {
            let key = idempotency_key.as_deref();
            let request = client.conditional(Method::POST, &ALL, key, None);
            let schedule = client.write(request.body(read(file)?), &ALL).await?;
            show::written("created", &schedule, json)
        }
        Command::Replace { id, file, if_version } => {
            let request = client.conditional(Method::PUT, &one(id), None, *if_version);
            let schedule = client.write(request.body(read(file)?), &ALL).await?;
            show::written("replaced", &schedule, json)
        }
        Command::Delete { id, if_version } => {
            let request = client.conditional(Method::DELETE, &one(id), None, *if_version);
            show::written("deleted", &client.write(request, &ALL).await?, json)
        }
        Command::Start(task) => tell(&client, task, "start", "started", json).await,
        Command::Complete(task) => tell(&client, task, "complete", "completed", json).await,
    }
}

async fn tell(
    client: &Client,
    TaskAt { id, task, at }: &TaskAt,
    verb: &str,
    done: &str,
    json: bool,
) -> anyhow::Result<()> {
    let path = ["v1", "schedules", id, "tasks", task, verb];
    let at = at.unwrap_or_else(Timestamp::now);
    let request = client.request(Method::POST, &path, &[]).body(json!({ "at": at }).to_string());
    let done = format!("{done} {task} of");
    show::written(&done, &client.write(request, &ALL).await?, json)
}

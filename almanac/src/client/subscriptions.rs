//! `almanac subscriptions …`: who is told of what, from a terminal.

use super::{Client, Target, read, show};
use crate::config::Config;
use anyhow::Context;
use reqwest::Method;
use serde_json::json;
use std::path::PathBuf;

/// Have events of a running installation sent to an address
///
/// Examples:
///   almanac subscriptions create https://example.org/hook --type analysis.completed
///   almanac subscriptions deliveries ID
///   almanac subscriptions resend ID DELIVERY
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Subscriptions {
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
    /// List subscriptions of one's own
    List {
        /// Those of this subject instead; for admins
        #[arg(long, value_name = "SUBJECT")]
        owner: Option<String>,
    },
    /// Have events sent to an address, signed by Standard Webhooks
    Create {
        /// https address that takes them
        #[arg(long)]
        to: String,
        /// Type of event, such as analysis.completed; may repeat
        #[arg(long = "type", value_name = "TYPE", required = true)]
        types: Vec<String>,
        /// Events of this thing only
        #[arg(long, value_name = "ID")]
        subject: Option<String>,
        /// File with the secret to sign with (whsec_…); - is the standard input
        #[arg(long, value_name = "FILE")]
        secret_file: PathBuf,
    },
    /// Have no more events sent
    Delete { id: String },
    /// What was sent, and what came of it, the newest first
    Deliveries { id: String },
    /// Send one of them again, however it ended
    Resend {
        id: String,
        /// Id of the delivery, as `deliveries` lists it
        delivery: String,
    },
}

pub(crate) async fn run(subscriptions: &Subscriptions, config: &Config) -> anyhow::Result<()> {
    let client = Client::new(&subscriptions.target, config)?;
    let (json, all) = (subscriptions.json, ["v1", "subscriptions"]);
    match &subscriptions.command {
        Command::List { owner } => {
            let query: Vec<_> =
                owner.as_deref().map(|owner| ("owner", owner)).into_iter().collect();
            show::subscriptions(&client.all(&all, &query).await?, json)
        }
        Command::Create { to, types, subject, secret_file } => {
            let secret = String::from_utf8(read(secret_file)?).context("the secret is no text")?;
            let body =
                json!({ "url": to, "types": types, "subject": subject, "secret": secret.trim() });
            let request = client.request(Method::POST, &all, &[]).body(body.to_string());
            show::written("created", &client.write(request, &all).await?, json)
        }
        Command::Delete { id } => {
            let request = client.request(Method::DELETE, &["v1", "subscriptions", id], &[]);
            show::written("deleted", &client.write(request, &all).await?, json)
        }
        Command::Deliveries { id } => {
            let path = ["v1", "subscriptions", id, "deliveries"];
            show::deliveries(&client.all(&path, &[]).await?, json)
        }
        Command::Resend { id, delivery } => {
            let path = ["v1", "subscriptions", id, "deliveries", delivery, "resend"];
            let due = client.send_json(client.request(Method::POST, &path, &[])).await?;
            show::resent(id, &due, json)
        }
    }
}

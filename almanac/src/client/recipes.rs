//! `almanac recipes …`: recipes from a terminal.

mod import;

use super::{Client, Target, read, show};
use crate::config::Config;
use crate::say::say;
use almanac_schemas::json::schema_org;
use anyhow::{Context, bail};
use reqwest::{Method, header};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::Command as Process,
};

const ALL: [&str; 2] = ["v1", "recipes"];

/// Create, find and change recipes of a running installation
///
/// Examples:
///   almanac recipes create recipe.json --idempotency-key my-first
///   almanac recipes list --ingredient salt --max-total-time PT30M
///   almanac recipes import https://example.org/thyme-butter
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Recipes {
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
    /// Create a recipe from a file of JSON
    Create {
        /// The file; - is the standard input
        file: PathBuf,
        /// Makes repeating the command safe: the same key creates one recipe
        #[arg(long, value_name = "KEY")]
        idempotency_key: Option<String>,
    },
    /// Create a recipe from a page's own data: JSON-LD of schema.org, in a file or at an address
    ///
    /// Example:  almanac recipes import https://example.org/thyme-butter
    Import {
        /// A file of HTML or JSON-LD, or an address; - is the standard input
        source: String,
        /// Makes repeating the command safe: the same key creates one recipe
        #[arg(long, value_name = "KEY")]
        idempotency_key: Option<String>,
    },
    /// Show a recipe
    Get {
        id: String,
        /// Quantities for so many people
        #[arg(long, value_name = "PEOPLE")]
        serves: Option<u32>,
        /// Quantities in metric or imperial units
        #[arg(long, value_name = "SYSTEM", value_parser = ["metric", "imperial"])]
        units: Option<String>,
        /// As it was at this version
        #[arg(long, value_name = "NUMBER")]
        version: Option<u64>,
    },
    /// List recipes; several questions combine, and each may repeat
    List(Box<Questions>),
    /// Open a recipe in $VISUAL or $EDITOR, and send what was changed
    Edit { id: String },
    /// Delete a recipe; its history stays
    Delete {
        id: String,
        /// Only if it is at this version
        #[arg(long, value_name = "NUMBER")]
        if_version: Option<u64>,
    },
    /// Undo a deletion
    Restore { id: String },
    /// Give a recipe a picture (JPEG, PNG or WebP), fetch the one it has, or take it away
    Thumbnail {
        id: String,
        /// The picture to send
        #[arg(required_unless_present_any = ["output", "remove"])]
        file: Option<PathBuf>,
        /// Where to write the picture that it has
        #[arg(long, value_name = "FILE", conflicts_with = "file")]
        output: Option<PathBuf>,
        /// Pixels; the picture is never made larger
        #[arg(long, requires = "output")]
        width: Option<u32>,
        /// Take the picture away
        #[arg(long, conflicts_with_all = ["file", "output"])]
        remove: bool,
    },
    /// What happened to a recipe
    History { id: String },
}

#[derive(clap::Args)]
struct Questions {
    /// All of them are in it
    #[arg(long, value_name = "NAME")]
    ingredient: Vec<String>,
    /// None of them is in it
    #[arg(long, value_name = "NAME")]
    without_ingredient: Vec<String>,
    #[arg(long)]
    author: Vec<String>,
    /// EASY, MEDIUM or HARD
    #[arg(long)]
    difficulty: Vec<String>,
    #[arg(long)]
    tool: Vec<String>,
    #[arg(long)]
    tag: Vec<String>,
    /// Such as PT30M
    #[arg(long, value_name = "DURATION")]
    max_total_time: Option<String>,
    /// Words of name and description
    #[arg(long, short, value_name = "WORDS")]
    q: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
    /// Where the last page ended
    #[arg(long)]
    cursor: Option<String>,
}

impl Questions {
    fn query(&self) -> Vec<(&'static str, String)> {
        let many = [
            ("ingredient", &self.ingredient),
            ("without_ingredient", &self.without_ingredient),
            ("author", &self.author),
            ("difficulty", &self.difficulty),
            ("tool", &self.tool),
            ("tag", &self.tag),
        ];
        let many = many.into_iter().flat_map(|(name, all)| all.iter().map(move |one| (name, one)));
        let one =
            [("max_total_time", &self.max_total_time), ("q", &self.q), ("cursor", &self.cursor)];
        let one = one.into_iter().filter_map(|(name, one)| Some((name, one.as_ref()?)));
        let mut query: Vec<_> =
            many.chain(one).map(|(name, value)| (name, value.clone())).collect();
        query.push(("limit", self.limit.to_string()));
        query
    }
}

pub(crate) async fn run(recipes: &Recipes, config: &Config) -> anyhow::Result<()> {
    let client = Client::new(&recipes.target, config)?;
    let (json, path) = (recipes.json, |id| ["v1", "recipes", id]);
    let creating =
        |key: &Option<String>| client.conditional(Method::POST, &ALL, key.as_deref(), None);
    match &recipes.command {
        Command::Create { file, idempotency_key } => {
            let request = creating(idempotency_key);
            let recipe = client.write(request.body(read(file)?), &ALL).await?;
            show::written("created", &recipe, json)
        }
        Command::Import { source, idempotency_key } => {
            let request = creating(idempotency_key);
            let request = request.header(header::CONTENT_TYPE, schema_org::MEDIA_TYPE);
            let recipe = client.write(request.body(import::from(source).await?), &ALL).await?;
            show::written("created", &recipe, json)
        }
        Command::Get { id, serves, units, version } => {
            let (serves, version) = (serves.map(|n| n.to_string()), version.map(|n| n.to_string()));
            let query = [("serves", &serves), ("units", units), ("version", &version)];
            let query: Vec<(&str, &str)> =
                query.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
            let request = client.request(Method::GET, &path(id), &query);
            show::recipe(&client.send_json(request).await?, json)
        }
        Command::List(questions) => {
            let query = questions.query();
            let query: Vec<(&str, &str)> =
                query.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let request = client.request(Method::GET, &ALL, &query);
            show::list(&client.send_json(request).await?, json)
        }
        Command::Edit { id } => edit(&client, id, json).await,
        Command::Delete { id, if_version } => {
            let request = client.conditional(Method::DELETE, &path(id), None, *if_version);
            show::written("deleted", &client.write(request, &ALL).await?, json)
        }
        Command::Restore { id } => {
            let request = client.request(Method::POST, &["v1", "recipes", id, "restore"], &[]);
            show::written("restored", &client.write(request, &ALL).await?, json)
        }
        Command::Thumbnail { id, file, output, width, remove } => {
            let path = ["v1", "recipes", id, "thumbnail"];
            if *remove {
                let removed =
                    client.write(client.request(Method::DELETE, &path, &[]), &ALL).await?;
                return show::written("took the picture from", &removed, json);
            }
            if let Some(file) = file {
                let request = client.request(Method::PUT, &path, &[]).body(read(file)?);
                let request = request.header(header::CONTENT_TYPE, kind_of(file)?);
                return show::written(
                    "gave a picture to",
                    &client.write(request, &ALL).await?,
                    json,
                );
            }
            let Some(output) = output else { bail!("name a picture to send, or --output") };
            let width = width.map(|width| width.to_string());
            let query: Vec<(&str, &str)> = width.iter().map(|w| ("width", w.as_str())).collect();
            let answer = client.send(client.request(Method::GET, &path, &query)).await?;
            let picture = answer.bytes().await.context("the picture was cut off")?;
            std::fs::write(output, &picture)
                .with_context(|| format!("cannot write {}", output.display()))?;
            say!("wrote {} ({} bytes)", output.display(), picture.len());
            Ok(())
        }
        Command::History { id } => {
            let items = client.all(&["v1", "recipes", id, "history"], &[]).await?;
            show::history(&items, json)
        }
    }
}

fn kind_of(file: &Path) -> anyhow::Result<&'static str> {
    let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    match ending.to_ascii_lowercase().as_str() {
        "jpg" | "jpeg" => Ok("image/jpeg"),
        "png" => Ok("image/png"),
        "webp" => Ok("image/webp"),
        _ => bail!("{} must end in .jpg, .png or .webp", file.display()),
    }
}

/// What the server adds to a recipe, and does not take back.
const ADDED: [&str; 5] = ["id", "version", "created_at", "updated_at", "thumbnail"];

async fn edit(client: &Client, id: &str, json: bool) -> anyhow::Result<()> {
    let answer = client.send(client.request(Method::GET, &["v1", "recipes", id], &[])).await?;
    let tag = answer.headers().get(header::ETAG).cloned();
    let mut recipe: Value = answer.json().await.context("the answer is no JSON")?;
    if let Some(object) = recipe.as_object_mut() {
        object.retain(|name, _| !ADDED.contains(&name.as_str()));
    }
    let before = serde_json::to_string_pretty(&recipe)? + "\n";
    let draft = tempfile::Builder::new().prefix("recipe-").suffix(".json").tempfile()?;
    std::fs::write(draft.path(), &before)?;
    let editor = std::env::var("VISUAL").or_else(|_| std::env::var("EDITOR"));
    let editor = editor.unwrap_or_else(|_| "vi".to_owned());
    // The variable may hold arguments: it is the shell's to read.
    let script = format!("{editor} \"$1\"");
    let status = Process::new("sh").arg("-c").arg(script).arg("sh").arg(draft.path()).status();
    let status = status.with_context(|| format!("cannot start the editor {editor}"))?;
    if !status.success() {
        bail!("the editor {editor} ended with {status}; nothing was sent");
    }
    let after = std::fs::read(draft.path())?;
    if after == before.as_bytes() {
        say!("nothing was changed");
        return Ok(());
    }
    let mut request = client.request(Method::PUT, &["v1", "recipes", id], &[]).body(after);
    if let Some(tag) = tag {
        request = request.header(header::IF_MATCH, tag);
    }
    match client.write(request, &ALL).await {
        Ok(recipe) => show::written("revised", &recipe, json),
        Err(error) => {
            let (_, kept) = draft.keep()?;
            Err(error.context(format!("not taken; your text is kept in {}", kept.display())))
        }
    }
}

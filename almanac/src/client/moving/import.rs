//! `almanac import`: an export into an installation that holds nothing.

use super::{
    container::Unpacking,
    is_refused,
    manifest::{Filed, MANIFEST, Manifest, digest},
    mapping::{Mapping, NAMED},
    parts::{Merged, parts},
};
use crate::{
    client::{Client, Exit, Target, progress::Progress},
    config::Config,
    moving::{
        Line, Moved,
        import::{Asked, Came, State, Whole},
    },
    say::{say, tell},
};
use almanac_errors::chain;
use almanac_schemas::commands::REPLIES;
use anyhow::{Context, bail};
use reqwest::{Method, StatusCode};
use serde_json::json;
use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

/// Records that are sent at once, and bytes.
const BATCH: usize = 500;
const BATCH_BYTES: usize = 2 << 20;
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);
/// Another number of records than expected says that an answer was lost.
const AGAIN: [StatusCode; 2] = [StatusCode::CONFLICT, StatusCode::TOO_MANY_REQUESTS];
/// An installation that was started a moment ago comes up within it.
const STARTING: Duration = Duration::from_secs(30);

/// Bring an export into an installation that holds no events, on whichever engine.
///
/// Start it with `await_import = true`, so that nobody acts before everything is there. An import that
/// was killed goes on when the same command is given again.
///
/// Examples:
///   almanac import --from /backup/almanac
///   almanac import --from /backup/almanac --reason "moving to Kafka" --url https://almanac.example.org
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Import {
    #[command(flatten)]
    target: Target,
    /// The folder of the export
    #[arg(long, value_name = "FOLDER")]
    from: PathBuf,
    /// Why, for the audit; needed beyond this machine
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(import: &Import, config: &Config) -> anyhow::Result<()> {
    let client = Client::new(&import.target, config)?;
    let folder = &import.from;
    let manifest = Manifest::read(folder)?.with_context(|| {
        format!("{} holds no whole export: it has no {MANIFEST}", folder.display())
    })?;
    if manifest.topics.len() != crate::moving::topics().len() {
        let text = format!("{} holds some topics only: an import needs all", folder.display());
        return Err(Exit::Refused(text).into());
    }
    let parts = parts(&manifest)?;
    tell(&format!("checking {} files", manifest.files.len()));
    // Of each file also whether it is what it should be, before anything comes in.
    for file in &manifest.files {
        file.check(folder)?;
        Unpacking::open(folder, file)?;
    }
    client.wait_for(&["v1", "admin", "import"], STARTING).await;
    let sum = digest(File::open(folder.join(MANIFEST))?)?;
    let topics = manifest.topics.iter();
    let asked = Asked {
        reason: Some(import.reason.clone()),
        manifest: sum,
        source: format!("{} on {}", manifest.almanac, manifest.engine),
        topics: topics.map(|(topic, one)| (topic.clone(), one.partitions.len() as u32)).collect(),
    };
    let path = ["v1", "admin", "import"];
    let begin = client.request(Method::POST, &path, &[]).body(serde_json::to_vec(&asked)?);
    let state: State = serde_json::from_value(client.send_json(begin).await?)?;
    let id = state.id.clone().context("the import has no id")?;
    let mut under_way = UnderWay {
        client,
        folder,
        id,
        mapping: Mapping::default(),
        all: manifest.records(),
        records: 0,
        progress: Progress::new(),
    };
    for coming in &state.topics {
        if let Some(exported) = manifest.topics.get(&coming.topic) {
            under_way.mapping.topic(&exported.id, &coming.id);
        }
    }
    let mut records = BTreeMap::new();
    for topic in order() {
        let (Some(exported), Some(coming)) =
            (manifest.topics.get(topic), state.topics.iter().find(|one| one.topic == topic))
        else {
            continue;
        };
        for (partition, came) in (0..).zip(&coming.partitions) {
            let files = parts.get(&(topic, partition)).map(Vec::as_slice).unwrap_or_default();
            under_way.partition(&exported.id, (topic, partition), files, *came).await?;
        }
        let of_each = exported.partitions.iter().map(|reached| reached.records).collect();
        records.insert(topic.to_owned(), of_each);
    }
    let whole = Whole { reason: Some(import.reason.clone()), records };
    let (client, id) = (under_way.client, under_way.id);
    let complete = client
        .request(Method::POST, &["v1", "admin", "import", &id, "complete"], &[])
        .body(serde_json::to_vec(&whole)?);
    client.send(complete).await?;
    let records = manifest.records();
    match import.json {
        true => say!("{}", json!({"id": id, "state": "completed", "records": records})),
        false => say!("{records} records, import {id}; tables are folded now, as /readyz tells"),
    }
    Ok(())
}

/// Those that others name come first, and answers last: nobody is told of what is not there.
fn order() -> Vec<&'static str> {
    let others = crate::moving::topics().into_iter();
    let others = others.filter(|topic| !NAMED.contains(topic) && *topic != REPLIES);
    NAMED.into_iter().chain(others).chain([REPLIES]).collect()
}

struct UnderWay<'a> {
    client: Client,
    folder: &'a Path,
    id: String,
    mapping: Mapping,
    /// Records of the export, and those of partitions that are there.
    all: u64,
    records: u64,
    progress: Progress,
}

impl UnderWay<'_> {
    async fn partition(
        &mut self,
        topic_id: &str,
        (topic, partition): (&str, u32),
        files: &[&Filed],
        came: Came,
    ) -> anyhow::Result<()> {
        let mut merged = Merged::new(self.folder, files);
        let (mut there, mut number) = (came.records, 0);
        let (mut batch, mut bytes) = (Vec::new(), 0);
        loop {
            let next = merged.next().with_context(|| format!("{topic}/{partition}"))?;
            let is_over = next.is_none();
            if let Some((form, mut one)) = next {
                if NAMED.contains(&topic) {
                    self.mapping.push(topic_id, partition, came.base, one.offset);
                }
                number += 1;
                if number <= there {
                    continue;
                }
                self.mapping.map(form.file.map_or("", |file| file.record), &mut one);
                let offset = one.offset;
                let moved: Moved = one
                    .pack(form)
                    .with_context(|| format!("{topic}/{partition}, offset {offset}"))?;
                let line = serde_json::to_vec(&Line::Record(moved))?;
                bytes += line.len();
                batch.push(line);
            }
            let is_full = batch.len() >= BATCH || bytes >= BATCH_BYTES;
            if is_full || (is_over && !batch.is_empty()) {
                let count = batch.len() as u64;
                let lines = std::mem::take(&mut batch).join(&b'\n');
                self.send((topic, partition), there, count, lines).await?;
                (there, bytes) = (there + count, 0);
                let line = || format!("{topic}/{partition}: {there} records");
                self.progress.at(self.records + there, self.all, false, line);
            }
            if is_over {
                self.records += there;
                return Ok(());
            }
        }
    }

    /// On return these records are there, once.
    async fn send(
        &self,
        (topic, partition): (&str, u32),
        first: u64,
        count: u64,
        lines: Vec<u8>,
    ) -> anyhow::Result<()> {
        let path = ["v1", "admin", "import", &self.id, "records"];
        let (partition_text, first_text) = (partition.to_string(), first.to_string());
        let query = [("topic", topic), ("partition", &*partition_text), ("first", &*first_text)];
        let mut failures = 0;
        loop {
            let request = self.client.request(Method::POST, &path, &query).body(lines.clone());
            let error = match self.client.send(request).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            // What became of a request whose answer was lost, the installation tells.
            if failures == ATTEMPTS || is_refused(&error, &AGAIN) {
                return Err(error);
            }
            failures += 1;
            self.progress.tell(&format!("sending again: {}", chain(error.as_ref())));
            tokio::time::sleep(PAUSE).await;
            let Ok(state) = self.state().await else { continue };
            let of_topic = state.topics.iter().find(|one| one.topic == topic);
            let came = of_topic.and_then(|one| one.partitions.get(partition as usize));
            match came.map(|came| came.records) {
                Some(records) if records == first + count => return Ok(()),
                Some(records) if records == first => {}
                Some(records) => bail!(
                    "{topic}/{partition} holds {records} records, not {first} nor {count} more: give the \
                     command again, and it goes on from there"
                ),
                None => {}
            }
        }
    }

    async fn state(&self) -> anyhow::Result<State> {
        let request = self.client.request(Method::GET, &["v1", "admin", "import"], &[]);
        Ok(serde_json::from_value(self.client.send_json(request).await?)?)
    }
}

//! `almanac export`: what an installation knows, as files.

use super::{
    container::{Container, Form},
    is_refused,
    manifest::{Filed, Manifest, digest, sync_folder},
};
use crate::{
    client::{Client, Exit, Target, progress::Progress},
    config::Config,
    moving::{Line, Moved, Outline, Place},
    say::{say, tell},
};
use almanac_errors::chain;
use anyhow::{Context, bail};
use futures::StreamExt;
use reqwest::{Method, StatusCode};
use serde_json::json;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    time::Duration,
};

/// A file ends behind so many bytes of records, so that a killed export repeats no more than that.
const SEGMENT: u64 = 64 << 20;
/// Times that a page is asked for before it is given up.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);
/// A line holds one record, which is a megabyte at most.
const MAX_LINE: usize = 8 << 20;
/// A page takes no longer.
const PAGE_TIME: Duration = Duration::from_secs(300);

/// Write what an installation knows into a folder, as Avro files with a manifest.
///
/// Events, replies and what ingestors know of feeds are exported, commands are not. An export that was
/// killed goes on when the same command is given again.
///
/// Examples:
///   almanac export --to /backup/almanac
///   almanac export --to /backup/almanac --since /backup/almanac/manifest.json
///   almanac export --to /tmp/recipes --topic recipes.events
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Export {
    #[command(flatten)]
    target: Target,
    /// The folder; it is made when it is not there
    #[arg(long, value_name = "FOLDER")]
    to: PathBuf,
    /// Only this topic, without the installation's prefix; may be given several times. Only an export of
    /// all topics can be imported
    #[arg(long, value_name = "TOPIC")]
    topic: Vec<String>,
    /// Add what came after the export in the folder: its manifest, or the position that it was told
    #[arg(long, value_name = "POSITION|MANIFEST", conflicts_with = "topic")]
    since: Option<String>,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(export: &Export, config: &Config) -> anyhow::Result<()> {
    let client = Client::new(&export.target, config)?;
    let folder = &export.to;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = ["v1", "admin", "export"];
    let outline = client.send_json(client.request(Method::GET, &path, &[])).await?;
    let outline: Outline = serde_json::from_value(outline).context("the answer is no outline")?;
    let manifest = begin(export, folder, &outline)?;
    let mut under_way = UnderWay { client, folder, manifest, progress: Progress::new() };
    under_way.manifest.save_progress(folder)?;
    for topic in crate::moving::topics() {
        let partitions = under_way.manifest.topics.get(topic).map_or(0, |one| one.partitions.len());
        for partition in 0..partitions as u32 {
            under_way.partition(topic, partition).await?;
        }
    }
    let mut manifest = under_way.manifest;
    manifest.finish(folder)?;
    let (records, skipped, position) =
        (manifest.records(), manifest.skipped(), manifest.position());
    if export.json {
        say!(
            "{}",
            json!({
                "folder": folder, "position": position, "records": records, "skipped": skipped,
                "files": manifest.files.len(),
            })
        );
        return Ok(());
    }
    say!("{records} records in {} files, position {position}", manifest.files.len());
    if skipped > 0 {
        say!("{skipped} records that Almanac did not write were passed over");
    }
    Ok(())
}

/// What is there, or a new one.
fn begin(export: &Export, folder: &Path, outline: &Outline) -> anyhow::Result<Manifest> {
    if let Some(under_way) = Manifest::read_progress(folder)? {
        let is_same = |one: &crate::moving::MovedTopic| {
            under_way.topics.get(&one.topic).is_none_or(|known| known.id == one.id)
        };
        if !outline.topics.iter().all(is_same) {
            let text = format!(
                "{} holds the beginning of another installation's export",
                folder.display()
            );
            return Err(Exit::Refused(text).into());
        }
        for file in &under_way.files {
            file.check(folder).context("the export that was begun cannot go on")?;
        }
        tell(&format!("going on behind {} records", under_way.records()));
        return Ok(under_way);
    }
    match (Manifest::read(folder)?, &export.since) {
        (None, None) => {
            if fs::read_dir(folder)?.next().is_some() {
                let text = format!("{} is neither empty nor an export", folder.display());
                return Err(Exit::Refused(text).into());
            }
            Manifest::begin(outline, &export.topic)
        }
        (Some(whole), Some(since)) => {
            let file = Path::new(since);
            let named = match file.parent().filter(|_| file.is_file()) {
                Some(parent) => Manifest::read(parent)?.map(|manifest| manifest.position()),
                None => Some(since.clone()),
            };
            if named.as_ref() != Some(&whole.position()) {
                let position = whole.position();
                let text = format!("{} reaches position {position}, not {since}", folder.display());
                return Err(Exit::Refused(text).into());
            }
            whole.go_on(outline)
        }
        (Some(whole), None) => {
            let text = format!(
                "{} holds an export up to position {}: name it with --since to add what came after, or \
                 take another folder",
                folder.display(),
                whole.position()
            );
            Err(Exit::Refused(text).into())
        }
        (None, Some(_)) => {
            let text = format!("{} holds no export to add to", folder.display());
            Err(Exit::Refused(text).into())
        }
    }
}

struct UnderWay<'a> {
    client: Client,
    folder: &'a Path,
    manifest: Manifest,
    progress: Progress,
}

/// Files of one segment, by their names.
#[derive(Default)]
struct Segment {
    open: BTreeMap<String, (Container, Filed)>,
    bytes: u64,
}

impl UnderWay<'_> {
    async fn partition(&mut self, topic: &str, partition: u32) -> anyhow::Result<()> {
        let mut segment = Segment::default();
        let reached = &self.manifest.topics[topic].partitions[partition as usize];
        let (mut after, until) = (reached.last, reached.end);
        let mut is_over = reached.is_done;
        let mut failures = 0;
        while !is_over {
            let mut taken =
                Taken { under_way: self, segment: &mut segment, topic, partition, after };
            let place = taken.page(until).await;
            let reached = taken.after;
            match place {
                Ok(place) => (is_over, failures) = (place.is_end, 0),
                Err(error)
                    if failures == ATTEMPTS
                        || is_refused(&error, &[StatusCode::TOO_MANY_REQUESTS]) =>
                {
                    return Err(error);
                }
                Err(error) => {
                    // What came is taken; the rest is asked for again.
                    if reached == after {
                        failures += 1;
                    }
                    self.progress.tell(&format!("asking again: {}", chain(error.as_ref())));
                    tokio::time::sleep(PAUSE).await;
                }
            }
            after = reached;
            if segment.bytes >= SEGMENT || is_over {
                self.close(std::mem::take(&mut segment), topic, partition, after, is_over)?;
            }
        }
        Ok(())
    }

    /// Files become part of the export, and it can go on behind them.
    fn close(
        &mut self,
        segment: Segment,
        topic: &str,
        partition: u32,
        after: Option<u64>,
        is_done: bool,
    ) -> anyhow::Result<()> {
        let is_empty = segment.open.is_empty();
        let mut filed = Vec::new();
        for (container, mut file) in segment.open.into_values() {
            container.finish()?;
            let path = self.folder.join(&file.path);
            let part = part(&path);
            let written = File::open(&part)?;
            (file.bytes, file.sha256) = (written.metadata()?.len(), digest(written)?);
            fs::rename(&part, &path).with_context(|| format!("cannot write {}", path.display()))?;
            filed.push(file);
        }
        if !is_empty {
            sync_folder(&self.folder.join(folder_of(topic, partition)))?;
        }
        let manifest = &mut self.manifest;
        if let Some(exported) = manifest.topics.get_mut(topic) {
            let reached = &mut exported.partitions[partition as usize];
            reached.records += filed.iter().map(|file| file.records).sum::<u64>();
            reached.segments += u32::from(!is_empty);
            (reached.last, reached.is_done) = (after, is_done);
        }
        manifest.files.extend(filed);
        manifest.save_progress(self.folder)
    }
}

fn folder_of(topic: &str, partition: u32) -> String {
    format!("{topic}/{partition:05}")
}

/// While it is written.
fn part(path: &Path) -> PathBuf {
    path.with_extension("avro.part")
}

struct Taken<'a, 'b> {
    under_way: &'a mut UnderWay<'b>,
    segment: &'a mut Segment,
    topic: &'a str,
    partition: u32,
    after: Option<u64>,
}

impl Taken<'_, '_> {
    async fn page(&mut self, until: u64) -> anyhow::Result<Place> {
        let client = &self.under_way.client;
        let (partition, until) = (self.partition.to_string(), until.to_string());
        let after = self.after.map(|after| after.to_string());
        let mut query = vec![
            ("topic", self.topic),
            ("partition", partition.as_str()),
            ("until", until.as_str()),
        ];
        query.extend(after.as_deref().map(|after| ("after", after)));
        let request = client.request(Method::GET, &["v1", "admin", "export"], &query);
        let answer = client.send(request.timeout(PAGE_TIME)).await?;
        let (mut body, mut rest) = (answer.bytes_stream(), Vec::new());
        while let Some(chunk) = body.next().await {
            rest.extend_from_slice(&chunk.map_err(reqwest::Error::without_url)?);
            let whole = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            for line in rest[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let line = serde_json::from_slice(line).context("a line of the answer is none")?;
                if let Some(place) = self.take(line)? {
                    return Ok(place);
                }
            }
            rest.drain(..whole);
            if rest.len() > MAX_LINE {
                bail!("a line of the answer is longer than {MAX_LINE} bytes");
            }
        }
        bail!("the answer broke off")
    }

    fn take(&mut self, line: Line) -> anyhow::Result<Option<Place>> {
        let (topic, partition) = (self.topic, self.partition);
        match line {
            Line::Record(moved) => {
                let offset = moved.offset;
                if self.after.is_some_and(|after| after >= offset) {
                    bail!("{topic}/{partition} brings offset {offset} a second time");
                }
                if let Err(error) = self.write(&moved) {
                    // A full disk is told of as it is.
                    if error.is::<std::io::Error>() {
                        return Err(error);
                    }
                    self.skip(offset, &chain(error.as_ref()).to_string());
                }
                self.after = Some(offset);
            }
            Line::Skipped { offset, why } => {
                self.skip(offset, &why);
                self.after = Some(offset);
            }
            Line::Next(place) => return Ok(Some(place)),
        }
        Ok(None)
    }

    fn skip(&mut self, offset: u64, why: &str) {
        let (topic, partition) = (self.topic, self.partition);
        let line = format!("passing over {topic}/{partition}, offset {offset}: {why}");
        self.under_way.progress.tell(&line);
        if let Some(exported) = self.under_way.manifest.topics.get_mut(topic) {
            exported.partitions[partition as usize].skipped += 1;
        }
    }

    fn write(&mut self, moved: &Moved) -> anyhow::Result<()> {
        let form = Form::named(moved.schema.as_ref())?;
        let (topic, partition) = (self.topic, self.partition);
        let name = form.name();
        let (container, file) = match self.segment.open.entry(name) {
            std::collections::btree_map::Entry::Occupied(open) => open.into_mut(),
            std::collections::btree_map::Entry::Vacant(vacant) => {
                let segments =
                    self.under_way.manifest.topics[topic].partitions[partition as usize].segments;
                let within = folder_of(topic, partition);
                let folder = self.under_way.folder.join(&within);
                fs::create_dir_all(&folder)?;
                let path = format!("{within}/{segments:05}-{}.avro", vacant.key());
                let container = Container::create(&part(&self.under_way.folder.join(&path)), form)?;
                let file = Filed {
                    path,
                    topic: topic.to_owned(),
                    partition,
                    segment: segments,
                    schema: moved.schema.clone(),
                    records: 0,
                    first: moved.offset,
                    last: moved.offset,
                    bytes: 0,
                    sha256: String::new(),
                };
                vacant.insert((container, file))
            }
        };
        container.append(partition, moved)?;
        file.records += 1;
        file.last = moved.offset;
        self.segment.bytes += moved.body.as_ref().map_or(0, |body| body.len() as u64);
        let end = self.under_way.manifest.topics[topic].partitions[partition as usize].end;
        let done = moved.offset + 1;
        let line = || format!("{topic}/{partition}: {done} of {end}");
        self.under_way.progress.at(done, end, false, line);
        Ok(())
    }
}

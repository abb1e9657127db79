//! What an export consists of. It is written last, so that a folder without one is no whole export.

use crate::moving::{Named, Outline};
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read, Write},
    path::{Component, Path, PathBuf},
};

pub(crate) const MANIFEST: &str = "manifest.json";
/// While an export is under way.
const PROGRESS: &str = "manifest.part.json";
const FORMAT: u32 = 1;
/// A manifest holds a few hundred bytes for each file.
const MAX_MANIFEST: u64 = 256 << 20;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) format: u32,
    /// Version of the installation, and its engine.
    pub(crate) almanac: String,
    pub(crate) engine: String,
    pub(crate) begun_at: String,
    #[serde(default)]
    pub(crate) finished_at: Option<String>,
    pub(crate) topics: BTreeMap<String, Exported>,
    /// In the order in which they were written.
    pub(crate) files: Vec<Filed>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Exported {
    /// Id of the topic that it was read from.
    pub(crate) id: String,
    pub(crate) partitions: Vec<Reached>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Reached {
    /// The export goes up to here.
    pub(crate) end: u64,
    /// The last record of the topic that was looked at.
    pub(crate) last: Option<u64>,
    /// In all files.
    pub(crate) records: u64,
    /// What no version of Almanac wrote.
    pub(crate) skipped: u64,
    pub(crate) segments: u32,
    pub(crate) is_done: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Filed {
    /// Within the folder.
    pub(crate) path: String,
    pub(crate) topic: String,
    pub(crate) partition: u32,
    /// Records of a segment come before those of the next one.
    pub(crate) segment: u32,
    /// Absent for tombstones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) schema: Option<Named>,
    pub(crate) records: u64,
    /// Offsets of the first record and the last one.
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

impl Manifest {
    pub(crate) fn begin(outline: &Outline, topics: &[String]) -> anyhow::Result<Self> {
        let mut manifest = Self {
            format: FORMAT,
            almanac: outline.version.clone(),
            engine: outline.engine.clone(),
            begun_at: jiff::Timestamp::now().to_string(),
            finished_at: None,
            topics: BTreeMap::new(),
            files: Vec::new(),
        };
        for wanted in topics {
            if !outline.topics.iter().any(|one| one.topic == *wanted) {
                let all: Vec<&str> = outline.topics.iter().map(|one| &*one.topic).collect();
                bail!("{wanted} is no topic that moves; these do: {}", all.join(", "));
            }
        }
        let is_wanted = |topic: &str| topics.is_empty() || topics.iter().any(|one| one == topic);
        for one in outline.topics.iter().filter(|one| is_wanted(&one.topic)) {
            let reached = |end: &u64| Reached { end: *end, ..Reached::default() };
            let partitions = one.ends.iter().map(reached).collect();
            let exported = Exported { id: one.id.clone(), partitions };
            manifest.topics.insert(one.topic.clone(), exported);
        }
        Ok(manifest)
    }

    /// The same, up to where the installation is by now.
    pub(crate) fn go_on(mut self, outline: &Outline) -> anyhow::Result<Self> {
        self.finished_at = None;
        for one in &outline.topics {
            let Some(known) = self.topics.get_mut(&one.topic) else { continue };
            if known.id != one.id || known.partitions.len() != one.ends.len() {
                bail!(
                    "topic {} is another one than that of the export: it was made anew, or this is another \
                     installation; export it whole, into another folder",
                    one.topic
                );
            }
            for (reached, end) in known.partitions.iter_mut().zip(&one.ends) {
                if *end < reached.end {
                    bail!("topic {} ends at {end}, before the export's {}", one.topic, reached.end);
                }
                (reached.end, reached.is_done) = (*end, false);
            }
        }
        Ok(self)
    }

    /// Names the state of the installation that the export reaches.
    pub(crate) fn position(&self) -> String {
        let mut hash = Sha256::new();
        for (topic, exported) in &self.topics {
            hash.update(format!("{topic} {}", exported.id));
            for reached in &exported.partitions {
                hash.update(format!(" {}", reached.end));
            }
            hash.update("\n");
        }
        hex(&hash.finalize()[..8])
    }

    pub(crate) fn records(&self) -> u64 {
        self.files.iter().map(|file| file.records).sum()
    }

    pub(crate) fn skipped(&self) -> u64 {
        let all = self.topics.values().flat_map(|topic| &topic.partitions);
        all.map(|reached| reached.skipped).sum()
    }

    /// A whole export's, and nothing where there is none.
    pub(crate) fn read(folder: &Path) -> anyhow::Result<Option<Self>> {
        read(&folder.join(MANIFEST))
    }

    /// Of an export that is under way.
    pub(crate) fn read_progress(folder: &Path) -> anyhow::Result<Option<Self>> {
        read(&folder.join(PROGRESS))
    }

    pub(crate) fn save_progress(&self, folder: &Path) -> anyhow::Result<()> {
        write(folder, PROGRESS, self)
    }

    /// From here on the export is whole.
    pub(crate) fn finish(&mut self, folder: &Path) -> anyhow::Result<()> {
        self.finished_at = Some(jiff::Timestamp::now().to_string());
        write(folder, MANIFEST, self)?;
        fs::remove_file(folder.join(PROGRESS)).context("cannot remove what is over")?;
        sync_folder(folder)
    }
}

impl Filed {
    /// Where it is. A manifest that names something outside of its folder was made up.
    pub(crate) fn within(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        let path = Path::new(&self.path);
        if !path.components().all(|part| matches!(part, Component::Normal(_))) {
            bail!("the manifest names {}, which is outside of the export", self.path);
        }
        Ok(folder.join(path))
    }

    /// Whether the file is the one that was written.
    pub(crate) fn check(&self, folder: &Path) -> anyhow::Result<()> {
        let path = self.within(folder)?;
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let bytes = file.metadata()?.len();
        if bytes != self.bytes {
            bail!(
                "{} has {bytes} bytes instead of {}: it was cut or changed",
                path.display(),
                self.bytes
            );
        }
        let sum = digest(file).with_context(|| format!("cannot read {}", path.display()))?;
        if sum != self.sha256 {
            bail!("{} is not what was exported: its SHA-256 is {sum}", path.display());
        }
        Ok(())
    }
}

fn read(path: &Path) -> anyhow::Result<Option<Manifest>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot open {}", path.display()));
        }
    };
    let manifest: Manifest = serde_json::from_reader(file.take(MAX_MANIFEST))
        .with_context(|| format!("{} is no manifest", path.display()))?;
    if manifest.format != FORMAT {
        bail!("{} has format {}, and this almanac reads {FORMAT}", path.display(), manifest.format);
    }
    Ok(Some(manifest))
}

fn write(folder: &Path, name: &str, manifest: &Manifest) -> anyhow::Result<()> {
    let path = folder.join(name);
    let mut file = tempfile::NamedTempFile::new_in(folder)
        .with_context(|| format!("cannot write to {}", folder.display()))?;
    serde_json::to_writer_pretty(&mut file, manifest)?;
    file.write_all(b"\n")?;
    file.as_file().sync_all()?;
    file.persist(&path).with_context(|| format!("cannot write {}", path.display()))?;
    sync_folder(folder)
}

pub(crate) fn sync_folder(folder: &Path) -> anyhow::Result<()> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.with_context(|| format!("cannot sync {}", folder.display()))
}

/// SHA-256 of all that is there to read.
pub(crate) fn digest(mut from: impl Read) -> std::io::Result<String> {
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 64 << 10]);
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            read => hash.update(&buffer[..read]),
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

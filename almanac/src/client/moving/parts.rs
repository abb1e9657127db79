//! The files of an export by partition, and the records in them in the order of their topic.

use super::{
    container::{Form, Unpacked, Unpacking},
    manifest::{Filed, Manifest},
};
use anyhow::bail;
use std::{collections::BTreeMap, path::Path};

/// The files of each partition, in the order of their segments; they hold as much as the manifest says.
pub(super) type Parts<'a> = BTreeMap<(&'a str, u32), Vec<&'a Filed>>;

pub(super) fn parts(manifest: &Manifest) -> anyhow::Result<Parts<'_>> {
    let mut parts = Parts::new();
    for file in &manifest.files {
        parts.entry((&*file.topic, file.partition)).or_default().push(file);
    }
    for files in parts.values_mut() {
        files.sort_by_key(|file| file.segment);
    }
    for (topic, exported) in &manifest.topics {
        for (partition, reached) in (0..).zip(&exported.partitions) {
            let files = parts.get(&(topic.as_str(), partition));
            let found: u64 = files.into_iter().flatten().map(|file| file.records).sum();
            if found != reached.records {
                bail!(
                    "the manifest names {found} records of {topic}/{partition} in files, and {} in all",
                    reached.records
                );
            }
        }
    }
    Ok(parts)
}

/// The records of a partition in their order, from all its files.
pub(super) struct Merged<'a> {
    folder: &'a Path,
    files: std::iter::Peekable<std::slice::Iter<'a, &'a Filed>>,
    /// Of one segment, each with the record that is next in it.
    open: Vec<(Unpacking, Unpacked)>,
    last: Option<u64>,
}

impl<'a> Merged<'a> {
    pub(super) fn new(folder: &'a Path, files: &'a [&'a Filed]) -> Self {
        Self { folder, files: files.iter().peekable(), open: Vec::new(), last: None }
    }

    pub(super) fn next(&mut self) -> anyhow::Result<Option<(&'static Form, Unpacked)>> {
        if self.open.is_empty() {
            let Some(segment) = self.files.peek().map(|file| file.segment) else { return Ok(None) };
            while let Some(file) = self.files.next_if(|file| file.segment == segment) {
                let mut unpacking = Unpacking::open(self.folder, file)?;
                if let Some(first) = unpacking.next()? {
                    self.open.push((unpacking, first));
                }
            }
        }
        let places = self.open.iter().enumerate();
        let Some((place, _)) = places.min_by_key(|(_, (_, one))| one.offset) else {
            bail!("a segment of {} is empty", self.folder.display());
        };
        let (unpacking, one) = &mut self.open[place];
        let form = unpacking.form;
        let one = match unpacking.next()? {
            Some(next) => std::mem::replace(one, next),
            None => self.open.swap_remove(place).1,
        };
        if self.last.is_some_and(|last| last >= one.offset) {
            let name = form.name();
            bail!("offset {} of {name} does not come behind {:?}", one.offset, self.last);
        }
        self.last = Some(one.offset);
        Ok(Some((form, one)))
    }
}

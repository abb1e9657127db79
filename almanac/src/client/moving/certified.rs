//! A certificate of the installation that was exported, held against the export.

use super::{
    manifest::{MANIFEST, Manifest},
    mapping::NAMING,
    parts::{Merged, parts},
};
use almanac_projector::chained;
use anyhow::Context;
use serde_json::{Map, Value};
use std::path::Path;

/// What an export holds of a certificate.
pub(crate) struct Certified {
    /// The certificate's positions where the export was imported.
    pub(crate) until: Map<String, Value>,
    /// Places whose events are not those of the certificate.
    pub(crate) wrong: Vec<String>,
}

/// Whether an import leaves the events of this place, such as `recipes.events/0`, as they were.
pub(crate) fn stays(place: &str) -> bool {
    place.rsplit_once('/').is_some_and(|(topic, _)| topic != NAMING)
}

/// Reads the export's records up to the positions of the certificate. An import appends the records of a
/// partition one after the other, so that a position there is the number of records before it.
pub(crate) fn certified(
    folder: &Path,
    positions: &Map<String, Value>,
) -> anyhow::Result<Certified> {
    let manifest = Manifest::read(folder)?.with_context(|| {
        format!("{} holds no whole export: it has no {MANIFEST}", folder.display())
    })?;
    let parts = parts(&manifest)?;
    let mut certified = Certified { until: Map::new(), wrong: Vec::new() };
    for (place, at) in positions {
        let position = at["position"].as_u64().context("it is no certificate")?;
        let (topic, partition) = place.rsplit_once('/').context("it is no certificate")?;
        let partition: u32 = partition.parse().context("it is no certificate")?;
        let exported = manifest.topics.get(topic);
        let exported = exported.with_context(|| format!("the export holds nothing of {topic}"))?;
        let reached = exported.partitions.get(partition as usize);
        if at["topic_id"].as_str() != Some(&exported.id) {
            certified.wrong.push(format!("the topic {topic} (another installation's)"));
        } else if reached.is_none_or(|reached| reached.end < position) {
            certified.wrong.push(format!("{place} (the export ends before offset {position})"));
        }
        let files = parts.get(&(topic, partition)).map(Vec::as_slice).unwrap_or_default();
        let mut merged = Merged::new(folder, files);
        let (mut count, mut digest) = (0_u64, None);
        while let Some((form, one)) = merged.next().with_context(|| place.clone())?
            && one.offset < position
        {
            let datum = one.body.map(|body| form.write_body(body)).transpose()?.flatten();
            digest = Some(chained(digest.as_deref(), &one.key, &datum.unwrap_or_default()));
            count += 1;
        }
        if digest.as_deref() != at["events"].as_str() {
            certified.wrong.push(format!("the events of {place} in the export"));
        }
        certified.until.insert(place.clone(), count.into());
    }
    Ok(certified)
}

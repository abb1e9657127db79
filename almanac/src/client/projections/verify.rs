//! `almanac projections verify`: a certificate, recomputed.

use super::{begin, text, told, wait};
use crate::{
    client::{
        Client,
        moving::certified::{Certified, certified, stays},
        read,
    },
    say::{say, tell},
};
use anyhow::{Context, bail};
use serde_json::{Map, Value, json};
use std::path::Path;

pub(super) struct Certificate(Value);

impl Certificate {
    pub(super) fn read(file: &Path) -> anyhow::Result<Self> {
        let mut found: Value =
            serde_json::from_slice(&read(file)?).context("the certificate is no JSON")?;
        // A rebuild as it is answered holds its certificate.
        Ok(Self(match found["certificate"].take() {
            Value::Null => found,
            within => within,
        }))
    }

    /// The certificate's positions as they are here.
    fn positions(&self, export: Option<&Path>) -> anyhow::Result<Certified> {
        let positions = self.0["positions"].as_object().context("it is no certificate")?;
        if let Some(folder) = export {
            tell(&format!("reading {}", folder.display()));
            return certified(folder, positions);
        }
        let until: Map<String, Value> =
            positions.iter().map(|(place, at)| (place.clone(), at["position"].clone())).collect();
        Ok(Certified { until, wrong: Vec::new() })
    }

    pub(super) async fn verify(
        &self,
        client: &Client,
        export: Option<&Path>,
        reason: &str,
        json: bool,
    ) -> anyhow::Result<()> {
        let name = self.0["projection"].as_str().context("it is no certificate")?;
        let Certified { until, mut wrong } = self.positions(export)?;
        let body = json!({ "reason": reason, "dry_run": true, "events_per_s": 0, "until": until });
        let begun = begin(client, name, &body).await?;
        let found = wait(client, text(&begun, "id"), None).await?;
        if found["state"] != "ready" {
            return told(&found, json);
        }
        let now = &found["certificate"];
        for place in until.keys() {
            let (was, is) = (&self.0["positions"][place], &now["positions"][place]);
            if export.is_none() && was["topic_id"] != is["topic_id"] {
                let why = "another installation's, or made anew since; see --export";
                wrong.push(format!("the topic of {place} ({why})"));
            } else if (export.is_none() || stays(place)) && was["events"] != is["events"] {
                wrong.push(format!("the events of {place}"));
            }
        }
        for part in ["rows", "digest"] {
            if now["rebuilt"][part] != self.0["rebuilt"][part] {
                wrong.push(format!("the {part} of the tables"));
            }
        }
        if json {
            say!("{now}");
        }
        if wrong.is_empty() {
            tell(&format!("{name}: {} rows, as certified", now["rebuilt"]["rows"]));
            return Ok(());
        }
        let fold = match now["fold"] == self.0["fold"] {
            true => "",
            false => "; another version of the fold made the certificate",
        };
        bail!("{name} is not as certified: {}{fold}", wrong.join(", "))
    }
}

//! What the unit tests of this crate share.

use crate::config::{ProviderConfig, ProviderKind};
use std::{collections::BTreeMap, time::Duration};

pub(crate) fn provider(name: &str, url: &str) -> ProviderConfig {
    ProviderConfig {
        name: name.to_owned(),
        kind: ProviderKind::FeverPlans,
        url: url.to_owned(),
        timezone: "Europe/Madrid".to_owned(),
        interval: Duration::from_secs(30),
        max_interval: Duration::from_secs(600),
        freshness: Duration::from_secs(60),
        priority: 1,
        currency: None,
        url_template: None,
        headers: BTreeMap::new(),
        header_files: BTreeMap::new(),
        allow_redirects_to_other_hosts: false,
        paused: false,
    }
}

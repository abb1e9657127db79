//! Who is told of events, and how.

use super::Config;
use almanac_command_api::Notifications;
use almanac_schemas::json::subscriptions::Reach;
use almanac_secrets::SealingKey;
use almanac_worker::notifications::NotificationOptions;
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, time::Duration};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct NotificationsConfig {
    /// Where the key is that secrets of subscriptions are kept under: 32 random bytes. `up` makes it in
    /// `data_dir` when absent; processes of their own share a file that is named here.
    pub(crate) key_file: Option<PathBuf>,
    /// Whether webhooks may lead into private networks, and there by http.
    pub(crate) private_addresses: bool,
    /// Webhooks that one owner sends at the same time, and of one subscription.
    pub(crate) concurrency: usize,
    pub(crate) concurrency_per_subscription: usize,
    /// For an answer, the connection included.
    #[serde(with = "humantime_serde")]
    pub(crate) timeout: Duration,
    /// Pause before the second attempt; each further is three times as long, up to the longest.
    #[serde(with = "humantime_serde")]
    pub(crate) first_pause: Duration,
    #[serde(with = "humantime_serde")]
    pub(crate) longest_pause: Duration,
    /// After so long a delivery is given up.
    #[serde(with = "humantime_serde")]
    pub(crate) give_up_after: Duration,
    /// Events that are older when they are matched are not told any more.
    #[serde(with = "humantime_serde")]
    pub(crate) oldest: Duration,
    /// How long deliveries are kept in the log.
    #[serde(with = "humantime_serde")]
    pub(crate) keep: Duration,
}

impl Default for NotificationsConfig {
    fn default() -> Self {
        let options = NotificationOptions::default();
        Self {
            key_file: None,
            private_addresses: false,
            concurrency: options.concurrency,
            concurrency_per_subscription: options.concurrency_per_subscription,
            timeout: options.timeout,
            first_pause: options.first_pause,
            longest_pause: options.longest_pause,
            give_up_after: options.give_up_after,
            oldest: options.oldest,
            keep: Duration::from_secs(30 * 24 * 3_600),
        }
    }
}

impl NotificationsConfig {
    pub(super) fn validate(&self) -> anyhow::Result<()> {
        if self.concurrency == 0 || self.concurrency_per_subscription == 0 {
            bail!("notifications.concurrency and concurrency_per_subscription must not be 0");
        }
        if self.timeout.is_zero() || self.first_pause.is_zero() {
            bail!("notifications.timeout and first_pause must not be 0");
        }
        if self.keep < self.give_up_after.saturating_mul(2) {
            bail!(
                "notifications.keep must be twice give_up_after at least: deliveries are tried from it"
            );
        }
        Ok(())
    }

    pub(crate) fn options(&self) -> NotificationOptions {
        NotificationOptions {
            concurrency: self.concurrency,
            concurrency_per_subscription: self.concurrency_per_subscription,
            timeout: self.timeout,
            first_pause: self.first_pause,
            longest_pause: self.longest_pause,
            give_up_after: self.give_up_after,
            oldest: self.oldest,
        }
    }
}

impl Config {
    /// Where the key stands that `up` makes.
    pub(crate) fn notification_key_file(&self) -> PathBuf {
        let configured = self.notifications.key_file.clone();
        configured.unwrap_or_else(|| self.data_dir.join("notifications.key"))
    }

    pub(crate) fn notifications(&self) -> anyhow::Result<Notifications> {
        let file = self.notification_key_file();
        let sealing = match self.notifications.key_file.is_some() || file.exists() {
            true => Some(SealingKey::load(&file).context("notifications.key_file")?),
            false => None,
        };
        let reach = match self.notifications.private_addresses {
            true => Reach::Anywhere,
            false => Reach::Public,
        };
        Ok(Notifications { sealing, reach })
    }
}

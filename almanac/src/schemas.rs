//! `almanac schemas`.

use crate::say::say;
use crate::{config::Config, engine};
use almanac_schemas::{check, files::SchemaFile};
use anyhow::bail;

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Check that every version reads what all earlier ones wrote, and that every field is documented
    Check,
    /// Register the newest version of every schema at the configured registry
    Register,
}

pub(crate) async fn run(command: &Command, config: &Config) -> anyhow::Result<()> {
    match command {
        Command::Check => {
            let findings = check::check_all();
            for finding in &findings {
                say!("{finding}");
            }
            if !findings.is_empty() {
                bail!("{} findings", findings.len());
            }
            say!("{} schema versions fit each other", almanac_schemas::files::ALL.len());
        }
        Command::Register => {
            let registry = engine::registry(config)?;
            for file in SchemaFile::all_newest() {
                let id = registry.register(file).await?;
                say!("{id}\t{}\tversion {}", file.subject(&config.topic_prefix), file.version);
            }
        }
    }
    Ok(())
}

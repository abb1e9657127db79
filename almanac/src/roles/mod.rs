//! The roles, composed into one process.

mod command_api;
mod ingestor;
mod process;
mod projector;
mod query_api;
mod surface;
mod worker;

use crate::config::Config;
use almanac_event_log::TopicSpec;
use anyhow::{Context, bail};
use async_trait::async_trait;
use clap::{ArgMatches, Command, error::ErrorKind};
pub(crate) use process::{Process, start};
use prometheus_client::registry::Registry;
use std::fs::File;

/// Every role that there is, in the order in which they are started.
pub(crate) const ALL: &[&dyn Role] = &[
    &ingestor::Ingests,
    &projector::Projects,
    &query_api::AnswersReads,
    &command_api::TakesWrites,
    &worker::Works,
];

/// What a process can do for an installation, alone or beside others.
#[async_trait]
pub(crate) trait Role: Send + Sync {
    /// The command that runs it.
    fn name(&self) -> &'static str;

    /// For the list of commands.
    fn about(&self) -> &'static str;

    /// Topics that it writes. All topics are made by whichever process comes first.
    fn topics(&self, _config: &Config) -> Vec<TopicSpec> {
        Vec::new()
    }

    /// Refuses to run beside another process of the same name, before anything is opened. A role with
    /// local state needs no claim: it locks that.
    fn claim(&self, _config: &Config) -> anyhow::Result<Option<File>> {
        Ok(None)
    }

    /// Opens local state and registers metrics. Nothing runs yet, and tables and topics are there.
    async fn prepare(
        &self,
        process: &Process,
        metrics: &mut Registry,
    ) -> anyhow::Result<Box<dyn Prepared>>;
}

/// A role that can be started.
#[async_trait]
pub(crate) trait Prepared: Send {
    /// Starts its tasks among those that write, which end first, or those that serve; and adds its
    /// routes, signs of its health and what readiness waits for.
    async fn start(self: Box<Self>, process: &mut Process) -> anyhow::Result<()>;
}

/// Every topic of an installation.
pub(crate) fn topics(config: &Config) -> Vec<TopicSpec> {
    let mut specs = vec![almanac_projector::changes(&config.topic_prefix, config.partitions)];
    specs.extend(ALL.iter().flat_map(|role| role.topics(config)));
    specs
}

/// A role that was named on the command line.
#[derive(Clone, Copy)]
pub(crate) struct Named(pub(crate) &'static dyn Role);

impl clap::FromArgMatches for Named {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let named = ALL.iter().find(|role| Some(role.name()) == matches.subcommand_name());
        named.map(|role| Self(*role)).ok_or_else(|| clap::Error::new(ErrorKind::InvalidSubcommand))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Subcommand for Named {
    fn augment_subcommands(command: Command) -> Command {
        let roles = ALL.iter().map(|role| Command::new(role.name()).about(role.about()));
        command.subcommands(roles)
    }

    fn augment_subcommands_for_update(command: Command) -> Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        ALL.iter().any(|role| role.name() == name)
    }
}

/// Two processes of one name take the partitions from each other again and again: the second one ends.
fn claim(config: &Config, role: &str) -> anyhow::Result<File> {
    let folder = config.data_dir.join("state");
    let path = folder.join(format!("{role}.lock"));
    let file = std::fs::create_dir_all(&folder).and_then(|()| File::create(&path));
    let file = file.with_context(|| format!("cannot create {}", path.display()))?;
    if file.try_lock().is_err() {
        bail!("{} is in use by another process: each needs a data_dir of its own", path.display());
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use almanac_schemas::files::event_topics;
    use std::collections::BTreeSet;

    #[test]
    fn every_topic_has_one_owner() {
        let config = Config::default();
        let specs = topics(&config);
        let mut names = BTreeSet::new();
        for spec in &specs {
            assert!(names.insert(&*spec.name), "two roles say what {} is like", spec.name);
        }
        let projections = almanac_projector::all().unwrap();
        let read = projections.iter().flat_map(|projection| projection.topics()).copied();
        for topic in read.chain(event_topics()) {
            let name = format!("{}{topic}", config.topic_prefix);
            assert!(names.contains(&*name), "no role makes {name}");
        }
    }

    #[test]
    fn each_role_has_a_command_of_its_own() {
        let names: BTreeSet<&str> = ALL.iter().map(|role| role.name()).collect();
        assert_eq!(names.len(), ALL.len());
        for name in names {
            let command = <Named as clap::Subcommand>::augment_subcommands(Command::new("almanac"));
            let matches = command.try_get_matches_from(["almanac", name]).unwrap();
            let named = <Named as clap::FromArgMatches>::from_arg_matches(&matches).unwrap();
            assert_eq!(named.0.name(), name);
        }
    }
}

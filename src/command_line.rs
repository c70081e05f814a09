//! The command line as a whole: which commands there are, and what each is given.
//!
//! What a command does is its own module's business.

use std::path::PathBuf;

use clap::{Arg, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::auth::policy::check::PolicyCommand;
use crate::auth::tokens::command::TokenCommand;
use crate::client::{DeployTarget, Following, Health, Key, StatusCommand, TopCommand, WaitTarget};
use crate::config::Options;
use crate::moves::{BackupCommand, ExportCommand, ImportCommand, RestoreCommand};
use crate::schema::SchemaCommand;

/// A gRPC gateway over the AWS Proton API, with an embedded, durable, Proton-compatible engine.
///
/// Without a command it serves.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = false)]
pub struct Arguments {
    /// TOML file with the options below as keys
    #[arg(
        long,
        env = "PROTON_GATEWAY_CONFIG",
        value_name = "FILE",
        global = true
    )]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub options: Options,
    #[command(subcommand)]
    pub command: Option<Command>,
}

impl Arguments {
    /// What the program was given, by flags and by variables.
    pub fn given() -> Result<Self, clap::Error> {
        let mut command = without_empty_variables(Self::command());
        let matches = command.try_get_matches_from_mut(std::env::args_os())?;
        Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
    }
}

/// A variable that is there but empty is one that is not set, as orchestrators write it.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |arg: &Arg| {
        let value = arg.get_env().and_then(std::env::var_os);
        value.is_some_and(|value| value.is_empty())
    };
    command
        .mut_args(|arg| match is_empty(&arg) {
            true => arg.env(None),
            false => arg,
        })
        .mut_subcommands(without_empty_variables)
}

#[derive(Subcommand)]
pub enum Command {
    /// Serve until told to stop (the default)
    Serve,
    /// Print the effective configuration as TOML, or what is wrong with it
    CheckConfig,
    /// Make tokens for callers, or their hashes for the configuration
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Wait on a running gateway until something has ended; exit status 0 if as hoped, 1 if
    /// failed, 2 if cancelled, 124 if the time was over
    Wait {
        #[command(subcommand)]
        target: WaitTarget,
        #[command(flatten)]
        following: Following,
    },
    /// Create or update through a running gateway, and wait until that has ended; exit status as
    /// that of wait
    Deploy {
        #[command(subcommand)]
        target: DeployTarget,
        #[command(flatten)]
        key: Key,
        #[command(flatten)]
        following: Following,
    },
    /// Say what is deployed through a running gateway, what is under way, failed or stuck
    Status(StatusCommand),
    /// Show what a running gateway does at the moment: calls, limits, streams, deployments
    Top(TopCommand),
    /// Ask a running gateway whether it serves; exit status 0 if it does, 1 if not. Its admin page
    /// is asked, where --admin-listen says, or with --address the health service of a gRPC door
    Health(Health),
    /// Copy the store into one file, also while a gateway runs on it; exit status 0 once the copy is
    /// checked and on disk, 1 if there is none
    Backup(BackupCommand),
    /// Put a backup into a state directory that holds no store yet; exit status 0 or 1
    Restore(RestoreCommand),
    /// Write everything as plain files for people and for Git, also while a gateway runs; exit
    /// status 0 or 1
    Export(ExportCommand),
    /// Take plain files, or saved answers of AWS Proton, into a state directory that holds nothing
    /// yet; exit status 0, or 1 with nothing changed
    Import(ImportCommand),
    /// Ask what the policies say, without a running gateway
    Policy {
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// Print the contract that was compiled in, for making clients
    Schema {
        #[command(subcommand)]
        command: SchemaCommand,
    },
}

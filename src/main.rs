//! The program: reads the configuration, opens the doors, and stops in order.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{Args, Parser, Subcommand};
use proton_gateway::auth::policy::check::PolicyCommand;
use proton_gateway::auth::policy::set::Policies;
use proton_gateway::auth::tokens::command::{self, TokenCommand};
use proton_gateway::client::{
    self, DeployTarget, Failure, Following, Health, Key, StatusCommand, TopCommand, USAGE,
    WaitTarget,
};
use proton_gateway::config::{Config, Options};
use proton_gateway::moves::{BackupCommand, ExportCommand, ImportCommand, RestoreCommand};
use proton_gateway::program::{self, Source};
use proton_gateway::schema::{self, SchemaCommand};

/// A gRPC gateway over the AWS Proton API, with an embedded, durable, Proton-compatible engine.
///
/// Without a command it serves.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = false)]
struct Arguments {
    /// TOML file with the options below as keys
    #[arg(
        long,
        env = "PROTON_GATEWAY_CONFIG",
        value_name = "FILE",
        global = true
    )]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
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

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(problem) => {
            drop(problem.print());
            if let Some(hint) = misplaced(&problem) {
                drop(writeln!(std::io::stderr(), "\n{hint}"));
            }
            return ExitCode::from(if problem.use_stderr() { USAGE } else { 0 });
        }
    };
    match run(arguments) {
        Ok(code) => code,
        Err(failure) => {
            // Where nobody reads it, the exit status still tells.
            drop(writeln!(std::io::stderr(), "proton-gateway: {failure}"));
            ExitCode::from(failure.status())
        }
    }
}

/// What to do about a flag of the whole program that stands behind a command.
fn misplaced(problem: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(given)) = problem.get(ContextKind::InvalidArg) else {
        return None;
    };
    let name = given.split('=').next()?.strip_prefix("--")?;
    let all = Options::augment_args(clap::Command::new("proton-gateway"));
    let known = all.get_arguments().any(|it| it.get_long() == Some(name));
    known.then(|| format!("--{name} is for the whole program and stands before the command: proton-gateway --{name} … COMMAND"))
}

fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let source = Source {
        given: arguments.options,
        file: arguments.config,
    };
    let config = || source.load().map_err(|error| error.to_string());
    match arguments.command {
        None | Some(Command::Serve) => program::run(config()?, source)?,
        Some(Command::CheckConfig) => check(&config()?)?,
        Some(Command::Policy { command }) => return Ok(command.run(config)),
        Some(Command::Token { command }) => command::run(&command)?,
        Some(Command::Schema { command }) => schema::run(&command)?,
        Some(Command::Health(asked)) => return client::health(&asked, source.given.admin_listen),
        Some(Command::Backup(command)) => command.run(&config()?)?,
        Some(Command::Restore(command)) => command.run(&config()?)?,
        Some(Command::Export(command)) => command.run(&config()?)?,
        Some(Command::Import(command)) => command.run(&config()?)?,
        Some(Command::Wait { target, following }) => return client::wait(target, &following),
        Some(Command::Deploy {
            target,
            key,
            following,
        }) => return client::deploy(target, key, &following),
        Some(Command::Status(command)) => return client::status(&command),
        Some(Command::Top(command)) => return client::top(&command),
    }
    Ok(ExitCode::SUCCESS)
}

fn check(config: &Config) -> Result<(), String> {
    if let Some(section) = &config.authorization {
        Policies::load(section).map_err(|error| error.to_string())?;
    }
    let text = toml::to_string(config).map_err(|error| error.to_string())?;
    write!(std::io::stdout(), "{text}")
        .map_err(|error| format!("cannot write the configuration: {error}"))
}

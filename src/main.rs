//! The program: reads the configuration, opens the doors, and stops in order.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use proton_gateway::config::{Config, Options};
use proton_gateway::program;

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
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = Config::load(arguments.options, arguments.config.as_deref())
        .map_err(|error| error.to_string())
        .and_then(|config| match arguments.command {
            None | Some(Command::Serve) => program::run(config),
            Some(Command::CheckConfig) => check(&config),
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("proton-gateway: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn check(config: &Config) -> Result<(), String> {
    let text = toml::to_string(config).map_err(|error| error.to_string())?;
    print!("{text}");
    Ok(())
}

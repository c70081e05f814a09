//! The program: reads the configuration, opens the doors, and stops in order.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use clap::error::{ContextKind, ContextValue};
use proton_gateway::auth::policy::set::Policies;
use proton_gateway::auth::tokens::command;
use proton_gateway::client::{self, Failure, USAGE};
use proton_gateway::command_line::{Arguments, Command};
use proton_gateway::config::{Config, Options};
use proton_gateway::program::{self, Source};
use proton_gateway::schema;
use proton_gateway::waits::Key;

fn main() -> ExitCode {
    let arguments = match Arguments::given() {
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
        None | Some(Command::Serve) => program::run(source)?,
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
    if let Some(path) = &config.resume_token_key_file {
        Key::read(path).map_err(|error| error.to_string())?;
    }
    let text = toml::to_string(config).map_err(|error| error.to_string())?;
    write!(std::io::stdout(), "{text}")
        .map_err(|error| format!("cannot write the configuration: {error}"))
}

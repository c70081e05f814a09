//! The command `schema`: the contract as this program has it, for whoever generates clients.
//!
//! Nothing is asked of a running gateway. What it prints is what was compiled in, so that a client
//! that is made from it fits this very program.

pub mod service_config;

use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Subcommand;

use crate::api::{DESCRIPTORS, PROTOS};

/// What to print of the contract.
#[derive(Debug, Clone, Subcommand)]
pub enum SchemaCommand {
    /// The encoded FileDescriptorSet, imports, options and comments included: what reflection
    /// serves
    DescriptorSet {
        /// File to write, instead of the standard output
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// The .proto files as they were compiled in, each at the path by which the others import it
    Protos {
        /// Folder to write to; it is created where it is missing, and files of the same names are
        /// replaced
        #[arg(long, value_name = "FOLDER")]
        out: PathBuf,
    },
    /// The service config for gRPC clients, as JSON: what may be retried, how, and until when
    ServiceConfig {
        /// File to write, instead of the standard output
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// Prints or writes what `command` asks for.
pub fn run(command: &SchemaCommand) -> Result<(), String> {
    match command {
        SchemaCommand::DescriptorSet { output } => {
            if output.is_none() && std::io::stdout().is_terminal() {
                return Err(
                    "a descriptor set is not for terminals; give --output FILE, or redirect it"
                        .to_owned(),
                );
            }
            put(DESCRIPTORS, output.as_deref())
        }
        SchemaCommand::Protos { out } => PROTOS
            .iter()
            .try_for_each(|(name, text)| write(&out.join(name), text.as_bytes())),
        SchemaCommand::ServiceConfig { output } => {
            put(service_config::text()?.as_bytes(), output.as_deref())
        }
    }
}

fn put(bytes: &[u8], output: Option<&Path>) -> Result<(), String> {
    match output {
        Some(path) => write(path, bytes),
        None => std::io::stdout()
            .write_all(bytes)
            .map_err(|error| format!("cannot write to the standard output: {error}")),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    path.parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(path, bytes))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}

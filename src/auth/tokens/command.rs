//! The command `token`: makes tokens and their hashes.

use std::io::{Read, Write};

use clap::Subcommand;

use crate::config::authentication::check_names;

/// The longest text that is read as a token.
const MAX_INPUT: u64 = 8 * 1024;

/// What to do with tokens.
#[derive(Debug, Clone, Subcommand)]
pub enum TokenCommand {
    /// Print a new token, and what to add to the configuration for it
    New {
        /// Who will bear it
        #[arg(long, default_value = "someone", value_name = "ID")]
        id: String,
        /// A role that it will have; may come several times
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
    },
    /// Read a token from the standard input, and print its hash
    Hash,
}

pub fn run(command: &TokenCommand) -> Result<(), String> {
    let text = match command {
        TokenCommand::New { id, roles } => {
            check_names("--id", [id]).map_err(|error| error.to_string())?;
            check_names("--role", roles).map_err(|error| error.to_string())?;
            let token = super::new()?;
            format!(
                "# The token, which is shown only once:\n{token}\n\n# For the configuration of the gateway:\n{}\n",
                lines(id, roles, &token)?
            )
        }
        TokenCommand::Hash => {
            let mut text = String::new();
            std::io::stdin()
                .take(MAX_INPUT)
                .read_to_string(&mut text)
                .map_err(|error| format!("cannot read the standard input: {error}"))?;
            format!("{}\n", String::from(super::hash_of(text.trim())?))
        }
    };
    let mut out = std::io::stdout();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| format!("cannot write to the standard output: {error}"))
}

/// The entry of a token, as it stands in the configuration.
fn lines(id: &str, roles: &[String], token: &str) -> Result<String, String> {
    let mut entry = toml::Table::new();
    entry.insert("id".to_owned(), id.into());
    let hash = String::from(super::hash_of(token)?);
    entry.insert("hash".to_owned(), hash.into());
    let roles = roles.iter().map(|role| role.as_str().into()).collect();
    entry.insert("roles".to_owned(), toml::Value::Array(roles));
    Ok(format!("[[authentication.tokens]]\n{entry}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::authentication::Token;

    #[test]
    fn an_id_that_the_configuration_refuses_gets_no_token() {
        for (id, role) in [("a\nb", "viewer"), ("", "viewer"), ("a", "\u{202e}")] {
            let command = TokenCommand::New {
                id: id.to_owned(),
                roles: vec![role.to_owned()],
            };
            assert!(run(&command).is_err(), "{id:?} {role:?}");
        }
    }

    #[test]
    fn the_entry_of_a_new_token_can_be_read_and_does_not_show_it() {
        let token = super::super::new().unwrap();
        let entry = lines("a \"quoted\" name", &["viewer".to_owned()], &token).unwrap();
        let table = entry.strip_prefix("[[authentication.tokens]]\n").unwrap();
        let read: Token = toml::from_str(table).unwrap();
        assert_eq!(read.id, "a \"quoted\" name");
        assert!(read.roles.contains("viewer"));
        assert_eq!(read.hash, super::super::hash_of(&token).unwrap());
        assert!(!entry.contains(&token));
    }
}

//! The file of the configuration: read, and what is wrong in it said without what stands there, which
//! may be a secret.

use std::path::Path;

use super::{ConfigError, Options};

pub(super) fn read(path: &Path) -> Result<Options, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|cause| ConfigError::Unreadable {
        path: path.to_owned(),
        cause,
    })?;
    toml::from_str(&text).map_err(|cause| ConfigError::Malformed {
        path: path.to_owned(),
        place: place(&text, cause.span().map_or(0, |span| span.start)),
        problem: without_values(cause),
    })
}

/// Where in a file something stands.
fn place(text: &str, index: usize) -> String {
    let before = text.get(..index).unwrap_or(text);
    let begun = before.rsplit('\n').next().unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    format!("line {line}, column {}", begun.chars().count() + 1)
}

/// What is wrong, and with which key, without the value that stands there.
fn without_values(mut cause: toml::de::Error) -> String {
    // With its input it would show the line.
    cause.set_input(None);
    let text = cause.to_string().trim_end().replace('\n', " ");
    let begins = ["invalid type: string ", "invalid value: string "];
    match (
        begins.iter().find(|begin| text.starts_with(**begin)),
        text.rsplit_once("\", expected "),
    ) {
        (Some(begin), Some((_, expected))) => format!("{}, expected {expected}", begin.trim_end()),
        _ => text,
    }
}

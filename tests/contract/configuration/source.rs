//! What the sources say of the sections of the configuration: structs, their fields, their docs.
//!
//! It reads lines, not Rust: the files of `src/config/` are formatted, and each section looks like
//! the others. What it does not find, the document lacks, and a test says so.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A struct or an enum.
#[derive(Debug, Default)]
pub struct Type {
    pub doc: String,
    pub fields: Vec<Field>,
    /// Of an enum, as they stand in the file.
    pub values: Vec<String>,
}

#[derive(Debug)]
pub struct Field {
    /// As it stands in the file.
    pub key: String,
    /// As it stands in the source.
    pub kind: String,
    pub doc: String,
    /// It is no flag.
    pub file_only: bool,
}

/// All types by their names.
pub fn types() -> BTreeMap<String, Type> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files: Vec<_> = fs::read_dir(root.join("config"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    files.push(root.join("config.rs"));
    let mut types = BTreeMap::new();
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        read(&text, &mut types);
    }
    types
}

fn read(text: &str, types: &mut BTreeMap<String, Type>) {
    let mut docs: Vec<&str> = Vec::new();
    let mut attributes = String::new();
    let mut current: Option<(String, Type)> = None;
    let mut in_attribute = false;
    let mut renamed_to = String::new();
    for line in text.lines() {
        let trimmed = line.trim();
        if in_attribute || trimmed.starts_with("#[") {
            attributes.push_str(trimmed);
            in_attribute = !trimmed.ends_with(']');
            continue;
        }
        if let Some(doc) = trimmed.strip_prefix("///") {
            docs.push(doc.trim());
            continue;
        }
        if line == "}" {
            if let Some((name, found)) = current.take() {
                types.insert(name, found);
            }
        } else if let Some((_, found)) = &mut current {
            let renamed = quoted(&attributes, "rename = ");
            if let Some((name, kind)) = trimmed
                .strip_prefix("pub ")
                .and_then(|f| f.split_once(": "))
            {
                found.fields.push(Field {
                    key: renamed.unwrap_or_else(|| kebab(name)),
                    kind: kind.trim_end_matches(',').to_owned(),
                    doc: docs.join(" "),
                    file_only: attributes.contains("arg(skip)"),
                });
            } else if let Some(name) = trimmed.strip_suffix(',') {
                let plain = match renamed_to.as_str() {
                    "lowercase" => name.to_lowercase(),
                    "kebab-case" => kebab(name),
                    _ => name.to_owned(),
                };
                found.values.push(renamed.unwrap_or(plain));
            }
        } else if let Some(name) = declared(line) {
            renamed_to = quoted(&attributes, "rename_all = ").unwrap_or_default();
            let found = Type {
                doc: docs.join(" "),
                ..Type::default()
            };
            if line.ends_with('{') {
                current = Some((name.to_owned(), found));
            } else {
                types.insert(name.to_owned(), found);
            }
        }
        docs.clear();
        attributes.clear();
    }
}

/// The name of a type that `line` declares.
fn declared(line: &str) -> Option<&str> {
    let rest = line
        .strip_prefix("pub struct ")
        .or_else(|| line.strip_prefix("pub enum "))?;
    rest.split(|c: char| !c.is_alphanumeric()).next()
}

/// The text in quotation marks after `name`.
fn quoted(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(name)?;
    rest.split('"').nth(1).map(str::to_owned)
}

fn kebab(name: &str) -> String {
    let mut out = String::new();
    for (at, letter) in name.chars().enumerate() {
        if letter == '_' {
            out.push('-');
        } else if letter.is_uppercase() {
            if at > 0 {
                out.push('-');
            }
            out.extend(letter.to_lowercase());
        } else {
            out.push(letter);
        }
    }
    out
}

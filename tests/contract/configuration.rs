//! Writes `docs/configuration.md`: commands and flags out of clap's own description of them, the sections
//! of the file out of the sources, and defaults out of what a configuration becomes that gives none.

mod commands;
mod source;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use proton_gateway::config::{Config, Options};
use source::{Field, Type};

const HEAD: &str = "# Configuration

Generated from the sources; a test fails when it is stale. `just docs` renews it.

A flag beats an environment variable, which beats the file (`--config FILE`, `PROTON_GATEWAY_CONFIG`), which beats the default. A variable that is
empty is not set. The file is TOML.
`proton-gateway check-config` prints what holds, or what is wrong; a key that does not exist is refused.

Durations have their unit (`250ms`, `3s`, `24h`), and so have sizes (`512KiB`, `100MiB`, `1GiB`), rates (`50/s`, `6/m`, `100/h`) and parts of a whole (`20%`).
";

/// Files that give as little as they can: whatever else is then there is a default.
const SAMPLES: [&str; 2] = [
    "
[waits]
[audit]
file = 'FOLDER/audit.log'
[limits.total]
[tls]
certificate-file = 'FOLDER/tls.crt'
key-file = 'FOLDER/tls.key'
[authentication]
methods = ['token', 'jwt', 'access-key']
[[authentication.jwt.issuers]]
issuer = 'https://login.example.com'
audiences = ['proton']
jwks-url = 'https://login.example.com/keys'
[[authentication.tokens]]
id = 'ci'
hash = 'sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08'
[[authentication.access-keys]]
access-key-id = 'AKIDCI'
secret-file = 'FOLDER/secret'
id = 'ci'
",
    "
upstream = 'aws'
[limits.upstream]
[authentication]
methods = ['token']
[[authentication.tokens]]
id = 'ci'
hash = 'sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08'
[upstreams.other]
[[assume-role]]
principal = '*'
role-arn = 'arn:aws:iam::123456789012:role/proton'
",
];

/// What holds without being given, by the path of its key.
fn defaults() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let folder = tempfile::tempdir().unwrap();
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = [
        ("tls.crt", certified.cert.pem()),
        ("tls.key", certified.signing_key.serialize_pem()),
        ("secret", "a secret of sixteen characters".to_owned()),
    ];
    for (name, text) in &files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    for sample in SAMPLES {
        let sample = sample.replace("FOLDER", folder.path().to_str().unwrap());
        let file = folder.path().join("gateway.toml");
        fs::write(&file, &sample).unwrap();
        let config = Config::load(Options::default(), Some(&file)).unwrap();
        let mut given = BTreeMap::new();
        flatten("", &toml::from_str(&sample).unwrap(), &mut given);
        let mut effective = BTreeMap::new();
        flatten("", &toml::Value::try_from(config).unwrap(), &mut effective);
        for (path, value) in effective {
            if !given.contains_key(&path) {
                found.entry(path).or_insert(value);
            }
        }
    }
    found
}

fn flatten(path: &str, value: &toml::Value, found: &mut BTreeMap<String, String>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let path = match path {
                    "" => key.clone(),
                    path => format!("{path}.{key}"),
                };
                flatten(&path, value, found);
            }
        }
        toml::Value::Array(values) if values.iter().any(toml::Value::is_table) => {
            values.iter().for_each(|value| flatten(path, value, found));
        }
        value => {
            found.insert(path.to_owned(), value.to_string());
        }
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "\\<")
}

struct Sections {
    types: BTreeMap<String, Type>,
    defaults: BTreeMap<String, String>,
    undocumented: Vec<String>,
    /// Where each type was told of first.
    told: BTreeMap<String, String>,
    out: String,
}

/// The type inside of `outer<…>`.
fn inner<'a>(kind: &'a str, outer: &str) -> Option<&'a str> {
    kind.strip_prefix(outer)?
        .strip_prefix('<')?
        .strip_suffix('>')
}

impl Sections {
    /// What a value of this type looks like, and whether there are several.
    fn kind(&self, kind: &str) -> String {
        if let Some(kind) = inner(kind, "Option") {
            return self.kind(kind);
        }
        if let Some(kind) = inner(kind, "Vec").or_else(|| inner(kind, "BTreeSet")) {
            return format!("list: {}", self.kind(kind));
        }
        if let Some(kind) = inner(kind, "BTreeMap").and_then(|kind| kind.strip_prefix("String, ")) {
            return format!("table: name = {}", self.kind(kind));
        }
        match kind {
            "bool" => "`true`, `false`".to_owned(),
            "u16" | "u32" | "u64" | "usize" => "number".to_owned(),
            "Span" => "duration".to_owned(),
            "Size" => "size".to_owned(),
            "Rate" => "rate".to_owned(),
            "Percent" => "part".to_owned(),
            "PathBuf" => "path".to_owned(),
            "Address" | "SocketAddr" => "address".to_owned(),
            "SocketMode" => "octal mode".to_owned(),
            "Moment" => "time".to_owned(),
            _ => match self.types.get(kind) {
                Some(found) if !found.values.is_empty() => {
                    let values = found.values.iter().map(|value| format!("`{value}`"));
                    values.collect::<Vec<_>>().join(", ")
                }
                _ => "text".to_owned(),
            },
        }
    }

    /// The section of a field, if it is one: its name in the file, and its type.
    fn section(&self, path: &str, kind: &str) -> Option<(String, String)> {
        let optional = inner(kind, "Option").unwrap_or(kind);
        let (heading, name) = if let Some(name) = inner(optional, "Vec") {
            (format!("[[{path}]]"), name)
        } else if let Some(name) =
            inner(optional, "BTreeMap").and_then(|kind| kind.strip_prefix("String, "))
        {
            (format!("[{path}.NAME]"), name)
        } else {
            (format!("[{path}]"), optional)
        };
        let is_section = self
            .types
            .get(name)
            .is_some_and(|found| !found.fields.is_empty());
        is_section.then(|| (heading, name.to_owned()))
    }

    /// What may be given and what holds may be two types; the docs stand at one of them.
    fn doc(&self, name: &str, field: &Field) -> String {
        let other = name.strip_suffix("Options").unwrap_or(name);
        let others = [other.to_owned(), format!("{other}Config")];
        let mut docs = others
            .iter()
            .filter_map(|other| self.types.get(other))
            .flat_map(|found| &found.fields)
            .filter(|twin| twin.key == field.key)
            .map(|twin| &twin.doc);
        match field.doc.as_str() {
            "" => docs
                .find(|doc| !doc.is_empty())
                .cloned()
                .unwrap_or_default(),
            doc => doc.to_owned(),
        }
    }

    fn write(&mut self, heading: &str, path: &str, name: &str) {
        let Some(found) = self.types.remove(name) else {
            return;
        };
        if found.doc.is_empty() {
            self.undocumented.push(path.to_owned());
        }
        let mut sections = Vec::new();
        let mut rows = String::new();
        for field in &found.fields {
            let below = format!("{path}.{}", field.key);
            let doc = self.doc(name, field);
            if doc.is_empty() {
                self.undocumented.push(below.clone());
            }
            let default = self.defaults.get(&below).map_or_else(String::new, |value| {
                format!("`{}`", value.trim_matches('"'))
            });
            match self.section(&below, &field.kind) {
                Some((heading, name)) => {
                    let told = self.told.get(&name);
                    let _ = writeln!(
                        rows,
                        "| `{}` | {} | | {} |",
                        field.key,
                        match told {
                            Some(first) => format!("as `{first}`"),
                            None => format!("see `{heading}`"),
                        },
                        cell(&doc)
                    );
                    if told.is_none() {
                        self.told.insert(name.clone(), heading.clone());
                        sections.push((heading, below, name));
                    }
                }
                None => {
                    let kind = self.kind(&field.kind);
                    let _ = writeln!(
                        rows,
                        "| `{}` | {kind} | {} | {} |",
                        field.key,
                        cell(&default),
                        cell(&doc)
                    );
                }
            }
        }
        let doc = &found.doc;
        let _ = writeln!(
            self.out,
            "\n### `{heading}`\n\n{doc}\n\n| Key | Value | Default | |\n|---|---|---|---|\n{}",
            rows.trim_end()
        );
        // Put back: it may stand at several places.
        self.types.insert(name.to_owned(), found);
        for (heading, below, name) in sections {
            self.write(&heading, &below, &name);
        }
    }
}

/// The document, and which keys say nothing of themselves.
fn document() -> (String, Vec<String>) {
    let mut out = HEAD.to_owned();
    out.push_str("\n## Flags\n\nWithout the two dashes they are keys of the file, too.\n");
    commands::write_flags(&mut out);
    commands::write(&mut out);
    out.push_str("\n## In the file only\n");

    let types = source::types();
    let given: Vec<_> = types["Options"]
        .fields
        .iter()
        .filter(|field| field.file_only)
        .collect();
    let mut top = Vec::new();
    let mut sections = Sections {
        types: source::types(),
        defaults: defaults(),
        undocumented: Vec::new(),
        told: BTreeMap::new(),
        out,
    };
    for field in given {
        match sections.section(&field.key, &field.kind) {
            Some((heading, name)) => top.push((heading, field.key.clone(), name)),
            None => {
                let kind = sections.kind(&field.kind);
                let _ = writeln!(
                    sections.out,
                    "\n`{}` ({kind}), above all sections: {}.",
                    field.key,
                    field.doc.trim_end_matches('.')
                );
            }
        }
    }
    top.sort();
    for (heading, path, name) in top {
        sections.write(&heading, &path, &name);
    }
    (sections.out, sections.undocumented)
}

#[test]
fn the_document_of_the_configuration_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let (text, _) = document();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let checked_in = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        checked_in == text,
        "docs/configuration.md is stale: run `just docs`"
    );
}

#[test]
fn every_key_of_the_configuration_says_what_it_means() {
    let (_, undocumented) = document();
    assert_eq!(undocumented, [""; 0], "they need a doc comment");
}

#[test]
fn every_key_that_holds_is_in_the_document() {
    let (text, _) = document();
    let defaults = defaults();
    assert!(defaults.len() > 50, "{defaults:?}");
    for path in defaults.keys() {
        let key = path.rsplit('.').next().unwrap();
        let told = text.contains(&format!("| `{key}` |")) || text.contains(&format!("`--{key}`"));
        assert!(told, "{path}");
    }
}

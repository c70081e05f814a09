//! The checks of the model's constraints on every message, but for the responses themselves.

use std::fmt::Write;

use crate::contract::{Contract, Field, Format, Kind, Message, Presence};

pub fn emit(contract: &Contract) -> String {
    let mut out = String::new();
    formats(&mut out, &contract.formats);
    fields(&mut out, contract);
    for message in contract.messages.iter().filter(|m| m.in_requests || !m.top) {
        match &message.union {
            Some(oneof) => union(&mut out, message, oneof),
            None => structure(&mut out, message),
        }
    }
    out
}

fn formats(out: &mut String, formats: &[Format]) {
    let _ = writeln!(out, "static FORMATS: [Format; {}] = [", formats.len());
    for f in formats {
        let _ = writeln!(
            out,
            "    Format {{ name: {:?}, min_length: {}, max_length: {:?}, pattern: {:?}, regex: {:?}, minimum: {:?}, maximum: {:?}, compiled: std::sync::OnceLock::new() }},",
            f.name,
            f.min_length,
            f.max_length,
            f.pattern,
            ascii_classes(&f.pattern),
            f.minimum,
            f.maximum
        );
    }
    out.push_str("];\n\n");
}

/// The names of all fields of requests that are spelled otherwise on AWS's wire.
fn fields(out: &mut String, contract: &Contract) {
    let messages = contract.messages.iter().filter(|m| m.in_requests);
    let mut names: Vec<_> = messages
        .flat_map(|message| &message.fields)
        .filter(|field| field.name != field.wire && field.name.contains('_'))
        .map(|field| field.plain())
        .collect();
    names.sort_unstable();
    names.dedup();
    let _ = writeln!(
        out,
        "/// Sorted.\npub static FIELDS: &[&str] = &{names:?};\n"
    );
}

/// The model's patterns follow ECMA 262, where `\d` and `\w` are ASCII; the regex crate's are not.
fn ascii_classes(pattern: &str) -> String {
    let mut out = String::new();
    let mut in_class = false;
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match (characters.next(), in_class) {
                (Some('d'), false) => out.push_str("[0-9]"),
                (Some('d'), true) => out.push_str("0-9"),
                (Some('w'), false) => out.push_str("[0-9A-Za-z_]"),
                (Some('w'), true) => out.push_str("0-9A-Za-z_"),
                (Some(other), _) => out.extend(['\\', other]),
                (None, _) => out.push('\\'),
            },
            _ => {
                in_class = match character {
                    '[' => true,
                    ']' => false,
                    _ => in_class,
                };
                out.push(character);
            }
        }
    }
    out
}

fn rule(field: &Field) -> String {
    format!(
        "Rule {{ name: {:?}, required: {}, format: &FORMATS[{}], min_items: {}, max_items: {}, sensitive: {} }}",
        field.plain(),
        field.required,
        field.format,
        field.min_items,
        field.max_items,
        field.sensitive
    )
}

fn check(field: &Field) -> String {
    let rule = rule(field);
    let name = &field.name;
    let verb = match (&field.kind, field.presence) {
        (Kind::String, Presence::Implicit) => "text",
        (Kind::String, Presence::List) => "texts",
        (Kind::String, _) => "optional_text",
        (Kind::Number, _) => "number",
        (Kind::Enum(kind), Presence::List) => {
            return format!("check.choices::<pb::{kind}>(&{rule}, &self.{name});");
        }
        (Kind::Enum(kind), _) => {
            return format!("check.choice::<pb::{kind}>(&{rule}, self.{name});");
        }
        (Kind::Message(_), Presence::List) => "messages",
        (Kind::Message(_), _) => "message",
        (Kind::Bool | Kind::Timestamp, _) => "present",
    };
    format!("check.{verb}(&{rule}, &self.{name});")
}

fn structure(out: &mut String, message: &Message) {
    let unused = if message.fields.is_empty() { "_" } else { "" };
    let _ = writeln!(
        out,
        "impl Rules for pb::{} {{\n    fn check(&self, {unused}check: &mut Check) {{",
        message.name
    );
    for field in &message.fields {
        let _ = writeln!(out, "        {}", check(field));
    }
    out.push_str("    }\n}\n\n");
}

fn union(out: &mut String, message: &Message, oneof: &str) {
    let path = message.union_type(oneof);
    let _ = writeln!(
        out,
        "impl Rules for pb::{} {{\n    fn check(&self, check: &mut Check) {{\n        match &self.{oneof} {{",
        message.name
    );
    for field in &message.fields {
        let _ = writeln!(
            out,
            "            Some({path}::{}(member)) => check.member({:?}, member),",
            field.variant(),
            field.plain()
        );
    }
    let members: Vec<_> = message
        .fields
        .iter()
        .map(|field| field.plain().to_owned())
        .collect();
    let _ = writeln!(
        out,
        "            None => check.no_member(&{:?}),\n        }}\n    }}\n}}\n",
        members
    );
}

#[cfg(test)]
mod tests {
    use super::ascii_classes;

    #[test]
    fn classes_of_the_model_become_ascii_inside_and_outside_of_brackets() {
        assert_eq!(
            ascii_classes(r"^\d{12}[\w+=]\.\w$"),
            r"^[0-9]{12}[0-9A-Za-z_+=]\.[0-9A-Za-z_]$"
        );
    }
}

//! The AWS JSON codec: both ways for every message, and `Debug` by way of it.

use std::fmt::Write;

use crate::contract::{Contract, Enum, Field, Kind, Message, Presence};

pub fn emit(contract: &Contract) -> String {
    let mut out = String::new();
    for item in &contract.enums {
        names(&mut out, item);
    }
    for message in &contract.messages {
        match &message.union {
            Some(oneof) => union(&mut out, message, oneof),
            None if message.presence_list => presence_list(&mut out, message),
            None => structure(&mut out, message),
        }
        let _ = writeln!(
            out,
            "impl std::fmt::Debug for pb::{} {{\n    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {{ redacted(self, f) }}\n}}\n",
            message.name
        );
    }
    for name in &contract.opaque {
        let _ = writeln!(
            out,
            "impl std::fmt::Debug for pb::{name} {{\n    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {{ f.debug_struct({name:?}).finish_non_exhaustive() }}\n}}\n"
        );
    }
    out
}

/// The names of an enum's values on AWS's wire.
fn names(out: &mut String, item: &Enum) {
    let values: Vec<_> = item
        .values
        .iter()
        .map(|(number, name)| format!("({number}, {name:?})"))
        .collect();
    let _ = writeln!(
        out,
        "impl Names for pb::{} {{\n    const NAMES: &'static [(i32, &'static str)] = &[{}];\n}}\n",
        item.name,
        values.join(", ")
    );
}

fn structure(out: &mut String, message: &Message) {
    let name = &message.name;
    let unused = if message.fields.is_empty() { "_" } else { "" };
    let _ = writeln!(
        out,
        "impl ToJson for pb::{name} {{\n    fn to_json(&self, {unused}view: View) -> Value {{\n        #[allow(unused_mut)]\n        let mut object = Object::new();"
    );
    for field in &message.fields {
        let Field { name, wire, .. } = field;
        let hide = if field.unlogged {
            "view.hiding()"
        } else {
            "view"
        };
        let _ = match &field.kind {
            Kind::Enum(kind) => writeln!(
                out,
                "        object.put({wire:?}, &Named::<pb::{kind}, _>::of(&self.{name}), {hide});"
            ),
            _ => writeln!(out, "        object.put({wire:?}, &self.{name}, {hide});"),
        };
    }
    let _ = writeln!(out, "        object.finish()\n    }}\n}}\n");

    let value = if message.fields.is_empty() {
        "_fields"
    } else {
        "mut fields"
    };
    let _ = writeln!(
        out,
        "impl FromJson for pb::{name} {{\n    fn from_json(value: Value, at: &At<'_>) -> Result<Self> {{\n        let {value} = Fields::of(value, at)?;\n        Ok(Self {{"
    );
    for field in &message.fields {
        let Field { name, wire, .. } = field;
        let _ = match &field.kind {
            Kind::Enum(kind) => writeln!(
                out,
                "            {name}: Named::<pb::{kind}, _>::into_inner(fields.take({wire:?})?),"
            ),
            _ if field.required && field.presence == Presence::List => {
                writeln!(out, "            {name}: fields.require({wire:?})?,")
            }
            // gRPC cannot tell an empty list from an absent one.
            _ if field.min_items > 0 && field.presence == Presence::List => {
                let least = field.min_items;
                writeln!(
                    out,
                    "            {name}: fields.take_list({wire:?}, {least})?,"
                )
            }
            _ => writeln!(out, "            {name}: fields.take({wire:?})?,"),
        };
    }
    out.push_str("        })\n    }\n}\n\n");
}

/// A message that is the bare list on the wire.
fn presence_list(out: &mut String, message: &Message) {
    let name = &message.name;
    for field in &message.fields {
        let Kind::Enum(kind) = &field.kind else {
            continue;
        };
        let _ = writeln!(
            out,
            "impl ToJson for pb::{name} {{\n    fn to_json(&self, view: View) -> Value {{ list_json::<pb::{kind}>(&self.{0}, view) }}\n}}\n\n\
             impl FromJson for pb::{name} {{\n    fn from_json(value: Value, at: &At<'_>) -> Result<Self> {{ Ok(Self {{ {0}: list_from_json::<pb::{kind}>(value, at)? }}) }}\n}}\n",
            field.name
        );
    }
}

fn union(out: &mut String, message: &Message, oneof: &str) {
    let name = &message.name;
    let path = message.union_type(oneof);
    let _ = writeln!(
        out,
        "impl ToJson for pb::{name} {{\n    fn to_json(&self, view: View) -> Value {{\n        let mut object = Object::new();\n        match &self.{oneof} {{"
    );
    for field in &message.fields {
        let _ = writeln!(
            out,
            "            Some({path}::{}(member)) => object.member({:?}, member, view),",
            field.variant(),
            field.wire
        );
    }
    let _ = writeln!(
        out,
        "            None => {{}}\n        }}\n        object.finish()\n    }}\n}}\n"
    );
    let _ = writeln!(
        out,
        "impl FromJson for pb::{name} {{\n    fn from_json(value: Value, at: &At<'_>) -> Result<Self> {{\n        let mut fields = Fields::of_union(value, at)?;"
    );
    for field in &message.fields {
        let _ = writeln!(
            out,
            "        if let Some(member) = fields.take({:?})? {{ return Ok(Self {{ {oneof}: Some({path}::{}(member)) }}); }}",
            field.wire,
            field.variant()
        );
    }
    let _ = writeln!(out, "        fields.no_member()\n    }}\n}}\n");
    let _ = writeln!(
        out,
        "impl std::fmt::Debug for {path} {{\n    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {{\n        match self {{"
    );
    for field in &message.fields {
        let _ = writeln!(
            out,
            "            Self::{}(member) => redacted(member, f),",
            field.variant()
        );
    }
    out.push_str("        }\n    }\n}\n\n");
}

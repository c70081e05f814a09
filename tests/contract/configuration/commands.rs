//! What the command line says of its commands and flags: whatever `--help` lists is found here by itself.

use std::collections::BTreeMap;
use std::fmt::Write;

use clap::{Arg, Args, Command, CommandFactory};
use proton_gateway::command_line::Arguments;
use proton_gateway::config::Options;

use super::cell;

const HEAD: &str = "\n| Flag | Environment variable | Value | Default | |\n|---|---|---|---|---|\n";
/// Where flags stand that several commands have.
const SHARED: &str = "Flags of several commands";

/// The flags that are keys of the file as well.
pub fn write_flags(out: &mut String) {
    let serving = Options::augment_args(Command::new("serve"));
    out.push_str(HEAD);
    for argument in serving.get_arguments() {
        assert!(
            argument.get_env().is_some(),
            "{} has no environment variable",
            called(argument)
        );
        out.push_str(&row(argument));
    }
}

/// All commands, each with what it is given.
pub fn write(out: &mut String) {
    let root = Arguments::command();
    let mut commands = Vec::new();
    for command in root.get_subcommands() {
        collect("", command, &mut commands);
    }
    let mut count = BTreeMap::<_, usize>::new();
    for row in commands.iter().flat_map(|(_, command)| rows(command)) {
        *count.entry(row).or_default() += 1;
    }
    let several = |row: &String| count[row] > 1;
    out.push_str(
        "\n## Commands\n\nWithout a command it serves. The flags above may be given to any of them, and `--config` too.\n",
    );
    let _ = write!(out, "\n### {SHARED}\n{HEAD}");
    let mut told = Vec::new();
    for (_, command) in &commands {
        for row in rows(command).into_iter().filter(several) {
            if !told.contains(&row) {
                out.push_str(&row);
                told.push(row);
            }
        }
    }
    for (name, command) in &commands {
        let heading = if name.contains(' ') { "####" } else { "###" };
        let about = command.get_about().map(ToString::to_string);
        let about = about.unwrap_or_default();
        assert!(!about.is_empty(), "{name} says nothing");
        let _ = writeln!(out, "\n{heading} `{}`\n\n{about}.", usage(name, command));
        let shared: Vec<_> = command
            .get_arguments()
            .filter(|argument| several(&row(argument)))
            .map(|argument| format!("`{}`", called(argument)))
            .collect();
        if !shared.is_empty() {
            let link = SHARED.to_lowercase().replace(' ', "-");
            let _ = writeln!(out, "Takes {} ([as above](#{link})).", shared.join(", "));
        }
        let own: Vec<_> = rows(command)
            .into_iter()
            .filter(|row| !several(row))
            .collect();
        if !own.is_empty() {
            let _ = write!(out, "{HEAD}{}", own.concat());
        }
    }
}

/// A command with its whole name, and those below it.
fn collect<'a>(above: &str, command: &'a Command, found: &mut Vec<(String, &'a Command)>) {
    let name = format!("{above}{}", command.get_name());
    found.push((name.clone(), command));
    for below in command.get_subcommands() {
        collect(&format!("{name} "), below, found);
    }
}

/// How a command is written, with what has to stand behind it.
fn usage(name: &str, command: &Command) -> String {
    let mut usage = name.to_owned();
    for argument in command.get_arguments().filter(|it| it.is_required_set()) {
        let _ = match argument.is_positional() {
            true => write!(usage, " {}", called(argument)),
            false => write!(
                usage,
                " {} {}",
                called(argument),
                value(argument).to_uppercase()
            ),
        };
    }
    if command.has_subcommands() {
        usage.push_str(" …");
    }
    usage
}

/// What is said of each argument that has to be explained.
fn rows(command: &Command) -> Vec<String> {
    let explained = |it: &&Arg| !it.is_positional() || it.get_help().is_some();
    command.get_arguments().filter(explained).map(row).collect()
}

fn row(argument: &Arg) -> String {
    let help = argument.get_help().map(ToString::to_string);
    let help = help.unwrap_or_default().replace('\n', " ");
    let (text, default) = match help.split_once(" [default: ") {
        // Where there is more to say of it, it stays in the text.
        Some((text, rest)) if rest.find(']') == Some(rest.len() - 1) => {
            (text.to_owned(), rest.trim_end_matches(']').to_owned())
        }
        _ => (help, default_value(argument)),
    };
    assert!(
        !text.is_empty() || argument.is_positional(),
        "{} says nothing",
        called(argument)
    );
    let variable = argument
        .get_env()
        .map_or_else(String::new, |name| format!("`{}`", name.to_string_lossy()));
    format!(
        "| `{}` | {variable} | {} | {} | {} |\n",
        called(argument),
        cell(&value(argument)),
        cell(&default),
        cell(&text)
    )
}

/// `--force`, `--quiet, -q`, or the name of what has a place instead.
fn called(argument: &Arg) -> String {
    match (argument.get_long(), argument.get_short()) {
        (Some(long), Some(short)) => format!("--{long}, -{short}"),
        (Some(long), None) => format!("--{long}"),
        (None, Some(short)) => format!("-{short}"),
        (None, None) => value(argument).to_uppercase(),
    }
}

fn default_value(argument: &Arg) -> String {
    if argument.is_hide_default_value_set() {
        return String::new();
    }
    let values = argument.get_default_values().iter();
    let values: Vec<_> = values.map(|value| value.to_string_lossy()).collect();
    values.join(", ")
}

/// What may stand behind a flag.
fn value(argument: &Arg) -> String {
    if !argument.get_action().takes_values() {
        return String::new();
    }
    let possible: Vec<_> = argument
        .get_possible_values()
        .iter()
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    if !possible.is_empty() {
        return possible.join(", ");
    }
    let names = argument.get_value_names().unwrap_or_default();
    names
        .iter()
        .map(|name| name.to_lowercase())
        .collect::<Vec<_>>()
        .join(" ")
}

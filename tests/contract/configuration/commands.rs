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
    let shared = shared(&commands);
    out.push_str(
        "\n## Commands\n\nWithout a command it serves. The flags above stand before the command; `--config` may stand behind it, too. Commands\nthat ask a running gateway read no file.\n",
    );
    let _ = write!(out, "\n### {SHARED}\n{HEAD}{}", shared.concat());
    for (name, command) in &commands {
        let about = about(name, command);
        let is_shared = |row: &String| shared.contains(row);
        let (taken, own): (Vec<_>, Vec<_>) = rows(command).into_iter().partition(is_shared);
        if !name.contains(' ') {
            let _ = writeln!(out, "\n### `{}`\n\n{about}.", usage(name, command));
        } else if !(taken.is_empty() && own.is_empty()) {
            let _ = writeln!(out, "\n#### `{}`", usage(name, command));
        }
        if !taken.is_empty() {
            let flags = command.get_arguments().filter(|it| is_shared(&row(it)));
            let flags: Vec<_> = flags.map(|it| format!("`{}`", called(it))).collect();
            let link = SHARED.to_lowercase().replace(' ', "-");
            let _ = writeln!(out, "\nTakes {} ([as above](#{link})).", flags.join(", "));
        }
        if !own.is_empty() {
            let _ = write!(out, "{HEAD}{}", own.concat());
        }
        if command.has_subcommands() {
            out.push_str("\n| Command | |\n|---|---|\n");
            for below in command.get_subcommands() {
                let name = format!("{name} {}", below.get_name());
                let (usage, about) = (usage(&name, below), self::about(&name, below));
                let _ = writeln!(out, "| `{usage}` | {} |", cell(&about));
            }
        }
    }
}

/// What is said of flags that more than two commands have.
fn shared(commands: &[(String, &Command)]) -> Vec<String> {
    let mut count = BTreeMap::<_, usize>::new();
    let mut shared = Vec::new();
    for (_, command) in commands {
        for row in rows(command) {
            let count = count.entry(row.clone()).or_default();
            *count += 1;
            if *count == 3 {
                shared.push(row);
            }
        }
    }
    shared
}

fn about(name: &str, command: &Command) -> String {
    let about = command.get_about().map(ToString::to_string);
    about.unwrap_or_else(|| panic!("{name} says nothing"))
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

//! docs/backup-and-move.md: its commands do what it says.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::{answers, done, populated, saved, shown};

/// The commands of all console blocks, in their order. A block with `aws` needs that program.
fn commands(text: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let mut inside = false;
    for line in text.lines().map(str::trim_start) {
        match line {
            "```console" => inside = true,
            "```" => inside = false,
            line if inside => match line.strip_prefix("$ ") {
                Some(command) => commands.push(command.to_owned()),
                // A command that goes on.
                None => match commands.last_mut() {
                    Some(command) if command.ends_with('\\') => {
                        command.push('\n');
                        command.push_str(line);
                    }
                    _ => {}
                },
            },
            _ => {}
        }
    }
    commands
}

#[tokio::test]
async fn every_command_of_the_document_can_be_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/backup-and-move.md")).unwrap();
    let mut commands = commands(&text);
    assert!(commands.len() > 10, "{commands:?}");
    let has_aws = Command::new("aws")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !has_aws {
        commands.retain(|command| !command.starts_with("aws "));
        eprintln!("skipped: the commands of the AWS CLI, which is not installed");
    }
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let world = populated::world().await;
    let backup = here.join("world.db");
    done(world.state(), &["backup", shown(&backup)]);
    done(&here.join("proton-data"), &["restore", shown(&backup)]);
    fs::remove_file(&backup).unwrap();
    saved::save(&here.join("saved"), &answers::all(&world.engine).await);
    fs::create_dir(here.join("bundles")).unwrap();

    let program = Path::new(env!("CARGO_BIN_EXE_proton-gateway"))
        .parent()
        .unwrap();
    // Ports that are free, whatever the document's are.
    let door = "http://$(sed 's/.*\"aws\":\"\\([^\"]*\\)\".*/\\1/' ready.json)";
    let script = commands.join("\n").replace("http://127.0.0.1:8787", door);
    let script =
        format!("set -euo pipefail\ntrap 'jobs -p | xargs -r kill; wait' EXIT\n{script}\n");
    fs::write(here.join("script"), &script).unwrap();
    let path = format!("{}:{}", shown(program), std::env::var("PATH").unwrap());
    let output = Command::new("bash")
        .arg("script")
        .current_dir(here)
        .env("PATH", path)
        .env("PROTON_GATEWAY_LISTEN", "127.0.0.1:0")
        .env("PROTON_GATEWAY_AWS_LISTEN", "127.0.0.1:0")
        .env("PROTON_GATEWAY_ADMIN_LISTEN", "127.0.0.1:0")
        .env("AWS_ACCESS_KEY_ID", "any")
        .env("AWS_SECRET_ACCESS_KEY", "any")
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_PAGER", "")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{script}\n{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    // What it says is printed is printed.
    let printed = String::from_utf8_lossy(&output.stdout);
    println!("{printed}");
    for text in ["checked", "holds what is in", "what was not saved"] {
        assert!(printed.contains(text), "{printed}");
    }
}

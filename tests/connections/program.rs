//! The program and its command line, over TLS and Unix sockets.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use proton_gateway::config::tls::{ClientCertificates, TlsVersion};

use super::PATIENCE;
use super::certificates::{Authority, Folder};

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_proton-gateway"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PROTON_GATEWAY_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// A gateway that serves. It dies with this value.
struct Running {
    child: Child,
    ready: serde_json::Value,
}

impl Running {
    /// Serves with this configuration, from `folder`.
    fn with(folder: &Path, config: &str) -> Self {
        let (file, ready) = (folder.join("config.toml"), folder.join("ready.json"));
        std::fs::write(&file, config).unwrap();
        let log = std::fs::File::create(folder.join("log")).unwrap();
        let mut child = program()
            .args(["--config".as_ref(), file.as_os_str()])
            .args(["--ready-file".as_ref(), ready.as_os_str()])
            .args(["--state-dir".as_ref(), folder.join("state").as_os_str()])
            .args(["--admin-listen", "127.0.0.1:0"])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let deadline = Instant::now() + 2 * PATIENCE;
        while !ready.exists() {
            let log = || std::fs::read_to_string(folder.join("log")).unwrap();
            assert!(child.try_wait().unwrap().is_none(), "{}", log());
            assert!(Instant::now() < deadline, "{}", log());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let ready = serde_json::from_slice(&std::fs::read(ready).unwrap()).unwrap();
        Self { child, ready }
    }

    fn grpc(&self) -> &str {
        self.ready["grpc"].as_str().unwrap()
    }

    fn admin(&self) -> &str {
        self.ready["admin"].as_str().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail where it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What the command line says of a wait for what does not exist.
fn wait(address: &str, arguments: &[(&str, &Path)]) -> String {
    let mut command = program();
    command.args(["wait", "environment-deployed", "no-such", "--timeout", "3s"]);
    command.args(["--address", address]);
    for (name, path) in arguments {
        command.arg(name).arg(path);
    }
    said(command.output().unwrap())
}

fn said(output: Output) -> String {
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    format!("{out}{err}")
}

#[test]
fn the_command_line_reaches_a_unix_socket_that_the_ready_file_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("grpc.sock");
    let config = format!(
        "listen = \"unix:{}\"\naws-listen = \"unix:{}\"\n",
        path.display(),
        folder.path().join("aws.sock").display()
    );
    let running = Running::with(folder.path(), &config);
    assert_eq!(running.grpc(), format!("unix:{}", path.display()));
    // Lines are written a moment after they were logged.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
        if log.contains("grpc.sock") && log.contains("aws.sock") {
            break;
        }
        assert!(Instant::now() < deadline, "{log}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let said = wait(running.grpc(), &[]);
    assert!(said.contains("NotFound"), "{said}");
}

#[test]
fn the_command_line_proves_who_it_is_over_tls() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let files = Folder::new(&servers.issue("localhost"), &clients);
    let own = clients.issue("builder");
    files.put("client.pem", &own.pem);
    files.put("client-key.pem", &own.key.serialize_pem());
    files.put("servers.pem", &servers.pem);
    let section = files.section(ClientCertificates::Required, TlsVersion::V1_3);
    let config = format!(
        "listen = \"127.0.0.1:0\"\naws-listen = \"127.0.0.1:0\"\n[tls]\n{}",
        toml::to_string(&section).unwrap()
    );
    let folder = tempfile::tempdir().unwrap();
    let running = Running::with(folder.path(), &config);
    let address = running.grpc().replace("127.0.0.1", "https://localhost");
    let (ca, cert, key) = (
        files.path("servers.pem"),
        files.path("client.pem"),
        files.path("client-key.pem"),
    );
    let mut arguments = vec![("--ca-file", &*ca), ("--cert", &*cert), ("--key", &*key)];
    let said = wait(&address, &arguments);
    assert!(said.contains("NotFound"), "{said}");
    arguments.truncate(1);
    let said = wait(&address, &arguments);
    assert!(!said.contains("NotFound"), "{said}");
}

/// What the program answers to the question whether a gateway serves.
fn health(before: &[&str], after: &[&str]) -> (Option<i32>, String) {
    let mut command = program();
    command.args(before).arg("health").args(after);
    let output = command.output().unwrap();
    (output.status.code(), said(output))
}

#[test]
fn health_asks_a_door_that_is_a_unix_socket_or_the_admin_page() {
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "listen = \"unix:{}\"\naws-listen = \"off\"\n",
        folder.path().join("grpc.sock").display()
    );
    let running = Running::with(folder.path(), &config);
    let good = (Some(0), String::new());
    assert_eq!(health(&[], &["--address", running.grpc()]), good);
    let admin = ["--admin-listen", running.admin()];
    assert_eq!(health(&admin, &[]), good);
    assert_eq!(health(&admin, &["--live"]), good);
}

#[test]
fn health_needs_no_certificate_where_the_doors_ask_for_one() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let files = Folder::new(&servers.issue("localhost"), &clients);
    files.put("servers.pem", &servers.pem);
    let section = files.section(ClientCertificates::Required, TlsVersion::V1_3);
    let config = format!(
        "listen = \"127.0.0.1:0\"\naws-listen = \"off\"\n[tls]\n{}",
        toml::to_string(&section).unwrap()
    );
    let folder = tempfile::tempdir().unwrap();
    let running = Running::with(folder.path(), &config);
    let (code, said) = health(&["--admin-listen", running.admin()], &[]);
    assert_eq!(code, Some(0), "{said}");
    let address = running.grpc().replace("127.0.0.1", "https://localhost");
    let ca = files.path("servers.pem");
    let (code, said) = health(
        &[],
        &["--address", &address, "--ca-file", ca.to_str().unwrap()],
    );
    assert_eq!(code, Some(1), "{said}");
}

#[test]
fn health_of_no_gateway_is_bad_and_says_whom_it_asked() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, said) = health(&["--admin-listen", &address], &["--timeout", "100ms"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("no answer within 100ms"), "{said}");
    drop(taken);
    let (code, said) = health(&["--admin-listen", &address], &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains(&address), "{said}");
    let (code, said) = health(&["--admin-listen", "127.0.0.1:0"], &[]);
    assert_eq!(code, Some(64), "{said}");
}

#[test]
fn check_config_names_the_key_of_a_bad_file() {
    let authority = Authority::new("servers");
    let files = Folder::new(&authority.issue("localhost"), &authority);
    let other = authority.issue("localhost");
    files.put("key.pem", &other.key.serialize_pem());
    let section = files.section(ClientCertificates::Required, TlsVersion::V1_2);
    let config = format!("[tls]\n{}", toml::to_string(&section).unwrap());
    let path = files.path("config.toml");
    std::fs::write(&path, config).unwrap();
    let output = program()
        .args([
            "check-config".as_ref(),
            "--config".as_ref(),
            path.as_os_str(),
        ])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let refusal = said(output);
    assert!(refusal.contains("tls.key-file: "), "{refusal}");
    files.put("cert.pem", &other.pem);
    let output = program()
        .args([
            "check-config".as_ref(),
            "--config".as_ref(),
            path.as_os_str(),
        ])
        .output()
        .unwrap();
    assert!(output.status.success());
    // What it prints is a configuration.
    std::fs::write(&path, &output.stdout).unwrap();
    let again = program()
        .args([
            "check-config".as_ref(),
            "--config".as_ref(),
            path.as_os_str(),
        ])
        .output()
        .unwrap();
    assert!(again.status.success(), "{}", said(again));
    assert_eq!(again.stdout, output.stdout);
}

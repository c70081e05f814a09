//! Flags, environment and file, from `check-config` to what holds.

use proton_gateway::command_line::Arguments;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn with_port_0_the_ready_file_says_where_it_listens() {
    let (_folder, state) = state();
    let running = Running::on(&state).await;
    for door in ["grpc", "aws", "admin"] {
        let address: std::net::SocketAddr = running.address(door).parse().unwrap();
        assert_ne!(address.port(), 0);
        std::net::TcpStream::connect(address).unwrap();
    }
}

#[test]
fn a_port_that_is_taken_is_named() {
    let (_folder, state) = state();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = program();
    command.args(["--listen", &address, "--aws-listen", "off"]);
    command.args(["--admin-listen", "127.0.0.1:0"]);
    command.arg("--state-dir").arg(&state);
    let said = refused(command);
    assert!(
        said.contains(&format!("cannot listen on {address}")),
        "{said}"
    );
}

#[test]
fn a_gateway_that_a_variable_would_have_ask_itself_is_refused() {
    let (_folder, state) = state();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    for name in ["AWS_ENDPOINT_URL_PROTON", "AWS_ENDPOINT_URL"] {
        let mut command = program();
        command.args(["--listen", "127.0.0.1:0", "--aws-listen", &address]);
        command.args(["--admin-listen", "127.0.0.1:0", "--upstream", "aws"]);
        command.args(["--region", "us-east-1"]);
        command.arg("--state-dir").arg(&state);
        command.env_remove("AWS_ENDPOINT_URL_PROTON");
        command.env(name, format!("http://{address}"));
        let said = refused(command);
        assert!(said.contains("this gateway's own AWS door"), "{said}");
        assert!(said.contains(name), "{said}");
    }
}

#[test]
fn check_config_prints_toml_that_is_a_configuration_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = program();
    // The flag's value is optional, and the command is none.
    command.args(["--simulated-step", "250ms", "--insecure", "check-config"]);
    let output = run(command);
    assert!(output.status.success(), "{}", text(&output));
    let printed = String::from_utf8(output.stdout).unwrap();
    let table: toml::Table = printed.parse().unwrap();
    assert_eq!(table["simulated-step"].as_str(), Some("250ms"));

    let file = folder.path().join("gateway.toml");
    fs::write(&file, &printed).unwrap();
    let mut command = program();
    command.arg("--config").arg(&file).arg("check-config");
    let again = run(command);
    assert_eq!(String::from_utf8(again.stdout).unwrap(), printed);
}

#[test]
fn what_is_wrong_in_flags_environment_and_file_is_named() {
    let flags = |flags: &[&str]| {
        let mut command = program();
        command.args(flags).arg("check-config");
        refused(command)
    };
    let said = flags(&["--lisen", "127.0.0.1:1"]);
    assert!(
        said.contains("--lisen") && said.contains("--listen"),
        "{said}"
    );
    let said = flags(&["--simulated-step", "soon"]);
    assert!(said.contains("soon") && said.contains("250ms"), "{said}");
    let said = flags(&["--listen", "0.0.0.0:0"]);
    assert!(said.contains("--insecure"), "{said}");
    let said = flags(&["--log", "inof"]);
    assert!(said.contains("inof"), "{said}");

    let mut command = program();
    command.env("PROTON_GATEWAY_ACCOUNT_ID", "12");
    command.arg("check-config");
    let said = refused(command);
    assert!(said.contains("account-id"), "{said}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    for (content, named) in [
        ("lisen = \"127.0.0.1:1\"", "lisen"),
        ("simulated-step = 3", "simulated-step"),
        ("listen = ", "line 1"),
    ] {
        fs::write(&file, content).unwrap();
        let said = flags(&["--config", file.to_str().unwrap()]);
        assert!(said.contains(named), "{content}: {said}");
        assert!(said.contains("gateway.toml"), "{content}: {said}");
    }
    fs::remove_file(&file).unwrap();
    let said = flags(&["--config", file.to_str().unwrap()]);
    assert!(said.contains("gateway.toml"), "{said}");
}

/// All variables that the program reads.
fn variables(command: &clap::Command) -> Vec<String> {
    let own = command.get_arguments().filter_map(clap::Arg::get_env);
    let own = own.map(|name| name.to_str().unwrap().to_owned());
    let below = command.get_subcommands().flat_map(variables);
    own.chain(below).collect()
}

#[test]
fn a_variable_that_is_empty_is_not_set() {
    let names = variables(&<Arguments as clap::CommandFactory>::command());
    assert!(names.contains(&"PROTON_GATEWAY_INSECURE".to_owned()));
    assert!(names.contains(&"PROTON_GATEWAY_TOKEN_FILE".to_owned()));
    let empty = |arguments: &[&str]| {
        let mut command = program();
        command.args(arguments);
        command.envs(names.iter().map(|name| (name, "")));
        run(command)
    };
    let mut plain = program();
    plain.arg("check-config");
    assert_eq!(text(&empty(&["check-config"])), text(&run(plain)));
    // The variables of the commands, which come to the usage first.
    let status = empty(&["status", "--address", "http://127.0.0.1:9"]);
    assert_eq!(status.status.code(), Some(1), "{}", text(&status));
    // What is given is given.
    let said = text(&empty(&["--profile", "", "check-config"]));
    assert!(said.contains("profile"), "{said}");
}

#[test]
fn check_config_reads_the_files_of_keys_as_serving_does() {
    let folder = tempfile::tempdir().unwrap();
    let (config, key) = (
        folder.path().join("gateway.toml"),
        folder.path().join("key"),
    );
    for (content, named) in [
        (
            format!("[idempotency]\nsecret-file = {key:?}\n"),
            "idempotency.secret-file",
        ),
        (format!("resume-token-key-file = {key:?}\n"), "key"),
    ] {
        fs::write(&config, &content).unwrap();
        let checked = || {
            let mut command = program();
            command.arg("--config").arg(&config).arg("check-config");
            command
        };
        let served = |more: &str| {
            let mut command = serve(&folder.path().join("state"));
            command.arg("--config").arg(&config);
            let (checked, served) = (refused(checked()), refused(command));
            for said in [checked, served] {
                assert!(said.contains(named) && said.contains(more), "{said}");
                assert!(said.contains(key.to_str().unwrap()), "{said}");
            }
        };
        served("cannot read");
        fs::write(&key, "short").unwrap();
        served("bytes");
        fs::write(&key, [7; 32]).unwrap();
        let output = run(checked());
        assert!(output.status.success(), "{}", text(&output));
        fs::remove_file(&key).unwrap();
    }
}

#[tokio::test]
async fn a_file_limits_callers_and_puts_down_what_they_change() {
    let (folder, state) = state();
    let audit = folder.path().join("audit.log");
    let config = folder.path().join("gateway.toml");
    let text = format!(
        "[limits]\nwrite = {{ rate = \"1/h\", burst = 1 }}\n[audit]\nfile = {audit:?}\nblocking = true\n"
    );
    fs::write(&config, text).unwrap();
    let mut command = serve(&state);
    command.arg("--config").arg(&config);
    let mut running = Running::started(command).await;
    let mut client = running.client().await;
    let mut create = async |name: &str| {
        let request = pb::CreateEnvironmentTemplateRequest {
            name: name.to_owned(),
            ..pb::CreateEnvironmentTemplateRequest::default()
        };
        client.create_environment_template(request).await.map(drop)
    };
    create("first").await.unwrap();
    let refused = create("second").await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    running.terminate();
    running.ended().await;
    let text = fs::read_to_string(&audit).unwrap();
    let told: Vec<_> = text
        .lines()
        .map(|line| {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            let word = |key: &str| record[key].as_str().unwrap_or("-").to_owned();
            ["event", "phase", "outcome"].map(word).join(" ")
        })
        .collect();
    assert_eq!(
        told,
        [
            "started - -",
            "- begun -",
            "- ended OK",
            "- begun -",
            "- ended THROTTLED_BY_GATEWAY",
            "stopped - -",
        ]
    );
}

//! Planted secrets: what callers show and what the contract marks as sensitive is found nowhere
//! that the program writes, at its most talkative.

use super::*;

/// What must not be found.
const PLANTED: [&str; 4] = [
    "planted-in-a-spec",
    "planted-in-a-description",
    "planted-in-a-client-token",
    "planted-secret-of-an-access-key",
];

/// Two tokens, one that is known and one that is not.
fn tokens() -> [String; 2] {
    ["right", "wrong"].map(|name| format!("pgw_planted{}", name.repeat(8)))
}

fn hash(token: &str) -> String {
    let mut command = program();
    command.args(["token", "hash"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(token.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A page of the admin listener.
fn page(gateway: &Running, path: &str) -> String {
    use std::io::Read;
    let mut stream = std::net::TcpStream::connect(gateway.address("admin")).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    page
}

#[tokio::test]
async fn no_secret_is_in_logs_metrics_the_audit_errors_or_the_printed_configuration() {
    let (folder, state) = state();
    let [right, wrong] = tokens();
    let secret = folder.path().join("secret");
    fs::write(&secret, PLANTED[3]).unwrap();
    let audit = folder.path().join("audit.log");
    let config = folder.path().join("gateway.toml");
    let text = format!(
        "[authentication]\nmethods = [\"token\", \"access-key\"]\n\
         [[authentication.tokens]]\nid = \"ci\"\nhash = \"{}\"\nroles = [\"administrator\"]\n\
         [[authentication.access-keys]]\nid = \"old\"\naccess-key-id = \"AKIDOLD\"\nsecret-file = {secret:?}\n\
         [audit]\nfile = {audit:?}\n",
        hash(&right)
    );
    fs::write(&config, text).unwrap();
    let mut command = serve(&state);
    command
        .args(["--log", "trace"])
        .arg("--config")
        .arg(&config);
    let mut gateway = Running::started(command).await;
    let mut client = gateway.client().await;
    let mut told = Vec::new();
    for token in [&right, &wrong] {
        let environment = pb::CreateEnvironmentRequest {
            name: "bus".to_owned(),
            description: Some(PLANTED[1].to_owned()),
            template_name: "nope".to_owned(),
            template_major_version: "1".to_owned(),
            // No YAML, so that the error is about the spec.
            spec: format!("{{{}: [", PLANTED[0]),
            ..pb::CreateEnvironmentRequest::default()
        };
        let instance = pb::UpdateServiceInstanceRequest {
            client_token: Some(PLANTED[2].to_owned()),
            name: "a".to_owned(),
            service_name: "b".to_owned(),
            spec: Some(PLANTED[0].repeat(10_000)),
            ..pb::UpdateServiceInstanceRequest::default()
        };
        let bearer = format!("Bearer {token}");
        let with = |request: &mut tonic::metadata::MetadataMap| {
            request.insert("authorization", bearer.parse().unwrap());
        };
        let mut request = tonic::Request::new(environment);
        with(request.metadata_mut());
        told.push(client.create_environment(request).await.unwrap_err());
        let mut request = tonic::Request::new(instance);
        with(request.metadata_mut());
        told.push(client.update_service_instance(request).await.unwrap_err());
    }
    assert_eq!(told[2].code(), tonic::Code::Unauthenticated, "{told:?}");
    let metrics = page(&gateway, "/metrics");
    gateway.terminate();
    gateway.ended().await;
    let mut command = program();
    command.arg("--config").arg(&config).arg("check-config");
    let printed = text_of(command);
    let denials = fs::read_to_string(folder.path().join("audit.log.denials")).unwrap();
    let audit = fs::read_to_string(&audit).unwrap() + &denials;
    assert!(audit.contains("CreateEnvironment") && audit.contains("UNAUTHENTICATED"));
    let log = gateway.log();
    assert!(log.contains("CreateEnvironment"), "{log}");
    for (place, text) in [
        ("the log", &log),
        ("the metrics", &metrics),
        ("the audit", &audit),
        ("the configuration", &printed),
        ("the errors", &format!("{told:?}")),
    ] {
        for planted in PLANTED.into_iter().chain([right.as_str(), wrong.as_str()]) {
            assert!(!text.contains(planted), "{planted} is in {place}: {text}");
        }
    }
}

fn text_of(command: Command) -> String {
    let output = run(command);
    assert!(output.status.success(), "{}", text(&output));
    text(&output)
}

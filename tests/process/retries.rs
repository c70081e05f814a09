//! A gateway without a word about retries in its configuration.

use tonic_types::StatusExt;

use super::*;

#[tokio::test]
async fn a_gateway_that_forwards_repeats_calls_unless_it_is_told_not_to() {
    let folder = tempfile::tempdir().unwrap();
    let off = folder.path().join("off.toml");
    fs::write(&off, "[retry]\nenabled = false\n").unwrap();
    // Nobody listens there any more.
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    for (config, attempts) in [(None, Some("3")), (Some(&off), None)] {
        let files = tempfile::tempdir().unwrap();
        let mut command = program();
        for door in ["--listen", "--aws-listen", "--admin-listen"] {
            command.args([door, "127.0.0.1:0"]);
        }
        command
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .args(["--region", "us-east-1", "--state-dir"])
            .arg(files.path().join("state"))
            .arg("--upstream-endpoint-url")
            .arg(format!("http://{closed}"));
        if let Some(config) = config {
            command.arg("--config").arg(config);
        }
        let running = Running::started(command).await;
        let request = pb::GetEnvironmentRequest {
            name: "prod".to_owned(),
        };
        let status = running.client().await.get_environment(request).await;
        let info = status.unwrap_err().get_details_error_info().unwrap();
        assert_eq!(info.reason, "UNAVAILABLE");
        let told = info.metadata.get("attempts").map(String::as_str);
        assert_eq!(told, attempts);
    }
}

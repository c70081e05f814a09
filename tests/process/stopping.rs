//! The time between the signal and the end.

use proton_gateway::api::health::HealthCheckRequest;
use proton_gateway::api::health::health_check_response::ServingStatus;
use proton_gateway::api::health::health_client::HealthClient;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tonic::codec::CompressionEncoding;

use super::*;

/// A gateway with this section, which has nothing else to do.
async fn with(folder: &Path, section: &str) -> Running {
    let file = folder.join("gateway.toml");
    fs::write(&file, section).unwrap();
    let state = folder.join("state");
    Running::with(&state, &["--config", file.to_str().unwrap()]).await
}

fn get_settings() -> pb::GetAccountSettingsRequest {
    pb::GetAccountSettingsRequest::default()
}

#[tokio::test]
async fn during_the_notice_it_is_not_ready_and_takes_new_calls() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = with(folder.path(), "[shutdown]\nnotice = \"1m\"\n").await;
    assert_eq!(running.page("/readyz").await.0, 200);
    let address = format!("http://{}", running.address("grpc"));
    let mut health = HealthClient::connect(address).await.unwrap();
    let all = HealthCheckRequest::default();
    let mut states = health.watch(all).await.unwrap().into_inner();
    let mut next = async || states.message().await.unwrap().map(|it| it.status());
    assert_eq!(next().await, Some(ServingStatus::Serving));

    running.terminate();
    assert_eq!(next().await, Some(ServingStatus::NotServing));
    assert_eq!(running.page("/readyz").await.0, 503);
    assert_eq!(running.page("/livez").await.0, 200);
    assert!(!running.files.path().join("ready.json").exists());
    // A new connection, and a call on it.
    let mut client = running.client().await;
    client.get_account_settings(get_settings()).await.unwrap();

    running.signal("INT");
    let status = running.ended().await;
    assert_eq!(status.code(), Some(1));
    running
        .says("stopped at once, since it was told to a second time")
        .await;
}

#[tokio::test]
async fn while_calls_end_it_is_told_that_it_lives() {
    let folder = tempfile::tempdir().unwrap();
    let section = "[shutdown]\nnotice = \"0\"\ndrain = \"1h\"\n";
    let mut running = with(folder.path(), section).await;
    // A call whose body does not come.
    let mut waiting = TcpStream::connect(running.address("aws")).await.unwrap();
    let request = "POST / HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-amz-json-1.0\r\n\
        x-amz-target: AwsProton20200720.ListServices\r\ncontent-length: 100\r\n\r\n{";
    waiting.write_all(request.as_bytes()).await.unwrap();
    eventually("the call is being answered", || async {
        let page = running.page("/metrics").await.1;
        let active = "proton_gateway_requests_active{door=\"aws\"} 1";
        page.contains(active).then_some(())
    })
    .await;

    running.terminate();
    eventually("new calls are refused", || async {
        let refused = TcpStream::connect(running.address("grpc")).await.is_err();
        refused.then_some(())
    })
    .await;
    assert_eq!(running.page("/livez").await.0, 200);
    assert_eq!(running.page("/readyz").await.0, 503);
    running.signal("INT");
    assert_eq!(running.ended().await.code(), Some(1));
}

#[tokio::test]
async fn the_health_may_be_asked_compressed() {
    let folder = tempfile::tempdir().unwrap();
    let running = with(folder.path(), "").await;
    let address = format!("http://{}", running.address("grpc"));
    let health = HealthClient::connect(address).await.unwrap();
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let mut health = health.clone().send_compressed(encoding);
        let answer = health.check(HealthCheckRequest::default()).await.unwrap();
        assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
    }
}

#[tokio::test]
async fn whoever_watches_the_health_does_not_delay_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let section = "[shutdown]\nnotice = \"0\"\ndrain = \"1h\"\n";
    let mut running = with(folder.path(), section).await;
    let address = format!("http://{}", running.address("grpc"));
    let mut health = HealthClient::connect(address).await.unwrap();
    let all = HealthCheckRequest::default();
    let mut states = health.watch(all).await.unwrap().into_inner();
    states.message().await.unwrap().unwrap();
    running.terminate();
    let status = running.ended().await;
    assert_eq!(status.code(), Some(0), "{}", running.log());
}

#[tokio::test]
async fn the_health_names_what_it_depends_on() {
    let folder = tempfile::tempdir().unwrap();
    let running = with(folder.path(), "").await;
    let (code, text) = running.page("/healthz").await;
    let page: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(code, 200);
    assert_eq!(page["serving"], true);
    let able = serde_json::json!({ "able": true, "needed": true });
    for name in ["store", "listener.grpc", "listener.aws"] {
        assert_eq!(page["dependencies"][name], able, "{text}");
    }
    let address = format!("http://{}", running.address("grpc"));
    let mut health = HealthClient::connect(address).await.unwrap();
    let store = HealthCheckRequest {
        service: "store".to_owned(),
    };
    let answer = health.check(store).await.unwrap().into_inner();
    assert_eq!(answer.status(), ServingStatus::Serving);
}

#[tokio::test]
async fn an_orderly_end_leaves_the_store_in_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = with(folder.path(), "[shutdown]\nnotice = \"0\"\n").await;
    let request = pb::CreateEnvironmentTemplateRequest {
        name: "bus".to_owned(),
        ..Default::default()
    };
    let mut client = running.client().await;
    client.create_environment_template(request).await.unwrap();
    running.terminate();
    assert_eq!(running.ended().await.code(), Some(0), "{}", running.log());
    let (state, copy) = (folder.path().join("state"), folder.path().join("copy"));
    assert!(!state.join("proton.db-wal").exists(), "{}", running.log());
    fs::create_dir(&copy).unwrap();
    fs::copy(state.join("proton.db"), copy.join("proton.db")).unwrap();
    let running = Running::on(&copy).await;
    let mut client = running.client().await;
    let list = pb::ListEnvironmentTemplatesRequest::default();
    let found = client.list_environment_templates(list).await;
    assert_eq!(found.unwrap().into_inner().templates.len(), 1);
}

#[tokio::test]
async fn a_signal_that_comes_before_anything_is_read_ends_it_in_order() {
    for signals in [&["TERM"][..], &["INT"], &["HUP", "TERM"]] {
        let (folder, state) = state();
        // Whoever reads it waits for what somebody writes.
        let pipe = folder.path().join("gateway.toml");
        let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let mut command = serve(&state);
        command.arg("--config").arg(&pipe);
        let mut starting = Dies(command.stderr(Stdio::null()).spawn().unwrap());
        // It cannot be opened for writing before somebody reads.
        let writer = tokio::task::spawn_blocking(move || File::options().write(true).open(pipe));
        let writer = tokio::time::timeout(PATIENCE, writer).await.unwrap();
        for name in signals {
            signal(&starting.0, name);
        }
        let status = eventually("it ends", || {
            let ended = starting.0.try_wait().unwrap();
            async move { ended }
        })
        .await;
        assert_eq!(status.code(), Some(0), "{signals:?}: {status}");
        assert!(!state.exists());
        drop(writer);
    }
}

//! What becomes of open streams when their gateway is told to stop.

use futures_util::future::join_all;
use pb::wait_event::Event;
use pb::wait_service_client::WaitServiceClient;

use super::*;

const STREAMS: usize = 1000;
/// Streams of one connection; the server takes a hundred.
const OF_CONNECTION: usize = 90;

/// A gateway that forwards to `upstream`, with a state folder of its own; all with the same key.
async fn forwarding(upstream: &Running, key: &Path, state: &str) -> Running {
    Running::started(forward(upstream, key, state, "off")).await
}

pub fn forward(upstream: &Running, key: &Path, state: &str, aws: &str) -> Command {
    let mut command = program();
    command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    command.args(["--aws-listen", aws, "--region", "us-east-1"]);
    command.args([
        "--upstream-endpoint-url",
        &format!("http://{}", upstream.address("aws")),
    ]);
    command.arg("--resume-token-key-file").arg(key);
    command.arg("--state-dir").arg(key.with_file_name(state));
    command.env("AWS_ACCESS_KEY_ID", "test");
    command.env("AWS_SECRET_ACCESS_KEY", "test");
    command
}

/// The events of one stream, to its end.
struct Stream {
    events: tonic::Streaming<pb::WaitEnvironmentDeployedResponse>,
    sequence: u64,
    token: String,
}

impl Stream {
    async fn open(client: &mut WaitServiceClient<Channel>, sequence: u64, token: String) -> Self {
        let request = pb::WaitEnvironmentDeployedRequest {
            name: "bus".to_owned(),
            options: Some(pb::WaitOptions {
                resume_token: token,
                ..pb::WaitOptions::default()
            }),
        };
        let events = client.wait_environment_deployed(request).await.unwrap();
        Self {
            events: events.into_inner(),
            sequence,
            token: String::new(),
        }
    }

    /// The next event but those that say nothing of the deployment. Each has the number after that of the one before, on
    /// whichever gateway that was told.
    async fn next(&mut self) -> Event {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.events.message()).await;
            let event = next.unwrap().unwrap().unwrap();
            let event = event.event.unwrap();
            assert_eq!(event.sequence, self.sequence + 1);
            self.sequence = event.sequence;
            self.token = event.resume_token;
            match event.event.unwrap() {
                // A machine that is shared may be too slow for a thousand polls.
                Event::Heartbeat(_) | Event::Degraded(_) => {}
                other => return other,
            }
        }
    }
}

/// Opens streams at `gateway`, one for each position: its number and its token.
async fn open(gateway: &Running, positions: Vec<(u64, String)>) -> Vec<Stream> {
    let address = format!("http://{}", gateway.address("grpc"));
    // All at the same time: who waits together waits for one poll.
    let connections = positions.chunks(OF_CONNECTION).map(|positions| {
        let address = address.clone();
        async move {
            let client = WaitServiceClient::connect(address).await.unwrap();
            let opening = positions.iter().map(|(sequence, token)| {
                let mut client = client.clone();
                async move { Stream::open(&mut client, *sequence, token.clone()).await }
            });
            join_all(opening).await
        }
    });
    join_all(connections).await.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_streams_go_on_at_another_gateway_with_no_event_lost() {
    let (folder, state) = state();
    let engine = with_template_and_step(&state, "1h").await;
    let mut client = engine.client().await;
    let environment = pb::CreateEnvironmentRequest {
        name: "bus".to_owned(),
        template_name: "bus".to_owned(),
        template_major_version: "1".to_owned(),
        proton_service_role_arn: Some(ROLE.to_owned()),
        spec: SPEC.to_owned(),
        ..pb::CreateEnvironmentRequest::default()
    };
    client.create_environment(environment).await.unwrap();
    let key = folder.path().join("key");
    fs::write(&key, [7; 32]).unwrap();
    let mut first = forwarding(&engine, &key, "first").await;
    let second = forwarding(&engine, &key, "second").await;

    let mut streams = open(&first, vec![(0, String::new()); STREAMS]).await;
    for stream in &mut streams {
        let event = stream.next().await;
        assert!(matches!(event, Event::Snapshot(_)), "{event:?}");
    }
    first.terminate();
    let mut come_back = Vec::new();
    for stream in &mut streams {
        let event = stream.next().await;
        let drain = pb::WaitClosingReason::Drain;
        assert!(
            matches!(&event, Event::Closing(closing) if closing.reason() == drain),
            "{event:?}"
        );
        if let Event::Closing(closing) = event {
            come_back.push(closing.reconnect_after.unwrap());
        }
        assert!(stream.events.message().await.unwrap().is_none());
    }
    // Over five seconds, and not all of them at once.
    let seconds = |from: i64| come_back.iter().filter(|it| it.seconds == from).count();
    let spread: Vec<_> = (0..5).map(seconds).collect();
    assert!(
        spread.iter().all(|count| *count > STREAMS / 10),
        "{spread:?}"
    );
    // While nobody listens, the deployment ends.
    let succeeded = pb::NotifyResourceDeploymentStatusChangeRequest {
        resource_arn: "arn:aws:proton:us-east-1:123456789012:environment/bus".to_owned(),
        status: pb::ResourceDeploymentStatus::Succeeded.into(),
        ..pb::NotifyResourceDeploymentStatusChangeRequest::default()
    };
    client
        .notify_resource_deployment_status_change(succeeded)
        .await
        .unwrap();
    let positions = streams
        .into_iter()
        .map(|stream| (stream.sequence, stream.token))
        .collect();
    for stream in &mut open(&second, positions).await {
        let event = stream.next().await;
        let succeeded = pb::DeploymentStatus::Succeeded.as_str_name();
        assert!(
            matches!(&event, Event::Snapshot(now) if succeeded.ends_with(&now.status)),
            "{event:?}"
        );
        let event = stream.next().await;
        assert!(
            matches!(&event, Event::Terminal(end) if end.success),
            "{event:?}"
        );
    }
    assert_eq!(first.ended().await.code(), Some(0), "{}", first.log());
}

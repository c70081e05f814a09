//! What the contract marks as sensitive is in no span and in no line.

use std::io;
use std::sync::{Arc, LazyLock, Mutex};

use proton_gateway::api::pb;
use tonic::Code;
use tracing::dispatcher::Dispatch;
use tracing_subscriber::fmt::MakeWriter;

use crate::collector::Collector;
use crate::support::{Backend, World};
use crate::*;

const SECRET: &str = "hunter2";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

/// What listens beside a [`Log`], so that no place is off for all threads.
static OTHER: LazyLock<Dispatch> = LazyLock::new(|| Log::default().subscriber());

impl Log {
    fn subscriber(&self) -> Dispatch {
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(self.clone())
            .with_ansi(false);
        Dispatch::new(subscriber.finish())
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn a_planted_secret_is_in_no_span_and_in_no_line_whatever_comes_of_the_call() {
    LazyLock::force(&OTHER);
    let log = Log::default();
    let _listening = tracing::dispatcher::set_default(&log.subscriber());
    let (collector, address) = Collector::start().await;
    let (telemetry, sender) = opened(&told(address));
    // Through the SDK and the AWS door: whatever may write of a request has it.
    let world = World::over(Backend::ThroughAwsDoor).await;
    let door = Door::to(world.gateway.clone(), &telemetry);
    let template = pb::CreateEnvironmentTemplateRequest {
        name: "vpc".to_owned(),
        description: Some(SECRET.to_owned()),
        ..pb::CreateEnvironmentTemplateRequest::default()
    };
    let path = "proton.v1.ProtonService/CreateEnvironmentTemplate";
    assert_eq!(door.send(path, &template, &[]).await, Code::Ok);
    let key = [("idempotency-key", "once")];
    let template = pb::CreateEnvironmentTemplateRequest {
        description: Some(format!("{SECRET} and more")),
        ..template
    };
    assert_ne!(door.send(path, &template, &key).await, Code::Ok);
    let get = pb::GetEnvironmentTemplateRequest {
        name: "vpc".to_owned(),
    };
    let path = "proton.v1.ProtonService/GetEnvironmentTemplate";
    assert_eq!(door.send(path, &get, &[]).await, Code::Ok);
    let instance = pb::CreateServiceInstanceRequest {
        name: "blue".to_owned(),
        service_name: "shop".to_owned(),
        spec: format!("password: {SECRET}"),
        client_token: Some(SECRET.to_owned()),
        ..pb::CreateServiceInstanceRequest::default()
    };
    assert_ne!(door.send(CREATE_INSTANCE, &instance, &[]).await, Code::Ok);
    sender.end().await;
    let spans = collector.spans();
    assert!(spans.iter().any(|span| span.name == CREATE_INSTANCE));
    let shown = format!("{spans:?}");
    assert!(!shown.contains(SECRET), "{shown}");
    let lines = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    let ours = lines.lines().filter(|line| line.contains("proton_gateway"));
    assert!(lines.contains("CreateServiceInstance"));
    for line in ours {
        assert!(!line.contains(SECRET), "{line}");
    }
}

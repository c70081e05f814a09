//! What a collector, an upstream and a log are told of calls.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod collector;
mod engine;
mod losses;
mod secrets;
mod streams;
#[allow(dead_code)]
#[path = "../support/mod.rs"]
mod support;
mod trees;
mod upstream;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use prost::Message;
use proton_gateway::changes::Changes;
use proton_gateway::config::Span;
use proton_gateway::config::telemetry::TelemetryConfig;
use proton_gateway::edge::grpc_door::{self, Edge};
use proton_gateway::edge::health::Health;
use proton_gateway::gateway::Gateway;
use proton_gateway::server::Shutdown;
use proton_gateway::telemetry::Telemetry;
use proton_gateway::telemetry::otlp::{self, Sender};
use proton_gateway::waits::{Key, Settings, Waits};
use tonic::service::Routes;
use tower::ServiceExt;

/// The caller's span, and how it says that it is recorded or not.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

fn parent(sampled: bool) -> String {
    format!("00-{TRACE}-{SPAN}-0{}", u8::from(sampled))
}

/// All calls are traced, and told to a collector.
fn told(collector: SocketAddr) -> TelemetryConfig {
    TelemetryConfig {
        endpoint: Some(format!("http://{collector}")),
        sample_ratio: 1.0,
        batch_delay: Span(Duration::from_millis(10)),
        ..TelemetryConfig::default()
    }
}

fn opened(config: &TelemetryConfig) -> (Telemetry, Sender) {
    let (telemetry, sender) = otlp::open(config).unwrap();
    (telemetry, sender.unwrap())
}

/// A gRPC door that takes requests in this process.
#[derive(Clone)]
struct Door(Edge<Routes>);

impl Door {
    fn to(gateway: Gateway, telemetry: &Telemetry) -> Self {
        let (stop, shutdown) = Shutdown::channel();
        // Nothing is stopped in these tests.
        std::mem::forget(stop);
        let settings = Settings::with_key(Key::random().unwrap());
        let waits = Waits::new(gateway.clone(), Changes::default(), settings, shutdown);
        Self::with(gateway, waits, telemetry)
    }

    fn with(gateway: Gateway, waits: Waits, telemetry: &Telemetry) -> Self {
        let door = grpc_door::routes(gateway, waits, Health::default()).unwrap();
        Self(door.observed_by(telemetry.clone()))
    }

    /// Sends a request with these headers, and reads the answer: its code.
    async fn send(
        &self,
        path: &str,
        message: &impl Message,
        headers: &[(&'static str, &str)],
    ) -> tonic::Code {
        let mut frame = vec![0];
        let bytes = message.encode_to_vec();
        frame.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
        frame.extend(bytes);
        let mut request = Request::post(format!("http://gateway/{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(frame))).unwrap();
        let response = self.0.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap();
        let status = tonic::Status::from_header_map(&parts.headers)
            .or_else(|| tonic::Status::from_header_map(body.trailers()?));
        status.unwrap().code()
    }
}

const GET_ENVIRONMENT: &str = "proton.v1.ProtonService/GetEnvironment";
const CREATE_INSTANCE: &str = "proton.v1.ProtonService/CreateServiceInstance";

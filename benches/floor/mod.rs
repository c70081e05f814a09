//! The floor: a bare tonic server, in a process of its own, that answers GetService from memory.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use proton_gateway::api::pb;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::Service;

/// Makes the benchmark's own binary the floor.
pub const ARGUMENT: &str = "floor";

/// The process, which ends with this.
pub struct Floor {
    child: Child,
    pub address: String,
}

impl Drop for Floor {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Floor {
    /// With TLS and client certificates where a folder has them.
    pub fn start(tls: Option<&Path>) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg(ARGUMENT)
            .args(tls)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut address).unwrap();
        Self {
            child,
            address: address.trim().to_owned(),
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

/// Serves until it is killed; prints where.
pub fn serve(mut arguments: impl Iterator<Item = String>) {
    let tls = arguments.next().map(PathBuf::from).map(|folder| {
        let read = |name| std::fs::read_to_string(folder.join(name)).unwrap();
        ServerTlsConfig::new()
            .identity(Identity::from_pem(read("server.pem"), read("server.key")))
            .client_ca_root(Certificate::from_pem(read("ca.pem")))
    });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into())
            .unwrap()
            .with_nodelay(Some(true));
        println!("{}", incoming.local_addr().unwrap());
        let mut server = Server::builder();
        if let Some(tls) = tls {
            server = server.tls_config(tls).unwrap();
        }
        server
            .add_service(Answers { service: sample() })
            .serve_with_incoming(incoming)
            .await
            .unwrap();
    });
}

/// As large as the gateway's own answer.
fn sample() -> pb::Service {
    let time = Some(prost_types::Timestamp {
        seconds: 1_700_000_000,
        nanos: 0,
    });
    pb::Service {
        arn: Some("arn:aws:proton:us-east-1:123456789012:service/sample".to_owned()),
        created_at: time,
        last_modified_at: time,
        name: Some("sample".to_owned()),
        spec: Some(super::program::SERVICE_SPEC.to_owned()),
        status: pb::ServiceStatus::Active.into(),
        template_name: Some("worker".to_owned()),
        ..pb::Service::default()
    }
}

/// What tonic generates for a service, for one of its methods.
#[derive(Clone)]
struct Answers {
    service: pb::Service,
}

impl NamedService for Answers {
    const NAME: &'static str = "proton.v1.ProtonService";
}

impl Service<http::Request<Body>> for Answers {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answers = self.clone();
        Box::pin(async move {
            Ok(Grpc::new(ProstCodec::default())
                .unary(answers, request)
                .await)
        })
    }
}

impl UnaryService<pb::GetServiceRequest> for Answers {
    type Response = pb::GetServiceResponse;
    type Future = Ready<Result<Response<Self::Response>, Status>>;

    fn call(&mut self, _: Request<pb::GetServiceRequest>) -> Self::Future {
        ready(Ok(Response::new(pb::GetServiceResponse {
            service: Some(self.service.clone()),
        })))
    }
}

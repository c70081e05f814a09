//! The floor: a bare tonic server, in a process of its own, that answers from memory.

#![allow(dead_code, reason = "each benchmark uses a part of it")]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io::{BufRead, BufReader};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use prost::Message;
use proton_gateway::api::pb;
use tonic::body::Body;
use tonic::codec::{Codec, EncodeBuf, Encoder};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};
use tonic_prost::{ProstCodec, ProstDecoder};
use tower::Service;

/// Makes the benchmark's own binary the floor.
pub const ARGUMENT: &str = "floor";
/// Lists services and makes the page anew for each call.
pub const BUILT_PAGE: &str = "/proton.v1.ProtonService/ListServicesBuilt";
/// What is answered, encoded.
pub const SERVICE: &str = "service.bin";
pub const PAGE: &str = "page.bin";

/// The process, which ends with this.
pub struct Floor {
    child: Child,
    pub address: String,
}

use super::program::ask_to_end;

impl Drop for Floor {
    fn drop(&mut self) {
        // Asked, so that a tool that counts what it does can tell.
        ask_to_end(self.id());
        drop(self.child.wait());
    }
}

impl Floor {
    /// With TLS and client certificates where a folder has them.
    pub fn start(tls: Option<&Path>) -> Self {
        Self::answering(None, tls)
    }

    /// The same, with the answers in a folder.
    pub fn answering(answers: Option<&Path>, tls: Option<&Path>) -> Self {
        let own = Command::new(std::env::current_exe().unwrap());
        Self::run(own, answers, tls)
    }

    /// The same; `command` is the benchmark's own binary, or runs it.
    pub fn run(mut command: Command, answers: Option<&Path>, tls: Option<&Path>) -> Self {
        let mut child = command
            .arg(ARGUMENT)
            .arg(answers.unwrap_or(Path::new("")))
            .arg(tls.unwrap_or(Path::new("")))
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
pub fn serve(arguments: impl Iterator<Item = String>) {
    let folder = |path: String| Some(PathBuf::from(path)).filter(|path| path.is_dir());
    let mut folders = arguments.map(folder);
    let answers = match folders.next().flatten() {
        Some(folder) => Answers::read(&folder),
        None => Answers::sample(),
    };
    let tls = folders.next().flatten().map(|folder| {
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
            .add_service(answers)
            .serve_with_incoming(incoming)
            .await
            .unwrap();
    });
}

/// What tonic generates for a service, for some of its methods.
#[derive(Clone)]
struct Answers {
    service: pb::Service,
    page: Arc<pb::ListServicesResponse>,
}

impl Answers {
    fn read(folder: &Path) -> Self {
        let read = |name| std::fs::read(folder.join(name)).unwrap();
        let service = pb::GetServiceResponse::decode(&read(SERVICE)[..]).unwrap();
        let page = pb::ListServicesResponse::decode(&read(PAGE)[..]).unwrap();
        Self {
            service: service.service.unwrap(),
            page: Arc::new(page),
        }
    }

    /// As large as the gateway's own answer.
    fn sample() -> Self {
        let time = Some(prost_types::Timestamp {
            seconds: 1_700_000_000,
            nanos: 0,
        });
        let service = pb::Service {
            arn: Some("arn:aws:proton:us-east-1:123456789012:service/sample".to_owned()),
            created_at: time,
            last_modified_at: time,
            name: Some("sample".to_owned()),
            spec: Some(super::program::SERVICE_SPEC.to_owned()),
            status: pb::ServiceStatus::Active.into(),
            template_name: Some("worker".to_owned()),
            ..pb::Service::default()
        };
        Self {
            service,
            page: Arc::default(),
        }
    }
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
        let Self { service, page } = self.clone();
        Box::pin(async move {
            Ok(match request.uri().path() {
                "/proton.v1.ProtonService/GetService" => {
                    let answer = |_: pb::GetServiceRequest| pb::GetServiceResponse {
                        service: Some(service),
                    };
                    prost(answer, request).await
                }
                "/proton.v1.ProtonService/CreateService" => {
                    let answer = |_: pb::CreateServiceRequest| pb::CreateServiceResponse {
                        service: Some(service),
                    };
                    prost(answer, request).await
                }
                // As a handler makes its answer of what it has.
                BUILT_PAGE => prost(|_: pb::ListServicesRequest| (*page).clone(), request).await,
                _ => {
                    let method = Method::of(move |_: pb::ListServicesRequest| page);
                    Grpc::new(Shared).unary(method, request).await
                }
            })
        })
    }
}

/// Answers as generated code does.
async fn prost<T, U>(
    answer: impl FnOnce(T) -> U + Send,
    request: http::Request<Body>,
) -> http::Response<Body>
where
    T: Message + Default + 'static,
    U: Message + 'static,
{
    let mut grpc = Grpc::new(ProstCodec::default());
    grpc.unary(Method::of(answer), request).await
}

/// A method of the service, for one call.
struct Method<F, T> {
    answer: Option<F>,
    asked: PhantomData<fn(T)>,
}

impl<F, T> Method<F, T> {
    fn of(answer: F) -> Self {
        Self {
            answer: Some(answer),
            asked: PhantomData,
        }
    }
}

impl<F, T, U> UnaryService<T> for Method<F, T>
where
    F: FnOnce(T) -> U,
{
    type Response = U;
    type Future = Ready<Result<Response<U>, Status>>;

    fn call(&mut self, request: Request<T>) -> Self::Future {
        let answer = self.answer.take().unwrap();
        ready(Ok(Response::new(answer(request.into_inner()))))
    }
}

/// Encodes a page that is ready, and that nobody has to make for it.
struct Shared;

impl Codec for Shared {
    type Encode = Arc<pb::ListServicesResponse>;
    type Decode = pb::ListServicesRequest;
    type Encoder = Self;
    type Decoder = ProstDecoder<pb::ListServicesRequest>;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::default()
    }
}

impl Encoder for Shared {
    type Item = Arc<pb::ListServicesResponse>;
    type Error = Status;

    fn encode(&mut self, page: Self::Item, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        page.encode(buffer).unwrap();
        Ok(())
    }
}

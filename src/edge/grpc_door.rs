//! The gRPC door: what stands round the generated service.

use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tower::Service;

use super::budget::{Budget, Metered, Share};
use super::gateway_service::Own;
use super::ready::{Reader, Seen};
use super::web::Allowed;
use super::{Arrival, MAX_REQUEST_BYTES, REQUEST_ID, budget, compression, health::Health, status};
use crate::api::health::health_server::HealthServer;
use crate::api::own::gateway_service_server::GatewayServiceServer;
use crate::api::pb::paginator_service_server::PaginatorServiceServer;
use crate::api::pb::proton_service_server::ProtonServiceServer;
use crate::api::pb::wait_service_server::WaitServiceServer;
use crate::api::{DESCRIPTORS, Rpc};
use crate::audit::Audit;
use crate::auth::Authenticator;
use crate::deploy::Deploys;
use crate::error::{Error, ErrorKind};
use crate::gateway::{Door, Gateway};
use crate::pages::Paginator;
use crate::pipeline::hits::Hits;
use crate::server::{PROBES, Unknown};
use crate::waits::Waits;

/// How long after its deadline a call is left to end by itself.
const GRACE: Duration = Duration::from_secs(1);
/// How long the message of a request for the health may take, and how long it may be.
const HEALTH_PATIENCE: Duration = Duration::from_secs(5);
const MAX_HEALTH_BYTES: usize = 1024;
/// Streams on which a client asks whenever it likes.
const REFLECTION: &str = "/grpc.reflection.";

/// All services of the gRPC door.
pub fn routes(
    gateway: Gateway,
    waits: Waits,
    health: Health,
) -> Result<Edge<Routes>, tonic_reflection::server::Error> {
    let pages = Paginator::new(gateway.clone()).until(waits.shutdown().clone());
    let deploys = Deploys::new(gateway.clone(), waits.clone());
    let own = Own::new(deploys, gateway.guards().authorizer.clone());
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            // Details of errors, so that grpcurl can show them.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
            // Each version lists the other one as well.
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(
                tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
            )
    };
    Ok(Edge {
        gateway: gateway.clone(),
        budget: gateway.budget().clone(),
        authenticator: None,
        audit: gateway.guards().audit.clone(),
        hits: gateway.hits().cloned(),
        // tonic applies the limit to what a message is unpacked to as well.
        inner: Routes::new(
            ProtonServiceServer::new(gateway)
                .max_decoding_message_size(MAX_REQUEST_BYTES)
                .accept_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Zstd)
                .send_compressed(CompressionEncoding::Gzip)
                .send_compressed(CompressionEncoding::Zstd),
        )
        .add_service(
            WaitServiceServer::new(waits)
                .max_decoding_message_size(MAX_REQUEST_BYTES)
                .accept_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Zstd),
        )
        .add_service(
            PaginatorServiceServer::new(pages)
                .max_decoding_message_size(MAX_REQUEST_BYTES)
                .accept_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Zstd)
                .send_compressed(CompressionEncoding::Gzip)
                .send_compressed(CompressionEncoding::Zstd),
        )
        .add_service(
            GatewayServiceServer::new(own)
                .max_decoding_message_size(MAX_REQUEST_BYTES)
                .accept_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Zstd),
        )
        .add_service(HealthServer::new(health).max_decoding_message_size(MAX_HEALTH_BYTES))
        .add_service(
            reflection()
                .build_v1()?
                .max_decoding_message_size(MAX_REQUEST_BYTES),
        )
        .add_service(
            reflection()
                .build_v1alpha()?
                .max_decoding_message_size(MAX_REQUEST_BYTES),
        )
        .prepare(),
    })
}

/// Names each request, sets its deadline, asks who sends it, and sees to it that no error leaves without details.
#[derive(Clone)]
pub struct Edge<S> {
    gateway: Gateway,
    budget: Budget,
    authenticator: Option<Authenticator>,
    audit: Option<Audit>,
    hits: Option<Hits>,
    inner: S,
}

impl<S> Edge<S> {
    /// The same, for callers whom `authenticator` knows.
    pub fn authenticated_by(self, authenticator: Authenticator) -> Self {
        Self {
            authenticator: Some(authenticator),
            ..self
        }
    }
}

impl<S, B> Service<Request<B>> for Edge<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if let Err(problem) = is_grpc(&request) {
            let mut refusal = Response::new(Body::new(problem.to_owned()));
            *refusal.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Box::pin(std::future::ready(Ok(refusal)));
        }
        let mut arrival = Arrival::of(request.headers(), request.extensions());
        let request_id = arrival.request_id.clone();
        let method = request.uri().path().rsplit('/').next();
        self.gateway.extend(&mut arrival, || Rpc::of(method?));
        let mut end = Instant::from(arrival.deadline + GRACE);
        // Answered to anybody: whoever balances load has no credential.
        let open = request.uri().path().starts_with(PROBES);
        if open {
            end = end.min(Instant::now() + HEALTH_PATIENCE);
        }
        let budget = self.budget.clone();
        let authenticator = self.authenticator.clone().filter(|_| !open);
        let audit = self.audit.clone();
        let hits = self.hits.clone();
        // The one that is ready.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        Box::pin(async move {
            let refusal = |error: &Error| Ok(status::of(error, None, &request_id).into_http());
            let of_nobody = |error: &Error| {
                let mut response = status::of(error, None, &request_id).into_http();
                response.extensions_mut().insert(Unknown);
                Ok(response)
            };
            if let Some(authenticator) = authenticator {
                let proof = authenticator.identify(request.headers(), &arrival.peer);
                match budget.prove(proof).await {
                    Ok(Ok(principal)) => arrival.principal = principal,
                    Err(busy) => return of_nobody(&busy),
                    Ok(Err(error)) => {
                        // Of any length and kind, but what no rpc is called is not put down.
                        let rpc = request.uri().path().rsplit('/').next();
                        let rpc = rpc.and_then(Rpc::of).map(|rpc| rpc.method);
                        let audit = audit.as_ref();
                        let error = super::refused(error, Door::Grpc, rpc, &arrival, audit);
                        return of_nobody(&error);
                    }
                }
                // Nobody after this needs it, or might show it.
                request.headers_mut().remove(header::AUTHORIZATION);
            }
            let (mut parts, body) = request.into_parts();
            let read = hits.and_then(|hits| Reader::of(hits, &parts));
            // What needs no time takes nothing of the budget.
            let body = Seen::at_once(body).await;
            let mut asked = read.as_ref().and_then(|read| read.asked(&body, &arrival));
            if let Some(answer) = asked.as_ref().and_then(|asked| asked.kept(&arrival)) {
                return Ok(answer);
            }
            let share = match open {
                true => budget.of_health(),
                false => budget.share(&arrival.principal, budget::REQUEST),
            };
            let share = match share {
                Ok(share) => share,
                Err(error) => return refusal(&error),
            };
            let once = at_first(&parts.headers);
            let patient = parts.uri.path().starts_with(REFLECTION);
            let body = metered(&share, body, once, patient);
            let body = match &read {
                // Its message is on its way.
                Some(read) if asked.is_none() => {
                    let Ok(body) = tokio::time::timeout_at(end, Seen::in_time(body)).await else {
                        return refusal(&late());
                    };
                    asked = read.asked(&body, &arrival);
                    if let Some(answer) = asked.as_ref().and_then(|asked| asked.kept(&arrival)) {
                        return Ok(answer);
                    }
                    body
                }
                _ => Seen::not_yet(body),
            };
            let id = request_id.clone();
            // tonic passes on what is a status already.
            let body = body.map_err(move |error| match error.downcast::<Error>() {
                Ok(ours) => status::of(&ours, None, &id).into(),
                Err(other) => other,
            });
            parts.extensions.insert(arrival);
            let answer = inner.call(Request::from_parts(parts, Body::new(body)));
            // Given back when the call is answered.
            let _share = share;
            // The pipeline ends calls on time; this is for messages that never arrive. A stream's
            // answer begins at once, and may go on.
            let Ok(response) = tokio::time::timeout_at(end, answer).await else {
                return refusal(&late());
            };
            let response = response?;
            let failed = Status::from_header_map(response.headers())
                .and_then(|failure| status::complete(&failure, &request_id));
            if let Some(asked) = asked {
                asked.learn_from(response.headers()).await;
            }
            let mut response = match failed {
                Some(failure) => failure.into_http(),
                None => response,
            };
            compression::say_nothing_of_spared(&mut response);
            if let Ok(id) = request_id.parse() {
                response.headers_mut().insert(REQUEST_ID, id);
            }
            Ok(response)
        })
    }
}

fn late() -> Error {
    Error::new(
        ErrorKind::DeadlineExceeded,
        "there was no answer in time; where the call changes something, look whether it has before it is sent again",
    )
}

/// Refuses what no gRPC client sends and a browser may be made to send by any page, with the
/// user's certificate or from the user's own machine.
fn is_grpc<B>(request: &Request<B>) -> Result<(), &'static str> {
    let headers = request.headers();
    let allowed = request.extensions().get::<Allowed>().is_some();
    let browser = headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site");
    if browser && !allowed {
        return Err("browsers are not answered at this door\n");
    }
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("application/grpc"));
    match content_type {
        Some("") if request.method() == Method::POST => Ok(()),
        Some(rest) if request.method() == Method::POST && rest.starts_with(['+', ';']) => Ok(()),
        _ => Err("this door speaks gRPC: POST with the content type application/grpc\n"),
    }
}

fn metered<B>(share: &Share, body: B, once: usize, patient: bool) -> Metered<B> {
    let body = share.meter(body).and_once(once);
    if patient { body.patiently() } else { body }
}

/// What a request takes of the budget when its body begins.
fn at_first(headers: &HeaderMap) -> usize {
    match headers.get("grpc-encoding") {
        // A few bytes may unpack to the largest message.
        Some(encoding) if encoding != "identity" => MAX_REQUEST_BYTES,
        _ => 0,
    }
}

//! The gRPC door: what stands round the generated service.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::{Service, ServiceExt};

use super::budget::{Budget, Metered, Share};
use super::compression::{self, both_ways, read};
use super::gateway_service::Own;
use super::ready::{Asked, Reader, Seen};
use super::web::Allowed;
use super::{Arrival, MAX_REQUEST_BYTES, REQUEST_ID, budget, health::Health, status};
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
use crate::telemetry::Telemetry;
use crate::telemetry::serving::Serving;
use crate::waits::Waits;

/// How long after its deadline a call is left to end by itself.
const GRACE: Duration = Duration::from_secs(1);
/// How long the message of a request for the health may take, and how long it may be.
const HEALTH_PATIENCE: Duration = Duration::from_secs(5);
const MAX_HEALTH_BYTES: usize = 1024;
/// Streams on which a client asks whenever it likes, and how long a question may be.
const REFLECTION: &str = "/grpc.reflection.";
const MAX_REFLECTION_BYTES: usize = 4 * 1024;

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
    Ok(Edge(Arc::new(Shared {
        gateway: gateway.clone(),
        budget: gateway.budget().clone(),
        authenticator: None,
        audit: gateway.guards().audit.clone(),
        hits: gateway.hits().cloned(),
        telemetry: None,
        // tonic applies the limit to what a message is unpacked to as well.
        inner: Routes::new(both_ways!(
            ProtonServiceServer::new(gateway).max_decoding_message_size(MAX_REQUEST_BYTES)
        ))
        .add_service(read!(
            WaitServiceServer::new(waits).max_decoding_message_size(MAX_REQUEST_BYTES)
        ))
        .add_service(both_ways!(
            PaginatorServiceServer::new(pages).max_decoding_message_size(MAX_REQUEST_BYTES)
        ))
        .add_service(both_ways!(
            GatewayServiceServer::new(own).max_decoding_message_size(MAX_REQUEST_BYTES)
        ))
        .add_service(read!(
            HealthServer::new(health).max_decoding_message_size(MAX_HEALTH_BYTES)
        ))
        .add_service(read!(
            reflection()
                .build_v1()?
                .max_decoding_message_size(MAX_REFLECTION_BYTES)
        ))
        .add_service(read!(
            reflection()
                .build_v1alpha()?
                .max_decoding_message_size(MAX_REFLECTION_BYTES)
        ))
        .prepare(),
    })))
}

/// Names each request, sets its deadline, asks who sends it, and sees to it that no error leaves without details.
/// Clones share all of it: each request has one.
pub struct Edge<S>(Arc<Shared<S>>);

#[derive(Clone)]
struct Shared<S> {
    gateway: Gateway,
    budget: Budget,
    authenticator: Option<Authenticator>,
    audit: Option<Audit>,
    hits: Option<Hits>,
    /// Who is told of requests; nobody where it is absent.
    telemetry: Option<Telemetry>,
    inner: S,
}

impl<S> Clone for Edge<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Clone> Edge<S> {
    /// The same, for callers whom `authenticator` knows.
    pub fn authenticated_by(self, authenticator: Authenticator) -> Self {
        Self(Arc::new(Shared {
            authenticator: Some(authenticator),
            ..Arc::unwrap_or_clone(self.0)
        }))
    }

    /// The same, whose requests `telemetry` is told of.
    pub fn observed_by(self, telemetry: Telemetry) -> Self {
        Self(Arc::new(Shared {
            telemetry: Some(telemetry),
            ..Arc::unwrap_or_clone(self.0)
        }))
    }
}

impl<S, B> Service<Request<B>> for Edge<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Whether what is behind is needed is not known yet.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if let Err(problem) = is_grpc(&request) {
            let mut refusal = Response::new(Body::new(problem.to_owned()));
            *refusal.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Box::pin(std::future::ready(Ok(refusal)));
        }
        let shared = Arc::clone(&self.0);
        let mut arrival = Arrival::of(request.headers(), request.extensions());
        let rpc = || Rpc::of(request.uri().path().rsplit('/').next()?);
        shared.gateway.extend(&mut arrival, rpc);
        let serving = shared
            .telemetry
            .as_ref()
            .map(|telemetry| telemetry.grpc(request.uri().path(), request.headers(), &mut arrival));
        let trace = arrival.trace.clone();
        let request_id = arrival.request_id.clone();
        trace.over(async move {
            let answer = AssertUnwindSafe(shared.answer(request, arrival, serving));
            let answered = answer.catch_unwind().await;
            Ok(answered.unwrap_or_else(|_| {
                let error = super::panicked(Door::Grpc, &request_id);
                status::of(&error, None, &request_id).into_http()
            }))
        })
    }
}

impl<S> Shared<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync,
    S::Future: Send,
{
    /// Answers with what is kept, or has the services answer.
    async fn answer<B>(
        &self,
        mut request: Request<B>,
        mut arrival: Arrival,
        serving: Option<Serving>,
    ) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        // Answered to anybody: whoever balances load has no credential.
        let open = request.uri().path().starts_with(PROBES);
        if let Some(authenticator) = self.authenticator.as_ref().filter(|_| !open) {
            let proof = authenticator.identify(request.headers(), &arrival.peer);
            let error = match self.budget.prove(proof).await {
                Ok(Ok(principal)) => {
                    arrival.principal = principal;
                    None
                }
                Err(busy) => Some(busy),
                Ok(Err(error)) => {
                    // Of any length and kind, but what no rpc is called is not put down.
                    let rpc = request.uri().path().rsplit('/').next();
                    let rpc = rpc.and_then(Rpc::of).map(|rpc| rpc.method);
                    let audit = self.audit.as_ref();
                    Some(super::refused(error, Door::Grpc, rpc, &arrival, audit))
                }
            };
            if let Some(error) = error {
                let status = status::of(&error, None, &arrival.request_id);
                let mut response = refused(status, serving.as_ref());
                response.extensions_mut().insert(Unknown);
                return response;
            }
            // Nobody after this needs it, or might show it.
            request.headers_mut().remove(header::AUTHORIZATION);
        }
        let (parts, body) = request.into_parts();
        let read = self.hits.as_ref().and_then(|hits| Reader::of(hits, &parts));
        // What needs no time takes nothing of the budget.
        let body = Seen::at_once(body).await;
        let asked = read.as_ref().and_then(|read| read.asked(&body, &arrival));
        if let Some(answer) = asked
            .as_ref()
            .and_then(|asked| asked.kept(&arrival, serving.as_ref()))
        {
            return answer;
        }
        // On its own: what is kept is answered without room for all this.
        Box::pin(self.have_answered(Pending {
            parts,
            body,
            arrival,
            serving,
            read,
            asked,
            open,
        }))
        .await
    }

    async fn have_answered<B>(&self, pending: Pending<'_, B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        let Pending {
            mut parts,
            body,
            arrival,
            serving,
            read,
            mut asked,
            open,
        } = pending;
        compression::spare_events(&mut parts);
        let request_id = arrival.request_id.clone();
        let refusal =
            |error: &Error| refused(status::of(error, None, &request_id), serving.as_ref());
        let mut end = Instant::from(arrival.deadline + GRACE);
        if open {
            end = end.min(Instant::now() + HEALTH_PATIENCE);
        }
        let reflection = parts.uri.path().starts_with(REFLECTION);
        let share = match (open, reflection) {
            (true, _) => self.budget.of_health(),
            (_, true) => self.budget.of_reflection(&arrival.peer),
            _ => self.budget.share(&arrival.principal, budget::REQUEST),
        };
        let share = match share {
            Ok(share) => share,
            Err(error) => return refusal(&error),
        };
        // Neither is longer than what each request takes at its beginning.
        let once = match open || reflection {
            true => 0,
            false => at_first(&parts.headers),
        };
        let body = metered(&share, body, once, reflection);
        let body = match &read {
            // Its message is on its way.
            Some(read) if asked.is_none() => {
                let Ok(body) = tokio::time::timeout_at(end, Seen::in_time(body)).await else {
                    return refusal(&late());
                };
                asked = read.asked(&body, &arrival);
                if let Some(answer) = asked
                    .as_ref()
                    .and_then(|asked| asked.kept(&arrival, serving.as_ref()))
                {
                    return answer;
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
        let body = match &serving {
            Some(serving) => Body::new(serving.receives(body)),
            None => Body::new(body),
        };
        parts.extensions.insert(arrival);
        let request = Request::from_parts(parts, body);
        let answer = self.inner.clone().oneshot(request);
        // Given back when the call is answered.
        let _share = share;
        // The pipeline ends calls on time; this is for messages that never arrive. A stream's
        // answer begins at once, and may go on.
        let Ok(response) = tokio::time::timeout_at(end, answer).await else {
            return refusal(&late());
        };
        let response = match response {
            Ok(response) => response,
            Err(never) => match never {},
        };
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
        match serving {
            Some(serving) => serving.answers(response),
            None => response,
        }
    }
}

/// The answer to a request that no service sees.
fn refused(status: Status, serving: Option<&Serving>) -> Response<Body> {
    if let Some(serving) = serving {
        serving.ends(status.code());
    }
    status.into_http()
}

/// A request that what is kept at once does not answer.
struct Pending<'a, B: http_body::Body> {
    parts: Parts,
    body: Seen<B>,
    arrival: Arrival,
    serving: Option<Serving>,
    read: Option<Reader<'a>>,
    /// Absent where the message is not there yet.
    asked: Option<Asked<'a>>,
    /// It is one for the health.
    open: bool,
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
    if super::is_of_browser(headers) && !allowed {
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

//! gRPC-Web: calls of the gRPC door as a browser's scripts can send them, for pages of some origins.
//!
//! The protocol is tonic-web's, what browsers may read is tower-http's CORS. Here it is decided whose
//! pages are answered: CORS alone forbids a page to read an answer, not to cause it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer, ExposeHeaders};

use super::doors::begins;
use super::{REQUEST_ID, status};
use crate::cache::demand::CACHE_STATUS;
use crate::config::grpc_web::GrpcWebConfig;
use crate::etag::ETAG;
use crate::ledger::REPLAYED;

/// How the content types of gRPC-Web begin.
const CONTENT_TYPE: &str = "application/grpc-web";
/// Where gRPC says how a call ended.
const OUTCOME: [HeaderName; 3] = [
    Status::GRPC_STATUS,
    Status::GRPC_MESSAGE,
    Status::GRPC_STATUS_DETAILS,
];

/// Among a request's extensions: it comes from a page that may call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowed;

type Inner = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// The gRPC door, for browsers too. Clones share it.
#[derive(Clone)]
pub struct Web {
    /// For what is no gRPC-Web.
    plain: Inner,
    pages: Arc<ArcSwap<Pages>>,
}

/// Whose pages are answered, and what answers them.
struct Pages {
    translated: Inner,
    /// Absent: any.
    origins: Option<Vec<HeaderValue>>,
}

impl Web {
    /// The same door as `grpc`, for the pages of `config` as well.
    pub fn new<S>(grpc: S, config: &GrpcWebConfig) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        let plain = BoxCloneSyncService::new(grpc);
        let pages = Pages::of(&plain, config);
        Self {
            plain,
            pages: Arc::new(ArcSwap::from_pointee(pages)),
        }
    }

    /// Other pages are answered from now on, in all clones.
    pub fn change(&self, config: &GrpcWebConfig) {
        self.pages.store(Arc::new(Pages::of(&self.plain, config)));
    }
}

impl Pages {
    fn of(grpc: &Inner, config: &GrpcWebConfig) -> Self {
        // Checked by the configuration.
        let origins = config
            .allowed_origins
            .iter()
            .filter_map(|origin| HeaderValue::from_str(origin).ok());
        let origins: Option<Vec<_>> = (!config.allows_any()).then(|| origins.collect());
        let translated = ServiceBuilder::new()
            .layer(cors(config, origins.as_deref()))
            .map_response(|response: Response<Body>| {
                response.map(|body| Body::new(Unmeasured(body)))
            })
            .layer(tonic_web::GrpcWebLayer::new())
            .map_response(told_at_the_end)
            .service(grpc.clone());
        Self {
            translated: BoxCloneSyncService::new(translated),
            origins,
        }
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        let origins = self.origins.as_deref();
        origins.is_none_or(|origins| origins.contains(origin))
    }
}

/// Whether a request is for [`Web`] even if its listener has other doors.
pub(super) fn is_web<B>(request: &Request<B>) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    // No rpc is called `/`; that is where the AWS door is.
    let asks_before = request.method() == Method::OPTIONS && request.uri().path() != "/";
    asks_before || content_type.is_some_and(|it| begins(it, CONTENT_TYPE.as_bytes()))
}

fn cors(config: &GrpcWebConfig, origins: Option<&[HeaderValue]>) -> CorsLayer {
    let origins = match origins {
        Some(origins) => AllowOrigin::list(origins.iter().cloned()),
        None => AllowOrigin::any(),
    };
    let exposed = OUTCOME
        .into_iter()
        .chain(
            [REQUEST_ID, CACHE_STATUS, ETAG, REPLAYED, status::PUSHBACK]
                .map(HeaderName::from_static),
        )
        .chain([header::AGE]);
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::POST])
        // Metadata has any name, and origins that may not call never come here.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(ExposeHeaders::list(exposed))
        .allow_credentials(config.credentials)
        .max_age(config.max_age.0)
}

impl<B> Service<Request<B>> for Web
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut request = request.map(Body::new);
        if !is_web(&request) {
            return Box::pin(self.plain.clone().oneshot(request));
        }
        let pages = self.pages.load();
        let mut origins = request.headers().get_all(header::ORIGIN).iter();
        match origins.next() {
            Some(origin) if !pages.allows(origin) || origins.next().is_some() => {
                let problem =
                    "pages of this origin are not answered; see grpc-web.allowed-origins\n";
                let mut refusal = Response::new(Body::new(problem.to_owned()));
                *refusal.status_mut() = StatusCode::FORBIDDEN;
                return Box::pin(std::future::ready(Ok(refusal)));
            }
            Some(_) => {
                request.extensions_mut().insert(Allowed);
            }
            // No page; other clients speak it as well.
            None if request.method() == Method::OPTIONS => {
                return Box::pin(self.plain.clone().oneshot(request));
            }
            None => {}
        }
        Box::pin(pages.translated.clone().oneshot(request))
    }
}

/// Moves how a call ended from the headers, where an answer without messages has it, to the end,
/// where each answer has it: no client has to look in two places, nor a browser to show headers.
fn told_at_the_end(response: Response<Body>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    let mut trailers = HeaderMap::new();
    for name in OUTCOME {
        if let Some(value) = parts.headers.remove(&name) {
            trailers.insert(name, value);
        }
    }
    if trailers.is_empty() {
        return Response::from_parts(parts, body);
    }
    let end =
        http_body_util::StreamBody::new(tokio_stream::once(Ok::<_, Infallible>(
            Frame::<Bytes>::trailers(trailers),
        )));
    Response::from_parts(parts, Body::new(end))
}

/// A body that does not say how long it is: the trailers that become a part of it are not counted, and
/// HTTP/1.1 would cut them off.
struct Unmeasured(Body);

impl http_body::Body for Unmeasured {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.0).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

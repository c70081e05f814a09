//! Several doors on one address: what a request brings tells which one it is for.

use std::convert::Infallible;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Response, header};
use tonic::body::Body;
use tower::{Service, ServiceExt};

use super::aws_door::AwsDoor;
use super::web;

/// What all content types of gRPC begin with, those of gRPC-Web as well.
const GRPC: &[u8] = b"application/grpc";

/// Whether a media type begins so: they are the same in any case.
pub(super) fn begins(content_type: &HeaderValue, beginning: &[u8]) -> bool {
    let text = content_type.as_bytes().get(..beginning.len());
    text.is_some_and(|text| text.eq_ignore_ascii_case(beginning))
}

/// The doors of one listener. `grpc` is the gRPC door, for browsers too if `web`.
#[derive(Clone)]
pub struct Doors<G> {
    grpc: G,
    web: bool,
    aws: AwsDoor,
}

impl<G> Doors<G> {
    pub fn new(grpc: G, web: bool, aws: AwsDoor) -> Self {
        Self { grpc, web, aws }
    }

    fn is_grpc<B>(&self, request: &Request<B>) -> bool {
        let content_type = request.headers().get(header::CONTENT_TYPE);
        content_type.is_some_and(|it| begins(it, GRPC)) || (self.web && web::is_web(request))
    }
}

impl<G, B> Service<Request<B>> for Doors<G>
where
    G: Service<Request<B>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    G::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if self.is_grpc(&request) {
            return Box::pin(self.grpc.clone().oneshot(request));
        }
        let answer = self.aws.clone().oneshot(request);
        Box::pin(async move { Ok(answer.await?.map(Body::new)) })
    }
}

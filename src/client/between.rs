//! The channel to a gateway, with the answers of others in between told for what they are.
//!
//! A proxy whose gateway is away answers in plain HTTP. Read as gRPC that makes no sense, so it is
//! looked at before.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::CONTENT_TYPE;
use http::{Request, Response, StatusCode};
use tonic::body::Body;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tower::Service;

/// A channel on which only gRPC comes through.
#[derive(Debug, Clone)]
pub struct Between(Channel);

/// What answered instead of a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered(StatusCode);

impl Between {
    pub fn over(channel: Channel) -> Self {
        Self(channel)
    }
}

impl Service<Request<Body>> for Between {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        let ready = self.0.poll_ready(cx);
        ready.map_err(|error| Status::from_error(error.into()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.0.call(request);
        Box::pin(async move {
            let answer = answer.await;
            let answer = answer.map_err(|error| Status::from_error(error.into()))?;
            match Answered::of(&answer) {
                Some(met) => Err(met.into()),
                None => Ok(answer),
            }
        })
    }
}

impl Answered {
    fn of<B>(answer: &Response<B>) -> Option<Self> {
        let headers = answer.headers();
        let kind = headers.get(CONTENT_TYPE);
        let grpc = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
            || headers.contains_key("grpc-status");
        // Without a type it is for the transport to judge.
        let other = answer.status() != StatusCode::OK || kind.is_some();
        (!grpc && other).then(|| Self(answer.status()))
    }

    /// What a status was made of.
    pub fn behind(status: &Status) -> Option<Self> {
        status.source()?.downcast_ref().copied()
    }

    /// Whether the gateway may be there later.
    pub fn passes(self) -> bool {
        self.0.is_server_error() || self.0 == StatusCode::TOO_MANY_REQUESTS
    }

    /// As gRPC maps the statuses of HTTP.
    fn code(self) -> Code {
        match self.0 {
            StatusCode::BAD_REQUEST => Code::Internal,
            StatusCode::UNAUTHORIZED => Code::Unauthenticated,
            StatusCode::FORBIDDEN => Code::PermissionDenied,
            StatusCode::NOT_FOUND => Code::Unimplemented,
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Code::Unavailable,
            _ => Code::Unknown,
        }
    }
}

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.0;
        write!(f, "something in between answered HTTP {status}, not gRPC")
    }
}

impl Error for Answered {}

impl From<Answered> for Status {
    fn from(met: Answered) -> Self {
        let mut status = Self::new(met.code(), met.to_string());
        status.set_source(Arc::new(met));
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, header: (&'static str, &'static str)) -> Response<()> {
        let answer = Response::builder()
            .status(status)
            .header(header.0, header.1);
        answer.body(()).unwrap()
    }

    #[test]
    fn an_answer_in_grpc_is_left_as_it_is() {
        for grpc in [
            answer(200, ("content-type", "application/grpc+proto")),
            answer(503, ("content-type", "application/grpc")),
            answer(204, ("grpc-status", "14")),
            answer(200, ("server", "no type")),
        ] {
            assert_eq!(Answered::of(&grpc), None, "{grpc:?}");
        }
    }

    #[test]
    fn a_page_of_a_proxy_is_told_by_its_status() {
        for (http, code, passes) in [
            (502, Code::Unavailable, true),
            (503, Code::Unavailable, true),
            (504, Code::Unavailable, true),
            (429, Code::Unavailable, true),
            (500, Code::Unknown, true),
            (200, Code::Unknown, false),
            (403, Code::PermissionDenied, false),
            (404, Code::Unimplemented, false),
        ] {
            let met = Answered::of(&answer(http, ("content-type", "text/html"))).unwrap();
            let status = Status::from(met);
            assert_eq!((status.code(), met.passes()), (code, passes), "{http}");
            assert_eq!(Answered::behind(&status), Some(met));
            assert!(status.message().contains(&format!("HTTP {http}")));
        }
    }
}

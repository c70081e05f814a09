//! The AWS door: AWS JSON 1.0 over HTTP, as AWS's SDKs and CLI speak it.
//!
//! `POST /`, the operation in `X-Amz-Target`, the error in `__type` and `x-amzn-errortype`. All
//! modelled exceptions are 400 but `InternalServerException`, which is 500 (API Reference).
//! Without authentication signatures are not looked at, which is why the door then opens on loopback
//! only.

use std::borrow::Cow;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use serde_json::Value;
use tower::Service;

use super::budget::{self, Share};
use super::{Arrival, status};
use crate::api::{self, Operation};
use crate::auth::{self, Authenticator, Identified};
use crate::cache::demand::Served;
use crate::error::{Error, ErrorKind, Origin};
use crate::etag::Etag;
use crate::gateway::{Call, Door, Gateway, Reply};
use crate::ledger::REPLAYED;
use crate::server::Unknown;
use crate::telemetry::Telemetry;

/// What stands before the operation's name in `X-Amz-Target`.
const TARGET: &str = "AwsProton20200720.";
/// What stands before an exception's name in `__type`.
const NAMESPACE: &str = "com.amazonaws.proton.v20200720#";
const CONTENT_TYPE: &str = "application/x-amz-json-1.0";
const REQUEST_ID: &str = "x-amzn-requestid";
/// The largest request that is read. What the model allows is below, even where each character is
/// one of two UTF-16 units that are both escaped, in 12 bytes.
const MAX_REQUEST_BYTES: usize = 2 << 20;
/// The longest text of an exception.
const MAX_MESSAGE_BYTES: usize = 16 * 1024;
/// Tells another gateway, whose upstream we are, what AWS's code alone does not say.
pub const REASON: &str = "x-proton-gateway-reason";
/// How many attempts a failed call took, where there was more than one.
const ATTEMPTS: &str = "x-proton-gateway-attempts";

/// Answers AWS's SDKs. Clones share the gateway.
#[derive(Clone)]
pub struct AwsDoor {
    gateway: Gateway,
    authenticator: Option<Authenticator>,
    /// Who is told of requests; nobody where it is absent.
    telemetry: Option<Telemetry>,
}

impl AwsDoor {
    pub fn new(gateway: Gateway) -> Self {
        Self {
            gateway,
            authenticator: None,
            telemetry: None,
        }
    }

    /// The same, whose requests `telemetry` is told of.
    pub fn observed_by(self, telemetry: Telemetry) -> Self {
        Self {
            telemetry: Some(telemetry),
            ..self
        }
    }

    /// The same, for callers whom `authenticator` knows.
    pub fn authenticated_by(self, authenticator: Authenticator) -> Self {
        Self {
            authenticator: Some(authenticator),
            ..self
        }
    }

    async fn answer<B>(self, request: Request<B>, mut arrival: Arrival) -> Response<Full<Bytes>>
    where
        B: Body + Send + Unpin,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let serving = self.telemetry.as_ref().map(|telemetry| {
            let operation = target(request.headers()).ok();
            telemetry.aws(operation, request.headers(), &mut arrival)
        });
        let trace = arrival.trace.clone();
        let outcome = trace.over(self.reply(request, &mut arrival)).await;
        if let Some(serving) = serving {
            serving.ends(match &outcome {
                Ok(_) => tonic::Code::Ok,
                Err(error) => status::meaning(&error.kind).code,
            });
        }
        match outcome {
            Ok(reply) => success(&reply, &arrival.request_id),
            Err(error) => {
                let mut response = failure(&error, &arrival.request_id);
                let known = arrival.principal.method != auth::Method::Anonymous;
                if self.authenticator.is_some() && !known {
                    response.extensions_mut().insert(Unknown);
                }
                response
            }
        }
    }

    async fn reply<B>(&self, request: Request<B>, arrival: &mut Arrival) -> Result<Reply, Error>
    where
        B: Body + Send + Unpin,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        // A body that never comes must not keep its connection for ever. The share is given back when
        // the call is answered.
        let (request, _share) = tokio::time::timeout_at(
            arrival.deadline.into(),
            self.read_authenticated(request, arrival),
        )
        .await
        .unwrap_or_else(|_| Err(Error::unreadable("the body did not come in time")))?;
        self.gateway
            .extend(arrival, || Some(request.operation().rpc()));
        let call = Call::new(request, Door::Aws, arrival);
        self.gateway.call(call).await
    }

    /// Reads a request, and sees to it that its caller is known.
    async fn read_authenticated<B>(
        &self,
        request: Request<B>,
        arrival: &mut Arrival,
    ) -> Result<(api::Request, Share), Error>
    where
        B: Body + Send + Unpin,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if request.method() != Method::POST || request.uri().path() != "/" {
            return Err(unknown("calls are made with POST /"));
        }
        if super::is_of_browser(request.headers()) {
            let origin = Origin::Gateway;
            return Err(Error::new(
                ErrorKind::AccessDenied { origin },
                "browsers are not answered at this door",
            ));
        }
        let budget = self.gateway.budget();
        let Some(authenticator) = &self.authenticator else {
            let share = budget.share(&arrival.principal, budget::REQUEST)?;
            let (operation, body) = read(request.map(|body| share.meter(body))).await?;
            return Ok((parse(operation, &body)?, share));
        };
        let rpc = target(request.headers()).ok().map(Operation::name);
        let audit = self.gateway.guards().audit.as_ref();
        let refused = |error| super::refused(error, Door::Aws, rpc, arrival, audit);
        let (parts, body) = request.into_parts();
        let identified = budget
            .prove(authenticator.identify_signed(&parts, &arrival.peer))
            .await?
            .map_err(refused)?;
        // Who has signed the body is a stranger until all of it is there.
        let share = match &identified {
            Identified::Known(principal) => budget.share(principal, budget::REQUEST)?,
            Identified::Signed(_) => budget.of_stranger()?,
        };
        let body = share.meter(body);
        let (operation, body) = read(Request::from_parts(parts, body)).await?;
        let (principal, share) = match identified {
            Identified::Known(principal) => (principal, share),
            Identified::Signed(signed) => {
                let principal = signed.prove(&body).map_err(refused)?;
                let share = budget.share(&principal, share.bytes())?;
                (principal, share)
            }
        };
        arrival.principal = principal;
        Ok((parse(operation, &body)?, share))
    }
}

impl<B> Service<Request<B>> for AwsDoor
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let door = self.clone();
        Box::pin(async move {
            let arrival = Arrival::of(request.headers(), request.extensions());
            let request_id = arrival.request_id.clone();
            let answer = AssertUnwindSafe(door.answer(request, arrival));
            let answered = answer.catch_unwind().await;
            Ok(answered.unwrap_or_else(|_| {
                let error = super::panicked(Door::Aws, &request_id);
                failure(&error, &request_id)
            }))
        })
    }
}

/// Reads which operation is asked for, and the body.
async fn read<B>(request: Request<B>) -> Result<(Operation, Bytes), Error>
where
    B: Body + Send,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let operation = target(request.headers())?;
    content_type(request.headers())?;
    plain(request.headers())?;
    let body = Limited::new(request.into_body(), MAX_REQUEST_BYTES)
        .collect()
        .await
        .map_err(broken)?
        .to_bytes();
    Ok((operation, body))
}

/// Reads the body as a request of the operation.
fn parse(operation: Operation, body: &Bytes) -> Result<api::Request, Error> {
    let value = if body.is_empty() {
        Value::Object(serde_json::Map::new())
    } else {
        serde_json::from_slice(body)
            .map_err(|error| Error::unreadable(format!("the body is not JSON: {error}")))?
    };
    api::Request::from_json(operation, value)
}

/// Why a body could not be read.
fn broken(error: Box<dyn std::error::Error + Send + Sync>) -> Error {
    if error.is::<LengthLimitError>() {
        return Error::unreadable(format!(
            "the request is too large: at most {MAX_REQUEST_BYTES} bytes are read"
        ));
    }
    match error.downcast::<Error>() {
        // As for a body that goes on, but not in time.
        Ok(ours) if matches!(*ours.kind, ErrorKind::DeadlineExceeded) => {
            Error::unreadable(ours.message)
        }
        Ok(ours) => *ours,
        Err(_) => Error::unreadable("the body ended early"),
    }
}

fn unknown(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::UnknownOperation, message)
}

fn target(headers: &HeaderMap) -> Result<Operation, Error> {
    let mut targets = headers.get_all("x-amz-target").iter();
    let target = targets.next().ok_or_else(|| {
        unknown(format!(
            "the header X-Amz-Target is missing; it must be {TARGET}<Operation>"
        ))
    })?;
    if targets.next().is_some() {
        return Err(unknown("there is more than one X-Amz-Target; send one"));
    }
    target
        .to_str()
        .ok()
        .and_then(|target| target.strip_prefix(TARGET))
        .and_then(Operation::from_name)
        .ok_or_else(|| {
            unknown(format!(
                "X-Amz-Target names no operation of Proton; it must be {TARGET}<Operation>"
            ))
        })
}

fn content_type(headers: &HeaderMap) -> Result<(), Error> {
    let mut given = headers.get_all(header::CONTENT_TYPE).iter();
    let first = given.next();
    if given.next().is_some() {
        return Err(Error::unreadable(
            "there is more than one content type; send one",
        ));
    }
    let essence = first
        .and_then(|value| value.to_str().ok())
        .map(|value| value.split(';').next().unwrap_or_default().trim());
    match essence {
        Some(essence) if essence.eq_ignore_ascii_case(CONTENT_TYPE) => Ok(()),
        _ => Err(Error::unreadable(format!(
            "the content type must be {CONTENT_TYPE}"
        ))),
    }
}

/// Refuses what is packed: nobody unpacks it here.
fn plain(headers: &HeaderMap) -> Result<(), Error> {
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    // The second is what older clients of AWS call the same.
    let are_none = |coding: &HeaderValue| {
        let known: [&[u8]; 2] = [b"identity", b"amz-1.0"];
        known
            .iter()
            .any(|it| coding.as_bytes().eq_ignore_ascii_case(it))
    };
    match codings.all(are_none) {
        true => Ok(()),
        false => Err(Error::unreadable(
            "the body has a content encoding; send it without",
        )),
    }
}

fn success(reply: &Reply, request_id: &str) -> Response<Full<Bytes>> {
    let id = reply.upstream_request_id.as_deref().unwrap_or(request_id);
    let mut response = respond(StatusCode::OK, &reply.response.to_json(), id);
    if reply.replayed {
        let value = HeaderValue::from_static("true");
        response.headers_mut().insert(REPLAYED, value);
    }
    add_etag(response.headers_mut(), reply.etag);
    for (name, value) in reply.served.iter().flat_map(Served::headers) {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn failure(error: &Error, request_id: &str) -> Response<Full<Bytes>> {
    let meaning = status::meaning(&error.kind);
    let code = match (&*error.kind, meaning.exception) {
        (ErrorKind::UnknownOperation, _) => StatusCode::NOT_FOUND,
        (ErrorKind::Unauthenticated { .. }, _) => StatusCode::FORBIDDEN,
        (_, "InternalServerException") => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    };
    let upstream = error.upstream.as_deref();
    let exception = upstream
        .and_then(|upstream| upstream.code.as_deref())
        .unwrap_or(meaning.exception);
    let id = upstream
        .and_then(|upstream| upstream.request_id.as_deref())
        .unwrap_or(request_id);
    let text = status::message(error);
    let text = match (&*error.kind, upstream) {
        (ErrorKind::Invalid { .. }, None) => Cow::Owned(api::in_wire_spelling(text)),
        _ => Cow::Borrowed(text),
    };
    let body = serde_json::json!({
        "__type": format!("{NAMESPACE}{exception}"),
        "message": status::cut(&text, MAX_MESSAGE_BYTES),
    });
    let mut response = respond(code, &body, id);
    let headers = response.headers_mut();
    if let Ok(exception) = HeaderValue::from_str(exception) {
        headers.insert("x-amzn-errortype", exception);
    }
    headers.insert(REASON, HeaderValue::from_static(meaning.reason));
    if error.replayed {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    if error.attempts > 1 {
        headers.insert(ATTEMPTS, error.attempts.into());
    }
    add_etag(headers, error.current_version());
    response
}

/// HTTP has etags in quotation marks.
fn add_etag(headers: &mut HeaderMap, etag: Option<Etag>) {
    let value = etag.map(|etag| HeaderValue::from_str(&format!("\"{etag}\"")));
    if let Some(Ok(value)) = value {
        headers.insert(header::ETAG, value);
    }
}

fn respond(code: StatusCode, body: &Value, request_id: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

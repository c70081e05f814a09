//! One request at a door, from its headers to the end of its answer: what is counted of it, and its
//! span.

use std::pin::Pin;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body, Frame, SizeHint};
use opentelemetry::KeyValue;
use opentelemetry::trace::Status;
use tonic::Code;

use super::metrics::{Level, Metrics};
use super::rpcs::{self, Place, name_of};
use super::trace::{Begin, Trace, Tracing};
use crate::api::{Operation, Rpc};
use crate::edge::Arrival;
use crate::gateway::Door;

/// What stands before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// What doors tell of requests. Clones tell the same.
#[derive(Clone)]
pub struct Telemetry {
    pub metrics: Metrics,
    pub tracing: Tracing,
}

impl Telemetry {
    /// Begins a request for an rpc of the gRPC door.
    pub fn grpc(&self, path: &str, headers: &HeaderMap, arrival: &mut Arrival) -> Serving {
        let place = self.metrics.rpcs().at(path);
        self.metrics.rpcs().started(place);
        let method = path.rsplit('/').next().unwrap_or_default();
        self.begin(Door::Grpc, place, method, headers, arrival)
    }

    /// Begins a request of the AWS door.
    pub fn aws(
        &self,
        operation: Option<Operation>,
        headers: &HeaderMap,
        arrival: &mut Arrival,
    ) -> Serving {
        let place = self.metrics.rpcs().of(operation);
        let method = operation.map(Operation::name).unwrap_or_default();
        self.begin(Door::Aws, place, method, headers, arrival)
    }

    fn begin(
        &self,
        door: Door,
        place: Place,
        method: &str,
        headers: &HeaderMap,
        arrival: &mut Arrival,
    ) -> Serving {
        let trace = self.tracing.begin(headers, || {
            let name = self.metrics.rpcs().method(place);
            let system = match door {
                Door::Aws => rpcs::AWS,
                _ => rpcs::GRPC,
            };
            let mut attributes = vec![
                KeyValue::new("rpc.system.name", system),
                KeyValue::new("rpc.method", name.to_owned()),
                KeyValue::new("proton.request_id", arrival.request_id.clone()),
            ];
            if let Some(address) = arrival.peer.address {
                let (host, port) = (address.ip().to_string(), i64::from(address.port()));
                attributes.push(KeyValue::new("client.address", host));
                attributes.push(KeyValue::new("client.port", port));
            }
            Begin {
                name: name.to_owned(),
                attributes,
                is_call: Operation::from_name(method).is_some(),
            }
        });
        arrival.trace = trace.clone();
        self.metrics.active(door, 1);
        Serving {
            metrics: self.metrics.clone(),
            door,
            place,
            trace,
            began: Instant::now(),
            code: AtomicI32::new(-1),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            counted: OnceLock::new(),
            stream: None,
        }
    }
}

/// Ends when it is dropped. A request that is dropped before it was answered was cancelled.
pub struct Serving {
    metrics: Metrics,
    door: Door,
    place: Place,
    trace: Trace,
    began: Instant,
    /// How it ends; negative as long as that is not known.
    code: AtomicI32,
    sent: AtomicU64,
    received: AtomicU64,
    /// What of the request's messages has come, where its body is still read.
    counted: OnceLock<Arc<AtomicU64>>,
    stream: Option<Level>,
}

impl Serving {
    /// It ends with this, as far as is known.
    pub fn ends(&self, code: Code) {
        self.code.store(code as i32, Ordering::Relaxed);
    }

    /// It ends with one message that answers another, of so many bytes.
    pub fn hit(&self, received: usize, sent: usize, code: Code) {
        self.received.store(length(received), Ordering::Relaxed);
        self.sent.store(length(sent), Ordering::Relaxed);
        self.ends(code);
    }

    /// `body`, with its messages counted.
    pub fn receives<B>(&self, body: B) -> Received<B> {
        let counted = Arc::clone(self.counted.get_or_init(Arc::default));
        Received {
            body,
            counted,
            messages: Messages::default(),
        }
    }

    /// `response`, with whose end the request ends.
    pub fn answers(mut self, response: Response<tonic::body::Body>) -> Response<tonic::body::Body> {
        match code_in(response.headers()) {
            Some(code) => self.ends(code),
            None => {
                let method = self.metrics.rpcs().method(self.place);
                self.stream = kind_of(method).map(|kind| self.metrics.stream(kind));
            }
        }
        response.map(|body| {
            tonic::body::Body::new(Sent {
                body,
                serving: self,
                messages: Messages::default(),
            })
        })
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let code = match *self.code.get_mut() {
            unknown if unknown < 0 => Code::Cancelled,
            code => Code::from_i32(code),
        };
        let took = self.began.elapsed();
        let rpcs = self.metrics.rpcs();
        match self.door {
            Door::Aws => rpcs.ended_at_aws_door(self.place, code, took),
            _ => {
                let received = self.counted.get().map_or(&self.received, |counted| counted);
                let received = received.load(Ordering::Relaxed);
                rpcs.ended(self.place, code, took, *self.sent.get_mut(), received);
            }
        }
        self.metrics.active(self.door, -1);
        self.trace.note(|span| {
            let name = name_of(code);
            span.set_attribute(KeyValue::new("rpc.response.status_code", name));
            if code != Code::Ok {
                span.set_attribute(KeyValue::new("error.type", name));
            }
            if is_ours(code) {
                span.set_status(Status::error(name));
            }
            span.end();
        });
    }
}

/// Whether it is the gateway, and not its caller, that an error speaks of.
fn is_ours(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

/// What kind of stream an rpc answers with, if it does.
fn kind_of(method: &str) -> Option<&'static str> {
    let (service, name) = method.rsplit_once('/')?;
    match service.rsplit('.').next()? {
        "WaitService" => Some("wait"),
        "PaginatorService" => Some("page"),
        "GatewayService" => {
            let deploys = Rpc::of(name).is_some() && name.starts_with("Deploy");
            deploys.then_some("deploy")
        }
        "Health" => (name == "Watch").then_some("other"),
        "ServerReflection" => Some("other"),
        _ => None,
    }
}

fn code_in(headers: &HeaderMap) -> Option<Code> {
    let code = headers.get(tonic::Status::GRPC_STATUS)?;
    Some(Code::from_bytes(code.as_bytes()))
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Counts the bytes of messages, without what stands before them.
#[derive(Default)]
struct Messages {
    /// Of the prefix, as far as it has come.
    prefix: [u8; PREFIX],
    seen: usize,
    /// Of the message.
    left: usize,
}

impl Messages {
    fn count(&mut self, mut data: &[u8]) -> u64 {
        let mut bytes = 0;
        while !data.is_empty() {
            if self.left > 0 {
                let taken = self.left.min(data.len());
                self.left -= taken;
                bytes += taken;
                data = &data[taken..];
                continue;
            }
            self.prefix[self.seen] = data[0];
            self.seen += 1;
            data = &data[1..];
            if self.seen == PREFIX {
                let [_, a, b, c, d] = self.prefix;
                let left = u32::from_be_bytes([a, b, c, d]);
                self.left = usize::try_from(left).unwrap_or(usize::MAX);
                self.seen = 0;
            }
        }
        length(bytes)
    }
}

/// The body of a request.
pub struct Received<B> {
    body: B,
    counted: Arc<AtomicU64>,
    messages: Messages,
}

impl<B> Body for Received<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            let bytes = this.messages.count(data);
            this.counted.fetch_add(bytes, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer.
struct Sent {
    body: tonic::body::Body,
    serving: Serving,
    messages: Messages,
}

impl Body for Sent {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let this = self.get_mut();
        let body = Pin::new(&mut this.body);
        let polled = this.serving.trace.during(|| body.poll_frame(context));
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    *this.serving.sent.get_mut() += this.messages.count(data);
                }
                if let Some(code) = frame.trailers_ref().and_then(code_in) {
                    this.serving.ends(code);
                }
            }
            Poll::Ready(Some(Err(failure))) => this.serving.ends(failure.code()),
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, StreamBody};
    use tonic::body::Body as Boxed;

    use super::*;

    fn telemetry() -> Telemetry {
        Telemetry {
            metrics: Metrics::new().unwrap(),
            tracing: Tracing::default(),
        }
    }

    fn begun(telemetry: &Telemetry, path: &str) -> Serving {
        telemetry.grpc(path, &HeaderMap::new(), &mut Arrival::default())
    }

    #[test]
    fn messages_are_counted_without_what_stands_before_them_however_they_come() {
        let text = b"\0\0\0\0\x03abc\0\0\0\0\0\x01\0\0\0\x02de";
        for size in 1..=text.len() {
            let mut messages = Messages::default();
            let bytes: u64 = text.chunks(size).map(|piece| messages.count(piece)).sum();
            assert_eq!(bytes, 5, "{size}");
        }
    }

    #[tokio::test]
    async fn a_request_ends_with_the_trailers_of_its_answer() {
        let telemetry = telemetry();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "5".parse().unwrap());
        let frames = [
            Ok::<_, tonic::Status>(Frame::data(Bytes::from_static(b"\0\0\0\0\x03abc"))),
            Ok(Frame::trailers(trailers)),
        ];
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let serving = begun(&telemetry, "/proton.v1.ProtonService/GetService");
        let response = serving.answers(Response::new(Boxed::new(body)));
        let open = r#"proton_gateway_requests_active{door="grpc"} "#;
        assert!(
            telemetry
                .metrics
                .page()
                .unwrap()
                .contains(&format!("{open}1"))
        );
        response.into_body().collect().await.unwrap();
        let page = telemetry.metrics.page().unwrap();
        assert!(page.contains(&format!("{open}0")), "{page}");
        let sum = r#"sent_total_compressed_message_size_bytes_sum{grpc_method="proton.v1.ProtonService/GetService",grpc_status="NOT_FOUND"} 3"#;
        assert!(page.contains(sum), "{page}");
    }

    #[test]
    fn a_request_that_is_given_up_was_cancelled_and_an_unknown_rpc_has_no_name_of_its_own() {
        let telemetry = telemetry();
        drop(begun(&telemetry, "/proton.v1.ProtonService/Whatever"));
        let page = telemetry.metrics.page().unwrap();
        let count = r#"grpc_server_call_duration_seconds_count{grpc_method="other",grpc_status="CANCELLED"} 1"#;
        assert!(page.contains(count), "{page}");
        assert!(!page.contains("Whatever"), "{page}");
    }
}

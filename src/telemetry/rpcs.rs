//! What is recorded of requests at the doors and of attempts upstream, under the names that gRPC
//! (gRFC A66) and OpenTelemetry give it.
//!
//! There is one set of instruments for each rpc and outcome that was seen, found without a search:
//! each request needs them.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{BoundCounter, BoundHistogram, Counter, Histogram, Meter};
use tonic::Code;

use crate::api::{Operation, RPCS};

/// gRPC's own bounds, in seconds and in bytes.
const A66_DURATIONS: [f64; 41] = [
    0.0, 0.00001, 0.00005, 0.0001, 0.0003, 0.0006, 0.0008, 0.001, 0.002, 0.003, 0.004, 0.005,
    0.006, 0.008, 0.01, 0.013, 0.016, 0.02, 0.025, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1, 0.13, 0.16,
    0.2, 0.25, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0,
];
const A66_SIZES: [f64; 14] = [
    0.0,
    1024.0,
    2048.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
    1_073_741_824.0,
    4_294_967_296.0,
];
/// OpenTelemetry's, in seconds.
const OTEL_DURATIONS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// Rpcs that are not in the contract, and are answered all the same.
const OTHERS: [&str; 5] = [
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/List",
    "grpc.health.v1.Health/Watch",
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];
/// What all rpcs are called that nobody knows.
const UNKNOWN: &str = "other";
/// How many codes there are.
const CODES: usize = 17;

/// By which protocol a request came.
pub const GRPC: &str = "grpc";
/// And AWS's own, as OpenTelemetry calls it.
pub const AWS: &str = "aws-api";

/// An rpc, as far as requests are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(usize);

pub(super) struct Rpcs {
    /// With the slash before them.
    by_path: HashMap<String, Place>,
    known: Vec<Rpc>,
    started: Counter<u64>,
    durations: Histogram<f64>,
    sent: Histogram<u64>,
    received: Histogram<u64>,
    otel: Histogram<f64>,
    upstream: Histogram<f64>,
}

struct Rpc {
    /// `proton.v1.ProtonService/GetService`.
    method: String,
    started: OnceLock<BoundCounter<u64>>,
    grpc: [OnceLock<Box<Ended>>; CODES],
    aws: [OnceLock<BoundHistogram<f64>>; CODES],
    upstream: OnceLock<BoundHistogram<f64>>,
}

struct Ended {
    duration: BoundHistogram<f64>,
    sent: BoundHistogram<u64>,
    received: BoundHistogram<u64>,
    otel: BoundHistogram<f64>,
}

impl Rpcs {
    pub fn new(meter: &Meter) -> Self {
        let spans = |name, description, bounds: &[f64]| {
            let histogram = meter.f64_histogram(name).with_unit("s");
            histogram
                .with_description(description)
                .with_boundaries(bounds.to_vec())
                .build()
        };
        let bytes = |name, description| {
            let histogram = meter.u64_histogram(name).with_unit("By");
            histogram
                .with_description(description)
                .with_boundaries(A66_SIZES.to_vec())
                .build()
        };
        // Those of the operations first, in their order.
        let contract = RPCS
            .iter()
            .map(|rpc| format!("{}/{}", rpc.service, rpc.method));
        let others = OTHERS.into_iter().chain([UNKNOWN]).map(str::to_owned);
        let known: Vec<_> = contract.chain(others).map(Rpc::new).collect();
        let paths = known.iter().enumerate();
        Self {
            by_path: paths
                .map(|(index, rpc)| (format!("/{}", rpc.method), Place(index)))
                .collect(),
            known,
            started: meter
                .u64_counter("grpc.server.call.started")
                .with_unit("{call}")
                .with_description("Requests that began.")
                .build(),
            durations: spans(
                "grpc.server.call.duration",
                "From the headers of a request to the end of its answer.",
                &A66_DURATIONS,
            ),
            sent: bytes(
                "grpc.server.call.sent_total_compressed_message_size",
                "Messages that were sent for one request.",
            ),
            received: bytes(
                "grpc.server.call.rcvd_total_compressed_message_size",
                "Messages that were received of one request.",
            ),
            otel: spans(
                "rpc.server.call.duration",
                "How long requests took at the doors.",
                &OTEL_DURATIONS,
            ),
            upstream: spans(
                "rpc.client.call.duration",
                "How long attempts took that were sent upstream.",
                &OTEL_DURATIONS,
            ),
        }
    }

    /// The rpc at a path; that of all others where nobody knows it.
    pub fn at(&self, path: &str) -> Place {
        let other = Place(self.known.len() - 1);
        self.by_path.get(path).copied().unwrap_or(other)
    }

    /// The rpc of an operation.
    pub fn of(&self, operation: Option<Operation>) -> Place {
        let other = self.known.len() - 1;
        Place(operation.map_or(other, |operation| operation as usize))
    }

    pub fn method(&self, place: Place) -> &str {
        &self.known[place.0].method
    }

    pub fn started(&self, place: Place) {
        let rpc = &self.known[place.0];
        let bound = rpc
            .started
            .get_or_init(|| self.started.bind(&[text("grpc.method", &rpc.method)]));
        bound.add(1);
    }

    pub fn ended(&self, place: Place, code: Code, took: Duration, sent: u64, received: u64) {
        let rpc = &self.known[place.0];
        let ended = rpc.grpc[code as usize].get_or_init(|| {
            let status = KeyValue::new("grpc.status", name_of(code));
            let labels = [text("grpc.method", &rpc.method), status];
            Box::new(Ended {
                duration: self.durations.bind(&labels),
                sent: self.sent.bind(&labels),
                received: self.received.bind(&labels),
                otel: self.otel.bind(&labels_of(GRPC, &rpc.method, code)),
            })
        });
        let seconds = took.as_secs_f64();
        ended.duration.record(seconds);
        ended.sent.record(sent);
        ended.received.record(received);
        ended.otel.record(seconds);
    }

    /// The same for the AWS door.
    pub fn ended_at_aws_door(&self, place: Place, code: Code, took: Duration) {
        let rpc = &self.known[place.0];
        let bound = rpc.aws[code as usize]
            .get_or_init(|| self.otel.bind(&labels_of(AWS, &rpc.method, code)));
        bound.record(took.as_secs_f64());
    }

    /// Records an attempt that was sent upstream. `failure` is the reason of its error.
    pub fn attempt(&self, operation: Operation, failure: Option<&'static str>, took: Duration) {
        let rpc = &self.known[operation as usize];
        let labels = || {
            let method = format!("Proton/{}", operation.name());
            vec![
                KeyValue::new("rpc.system.name", AWS),
                KeyValue::new("rpc.method", method),
            ]
        };
        let seconds = took.as_secs_f64();
        match failure {
            None => rpc
                .upstream
                .get_or_init(|| self.upstream.bind(&labels()))
                .record(seconds),
            Some(reason) => {
                let mut labels = labels();
                labels.push(KeyValue::new("error.type", reason));
                self.upstream.record(seconds, &labels);
            }
        }
    }
}

impl Rpc {
    fn new(method: String) -> Self {
        Self {
            method,
            started: OnceLock::new(),
            grpc: Default::default(),
            aws: Default::default(),
            upstream: OnceLock::new(),
        }
    }
}

fn text(key: &'static str, value: &str) -> KeyValue {
    KeyValue::new(key, value.to_owned())
}

fn labels_of(system: &'static str, method: &str, code: Code) -> Vec<KeyValue> {
    let mut labels = vec![
        KeyValue::new("rpc.system.name", system),
        text("rpc.method", method),
        KeyValue::new("rpc.response.status_code", name_of(code)),
    ];
    if code != Code::Ok {
        labels.push(KeyValue::new("error.type", name_of(code)));
    }
    labels
}

/// As gRPC writes it.
pub fn name_of(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

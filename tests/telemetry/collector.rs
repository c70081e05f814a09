//! A collector in this process, as far as tests need one.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::metrics::v1 as metrics;
use opentelemetry_proto::tonic::collector::trace::v1 as traces;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::ResourceMetrics;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

#[derive(Clone, Default)]
pub struct Collector(Arc<Received>);

#[derive(Default)]
struct Received {
    spans: Mutex<Vec<Span>>,
    resources: Mutex<Vec<Resource>>,
    metrics: Mutex<Vec<ResourceMetrics>>,
    headers: Mutex<Option<MetadataMap>>,
    /// Somebody has asked.
    asked: Notify,
    hangs: bool,
}

impl Collector {
    /// A collector that takes everything, and its address.
    pub async fn start() -> (Self, SocketAddr) {
        Self::default().serve().await
    }

    /// The same, which never answers.
    pub async fn hanging() -> (Self, SocketAddr) {
        let hangs = Received {
            hangs: true,
            ..Received::default()
        };
        Self(Arc::new(hangs)).serve().await
    }

    async fn serve(self) -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let serving = tonic::transport::Server::builder()
            .add_service(traces::trace_service_server::TraceServiceServer::new(
                self.clone(),
            ))
            .add_service(metrics::metrics_service_server::MetricsServiceServer::new(
                self.clone(),
            ))
            .serve_with_incoming(connections);
        tokio::spawn(serving);
        (self, address)
    }

    /// Returns when somebody has asked.
    pub async fn asked(&self) {
        self.0.asked.notified().await;
    }

    pub fn spans(&self) -> Vec<Span> {
        self.0.spans.lock().unwrap().clone()
    }

    pub fn resources(&self) -> Vec<Resource> {
        self.0.resources.lock().unwrap().clone()
    }

    pub fn metrics(&self) -> Vec<ResourceMetrics> {
        self.0.metrics.lock().unwrap().clone()
    }

    /// Of the latest request.
    pub fn header(&self, name: &str) -> Option<String> {
        let headers = self.0.headers.lock().unwrap();
        let value = headers.as_ref()?.get(name)?;
        Some(value.to_str().unwrap().to_owned())
    }

    async fn take<T>(&self, request: Request<T>) -> T {
        let (headers, _, message) = request.into_parts();
        *self.0.headers.lock().unwrap() = Some(headers);
        self.0.asked.notify_one();
        if self.0.hangs {
            std::future::pending::<()>().await;
        }
        message
    }
}

#[tonic::async_trait]
impl traces::trace_service_server::TraceService for Collector {
    async fn export(
        &self,
        request: Request<traces::ExportTraceServiceRequest>,
    ) -> Result<Response<traces::ExportTraceServiceResponse>, Status> {
        for of_resource in self.take(request).await.resource_spans {
            let resource = of_resource.resource;
            self.0.resources.lock().unwrap().extend(resource);
            let spans = of_resource.scope_spans.into_iter();
            let spans = spans.flat_map(|scope| scope.spans);
            self.0.spans.lock().unwrap().extend(spans);
        }
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl metrics::metrics_service_server::MetricsService for Collector {
    async fn export(
        &self,
        request: Request<metrics::ExportMetricsServiceRequest>,
    ) -> Result<Response<metrics::ExportMetricsServiceResponse>, Status> {
        let received = self.take(request).await.resource_metrics;
        self.0.metrics.lock().unwrap().extend(received);
        Ok(Response::new(Default::default()))
    }
}

/// What an attribute says, as text; nothing where it is not there.
pub fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let attribute = attributes.iter().find(|attribute| attribute.key == key)?;
    Some(match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::BoolValue(yes) => yes.to_string(),
        other => format!("{other:?}"),
    })
}

/// The spans below one, each with those below it, by their names: `call(cache, engine.transaction)`.
pub fn tree(spans: &[Span], top: &Span) -> String {
    let mut below: Vec<_> = spans
        .iter()
        .filter(|span| span.parent_span_id == top.span_id && span.trace_id == top.trace_id)
        .collect();
    below.sort_by_key(|span| span.start_time_unix_nano);
    let below: Vec<_> = below.into_iter().map(|span| tree(spans, span)).collect();
    match below.is_empty() {
        true => top.name.clone(),
        false => format!("{}({})", top.name, below.join(", ")),
    }
}

/// The spans at the top of their traces, in the order in which they began.
pub fn tops(spans: &[Span]) -> Vec<Span> {
    let is_top = |span: &&Span| {
        !spans
            .iter()
            .any(|other| other.span_id == span.parent_span_id)
    };
    let mut tops: Vec<_> = spans.iter().filter(is_top).cloned().collect();
    tops.sort_by_key(|span| span.start_time_unix_nano);
    tops
}

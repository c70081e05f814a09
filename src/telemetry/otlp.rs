//! Traces and metrics on their way to a collector (OTLP over gRPC).
//!
//! Nobody waits for it but the end of the program, and that not for long. What does not get there is
//! counted, and logged from time to time.

use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::trace::TracerProvider;
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, Span, SpanData, SpanExporter,
    SpanProcessor,
};
use tonic::metadata::MetadataMap;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use uuid::Uuid;

use super::metrics::Metrics;
use super::serving::Telemetry;
use super::trace::Tracing;
use crate::config::telemetry::TelemetryConfig;

/// How often it is said that something is lost.
const REMINDER: Duration = Duration::from_secs(60);
/// How much longer than an export the end may take.
const MARGIN: Duration = Duration::from_secs(1);
/// The most spans in one export.
const BATCH: usize = 512;

/// What sends traces and metrics. It is ended when nothing more is to come.
pub struct Sender {
    traces: SdkTracerProvider,
    metrics: Option<Metrics>,
    patience: Duration,
}

/// Telemetry after `config`, and what sends it, if anything does. The channel needs a runtime.
pub fn open(config: &TelemetryConfig) -> Result<(Telemetry, Option<Sender>), String> {
    let Some(endpoint) = &config.endpoint else {
        let metrics = Metrics::new().map_err(|error| error.to_string())?;
        let tracing = Tracing::default();
        return Ok((Telemetry { metrics, tracing }, None));
    };
    let headers = config.headers().map_err(|error| error.to_string())?;
    let metadata = MetadataMap::from_headers(headers);
    let patience = config.export_timeout.0;
    let channel = channel(endpoint, config.ca_file.as_deref(), patience)?;
    let resource = resource(config);
    let loss = Arc::new(Loss::default());
    let fault = |error: opentelemetry_otlp::ExporterBuildError| format!("telemetry: {error}");
    let metrics = if config.metrics {
        let exporter = opentelemetry_otlp::MetricExporter::builder()
            .with_tonic()
            .with_channel(channel.clone())
            .with_metadata(metadata.clone())
            .with_timeout(patience)
            .build()
            .map_err(fault)?;
        let exporter = Counted {
            inner: exporter,
            waiting: Arc::default(),
            loss: Arc::clone(&loss),
        };
        Metrics::sent(resource.clone(), exporter, config.metrics_interval.0)
    } else {
        Metrics::new()
    };
    let metrics = metrics.map_err(|error| error.to_string())?;
    loss.counted_by(metrics.clone());
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_channel(channel)
        .with_metadata(metadata)
        .with_timeout(patience)
        .build()
        .map_err(fault)?;
    let waiting = Arc::new(AtomicUsize::new(0));
    let exporter = Counted {
        inner: exporter,
        waiting: Arc::clone(&waiting),
        loss: Arc::clone(&loss),
    };
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(config.queue)
        .with_max_export_batch_size(BATCH.min(config.queue))
        .with_scheduled_delay(config.batch_delay.0)
        .build();
    let queue = Queue {
        inner: BatchSpanProcessor::builder(exporter)
            .with_batch_config(batches)
            .build(),
        most: config.queue,
        waiting,
        loss,
    };
    let traces = SdkTracerProvider::builder()
        .with_resource(resource)
        .with_span_processor(queue)
        .build();
    let tracing = Tracing::new(traces.tracer("proton-gateway"), config.sample_ratio);
    tracing::info!(
        endpoint,
        sample_ratio = config.sample_ratio,
        metrics = config.metrics,
        "traces are sent to a collector"
    );
    let sender = Sender {
        traces,
        metrics: config.metrics.then(|| metrics.clone()),
        patience,
    };
    Ok((Telemetry { metrics, tracing }, Some(sender)))
}

impl Sender {
    /// Sends what is left, if that does not take too long.
    pub async fn end(self) {
        let Self {
            traces,
            metrics,
            patience,
        } = self;
        let patience = patience + MARGIN;
        let traces = move || traces.shutdown_with_timeout(patience).is_ok();
        let traces = tokio::task::spawn_blocking(traces);
        let metrics = move || metrics.is_none_or(|metrics| metrics.end());
        let metrics = tokio::task::spawn_blocking(metrics);
        let both = futures_util::future::join(traces, metrics);
        // A thread that still sends is left behind.
        let sent = tokio::time::timeout(patience, both).await;
        if !matches!(sent, Ok((Ok(true), Ok(true)))) {
            tracing::warn!("the last traces and metrics did not reach the collector");
        }
    }
}

/// Not connected yet. It is asked for each export whether there is a collector now.
fn channel(endpoint: &str, ca: Option<&Path>, patience: Duration) -> Result<Channel, String> {
    let mut builder = Endpoint::from_shared(endpoint.to_owned())
        .map_err(|error| format!("telemetry.endpoint: {error}"))?
        .connect_timeout(patience)
        .timeout(patience);
    if let Some(path) = ca {
        let wrong = |problem: String| format!("telemetry.ca-file: {}: {problem}", path.display());
        let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
        builder = builder
            .tls_config(tls)
            .map_err(|error| wrong(error.to_string()))?;
    }
    Ok(builder.connect_lazy())
}

fn resource(config: &TelemetryConfig) -> Resource {
    let more = config.resource_attributes.iter();
    let more = more.map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    Resource::builder_empty()
        .with_service_name(config.service_name.clone())
        .with_attributes(more)
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new(
            "service.instance.id",
            Uuid::new_v4().to_string(),
        ))
        .build()
}

/// What did not get there.
#[derive(Debug, Default)]
struct Loss {
    metrics: OnceLock<Metrics>,
    unsaid: AtomicU64,
    said: Mutex<Option<Instant>>,
}

impl Loss {
    fn counted_by(&self, metrics: Metrics) {
        // Once, before anything is sent.
        drop(self.metrics.set(metrics));
    }

    fn count(&self, signal: &'static str, count: usize, why: &str) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        if let Some(metrics) = self.metrics.get() {
            metrics.lost(signal, count);
        }
        self.unsaid.fetch_add(count, Ordering::Relaxed);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_some_and(|said| said.elapsed() < REMINDER) {
            return;
        }
        *said = Some(Instant::now());
        drop(said);
        let lost = self.unsaid.swap(0, Ordering::Relaxed);
        tracing::warn!(
            signal,
            lost,
            cause = why,
            "telemetry does not reach its collector; calls go on"
        );
    }
}

/// An exporter whose losses are counted.
#[derive(Debug)]
struct Counted<E> {
    inner: E,
    waiting: Arc<AtomicUsize>,
    loss: Arc<Loss>,
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        let outcome = self.inner.export(batch).await;
        if let Err(error) = &outcome {
            self.loss.count("traces", count, &error.to_string());
        }
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl<E: PushMetricExporter> PushMetricExporter for Counted<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let outcome = self.inner.export(metrics).await;
        if let Err(error) = &outcome {
            self.loss.count("metrics", 1, &error.to_string());
        }
        outcome
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.inner.temporality()
    }
}

/// Spans that wait to be sent: so many, and no more.
#[derive(Debug)]
struct Queue {
    inner: BatchSpanProcessor,
    most: usize,
    waiting: Arc<AtomicUsize>,
    loss: Arc<Loss>,
}

impl SpanProcessor for Queue {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.most {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.loss.count("traces", 1, "the queue is full");
            return;
        }
        self.inner.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

//! Logs and metrics of the process.

mod fields;
mod lines;

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, MeterProvider};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Encoder, Registry, TextEncoder};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use self::lines::Lines;
pub use self::lines::Written;

/// The instruments, and the page that shows them. Clones share them.
#[derive(Clone)]
pub struct Metrics(Arc<Instruments>);

struct Instruments {
    calls: Counter<u64>,
    durations: Histogram<f64>,
    limited: Counter<u64>,
    upstream_calls: Gauge<u64>,
    audit_lost: Counter<u64>,
    cache: Counter<u64>,
    cache_bytes: Gauge<u64>,
    retries: Counter<u64>,
    hedges: Counter<u64>,
    circuit: Gauge<u64>,
    circuit_refused: Counter<u64>,
    configuration_current: Gauge<u64>,
    registry: Registry,
    /// Keeps the instruments alive.
    _provider: SdkMeterProvider,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    pub fn new() -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .without_target_info()
            .build()
            .map_err(|error| MetricsError(error.to_string()))?;
        let provider = SdkMeterProvider::builder().with_reader(exporter).build();
        let meter = provider.meter("proton-gateway");
        Ok(Self(Arc::new(Instruments {
            calls: meter
                .u64_counter("proton_gateway_calls")
                .with_description("Calls that ended, by operation, door and outcome.")
                .build(),
            durations: meter
                .f64_histogram("proton_gateway_call_duration")
                .with_unit("s")
                .with_description("How long calls took inside the gateway.")
                .with_boundaries(vec![
                    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
                ])
                .build(),
            limited: meter
                .u64_counter("proton_gateway_limited")
                .with_description(
                    "Calls and streams that a limit refused, or would have where it is in the shadow.",
                )
                .build(),
            upstream_calls: meter
                .u64_gauge("proton_gateway_upstream_calls_allowed")
                .with_description("Calls that the upstream is asked for at the same time, at most.")
                .build(),
            audit_lost: meter
                .u64_counter("proton_gateway_audit_lost")
                .with_description("Audit records that could not be written.")
                .build(),
            cache: meter
                .u64_counter("proton_gateway_cache")
                .with_description("Reads, by how the cache took part in them.")
                .build(),
            cache_bytes: meter
                .u64_gauge("proton_gateway_cache_bytes")
                .with_description("What the answers that are kept take, about.")
                .build(),
            retries: meter
                .u64_counter("proton_gateway_retries")
                .with_description("Failed attempts that could be repeated, by what came of that.")
                .build(),
            hedges: meter
                .u64_counter("proton_gateway_hedges")
                .with_description("Reads that were slow to be answered, by what came of asking twice.")
                .build(),
            circuit: meter
                .u64_gauge("proton_gateway_circuit_state")
                .with_description("The circuit of an upstream: 0 closed, 1 half-open, 2 open.")
                .build(),
            circuit_refused: meter
                .u64_counter("proton_gateway_circuit_refused")
                .with_description("Attempts that were not made since the circuit was open.")
                .build(),
            configuration_current: meter
                .u64_gauge("proton_gateway_configuration_current")
                .with_description("Whether what holds is what the configuration's file says: 1, or 0.")
                .build(),
            registry,
            _provider: provider,
        })))
    }

    /// Records one call. `outcome` is `OK`, a reason, or `ABANDONED`.
    pub fn call(
        &self,
        operation: &'static str,
        door: &'static str,
        outcome: &'static str,
        elapsed: Duration,
    ) {
        self.0.calls.add(
            1,
            &[
                KeyValue::new("operation", operation),
                KeyValue::new("door", door),
                KeyValue::new("outcome", outcome),
            ],
        );
        self.0.durations.record(
            elapsed.as_secs_f64(),
            &[KeyValue::new("operation", operation)],
        );
    }

    /// Records a refusal. `limit` says whose limit of what it was; `shadow`, that nothing was refused.
    pub fn limited(&self, class: &'static str, limit: &'static str, shadow: bool) {
        self.0.limited.add(
            1,
            &[
                KeyValue::new("class", class),
                KeyValue::new("limit", limit),
                KeyValue::new("shadow", shadow),
            ],
        );
    }

    /// Records how many calls the upstream of this name is asked for at the same time.
    pub fn upstream_calls(&self, upstream: &str, allowed: u64) {
        let name = KeyValue::new("upstream", upstream.to_owned());
        self.0.upstream_calls.record(allowed, &[name]);
    }

    /// Records that an audit record could not be written.
    pub fn audit_lost(&self) {
        self.0.audit_lost.add(1, &[]);
    }

    /// Records how a read was answered: `hit`, `miss`, `bypass` or `coalesced`.
    pub fn cache(&self, status: &'static str) {
        self.0.cache.add(1, &[KeyValue::new("status", status)]);
    }

    /// Records what the answers take that are kept.
    pub fn cache_bytes(&self, bytes: u64) {
        self.0.cache_bytes.record(bytes, &[]);
    }

    /// Records what came of an attempt that failed and could be repeated.
    pub fn retry(&self, outcome: &'static str) {
        self.0.retries.add(1, &[KeyValue::new("outcome", outcome)]);
    }

    /// Records what came of asking for a read twice.
    pub fn hedge(&self, outcome: &'static str) {
        self.0.hedges.add(1, &[KeyValue::new("outcome", outcome)]);
    }

    /// Records the state of the circuit of the upstream of this name.
    pub fn circuit(&self, upstream: &str, state: u64) {
        let name = KeyValue::new("upstream", upstream.to_owned());
        self.0.circuit.record(state, &[name]);
    }

    /// Records that the circuit of the upstream of this name refused an attempt.
    pub fn circuit_refused(&self, upstream: &str) {
        let name = KeyValue::new("upstream", upstream.to_owned());
        self.0.circuit_refused.add(1, &[name]);
    }

    /// Records whether what holds is what the configuration's file says.
    pub fn configuration_is_current(&self, current: bool) {
        self.0.configuration_current.record(current.into(), &[]);
    }

    /// The page for Prometheus.
    pub fn page(&self) -> Result<String, MetricsError> {
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.0.registry.gather(), &mut text)
            .map_err(|error| MetricsError(error.to_string()))?;
        String::from_utf8(text).map_err(|error| MetricsError(error.to_string()))
    }
}

/// The metrics cannot be set up or shown.
#[derive(Debug, thiserror::Error)]
#[error("metrics: {0}")]
pub struct MetricsError(String);

/// How log lines look.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Deserialize, serde::Serialize,
)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Reads what is to be logged, in the syntax of tracing's `EnvFilter`.
pub fn filter(text: &str) -> Result<EnvFilter, String> {
    // A word alone would be a target, with all its levels: most likely it was meant as a level.
    let word = |directive: &&str| {
        let level = directive.parse::<LevelFilter>().is_ok();
        !level && !directive.is_empty() && !directive.contains(['=', '[', ']', '{', '}'])
    };
    if let Some(word) = text.split(',').map(str::trim).find(word) {
        return Err(format!(
            "{word:?} is no level like info or debug; if it is a target, write {word}=debug"
        ));
    }
    EnvFilter::try_new(text).map_err(|error| format!("the filter {text:?} cannot be read: {error}"))
}

/// Sends log lines to standard error, those that [`filter`] lets through, until what is returned
/// is dropped.
pub fn log(text: &str, format: LogFormat) -> Result<Written, String> {
    let filter = filter(text)?;
    let (lines, written) = Lines::to(std::io::stderr())
        .map_err(|error| format!("cannot start the log's thread: {error}"))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || lines.clone());
    match format {
        LogFormat::Text => lines
            .fmt_fields(fields::Fields)
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    }
    .map_err(|error| error.to_string())?;
    Ok(written)
}

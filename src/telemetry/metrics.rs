//! The metrics of the process: one meter, for the page of Prometheus and for a collector.
//!
//! All of them are listed in `docs/telemetry.md`. No label has the name of a caller or a resource.

mod fresh;
mod readout;
pub mod watched;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{
    BoundCounter, BoundHistogram, BoundUpDownCounter, Counter, Gauge, Histogram, Meter,
    MeterProvider, UpDownCounter,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use prometheus::{Encoder, Registry, TextEncoder};

use super::process;
use super::rpcs::Rpcs;
use crate::api::Operation;
use crate::gateway::Door;

/// How long calls take, in seconds.
const DURATIONS: [f64; 13] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
];
/// How long mutations wait, in seconds.
const WAITS: [f64; 10] = [0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0];
/// Mutations in one commit.
const SIZES: [f64; 7] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

/// The instruments, and the page that shows them. Clones share them.
#[derive(Clone)]
pub struct Metrics(Arc<Instruments>);

struct Instruments {
    calls: Counter<u64>,
    durations: Histogram<f64>,
    /// Of the calls that succeeded: found without a search.
    succeeded: Vec<[OnceLock<BoundCounter<u64>>; 3]>,
    lasted: Vec<OnceLock<BoundHistogram<f64>>>,
    rpcs: Rpcs,
    requests: UpDownCounter<i64>,
    active: [OnceLock<BoundUpDownCounter<i64>>; 3],
    streams: UpDownCounter<i64>,
    pollers: UpDownCounter<i64>,
    connections: UpDownCounter<i64>,
    accepted: Counter<u64>,
    limited: Counter<u64>,
    upstream_calls: Gauge<u64>,
    audit_lost: Counter<u64>,
    cache: Counter<u64>,
    hits: OnceLock<BoundCounter<u64>>,
    cache_bytes: Gauge<u64>,
    retries: Counter<u64>,
    hedges: Counter<u64>,
    circuit: Gauge<u64>,
    circuit_refused: Counter<u64>,
    configuration_current: Gauge<u64>,
    idempotency: Counter<u64>,
    idempotency_entries: Gauge<u64>,
    idempotency_bytes: Gauge<u64>,
    order_waiting: UpDownCounter<i64>,
    order_waits: Histogram<f64>,
    deployments_in_progress: Gauge<u64>,
    deployments: Counter<u64>,
    oldest_deployment: Gauge<f64>,
    tasks: Gauge<u64>,
    task_overdue: Gauge<f64>,
    commits: Histogram<f64>,
    commit_sizes: Histogram<u64>,
    lost: Counter<u64>,
    /// Absent as long as nothing has to be counted.
    ask: OnceLock<fresh::Ask>,
    meter: Meter,
    registry: Registry,
    /// Keeps the instruments alive.
    provider: SdkMeterProvider,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

/// The metrics cannot be set up or shown.
#[derive(Debug, thiserror::Error)]
#[error("metrics: {0}")]
pub struct MetricsError(String);

impl Metrics {
    /// For the page alone.
    pub fn new() -> Result<Self, MetricsError> {
        Self::build(SdkMeterProvider::builder())
    }

    /// The same, and sent every `interval` by `exporter` as those of `resource`.
    pub(super) fn sent(
        resource: Resource,
        exporter: impl PushMetricExporter,
        interval: Duration,
    ) -> Result<Self, MetricsError> {
        let reader = PeriodicReader::builder(exporter).with_interval(interval);
        let provider = SdkMeterProvider::builder().with_resource(resource);
        Self::build(provider.with_reader(reader.build()))
    }

    fn build(
        provider: opentelemetry_sdk::metrics::MeterProviderBuilder,
    ) -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .without_target_info()
            .build()
            .map_err(|error| MetricsError(error.to_string()))?;
        let provider = provider.with_reader(exporter).build();
        let meter = provider.meter("proton-gateway");
        process::observe(&meter);
        let counter = |name, description| {
            let counter = meter.u64_counter(name);
            counter.with_description(description).build()
        };
        let gauge = |name, description| {
            let gauge = meter.u64_gauge(name);
            gauge.with_description(description).build()
        };
        let seconds = |name, description| {
            let gauge = meter.f64_gauge(name).with_unit("s");
            gauge.with_description(description).build()
        };
        let level = |name, description| {
            let level = meter.i64_up_down_counter(name);
            level.with_description(description).build()
        };
        let spans = |name, description, bounds: &[f64]| {
            let histogram = meter.f64_histogram(name).with_unit("s");
            histogram
                .with_description(description)
                .with_boundaries(bounds.to_vec())
                .build()
        };
        let instruments = Instruments {
            calls: counter(
                "proton_gateway_calls",
                "Calls that ended, by operation, door and outcome.",
            ),
            durations: spans(
                "proton_gateway_call_duration",
                "How long calls took inside the gateway.",
                &DURATIONS,
            ),
            succeeded: Operation::ALL.map(|_| Default::default()).into(),
            lasted: Operation::ALL.map(|_| OnceLock::new()).into(),
            rpcs: Rpcs::new(&meter),
            requests: level(
                "proton_gateway_requests_active",
                "Requests that are being answered, streams included.",
            ),
            active: Default::default(),
            streams: level("proton_gateway_streams_open", "Streams, by kind."),
            pollers: level(
                "proton_gateway_pollers",
                "Resources that are polled for waits.",
            ),
            connections: level(
                "proton_gateway_connections_open",
                "Connections, by listener.",
            ),
            accepted: counter(
                "proton_gateway_connections",
                "Connections that were accepted, by listener.",
            ),
            limited: counter(
                "proton_gateway_limited",
                "Calls and streams that a limit refused, or would have where it is in the shadow.",
            ),
            upstream_calls: gauge(
                "proton_gateway_upstream_calls_allowed",
                "Calls that the upstream is asked for at the same time, at most.",
            ),
            audit_lost: counter(
                "proton_gateway_audit_lost",
                "Audit records that could not be written.",
            ),
            cache: counter(
                "proton_gateway_cache",
                "Reads, by how the cache took part in them.",
            ),
            hits: OnceLock::new(),
            cache_bytes: gauge(
                "proton_gateway_cache_bytes",
                "What the answers that are kept take, about.",
            ),
            retries: counter(
                "proton_gateway_retries",
                "Failed attempts that could be repeated, by what came of that.",
            ),
            hedges: counter(
                "proton_gateway_hedges",
                "Reads that were slow to be answered, by what came of asking twice.",
            ),
            circuit: gauge(
                "proton_gateway_circuit_state",
                "The circuit of an upstream: 0 closed, 1 half-open, 2 open.",
            ),
            configuration_current: gauge(
                "proton_gateway_configuration_current",
                "Whether what holds is what the configuration's file says: 1, or 0.",
            ),
            circuit_refused: counter(
                "proton_gateway_circuit_refused",
                "Attempts that were not made since the circuit was open.",
            ),
            idempotency: counter(
                "proton_gateway_idempotency",
                "Calls with an idempotency key, by what came of the key.",
            ),
            idempotency_entries: gauge(
                "proton_gateway_idempotency_entries",
                "Idempotency keys that are kept.",
            ),
            idempotency_bytes: gauge(
                "proton_gateway_idempotency_bytes",
                "What the idempotency keys take.",
            ),
            order_waiting: level(
                "proton_gateway_order_waiting",
                "Mutations that wait for a deployment or for their turn.",
            ),
            order_waits: spans(
                "proton_gateway_order_wait_duration",
                "How long mutations waited that did.",
                &WAITS,
            ),
            deployments_in_progress: gauge(
                "proton_gateway_deployments_in_progress",
                "Deployments of the engine that are under way.",
            ),
            deployments: counter(
                "proton_gateway_deployments",
                "Deployments of the engine that ended, by outcome.",
            ),
            oldest_deployment: seconds(
                "proton_gateway_deployment_oldest_age",
                "How long the oldest deployment under way has lasted.",
            ),
            tasks: gauge(
                "proton_gateway_tasks",
                "What the engine has still to do, due or not.",
            ),
            task_overdue: seconds(
                "proton_gateway_task_overdue",
                "By how much the first task of the engine is late.",
            ),
            commits: spans(
                "proton_gateway_store_commit_duration",
                "How long commits took, to the disk and back.",
                &DURATIONS,
            ),
            commit_sizes: meter
                .u64_histogram("proton_gateway_store_commit_size")
                .with_description("Mutations in one commit.")
                .with_boundaries(SIZES.to_vec())
                .build(),
            lost: counter(
                "proton_gateway_telemetry_lost",
                "Spans and exports of metrics that did not reach the collector.",
            ),
            ask: OnceLock::new(),
            meter,
            registry,
            provider,
        };
        // What hardly ever happens is there before it does: an increase is seen from the first on.
        instruments.audit_lost.add(0, &[]);
        Ok(Self(Arc::new(instruments)))
    }

    /// Records one call. `outcome` is `OK`, a reason, or `ABANDONED`.
    pub fn call(&self, operation: Operation, door: Door, outcome: &'static str, took: Duration) {
        let Instruments {
            calls,
            durations,
            succeeded,
            lasted,
            ..
        } = &*self.0;
        let name = || KeyValue::new("operation", operation.name());
        let labels = || {
            let door = KeyValue::new("door", door.name());
            [name(), door, KeyValue::new("outcome", outcome)]
        };
        match outcome {
            "OK" => succeeded[operation as usize][door as usize]
                .get_or_init(|| calls.bind(&labels()))
                .add(1),
            _ => calls.add(1, &labels()),
        }
        lasted[operation as usize]
            .get_or_init(|| durations.bind(&[name()]))
            .record(took.as_secs_f64());
    }

    /// What is recorded of requests at the doors, and upstream.
    pub(super) fn rpcs(&self) -> &Rpcs {
        &self.0.rpcs
    }

    /// Records an attempt that was sent upstream. `failure` is the reason of its error.
    pub fn attempt(&self, operation: Operation, failure: Option<&'static str>, took: Duration) {
        self.0.rpcs.attempt(operation, failure, took);
    }

    /// Counts a request that begins (1) or ends (-1).
    pub(super) fn active(&self, door: Door, change: i64) {
        let bound = self.0.active[door as usize].get_or_init(|| {
            let door = KeyValue::new("door", door.name());
            self.0.requests.bind(&[door])
        });
        bound.add(change);
    }

    /// Counts a stream as long as what is returned is held.
    pub(super) fn stream(&self, kind: &'static str) -> Level {
        Level::of(self.0.streams.bind(&[KeyValue::new("kind", kind)]))
    }

    /// Counts a poller as long as what is returned is held.
    pub fn poller(&self) -> Level {
        Level::of(self.0.pollers.bind(&[]))
    }

    /// Counts a connection as long as what is returned is held.
    pub fn connection(&self, listener: &str) -> Level {
        let label = [KeyValue::new("listener", listener.to_owned())];
        self.0.accepted.add(1, &label);
        Level::of(self.0.connections.bind(&label))
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
        let label = || [KeyValue::new("status", status)];
        match status {
            "hit" => {
                let hits = self.0.hits.get_or_init(|| self.0.cache.bind(&label()));
                hits.add(1);
            }
            _ => self.0.cache.add(1, &label()),
        }
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

    /// Records what came of the idempotency key of a call: `first`, `replayed`, `joined`, `unknown`
    /// or `refused`.
    pub fn idempotency(&self, outcome: &'static str) {
        let label = [KeyValue::new("outcome", outcome)];
        self.0.idempotency.add(1, &label);
    }

    /// Records how many idempotency keys there are, and what they take.
    pub fn idempotency_use(&self, entries: u64, bytes: u64) {
        self.0.idempotency_entries.record(entries, &[]);
        self.0.idempotency_bytes.record(bytes, &[]);
    }

    /// Counts a mutation that waits, as long as what is returned is held.
    pub fn order_waiting(&self) -> Level {
        Level::of(self.0.order_waiting.bind(&[]))
    }

    /// Records how long a mutation waited, and whether it `went-on` or `gave-up`.
    pub fn order_waited(&self, outcome: &'static str, time: Duration) {
        let label = [KeyValue::new("outcome", outcome)];
        self.0.order_waits.record(time.as_secs_f64(), &label);
    }

    /// Records which deployments are under way, and since when the oldest is.
    pub fn deployments_in_progress(&self, count: u64, oldest: Duration) {
        self.0.deployments_in_progress.record(count, &[]);
        self.0.oldest_deployment.record(oldest.as_secs_f64(), &[]);
    }

    /// Records that a deployment of the engine ended.
    pub fn deployment_ended(&self, outcome: &'static str) {
        let label = [KeyValue::new("outcome", outcome)];
        self.0.deployments.add(1, &label);
    }

    /// Records what the engine has to do, and by how much the first of it is late.
    pub fn tasks(&self, count: u64, overdue: Duration) {
        self.0.tasks.record(count, &[]);
        self.0.task_overdue.record(overdue.as_secs_f64(), &[]);
    }

    /// Records a commit of so many mutations.
    pub fn commit(&self, mutations: u64, took: Duration) {
        self.0.commits.record(took.as_secs_f64(), &[]);
        self.0.commit_sizes.record(mutations, &[]);
    }

    /// Counts what did not reach the collector of `traces` or `metrics`.
    pub(super) fn lost(&self, signal: &'static str, count: u64) {
        self.0.lost.add(count, &[KeyValue::new("signal", signal)]);
    }

    /// Shows one of the [`watched`] numbers, looked up whenever somebody asks; nothing where there is
    /// none.
    pub fn watch(
        &self,
        name: &'static str,
        look: impl Fn() -> Option<u64> + Send + Sync + 'static,
    ) {
        let described = watched::ALL.iter().find(|(watched, _)| *watched == name);
        let description = described.map_or("", |(_, description)| description);
        let gauge = self.0.meter.u64_observable_gauge(name);
        // Lives as long as its meter.
        let _gauge = gauge
            .with_description(description)
            .with_callback(move |gauge| {
                if let Some(number) = look() {
                    gauge.observe(number, &[]);
                }
            })
            .build();
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

    /// Sends what there is for the last time. Blocks.
    pub(super) fn end(&self) -> bool {
        self.0.provider.force_flush().is_ok()
    }
}

/// Counts something as long as it is held.
#[must_use]
pub struct Level(BoundUpDownCounter<i64>);

impl std::fmt::Debug for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Level")
    }
}

impl Level {
    fn of(counter: BoundUpDownCounter<i64>) -> Self {
        counter.add(1);
        Self(counter)
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

#[cfg(test)]
mod tests;

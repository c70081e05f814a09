//! Two readings of a gateway's metrics, and what happened between them.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use crate::api::own::{GetMetricsResponse, MetricSample};

pub const CALLS: &str = "proton_gateway_calls_total";
pub const DURATIONS: &str = "proton_gateway_call_duration_seconds";
pub const ACTIVE: &str = "proton_gateway_requests_active";
pub const STREAMS: &str = "proton_gateway_streams_open";
pub const POLLERS: &str = "proton_gateway_pollers";
pub const CONNECTIONS: &str = "proton_gateway_connections_open";
pub const LIMITED: &str = "proton_gateway_limited_total";
pub const CACHE: &str = "proton_gateway_cache_total";
pub const CACHE_BYTES: &str = "proton_gateway_cache_bytes";
pub const RETRIES: &str = "proton_gateway_retries_total";
pub const CIRCUIT: &str = "proton_gateway_circuit_state";
pub const WAITING: &str = "proton_gateway_order_waiting";
pub const IN_PROGRESS: &str = "proton_gateway_deployments_in_progress";
pub const OLDEST: &str = "proton_gateway_deployment_oldest_age_seconds";
pub const OVERDUE: &str = "proton_gateway_task_overdue_seconds";
pub const QUEUE: &str = "proton_gateway_store_queue";
pub const COMMITS: &str = "proton_gateway_store_commit_duration_seconds";
pub const BUILD: &str = "proton_gateway_build_info";
pub const MEMORY: &str = "process_resident_memory_bytes";
pub const FILES: &str = "process_open_fds";
pub const CPU: &str = "process_cpu_seconds_total";
pub const STARTED: &str = "process_start_time_seconds";

/// What is read.
pub const NAMES: [&str; 22] = [
    CALLS,
    DURATIONS,
    ACTIVE,
    STREAMS,
    POLLERS,
    CONNECTIONS,
    LIMITED,
    CACHE,
    CACHE_BYTES,
    RETRIES,
    CIRCUIT,
    WAITING,
    IN_PROGRESS,
    OLDEST,
    OVERDUE,
    QUEUE,
    COMMITS,
    BUILD,
    MEMORY,
    FILES,
    CPU,
    STARTED,
];

/// The metrics at one moment.
pub struct Reading {
    at: SystemTime,
    metrics: HashMap<String, Vec<MetricSample>>,
}

impl Reading {
    pub fn of(answer: GetMetricsResponse) -> Self {
        let at = answer
            .read_at
            .and_then(|at| SystemTime::try_from(at).ok())
            .unwrap_or_else(SystemTime::now);
        let metrics = answer.metrics.into_iter();
        Self {
            at,
            metrics: metrics.map(|it| (it.name, it.samples)).collect(),
        }
    }

    fn samples(&self, name: &str) -> &[MetricSample] {
        self.metrics.get(name).map_or(&[], Vec::as_slice)
    }
}

/// What happened between two readings.
pub struct Change<'a> {
    before: &'a Reading,
    after: &'a Reading,
}

/// What happened to one operation.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Busy {
    pub calls: f64,
    pub failures: f64,
    /// Cumulative counts of durations by their upper bounds, in seconds.
    buckets: Vec<(f64, u64)>,
}

impl Busy {
    /// The duration that so much of all calls does not exceed, as far as buckets tell it; absent
    /// where there were none.
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let all = self.buckets.last()?.1;
        if all == 0 {
            return None;
        }
        let rank = part * all as f64;
        let (mut lower, mut below) = (0.0, 0);
        for (upper, count) in &self.buckets {
            if *count as f64 >= rank {
                // Beyond the last bound nothing is known but that.
                if upper.is_infinite() {
                    return Some(Duration::from_secs_f64(lower));
                }
                let within = (rank - below as f64) / (count - below).max(1) as f64;
                return Some(Duration::from_secs_f64(lower + (upper - lower) * within));
            }
            (lower, below) = (*upper, *count);
        }
        None
    }
}

impl<'a> Change<'a> {
    pub fn between(before: &'a Reading, after: &'a Reading) -> Self {
        Self { before, after }
    }

    fn seconds(&self) -> f64 {
        let between = self.after.at.duration_since(self.before.at);
        between.unwrap_or_default().as_secs_f64().max(0.001)
    }

    /// How a gauge stands, for each value of a label.
    pub fn now(&self, name: &str, label: &str) -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        for sample in self.after.samples(name) {
            let value = sample.labels.get(label).cloned().unwrap_or_default();
            *sums.entry(value).or_default() += sample.value;
        }
        sums
    }

    /// How a gauge stands; absent where the gateway has none.
    pub fn whole(&self, name: &str) -> Option<f64> {
        let samples = self.after.samples(name);
        (!samples.is_empty()).then(|| samples.iter().map(|sample| sample.value).sum())
    }

    /// How much was counted in a second, for each value of a label.
    pub fn rates(&self, name: &str, label: &str) -> BTreeMap<String, f64> {
        let mut rates = BTreeMap::new();
        for sample in self.after.samples(name) {
            let value = sample.labels.get(label).cloned().unwrap_or_default();
            *rates.entry(value).or_default() += self.grown(name, sample, |it| it.value);
        }
        rates
    }

    /// The mean of what a histogram took in; absent where that was nothing.
    pub fn mean(&self, name: &str) -> Option<f64> {
        let samples = self.after.samples(name);
        let sum = |of: fn(&MetricSample) -> f64| {
            let grown = samples.iter().map(|sample| self.grown(name, sample, of));
            grown.sum::<f64>()
        };
        let count = sum(|sample| sample.count as f64);
        (count > 0.0).then(|| sum(|sample| sample.value) / count)
    }

    /// By how much a sample has grown in a second. A gateway that was started anew counts anew.
    fn grown(&self, name: &str, sample: &MetricSample, of: fn(&MetricSample) -> f64) -> f64 {
        let before = self.earlier(name, sample).map_or(0.0, of);
        let after = of(sample);
        let more = if after < before {
            after
        } else {
            after - before
        };
        more / self.seconds()
    }

    fn earlier(&self, name: &str, sample: &MetricSample) -> Option<&MetricSample> {
        let samples = self.before.samples(name).iter();
        samples.into_iter().find(|it| it.labels == sample.labels)
    }

    /// What happened to each operation that was called.
    pub fn operations(&self) -> BTreeMap<String, Busy> {
        let mut operations: BTreeMap<String, Busy> = BTreeMap::new();
        let name = |sample: &MetricSample| sample.labels.get("operation").cloned();
        for sample in self.after.samples(CALLS) {
            let more = self.grown(CALLS, sample, |it| it.value);
            if let Some(operation) = name(sample).filter(|_| more > 0.0) {
                let busy = operations.entry(operation).or_default();
                busy.calls += more;
                if sample
                    .labels
                    .get("outcome")
                    .is_none_or(|outcome| outcome != "OK")
                {
                    busy.failures += more;
                }
            }
        }
        for sample in self.after.samples(DURATIONS) {
            let Some(busy) = name(sample).and_then(|name| operations.get_mut(&name)) else {
                continue;
            };
            let earlier = self.earlier(DURATIONS, sample);
            let before = |upper: f64| {
                let buckets = earlier.iter().flat_map(|sample| &sample.buckets);
                let mut same = buckets.filter(|bucket| bucket.upper_bound == upper);
                same.next().map_or(0, |bucket| bucket.cumulative_count)
            };
            busy.buckets = sample
                .buckets
                .iter()
                .map(|it| (it.upper_bound, it.cumulative_count))
                .chain([(f64::INFINITY, sample.count)])
                .map(|(upper, count)| {
                    let before = match upper.is_infinite() {
                        true => earlier.map_or(0, |sample| sample.count),
                        false => before(upper),
                    };
                    (upper, count.checked_sub(before).unwrap_or(count))
                })
                .collect();
        }
        operations
    }

    /// For how long the gateway has been running.
    pub fn uptime(&self) -> Option<Duration> {
        let started = Duration::try_from_secs_f64(self.whole(STARTED)?).ok()?;
        let since = SystemTime::UNIX_EPOCH.checked_add(started)?;
        self.after.at.duration_since(since).ok()
    }

    /// The version of the gateway.
    pub fn version(&self) -> Option<&str> {
        let sample = self.after.samples(BUILD).first()?;
        sample.labels.get("version").map(String::as_str)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::api::own::{Metric, MetricBucket};

    pub fn sample(labels: &[(&str, &str)], value: f64) -> MetricSample {
        let labels = labels.iter();
        MetricSample {
            labels: labels
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
            value,
            ..MetricSample::default()
        }
    }

    pub fn reading(second: i64, metrics: &[(&str, Vec<MetricSample>)]) -> Reading {
        let metric = |(name, samples): &(&str, Vec<MetricSample>)| Metric {
            name: name.to_string(),
            samples: samples.clone(),
            ..Metric::default()
        };
        Reading::of(GetMetricsResponse {
            metrics: metrics.iter().map(metric).collect(),
            read_at: Some(prost_types::Timestamp {
                seconds: second,
                nanos: 0,
            }),
        })
    }

    pub fn histogram(labels: &[(&str, &str)], counts: &[(f64, u64)], all: u64) -> MetricSample {
        let bucket = |(upper_bound, cumulative_count): &(f64, u64)| MetricBucket {
            upper_bound: *upper_bound,
            cumulative_count: *cumulative_count,
        };
        MetricSample {
            count: all,
            buckets: counts.iter().map(bucket).collect(),
            ..sample(labels, 0.0)
        }
    }

    #[test]
    fn a_rate_is_what_was_counted_in_a_second() {
        let hits = |count| vec![sample(&[("status", "hit")], count)];
        let before = reading(10, &[(CACHE, hits(100.0))]);
        let after = reading(14, &[(CACHE, hits(108.0))]);
        let rates = Change::between(&before, &after).rates(CACHE, "status");
        assert_eq!(rates, BTreeMap::from([("hit".to_owned(), 2.0)]));
    }

    #[test]
    fn a_gateway_that_was_started_anew_counts_anew() {
        let hits = |count| vec![sample(&[("status", "hit")], count)];
        let before = reading(10, &[(CACHE, hits(100.0))]);
        let after = reading(12, &[(CACHE, hits(6.0))]);
        let rates = Change::between(&before, &after).rates(CACHE, "status");
        assert_eq!(rates["hit"], 3.0);
    }

    #[test]
    fn quantiles_are_of_what_was_called_in_between() {
        let calls = |count| {
            vec![sample(
                &[("operation", "GetService"), ("outcome", "OK")],
                count,
            )]
        };
        let took = |fast, all| {
            vec![histogram(
                &[("operation", "GetService")],
                &[(0.001, fast), (0.01, all)],
                all,
            )]
        };
        let before = reading(0, &[(CALLS, calls(1000.0)), (DURATIONS, took(0, 1000))]);
        let after = reading(1, &[(CALLS, calls(1100.0)), (DURATIONS, took(100, 1100))]);
        let change = Change::between(&before, &after);
        let busy = change.operations().remove("GetService").unwrap();
        assert_eq!((busy.calls, busy.failures), (100.0, 0.0));
        assert_eq!(busy.quantile(0.5), Some(Duration::from_micros(500)));
        assert_eq!(Busy::default().quantile(0.5), None);
    }

    #[test]
    fn what_took_longer_than_the_last_bound_is_at_least_that() {
        let busy = Busy {
            buckets: vec![(0.5, 0), (f64::INFINITY, 10)],
            ..Busy::default()
        };
        assert_eq!(busy.quantile(0.5), Some(Duration::from_millis(500)));
    }
}

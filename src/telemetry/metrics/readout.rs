//! The metrics as `GetMetrics` tells them.

use std::collections::HashSet;

use prometheus::proto::{Metric, MetricFamily, MetricType};

use super::Metrics;
use crate::api::own::{self, MetricBucket, MetricKind, MetricSample};

impl Metrics {
    /// The metrics of these names, or all of them where none is given.
    pub fn read(&self, names: &[String]) -> Vec<own::Metric> {
        let names: HashSet<_> = names.iter().map(String::as_str).collect();
        let families = self.0.registry.gather().into_iter();
        families
            .filter(|family| names.is_empty() || names.contains(family.name()))
            .map(|family| metric(&family))
            .collect()
    }
}

fn metric(family: &MetricFamily) -> own::Metric {
    let kind = match family.get_field_type() {
        MetricType::COUNTER => MetricKind::Counter,
        MetricType::GAUGE => MetricKind::Gauge,
        MetricType::HISTOGRAM => MetricKind::Histogram,
        MetricType::SUMMARY | MetricType::UNTYPED => MetricKind::Unspecified,
    };
    own::Metric {
        name: family.name().to_owned(),
        kind: kind.into(),
        samples: family
            .get_metric()
            .iter()
            .map(|it| sample(it, kind))
            .collect(),
    }
}

fn sample(metric: &Metric, kind: MetricKind) -> MetricSample {
    let labels = metric.get_label().iter();
    let labels = labels
        .map(|label| (label.name().to_owned(), label.value().to_owned()))
        .collect();
    let value = |value| MetricSample {
        value,
        ..MetricSample::default()
    };
    let sample = match kind {
        MetricKind::Counter => value(metric.get_counter().get_value()),
        MetricKind::Gauge => value(metric.get_gauge().get_value()),
        MetricKind::Histogram => {
            let histogram = metric.get_histogram();
            MetricSample {
                count: histogram.get_sample_count(),
                buckets: histogram
                    .get_bucket()
                    .iter()
                    .map(|bucket| MetricBucket {
                        upper_bound: bucket.upper_bound(),
                        cumulative_count: bucket.cumulative_count(),
                    })
                    .collect(),
                ..value(histogram.get_sample_sum())
            }
        }
        MetricKind::Unspecified => MetricSample::default(),
    };
    MetricSample { labels, ..sample }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::api::Operation;
    use crate::gateway::Door;

    #[test]
    fn counters_and_histograms_are_told_with_their_labels() {
        let metrics = Metrics::new().unwrap();
        metrics.call(
            Operation::GetService,
            Door::Grpc,
            "OK",
            Duration::from_millis(3),
        );
        let names = [
            "proton_gateway_calls_total".to_owned(),
            "proton_gateway_call_duration_seconds".to_owned(),
        ];
        let read = metrics.read(&names);
        assert_eq!(read.len(), 2);
        let of = |name: &str| read.iter().find(|metric| metric.name == name).unwrap();
        let calls = of(&names[0]);
        assert_eq!(calls.kind(), MetricKind::Counter);
        assert_eq!(calls.samples[0].value, 1.0);
        assert_eq!(calls.samples[0].labels["operation"], "GetService");
        let durations = of(&names[1]);
        assert_eq!(durations.kind(), MetricKind::Histogram);
        assert_eq!(durations.samples[0].count, 1);
        let within = |upper| {
            let mut buckets = durations.samples[0].buckets.iter();
            let bucket = buckets.find(|bucket| bucket.upper_bound == upper);
            bucket.unwrap().cumulative_count
        };
        assert_eq!((within(0.0025), within(0.005)), (0, 1));
    }

    #[test]
    fn without_names_all_metrics_are_told() {
        let metrics = Metrics::new().unwrap();
        metrics.cache("hit");
        assert!(metrics.read(&[]).len() > metrics.read(&["none".to_owned()]).len());
    }
}

use std::collections::{BTreeMap, BTreeSet};

use tonic::Code;

use super::*;

/// What is known of a metric: its type and its labels.
type Known = BTreeMap<String, (String, BTreeSet<String>)>;

/// The table of `docs/telemetry.md`.
fn documented() -> Known {
    let text = include_str!("../../../docs/telemetry.md");
    let (_, rest) = text.split_once("<!-- metrics -->").unwrap();
    let (table, _) = rest.split_once("<!-- end of metrics -->").unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let mut cells = row.trim_matches('|').split(" | ").map(str::trim);
        let (metric, kind) = (cells.next().unwrap(), cells.next().unwrap());
        let metric = metric.trim_matches('`');
        let (name, labels) = metric.split_once('{').unwrap_or((metric, ""));
        let labels = labels.trim_end_matches('}').split(',');
        let labels = labels.filter(|label| !label.is_empty());
        let labels = labels.map(str::to_owned).collect();
        (name.to_owned(), (kind.to_owned(), labels))
    })
    .collect()
}

/// What the page shows.
fn shown(page: &str) -> Known {
    let mut known = Known::new();
    for line in page.lines() {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            known.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
        }
    }
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (metric, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = metric.split_once('{').unwrap_or((metric, ""));
        let of_histogram = ["_bucket", "_sum", "_count"];
        let name = of_histogram
            .iter()
            .filter_map(|end| name.strip_suffix(end))
            .find(|name| known.contains_key(*name))
            .unwrap_or(name);
        let labels = labels.trim_end_matches('}').split("\",");
        let labels = labels.filter_map(|label| label.split_once('='));
        let labels = labels.map(|(label, _)| label.to_owned());
        let labels = labels.filter(|label| label != "le");
        known.get_mut(name).unwrap().1.extend(labels);
    }
    known
}

/// Metrics of which each was recorded once.
fn recorded() -> (Metrics, Vec<Level>) {
    let metrics = Metrics::new().unwrap();
    let second = Duration::from_secs(1);
    let operation = Operation::GetService;
    metrics.call(operation, Door::Grpc, "OK", second);
    metrics.call(operation, Door::Wait, "NOT_FOUND", second);
    let place = metrics.rpcs().at("/proton.v1.ProtonService/GetService");
    metrics.rpcs().started(place);
    metrics.rpcs().ended(place, Code::Ok, second, 1, 1);
    metrics
        .rpcs()
        .ended_at_aws_door(place, Code::NotFound, second);
    metrics.attempt(operation, None, second);
    metrics.attempt(operation, Some("NOT_FOUND"), second);
    metrics.active(Door::Grpc, 1);
    metrics.limited("read", "caller/read", false);
    metrics.upstream_calls("", 1);
    metrics.audit_lost();
    metrics.cache("hit");
    metrics.cache_bytes(1);
    metrics.retry("repeated");
    metrics.hedge("won");
    metrics.circuit("", 0);
    metrics.circuit_refused("");
    metrics.configuration_is_current(true);
    metrics.idempotency("first");
    metrics.idempotency_use(1, 1);
    metrics.order_waited("went-on", second);
    metrics.deployments_in_progress(1, second);
    metrics.deployment_ended("succeeded");
    metrics.tasks(1, second);
    metrics.commit(1, second);
    metrics.lost("traces", 1);
    for (name, _) in watched::ALL {
        metrics.watch(name, || Some(1));
    }
    let levels = vec![
        metrics.stream("wait"),
        metrics.poller(),
        metrics.connection("grpc"),
        metrics.order_waiting(),
    ];
    (metrics, levels)
}

#[test]
fn every_metric_is_in_the_document_with_its_labels_and_the_other_way_round() {
    let (metrics, _levels) = recorded();
    let (page, document) = (shown(&metrics.page().unwrap()), documented());
    let only = |these: &Known, those: &Known| -> Vec<_> {
        let other = |(name, known): &(&String, &_)| those.get(*name) != Some(known);
        let these = these.iter().filter(other);
        these
            .map(|(name, known)| format!("{name} {known:?}"))
            .collect()
    };
    assert_eq!(only(&page, &document), [""; 0], "not in the document");
    assert_eq!(only(&document, &page), [""; 0], "not on the page");
}

#[test]
fn what_is_held_is_counted_and_what_is_dropped_is_not() {
    let metrics = Metrics::new().unwrap();
    let (one, other) = (metrics.poller(), metrics.poller());
    let shows = |count: u8| {
        let line = format!("proton_gateway_pollers {count}\n");
        metrics.page().unwrap().contains(&line)
    };
    assert!(shows(2));
    drop((one, other));
    assert!(shows(0));
}

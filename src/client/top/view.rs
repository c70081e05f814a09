//! How a change looks to people.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use console::{Color, Style};

use super::super::failure::plain;
use super::change::{self, Busy, Change};

const MIB: f64 = 1024.0 * 1024.0;

/// The whole picture, with so many operations at most.
pub fn text_of(change: &Change<'_>, most: usize, colours: bool) -> String {
    let mut text = String::new();
    let bold = Style::new().force_styling(colours).bold();
    let red = Style::new().force_styling(colours).fg(Color::Red);
    let version = change.version().map_or("", |version| version);
    let title = bold.apply_to(format!("proton-gateway {}", plain(version)));
    let uptime = change.uptime().map(|up| Duration::from_secs(up.as_secs()));
    let _ = writeln!(
        text,
        "{title}  up {}, memory {}, files {}, processors {}",
        uptime.map_or_else(unknown, |up| humantime::format_duration(up).to_string()),
        number(change.whole(change::MEMORY).map(|it| it / MIB), " MiB"),
        number(change.whole(change::FILES), ""),
        number(
            change
                .rates(change::CPU, "")
                .values()
                .copied()
                .reduce(|a, b| a + b),
            ""
        ),
    );
    let operations = change.operations();
    // From 0: the sum of nothing would be -0.
    let all = |of: fn(&Busy) -> f64| operations.values().map(of).fold(0.0, |sum, one| sum + one);
    let failures = all(|busy| busy.failures);
    let failed = format!("{failures:.1}/s failed");
    let _ = writeln!(
        text,
        "calls        {:.1}/s, {}; requests now: {}",
        all(|busy| busy.calls),
        if failures > 0.0 {
            red.apply_to(failed).to_string()
        } else {
            failed
        },
        each(&change.now(change::ACTIVE, "door")),
    );
    let _ = writeln!(
        text,
        "streams      {}; pollers {}; connections: {}",
        each(&change.now(change::STREAMS, "kind")),
        number(change.whole(change::POLLERS), ""),
        each(&change.now(change::CONNECTIONS, "listener")),
    );
    let limited = change.rates(change::LIMITED, "limit");
    let refused = limited.values().sum::<f64>() > 0.0;
    let limited = per_second(&limited);
    let _ = writeln!(
        text,
        "limits       {}",
        if refused {
            red.apply_to(limited).to_string()
        } else {
            limited
        },
    );
    let _ = writeln!(
        text,
        "cache        {}; {}",
        per_second(&change.rates(change::CACHE, "status")),
        number(change.whole(change::CACHE_BYTES).map(|it| it / MIB), " MiB"),
    );
    let circuits = change.now(change::CIRCUIT, "upstream").into_iter();
    let circuits: Vec<_> = circuits
        .map(|(upstream, state)| format!("{} {}", plain(&upstream), circuit(state)))
        .collect();
    if !circuits.is_empty() {
        let _ = writeln!(
            text,
            "upstreams    {}; retries {}",
            circuits.join(", "),
            per_second(&change.rates(change::RETRIES, "outcome")),
        );
    }
    if change.whole(change::QUEUE).is_some() {
        let oldest = change.whole(change::OLDEST).unwrap_or_default();
        let _ = writeln!(
            text,
            "engine       {} deployments in progress, the oldest for {oldest:.0} s; {} mutations wait, commits {}",
            number(change.whole(change::IN_PROGRESS), ""),
            number(change.whole(change::QUEUE), ""),
            number(change.mean(change::COMMITS).map(|it| it * 1000.0), " ms"),
        );
        if let Some(late) = change.whole(change::OVERDUE).filter(|late| *late > 5.0) {
            let late = format!("work is late by {late:.0} s");
            let _ = writeln!(text, "             {}", red.apply_to(late));
        }
    }
    if let Some(waiting) = change
        .whole(change::WAITING)
        .filter(|waiting| *waiting > 0.0)
    {
        let _ = writeln!(text, "order        {waiting:.0} mutations wait in line");
    }
    let mut busiest: Vec<_> = operations.iter().collect();
    busiest.sort_by(|(_, one), (_, other)| other.calls.total_cmp(&one.calls));
    let heading = format!(
        "{:<42}{:>10}{:>10}{:>10}{:>10}",
        "operation", "calls/s", "failed/s", "p50 ms", "p95 ms"
    );
    let _ = writeln!(text, "\n{}", bold.apply_to(heading));
    for (operation, busy) in busiest.iter().take(most) {
        let millis = |part| busy.quantile(part).map(|it| it.as_secs_f64() * 1000.0);
        let _ = writeln!(
            text,
            "{:<42}{:>10.1}{:>10.1}{:>10}{:>10}",
            plain(operation),
            busy.calls,
            busy.failures,
            number(millis(0.5), ""),
            number(millis(0.95), ""),
        );
    }
    if busiest.is_empty() {
        text.push_str("nothing was called\n");
    }
    text
}

fn unknown() -> String {
    "-".to_owned()
}

/// Counts whole, and the rest with a digit.
fn number(value: Option<f64>, unit: &str) -> String {
    match value {
        None => unknown(),
        Some(value) if value.fract() == 0.0 => format!("{value:.0}{unit}"),
        Some(value) => format!("{value:.1}{unit}"),
    }
}

fn each(values: &BTreeMap<String, f64>) -> String {
    listed(values, |name, value| format!("{name} {value:.0}"))
}

fn per_second(rates: &BTreeMap<String, f64>) -> String {
    listed(rates, |name, rate| format!("{name} {rate:.1}/s"))
}

fn listed(values: &BTreeMap<String, f64>, show: impl Fn(&str, f64) -> String) -> String {
    let shown = values
        .iter()
        .map(|(name, value)| show(&plain(name), *value));
    match values.is_empty() {
        true => "none".to_owned(),
        false => shown.collect::<Vec<_>>().join(", "),
    }
}

fn circuit(state: f64) -> &'static str {
    match state {
        0.0 => "closed",
        1.0 => "half-open",
        _ => "open",
    }
}

#[cfg(test)]
mod tests {
    use super::super::change::tests::{reading, sample};
    use super::*;

    #[test]
    fn a_busy_gateway_is_shown_with_the_busiest_operation_first() {
        let calls = |operation: &str, outcome: &str, count| {
            sample(&[("operation", operation), ("outcome", outcome)], count)
        };
        let before = reading(100, &[]);
        let after = reading(
            102,
            &[
                (change::STARTED, vec![sample(&[], 42.0)]),
                (change::MEMORY, vec![sample(&[], 2.0 * MIB)]),
                (change::STREAMS, vec![sample(&[("kind", "wait")], 7.0)]),
                (
                    change::LIMITED,
                    vec![sample(&[("limit", "caller/read")], 4.0)],
                ),
                (
                    change::CALLS,
                    vec![
                        calls("GetService", "OK", 10.0),
                        calls("ListServices", "OK", 30.0),
                        calls("GetService", "NOT_FOUND", 2.0),
                    ],
                ),
            ],
        );
        let text = text_of(&Change::between(&before, &after), 1, false);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[0],
            "proton-gateway   up 1m, memory 2 MiB, files -, processors -"
        );
        assert_eq!(
            lines[1],
            "calls        21.0/s, 1.0/s failed; requests now: none"
        );
        assert_eq!(
            lines[2],
            "streams      wait 7; pollers -; connections: none"
        );
        assert_eq!(lines[3], "limits       caller/read 2.0/s");
        assert!(lines.last().unwrap().starts_with("ListServices "), "{text}");
        assert!(!text.contains("engine"), "{text}");
    }

    #[test]
    fn an_idle_gateway_says_so() {
        let (before, after) = (reading(0, &[]), reading(1, &[]));
        let text = text_of(&Change::between(&before, &after), 15, false);
        assert!(text.ends_with("nothing was called\n"), "{text}");
        assert!(text.contains("calls        0.0/s, 0.0/s failed;"), "{text}");
    }
}

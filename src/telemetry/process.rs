//! What the operating system knows of the process, under the names that Prometheus's own clients
//! use; and which build it is.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

/// Pages and ticks, as Linux reports them to programs on all machines that we run on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Looks something up, if it can.
type Look = fn() -> Option<u64>;

/// Has all of it looked up whenever somebody asks.
pub(super) fn observe(meter: &Meter) {
    let build = meter
        .u64_gauge("proton_gateway_build_info")
        .with_description("Always 1; which version runs.")
        .build();
    build.record(1, &[KeyValue::new("version", env!("CARGO_PKG_VERSION"))]);
    let begun = started();
    // Each lives as long as its meter.
    let _ = meter
        .f64_observable_gauge("process_start_time")
        .with_unit("s")
        .with_description("When the process started, in seconds since 1970.")
        .with_callback(move |gauge| gauge.observe(begun, &[]))
        .build();
    let _ = meter
        .f64_observable_counter("process_cpu")
        .with_unit("s")
        .with_description("Processor time of the process.")
        .with_callback(|counter| {
            if let Some(seconds) = cpu_seconds() {
                counter.observe(seconds, &[]);
            }
        })
        .build();
    let gauges: [(_, _, _, Look); 4] = [
        (
            "process_resident_memory",
            "By",
            "Memory that the process has.",
            resident_bytes,
        ),
        (
            "process_open_fds",
            "",
            "Open files and connections.",
            open_files,
        ),
        (
            "process_max_fds",
            "",
            "Open files and connections that there may be.",
            most_files,
        ),
        ("process_threads", "", "Threads of the process.", threads),
    ];
    for (name, unit, description, look) in gauges {
        let _ = meter
            .u64_observable_gauge(name)
            .with_unit(unit)
            .with_description(description)
            .with_callback(move |gauge| {
                if let Some(number) = look() {
                    gauge.observe(number, &[]);
                }
            })
            .build();
    }
}

/// The metrics are made when the program starts.
fn started() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs_f64()
}

/// A line of `/proc/self/status`: `VmRSS:     1234 kB`.
fn status(name: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number = line.trim_start_matches(':').split_whitespace().next()?;
    number.parse().ok()
}

fn resident_bytes() -> Option<u64> {
    Some(status("VmRSS")? * 1024)
}

fn threads() -> Option<u64> {
    status("Threads")
}

fn open_files() -> Option<u64> {
    let open = fs::read_dir("/proc/self/fd").ok()?.count();
    // One of them is the folder itself.
    u64::try_from(open.saturating_sub(1)).ok()
}

fn most_files() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/limits").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn cpu_seconds() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    // The name before may have spaces and parentheses.
    let (_, rest) = text.rsplit_once(')')?;
    let ticks = rest.split_whitespace().skip(11).take(2);
    let ticks: f64 = ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
    Some(ticks / TICKS_PER_SECOND)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_process_knows_itself() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 1 << 20));
        assert!(threads().is_some_and(|threads| threads >= 1));
        let (open, most) = (open_files().unwrap(), most_files().unwrap());
        assert!((3..=most).contains(&open), "{open} of {most}");
        assert!(cpu_seconds().is_some_and(|seconds| seconds >= 0.0));
    }
}

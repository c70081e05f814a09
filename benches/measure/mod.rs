//! What benchmarks read off the clock and the machine.

#![allow(dead_code, reason = "each benchmark uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub fn micros(span: Duration) -> f64 {
    span.as_secs_f64() * 1e6
}

pub fn median(all: &[f64]) -> f64 {
    let mut all = all.to_vec();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// Nanoseconds that the threads of a process have had of the CPUs.
pub fn cpu(process: u32) -> u64 {
    let mut all = 0;
    for task in std::fs::read_dir(format!("/proc/{process}/task")).unwrap() {
        let path = task.unwrap().path().join("schedstat");
        // A thread may have ended since.
        let Ok(text) = std::fs::read_to_string(path) else {
            continue;
        };
        let first = text.split_whitespace().next().unwrap();
        all += first.parse::<u64>().unwrap();
    }
    all
}

pub fn cpu_time(process: u32, before: u64) -> Duration {
    Duration::from_nanos(cpu(process).saturating_sub(before))
}

/// Counts the instructions of a process.
pub struct Callgrind {
    out: PathBuf,
}

impl Callgrind {
    /// What it finds stays in `out`, to be looked at with `callgrind_annotate`.
    pub fn into(out: PathBuf) -> Self {
        drop(std::fs::remove_file(&out));
        Self { out }
    }

    /// What runs `binary`.
    pub fn of(&self, binary: &Path) -> Command {
        let mut command = Command::new("valgrind");
        command.args(["--tool=callgrind", "--quiet"]);
        command.arg(format!("--callgrind-out-file={}", self.out.display()));
        command.arg(binary);
        command
    }

    /// All that were counted, once the process, which was asked to, has ended.
    pub fn total(&self) -> f64 {
        for _ in 0..600 {
            let text = std::fs::read_to_string(&self.out).unwrap_or_default();
            let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
            if let Some(total) = total {
                return total.trim().parse().unwrap();
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("nothing was counted");
    }
}

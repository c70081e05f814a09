//! What is known of each upstream for repeating calls: how many repeats it may have, and whether it
//! is left alone just now.
//!
//! When an attempt is repeated is decided in [`repeat`], what an attempt is in [`attempt`]. How
//! calls come here is [`crate::pipeline::retry`].

pub(crate) mod attempt;
pub(crate) mod circuit;
pub(crate) mod repeat;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tower::retry::budget::{Budget, TpsBudget};

use self::circuit::Circuit;
use crate::config::retry::{Percent, RetryConfig};
use crate::telemetry::Metrics;

/// How long a call allows for repeats of others.
const CREDIT: Duration = Duration::from_secs(10);

/// What repeats calls. Clones share what they know of the upstreams.
#[derive(Clone)]
pub struct Retries(Arc<Shared>);

struct Shared {
    config: ArcSwap<RetryConfig>,
    metrics: Metrics,
    /// The upstream is another program, whose answers may be lost.
    remote: bool,
    /// By name, of those that were asked. Names are those of the configuration, so that there are
    /// not many.
    upstreams: Mutex<HashMap<Option<Arc<str>>, Arc<Upstream>>>,
}

/// What all calls of one upstream share.
pub(crate) struct Upstream {
    budget: TpsBudget,
    /// Absent where the upstream is never left alone.
    circuit: Option<Arc<Circuit>>,
}

impl Upstream {
    /// Counts a call, which allows for a part of a repeat.
    pub(crate) fn deposit(&self) {
        self.budget.deposit();
    }
}

impl Retries {
    /// For calls that are forwarded; `None` where nothing is repeated.
    pub fn new(config: &RetryConfig, metrics: Metrics) -> Option<Self> {
        Self::of(config, metrics, true)
    }

    /// For calls that the engine answers: it is this program, so that no answer is lost, and there
    /// is nobody to leave alone.
    pub fn of_engine(config: &RetryConfig, metrics: Metrics) -> Option<Self> {
        Self::of(config, metrics, false)
    }

    fn of(config: &RetryConfig, metrics: Metrics, remote: bool) -> Option<Self> {
        config.enabled.then(|| {
            Self(Arc::new(Shared {
                config: ArcSwap::from_pointee(config.clone()),
                metrics,
                remote,
                upstreams: Mutex::default(),
            }))
        })
    }

    /// What is known of the upstream with this name, or of the one without.
    pub(crate) fn upstream(&self, name: Option<&Arc<str>>) -> Arc<Upstream> {
        let shared = &self.0;
        let mut upstreams = shared
            .upstreams
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = upstreams.get(&name.cloned()) {
            return Arc::clone(known);
        }
        let config = shared.config.load();
        let circuit = (shared.remote && config.circuit.enabled).then(|| {
            let name = name.map(ToString::to_string).unwrap_or_default();
            Arc::new(Circuit::new(&config.circuit, name, shared.metrics.clone()))
        });
        let upstream = Arc::new(Upstream {
            budget: budget(config.budget, config.reserve),
            circuit,
        });
        upstreams.insert(name.cloned(), Arc::clone(&upstream));
        upstream
    }

    /// Other values hold from now on, and what was known of the upstreams is forgotten.
    pub fn change(&self, config: &RetryConfig) {
        let shared = &self.0;
        let mut upstreams = shared
            .upstreams
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        shared.config.store(Arc::new(config.clone()));
        upstreams.clear();
    }

    /// Whether nothing is sent to one of the upstreams just now.
    pub fn leaves_one_alone(&self) -> bool {
        let shared = &self.0;
        let upstreams = shared
            .upstreams
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut circuits = upstreams.values().filter_map(|it| it.circuit.as_ref());
        circuits.any(|circuit| circuit.closed_to_all_for().is_some())
    }

    pub(crate) fn config(&self) -> Arc<RetryConfig> {
        self.0.config.load_full()
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub(crate) fn is_remote(&self) -> bool {
        self.0.remote
    }
}

/// Allows one repeat for so many calls: the part is never exceeded, since the library knows whole
/// numbers of calls only, and would round to the other side.
fn budget(Percent(part): Percent, reserve: u32) -> TpsBudget {
    let part = match part {
        0 => 0.0,
        // In the middle between two whole numbers, so that no rounding makes another of it.
        part => 1.0 / (100_u32.div_ceil(part.into()) as f32 + 0.5),
    };
    TpsBudget::new(CREDIT, reserve, part)
}

/// A number from 0 to 1, at random.
fn fraction() -> f64 {
    let mut random = [0; 4];
    // Without randomness it is 0: a short pause is better than none of the call.
    let _ = getrandom::fill(&mut random);
    f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn repeats_are_at_most_their_part_of_the_calls_and_the_reserve() {
        for (part, calls, repeats) in [
            (20, 100, 20),
            (100, 100, 100),
            (30, 100, 25),
            (1, 100, 1),
            (0, 100, 0),
        ] {
            for reserve in [0, 2] {
                let budget = budget(Percent(part), reserve);
                (0..calls).for_each(|_| budget.deposit());
                let made = (0..1000).take_while(|_| budget.withdraw()).count();
                assert_eq!(made, repeats + 10 * reserve as usize, "{part}%, {reserve}");
            }
        }
    }
}

//! Waits as streams: a caller opens one, and is told how what it waits for ends.
//!
//! Waits poll through the pipeline, one poller for each resource whatever the number of watchers,
//! and are nudged by whatever changes a resource. What a wait looks at and what ends it stands in
//! the contract (`proton.policy.v1.WaitPolicy`).

mod deployment;
mod poller;
mod service;
mod stream;
mod token;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use self::poller::Pollers;
pub(crate) use self::service::{Manner, Planned, Told};
pub use self::token::{Key, KeyError};
use crate::changes::Changes;
use crate::config::waits::WaitsConfig;
use crate::gateway::Gateway;
use crate::server::Shutdown;
use crate::telemetry::Metrics;

/// How waits behave.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Pauses between the polls of one resource; the last one repeats.
    pub pauses: Vec<Duration>,
    /// How long a poller goes on when nobody watches any more.
    pub linger: Duration,
    /// Seals resume tokens.
    pub key: Key,
}

impl Settings {
    /// The pauses of a new poller: soon at first, and then so that what happens is told within
    /// five seconds, the poll itself included.
    pub const PAUSES: [Duration; 4] = [
        Duration::from_secs(1),
        Duration::from_secs(2),
        Duration::from_secs(3),
        Duration::from_millis(4750),
    ];

    pub fn with_key(key: Key) -> Self {
        Self {
            pauses: Self::PAUSES.to_vec(),
            linger: Duration::from_secs(10),
            key,
        }
    }

    /// The same, with what `config` says.
    pub fn configured(self, config: &WaitsConfig) -> Self {
        let pauses = config.pauses.as_ref();
        Self {
            pauses: pauses.map_or(self.pauses, |given| {
                given.iter().map(|span| span.0).collect()
            }),
            linger: config.linger.map_or(self.linger, |span| span.0),
            ..self
        }
    }
}

/// Answers `WaitService`. Clones share the pollers.
#[derive(Clone)]
pub struct Waits {
    gateway: Gateway,
    pollers: Pollers,
    settings: Arc<ArcSwap<Settings>>,
    shutdown: Shutdown,
}

impl Waits {
    pub fn new(gateway: Gateway, changes: Changes, settings: Settings, shutdown: Shutdown) -> Self {
        let settings = Arc::new(ArcSwap::from_pointee(settings));
        Self {
            pollers: Pollers::new(gateway.clone(), changes, Arc::clone(&settings)),
            gateway,
            settings,
            shutdown,
        }
    }

    /// The same, whose pollers `metrics` are told of.
    pub fn measured_by(self, metrics: Metrics) -> Self {
        let pollers = self.pollers.measured_by(metrics);
        Self { pollers, ..self }
    }

    /// Other pauses hold from now on, for pollers that run as well.
    pub fn change(&self, config: &WaitsConfig) {
        let key = self.settings.load().key.clone();
        let settings = Settings::with_key(key).configured(config);
        self.settings.store(Arc::new(settings));
    }

    /// Tells when its streams have to end.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }
}

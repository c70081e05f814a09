//! What an operation knows of the world: the time, the account, and the engine's settings.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prost_types::Timestamp;

use super::bucket::Buckets;
use crate::clock::{epoch_millis, timestamp};

/// What the engine is told once, at its start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The region in ARNs.
    pub region: String,
    /// The account in ARNs; also the caller of every operation.
    pub account_id: String,
    /// How long one simulated deployment, deletion or registration takes.
    pub step: Duration,
    /// How long a self-managed deployment may wait to be reported, before it fails.
    pub self_managed_timeout: Duration,
    /// Where bundles come from.
    pub buckets: Buckets,
    pub quotas: Quotas,
}

/// Service quotas, per account and region: the newest figures of the User Guide's page on
/// quotas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quotas {
    /// Both kinds together.
    pub templates: u64,
    pub versions_per_template: u64,
    pub environments: u64,
    pub services: u64,
    pub instances_per_service: usize,
    pub components: u64,
    pub account_connections: u64,
    /// Not published by AWS; bounds what one account can store.
    pub repositories: u64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            templates: 1000,
            versions_per_template: 1000,
            environments: 1000,
            services: 1000,
            instances_per_service: 20,
            components: 1000,
            account_connections: 1000,
            repositories: 1000,
        }
    }
}

/// The world as one operation sees it: time stands still meanwhile.
#[derive(Debug, Clone)]
pub struct Context {
    now: SystemTime,
    pub settings: Arc<Settings>,
}

impl Context {
    pub fn new(now: SystemTime, settings: Arc<Settings>) -> Self {
        Self { now, settings }
    }

    /// The time as the contract writes it.
    pub fn now(&self) -> Timestamp {
        timestamp(self.now)
    }

    /// The time in milliseconds since the epoch.
    pub fn now_millis(&self) -> i64 {
        epoch_millis(self.now)
    }

    /// When a simulated step that begins now ends, in milliseconds since the epoch.
    pub fn settle_at(&self) -> i64 {
        epoch_millis(self.now + self.settings.step)
    }

    /// When a self-managed deployment that begins now is given up.
    pub fn give_up_at(&self) -> i64 {
        epoch_millis(self.now + self.settings.self_managed_timeout)
    }

    /// The ARN of a resource of this account: `environment/prod` and so on.
    pub fn arn(&self, tail: &str) -> String {
        let Settings {
            region, account_id, ..
        } = &*self.settings;
        format!("arn:aws:proton:{region}:{account_id}:{tail}")
    }

    /// A new id, of the form of deployments and account connections.
    pub fn new_id(&self) -> String {
        uuid::Uuid::new_v4().to_string()
    }
}

//! What an operation knows of the world: the time, the account, and the engine's settings.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use prost_types::Timestamp;

use super::bucket::Buckets;
use super::paging::Seal;
use super::template::schema::Schema;
use crate::api::pb::DeploymentStatus;
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

/// Schemas that were read lately, by their text: compiling one costs more than all else that a
/// create does.
#[derive(Debug, Default)]
pub struct Schemas(Mutex<HashMap<String, Option<Schema>>>);

/// Schemas that are kept. A text has 51,200 characters at most.
const MOST_SCHEMAS: usize = 64;

impl Schemas {
    /// The schema with this text, if it was read lately: `Some(None)` if the text is none.
    pub fn known(&self, text: &str) -> Option<Option<Schema>> {
        self.locked().get(text).cloned()
    }

    /// The schema with this text, if it is one. Reading it may take a second.
    pub fn read(&self, text: &str) -> Option<Schema> {
        if let Some(known) = self.known(text) {
            return known;
        }
        // Not under the lock: who wants another schema does not wait for this one.
        let schema = Schema::parse(text).ok();
        self.keep(text, schema.clone());
        schema
    }

    /// Remembers a schema that was read elsewhere.
    pub fn put(&self, text: &str, schema: &Schema) {
        self.keep(text, Some(schema.clone()));
    }

    fn keep(&self, text: &str, schema: Option<Schema>) {
        let mut schemas = self.locked();
        if schemas.len() >= MOST_SCHEMAS && !schemas.contains_key(text) {
            schemas.clear();
        }
        schemas.insert(text.to_owned(), schema);
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<String, Option<Schema>>> {
        // A panic elsewhere leaves the map whole: it holds finished schemas only.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which schema an operation lacked, because it was not read lately.
#[derive(Debug, Clone, Default)]
pub struct Lacked(Arc<Mutex<Option<String>>>);

impl Lacked {
    fn note(&self, text: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(text.to_owned());
    }

    fn is_noted(&self) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    pub fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The world as one operation sees it: time stands still meanwhile.
#[derive(Debug, Clone)]
pub struct Context {
    now: SystemTime,
    pub settings: Arc<Settings>,
    schemas: Arc<Schemas>,
    seal: Seal,
    lacked: Option<Lacked>,
    ended: Ended,
}

/// How deployments ended in an operation; it may still be undone.
#[derive(Debug, Clone, Default)]
pub struct Ended(Arc<Mutex<Vec<DeploymentStatus>>>);

impl Ended {
    pub fn take(&self) -> Vec<DeploymentStatus> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Context {
    pub(super) fn note_ended(&self, status: DeploymentStatus) {
        let mut ended = self.ended.0.lock().unwrap_or_else(PoisonError::into_inner);
        ended.push(status);
    }

    /// Where it is put down how deployments ended.
    pub fn ended(&self) -> Ended {
        self.ended.clone()
    }

    pub fn new(now: SystemTime, settings: Arc<Settings>, schemas: Arc<Schemas>) -> Self {
        Self {
            now,
            settings,
            schemas,
            seal: Seal::default(),
            lacked: None,
            ended: Ended::default(),
        }
    }

    /// The context of an operation whose pages may end before the list does.
    #[must_use]
    pub fn sealing(self, seal: Seal) -> Self {
        Self { seal, ..self }
    }

    /// What seals where pages end.
    pub fn seal(&self) -> &Seal {
        &self.seal
    }

    /// The context of an operation that is not to read schemas: the one it lacks is noted, and the
    /// operation is to fail.
    #[must_use]
    pub fn noting(self, lacked: Lacked) -> Self {
        Self {
            lacked: Some(lacked),
            ..self
        }
    }

    /// Whether a schema was lacking.
    pub fn lacks_a_schema(&self) -> bool {
        self.lacked.as_ref().is_some_and(Lacked::is_noted)
    }

    /// The schema with this text, if it is one.
    pub fn schema(&self, text: &str) -> Option<Schema> {
        match (&self.lacked, self.schemas.known(text)) {
            (_, Some(known)) => known,
            (Some(lacked), None) => {
                lacked.note(text);
                None
            }
            (None, None) => self.schemas.read(text),
        }
    }

    /// The time as the contract writes it.
    pub fn now(&self) -> Timestamp {
        timestamp(self.now)
    }

    /// The time in milliseconds since the epoch.
    pub fn now_millis(&self) -> i64 {
        epoch_millis(self.now)
    }

    /// In milliseconds since the epoch; a time that cannot be told never comes.
    fn after(&self, span: Duration) -> i64 {
        self.now.checked_add(span).map_or(i64::MAX, epoch_millis)
    }

    /// When a simulated step that begins now ends, in milliseconds since the epoch.
    pub fn settle_at(&self) -> i64 {
        self.after(self.settings.step)
    }

    /// When a self-managed deployment that begins now is given up.
    pub fn give_up_at(&self) -> i64 {
        self.after(self.settings.self_managed_timeout)
    }

    /// The ARN of a resource of this account: `environment/prod` and so on.
    pub fn arn(&self, tail: &str) -> String {
        let Settings {
            region, account_id, ..
        } = &*self.settings;
        format!("arn:aws:proton:{region}:{account_id}:{tail}")
    }

    /// What follows account and region in an ARN of this account: `environment/prod`.
    pub fn tail<'a>(&self, arn: &'a str) -> Option<&'a str> {
        arn.strip_prefix(self.arn("").as_str())
    }

    /// A new id, of the form of deployments and account connections.
    pub fn new_id(&self) -> String {
        uuid::Uuid::new_v4().to_string()
    }
}

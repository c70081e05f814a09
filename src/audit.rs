//! Who changed what, who was denied, and what happened to the gateway itself: one JSON record a
//! line.
//!
//! Records are made here and written by a thread of their own. Mutations and denials in the
//! pipeline come from `pipeline::audit`, denied streams from [`crate::admission`].

mod file;
mod record;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use self::file::RotatingFile;
use self::record::{Kind, Record};
use self::writer::{Message, Writer};
use crate::api::{Class, Rpc};
use crate::auth::Method;
use crate::clock::Clock;
use crate::config::audit::AuditConfig;
use crate::edge::{Arrival, status};
use crate::error::{Error, ErrorKind, Result};
use crate::gateway::{Call, Door, Reply};
use crate::server::Peer;
use crate::telemetry::Metrics;

/// How long a record may take to reach the disk before its call is refused.
const PATIENCE: Duration = Duration::from_secs(5);
/// When a caller may come back whose record could not be written.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Takes records. Clones write to the same place.
#[derive(Clone)]
pub struct Audit(Arc<Shared>);

struct Shared {
    queue: std::sync::mpsc::Sender<Message>,
    /// What bounds the queue: each record takes a place until it is written.
    room: Arc<Semaphore>,
    blocking: bool,
    clock: Arc<dyn Clock>,
    loss: Arc<Loss>,
}

/// Records that were not written.
struct Loss {
    /// Since the last one that was.
    since: AtomicU64,
    metrics: Metrics,
}

impl Loss {
    fn count(&self, why: &str) {
        self.metrics.audit_lost();
        if self.since.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::error!(why, "audit records are being lost");
        }
    }
}

impl Audit {
    /// Opens the files, and starts the thread that writes.
    pub fn open(
        config: &AuditConfig,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> std::result::Result<Self, String> {
        let file = match &config.file {
            Some(path) => {
                let size = config.max_size.map_or(u64::MAX, |size| size.0);
                let keep = config.keep.unwrap_or(1);
                let mut file = RotatingFile::new(path.clone(), size, keep);
                file.open().map_err(|error| {
                    format!("cannot open the audit file {}: {error}", path.display())
                })?;
                Some(file)
            }
            None => None,
        };
        let denials = match &config.file {
            // What is no regular file is not rotated, and has no neighbour.
            Some(path) if path.is_file() => {
                let size = config.max_size.map_or(u64::MAX, |size| size.0);
                let mut name = path.clone().into_os_string();
                name.push(".denials");
                let mut file = RotatingFile::new(name.into(), size, config.keep.unwrap_or(1));
                file.open()
                    .map_err(|error| format!("cannot open {}.denials: {error}", path.display()))?;
                Some(file)
            }
            _ => None,
        };
        let loss = Arc::new(Loss {
            since: AtomicU64::new(0),
            metrics,
        });
        let (queue, records) = std::sync::mpsc::channel();
        let writer = Writer::new(file, denials, config.stdout, Arc::clone(&loss));
        std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run(&records))
            .map_err(|error| format!("cannot start the audit's thread: {error}"))?;
        let room = usize::try_from(config.queue).unwrap_or(usize::MAX);
        Ok(Self(Arc::new(Shared {
            queue,
            room: Arc::new(Semaphore::new(room.min(Semaphore::MAX_PERMITS))),
            blocking: config.blocking,
            clock,
            loss,
        })))
    }

    /// Begins the record of a call. Where the audit is blocking, returns when the beginning of a
    /// mutation is on disk; an error says that nothing may be changed.
    pub async fn begin(&self, call: &Call) -> Result<Entry> {
        let mut entry = Entry {
            audit: self.clone(),
            call: call.clone(),
            began: Instant::now(),
            room: None,
            ended: false,
            replayed: false,
        };
        if !self.0.blocking || !entry.mutates() {
            return Ok(entry);
        }
        let begun = tokio::time::timeout(PATIENCE, self.write_beginning(&mut entry)).await;
        if begun == Ok(true) {
            return Ok(entry);
        }
        let error = Error::new(
            ErrorKind::Unavailable {
                retry_after: RETRY_AFTER,
            },
            "the audit cannot be written, so that nothing may be changed; nothing was changed",
        );
        // If anything was written, its outcome follows.
        if entry.room.is_some() {
            entry.end(&Err(error.clone()));
        } else {
            entry.ended = true;
        }
        Err(error)
    }

    async fn write_beginning(&self, entry: &mut Entry) -> bool {
        // Two places: no outcome is lost whose beginning was written.
        let Ok(mut room) = Arc::clone(&self.0.room).acquire_many_owned(2).await else {
            return false;
        };
        entry.room = room.split(1);
        let record = Record::of(&entry.call, self.now()).begun();
        let (written, answer) = oneshot::channel();
        self.send(Message {
            record: Some(record),
            written: Some(written),
            room: Some(room),
        });
        answer.await.unwrap_or(false)
    }

    /// Records that a caller was denied a stream of `rpc`; `call` is what it would have asked for.
    pub fn denied(&self, rpc: &'static Rpc, call: &Call, error: &Error) {
        if is_denial(error) {
            let record = Record::of(call, self.now()).of_rpc(rpc.method);
            self.offer(record.ended(Kind::Denial, reason(error), None));
        }
    }

    /// Records that a caller was denied an rpc that asks for nothing of a backend.
    pub fn denied_consultation(&self, rpc: &'static Rpc, arrival: &Arrival, error: &Error) {
        if is_denial(error) {
            let record = Record::consultation(self.now(), rpc.method, arrival);
            self.offer(record.ended(Kind::Denial, reason(error), None));
        }
    }

    /// Records that a door did not let somebody in who did not prove who it is.
    pub fn unauthenticated(&self, door: Door, peer: &Peer, request_id: &str, rpc: Option<&str>) {
        self.offer(Record::unauthenticated(
            self.now(),
            door,
            peer,
            request_id,
            rpc,
        ));
    }

    /// Records what is no call: `policies-reloaded`, `configuration-loaded`. `details` must not
    /// hold secrets.
    pub fn event(&self, event: &'static str, details: Value) {
        self.offer(Record::event(self.now(), event, details));
    }

    /// Returns when everything so far has been written, or after a while.
    pub async fn flush(&self) {
        let (written, answer) = oneshot::channel();
        self.send(Message {
            record: None,
            written: Some(written),
            room: None,
        });
        if tokio::time::timeout(PATIENCE, answer).await.is_err() {
            tracing::error!("the last audit records could not be written in time");
        }
    }

    /// Queues a record if there is room, and counts it as lost if not.
    fn offer(&self, record: Record) {
        match Arc::clone(&self.0.room).try_acquire_owned() {
            Ok(room) => self.queue(record, room),
            Err(_) => self.0.loss.count("the queue is full"),
        }
    }

    fn queue(&self, record: Record, room: OwnedSemaphorePermit) {
        self.send(Message {
            record: Some(record),
            written: None,
            room: Some(room),
        });
    }

    fn send(&self, message: Message) {
        if self.0.queue.send(message).is_err() {
            self.0.loss.count("the audit's thread has ended");
        }
    }

    fn now(&self) -> std::time::SystemTime {
        self.0.clock.now()
    }
}

fn is_denial(error: &Error) -> bool {
    matches!(
        *error.kind,
        ErrorKind::AccessDenied { .. } | ErrorKind::Unauthenticated { .. }
    )
}

fn reason(error: &Error) -> &'static str {
    status::meaning(&error.kind).reason
}

/// A call whose record is not complete. What is dropped before the end was abandoned.
pub struct Entry {
    audit: Audit,
    call: Call,
    began: Instant,
    /// For the outcome.
    room: Option<OwnedSemaphorePermit>,
    ended: bool,
    replayed: bool,
}

impl Entry {
    /// Records how the call ended, if that is to be on the record.
    pub fn end(mut self, outcome: &Result<Reply>) {
        self.replayed = match outcome {
            Ok(reply) => reply.replayed,
            Err(error) => error.replayed,
        };
        let (denied, reason, upstream) = match outcome {
            Ok(reply) => (false, "OK", reply.upstream_request_id.as_deref()),
            Err(error) => {
                let upstream = error.upstream.as_deref();
                let id = upstream.and_then(|upstream| upstream.request_id.as_deref());
                (is_denial(error), reason(error), id)
            }
        };
        let kind = if denied { Kind::Denial } else { Kind::Mutation };
        // The gateway's polls answer callers that were denied or not when they came.
        let asked_by_a_caller = self.call.principal.method != Method::Gateway;
        if self.mutates() || (denied && asked_by_a_caller) {
            self.write(kind, reason, upstream);
        }
        self.ended = true;
    }

    fn mutates(&self) -> bool {
        self.call.operation.rpc().class == Class::Write
    }

    fn write(&mut self, kind: Kind, reason: &'static str, upstream_request_id: Option<&str>) {
        let mut record = Record::of(&self.call, self.audit.now())
            .ended(kind, reason, upstream_request_id)
            .after(self.began.elapsed());
        let decision = self.call.decision.get();
        record.replayed = self.replayed;
        record.policies = decision.map(|decision| decision.policies().to_vec());
        match self.room.take() {
            Some(room) => self.audit.queue(record, room),
            None => self.audit.offer(record),
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.ended && self.mutates() {
            self.write(Kind::Mutation, "ABANDONED", None);
        }
    }
}

#[cfg(test)]
mod tests;

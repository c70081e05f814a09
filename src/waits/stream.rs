//! One caller's stream: what its poller sees becomes events.
//!
//! A stream is driven by its reader. What happens while the reader is slow is not queued: it gets
//! the latest state, and the number of those in between.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use prost::Message;
use serde_json::Value;
use tokio::time::{Instant, sleep_until};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::Waits;
use super::deployment::resource;
use super::poller::{Seen, Watcher};
use super::token::Position;
use crate::admission::Admission;
use crate::api::waits::{Outcome, WaitPolicy};
use crate::api::{Request, Response, pb};
use crate::clock::timestamp;
use crate::edge::status;
use crate::error::{Error, ErrorKind, Result};
use crate::upstream::Identity;
use pb::wait_event::Event;

/// How long before its end a stream says that it ends.
pub(super) const WARNING: Duration = Duration::from_millis(500);

/// What a caller asked for, checked.
pub(super) struct Wanted {
    pub policy: &'static WaitPolicy,
    /// What is polled.
    pub polled: Request,
    /// What lists the outputs, if the caller wants them.
    pub outputs: Option<Request>,
    /// What the wait is for, for tokens.
    pub wait: Vec<u8>,
    pub heartbeat: Duration,
    /// When the wait has lasted too long.
    pub ends: Instant,
    /// When the caller stops reading; absent where it set no deadline.
    pub deadline: Option<Instant>,
    pub fail_on_failure: bool,
    pub position: Option<Position>,
    /// As whom the upstream is asked.
    pub identity: Identity,
    pub request_id: String,
}

/// A wait under way.
pub(super) struct Waiting {
    waits: Waits,
    wanted: Wanted,
    watcher: Watcher,
    admission: Admission,
    drain: BoxFuture<'static, ()>,
    began: Instant,
    position: Position,
    /// Whether a snapshot was told.
    shown: bool,
    degraded: bool,
    /// Counter of the poller's changes at the last event.
    changes: u64,
    polled_at: Option<SystemTime>,
    heartbeat_at: Instant,
    last: Option<Arc<Seen>>,
    events: VecDeque<pb::WaitEvent>,
    /// What the stream ends with, after the events.
    failure: Option<Status>,
    ended: bool,
}

/// The string at a path of AWS's spelling.
fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a str> {
    path.iter()
        .try_fold(value, |value, part| value.get(part))
        .and_then(Value::as_str)
}

impl Waiting {
    /// Waits for a first look at the resource. An error here is the answer of the call: there is
    /// no stream.
    pub(super) async fn open(
        waits: Waits,
        wanted: Wanted,
        watcher: Watcher,
        admission: Admission,
    ) -> Result<Self> {
        let began = Instant::now();
        let drain = Box::pin(waits.shutdown.clone().told());
        let mut waiting = Self {
            heartbeat_at: began + wanted.heartbeat,
            position: wanted.position.clone().unwrap_or_default(),
            waits,
            wanted,
            watcher,
            admission,
            drain,
            began,
            shown: false,
            degraded: false,
            changes: 0,
            polled_at: None,
            last: None,
            events: VecDeque::new(),
            failure: None,
            ended: false,
        };
        // A state from before this wait might be from before the caller's own update.
        let first = loop {
            let (close_at, _) = waiting.close_at();
            tokio::select! {
                changed = waiting.watcher.seen.changed() => {
                    let seen = waiting.watcher.seen.borrow_and_update().clone();
                    match (changed, seen) {
                        (Err(_), _) => break None,
                        (Ok(()), Some(seen)) if seen.began >= waiting.began => break Some(seen),
                        // The poll had begun before.
                        _ => waiting.watcher.join(),
                    }
                }
                () = sleep_until(close_at) => break None,
                () = &mut waiting.drain => break None,
            }
        };
        match first.as_deref() {
            None => {
                let (_, reason) = waiting.close_at();
                waiting.close(reason).await;
            }
            Some(Seen {
                outcome: Err(error),
                ..
            }) if waiting.is_final(error) => {
                return Err(error.clone());
            }
            Some(_) => {}
        }
        if let Some(first) = first {
            waiting.observe(first).await;
        }
        Ok(waiting)
    }

    /// Whether a first look that ends with `error` means that there is nothing to wait for.
    fn is_final(&self, error: &Error) -> bool {
        match &*error.kind {
            ErrorKind::NotFound { .. } => !self
                .wanted
                .policy
                .acceptor_of_error(status::meaning(&error.kind).exception)
                .is_some_and(|acceptor| acceptor.success || self.wanted.position.is_some()),
            ErrorKind::Invalid { .. }
            | ErrorKind::AccessDenied { .. }
            | ErrorKind::UnknownOperation => true,
            _ => false,
        }
    }

    /// When the stream has to end, and why.
    fn close_at(&self) -> (Instant, End) {
        let early = |at: Instant| at.checked_sub(WARNING).unwrap_or(at);
        match self.wanted.deadline {
            Some(deadline) if early(deadline) < self.wanted.ends => {
                (early(deadline), End::Deadline)
            }
            _ => (self.wanted.ends, End::TimedOut),
        }
    }

    /// The next event; `None` at the end of the stream.
    pub(super) async fn next(&mut self) -> Option<std::result::Result<pb::WaitEvent, Status>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                self.heartbeat_at = Instant::now() + self.wanted.heartbeat;
                return Some(Ok(event));
            }
            if self.ended {
                return self.failure.take().map(Err);
            }
            let (close_at, reason) = self.close_at();
            tokio::select! {
                biased;
                seen = self.watcher.seen.changed() => {
                    let latest = self.watcher.seen.borrow_and_update().clone();
                    match (seen, latest) {
                        (Ok(()), Some(latest)) => self.observe(latest).await,
                        // A poller that is gone is a defect; the token takes the caller on.
                        _ => self.close(End::Drain).await,
                    }
                }
                () = &mut self.drain => self.close(End::Drain).await,
                () = self.admission.over() => self.close(End::Reauthenticate).await,
                () = sleep_until(close_at) => self.close(reason).await,
                () = sleep_until(self.heartbeat_at) => {
                    let heartbeat = pb::WaitHeartbeat {
                        last_polled_at: self.polled_at.map(timestamp),
                    };
                    self.say(Event::Heartbeat(heartbeat), 0);
                }
            }
        }
    }

    fn say(&mut self, event: Event, coalesced: u64) {
        self.position.sequence += 1;
        let now = SystemTime::now();
        let token = self
            .waits
            .settings
            .key
            .seal(&self.position, &self.wanted.wait, now);
        self.events.push_back(pb::WaitEvent {
            sequence: self.position.sequence,
            observed_at: Some(timestamp(now)),
            resume_token: token,
            coalesced,
            event: Some(event),
        });
    }

    /// Turns what the poller saw into events.
    async fn observe(&mut self, seen: Arc<Seen>) {
        if seen.began < self.began {
            return;
        }
        let skipped = match self.changes {
            0 => 0,
            known => seen.changes.saturating_sub(known).saturating_sub(1),
        };
        self.changes = seen.changes;
        match &seen.outcome {
            Ok(response) => {
                self.polled_at = Some(seen.at);
                self.degraded = false;
                self.last = Some(Arc::clone(&seen));
                self.state(response, skipped).await;
            }
            Err(error) => self.error(error, skipped).await,
        }
    }

    async fn state(&mut self, response: &Response, skipped: u64) {
        let policy = self.wanted.policy;
        let value = response.to_json();
        let status = at(&value, policy.status).unwrap_or_default().to_owned();
        let deployment = at(&value, policy.deployment).map(str::to_owned);
        if !self.shown {
            self.shown = true;
            // A resumed wait stays with its deployment.
            if self.position.deployment.is_none() {
                self.position.deployment.clone_from(&deployment);
            }
            self.position.status.clone_from(&status);
            let snapshot = pb::WaitSnapshot {
                status: status.clone(),
                resource: resource(response),
            };
            self.say(Event::Snapshot(snapshot), 0);
        } else if status != self.position.status {
            let from = std::mem::replace(&mut self.position.status, status.clone());
            if self.position.deployment.is_none() {
                self.position.deployment.clone_from(&deployment);
            }
            let transition = pb::WaitTransition {
                from,
                to: status.clone(),
                resource: resource(response),
            };
            self.say(Event::Transition(transition), skipped);
        }
        match (&self.position.deployment, deployment) {
            (Some(pinned), Some(latest)) if *pinned != latest => {
                let pinned = pinned.clone();
                self.superseded(&pinned, latest, response).await;
            }
            _ => {
                if let Some(acceptor) = policy.acceptor_of_status(&status) {
                    let message = message(&value, policy.status);
                    self.end(
                        acceptor.outcome.into(),
                        acceptor.success,
                        message,
                        Some(response),
                    )
                    .await;
                }
            }
        }
    }

    /// Another deployment has taken the place of the one that is waited for, which has ended
    /// therefore: how is on its record.
    async fn superseded(&mut self, pinned: &str, latest: String, response: &Response) {
        let superseded = pb::WaitSuperseded {
            deployment_id: latest,
        };
        self.say(Event::Superseded(superseded), 0);
        let record = self.waits.deployment(pinned, &self.wanted.identity).await;
        let ended = record.as_ref().and_then(|record| {
            let name = record.deployment_status().as_str_name();
            self.wanted
                .policy
                .acceptor_of_status(name.trim_start_matches("DEPLOYMENT_STATUS_"))
        });
        let message = record.and_then(|record| record.deployment_status_message);
        match ended {
            Some(acceptor) => {
                self.end(
                    acceptor.outcome.into(),
                    acceptor.success,
                    message.unwrap_or_default(),
                    Some(response),
                )
                .await;
            }
            None => {
                self.end(
                    pb::WaitOutcome::Superseded,
                    false,
                    message.unwrap_or_default(),
                    Some(response),
                )
                .await;
            }
        }
    }

    async fn error(&mut self, error: &Error, skipped: u64) {
        let exception = status::meaning(&error.kind).exception;
        if let Some(acceptor) = self.wanted.policy.acceptor_of_error(exception) {
            let from = std::mem::take(&mut self.position.status);
            if self.shown {
                let transition = pb::WaitTransition {
                    from,
                    to: String::new(),
                    resource: None,
                };
                self.say(Event::Transition(transition), skipped);
            } else {
                self.say(Event::Snapshot(pb::WaitSnapshot::default()), 0);
            }
            self.shown = true;
            self.end(
                acceptor.outcome.into(),
                acceptor.success,
                String::new(),
                None,
            )
            .await;
        } else if !self.degraded {
            self.degraded = true;
            let status = status::of(error, None, &self.wanted.request_id);
            // What a call's answer carries in its trailer, whole.
            let degraded = pb::WaitDegraded {
                status: tonic_types::pb::Status::decode(status.details()).ok(),
            };
            self.say(Event::Degraded(degraded), 0);
        }
    }

    async fn close(&mut self, end: End) {
        let reason = match end {
            End::Deadline => pb::WaitClosingReason::Deadline,
            End::Drain => pb::WaitClosingReason::Drain,
            End::Reauthenticate => pb::WaitClosingReason::Reauthenticate,
            End::TimedOut => {
                let message = "the maximum duration of the wait has passed".to_owned();
                let last = self.last.clone();
                let response = last.as_ref().and_then(|seen| seen.outcome.as_ref().ok());
                self.end(pb::WaitOutcome::TimedOut, false, message, response)
                    .await;
                return;
            }
        };
        let closing = pb::WaitClosing {
            reason: reason.into(),
        };
        self.say(Event::Closing(closing), 0);
        self.ended = true;
    }

    async fn end(
        &mut self,
        outcome: pb::WaitOutcome,
        success: bool,
        message: String,
        response: Option<&Response>,
    ) {
        let deployment = match &self.position.deployment {
            Some(id) => self.waits.deployment(id, &self.wanted.identity).await,
            None => None,
        };
        let mut outputs = Vec::new();
        if let (true, Some(request)) = (success, self.wanted.outputs.clone()) {
            let id = self.position.deployment.clone();
            // The deployment has succeeded all the same; who needs its outputs can list them.
            outputs = self
                .waits
                .outputs(request, id, &self.wanted.identity)
                .await
                .unwrap_or_default();
        }
        if !success && self.wanted.fail_on_failure {
            self.failure = Some(failure(outcome, &message, &self.wanted));
        }
        let terminal = pb::WaitTerminal {
            outcome: outcome.into(),
            success,
            message,
            resource: response.and_then(resource),
            deployment,
            outputs,
        };
        self.say(Event::Terminal(terminal), 0);
        self.ended = true;
    }
}

/// Why a stream ends.
#[derive(Debug, Clone, Copy)]
enum End {
    Deadline,
    Drain,
    Reauthenticate,
    TimedOut,
}

impl From<Outcome> for pb::WaitOutcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Succeeded => Self::Succeeded,
            Outcome::Failed => Self::Failed,
            Outcome::Cancelled => Self::Cancelled,
            Outcome::Deleted => Self::Deleted,
        }
    }
}

/// What a resource says of its status: the field beside it in AWS's spelling.
fn message(value: &Value, status: &[&str]) -> String {
    let Some((last, path)) = status.split_last() else {
        return String::new();
    };
    let name = format!("{last}Message");
    let mut path = path.to_vec();
    path.push(&name);
    at(value, &path).unwrap_or_default().to_owned()
}

/// The status of a stream that told of a failure.
fn failure(outcome: pb::WaitOutcome, message: &str, wanted: &Wanted) -> Status {
    let (code, reason) = match outcome {
        pb::WaitOutcome::TimedOut => (Code::DeadlineExceeded, "WAIT_TIMED_OUT"),
        pb::WaitOutcome::Cancelled => (Code::Aborted, "WAIT_CANCELLED"),
        pb::WaitOutcome::Superseded => (Code::Aborted, "WAIT_SUPERSEDED"),
        pb::WaitOutcome::Deleted => (Code::NotFound, "WAIT_DELETED"),
        _ => (Code::FailedPrecondition, "WAIT_FAILED"),
    };
    let facts = std::collections::HashMap::from([
        ("wait".to_owned(), wanted.policy.name.to_owned()),
        ("request_id".to_owned(), wanted.request_id.clone()),
    ]);
    let details = ErrorDetails::with_error_info(reason, status::DOMAIN, facts);
    let text = if message.is_empty() {
        format!("the wait ended: {}", outcome.as_str_name())
    } else {
        message.to_owned()
    };
    Status::with_error_details(code, text, details)
}

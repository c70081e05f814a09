//! One caller's stream: what its poller sees becomes events.
//!
//! A stream is driven by its reader. What happens while the reader is slow is not queued: it gets
//! the latest state, and the number of those in between.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::KeyValue;
use opentelemetry::trace::SpanRef;
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
use crate::api::waits::{Acceptor, Outcome, WaitPolicy};
use crate::api::{Request, Response, pb};
use crate::clock::timestamp;
use crate::edge::status;
use crate::error::{Error, ErrorKind, Result};
use crate::telemetry::Trace;
use pb::wait_event::Event;

/// How long before its end a stream says that it ends.
pub(super) const WARNING: Duration = Duration::from_millis(500);
/// How long the answer of a call waits for the first look; after that there is a stream, and what
/// is seen comes there.
const OPENING: Duration = Duration::from_secs(10);
/// The exception of a poll that finds nothing.
const NOT_FOUND: &str = "ResourceNotFoundException";
/// How long what is asked beside the polls may take: a record, outputs.
const ASIDE: Duration = Duration::from_secs(5);

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
    /// When the call itself has to be answered.
    pub answer_by: Instant,
    pub fail_on_failure: bool,
    pub position: Option<Position>,
    pub request_id: String,
    /// Whose span tells of its events.
    pub trace: Trace,
}

/// A wait under way.
pub(super) struct Waiting {
    waits: Waits,
    wanted: Wanted,
    watcher: Watcher,
    admission: Admission,
    began: Instant,
    position: Position,
    /// Whether a snapshot was told.
    shown: bool,
    degraded: bool,
    /// Whether it was told that another deployment has taken the place.
    replaced: bool,
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

/// Tells a span what has happened. Signs of life are not told.
fn note(span: &SpanRef<'_>, sequence: u64, event: &Event) {
    let text = |key, value: &str| KeyValue::new(key, value.to_owned());
    let (name, mut told) = match event {
        Event::Heartbeat(_) => return,
        Event::Snapshot(now) => ("snapshot", vec![text("proton.status", &now.status)]),
        Event::Transition(change) => (
            "transition",
            vec![
                text("proton.status.before", &change.from),
                text("proton.status", &change.to),
            ],
        ),
        Event::Terminal(end) => (
            "terminal",
            vec![KeyValue::new("proton.success", end.success)],
        ),
        Event::Degraded(_) => ("degraded", Vec::new()),
        Event::Superseded(_) => ("superseded", Vec::new()),
        Event::Closing(_) => ("closing", Vec::new()),
    };
    let sequence = i64::try_from(sequence).unwrap_or(i64::MAX);
    told.push(KeyValue::new("proton.sequence", sequence));
    span.add_event(name, told);
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
        let mut waiting = Self {
            heartbeat_at: began + wanted.heartbeat,
            position: wanted.position.clone().unwrap_or_default(),
            waits,
            wanted,
            watcher,
            admission,
            began,
            shown: false,
            degraded: false,
            replaced: false,
            changes: 0,
            polled_at: None,
            last: None,
            events: VecDeque::new(),
            failure: None,
            ended: false,
        };
        // A state from before this wait might be from before the caller's own update.
        let opened_by = (began + OPENING).min(waiting.wanted.answer_by);
        let first = loop {
            let (close_at, reason) = waiting.close_at();
            tokio::select! {
                changed = waiting.watcher.seen.changed() => {
                    let seen = waiting.watcher.seen.borrow_and_update().clone();
                    match (changed, seen) {
                        // A poller that is gone is a defect; the token takes the caller on.
                        (Err(_), _) => break Err(End::Drain),
                        (Ok(()), Some(seen)) if seen.began >= waiting.began => break Ok(Some(seen)),
                        // The poll had begun before.
                        _ => waiting.watcher.join(),
                    }
                }
                () = sleep_until(close_at) => break Err(reason),
                () = waiting.waits.shutdown.clone().told() => break Err(End::Drain),
                () = waiting.admission.over() => break Err(End::Reauthenticate),
                () = sleep_until(opened_by) => break Ok(None),
            }
        };
        match first {
            Err(end) => waiting.close(end).await,
            Ok(None) => {}
            Ok(Some(seen)) => {
                if let Err(error) = &seen.outcome
                    && waiting.is_final(error)
                {
                    return Err(error.clone());
                }
                if let Ok(response) = &seen.outcome {
                    waiting.has_what_is_waited_for(response)?;
                }
                waiting.observe(seen).await;
            }
        }
        Ok(waiting)
    }

    /// An error if the resource has settled without the part that is waited for, such as a service
    /// without a pipeline.
    fn has_what_is_waited_for(&self, response: &Response) -> Result<()> {
        let [resource, part, _] = self.wanted.policy.status else {
            return Ok(());
        };
        let value = response.to_json();
        let status = at(&value, &[resource, "status"]).unwrap_or_default();
        let there = value.get(resource).and_then(|found| found.get(part));
        if there.is_some() || status.is_empty() || status.ends_with("_IN_PROGRESS") {
            return Ok(());
        }
        let name = self.wanted.polled.name().unwrap_or_default();
        Err(Error::precondition(
            format!("{resource}/{name}"),
            format!("the {resource} has no {part}, so that there is nothing to wait for"),
        ))
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
                () = self.waits.shutdown.clone().told() => self.close(End::Drain).await,
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
        let sequence = self.position.sequence;
        self.wanted.trace.note(|span| note(span, sequence, &event));
        let now = SystemTime::now();
        let token = self
            .waits
            .settings
            .load()
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
                // Where another has taken the place, it is the record that cannot be read.
                self.degraded &= self.replaced;
                self.last = Some(Arc::clone(&seen));
                self.state(response, skipped).await;
            }
            // The stream was open before the first look.
            Err(error) if !self.shown && self.is_final(error) => self.fail(error),
            Err(error) => self.error(error, skipped).await,
        }
    }

    /// Ends the stream with an error.
    fn fail(&mut self, error: &Error) {
        self.failure = Some(status::of(error, None, &self.wanted.request_id));
        self.ended = true;
    }

    /// Asks something beside the polls, for no longer than the stream may still last.
    async fn aside<T>(&self, asked: impl Future<Output = Result<T>>) -> Result<T> {
        let (close_at, _) = self.close_at();
        let late = || {
            let kind = ErrorKind::Unavailable { retry_after: ASIDE };
            Error::new(kind, "the upstream did not answer in time")
        };
        tokio::select! {
            answer = asked => answer,
            () = sleep_until((Instant::now() + ASIDE).min(close_at)) => Err(late()),
            () = self.has_to_close() => Err(late()),
        }
    }

    /// Returns when the program has been told to stop for so long that there is just time to say so.
    /// Sooner would make of a wait that has ended one whose end cannot be read.
    async fn has_to_close(&self) {
        let shutdown = &self.waits.shutdown;
        shutdown.clone().told().await;
        tokio::time::sleep(shutdown.drain() / 2).await;
    }

    /// The record of a deployment; absent where there is none.
    async fn record(&self, id: &str) -> Result<Option<pb::Deployment>> {
        self.aside(self.waits.deployment(id, self.admission.identity()))
            .await
    }

    /// How a deployment has ended after its record, if it has.
    fn ending(&self, record: &pb::Deployment) -> Option<&'static Acceptor> {
        let name = record.deployment_status().as_str_name();
        self.wanted
            .policy
            .acceptor_of_status(name.trim_start_matches("DEPLOYMENT_STATUS_"))
    }

    async fn state(&mut self, response: &Response, skipped: u64) {
        let policy = self.wanted.policy;
        let value = response.to_json();
        let status = at(&value, policy.status).unwrap_or_default().to_owned();
        let deployment = at(&value, policy.deployment).map(str::to_owned);
        // Another one of the same name is another resource.
        let created = value
            .get(policy.status.first().copied().unwrap_or_default())
            .and_then(|resource| resource.get("createdAt"))
            .map(Value::to_string)
            .unwrap_or_default();
        if !created.is_empty()
            && !self.position.created.is_empty()
            && created != self.position.created
        {
            self.gone(skipped).await;
            return;
        }
        if !created.is_empty() {
            self.position.created = created;
        }
        if let Err(error) = self.has_what_is_waited_for(response) {
            if self.shown {
                self.gone(skipped).await;
            } else {
                self.fail(&error);
            }
            return;
        }
        let replaced = match (&self.position.deployment, &deployment) {
            (Some(pinned), Some(latest)) => pinned != latest,
            _ => false,
        };
        if !self.shown {
            self.shown = true;
            // A resumed wait stays with its deployment.
            if self.position.deployment.is_none() {
                self.position.deployment.clone_from(&deployment);
                self.position.before = succeeded(&value, policy.deployment);
            }
            self.position.status.clone_from(&status);
            let snapshot = pb::WaitSnapshot {
                status: status.clone(),
                resource: resource(response),
            };
            self.say(Event::Snapshot(snapshot), 0);
        } else if !replaced && status != self.position.status {
            let from = std::mem::replace(&mut self.position.status, status.clone());
            if self.position.deployment.is_none() && deployment != self.position.before {
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
            (None, Some(latest))
                if Some(&latest) == self.position.before.as_ref()
                    && policy.acceptor_of_status(&status).is_some() =>
            {
                // The record shows again what it showed before.
                let message = "it was not begun: what comes before it has failed".to_owned();
                self.end(pb::WaitOutcome::Cancelled, false, message, Some(response))
                    .await;
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
        if !self.replaced {
            self.replaced = true;
            let superseded = pb::WaitSuperseded {
                deployment_id: latest,
            };
            self.say(Event::Superseded(superseded), 0);
        }
        let record = match self.record(pinned).await {
            Ok(record) => record,
            // What cannot be read now may be read with the next poll.
            Err(error) => return self.degrade(&error),
        };
        let ended = record.as_ref().and_then(|record| self.ending(record));
        let (outcome, success) = match ended {
            Some(acceptor) => (acceptor.outcome.into(), acceptor.success),
            None => (pb::WaitOutcome::Superseded, false),
        };
        let message = record.and_then(|record| record.deployment_status_message);
        self.end(
            outcome,
            success,
            message.unwrap_or_default(),
            Some(response),
        )
        .await;
    }

    /// The resource is gone, and with it what was waited for, unless that had ended before.
    async fn gone(&mut self, skipped: u64) {
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
        let policy = self.wanted.policy;
        let gone = policy.acceptor_of_error(NOT_FOUND);
        let success = gone.is_some_and(|acceptor| acceptor.success);
        let outcome = gone.map_or(pb::WaitOutcome::Deleted, |acceptor| acceptor.outcome.into());
        let record = match &self.position.deployment {
            Some(pinned) if !success => self.record(pinned).await.ok().flatten(),
            _ => None,
        };
        let ended = record.as_ref().and_then(|record| self.ending(record));
        let message = record.and_then(|record| record.deployment_status_message);
        match ended {
            Some(acceptor) => {
                let (outcome, success) = (acceptor.outcome.into(), acceptor.success);
                self.end(outcome, success, message.unwrap_or_default(), None)
                    .await;
            }
            None => self.end(outcome, success, String::new(), None).await,
        }
    }

    async fn error(&mut self, error: &Error, skipped: u64) {
        let exception = status::meaning(&error.kind).exception;
        match self.wanted.policy.acceptor_of_error(exception) {
            Some(_) => self.gone(skipped).await,
            None => self.degrade(error),
        }
    }

    /// Says once that the upstream does not answer as it should.
    fn degrade(&mut self, error: &Error) {
        if self.degraded {
            return;
        }
        self.degraded = true;
        let status = status::of(error, None, &self.wanted.request_id);
        // What a call's answer carries in its trailer, whole.
        let degraded = pb::WaitDegraded {
            status: tonic_types::pb::Status::decode(status.details()).ok(),
        };
        self.say(Event::Degraded(degraded), 0);
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
        // Those whose caller has reason to come back soon are not many at a time.
        let pause = matches!(end, End::Drain).then(|| self.waits.shutdown.come_back_after());
        let closing = pb::WaitClosing {
            reason: reason.into(),
            reconnect_after: pause.and_then(|pause| pause.try_into().ok()),
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
        // Both are told besides: what has ended has ended, whether or not they can be read.
        let deployment = match &self.position.deployment {
            Some(id) if outcome != pb::WaitOutcome::TimedOut => {
                self.record(id).await.ok().flatten()
            }
            _ => None,
        };
        let mut outputs = Vec::new();
        let mut message = message;
        if let (true, Some(request)) = (success, self.wanted.outputs.clone()) {
            let id = self.position.deployment.clone();
            let asked = self.waits.outputs(request, id, self.admission.identity());
            match self.aside(asked).await {
                Ok(found) => outputs = found,
                Err(_) if message.is_empty() => {
                    "the outputs cannot be read now".clone_into(&mut message)
                }
                Err(_) => message.push_str(" (the outputs cannot be read now)"),
            }
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

/// The last deployment that has succeeded, which stands beside the latest one.
fn succeeded(value: &Value, latest: &[&str]) -> Option<String> {
    let (_, path) = latest.split_last()?;
    let path = [path, &["lastSucceededDeploymentId"]].concat();
    at(value, &path).map(str::to_owned)
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

//! The command line's own client: waits and deploys for people and their scripts.
//!
//! A stream that ends before its wait, or breaks, is gone on with by its resume token.

mod credential;
mod endpoint;
mod report;
mod target;

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::time::Instant;
use tokio_stream::StreamExt;
use tonic::transport::Channel;
use tonic::{Code, Status};

use self::credential::Credential;
pub use self::endpoint::Reach;
use self::report::{Output, Reporter};
pub use self::target::{DeployTarget, WaitTarget};
use self::target::{Stream, Target};
use crate::api::pb::wait_event::Event;
use crate::api::pb::{self, WaitOutcome};
use crate::config::Span;

/// Neither a failure of ours nor the end of what was waited for: as `timeout` says it.
const TIMED_OUT: u8 = 124;
const CANCELLED: u8 = 2;
const FAILED: u8 = 1;
/// The longest wait that one stream can have.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
const SHORTEST: Duration = Duration::from_secs(1);
/// How long the gateway has after the end of a wait to say so itself.
const GRACE: Duration = Duration::from_secs(2);
/// Pauses before a broken stream is opened again; the last one repeats.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// How to reach the gateway, and what to say.
#[derive(Debug, Clone, Args)]
pub struct Following {
    #[command(flatten)]
    reach: Reach,
    /// How long to wait at most; then the exit status is 124
    #[arg(long, global = true, default_value = "24h", value_name = "DURATION")]
    timeout: Span,
    /// What is written to the standard output
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "text",
        value_name = "FORMAT"
    )]
    output: Output,
    /// Say the outputs at the end; a deploy always does
    #[arg(long, global = true)]
    outputs: bool,
    #[command(flatten)]
    credential: Credential,
}

/// How a deploy is told apart from others.
#[derive(Debug, Clone, Args)]
pub struct Key {
    /// Names this deploy: the same again joins the first one [default: a new one]
    #[arg(long, global = true, value_name = "KEY")]
    idempotency_key: Option<String>,
}

/// Waits for `target`; the exit status says how that ended.
pub fn wait(target: WaitTarget, following: &Following) -> Result<ExitCode, String> {
    follow(&Target::Wait(target), following)
}

/// Deploys `target`, and waits until that has ended; the exit status says how.
pub fn deploy(target: DeployTarget, key: Key, following: &Following) -> Result<ExitCode, String> {
    // Whatever breaks, a second attempt of this program joins the first.
    let key = key
        .idempotency_key
        .unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let deploy = target.prepare(key)?;
    follow(&Target::Deploy(Box::new(deploy)), following)
}

fn follow(target: &Target, following: &Following) -> Result<ExitCode, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start the runtime: {error}"))?;
    runtime.block_on(async { Follower::new(target, following)?.run().await })
}

struct Follower<'a> {
    target: &'a Target,
    channel: Channel,
    credential: Credential,
    outputs: bool,
    timeout: Duration,
    ends: Instant,
    reporter: Reporter,
    resume_token: String,
}

/// Why a stream is opened again.
struct Broken(Status);

impl<'a> Follower<'a> {
    fn new(target: &'a Target, following: &Following) -> Result<Self, String> {
        let endpoint = following.reach.endpoint()?;
        let timeout = following.timeout.0;
        if !(SHORTEST..=LONGEST).contains(&timeout) {
            return Err("--timeout must be from 1s to 24h".to_owned());
        }
        Ok(Self {
            target,
            channel: endpoint.connect_lazy(),
            credential: following.credential.clone(),
            outputs: following.outputs,
            timeout,
            ends: Instant::now() + timeout,
            reporter: Reporter::new(following.output, target.to_string()),
            resume_token: String::new(),
        })
    }

    async fn run(mut self) -> Result<ExitCode, String> {
        let limit = self.ends + GRACE;
        let outcome = tokio::time::timeout_at(limit, self.until_the_end()).await;
        match outcome {
            Ok(Ok(code)) => Ok(code),
            Ok(Err(status)) => {
                self.reporter.close();
                Err(said(&status))
            }
            Err(_) => {
                self.reporter.gave_up(self.timeout);
                Ok(ExitCode::from(TIMED_OUT))
            }
        }
    }

    async fn until_the_end(&mut self) -> Result<ExitCode, Status> {
        let mut broken = 0;
        loop {
            let events = match self.open().await {
                Ok(mut stream) => {
                    let before = self.resume_token.clone();
                    let told = self.read(&mut stream).await;
                    if self.resume_token != before {
                        broken = 0;
                    }
                    told
                }
                Err(status) => Err(Broken(status)),
            };
            match events {
                Ok(Some(code)) => return Ok(code),
                // Closed before its end: go on at once.
                Ok(None) => {}
                Err(Broken(status)) if passes(&status) => {
                    self.reporter.interrupted(&said(&status));
                    let pause = PAUSES.get(broken).or(PAUSES.last()).copied();
                    tokio::time::sleep(pause.unwrap_or_default()).await;
                    broken += 1;
                }
                Err(Broken(status)) => return Err(status),
            }
        }
    }

    async fn open(&self) -> Result<Stream, Status> {
        let left = self.ends.saturating_duration_since(Instant::now());
        let options = pb::WaitOptions {
            resume_token: self.resume_token.clone(),
            max_duration: prost_types::Duration::try_from(left.clamp(SHORTEST, LONGEST)).ok(),
            include_outputs: self.outputs,
            // The terminal event says more.
            fail_on_failure: Some(false),
            ..pb::WaitOptions::default()
        };
        let channel = self.credential.over(self.channel.clone())?;
        self.target.open(channel, options).await
    }

    /// Reads to the end of the stream: the exit status, if that was the end of the wait.
    async fn read(&mut self, stream: &mut Stream) -> Result<Option<ExitCode>, Broken> {
        while let Some(item) = stream.next().await {
            let told = item.map_err(Broken)?;
            self.resume_token.clone_from(&told.event.resume_token);
            self.reporter.say(&told);
            if let Some(Event::Terminal(terminal)) = &told.event.event {
                return Ok(Some(exit_status(terminal).into()));
            }
        }
        Ok(None)
    }
}

fn exit_status(terminal: &pb::WaitTerminal) -> u8 {
    match terminal.outcome() {
        _ if terminal.success => 0,
        WaitOutcome::TimedOut => TIMED_OUT,
        WaitOutcome::Cancelled => CANCELLED,
        _ => FAILED,
    }
}

/// Whether the gateway may answer later: it is restarted, or out of reach for a moment.
fn passes(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::ResourceExhausted => true,
        // A connection that breaks in the middle of a stream, or that the gateway closes for its age
        // just before; what the gateway says has details.
        Code::Unknown | Code::Cancelled => status.details().is_empty(),
        _ => false,
    }
}

/// A status in words, with what is wrong with the request.
fn said(status: &Status) -> String {
    use tonic_types::StatusExt;
    let mut text = format!("{:?}: {}", status.code(), status.message());
    if status.message().is_empty() {
        text = format!("{:?}", status.code());
    }
    for violation in status
        .get_details_bad_request()
        .map(|request| request.field_violations)
        .unwrap_or_default()
    {
        text.push_str(&format!(
            "\n  {}: {}",
            violation.field, violation.description
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_status_says_how_a_wait_ended() {
        for (outcome, success, status) in [
            (WaitOutcome::Succeeded, true, 0),
            // What was waited for, by a wait for a deletion.
            (WaitOutcome::Deleted, true, 0),
            (WaitOutcome::Deleted, false, 1),
            (WaitOutcome::Failed, false, 1),
            (WaitOutcome::Superseded, false, 1),
            (WaitOutcome::Cancelled, false, 2),
            (WaitOutcome::TimedOut, false, 124),
        ] {
            let terminal = pb::WaitTerminal {
                outcome: outcome.into(),
                success,
                ..pb::WaitTerminal::default()
            };
            assert_eq!(exit_status(&terminal), status, "{outcome:?} {success}");
        }
    }

    #[test]
    fn only_what_passes_by_itself_is_tried_again() {
        assert!(passes(&Status::unavailable("restarting")));
        assert!(passes(&Status::unknown("connection reset")));
        assert!(passes(&Status::cancelled("operation was canceled")));
        assert!(!passes(&Status::with_details(
            Code::Unknown,
            "the outcome is unknown",
            vec![0].into()
        )));
        assert!(!passes(&Status::not_found("no such environment")));
    }
}

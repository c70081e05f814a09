//! The command line's own client: waits, deploys, looks, and asks whether a gateway serves, for people
//! and their scripts.
//!
//! A stream that ends before its wait, or breaks, is gone on with by its resume token. A gateway
//! that does not know the token is asked anew, about what has been begun.

mod asking;
mod between;
mod credential;
mod endpoint;
mod failure;
mod health;
mod report;
mod status;
mod target;
mod top;
mod wrong_door;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::time::Instant;
use tokio_stream::StreamExt;
use tonic::Status;
use tonic::transport::Channel;

use self::credential::Credential;
pub use self::endpoint::Reach;
pub use self::failure::{Failure, USAGE};
use self::failure::{pause, said, token_refused};
pub use self::health::{Health, health};
use self::report::{Output, Reporter};
pub use self::status::{StatusCommand, status};
pub use self::target::{DeployTarget, WaitTarget};
use self::target::{Stream, Target, Told};
pub use self::top::{TopCommand, top};
use crate::api::own::DeployAction;
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
/// How long a stream may say nothing: the gateway sends a heartbeat in a third of this.
const SILENCE: Duration = Duration::from_secs(45);
/// The longest pause that the gateway may ask for between two streams.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The longest idempotency key.
const MAX_KEY: usize = 255;

/// How to reach the gateway, and what to say.
#[derive(Debug, Clone, Args)]
pub struct Following {
    #[command(flatten)]
    reach: Reach,
    /// How long to wait at most; then the exit status is 124
    #[arg(
        long,
        global = true,
        default_value = "24h",
        value_parser = timeout,
        value_name = "DURATION"
    )]
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
    #[arg(long, global = true, value_parser = key, value_name = "KEY")]
    idempotency_key: Option<String>,
}

fn timeout(text: &str) -> Result<Span, String> {
    let span: Span = text.parse()?;
    if (SHORTEST..=LONGEST).contains(&span.0) {
        Ok(span)
    } else {
        Err("must be from 1s to 24h".to_owned())
    }
}

fn key(text: &str) -> Result<String, String> {
    let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if printable && (1..=MAX_KEY).contains(&text.len()) {
        Ok(text.to_owned())
    } else {
        Err(format!("must be 1 to {MAX_KEY} printable ASCII characters"))
    }
}

/// Waits for `target`; the exit status says how that ended.
pub fn wait(target: WaitTarget, following: &Following) -> Result<ExitCode, Failure> {
    follow(&Target::Wait(target), following)
}

/// Deploys `target`, and waits until that has ended; the exit status says how.
pub fn deploy(target: DeployTarget, key: Key, following: &Following) -> Result<ExitCode, Failure> {
    // Whatever breaks, a second attempt of this program joins the first.
    let key = key
        .idempotency_key
        .unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let deploy = target.prepare(key).map_err(Failure::Usage)?;
    follow(&Target::Deploy(Box::new(deploy)), following)
}

fn follow(target: &Target, following: &Following) -> Result<ExitCode, Failure> {
    on_runtime(async { Follower::new(target, following)?.run().await })
}

/// Runs a command on a runtime of its own.
fn on_runtime(
    command: impl Future<Output = Result<ExitCode, Failure>>,
) -> Result<ExitCode, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("cannot start the runtime: {error}")))?
        .block_on(command)
}

/// Whether somebody reads what was written; it is an error if that cannot be known.
fn written(outcome: io::Result<()>) -> Result<bool, Failure> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::Failed(format!(
            "cannot write to the standard output: {error}"
        ))),
    }
}

struct Follower<'a> {
    target: &'a Target,
    reach: Reach,
    channel: Channel,
    credential: Credential,
    outputs: bool,
    timeout: Duration,
    ends: Instant,
    reporter: Reporter,
    resume_token: String,
    /// How a deploy came to its deployment.
    action: Option<DeployAction>,
    /// The deployment that a deploy is followed by.
    deployment: Option<String>,
    /// Followed instead of the target, where the stream of that cannot be gone on with.
    instead: Option<Target>,
    /// When the gateway wants the stream to be gone on with.
    come_back_after: Duration,
}

/// Why a stream is opened again.
struct Broken(Status);

impl<'a> Follower<'a> {
    fn new(target: &'a Target, following: &Following) -> Result<Self, Failure> {
        let endpoint = following.credential.endpoint(&following.reach);
        let endpoint = endpoint.map_err(Failure::Usage)?;
        let timeout = following.timeout.0;
        Ok(Self {
            target,
            reach: following.reach.clone(),
            channel: endpoint.connect_lazy(),
            credential: following.credential.clone(),
            outputs: following.outputs,
            timeout,
            ends: Instant::now() + timeout,
            reporter: Reporter::new(following.output, target.to_string()),
            resume_token: String::new(),
            action: None,
            deployment: None,
            instead: None,
            come_back_after: Duration::ZERO,
        })
    }

    async fn run(mut self) -> Result<ExitCode, Failure> {
        let limit = self.ends + GRACE;
        let outcome = tokio::time::timeout_at(limit, self.until_the_end()).await;
        match outcome {
            Ok(Ok(code)) => Ok(code),
            Ok(Err(failure)) => {
                self.reporter.close();
                Err(failure)
            }
            Err(_) => {
                self.reporter.gave_up(self.timeout);
                Ok(ExitCode::from(TIMED_OUT))
            }
        }
    }

    async fn until_the_end(&mut self) -> Result<ExitCode, Failure> {
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
                // Closed before its end: go on when the gateway wants it, else at once.
                Ok(None) => {
                    let pause = std::mem::take(&mut self.come_back_after);
                    tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
                }
                Err(Broken(status)) if !self.resume_token.is_empty() && token_refused(&status) => {
                    self.begin_anew();
                }
                Err(Broken(status)) => {
                    // What was never a gateway does not become one.
                    if self.resume_token.is_empty()
                        && let Some(met) =
                            wrong_door::found(&status, &self.reach, &self.channel).await
                    {
                        return Err(Failure::Failed(met));
                    }
                    let Some(pause) = pause(&status, broken) else {
                        return Err(Failure::Failed(said(&status)));
                    };
                    self.reporter.interrupted(&said(&status));
                    tokio::time::sleep(pause).await;
                    broken += 1;
                }
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
        let target = self.instead.as_ref().unwrap_or(self.target);
        target.open(channel, options).await
    }

    /// The gateway does not know the token: its key went with the process that made it. What has
    /// been deployed already is not deployed again.
    fn begin_anew(&mut self) {
        self.resume_token.clear();
        if let (Target::Deploy(_), Some(id)) = (self.target, self.deployment.take()) {
            self.instead = Some(Target::Wait(WaitTarget::Deployment { id }));
        }
    }

    /// Reads to the end of the stream: the exit status, if that was the end of the wait.
    async fn read(&mut self, stream: &mut Stream) -> Result<Option<ExitCode>, Broken> {
        while let Some(mut told) = next(stream).await.map_err(Broken)? {
            self.action = told.action.or(self.action);
            told.action = self.action;
            // What comes later may be of a newer deployment.
            self.deployment = self.deployment.take().or_else(|| told.deployment());
            self.resume_token.clone_from(&told.event.resume_token);
            self.reporter.say(&told);
            if let Some(Event::Terminal(terminal)) = &told.event.event {
                return Ok(Some(exit_status(terminal).into()));
            }
            if let Some(Event::Closing(closing)) = &told.event.event {
                let asked = closing.reconnect_after.map(Duration::try_from);
                self.come_back_after = asked.and_then(Result::ok).unwrap_or_default();
            }
        }
        Ok(None)
    }
}

/// The next item of a stream; one that has gone silent is broken.
async fn next(stream: &mut Stream) -> Result<Option<Told>, Status> {
    match tokio::time::timeout(SILENCE, stream.next()).await {
        Ok(item) => item.transpose(),
        Err(_) => Err(Status::unavailable(format!(
            "the gateway has said nothing for {}",
            humantime::format_duration(SILENCE)
        ))),
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

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_goes_silent_is_broken_and_opened_again() {
        let mut silent: Stream = Box::pin(tokio_stream::pending());
        let since = Instant::now();
        let broken = next(&mut silent).await.err().unwrap();
        assert_eq!(since.elapsed(), SILENCE);
        assert!(pause(&broken, 0).is_some());
    }
}

//! What is told of a wait: a line for each event, and on a terminal what is going on now.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::failure::plain;
use super::target::Told;
use crate::api::own::DeployAction;
use crate::api::pb;
use crate::api::pb::wait_event::Event;

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// Tells of one wait.
pub struct Reporter {
    output: Output,
    target: String,
    began: Instant,
    /// Only where people look.
    progress: Option<ProgressBar>,
    action_said: bool,
    interruption: Interruption,
}

/// Why the gateway cannot be reached. For as long as the reason stays the same it is said once,
/// however often it is tried.
#[derive(Debug, Default)]
pub struct Interruption(Option<String>);

impl Interruption {
    /// Whether this has not been said yet.
    pub fn is_news(&mut self, why: &str) -> bool {
        let known = self.0.replace(why.to_owned());
        known.as_deref() != Some(why)
    }

    pub fn is_over(&mut self) {
        self.0 = None;
    }
}

impl Reporter {
    pub fn new(output: Output, target: String) -> Self {
        let live = output == Output::Text && std::io::stderr().is_terminal();
        let progress = live.then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
                bar.set_style(style);
            }
            bar.set_message(target.clone());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self {
            output,
            target,
            began: Instant::now(),
            progress,
            action_said: false,
            interruption: Interruption::default(),
        }
    }

    /// Tells of one event.
    pub fn say(&mut self, told: &Told) {
        self.interruption.is_over();
        match self.output {
            Output::Json => self.line(&json_of(told).to_string()),
            Output::Text => {
                if let Some(action) = told.action.filter(|_| !self.action_said) {
                    self.action_said = true;
                    self.line(&format!("{}: {}", self.target, action_text(action)));
                }
                self.text(&told.event);
            }
        }
        if matches!(told.event.event, Some(Event::Terminal(_))) {
            self.close();
        }
    }

    /// The connection to the gateway is gone for now.
    pub fn interrupted(&mut self, why: &str) {
        if !self.interruption.is_news(why) {
            return;
        }
        match self.output {
            // The standard output has events only.
            Output::Json => drop(writeln!(
                std::io::stderr(),
                "proton-gateway: {why}; trying again"
            )),
            Output::Text => self.line(&format!("{}: {why}; trying again", self.target)),
        }
    }

    /// The time is over, and the gateway has not said so.
    pub fn gave_up(&mut self, after: Duration) {
        let after = humantime::format_duration(after);
        match self.output {
            Output::Json => {
                let text = format!("the gateway did not answer within {after}");
                self.line(
                    &json!({"event": "terminal", "outcome": "TIMED_OUT", "success": false, "message": text})
                        .to_string(),
                );
            }
            Output::Text => self.line(&format!("{}: TIMED_OUT after {after}", self.target)),
        }
        self.close();
    }

    /// Takes what is live from the terminal.
    pub fn close(&mut self) {
        if let Some(progress) = self.progress.take() {
            progress.finish_and_clear();
        }
    }

    fn text(&mut self, event: &pb::WaitEvent) {
        match &event.event {
            Some(Event::Snapshot(snapshot)) => self.now(&snapshot.status),
            Some(Event::Transition(change)) => self.now(&change.to),
            Some(Event::Degraded(degraded)) => {
                let why = degraded.status.clone().unwrap_or_default().message;
                self.line(&format!(
                    "{}: cannot be asked at the moment: {}",
                    self.target,
                    plain(&why)
                ));
            }
            Some(Event::Superseded(superseded)) => self.line(&format!(
                "{}: deployment {} has taken its place",
                self.target,
                plain(&superseded.deployment_id)
            )),
            Some(Event::Terminal(terminal)) => self.terminal(terminal),
            Some(Event::Heartbeat(_) | Event::Closing(_)) | None => {}
        }
    }

    /// Says the status that holds now.
    fn now(&mut self, status: &str) {
        let status = if status.is_empty() {
            "is not there"
        } else {
            &plain(status)
        };
        let text = format!("{}: {status}", self.target);
        if let Some(progress) = &self.progress {
            progress.set_message(text.clone());
        }
        self.line(&text);
    }

    fn terminal(&mut self, terminal: &pb::WaitTerminal) {
        let seconds = self.began.elapsed().as_secs();
        let mut text = format!(
            "{}: {} after {}",
            self.target,
            outcome(terminal),
            humantime::format_duration(Duration::from_secs(seconds))
        );
        if !terminal.message.is_empty() {
            text = format!("{text}: {}", plain(&terminal.message));
        }
        self.line(&text);
        for output in &terminal.outputs {
            self.line(&format!(
                "{} = {}",
                plain(output.key()),
                plain(output.value_string())
            ));
        }
    }

    fn line(&self, text: &str) {
        let write = || {
            // Whoever reads may have gone away; the exit status still tells.
            drop(writeln!(std::io::stdout(), "{text}"));
        };
        match &self.progress {
            Some(progress) => progress.suspend(write),
            None => write(),
        }
    }
}

fn action_text(action: DeployAction) -> &'static str {
    match action {
        DeployAction::Created => "created",
        DeployAction::Updated => "updated",
        DeployAction::Joined => "joined what is under way",
        DeployAction::Unspecified => "begun",
    }
}

fn outcome(terminal: &pb::WaitTerminal) -> &'static str {
    terminal
        .outcome()
        .as_str_name()
        .trim_start_matches("WAIT_OUTCOME_")
}

fn json_of(told: &Told) -> Value {
    let event = &told.event;
    let mut value = match &event.event {
        Some(Event::Snapshot(snapshot)) => json!({"event": "snapshot", "status": snapshot.status}),
        Some(Event::Transition(change)) => {
            json!({"event": "transition", "from": change.from, "to": change.to})
        }
        Some(Event::Heartbeat(_)) => json!({"event": "heartbeat"}),
        Some(Event::Degraded(degraded)) => {
            let status = degraded.status.clone().unwrap_or_default();
            json!({"event": "degraded", "code": status.code, "message": status.message})
        }
        Some(Event::Superseded(superseded)) => {
            json!({"event": "superseded", "deploymentId": superseded.deployment_id})
        }
        Some(Event::Closing(closing)) => {
            let reason = closing.reason().as_str_name();
            let pause = closing.reconnect_after.map(|pause| pause.to_string());
            json!({
                "event": "closing",
                "reason": reason.trim_start_matches("WAIT_CLOSING_REASON_"),
                "reconnectAfter": pause,
            })
        }
        Some(Event::Terminal(terminal)) => {
            let outputs: Vec<Value> = terminal
                .outputs
                .iter()
                .map(|output| json!({"key": output.key(), "valueString": output.value_string()}))
                .collect();
            let deployment = terminal.deployment.as_ref().map(|it| it.id().to_owned());
            json!({
                "event": "terminal",
                "outcome": outcome(terminal),
                "success": terminal.success,
                "message": terminal.message,
                "deploymentId": deployment,
                "outputs": outputs,
            })
        }
        None => json!({"event": "unknown"}),
    };
    value["sequence"] = event.sequence.into();
    value["resumeToken"] = event.resume_token.clone().into();
    if let Some(action) = told.action {
        let name = action.as_str_name();
        value["action"] = name.trim_start_matches("DEPLOY_ACTION_").into();
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_a_gateway_cannot_be_reached_is_said_once_for_each_reason() {
        let mut reporter = Reporter::new(Output::Json, "environment e".to_owned());
        assert!(reporter.interruption.is_news("refused"));
        assert!(!reporter.interruption.is_news("refused"));
        assert!(reporter.interruption.is_news("timed out"));
        let event = pb::WaitEvent {
            event: Some(Event::Heartbeat(pb::WaitHeartbeat::default())),
            ..Default::default()
        };
        let action = None;
        reporter.say(&Told { event, action });
        assert!(reporter.interruption.is_news("timed out"));
    }
}

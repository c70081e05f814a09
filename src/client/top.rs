//! `top`: what a running gateway does at the moment, as it says itself.
//!
//! Reads the gateway's metrics twice and shows what changed in between. How it looks is decided in
//! [`view`].

mod change;
mod view;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use console::Term;
use tonic::Status;

use self::change::{Change, Reading};
use super::credential::{Credential, Known};
use super::endpoint::Reach;
use super::failure::Failure;
use super::wrong_door;
use crate::api::own::GetMetricsRequest;
use crate::api::own::gateway_service_client::GatewayServiceClient;
use crate::config::Span;

/// How long the gateway may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(3600);

/// What `top` is asked for.
#[derive(Debug, Clone, Args)]
pub struct TopCommand {
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    credential: Credential,
    /// How long after one look the next one comes, from 100ms to 1h
    #[arg(long, default_value = "2s", value_parser = interval, value_name = "DURATION")]
    interval: Span,
    /// Stop after so many looks [default: when it is interrupted]
    #[arg(long, value_name = "NUMBER")]
    count: Option<u64>,
    /// How many operations are shown, the busiest first
    #[arg(long, default_value_t = 15, value_name = "NUMBER")]
    operations: usize,
}

fn interval(text: &str) -> Result<Span, String> {
    let span: Span = text.parse()?;
    match (SHORTEST..=LONGEST).contains(&span.0) {
        true => Ok(span),
        false => Err("must be from 100ms to 1h".to_owned()),
    }
}

/// Shows what the gateway does, until it is interrupted or has looked often enough.
pub fn top(command: &TopCommand) -> Result<ExitCode, Failure> {
    super::on_runtime(async {
        let endpoint = command.reach.endpoint().map_err(Failure::Usage)?;
        let channel = endpoint.connect_lazy();
        let read = || async {
            let known = command.credential.over(channel.clone());
            let read = async { read(known?).await };
            match read.await {
                Ok(reading) => Ok(reading),
                Err(status) => Err(wrong_door::failure(&status, &command.reach, &channel).await),
            }
        };
        let live = std::io::stdout().is_terminal();
        let colours = console::colors_enabled();
        let mut before = read().await?;
        let mut looks = 0;
        while command.count.is_none_or(|count| looks < count) {
            tokio::time::sleep(command.interval.0).await;
            let after = read().await?;
            let change = Change::between(&before, &after);
            let text = view::text_of(&change, command.operations, colours);
            if !super::written(show(&text, live))? {
                break;
            }
            before = after;
            looks += 1;
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn read(known: Known) -> Result<Reading, Status> {
    let mut gateway = GatewayServiceClient::new(known);
    let names = change::NAMES.into_iter().map(str::to_owned).collect();
    let answer = tokio::time::timeout(PATIENCE, gateway.get_metrics(GetMetricsRequest { names }));
    match answer.await {
        Ok(answer) => Ok(Reading::of(answer?.into_inner())),
        Err(_) => Err(Status::unavailable(format!(
            "the gateway did not answer within {}",
            humantime::format_duration(PATIENCE)
        ))),
    }
}

/// On a terminal in the place of what was shown before, else after it.
fn show(text: &str, live: bool) -> std::io::Result<()> {
    if live {
        let terminal = Term::buffered_stdout();
        terminal.move_cursor_to(0, 0)?;
        for line in text.lines() {
            terminal.clear_line()?;
            terminal.write_line(line)?;
        }
        terminal.clear_to_end_of_screen()?;
        terminal.flush()
    } else {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{text}")?;
        out.flush()
    }
}

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
use super::failure::{Failure, pause, said};
use super::report::Interruption;
use super::{asking, wrong_door};
use crate::api::own::GetMetricsRequest;
use crate::api::own::gateway_service_client::GatewayServiceClient;
use crate::config::Span;

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

/// Shows what the gateway does, until it is interrupted or has looked often enough. Once it was there,
/// a gateway that is away is waited for.
pub fn top(command: &TopCommand) -> Result<ExitCode, Failure> {
    super::on_runtime(async {
        let endpoint = command.credential.endpoint(&command.reach);
        let channel = endpoint.map_err(Failure::Usage)?.connect_lazy();
        let read = || async { read(command.credential.over(channel.clone())?).await };
        let live = std::io::stdout().is_terminal();
        let colours = console::colors_enabled();
        let mut before = match read().await {
            Ok(reading) => reading,
            Err(status) => {
                return Err(wrong_door::failure(&status, &command.reach, &channel).await);
            }
        };
        let mut away = Away::default();
        let mut looks = 0;
        while command.count.is_none_or(|count| looks < count) {
            tokio::time::sleep(command.interval.0.max(away.pause)).await;
            looks += 1;
            match read().await {
                Ok(after) => {
                    let change = Change::between(&before, &after);
                    let text = view::text_of(&change, command.operations, colours);
                    if !super::written(show(&text, live))? {
                        break;
                    }
                    before = after;
                    away = Away::default();
                }
                Err(status) if command.count.is_none_or(|count| looks < count) => {
                    away.is_because(&status)?;
                }
                Err(status) => return Err(Failure::Failed(said(&status))),
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// That a gateway which was there cannot be asked.
#[derive(Default)]
struct Away {
    interruption: Interruption,
    looks: usize,
    /// How long the next look has to wait at least.
    pause: Duration,
}

impl Away {
    /// Says it, if it may pass; else it is the end.
    fn is_because(&mut self, status: &Status) -> Result<(), Failure> {
        let why = said(status);
        match pause(status, self.looks) {
            Some(pause) => self.pause = pause,
            None => return Err(Failure::Failed(why)),
        }
        self.looks += 1;
        if self.interruption.is_news(&why) {
            drop(writeln!(
                std::io::stderr(),
                "proton-gateway: {why}; looking again"
            ));
        }
        Ok(())
    }
}

async fn read(known: Known) -> Result<Reading, Status> {
    let mut gateway = GatewayServiceClient::new(known);
    let names = change::NAMES.into_iter().map(str::to_owned).collect();
    let answer = asking::answer(gateway.get_metrics(GetMetricsRequest { names })).await?;
    Ok(Reading::of(answer.into_inner()))
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

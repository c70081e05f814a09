//! Asks a running gateway whether it serves, for container engines and scripts.
//!
//! Its admin page is asked, which needs no credential and no certificate; or a gRPC door, where
//! one is named. The configuration file is not read: what was written there since says nothing of
//! the gateway that runs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use super::between::Between;
use super::endpoint::Reach;
use super::failure::{Failure, cause};
use super::wrong_door;
use crate::api::health::HealthCheckRequest;
use crate::api::health::health_check_response::ServingStatus;
use crate::api::health::health_client::HealthClient;
use crate::config::Span;

/// Where the admin page is if nothing else is said.
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);

/// What to ask, and of whom.
#[derive(Debug, Clone, Args)]
pub struct Health {
    #[command(flatten)]
    reach: Reach,
    /// Only ask whether it answers at all: one that drains, or that lacks its backend, does
    #[arg(long)]
    live: bool,
    /// How long the answer may take
    #[arg(long, default_value = "3s", value_name = "DURATION")]
    timeout: Span,
}

/// Asks the gRPC door that is named, else the admin page at `admin`.
pub fn health(asked: &Health, admin: Option<SocketAddr>) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("cannot start the runtime: {error}")))?;
    let timeout = asked.timeout.0;
    let outcome = runtime.block_on(async {
        let answer = async {
            if asked.reach.is_named() {
                door(asked).await
            } else {
                page(asked.live, admin.unwrap_or(ADMIN)).await
            }
        };
        tokio::time::timeout(timeout, answer).await
    });
    // A name that is being looked up blocks a thread; nobody waits for it.
    runtime.shutdown_timeout(Duration::ZERO);
    outcome.unwrap_or_else(|_| {
        Err(Failure::Failed(format!(
            "there was no answer within {}",
            humantime::format_duration(timeout)
        )))
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn door(asked: &Health) -> Result<(), Failure> {
    let channel = asked
        .reach
        .endpoint()
        .map_err(Failure::Usage)?
        .connect_lazy();
    let answer = HealthClient::new(Between::over(channel.clone()))
        .check(HealthCheckRequest::default())
        .await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(status) => return Err(wrong_door::failure(&status, &asked.reach, &channel).await),
    };
    let serves = answer.into_inner().status() == ServingStatus::Serving;
    (serves || asked.live).then_some(()).ok_or_else(idle)
}

async fn page(live: bool, admin: SocketAddr) -> Result<(), Failure> {
    let address = reachable(admin).map_err(Failure::Usage)?;
    let path = if live { "livez" } else { "readyz" };
    let url = format!("http://{address}/{path}");
    let uri = url
        .parse()
        .map_err(|error| Failure::Failed(format!("{url}: {error}")))?;
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let answer = client.get(uri).await.map_err(|error| {
        let cause = cause(&error);
        Failure::Failed(match error.is_connect() {
            true => format!("{url} does not answer: {cause}"),
            false => format!("{url} answers with no page ({cause}): {}", other_listener()),
        })
    })?;
    match answer.status() {
        status if status.is_success() => Ok(()),
        http::StatusCode::SERVICE_UNAVAILABLE => Err(idle()),
        status => Err(Failure::Failed(format!(
            "{url} answers {status}: {}",
            other_listener()
        ))),
    }
}

/// What to do if it was not the admin listener that was asked.
fn other_listener() -> String {
    format!(
        "is it the admin listener? That is at {ADMIN} if nothing else was configured; a gRPC door is asked with --address"
    )
}

fn idle() -> Failure {
    Failure::Failed("the gateway is not serving".to_owned())
}

/// Where a listener that takes connections on all addresses is reached from here.
fn reachable(listener: SocketAddr) -> Result<SocketAddr, String> {
    if listener.port() == 0 {
        return Err(
            "--admin-listen: port 0 names no running gateway; give the port that it took"
                .to_owned(),
        );
    }
    let ip = match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Ok(SocketAddr::new(ip, listener.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_all_addresses_is_asked_on_loopback() {
        for (listener, asked) in [
            ("0.0.0.0:9464", "127.0.0.1:9464"),
            ("[::]:9464", "[::1]:9464"),
            ("10.0.0.7:1", "10.0.0.7:1"),
        ] {
            let asked: SocketAddr = asked.parse().unwrap();
            assert_eq!(reachable(listener.parse().unwrap()), Ok(asked));
        }
        let refused = reachable("127.0.0.1:0".parse().unwrap()).unwrap_err();
        assert!(refused.starts_with("--admin-listen"), "{refused}");
    }
}

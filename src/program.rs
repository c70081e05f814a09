//! Puts the parts together: backend, pipeline, doors; starts them, and stops them in order.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tower::ServiceBuilder;

use crate::backend::aws::{self, Aws};
use crate::backend::engine::{self, Engine, bucket::Buckets, store::Store};
use crate::changes::Changes;
use crate::clock::SystemClock;
use crate::config::{AwsListen, Config, Upstream};
use crate::edge::{admin, aws_door::AwsDoor, grpc_door, health::Health};
use crate::gateway::{Gateway, Pipeline};
use crate::pipeline;
use crate::server::{self, Shutdown};
use crate::telemetry::{self, Metrics};
use crate::waits::{self, Key, Waits};

/// Serves with `config` until SIGTERM or SIGINT, then drains.
pub fn run(config: Config) -> Result<(), String> {
    telemetry::log(&config.log, config.log_format)?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start the runtime: {error}"))?
        .block_on(serve(config, signalled()?))
}

/// Returns when the process is told to stop.
fn signalled() -> Result<impl Future<Output = ()>, String> {
    Ok(async {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut term), Ok(mut int)) = (
            signal(SignalKind::terminate()),
            signal(SignalKind::interrupt()),
        ) else {
            tracing::error!("signals cannot be awaited; the program stops");
            return;
        };
        tokio::select! {
            _ = term.recv() => tracing::info!(signal = "SIGTERM", "stopping"),
            _ = int.recv() => tracing::info!(signal = "SIGINT", "stopping"),
        }
    })
}

/// Serves until `stopped` returns.
async fn serve(config: Config, stopped: impl Future<Output = ()>) -> Result<(), String> {
    // Bound first: a port that is taken is known before anything is opened.
    let grpc = server::bind(config.listen).await?;
    let aws = match config.aws_listen {
        AwsListen::Off => None,
        AwsListen::At(address) => Some(server::bind(address).await?),
    };
    let admin = server::bind(config.admin_listen).await?;

    let metrics = Metrics::new().map_err(|error| error.to_string())?;
    let health = Health::default();
    let (stop, shutdown) = Shutdown::channel();
    let mut parts = JoinSet::new();
    let (pipeline, changes) = backend(&config, metrics.clone(), &shutdown, &mut parts).await?;
    let gateway = Gateway::new(pipeline);
    let key = match &config.resume_token_key_file {
        Some(path) => Key::read(path),
        None => Key::random(),
    };
    let settings = waits::Settings::with_key(key.map_err(|error| error.to_string())?);
    let waits = Waits::new(gateway.clone(), changes, settings, shutdown.clone());

    let addresses = Addresses {
        grpc: grpc.1,
        aws: aws.as_ref().map(|(_, address)| *address),
        admin: admin.1,
    };
    open(
        grpc.0,
        gateway.clone(),
        waits,
        health.clone(),
        &shutdown,
        &mut parts,
    )?;
    if let Some((listener, _)) = aws {
        parts.spawn(server::serve(
            listener,
            AwsDoor::new(gateway),
            shutdown.clone(),
        ));
    }
    let pages = admin::routes(health.clone(), metrics);
    parts.spawn(server::serve(admin.0, pages, shutdown.clone()));

    health.set_serving(true);
    addresses.announce(config.ready_file.as_deref())?;
    stopped.await;
    // Health first, so that whoever balances load looks elsewhere while calls end.
    health.set_serving(false);
    stop.send_replace(true);
    while parts.join_next().await.is_some() {}
    tracing::info!("stopped");
    Ok(())
}

fn open(
    listener: TcpListener,
    gateway: Gateway,
    waits: Waits,
    health: Health,
    shutdown: &Shutdown,
    parts: &mut JoinSet<()>,
) -> Result<(), String> {
    let routes = grpc_door::routes(gateway, waits, health)
        .map_err(|error| format!("reflection cannot be set up: {error}"))?;
    let service = ServiceBuilder::new().service(routes);
    parts.spawn(server::serve(listener, service, shutdown.clone()));
    Ok(())
}

/// Opens the backend that was asked for, and starts what works beside it.
async fn backend(
    config: &Config,
    metrics: Metrics,
    shutdown: &Shutdown,
    parts: &mut JoinSet<()>,
) -> Result<(Pipeline, Changes), String> {
    match config.upstream {
        Upstream::Aws => {
            let settings = aws::Settings {
                region: config.region.clone(),
                profile: config.profile.clone(),
                endpoint_url: config.upstream_endpoint_url.clone(),
            };
            tracing::info!(
                endpoint = config
                    .upstream_endpoint_url
                    .as_deref()
                    .unwrap_or("AWS's own"),
                "forwarding"
            );
            let aws = Aws::connect(settings).await;
            let changes = aws.changes().clone();
            Ok((pipeline::build(aws, metrics), changes))
        }
        Upstream::Engine => {
            let store = Store::open(&config.state_dir).map_err(|error| error.to_string())?;
            let settings = engine::Settings {
                region: config.arn_region().to_owned(),
                account_id: config.account_id.clone(),
                step: config.simulated_step.0,
                self_managed_timeout: config.self_managed_timeout.0,
                buckets: Buckets::in_folder(&config.buckets_dir),
                quotas: engine::Quotas::default(),
            };
            let engine = Engine::new(store, Arc::new(SystemClock), settings);
            tracing::info!(
                state_dir = %config.state_dir.display(),
                provisioner = "simulated",
                "the embedded engine is open; it provisions nothing real"
            );
            parts.spawn(engine.clone().work(shutdown.clone().told()));
            let changes = engine.changes().clone();
            Ok((pipeline::build(engine, metrics), changes))
        }
    }
}

/// Where the program listens.
struct Addresses {
    grpc: SocketAddr,
    aws: Option<SocketAddr>,
    admin: SocketAddr,
}

impl Addresses {
    /// Logs the addresses, and writes them where a script waits for them.
    fn announce(&self, ready_file: Option<&Path>) -> Result<(), String> {
        let Self { grpc, aws, admin } = self;
        let aws = aws.map_or_else(|| "off".to_owned(), |address| address.to_string());
        tracing::info!(%grpc, aws, %admin, "serving");
        let Some(path) = ready_file else {
            return Ok(());
        };
        let text = serde_json::json!({
            "grpc": grpc.to_string(),
            "aws": aws,
            "admin": admin.to_string(),
        });
        // Renamed into place: nobody reads half of it.
        let draft = path.with_extension("draft");
        std::fs::write(&draft, format!("{text}\n"))
            .and_then(|()| std::fs::rename(&draft, path))
            .map_err(|error| format!("cannot write the ready file {}: {error}", path.display()))
    }
}

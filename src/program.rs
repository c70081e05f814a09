//! Puts the parts together: backend, pipeline, doors; starts them, and stops them in order.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tower::ServiceBuilder;

use crate::admission::Guards;
use crate::audit::Audit;
use crate::auth::Authenticator;
use crate::auth::policy::Authorizer;
use crate::backend::aws::{self, Aws, pace::Paces};
use crate::backend::engine::{self, Engine, bucket::Buckets, store::Store};
use crate::changes::Changes;
use crate::clock::SystemClock;
use crate::config::authentication::Proof;
use crate::config::tls::ClientCertificates;
use crate::config::{Address, AwsListen, Config};
use crate::edge::{admin, aws_door::AwsDoor, grpc_door, health::Health};
use crate::gateway::{Gateway, Pipeline};
use crate::limits::Limiter;
use crate::pipeline;
use crate::reload::Reload;
use crate::server::tls::Tls;
use crate::server::{self, DRAIN, Listener, Server, Shutdown};
use crate::telemetry::{self, Metrics};
use crate::waits::{self, Key, Waits};

/// How long after the listeners' drain the other parts may take to end.
const MARGIN: Duration = Duration::from_secs(1);
/// How often the database's file is looked for.
const LOOK: Duration = Duration::from_secs(5);

/// Serves with `config` until SIGTERM or SIGINT, then drains.
pub fn run(config: Config) -> Result<(), String> {
    telemetry::log(&config.log, config.log_format)?;
    let stopped = signalled()?;
    on_runtime(serve(config, stopped))
}

/// Runs `program` on a runtime of its own.
fn on_runtime(program: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start the runtime: {error}"))?;
    let outcome = runtime.block_on(program);
    // A runtime that is merely dropped waits for what blocks a thread, however long that takes.
    runtime.shutdown_background();
    outcome
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

/// Asks for all files to be looked at whenever the process is told to (SIGHUP).
async fn hang_ups(ask: watch::Sender<()>, shutdown: Shutdown) {
    use tokio::signal::unix::{SignalKind, signal};
    let mut signals = signal(SignalKind::hangup());
    if let Err(error) = &signals {
        tracing::warn!(cause = %error, "SIGHUP cannot be awaited; files are looked at from time to time");
    }
    let stop = shutdown.told();
    tokio::pin!(stop);
    loop {
        let hung_up = async {
            match &mut signals {
                Ok(signals) => signals.recv().await,
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            () = &mut stop => return,
            _ = hung_up => {
                tracing::info!(signal = "SIGHUP", "looking for changed files");
                ask.send_replace(());
            }
        }
    }
}

/// Serves until `stopped` returns.
async fn serve(config: Config, stopped: impl Future<Output = ()>) -> Result<(), String> {
    // Bound first: a port that is taken is known before anything is opened.
    let mode = config.connections.unix_socket_mode;
    let grpc = Listener::open(&config.listen, mode).await?;
    let aws = match &config.aws_listen {
        AwsListen::Off => None,
        AwsListen::At(address) => Some(Listener::open(address, mode).await?),
    };
    let admin = server::bind(config.admin_listen).await?;

    let metrics = Metrics::new().map_err(|error| error.to_string())?;
    let health = Health::default();
    let (stop, shutdown) = Shutdown::channel();
    let (ask, reload) = Reload::channel();
    let mut parts = JoinSet::new();
    spawn(&mut parts, "the reloader", hang_ups(ask, shutdown.clone()));
    let limits = config.limits.as_ref();
    let audit = match &config.audit {
        Some(audit) => {
            let clock = Arc::new(SystemClock);
            Some(Audit::open(audit, clock, metrics.clone())?)
        }
        None => None,
    };
    let guards = Guards {
        audit: audit.clone(),
        authorizer: authorizer(&config, &reload, &shutdown, &mut parts)?,
        limiter: limits.and_then(|limits| Limiter::new(limits, metrics.clone())),
        identities: config.identities(),
    };
    if let (Some(audit), Some(authorizer)) = (&audit, &guards.authorizer) {
        let work = put_down_policies(audit.clone(), authorizer.clone(), shutdown.clone());
        spawn(&mut parts, "the record of policies", work);
    }
    let authenticator = authenticator(&config, &reload, &shutdown, &mut parts).await?;
    let (pipeline, changes) = backend(
        &config,
        metrics.clone(),
        &guards,
        health.clone(),
        &shutdown,
        &mut parts,
    )
    .await?;
    let authorizer = guards.authorizer.clone();
    let gateway = Gateway::new(pipeline).guarded_by(guards);
    let key = match &config.resume_token_key_file {
        Some(path) => Key::read(path),
        None => Key::random(),
    };
    let settings = waits::Settings::with_key(key.map_err(|error| error.to_string())?);
    let waits = Waits::new(gateway.clone(), changes, settings, shutdown.clone());

    let addresses = Addresses {
        grpc: grpc.address().clone(),
        aws: aws.as_ref().map(|listener| listener.address().clone()),
        admin: admin.1,
    };
    let tls = certificates(&config, reload, &shutdown, &mut parts)?;
    let door = |listener| {
        Server::new(listener)
            .with_tls(tls.clone())
            .within(config.connections.clone())
    };
    open(
        door(grpc),
        gateway.clone(),
        waits,
        health.clone(),
        authenticator.clone(),
        &shutdown,
        &mut parts,
    )?;
    if let Some(listener) = aws {
        let mut service = AwsDoor::new(gateway);
        if let Some(authenticator) = authenticator {
            service = service.authenticated_by(authenticator);
        }
        spawn(
            &mut parts,
            "the AWS door",
            door(listener).serve(service, shutdown.clone()),
        );
    }
    let pages = admin::routes(health.clone(), metrics);
    spawn(
        &mut parts,
        "the admin listener",
        Server::new(admin.0)
            .within(config.connections.clone())
            .serve(pages, shutdown.clone()),
    );

    health.set_serving(true);
    addresses.announce(config.ready_file.as_deref())?;
    if let Some(audit) = &audit {
        let version = env!("CARGO_PKG_VERSION");
        let policies = authorizer.as_ref().map(Authorizer::version);
        let details = serde_json::json!({ "version": version, "policies": policies });
        audit.event("started", details);
    }
    let outcome = until(stopped, &mut parts).await;
    // Health first, so that whoever balances load looks elsewhere while calls end.
    health.set_serving(false);
    if let Some(path) = &config.ready_file {
        // It may be gone already.
        drop(std::fs::remove_file(path));
    }
    stop.send_replace(true);
    join(parts).await;
    if let Some(audit) = audit {
        audit.event("stopped", serde_json::Value::Null);
        audit.flush().await;
    }
    tracing::info!("stopped");
    outcome
}

/// Returns when `stopped` does; it is an error if a part ends before.
async fn until(stopped: impl Future<Output = ()>, parts: &mut JoinSet<Part>) -> Result<(), String> {
    let ended = tokio::select! {
        () = stopped => return Ok(()),
        ended = parts.join_next() => ended,
    };
    let problem = match ended {
        Some(Ok(part)) => format!("{part} ended although nobody had told it to"),
        Some(Err(error)) => panicked(error),
        None => "nothing is running".to_owned(),
    };
    tracing::error!(problem, "stopping");
    Err(problem)
}

/// Waits for all parts to end, but not for ever: what blocks a thread cannot be stopped.
async fn join(mut parts: JoinSet<Part>) {
    let all = async {
        while let Some(ended) = parts.join_next().await {
            if let Err(error) = ended {
                tracing::error!(problem = panicked(error), "while stopping");
            }
        }
    };
    if tokio::time::timeout(DRAIN + MARGIN, all).await.is_err() {
        tracing::warn!(
            "work was still under way when the program ended; it is done again after the next start"
        );
    }
}

fn panicked(error: JoinError) -> String {
    let cause = error.try_into_panic().map_or_else(
        |error| error.to_string(),
        |panic| {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            text.or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_default()
        },
    );
    format!("a part of the program failed: {cause}")
}

/// What runs until the program stops, by its name.
type Part = &'static str;

fn spawn(parts: &mut JoinSet<Part>, name: Part, part: impl Future<Output = ()> + Send + 'static) {
    parts.spawn(async move {
        part.await;
        name
    });
}

/// Reads the certificates, and follows their files.
fn certificates(
    config: &Config,
    reload: Reload,
    shutdown: &Shutdown,
    parts: &mut JoinSet<Part>,
) -> Result<Option<Tls>, String> {
    let Some(section) = &config.tls else {
        return Ok(None);
    };
    let (tls, follower) = Tls::open(section, reload).map_err(|fault| fault.to_string())?;
    spawn(parts, "the certificates", follower.follow(shutdown.clone()));
    Ok(Some(tls))
}

fn open(
    server: Server,
    gateway: Gateway,
    waits: Waits,
    health: Health,
    authenticator: Option<Authenticator>,
    shutdown: &Shutdown,
    parts: &mut JoinSet<Part>,
) -> Result<(), String> {
    let mut routes = grpc_door::routes(gateway, waits, health)
        .map_err(|error| format!("reflection cannot be set up: {error}"))?;
    if let Some(authenticator) = authenticator {
        routes = routes.authenticated_by(authenticator);
    }
    let service = ServiceBuilder::new().service(routes);
    spawn(
        parts,
        "the gRPC door",
        server.serve(service, shutdown.clone()),
    );
    Ok(())
}

/// Reads the policies, and follows their files.
fn authorizer(
    config: &Config,
    reload: &Reload,
    shutdown: &Shutdown,
    parts: &mut JoinSet<Part>,
) -> Result<Option<Authorizer>, String> {
    let Some(section) = &config.authorization else {
        return Ok(None);
    };
    let (authorizer, follow) =
        Authorizer::watched(section, reload.clone()).map_err(|error| error.to_string())?;
    let told = shutdown.clone().told();
    spawn(parts, "the policies", async move {
        tokio::select! {
            () = follow => {}
            () = told => {}
        }
    });
    Ok(Some(authorizer))
}

/// Puts down which policies come into force.
async fn put_down_policies(audit: Audit, authorizer: Authorizer, shutdown: Shutdown) {
    let mut changes = authorizer.changes();
    let told = shutdown.told();
    tokio::pin!(told);
    loop {
        tokio::select! {
            changed = changes.changed() => {
                if changed.is_err() {
                    return told.await;
                }
                let version = authorizer.version();
                audit.event("policies-changed", serde_json::json!({ "version": version }));
            }
            () = &mut told => return,
        }
    }
}

/// What knows callers, where they have to prove who they are.
async fn authenticator(
    config: &Config,
    reload: &Reload,
    shutdown: &Shutdown,
    parts: &mut JoinSet<Part>,
) -> Result<Option<Authenticator>, String> {
    let Some(section) = &config.authentication else {
        return Ok(None);
    };
    let asked = config.tls.as_ref().map(|tls| tls.client_certificates);
    if section.methods.contains(&Proof::Certificate)
        && asked.unwrap_or(ClientCertificates::None) == ClientCertificates::None
    {
        tracing::warn!(
            "certificates are among authentication.methods, but no client is asked for one; set tls.client-certificates"
        );
    }
    let (authenticator, background) =
        Authenticator::new(section, reload, Arc::new(SystemClock)).await?;
    let work = background.run(shutdown.clone());
    spawn(parts, "the keys of callers", work);
    Ok(Some(authenticator))
}

/// Opens the backend that was asked for, and starts what works beside it.
async fn backend(
    config: &Config,
    metrics: Metrics,
    guards: &Guards,
    health: Health,
    shutdown: &Shutdown,
    parts: &mut JoinSet<Part>,
) -> Result<(Pipeline, Changes), String> {
    match &config.engine {
        None => {
            let unnamed = aws::Settings {
                region: config.region.clone(),
                profile: config.profile.clone(),
                endpoint_url: config.upstream_endpoint_url.clone(),
            };
            let named = config.upstreams.iter().map(|(name, upstream)| {
                let settings = aws::Settings {
                    region: upstream.region.clone(),
                    profile: upstream.profile.clone(),
                    endpoint_url: upstream.endpoint_url.clone(),
                };
                (name.clone(), settings)
            });
            tracing::info!(
                endpoint = config
                    .upstream_endpoint_url
                    .as_deref()
                    .unwrap_or("AWS's own"),
                "forwarding"
            );
            let limits = config.limits.as_ref();
            let paces = limits
                .and_then(|limits| limits.upstream.as_ref())
                .and_then(|upstream| Paces::new(upstream, metrics.clone()));
            let aws = Aws::connect(unnamed, named.collect(), config.sts_endpoint_url.clone())
                .await
                .paced(paces);
            let changes = aws.changes().clone();
            Ok((pipeline::build(aws, metrics, guards), changes))
        }
        Some(own) => {
            let store = Store::open(&own.state_dir).map_err(|error| error.to_string())?;
            let settings = engine::Settings {
                region: config.arn_region().to_owned(),
                account_id: own.account_id.clone(),
                step: own.simulated_step.0,
                self_managed_timeout: own.self_managed_timeout.0,
                buckets: Buckets::in_folder(&own.buckets_dir),
                quotas: engine::Quotas::default(),
            };
            let engine = Engine::new(store.clone(), Arc::new(SystemClock), settings);
            tracing::info!(
                state_dir = %own.state_dir.display(),
                provisioner = "simulated",
                "the embedded engine is open; it provisions nothing real"
            );
            spawn(
                parts,
                "the engine's worker",
                engine.clone().work(shutdown.clone().told()),
            );
            let told = shutdown.clone().told();
            spawn(parts, "the store's writer", async move {
                tokio::select! {
                    () = store.ended() => {}
                    () = told => {}
                    () = look_after(&store, &health) => {}
                }
            });
            let changes = engine.changes().clone();
            Ok((pipeline::build(engine, metrics, guards), changes))
        }
    }
}

/// Tells `health` whether what is stored now will be found again. Never returns.
async fn look_after(store: &Store, health: &Health) {
    let mut before = true;
    loop {
        let now = store.is_in_place().await;
        health.set_able(now);
        if before && !now {
            tracing::error!(
                "the database was deleted or replaced: what is stored from now on is lost; stop the program and restore it"
            );
        }
        before = now;
        tokio::time::sleep(LOOK).await;
    }
}

/// Where the program listens.
struct Addresses {
    grpc: Address,
    aws: Option<Address>,
    admin: SocketAddr,
}

impl Addresses {
    /// Logs the addresses, and writes them where a script waits for them.
    fn announce(&self, ready_file: Option<&Path>) -> Result<(), String> {
        let Self { grpc, aws, admin } = self;
        let aws = aws
            .as_ref()
            .map_or_else(|| "off".to_owned(), Address::to_string);
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
        let mut draft = path.as_os_str().to_owned();
        draft.push(".draft");
        std::fs::write(&draft, format!("{text}\n"))
            .and_then(|()| std::fs::rename(&draft, path))
            .map_err(|error| format!("cannot write the ready file {}: {error}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_ends_or_panics_ends_the_program_with_an_error() {
        let never = std::future::pending::<()>;
        let mut parts = JoinSet::new();
        spawn(&mut parts, "one", never());
        spawn(&mut parts, "two", async {});
        let ended = until(never(), &mut parts).await.unwrap_err();
        assert!(ended.starts_with("two ended"), "{ended}");
        spawn(&mut parts, "three", async { panic!("a defect") });
        let ended = until(never(), &mut parts).await.unwrap_err();
        assert!(ended.contains("a defect"), "{ended}");
        assert_eq!(until(async {}, &mut parts).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_does_not_stop_is_left_behind_in_time() {
        let mut parts = JoinSet::new();
        spawn(&mut parts, "one", std::future::pending());
        let joined = tokio::time::timeout(DRAIN + 2 * MARGIN, join(parts));
        assert!(joined.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn health_follows_the_databases_file() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let health = Health::default();
        health.set_serving(true);
        let (file, away) = (folder.path().join("proton.db"), folder.path().join("away"));
        let test = async {
            tokio::time::sleep(LOOK).await;
            assert!(health.is_serving());
            std::fs::rename(&file, &away).unwrap();
            tokio::time::sleep(2 * LOOK).await;
            assert!(!health.is_serving());
            std::fs::rename(&away, &file).unwrap();
            tokio::time::sleep(2 * LOOK).await;
            assert!(health.is_serving());
        };
        tokio::select! {
            () = look_after(&store, &health) => {}
            () = test => {}
        }
    }

    #[test]
    fn a_blocked_thread_does_not_keep_the_program() {
        let (release, blocked) = std::sync::mpsc::channel::<()>();
        let (ended, end) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let outcome = on_runtime(async {
                let (began, begun) = tokio::sync::oneshot::channel();
                tokio::task::spawn_blocking(move || {
                    began.send(()).unwrap();
                    blocked.recv().unwrap_err();
                });
                begun.await.map_err(|error| error.to_string())
            });
            drop(ended.send(outcome));
        });
        let outcome = end.recv_timeout(Duration::from_secs(20));
        drop(release);
        assert_eq!(outcome, Ok(Ok(())));
    }

    #[test]
    fn ready_files_that_differ_in_their_extension_have_drafts_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let addresses = Addresses {
            grpc: Address::Tcp(([127, 0, 0, 1], 1).into()),
            aws: None,
            admin: ([127, 0, 0, 1], 2).into(),
        };
        let other = folder.path().join("ready.draft");
        std::fs::write(&other, "another program's").unwrap();
        let path = folder.path().join("ready.json");
        addresses.announce(Some(&path)).unwrap();
        assert!(path.is_file());
        assert_eq!(std::fs::read_to_string(other).unwrap(), "another program's");
    }
}

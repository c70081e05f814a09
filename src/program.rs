//! Puts the parts together: backend, pipeline, doors; starts them, and stops them in order.

mod backend;
mod guards;

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::auth::policy::Authorizer;
use crate::config::{Address, AwsListen, Config};
use crate::edge::{admin, aws_door::AwsDoor, grpc_door, health::Health};
use crate::gateway::Gateway;
use crate::pipeline::hits::Hits;
use crate::reload::Reload;
use crate::server::{self, DRAIN, Listener, Server, Shutdown};
use crate::telemetry::{self, Metrics};
use crate::waits::{self, Key, Waits};

pub use self::backend::{LEDGER_DIR, settings};

/// How long after the listeners' drain the other parts may take to end.
const MARGIN: Duration = Duration::from_secs(1);

/// Serves with `config` until SIGTERM or SIGINT, then drains.
pub fn run(config: Config) -> Result<(), String> {
    let _written = telemetry::log(&config.log, config.log_format)?;
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
    let mut parts = Parts {
        running: JoinSet::new(),
        shutdown: shutdown.clone(),
        reload,
    };
    parts.spawn("the reloader", hang_ups(ask, shutdown.clone()));
    let guards = guards::build(&config, &metrics, &mut parts)?;
    let authenticator = guards::authenticator(&config, &mut parts).await?;
    let opened = backend::open(&config, &metrics, &guards, &health, &mut parts);
    let backend::Opened {
        pipeline,
        changes,
        ledger,
        cache,
    } = opened.await?;
    let hits = cache
        .clone()
        .map(|cache| Hits::new(cache, guards.clone(), metrics.clone()));
    let (audit, authorizer) = (guards.audit.clone(), guards.authorizer.clone());
    let gateway = Gateway::new(pipeline)
        .guarded_by(guards)
        .with_ledger(ledger)
        .with_cache(cache)
        .with_hits(hits)
        .lasting(config.order.longest_mutation());
    let key = match &config.resume_token_key_file {
        Some(path) => Key::read(path),
        None => Key::random(),
    };
    let settings = waits::Settings::with_key(key.map_err(|error| error.to_string())?)
        .configured(&config.waits.clone().unwrap_or_default());
    let waits = Waits::new(gateway.clone(), changes, settings, shutdown.clone());

    let addresses = Addresses {
        grpc: grpc.address().clone(),
        aws: aws.as_ref().map(|listener| listener.address().clone()),
        admin: admin.1,
    };
    let tls = guards::certificates(&config, &mut parts)?;
    let door = |listener| {
        Server::new(listener)
            .with_tls(tls.clone())
            .within(config.connections.clone())
    };
    let mut routes = grpc_door::routes(gateway.clone(), waits, health.clone())
        .map_err(|error| format!("reflection cannot be set up: {error}"))?;
    let mut aws_door = AwsDoor::new(gateway);
    if let Some(authenticator) = authenticator {
        routes = routes.authenticated_by(authenticator.clone());
        aws_door = aws_door.authenticated_by(authenticator);
    }
    parts.spawn("the gRPC door", door(grpc).serve(routes, shutdown.clone()));
    if let Some(listener) = aws {
        let serving = door(listener).serve(aws_door, shutdown.clone());
        parts.spawn("the AWS door", serving);
    }
    let pages = admin::routes(health.clone(), metrics);
    let admin = Server::new(admin.0).within(config.connections.clone());
    parts.spawn("the admin listener", admin.serve(pages, shutdown));

    health.set_serving(true);
    addresses.announce(config.ready_file.as_deref())?;
    if let Some(audit) = &audit {
        let details = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "configuration": config.digest(),
            "policies": authorizer.as_ref().map(Authorizer::version),
        });
        audit.event("started", details);
    }
    let outcome = until(stopped, &mut parts.running).await;
    // Health first, so that whoever balances load looks elsewhere while calls end.
    health.set_serving(false);
    if let Some(path) = &config.ready_file {
        // It may be gone already.
        drop(std::fs::remove_file(path));
    }
    stop.send_replace(true);
    join(parts.running).await;
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

/// What is running, and what tells it to stop and to look at its files.
struct Parts {
    running: JoinSet<Part>,
    shutdown: Shutdown,
    reload: Reload,
}

impl Parts {
    fn spawn(&mut self, name: Part, part: impl Future<Output = ()> + Send + 'static) {
        spawn(&mut self.running, name, part);
    }

    /// The same for what does not end by itself.
    fn spawn_until_told(&mut self, name: Part, part: impl Future<Output = ()> + Send + 'static) {
        let told = self.shutdown.clone().told();
        self.spawn(name, async move {
            tokio::select! {
                () = part => {}
                () = told => {}
            }
        });
    }
}

fn spawn(parts: &mut JoinSet<Part>, name: Part, part: impl Future<Output = ()> + Send + 'static) {
    parts.spawn(async move {
        part.await;
        name
    });
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

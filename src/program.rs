//! Puts the parts together: backend, pipeline, doors; starts them, and stops them in order.

mod addresses;
mod backend;
mod guards;
mod reconfigure;
mod signals;

use std::borrow::Cow;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use self::addresses::Addresses;
use self::reconfigure::Reconfigure;
pub use self::reconfigure::Source;
use self::signals::{HangUps, Stops};
use crate::audit::Audit;
use crate::auth::policy::Authorizer;
use crate::backend::engine::store::Store;
use crate::config::Config;
use crate::config::listeners::{self, Speaks};
use crate::edge::{admin, aws_door::AwsDoor, doors::Doors, grpc_door, health::Health, web::Web};
use crate::gateway::Gateway;
use crate::pipeline::hits::Hits;
use crate::reload::Reload;
use crate::server::{self, Listener, Server, Shutdown};
use crate::telemetry::{self, Dials, Written};
use crate::waits::{self, Key, Waits};

pub use self::backend::{LEDGER_DIR, settings};

/// How long after the listeners' drain the other parts may take to end.
const MARGIN: Duration = Duration::from_secs(1);

/// Serves as `source` says until SIGTERM or SIGINT, then drains. A second signal ends it at once.
pub fn run(source: Source) -> Result<(), String> {
    // Until the end of the program, so that all lines are written.
    let mut written = None;
    on_runtime(async {
        // Before anything else: whatever comes from now on ends the program in order.
        let (stops, hang_ups) = (Stops::counted()?, HangUps::noticed());
        signals::outlast_full_files();
        tokio::select! {
            ended = serve(source, &mut written, hang_ups, stops.clone()) => ended,
            () = stops.times(2) => Err(
                "stopped at once, since it was told to a second time; calls in flight were broken off".to_owned(),
            ),
        }
    })
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

/// Serves until told to stop.
async fn serve(
    source: Source,
    written: &mut Option<Written>,
    hang_ups: HangUps,
    stops: Stops,
) -> Result<(), String> {
    let starting = async {
        let config = source.read().await?.map_err(|error| error.to_string())?;
        let (lines, dials) = telemetry::log(&config.log, config.log_format)?;
        *written = Some(lines);
        start(config, source, dials, hang_ups).await
    };
    let started = tokio::select! {
        biased;
        // Nobody was answered yet.
        () = stops.clone().times(1) => return Ok(()),
        started = starting => started?,
    };
    started.until(stops.times(1)).await
}

/// A program that serves.
struct Started {
    parts: Parts,
    stop: watch::Sender<bool>,
    /// Nothing is sent: it is told whether this lives, and how it ends, until it has ended.
    _admin: watch::Sender<bool>,
    health: Health,
    ready_file: Option<PathBuf>,
    /// Absent where nothing is stored.
    store: Option<Store>,
    audit: Option<Audit>,
    /// Absent where telemetry is sent nowhere.
    sender: Option<telemetry::otlp::Sender>,
}

/// Opens everything. Calls are answered when this returns, and not before.
async fn start(
    config: Config,
    source: Source,
    dials: Dials,
    hang_ups: HangUps,
) -> Result<Started, String> {
    // Bound first: a port that is taken is known before anything is opened.
    let mut doors = Vec::new();
    for listener in config.all_listeners() {
        let mode = listener.mode.unwrap_or(config.connections.unix_socket_mode);
        let opened = Listener::open(&listener.address, mode).await?;
        doors.push((listener, opened));
    }
    let admin = server::bind(config.admin_listen).await?;
    // Not before: whoever has our ports may still be ready.
    if let Some(path) = &config.ready_file {
        addresses::forget(path)?;
    }
    let addresses = Addresses {
        doors: doors
            .iter()
            .map(|(listener, opened)| (listener.clone(), opened.address().clone()))
            .collect(),
        admin: admin.1,
    };

    let (observer, sender) = telemetry::otlp::open(&config.telemetry)?;
    let metrics = observer.metrics.clone();
    let health = Health::default();
    let (stop, shutdown) = Shutdown::after(&config.shutdown);
    let (ask, reload) = Reload::channel();
    let mut parts = Parts {
        running: JoinSet::new(),
        shutdown: shutdown.clone(),
        reload,
    };
    // Before the rest: whoever looks whether this lives is answered however long the rest takes.
    let pages = admin::routes(health.clone(), metrics.clone());
    let admin = Server::new(admin.0)
        .counted_by(metrics.clone(), listeners::ADMIN)
        .within(config.connections.clone());
    let (admin_stop, until_the_end) = Shutdown::after(&config.shutdown);
    parts.spawn_to_the_end("the admin listener", admin.serve(pages, until_the_end));

    let guards = guards::build(&config, &metrics, &mut parts)?;
    let authenticator = guards::authenticator(&config, &mut parts).await?;
    let opened = backend::open(&config, &metrics, &guards, &health, &mut parts);
    let backend::Opened {
        pipeline,
        changes,
        store,
        ledger,
        cache,
        retries,
    } = opened.await?;
    let hits = cache
        .clone()
        .map(|cache| Hits::new(cache, guards.clone(), metrics.clone()));
    let (audit, authorizer) = (guards.audit.clone(), guards.authorizer.clone());
    let limiter = guards.limiter.clone();
    let gateway = Gateway::new(pipeline)
        .guarded_by(guards)
        .with_ledger(ledger)
        .with_cache(cache.clone())
        .with_hits(hits)
        .measured_by(metrics.clone())
        .lasting(config.order.longest_mutation());
    let key = match &config.resume_token_key_file {
        Some(path) => Key::read(path),
        None => Key::random(),
    };
    let settings = waits::Settings::with_key(key.map_err(|error| error.to_string())?)
        .configured(&config.waits.clone().unwrap_or_default());
    let waits = Waits::new(gateway.clone(), changes, settings, shutdown.clone());
    let waits = waits.measured_by(metrics.clone());

    let tls = guards::certificates(&config, &mut parts)?;
    let mut grpc = grpc_door::routes(gateway.clone(), waits.clone(), health.clone())
        .map_err(|error| format!("reflection cannot be set up: {error}"))?
        .observed_by(observer.clone());
    let mut aws = AwsDoor::new(gateway).observed_by(observer.clone());
    if let Some(authenticator) = &authenticator {
        grpc = grpc.authenticated_by(authenticator.clone());
        aws = aws.authenticated_by(authenticator.clone());
    }
    let web = config.grpc_web.as_ref();
    let web = web.map(|section| Web::new(grpc.clone(), section));
    let reconfigure = Reconfigure {
        source,
        limiter,
        authenticator,
        cache,
        retries,
        web: web.clone(),
        waits,
        shutdown: shutdown.clone(),
        health: health.clone(),
        metrics: metrics.clone(),
        dials: dials.with_tracing(observer.tracing.clone()),
        running: config.clone(),
    };
    for (listener, opened) in doors {
        let tls = tls.clone().filter(|_| listener.has_tls(true));
        let server = Server::new(opened)
            .counted_by(metrics.clone(), &listener.name)
            .with_tls(tls)
            .within(config.connections.clone());
        let (grpc, aws, shutdown) = (grpc.clone(), aws.clone(), shutdown.clone());
        let web = web.clone().filter(|_| listener.grpc_web);
        let name = format!("the listener {}", listener.name);
        health.needs(&format!("listener.{}", listener.name), true);
        // Who has one door only is not asked which one is meant.
        match (
            listener.speaks(Speaks::Grpc),
            web,
            listener.speaks(Speaks::Aws),
        ) {
            (false, _, _) => parts.spawn(name, server.serve(aws, shutdown)),
            (true, None, false) => parts.spawn(name, server.serve(grpc, shutdown)),
            (true, Some(web), false) => parts.spawn(name, server.serve(web, shutdown)),
            (true, None, true) => {
                let doors = Doors::new(grpc, false, aws);
                parts.spawn(name, server.serve(doors, shutdown));
            }
            (true, Some(web), true) => {
                let doors = Doors::new(web, true, aws);
                parts.spawn(name, server.serve(doors, shutdown));
            }
        }
    }
    let digest = config.digest();
    parts.spawn_until_told("the reloader", reconfigure.follow(hang_ups, ask));

    health.set_serving(true);
    addresses.announce(config.ready_file.as_deref())?;
    if let Some(audit) = &audit {
        let details = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "configuration": digest,
            "policies": authorizer.as_ref().map(Authorizer::version),
        });
        audit.event("started", details);
    }
    Ok(Started {
        parts,
        stop,
        _admin: admin_stop,
        health,
        ready_file: config.ready_file,
        store,
        audit,
        sender,
    })
}

impl Started {
    /// Serves until `stopped` returns, and ends in order.
    async fn until(mut self, stopped: impl Future<Output = ()>) -> Result<(), String> {
        let mut outcome = until(stopped, &mut self.parts.running).await;
        // Health first, so that whoever balances load looks elsewhere while calls are still taken.
        self.health.set_serving(false);
        if let Some(path) = &self.ready_file {
            // It may be gone already.
            drop(std::fs::remove_file(path));
        }
        let notice = self.parts.shutdown.notice();
        if outcome.is_ok() && !notice.is_zero() {
            tracing::info!(
                ?notice,
                "not ready any more; calls are still taken for a while"
            );
            outcome = until(tokio::time::sleep(notice), &mut self.parts.running).await;
        }
        self.health.end_watches();
        self.stop.send_replace(true);
        let drain = self.parts.shutdown.drain();
        join(&mut self.parts.running, drain).await;
        if let Some(store) = self.store
            && !store.close().await
        {
            tracing::warn!(
                "proton.db is not whole without proton.db-wal: the end took too long, or another process uses the store"
            );
        }
        if let Some(audit) = self.audit {
            audit.event("stopped", serde_json::Value::Null);
            audit.flush().await;
        }
        if let Some(sender) = self.sender {
            sender.end().await;
        }
        tracing::info!("stopped");
        outcome
    }
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
async fn join(parts: &mut JoinSet<Part>, drain: Duration) {
    let all = async {
        while let Some(ended) = parts.join_next().await {
            if let Err(error) = ended {
                tracing::error!(problem = panicked(error), "while stopping");
            }
        }
    };
    if tokio::time::timeout(drain + MARGIN, all).await.is_err() {
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
type Part = Cow<'static, str>;

/// What is running, and what tells it to stop and to look at its files.
struct Parts {
    running: JoinSet<Part>,
    shutdown: Shutdown,
    reload: Reload,
}

impl Parts {
    fn spawn(&mut self, name: impl Into<Part>, part: impl Future<Output = ()> + Send + 'static) {
        spawn(&mut self.running, name, part);
    }

    /// The same for what goes with the program: nobody waits for its end, but until the program is
    /// told to stop it must not end.
    fn spawn_to_the_end(
        &mut self,
        name: &'static str,
        part: impl Future<Output = ()> + Send + 'static,
    ) {
        let part = tokio::spawn(part);
        self.spawn_until_told(name, async {
            if let Err(error) = part.await
                && let Ok(panic) = error.try_into_panic()
            {
                std::panic::resume_unwind(panic);
            }
        });
    }

    /// The same for what does not end by itself.
    fn spawn_until_told(
        &mut self,
        name: &'static str,
        part: impl Future<Output = ()> + Send + 'static,
    ) {
        let told = self.shutdown.clone().told();
        self.spawn(name, async move {
            tokio::select! {
                () = part => {}
                () = told => {}
            }
        });
    }
}

fn spawn(
    parts: &mut JoinSet<Part>,
    name: impl Into<Part>,
    part: impl Future<Output = ()> + Send + 'static,
) {
    let name = name.into();
    parts.spawn(async move {
        part.await;
        name
    });
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
        let joined = tokio::time::timeout(3 * MARGIN, join(&mut parts, MARGIN));
        assert!(joined.await.is_ok());
    }

    fn parts() -> (watch::Sender<bool>, Parts) {
        let (stop, shutdown) = Shutdown::channel();
        let parts = Parts {
            running: JoinSet::new(),
            shutdown,
            reload: Reload::channel().1,
        };
        (stop, parts)
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_all_parts_also_if_what_goes_with_the_program_is_gone() {
        let (stop, mut parts) = parts();
        let told = parts.shutdown.clone().told();
        let (done, mut was_done) = watch::channel(false);
        parts.spawn("a listener", async move {
            told.await;
            tokio::time::sleep(MARGIN).await;
            done.send_replace(true);
        });
        parts.spawn_to_the_end("the admin listener", async {});
        let problem = until(std::future::pending(), &mut parts.running).await;
        assert!(problem.unwrap_err().starts_with("the admin listener ended"));
        stop.send_replace(true);
        join(&mut parts.running, MARGIN).await;
        assert!(*was_done.borrow_and_update());
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_with_the_program_is_not_waited_for_and_its_panic_is_told() {
        let (stop, mut parts) = parts();
        parts.spawn_to_the_end("one", std::future::pending());
        stop.send_replace(true);
        let joined = tokio::time::timeout(MARGIN / 2, join(&mut parts.running, MARGIN));
        assert!(joined.await.is_ok());
        let (_stop, mut parts) = self::parts();
        parts.spawn_to_the_end("two", async { panic!("a defect") });
        let ended = until(std::future::pending(), &mut parts.running).await;
        assert!(ended.unwrap_err().contains("a defect"));
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
}

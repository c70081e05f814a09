//! Opens the backend that was asked for, and starts what works beside it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;

use super::Parts;
use crate::admission::Guards;
use crate::backend::aws::{self, Aws, pace::Paces};
use crate::backend::engine::{self, Engine, bucket::Buckets, store::Store};
use crate::cache::{Cache, coherence::Coherence};
use crate::changes::Changes;
use crate::clock::SystemClock;
use crate::config::{Config, EngineConfig};
use crate::edge::health::{self, Health};
use crate::gateway::Pipeline;
use crate::ledger::Ledger;
use crate::pipeline::condition::Compared;
use crate::pipeline::order::Order;
use crate::pipeline::{self, Extras};
use crate::retries::Retries;
use crate::telemetry::Metrics;

/// Where the idempotency keys of forwarded calls are kept if no folder is given.
pub const LEDGER_DIR: &str = "./proton-ledger";
/// How often the database's file is looked for.
const LOOK: Duration = Duration::from_secs(5);
/// How often it is looked whether an upstream is left alone.
const LOOK_AT_CIRCUITS: Duration = Duration::from_secs(1);

/// What stands behind the doors.
pub struct Opened {
    /// The pipeline down to the backend.
    pub pipeline: Pipeline,
    /// Where the backend tells of changes.
    pub changes: Changes,
    /// Absent where nothing is stored.
    pub store: Option<Store>,
    /// Absent where idempotency keys are not kept.
    pub ledger: Option<Ledger>,
    /// Absent where no answers are kept.
    pub cache: Option<Cache>,
    /// Absent where nothing is repeated.
    pub retries: Option<Retries>,
}

/// Opens the backend that is configured, and the pipeline over it. An error says what to do.
pub async fn open(
    config: &Config,
    metrics: &Metrics,
    guards: &Guards,
    health: &Health,
    parts: &mut Parts,
) -> Result<Opened, String> {
    match &config.engine {
        None => {
            let store = keys(config)?;
            let ledger = match &store {
                None => None,
                Some(store) => {
                    store.measured_by(metrics);
                    watch(store.clone(), health, parts);
                    ledger(config, store.clone(), false, metrics).await?
                }
            };
            let aws = forwarding(config, metrics).await?;
            measure(None, ledger.clone(), metrics, parts);
            let changes = aws.changes().clone();
            let cache = Cache::new(&config.cache, Coherence::observed(), metrics.clone());
            let retries = Retries::new(&config.retry, metrics.clone());
            health.uses(health::UPSTREAM, true);
            if let Some(retries) = &retries {
                let follow = look_at_circuits(retries.clone(), health.clone());
                parts.spawn_until_told("the health of the upstream", follow);
            }
            let extras = Extras {
                cache: cache.clone(),
                ledger: ledger.clone(),
                retries: retries.clone(),
                order: ordered(config, &changes, metrics, parts),
                ..Extras::default()
            };
            Ok(Opened {
                pipeline: pipeline::build_with(aws, metrics.clone(), guards, extras),
                changes,
                store,
                ledger,
                cache,
                retries,
            })
        }
        Some(own) => {
            let store = Store::open(&own.state_dir).map_err(|error| error.to_string())?;
            store.measured_by(metrics);
            let engine = embedded(config, own, store.clone(), parts, metrics).await?;
            watch(store.clone(), health, parts);
            let ledger = ledger(config, store.clone(), true, metrics).await?;
            measure(Some(engine.clone()), ledger.clone(), metrics, parts);
            let changes = engine.changes().clone();
            let cache = Cache::new(&config.cache, engine.coherence(), metrics.clone());
            let retries = Retries::of_engine(&config.retry, metrics.clone());
            let extras = Extras {
                cache: cache.clone(),
                ledger: ledger.clone(),
                retries: retries.clone(),
                compared: Compared::Within,
                order: ordered(config, &changes, metrics, parts),
            };
            Ok(Opened {
                pipeline: pipeline::build_with(engine, metrics.clone(), guards, extras),
                changes,
                store: Some(store),
                ledger,
                cache,
                retries,
            })
        }
    }
}

/// Where the idempotency keys of forwarded calls are kept. Whoever has named no folder may need
/// none: then calls with keys are refused, and all others are served.
fn keys(config: &Config) -> Result<Option<Store>, String> {
    if !config.idempotency.enabled {
        return Ok(None);
    }
    if let Some(folder) = &config.ledger_dir {
        let store = Store::open(folder).map_err(|error| error.to_string())?;
        return Ok(Some(store));
    }
    match Store::open(Path::new(LEDGER_DIR)) {
        Ok(store) => Ok(Some(store)),
        Err(error) => {
            tracing::warn!(
                cause = %error,
                "idempotency keys cannot be kept, and calls that have one are refused; give --state-dir a folder"
            );
            Ok(None)
        }
    }
}

/// The ledger of idempotency keys in `store`, which is that of the calls themselves if `exact`.
async fn ledger(
    config: &Config,
    store: Store,
    exact: bool,
    metrics: &Metrics,
) -> Result<Option<Ledger>, String> {
    let section = &config.idempotency;
    if !section.enabled {
        return Ok(None);
    }
    let secret = section.secret().map_err(|error| error.to_string())?;
    let clock = Arc::new(SystemClock);
    Ledger::open(store, section, secret, clock, exact)
        .await
        .map(|ledger| Some(ledger.measured_by(metrics.clone())))
        .map_err(|error| error.to_string())
}

/// The lines of mutations that wait, where they do.
fn ordered(config: &Config, changes: &Changes, metrics: &Metrics, parts: &Parts) -> Option<Order> {
    Order::new(&config.order, changes, &parts.shutdown)
        .map(|order| order.measured_by(metrics.clone()))
}

/// Has it counted what there is to be told of the store.
fn measure(engine: Option<Engine>, ledger: Option<Ledger>, metrics: &Metrics, parts: &mut Parts) {
    let counted = metrics.counted(move || {
        let (engine, ledger) = (engine.clone(), ledger.clone());
        async move {
            if let Some(engine) = &engine
                && let Err(error) = engine.measure().await
            {
                tracing::warn!(cause = %error, "what the engine has to do cannot be counted");
            }
            if let Some(ledger) = &ledger
                && let Err(error) = ledger.measure().await
            {
                tracing::warn!(cause = %error, "idempotency keys cannot be counted");
            }
        }
    });
    parts.spawn_until_told("the measuring", counted);
}

/// Ends the program with the store's writer, and follows the store's file.
fn watch(store: Store, health: &Health, parts: &mut Parts) {
    health.needs(health::STORE, true);
    let health = health.clone();
    parts.spawn_until_told("the store's writer", async move {
        tokio::select! {
            () = store.ended() => {}
            () = look_after(&store, &health) => {}
        }
    });
}

async fn forwarding(config: &Config, metrics: &Metrics) -> Result<Aws, String> {
    let settings = aws::Settings {
        region: config.region.clone(),
        profile: config.profile.clone(),
        endpoint_url: config.upstream_endpoint_url.clone(),
    };
    let unnamed = to_another(config, None, settings).await?;
    let mut named = BTreeMap::new();
    for (name, upstream) in &config.upstreams {
        let settings = aws::Settings {
            region: upstream.region.clone(),
            profile: upstream.profile.clone(),
            endpoint_url: upstream.endpoint_url.clone(),
        };
        let loaded = to_another(config, Some(name), settings).await?;
        named.insert(name.clone(), loaded);
    }
    let limits = config.limits.as_ref();
    let paces = limits
        .and_then(|limits| limits.upstream.as_ref())
        .and_then(|upstream| Paces::new(upstream, metrics.clone()));
    let sts = config.sts_endpoint_url.clone();
    Ok(Aws::of(unnamed, named, sts)
        .paced(paces)
        .giving_up_after(config.retry.attempt_timeout.0)
        .measured_by(metrics.clone()))
}

/// What AWS's chain makes of the settings of an upstream, which must not lead back here.
async fn to_another(
    config: &Config,
    upstream: Option<&str>,
    settings: aws::Settings,
) -> Result<SdkConfig, String> {
    let loaded = settings.load().await;
    let endpoint = aws::endpoint(&loaded);
    if let Some(url) = endpoint.as_deref().filter(|url| config.is_own(url)) {
        return Err(format!(
            "calls would be forwarded to {url}, which is this gateway's own AWS door: AWS_ENDPOINT_URL_PROTON, AWS_ENDPOINT_URL or the profile says so; unset it for the gateway, or give the upstream an endpoint-url"
        ));
    }
    let endpoint = endpoint.as_deref().unwrap_or("AWS's own");
    tracing::info!(upstream, endpoint, "forwarding");
    Ok(loaded)
}

/// What the engine is told of the configuration.
pub fn settings(config: &Config, own: &EngineConfig) -> engine::Settings {
    engine::Settings {
        region: config.arn_region().to_owned(),
        account_id: own.account_id.clone(),
        step: own.simulated_step.0,
        self_managed_timeout: own.self_managed_timeout.0,
        buckets: Buckets::in_folder(&own.buckets_dir),
        quotas: engine::Quotas::default(),
    }
}

async fn embedded(
    config: &Config,
    own: &EngineConfig,
    store: Store,
    parts: &mut Parts,
    metrics: &Metrics,
) -> Result<Engine, String> {
    let engine = Engine::new(store, Arc::new(SystemClock), settings(config, own))
        .measured_by(metrics.clone());
    engine.claim().await.map_err(|error| {
        let folder = own.state_dir.display();
        format!("cannot use the state directory {folder}: {error}")
    })?;
    tracing::info!(
        state_dir = %own.state_dir.display(),
        provisioner = "simulated",
        "the embedded engine is open; it provisions nothing real"
    );
    let told = parts.shutdown.clone().told();
    parts.spawn("the engine's worker", engine.clone().work(told));
    Ok(engine)
}

/// Tells `health` whether what is stored now will be found again. Never returns.
async fn look_after(store: &Store, health: &Health) {
    let mut before = None;
    loop {
        let missing = store.missing().await;
        health.needs(health::STORE, missing.is_none());
        if let (None, Some(file)) = (before, missing) {
            tracing::error!(
                file,
                "a file of the store was deleted or replaced: nothing is stored any more; put the same file back, or stop the program and look after its state directory"
            );
        }
        before = missing;
        tokio::time::sleep(LOOK).await;
    }
}

/// Tells `health` whether an upstream is left alone just now. Calls of others are answered, and those
/// of this one are not answered better elsewhere: the gateway stays ready. Never returns.
async fn look_at_circuits(retries: Retries, health: Health) {
    loop {
        tokio::time::sleep(LOOK_AT_CIRCUITS).await;
        health.uses(health::UPSTREAM, !retries.leaves_one_alone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            // What would be lost is not taken.
            let refused = store.write(|_| Ok(())).await.unwrap_err();
            assert!(refused.retry_after().is_some(), "{refused}");
            assert_eq!(store.read(|_| Ok(())).await, Ok(()));
            std::fs::rename(&away, &file).unwrap();
            tokio::time::sleep(2 * LOOK).await;
            assert!(health.is_serving());
            assert_eq!(store.write(|_| Ok(())).await, Ok(()));
        };
        tokio::select! {
            () = look_after(&store, &health) => {}
            () = test => {}
        }
    }
}

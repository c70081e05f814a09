//! The configuration read again while the program runs (SIGHUP): what can change without a restart does,
//! and what cannot is named.
//!
//! Files that the configuration names (certificates, policies, keys) are followed by their readers; see
//! [`crate::reload`]. A configuration that is wrong changes nothing.

use std::path::PathBuf;

use tokio::sync::watch;
use toml::{Table, Value};

use super::signals::HangUps;
use crate::auth::Authenticator;
use crate::cache::Cache;
use crate::config::{Config, ConfigError, Options};
use crate::edge::health::{Configuration, Health};
use crate::edge::web::Web;
use crate::limits::Limiter;
use crate::retries::Retries;
use crate::server::Shutdown;
use crate::telemetry::{Dials, Metrics};
use crate::waits::Waits;

/// Whence the configuration comes, each time that it is read.
#[derive(Clone)]
pub struct Source {
    /// Flags and environment.
    pub given: Options,
    pub file: Option<PathBuf>,
}

impl Source {
    pub fn load(&self) -> Result<Config, ConfigError> {
        Config::load(self.given.clone(), self.file.as_deref())
    }

    /// The same, beside what else is done: it reads files, and checks those that they name. The outer
    /// error is that it could not be tried.
    pub async fn read(&self) -> Result<Result<Config, ConfigError>, String> {
        let source = self.clone();
        tokio::task::spawn_blocking(move || source.load())
            .await
            .map_err(|error| format!("reading the configuration failed: {error}"))
    }
}

/// All that takes over a new configuration.
pub struct Reconfigure {
    pub source: Source,
    /// Absent where nothing was limited at the start; so with the others.
    pub limiter: Option<Limiter>,
    pub authenticator: Option<Authenticator>,
    pub cache: Option<Cache>,
    pub retries: Option<Retries>,
    pub web: Option<Web>,
    pub waits: Waits,
    pub shutdown: Shutdown,
    pub health: Health,
    pub metrics: Metrics,
    pub dials: Dials,
    /// What holds.
    pub running: Config,
}

impl Reconfigure {
    /// Reads the configuration, and asks for all files to be looked at, whenever the process is told to.
    /// Never returns.
    pub async fn follow(mut self, mut hang_ups: HangUps, ask: watch::Sender<()>) {
        loop {
            hang_ups.next().await;
            tracing::info!(
                signal = "SIGHUP",
                "reading the configuration again, and looking for changed files"
            );
            ask.send_replace(());
            match self.source.read().await {
                Ok(Ok(new)) => self.take_over(new),
                Ok(Err(error)) => self.refuse(&error.to_string()),
                Err(problem) => self.refuse(&problem),
            }
        }
    }

    fn refuse(&self, problem: &str) {
        tracing::error!(problem, "the configuration is wrong; the one before holds");
        self.metrics.configuration_is_current(false);
        self.health
            .configured(Configuration::Refused(problem.to_owned()));
    }

    fn take_over(&mut self, new: Config) {
        let changed = differences(&self.running, &new);
        let (applied, pending): (Vec<_>, Vec<_>) =
            changed.into_iter().partition(|key| self.applies(key, &new));
        self.apply(new);
        for key in &applied {
            tracing::info!(key, "a new value holds");
        }
        if !pending.is_empty() {
            let keys = pending.join(", ");
            tracing::warn!("takes effect after a restart: {keys}");
        }
        if applied.is_empty() && pending.is_empty() {
            tracing::info!("the configuration is what it was");
        }
        self.metrics.configuration_is_current(pending.is_empty());
        self.health.configured(match pending.is_empty() {
            true => Configuration::Current,
            false => Configuration::Pending(pending),
        });
    }

    /// Whether [`Self::apply`] makes a new value of `key` hold.
    fn applies(&self, key: &str, new: &Config) -> bool {
        let (section, rest) = key.split_once('.').unwrap_or((key, ""));
        match section {
            "log" => true,
            "telemetry" => rest == "sample-ratio",
            "limits" => {
                let upstream = rest == "upstream" || rest.starts_with("upstream.");
                let limited = self.limiter.is_some() && new.limits.is_some();
                limited && !rest.is_empty() && !upstream && rest != "max-callers"
            }
            "authentication" => self.authenticator.is_some() && rest == "tokens",
            "cache" => self.cache.is_some() && !matches!(rest, "" | "enabled" | "max-size"),
            "retry" => {
                self.retries.is_some()
                    && !matches!(rest, "" | "enabled" | "attempt-timeout" | "circuit.enabled")
            }
            "grpc-web" => self.web.is_some() && new.grpc_web.is_some() && !rest.is_empty(),
            "shutdown" | "waits" => true,
            _ => false,
        }
    }

    /// Lets all values hold that can, and takes note of them.
    fn apply(&mut self, new: Config) {
        let running = &mut self.running;
        // Both were checked with the rest.
        if running.log != new.log && self.dials.set_filter(&new.log).is_ok() {
            running.log = new.log;
        }
        let ratio = new.telemetry.sample_ratio;
        if running.telemetry.sample_ratio != ratio && self.dials.set_sample_ratio(ratio).is_ok() {
            running.telemetry.sample_ratio = ratio;
        }
        if let (Some(limiter), Some(limits)) = (&self.limiter, new.limits) {
            limiter.change(&limits);
            if let Some(before) = &mut running.limits {
                let (upstream, callers) = (before.upstream.take(), before.max_callers);
                *before = limits;
                (before.upstream, before.max_callers) = (upstream, callers);
            }
        }
        if let (Some(authenticator), Some(section)) = (&self.authenticator, new.authentication) {
            authenticator.change_tokens(&section.tokens);
            if let Some(before) = &mut running.authentication {
                before.tokens = section.tokens;
            }
        }
        if let Some(cache) = &self.cache {
            let (enabled, max_size) = (running.cache.enabled, running.cache.max_size);
            running.cache = new.cache;
            (running.cache.enabled, running.cache.max_size) = (enabled, max_size);
            cache.change(&running.cache);
        }
        if let Some(retries) = &self.retries {
            let before = std::mem::replace(&mut running.retry, new.retry);
            running.retry.enabled = before.enabled;
            running.retry.attempt_timeout = before.attempt_timeout;
            running.retry.circuit.enabled = before.circuit.enabled;
            if running.retry != before {
                retries.change(&running.retry);
            }
        }
        if let (Some(web), Some(section)) = (&self.web, new.grpc_web)
            && running.grpc_web.as_ref() != Some(&section)
        {
            web.change(&section);
            running.grpc_web = Some(section);
        }
        if running.waits != new.waits {
            self.waits.change(&new.waits.clone().unwrap_or_default());
            running.waits = new.waits;
        }
        self.shutdown.change(&new.shutdown);
        running.shutdown = new.shutdown;
    }
}

/// The keys whose values differ, as a file has them. No value: it may be a secret.
fn differences(one: &Config, other: &Config) -> Vec<String> {
    let table = |config: &Config| Table::try_from(config).unwrap_or_default();
    let mut keys = Vec::new();
    collect("", &table(one), &table(other), &mut keys);
    keys
}

fn collect(prefix: &str, one: &Table, other: &Table, keys: &mut Vec<String>) {
    let mut names: Vec<_> = one.keys().chain(other.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let key = format!("{prefix}{name}");
        match (one.get(name), other.get(name)) {
            (before, after) if before == after => {}
            (Some(Value::Table(before)), Some(Value::Table(after))) => {
                collect(&format!("{key}."), before, after, keys);
            }
            _ => keys.push(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::Response;
    use tower::util::BoxCloneSyncService;

    use super::*;
    use crate::changes::Changes;
    use crate::error::Error;
    use crate::gateway::{Call, Gateway};
    use crate::waits::{Key, Settings};

    fn config(text: &str) -> Config {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::load(Options::default(), Some(file.path())).unwrap()
    }

    fn reconfigure(text: &str) -> Reconfigure {
        let (running, metrics) = (config(text), Metrics::new().unwrap());
        let coherence = crate::cache::coherence::Coherence::observed();
        let nobody = tower::service_fn(|_: Call| async { Err(Error::internal("not asked")) });
        let gateway = Gateway::new(BoxCloneSyncService::new(nobody));
        let web = running.grpc_web.as_ref().map(|section| {
            let door = tower::service_fn(|_| async { Ok(Response::default()) });
            Web::new(door, section)
        });
        let shutdown = Shutdown::after(&running.shutdown).1;
        let settings = Settings::with_key(Key::random().unwrap());
        Reconfigure {
            source: Source {
                given: Options::default(),
                file: None,
            },
            limiter: running
                .limits
                .as_ref()
                .and_then(|limits| Limiter::new(limits, metrics.clone())),
            authenticator: None,
            cache: Cache::new(&running.cache, coherence, metrics.clone()),
            retries: Retries::new(&running.retry, metrics.clone()),
            web,
            waits: Waits::new(gateway, Changes::default(), settings, shutdown.clone()),
            shutdown,
            health: Health::default(),
            metrics,
            dials: Dials::default(),
            running,
        }
    }

    #[test]
    fn what_differs_is_named_by_its_key() {
        let before = config("[cache]\nstate-ttl = \"1s\"\n[waits]\nlinger = \"1s\"");
        let after = config("region = \"eu-west-1\"\n[cache]\nstate-ttl = \"2s\"");
        let keys = ["cache.state-ttl", "region", "waits"];
        assert_eq!(differences(&before, &after), keys);
    }

    #[test]
    fn what_can_change_does_and_the_rest_stays_pending_until_the_file_says_what_holds() {
        let mut it = reconfigure("[cache]\nenabled = true\nstate-ttl = \"1s\"");
        it.take_over(config(
            "region = \"eu-west-1\"\n[cache]\nenabled = true\nstate-ttl = \"9s\"\nmax-size = \"1MiB\"\n[retry]\nattempts = 5",
        ));
        let pending = serde_json::json!(["cache.max-size", "region"]);
        assert_eq!(
            it.health.page()["configuration"]["needs-a-restart"],
            pending
        );
        assert_eq!(it.running.cache.state_ttl.0.as_secs(), 9);
        assert_eq!(it.running.retry.attempts, 5);
        it.take_over(config("[cache]\nenabled = true"));
        assert_eq!(it.health.page()["configuration"]["current"], true);
    }

    #[test]
    fn the_times_of_the_end_and_of_waits_and_the_pages_of_browsers_change() {
        let mut it = reconfigure("[grpc-web]\nallowed-origins = [\"https://one.example\"]");
        let new = "[grpc-web]\nallowed-origins = [\"https://two.example\"]\n\
            [shutdown]\ndrain = \"7s\"\nnotice = \"2s\"\n[waits]\nlinger = \"1s\"";
        let clone = it.shutdown.clone();
        it.take_over(config(new));
        assert_eq!(it.health.page()["configuration"]["current"], true);
        assert_eq!(clone.drain(), Duration::from_secs(7));
        assert_eq!(clone.notice(), Duration::from_secs(2));
        assert!(differences(&it.running, &config(new)).is_empty());
    }

    #[test]
    fn what_was_not_there_or_is_fixed_at_the_start_needs_a_restart() {
        let mut it = reconfigure("");
        let new = "[grpc-web]\nallowed-origins = [\"https://one.example\"]\n\
            [connections]\nmax-age = \"5m\"\nmax-streams = 10";
        it.take_over(config(new));
        let pending =
            serde_json::json!(["connections.max-age", "connections.max-streams", "grpc-web"]);
        assert_eq!(
            it.health.page()["configuration"]["needs-a-restart"],
            pending
        );
    }

    #[test]
    fn limits_that_were_not_there_need_a_restart() {
        let mut it = reconfigure("[retry]\nenabled = false");
        let limits = "[retry]\nenabled = true\n[limits]\nread = { rate = \"1/s\", burst = 1 }";
        it.take_over(config(limits));
        let pending = it.health.page()["configuration"]["needs-a-restart"].to_string();
        assert!(
            pending.contains("limits") && pending.contains("retry.enabled"),
            "{pending}"
        );
    }
}

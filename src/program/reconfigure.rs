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
use crate::limits::Limiter;
use crate::retries::Retries;
use crate::telemetry::{Dials, Metrics};

/// Whence the configuration comes, each time that it is read.
pub struct Source {
    /// Flags and environment.
    pub given: Options,
    pub file: Option<PathBuf>,
}

impl Source {
    pub fn load(&self) -> Result<Config, ConfigError> {
        Config::load(self.given.clone(), self.file.as_deref())
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
            let source = self.source;
            // It reads files, and checks those that they name.
            let read = tokio::task::spawn_blocking(move || (source.load(), source)).await;
            let Ok((loaded, source)) = read else {
                tracing::error!("reading the configuration failed; it is not read any more");
                std::future::pending::<()>().await;
                return;
            };
            self.source = source;
            match loaded {
                Ok(new) => self.take_over(new),
                Err(error) => self.refuse(&error),
            }
        }
    }

    fn refuse(&self, error: &ConfigError) {
        tracing::error!(problem = %error, "the configuration is wrong; the one before holds");
        self.metrics.configuration_is_current(false);
        self.health
            .configured(Configuration::Refused(error.to_string()));
    }

    fn take_over(&mut self, new: Config) {
        let changed = differences(&self.running, &new);
        let (applied, pending): (Vec<_>, Vec<_>) =
            changed.into_iter().partition(|key| self.applies(key, &new));
        self.apply(new);
        for key in &applied {
            tracing::info!(key, "a new value holds");
        }
        for key in &pending {
            tracing::warn!(key, "a new value needs a restart; the one before holds");
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
    use super::*;

    fn config(text: &str) -> Config {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::load(Options::default(), Some(file.path())).unwrap()
    }

    fn reconfigure(text: &str) -> Reconfigure {
        let (running, metrics) = (config(text), Metrics::new().unwrap());
        let coherence = crate::cache::coherence::Coherence::observed();
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

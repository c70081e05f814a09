//! The section `[idempotency]`: for how long the keys of calls are kept. File only.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::audit::Size;
use super::{ConfigError, Span, invalid};

/// As long as AWS keeps its client tokens (API Reference). A key that is kept longer would outlive
/// the client token that goes with it.
const LIFETIME: Duration = Duration::from_secs(8 * 3600);
/// The shortest secret, in bytes.
const SECRET: usize = 32;
const SHORTEST: Duration = Duration::from_secs(60);
const SIZES: std::ops::RangeInclusive<Size> = Size(1 << 20)..=Size(1 << 40);

/// Whether keys are kept, how long, and how many.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct IdempotencyConfig {
    /// Without it calls with a key are refused.
    pub enabled: bool,
    /// How long a key is kept after its first call.
    pub lifetime: Span,
    /// What all keys and their outcomes may take; those of one caller a quarter of it.
    pub max_size: Size,
    /// File of at least 32 random bytes, the same for all replicas, of which the client tokens are
    /// derived; without it a secret of the state directory is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<PathBuf>,
}

impl Default for IdempotencyConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            lifetime: Span(LIFETIME),
            max_size: Size(512 << 20),
            secret_file: None,
        }
    }
}

impl IdempotencyConfig {
    /// The secret in the file, if there is one.
    pub fn secret(&self) -> Result<Option<Vec<u8>>, ConfigError> {
        let Some(path) = &self.secret_file else {
            return Ok(None);
        };
        let name = "idempotency.secret-file";
        let secret = std::fs::read(path)
            .map_err(|cause| invalid(name, format!("cannot read {}: {cause}", path.display())))?;
        if secret.len() < SECRET {
            let problem = format!("{} has fewer than {SECRET} bytes", path.display());
            return Err(invalid(name, problem));
        }
        Ok(Some(secret))
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.enabled {
            self.secret()?;
        }
        if !SIZES.contains(&self.max_size) {
            let problem = "at least 1MiB, at most 1024GiB";
            return Err(invalid("idempotency.max-size", problem));
        }
        if !(SHORTEST..=LIFETIME).contains(&self.lifetime.0) {
            let problem = "at least 1m, and at most 8h, for which AWS keeps its client tokens";
            return Err(invalid("idempotency.lifetime", problem));
        }
        Ok(())
    }
}

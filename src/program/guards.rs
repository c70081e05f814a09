//! Opens what stands before the backend: who calls, what callers may do, how much, and on which
//! record; and follows the files of all of it.

use std::sync::Arc;

use super::Parts;
use crate::admission::Guards;
use crate::audit::Audit;
use crate::auth::Authenticator;
use crate::auth::policy::Authorizer;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::config::authentication::Proof;
use crate::config::tls::ClientCertificates;
use crate::limits::Limiter;
use crate::server::tls::Tls;
use crate::telemetry::Metrics;

/// All guards of calls and streams.
pub fn build(config: &Config, metrics: &Metrics, parts: &mut Parts) -> Result<Guards, String> {
    let audit = match &config.audit {
        Some(section) => {
            let clock = Arc::new(SystemClock);
            Some(Audit::open(section, clock, metrics.clone())?)
        }
        None => None,
    };
    let authorizer = authorizer(config, parts)?;
    if let (Some(audit), Some(authorizer)) = (&audit, &authorizer) {
        let record = put_down_policies(audit.clone(), authorizer.clone());
        parts.spawn_until_told("the record of policies", record);
    }
    let limits = config.limits.as_ref();
    let limiter = limits.and_then(|limits| Limiter::new(limits, metrics.clone()));
    let unlimited = limiter.is_none();
    Ok(Guards {
        audit,
        authorizer,
        limiter,
        streams: unlimited.then(|| Limiter::of_streams(metrics.clone())),
        identities: config.identities(),
    })
}

/// Reads the policies, and follows their files.
fn authorizer(config: &Config, parts: &mut Parts) -> Result<Option<Authorizer>, String> {
    let Some(section) = &config.authorization else {
        return Ok(None);
    };
    let reload = parts.reload.clone();
    let (authorizer, follow) =
        Authorizer::watched(section, reload).map_err(|error| error.to_string())?;
    parts.spawn_until_told("the policies", follow);
    Ok(Some(authorizer))
}

/// Puts down which policies come into force.
async fn put_down_policies(audit: Audit, authorizer: Authorizer) {
    let mut changes = authorizer.changes();
    // The sender lives as long as the authorizer.
    while changes.changed().await.is_ok() {
        let version = authorizer.version();
        audit.event(
            "policies-changed",
            serde_json::json!({ "version": version }),
        );
    }
}

/// What knows callers, where they have to prove who they are.
pub async fn authenticator(
    config: &Config,
    parts: &mut Parts,
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
    let clock = Arc::new(SystemClock);
    let (authenticator, background) = Authenticator::new(section, &parts.reload, clock).await?;
    let work = background.run(parts.shutdown.clone());
    parts.spawn("the keys of callers", work);
    Ok(Some(authenticator))
}

/// Reads the certificates, and follows their files.
pub fn certificates(config: &Config, parts: &mut Parts) -> Result<Option<Tls>, String> {
    let Some(section) = &config.tls else {
        return Ok(None);
    };
    let opened = Tls::open(section, parts.reload.clone());
    let (tls, follower) = opened.map_err(|fault| fault.to_string())?;
    let follow = follower.follow(parts.shutdown.clone());
    parts.spawn("the certificates", follow);
    Ok(Some(tls))
}

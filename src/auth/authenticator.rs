//! The methods in their order, over what a request brings.

use std::future::Future;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use http::request::Parts;
use http::{HeaderMap, header};

use super::certificate::Certificates;
use super::jwt::{Issuer, Issuers};
use super::key_sets::KeySet;
use super::sigv4::{self, AccessKeys, Signed};
use super::sources::{File, Url};
use super::tokens::{self, Tokens};
use super::{Principal, unauthenticated, unrecognized};
use crate::clock::Clock;
use crate::config::authentication::{self as config, Authentication, Proof, Token};
use crate::error::{Error, Result};
use crate::gateway::Door;
use crate::reload::{Files, Reload};
use crate::server::{Peer, Shutdown};

/// The longest header `authorization` that is looked at. A token with many groups has about four
/// kilobytes.
const MAX_CREDENTIAL: usize = 8 * 1024;

/// Knows callers by what they prove. Clones share it.
#[derive(Clone)]
pub struct Authenticator(Arc<Inner>);

struct Inner {
    methods: Vec<Proof>,
    certificates: Certificates,
    issuers: Issuers,
    tokens: ArcSwap<Tokens>,
    access_keys: AccessKeys,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authenticator")
    }
}

/// How far the headers of a request on the AWS door say who sends it.
pub enum Identified {
    Known(Arc<Principal>),
    /// The body has to prove it.
    Signed(Box<Signed>),
}

/// What a request brings besides its connection.
enum Presented<'a> {
    Nothing,
    Bearer(&'a str),
    Signature(&'a str),
    Other,
}

impl Authenticator {
    /// Reads what the configuration names. Key sets behind URLs are fetched in the background: an
    /// issuer that is down keeps nobody else from being known.
    pub async fn new(
        given: &Authentication,
        reload: &Reload,
        clock: Arc<dyn Clock>,
    ) -> std::result::Result<(Self, Background), String> {
        let mut background = Background::default();
        let mut issuers = Vec::new();
        for issuer in given.jwt.iter().flat_map(|jwt| &jwt.issuers) {
            let keys = key_set(issuer, reload, &mut background).await?;
            issuers.push(Issuer::new(issuer, keys)?);
        }
        let secrets = given.access_keys.iter().map(|key| key.secret_file.clone());
        let files = Files::new(secrets.collect(), reload.clone());
        let rules = given.certificate.as_ref().map(|given| &given.rules[..]);
        let inner = Arc::new(Inner {
            methods: given.methods.clone(),
            certificates: Certificates::new(rules.unwrap_or_default())?,
            issuers: Issuers::new(issuers, Arc::clone(&clock)),
            tokens: ArcSwap::from_pointee(Tokens::new(&given.tokens)),
            access_keys: AccessKeys::new(&given.access_keys)?,
            clock,
        });
        if !given.access_keys.is_empty() {
            let shared = Arc::clone(&inner);
            background.add(follow(files, move || {
                let shared = Arc::clone(&shared);
                async move {
                    let read = move || shared.access_keys.reload();
                    // What cannot be read is logged there.
                    drop(tokio::task::spawn_blocking(read).await);
                }
            }));
        }
        Ok((Self(inner), background))
    }

    /// Other tokens are good from now on. Streams go on that were opened with one before.
    pub fn change_tokens(&self, given: &[Token]) {
        self.0.tokens.store(Arc::new(Tokens::new(given)));
    }

    /// Who sends a request of the gRPC door.
    pub async fn identify(&self, headers: &HeaderMap, peer: &Peer) -> Result<Arc<Principal>> {
        let presented = presented(headers)?;
        for method in &self.0.methods {
            if let Some(outcome) = self.try_method(*method, &presented, peer).await {
                return outcome;
            }
        }
        Err(self.nobody(&presented, Door::Grpc))
    }

    /// Who sends a request of the AWS door.
    pub async fn identify_signed(&self, request: &Parts, peer: &Peer) -> Result<Identified> {
        let presented = presented(&request.headers)?;
        for method in &self.0.methods {
            if let (Proof::AccessKey, Presented::Signature(text)) = (method, &presented) {
                let now = self.0.clock.now();
                let signed = self.0.access_keys.begin(request, text, now)?;
                return Ok(Identified::Signed(Box::new(signed)));
            }
            if let Some(outcome) = self.try_method(*method, &presented, peer).await {
                return outcome.map(Identified::Known);
            }
        }
        Err(self.nobody(&presented, Door::Aws))
    }

    /// Nothing if the method's kind of credential is not there.
    async fn try_method(
        &self,
        method: Proof,
        presented: &Presented<'_>,
        peer: &Peer,
    ) -> Option<Result<Arc<Principal>>> {
        let inner = &*self.0;
        match (method, presented) {
            (Proof::Certificate, _) => {
                let leaf = peer.certificates.first()?;
                Some(inner.certificates.principal(leaf, inner.clock.now()).await)
            }
            (Proof::Token, Presented::Bearer(token)) if token.starts_with(tokens::PREFIX) => {
                Some(inner.tokens.load().principal(token, inner.clock.now()))
            }
            (Proof::Jwt, Presented::Bearer(token)) if !token.starts_with(tokens::PREFIX) => {
                Some(inner.issuers.principal(token).await)
            }
            _ => None,
        }
    }

    /// Nothing that was presented is of an accepted kind.
    fn nobody(&self, presented: &Presented<'_>, door: Door) -> Error {
        let accepted = self.0.methods.iter().filter_map(|method| match method {
            Proof::Certificate => Some("a client certificate"),
            Proof::Jwt => Some("a JWT of a trusted issuer as `authorization: Bearer ...`"),
            Proof::Token => Some("a token as `authorization: Bearer pgw_...`"),
            Proof::AccessKey if door == Door::Aws => Some("a signature by SigV4"),
            Proof::AccessKey => None,
        });
        let accepted: Vec<_> = accepted.collect();
        let accepted = match accepted.is_empty() {
            true => "nothing at this door".to_owned(),
            false => accepted.join(", "),
        };
        let exception = match presented {
            Presented::Nothing => "MissingAuthenticationTokenException",
            _ => "UnrecognizedClientException",
        };
        let problem = match presented {
            Presented::Nothing => "there is no credential",
            _ => "the credential is of no accepted kind",
        };
        unauthenticated(exception, format!("{problem}; accepted: {accepted}"))
    }
}

fn presented(headers: &HeaderMap) -> Result<Presented<'_>> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(Presented::Nothing);
    };
    if values.next().is_some() {
        return Err(unrecognized(
            "there is more than one `authorization`; send one",
        ));
    }
    if value.len() > MAX_CREDENTIAL {
        return Err(unrecognized(format!(
            "the credential is too long: at most {MAX_CREDENTIAL} bytes"
        )));
    }
    let Ok(text) = value.to_str() else {
        return Ok(Presented::Other);
    };
    let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
    Ok(if scheme.eq_ignore_ascii_case("bearer") {
        Presented::Bearer(rest.trim())
    } else if scheme == sigv4::ALGORITHM {
        Presented::Signature(text)
    } else {
        Presented::Other
    })
}

async fn key_set(
    issuer: &config::Issuer,
    reload: &Reload,
    background: &mut Background,
) -> std::result::Result<Arc<KeySet>, String> {
    let name = &issuer.issuer;
    if let Some(path) = &issuer.jwks_file {
        let files = Files::new(vec![path.clone()], reload.clone());
        let keys = Arc::new(KeySet::new(name, File(path.clone())));
        keys.load()
            .await
            .map_err(|problem| format!("the keys of the issuer {name}: {problem}"))?;
        let shared = Arc::clone(&keys);
        background.add(follow(files, move || {
            let shared = Arc::clone(&shared);
            async move {
                shared.reload().await;
            }
        }));
        return Ok(keys);
    }
    let url = issuer.jwks_url.as_deref().unwrap_or_default();
    let source = Url::new(url, issuer)
        .map_err(|problem| format!("the keys of the issuer {name}: {problem}"))?;
    let keys = Arc::new(KeySet::new(name, source));
    let (shared, every) = (Arc::clone(&keys), issuer.refresh.0);
    background.add(async move { shared.refresh(every).await });
    Ok(keys)
}

/// Does something whenever a file has changed.
async fn follow<F: Future<Output = ()> + Send>(mut files: Files, act: impl Fn() -> F) {
    loop {
        files.changed().await;
        act().await;
    }
}

/// What keeps keys and secrets fresh while the program runs.
#[derive(Default)]
pub struct Background(Vec<BoxFuture<'static, ()>>);

impl Background {
    fn add(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        self.0.push(work.boxed());
    }

    /// Works until told to stop.
    pub async fn run(self, shutdown: Shutdown) {
        let all = async {
            join_all(self.0).await;
            // Without any work it waits as well.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = shutdown.told() => {}
            () = all => {}
        }
    }
}

#[cfg(test)]
mod tests;

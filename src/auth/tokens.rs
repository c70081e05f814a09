//! Tokens that the configuration knows by their hashes.

pub mod command;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::{Method, Principal, expired, unrecognized};
use crate::config::authentication::{Hash, Token};
use crate::error::Result;

/// What each token begins with: it tells them apart from JWTs, and from other secrets in a leak.
pub const PREFIX: &str = "pgw_";
/// What is random in a new token.
const RANDOM_BYTES: usize = 32;
/// Fewer characters could be guessed.
const MIN_LENGTH: usize = 32;

/// All tokens, by their hashes.
pub struct Tokens(HashMap<[u8; 32], Arc<Principal>>);

impl Tokens {
    pub fn new(given: &[Token]) -> Self {
        let principal = |token: &Token| Principal {
            id: token.id.clone(),
            method: Method::Token,
            roles: token.roles.clone(),
            scopes: token.scopes.clone(),
            attributes: BTreeMap::clone(&token.attributes),
            expires: token.expires.map(|moment| moment.0),
        };
        let tokens = given
            .iter()
            .filter_map(|token| Some((token.hash.bytes()?, Arc::new(principal(token)))));
        Self(tokens.collect())
    }

    /// Who bears `token`.
    pub fn principal(&self, token: &str, now: SystemTime) -> Result<Arc<Principal>> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        // How long it takes to look a hash up says nothing of a token: nobody can make tokens whose
        // hashes come close to one that is there.
        let principal = self
            .0
            .get(&digest)
            .ok_or_else(|| unrecognized("the token is not known"))?;
        if principal.expires.is_some_and(|at| at <= now) {
            return Err(expired("the token has expired"));
        }
        Ok(Arc::clone(principal))
    }
}

/// A new token, which nobody has had before.
pub fn new() -> std::result::Result<String, String> {
    let mut random = [0; RANDOM_BYTES];
    getrandom::fill(&mut random).map_err(|error| format!("no random bytes: {error}"))?;
    Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random)))
}

/// The hash of a token for the configuration.
pub fn hash_of(token: &str) -> std::result::Result<Hash, String> {
    let sound = token.starts_with(PREFIX)
        && token.len() >= MIN_LENGTH
        && token.bytes().all(|byte| byte.is_ascii_graphic());
    if !sound {
        return Err(format!(
            "a token begins with {PREFIX} and has at least {MIN_LENGTH} characters; `proton-gateway token new` makes one"
        ));
    }
    Ok(Hash::of(token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::authentication::Moment;
    use std::time::Duration;

    fn tokens(token: &str, expires: Option<SystemTime>) -> Tokens {
        let ci = Token {
            id: "ci".to_owned(),
            hash: hash_of(token).unwrap(),
            roles: ["viewer".to_owned()].into(),
            scopes: ["read".to_owned()].into(),
            attributes: BTreeMap::from([("team".to_owned(), "platform".to_owned())]),
            expires: expires.map(Moment),
        };
        let other = Token {
            id: "other".to_owned(),
            hash: hash_of(&new().unwrap()).unwrap(),
            ..ci.clone()
        };
        Tokens::new(&[ci, other])
    }

    #[test]
    fn a_token_makes_its_bearer_known_with_all_that_was_given_to_it() {
        let token = new().unwrap();
        let found = tokens(&token, None)
            .principal(&token, SystemTime::now())
            .unwrap();
        assert_eq!((found.id.as_str(), found.method), ("ci", Method::Token));
        assert_eq!(found.scopes, ["read".to_owned()].into());
        assert_eq!(found.roles, ["viewer".to_owned()].into());
        assert_eq!(found.attributes["team"], "platform");
    }

    #[test]
    fn a_token_of_nobody_is_refused_and_not_shown() {
        let (known, other) = (new().unwrap(), new().unwrap());
        let refused = tokens(&known, None).principal(&other, SystemTime::now());
        let text = refused.unwrap_err().message;
        assert_eq!(text, "the token is not known");
    }

    #[test]
    fn a_token_is_good_until_it_expires() {
        let (token, now) = (new().unwrap(), SystemTime::now());
        let tokens = tokens(&token, Some(now));
        assert!(
            tokens
                .principal(&token, now - Duration::from_secs(1))
                .is_ok()
        );
        let error = tokens.principal(&token, now).unwrap_err();
        assert_eq!(error.message, "the token has expired");
    }

    #[test]
    fn what_could_be_guessed_gets_no_hash() {
        for weak in [
            "",
            "pgw_",
            "pgw_secret",
            "secret-secret-secret-secret-secret",
        ] {
            assert!(hash_of(weak).is_err(), "{weak}");
        }
    }
}

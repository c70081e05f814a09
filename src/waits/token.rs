//! Resume tokens: what a stream needs to go on elsewhere, sealed.
//!
//! A token is stateless: any replica with the same key takes it. It is bound to the wait, the
//! resource and the caller, says nothing to who holds it, and is good for a day.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message;
use sha2::{Digest, Sha256};

use crate::clock::epoch_millis;
use crate::error::{Error, Result};

/// How long a token is good.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// The fewest bytes that a key file may have.
const KEY_BYTES: usize = 32;
/// What tokens are about, so that nothing else sealed with the key passes for one.
const CONTEXT: &[u8] = b"proton-gateway wait token 1";

/// Seals and opens tokens. Clones share the key, which is never printed.
#[derive(Clone)]
pub struct Key(Arc<RandomizedNonceKey>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("cannot read the key file {path}: {cause}")]
    Unreadable {
        path: std::path::PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("the key file {path} has {found} bytes; a key needs at least {KEY_BYTES} random ones")]
    TooShort {
        path: std::path::PathBuf,
        found: usize,
    },
    #[error("the machine gives no random numbers: {0}")]
    NoRandomness(getrandom::Error),
    #[error("the key is not accepted by the cipher")]
    Refused,
}

impl Key {
    /// A key of this process: its tokens are good until it ends.
    pub fn random() -> std::result::Result<Self, KeyError> {
        let mut bytes = [0; KEY_BYTES];
        getrandom::fill(&mut bytes).map_err(KeyError::NoRandomness)?;
        Self::of(&bytes)
    }

    /// The key in a file of random bytes.
    pub fn read(path: &Path) -> std::result::Result<Self, KeyError> {
        let bytes = std::fs::read(path).map_err(|cause| KeyError::Unreadable {
            path: path.to_owned(),
            cause,
        })?;
        if bytes.len() < KEY_BYTES {
            return Err(KeyError::TooShort {
                path: path.to_owned(),
                found: bytes.len(),
            });
        }
        Self::of(&bytes)
    }

    fn of(bytes: &[u8]) -> std::result::Result<Self, KeyError> {
        let digest: [u8; 32] = Sha256::digest(bytes).into();
        RandomizedNonceKey::new(&AES_256_GCM, &digest)
            .map(|key| Self(Arc::new(key)))
            .map_err(|_| KeyError::Refused)
    }
}

/// Where a stream was.
#[derive(Clone, PartialEq, Message)]
pub struct Position {
    /// The number of the last event.
    #[prost(uint64, tag = "1")]
    pub sequence: u64,
    /// The deployment that is waited for.
    #[prost(string, optional, tag = "2")]
    pub deployment: Option<String>,
    /// The status that was told last.
    #[prost(string, tag = "3")]
    pub status: String,
    /// When the resource was created: another one of the same name is another resource.
    #[prost(string, tag = "4")]
    pub created: String,
    /// Where the deployment has not begun yet: the one that had succeeded before.
    #[prost(string, optional, tag = "5")]
    pub before: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Sealed {
    #[prost(message, optional, tag = "1")]
    position: Option<Position>,
    /// What the wait is for, so that no token passes for that of another wait.
    #[prost(bytes = "vec", tag = "2")]
    wait: Vec<u8>,
    #[prost(int64, tag = "3")]
    expires_millis: i64,
}

impl Key {
    /// A token for the wait that `wait` stands for.
    pub fn seal(&self, position: &Position, wait: &[u8], now: SystemTime) -> String {
        let mut bytes = Sealed {
            position: Some(position.clone()),
            wait: wait.to_vec(),
            expires_millis: epoch_millis(now + LIFETIME),
        }
        .encode_to_vec();
        // It fails only for messages of gigabytes; a stream without tokens is still a stream.
        let Ok(nonce) = self
            .0
            .seal_in_place_append_tag(Aad::from(CONTEXT), &mut bytes)
        else {
            return String::new();
        };
        let mut token = nonce.as_ref().to_vec();
        token.extend(bytes);
        URL_SAFE_NO_PAD.encode(token)
    }

    /// What a token says, if it is one of the wait that `wait` stands for and still good.
    pub fn open(&self, token: &str, wait: &[u8], now: SystemTime) -> Result<Position> {
        let refused = |problem: &str| Error::invalid_field("options.resume_token", problem);
        let forged = || {
            refused(
                "the token was not made with this gateway's key; begin again without it, or give \
                 all replicas the same key",
            )
        };
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| forged())?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN).ok_or_else(forged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| forged())?;
        let mut sealed = sealed.to_vec();
        let opened = self
            .0
            .open_in_place(nonce, Aad::from(CONTEXT), &mut sealed)
            .map_err(|_| forged())?;
        let opened = Sealed::decode(&*opened).map_err(|_| forged())?;
        if opened.wait != wait {
            return Err(refused("the token is of another wait, resource or caller"));
        }
        if opened.expires_millis < epoch_millis(now) {
            return Err(refused("the token has expired; begin again without it"));
        }
        Ok(opened.position.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position() -> Position {
        Position {
            sequence: 7,
            deployment: Some("d".to_owned()),
            status: "IN_PROGRESS".to_owned(),
            created: "2026".to_owned(),
            ..Position::default()
        }
    }

    #[test]
    fn a_token_is_opened_by_another_replica_with_the_same_key() {
        let now = SystemTime::now();
        let (one, other) = (Key::of(&[1; 32]).unwrap(), Key::of(&[1; 32]).unwrap());
        let token = one.seal(&position(), b"wait", now);
        assert_eq!(other.open(&token, b"wait", now).unwrap(), position());
        assert!(!token.contains("IN_PROGRESS"));
    }

    #[test]
    fn a_forged_foreign_or_expired_token_is_refused_with_the_reason() {
        let now = SystemTime::now();
        let key = Key::random().unwrap();
        let token = key.seal(&position(), b"wait", now);
        let mut forged = token.clone();
        forged.replace_range(20..21, if &token[20..21] == "A" { "B" } else { "A" });
        for (token, wait, at, problem) in [
            (forged.as_str(), &b"wait"[..], now, "key"),
            ("", b"wait", now, "key"),
            ("no token", b"wait", now, "key"),
            (&token, b"other", now, "another wait"),
            (&token, b"wait", now + LIFETIME * 2, "expired"),
        ] {
            let error = key.open(token, wait, at).unwrap_err();
            assert!(error.message.contains(problem), "{error}");
        }
        let other = Key::random().unwrap();
        assert!(other.open(&token, b"wait", now).is_err());
    }

    #[test]
    fn a_key_never_prints_itself_and_a_short_one_is_refused() {
        assert_eq!(format!("{:?}", Key::random().unwrap()), "Key");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"short").unwrap();
        assert!(matches!(
            Key::read(file.path()),
            Err(KeyError::TooShort { found: 5, .. })
        ));
    }
}

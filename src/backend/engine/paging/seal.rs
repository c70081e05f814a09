//! Tokens of pages, sealed: the item where a page ended may be one that its caller may not see.
//!
//! The key comes from the store's secret, so that tokens outlive a restart. The same position always
//! has the same token: who asks twice asks the same, which a cache can tell.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// What the key is for, so that nothing else made of the secret is the same.
const CONTEXT: &[u8] = b"proton-gateway page token 1";

/// Seals and opens tokens. Clones share the key, which is never printed.
#[derive(Clone, Default)]
pub struct Seal(Option<Arc<LessSafeKey>>);

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    pub fn of(secret: &[u8]) -> Self {
        let key = Sha256::new().chain_update(CONTEXT).chain_update(secret);
        let key = UnboundKey::new(&AES_256_GCM_SIV, &key.finalize());
        Self(key.ok().map(|key| Arc::new(LessSafeKey::new(key))))
    }

    /// A token that says `position` to whoever asks the same `question` again.
    pub(super) fn close(&self, question: &[u8], mut position: Vec<u8>) -> Result<String> {
        let failed = || Error::internal("a page token could not be sealed");
        let key = self.0.as_ref().ok_or_else(failed)?;
        key.seal_in_place_append_tag(nonce(), Aad::from(question), &mut position)
            .map_err(|_| failed())?;
        Ok(STANDARD.encode(position))
    }

    /// What a token says, if it is one of this question's.
    pub(super) fn open(&self, question: &[u8], token: &str) -> Option<Vec<u8>> {
        let mut sealed = STANDARD.decode(token).ok()?;
        let opened = self
            .0
            .as_ref()?
            .open_in_place(nonce(), Aad::from(question), &mut sealed);
        Some(opened.ok()?.to_vec())
    }
}

/// This cipher stays safe where it is always the same: then equal texts are equal, and no more.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_question_and_its_store_alone() {
        let seal = Seal::of(b"one");
        let token = seal.close(b"question", b"position".to_vec()).unwrap();
        assert_eq!(
            seal.open(b"question", &token).as_deref(),
            Some(&b"position"[..])
        );
        assert_eq!(
            Seal::of(b"one")
                .close(b"question", b"position".to_vec())
                .unwrap(),
            token
        );
        assert_eq!(seal.open(b"other", &token), None);
        assert_eq!(Seal::of(b"two").open(b"question", &token), None);
        assert_eq!(seal.open(b"question", &STANDARD.encode("position")), None);
        assert_eq!(format!("{seal:?}"), "Seal");
    }
}

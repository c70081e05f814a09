//! Issuers for tests.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use futures_util::future::BoxFuture;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::key_sets::Source;

/// A private key of an issuer.
pub struct Signer {
    id: String,
    key: EncodingKey,
}

impl Signer {
    pub fn new(id: &str) -> Self {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        Self {
            id: id.to_owned(),
            key: EncodingKey::from_ec_der(pair.as_ref()),
        }
    }

    /// The public key.
    pub fn jwk(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.key, Algorithm::ES256).unwrap();
        jwk.common.key_id = Some(self.id.clone());
        serde_json::to_value(jwk).unwrap()
    }

    pub fn token(&self, claims: &Value) -> String {
        let header = Header {
            kid: Some(self.id.clone()),
            ..Header::new(Algorithm::ES256)
        };
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }
}

/// What an issuer shows.
#[derive(Clone)]
pub struct Shelf {
    answer: Arc<Mutex<Result<Value, String>>>,
    fetches: Arc<AtomicUsize>,
}

impl Shelf {
    pub fn of(keys: &[Value]) -> Self {
        Self {
            answer: Arc::new(Mutex::new(Ok(json!({ "keys": keys })))),
            fetches: Arc::default(),
        }
    }

    pub fn show(&self, keys: &[Value]) {
        *self.answer.lock().unwrap() = Ok(json!({ "keys": keys }));
    }

    pub fn go_down(&self) {
        *self.answer.lock().unwrap() = Err("the issuer is down".to_owned());
    }

    pub fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}

impl Source for Shelf {
    fn fetch(&self) -> BoxFuture<'_, Result<Vec<u8>, String>> {
        Box::pin(async move {
            self.fetches.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(50)).await;
            let answer = self.answer.lock().unwrap().clone();
            answer.map(|keys| keys.to_string().into_bytes())
        })
    }
}

//! Where key sets come from: over HTTP, or from files.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::key_sets::{MAX_BYTES, Source};
use crate::config::authentication::Issuer;

/// How long a fetch may take, from its beginning to its last byte.
const PATIENCE: Duration = Duration::from_secs(5);

/// A key set in a file.
pub struct File(pub PathBuf);

impl Source for File {
    fn fetch(&self) -> BoxFuture<'_, Result<Vec<u8>, String>> {
        Box::pin(async move {
            let path = &self.0;
            let unreadable = |error| format!("cannot read {}: {error}", path.display());
            let size = tokio::fs::metadata(path).await.map_err(unreadable)?.len();
            if size > MAX_BYTES as u64 {
                return Err(too_large());
            }
            tokio::fs::read(path).await.map_err(unreadable)
        })
    }
}

/// A key set behind a URL.
pub struct Url {
    url: Uri,
    bearer_token_file: Option<PathBuf>,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

impl Url {
    pub fn new(url: &str, issuer: &Issuer) -> Result<Self, String> {
        let url: Uri = url.parse().map_err(|_| format!("{url:?} is no URL"))?;
        let builder = HttpsConnectorBuilder::new().with_tls_config(trusting(issuer)?);
        let builder = if url.scheme_str() == Some("https") {
            builder.https_only()
        } else {
            builder.https_or_http()
        };
        Ok(Self {
            url,
            bearer_token_file: issuer.bearer_token_file.clone(),
            client: Client::builder(TokioExecutor::new())
                .build(builder.enable_all_versions().build()),
        })
    }

    async fn get(&self) -> Result<Vec<u8>, String> {
        let mut request = Request::get(self.url.clone())
            .header(header::ACCEPT, "application/json")
            .body(Empty::new())
            .map_err(|error| error.to_string())?;
        if let Some(path) = &self.bearer_token_file {
            let token = tokio::fs::read_to_string(path)
                .await
                .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim()))
                .map_err(|_| format!("{} holds no token", path.display()))?;
            value.set_sensitive(true);
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        let response = self.client.request(request).await.map_err(|error| {
            // The cause of it says what went wrong.
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            format!(
                "{} cannot be reached: {}",
                self.url,
                cause.unwrap_or_else(|| error.to_string())
            )
        })?;
        if response.status() != StatusCode::OK {
            return Err(format!("{} answered {}", self.url, response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_BYTES)
            .collect()
            .await;
        match body {
            Ok(body) => Ok(body.to_bytes().to_vec()),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
            Err(error) => Err(format!("the answer of {} broke off: {error}", self.url)),
        }
    }
}

impl Source for Url {
    fn fetch(&self) -> BoxFuture<'_, Result<Vec<u8>, String>> {
        Box::pin(async move {
            tokio::time::timeout(PATIENCE, self.get())
                .await
                .unwrap_or_else(|_| Err(format!("{} did not answer in time", self.url)))
        })
    }
}

fn too_large() -> String {
    format!("the key set is larger than {MAX_BYTES} bytes")
}

/// Whose certificates the issuer's server may have.
fn trusting(issuer: &Issuer) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match &issuer.ca_file {
        Some(path) => {
            let wrong = |error: String| format!("the CA file {}: {error}", path.display());
            let certificates =
                CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
                roots
                    .add(certificate)
                    .map_err(|error| wrong(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(wrong("there is no certificate in it".to_owned()));
            }
        }
        None => return system(),
    }
    Ok(builder()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

fn system() -> Result<ClientConfig, String> {
    use hyper_rustls::ConfigBuilderExt;
    Ok(builder()?
        .with_native_roots()
        .map_err(|error| format!("the system's certificates cannot be read: {error}"))?
        .with_no_client_auth())
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, String> {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;

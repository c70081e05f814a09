//! `[tls]`: the certificate of the two doors, and whose certificates they ask for.
//!
//! What the files hold is read, checked and used in `server::tls`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{ConfigError, invalid};

/// TLS of both doors, as it may be given.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct TlsOptions {
    pub certificate_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    pub client_ca_file: Option<PathBuf>,
    pub client_certificates: Option<ClientCertificates>,
    pub minimum_version: Option<TlsVersion>,
}

/// What holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Tls {
    /// The chain, the gateway's own certificate first (PEM).
    pub certificate_file: PathBuf,
    /// Its private key (PEM).
    pub key_file: PathBuf,
    /// Who issues certificates of clients (PEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca_file: Option<PathBuf>,
    /// Whether clients prove who they are when they connect.
    pub client_certificates: ClientCertificates,
    /// The oldest version that is spoken.
    pub minimum_version: TlsVersion,
}

/// Whether clients prove who they are when they connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificates {
    /// They are not asked.
    None,
    /// They are asked; one that is given must be good.
    Optional,
    /// Without a good one there is no connection.
    Required,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum TlsVersion {
    #[serde(rename = "1.2")]
    V1_2,
    #[serde(rename = "1.3")]
    V1_3,
}

impl Tls {
    pub fn of(given: TlsOptions) -> Result<Self, ConfigError> {
        let certificate_file = given
            .certificate_file
            .ok_or_else(|| missing("tls.certificate-file"))?;
        let key_file = given.key_file.ok_or_else(|| missing("tls.key-file"))?;
        // Who names a CA means that clients are asked, and says whether they must.
        let client_certificates = match (given.client_certificates, &given.client_ca_file) {
            (Some(ClientCertificates::None), Some(_)) => {
                return Err(invalid(
                    "tls.client-ca-file",
                    "clients are not asked for certificates; leave it out, or set client-certificates to optional or required",
                ));
            }
            (Some(ClientCertificates::Optional | ClientCertificates::Required), None) => {
                return Err(invalid(
                    "tls.client-ca-file",
                    "is missing; clients are asked for certificates, so say who issues them",
                ));
            }
            (Some(given), _) => given,
            (None, Some(_)) => {
                return Err(invalid(
                    "tls.client-certificates",
                    "is missing; with a client-ca-file say whether certificates are optional or required",
                ));
            }
            (None, None) => ClientCertificates::None,
        };
        Ok(Self {
            certificate_file,
            key_file,
            client_ca_file: given.client_ca_file,
            client_certificates,
            minimum_version: given.minimum_version.unwrap_or(TlsVersion::V1_2),
        })
    }

    /// Reads the files: a bad one is known before anything is opened.
    pub fn check(&self) -> Result<(), ConfigError> {
        crate::server::tls::read(self)
            .map(drop)
            .map_err(|fault| invalid(fault.name, fault.problem))
    }

    /// All files that may change.
    pub fn files(&self) -> Vec<PathBuf> {
        [&self.certificate_file, &self.key_file]
            .into_iter()
            .chain(&self.client_ca_file)
            .cloned()
            .collect()
    }
}

fn missing(name: &'static str) -> ConfigError {
    invalid(name, "is missing; [tls] needs a certificate and its key")
}

//! Authorities and certificates, made as a test needs them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proton_gateway::config::Tls;
use proton_gateway::config::tls::{ClientCertificates, TlsVersion};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

pub struct Authority {
    pub pem: String,
    pub der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

pub struct Issued {
    pub pem: String,
    pub der: CertificateDer<'static>,
    pub key: KeyPair,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let own = params.self_signed(&key).unwrap();
        Self {
            pem: own.pem(),
            der: own.der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    pub fn issue(&self, name: &str) -> Issued {
        self.issue_until(name, 4000)
    }

    /// Issues a certificate that is good until that year begins.
    pub fn issue_until(&self, name: &str, year: i32) -> Issued {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(1990, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let issued = params.signed_by(&key, &self.issuer).unwrap();
        Issued {
            pem: issued.pem(),
            der: issued.der().clone(),
            key,
        }
    }

    /// A client that trusts this authority, and says who it is if it is given a certificate.
    pub fn client(&self, own: Option<&Issued>) -> Arc<ClientConfig> {
        self.client_with(own, rustls::ALL_VERSIONS)
    }

    pub fn client_with(
        &self,
        own: Option<&Issued>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let key = PrivateKeyDer::try_from(own.key.serialize_der()).unwrap();
                builder
                    .with_client_auth_cert(vec![own.der.clone()], key)
                    .unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }
}

/// A folder with the files of `[tls]`.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new(own: &Issued, clients: &Authority) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.put("cert.pem", &own.pem);
        folder.put("key.pem", &own.key.serialize_pem());
        folder.put("ca.pem", &clients.pem);
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Replaced as a whole, as those do who rotate certificates.
    pub fn put(&self, name: &str, text: &str) {
        let draft = self.path("draft");
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(&draft, Path::new(&self.path(name))).unwrap();
    }

    pub fn section(&self, clients: ClientCertificates, minimum_version: TlsVersion) -> Tls {
        let asks = clients != ClientCertificates::None;
        Tls {
            certificate_file: self.path("cert.pem"),
            key_file: self.path("key.pem"),
            client_ca_file: asks.then(|| self.path("ca.pem")),
            client_certificates: clients,
            minimum_version,
        }
    }
}

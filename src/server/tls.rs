//! TLS of the doors: what the files of `[tls]` hold, and new files without a lost connection.
//!
//! Each connection keeps what it shook hands with. A set of files that is bad, or half written, is
//! logged, and the one before stays.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{Error, InconsistentKeys, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::Shutdown;
use crate::config::tls::{ClientCertificates, Tls as Section, TlsVersion};
use crate::reload::{Files, Reload};

/// The largest file that is read: bundles of public CAs are well below.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Why the files cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    /// The key of the configuration that names the file.
    pub name: &'static str,
    /// Never holds what is in the file.
    pub problem: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.problem)
    }
}

/// What connections shake hands with from now on. Clones share it.
#[derive(Clone)]
pub struct Tls {
    current: Arc<ArcSwap<ServerConfig>>,
}

/// Takes over new files.
pub struct Follower {
    tls: Tls,
    section: Section,
    files: Files,
}

impl Tls {
    /// Reads the files for the first time.
    pub fn open(section: &Section, reload: Reload) -> Result<(Self, Follower), Fault> {
        // Before they are read: a change in between is seen.
        let files = Files::new(section.files(), reload);
        let tls = Self {
            current: Arc::new(ArcSwap::from_pointee(read(section)?)),
        };
        let follower = Follower {
            tls: tls.clone(),
            section: section.clone(),
            files,
        };
        Ok((tls, follower))
    }

    pub(super) fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }
}

impl Follower {
    /// Follows the files until told to stop.
    pub async fn follow(mut self, shutdown: Shutdown) {
        let stop = shutdown.told();
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return,
                () = self.files.changed() => {}
            }
            let section = self.section.clone();
            let read = tokio::task::spawn_blocking(move || read(&section)).await;
            match read {
                Ok(Ok(new)) => {
                    self.tls.current.store(Arc::new(new));
                    tracing::info!(
                        certificate = %self.section.certificate_file.display(),
                        "new connections use the new certificates"
                    );
                }
                Ok(Err(fault)) => tracing::error!(
                    problem = %fault,
                    "the new certificates cannot be used; the ones before stay"
                ),
                Err(error) => tracing::error!(
                    problem = %error,
                    "the new certificates were not read; the ones before stay"
                ),
            }
        }
    }
}

/// Reads and checks all files of `section`.
pub fn read(section: &Section) -> Result<ServerConfig, Fault> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions: &[_] = match section.minimum_version {
        TlsVersion::V1_2 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::V1_3 => &[&rustls::version::TLS13],
    };
    let own = Arc::new(SingleCertAndKey::from(own(section, &provider)?));
    let verifier = verifier(section, &provider)?;
    let asks = verifier.offer_client_auth();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|error| Fault {
            name: "tls.minimum-version",
            problem: error.to_string(),
        })?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(own);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if asks {
        // A session that is resumed is not verified again: it would outlive its certificate.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

/// The gateway's own certificate, with the key that belongs to it.
fn own(section: &Section, provider: &CryptoProvider) -> Result<CertifiedKey, Fault> {
    let name = "tls.certificate-file";
    let path = &section.certificate_file;
    let chain = certificates(name, path)?;
    let key = key("tls.key-file", &section.key_file, provider)?;
    let own = CertifiedKey::new(chain, key);
    match own.keys_match() {
        // Some kinds of keys do not tell.
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(Error::InconsistentKeys(_)) => {
            return Err(Fault {
                name: "tls.key-file",
                problem: format!(
                    "the key in {} does not belong to the first certificate in {}",
                    section.key_file.display(),
                    path.display()
                ),
            });
        }
        Err(error) => return Err(bad(name, path, &error.to_string())),
    }
    if let Some(first) = own.cert.first() {
        warn_of_expiry(first, path);
    }
    Ok(own)
}

/// Who may connect.
fn verifier(
    section: &Section,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Fault> {
    let name = "tls.client-ca-file";
    let path = match (&section.client_ca_file, section.client_certificates) {
        (Some(path), ClientCertificates::Optional | ClientCertificates::Required) => path,
        _ => return Ok(WebPkiClientVerifier::no_client_auth()),
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(name, path)? {
        roots
            .add(certificate)
            .map_err(|error| bad(name, path, &error.to_string()))?;
    }
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = match section.client_certificates {
        ClientCertificates::Required => builder,
        _ => builder.allow_unauthenticated(),
    };
    builder
        .build()
        .map_err(|error| bad(name, path, &error.to_string()))
}

fn certificates(name: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let bytes = bytes(name, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(bad(name, path, "it holds no certificate in PEM")),
        Err(_) => Err(bad(name, path, "it is not well-formed PEM")),
    }
}

fn key(
    name: &'static str,
    path: &Path,
    provider: &CryptoProvider,
) -> Result<Arc<dyn rustls::sign::SigningKey>, Fault> {
    let bytes = bytes(name, path)?;
    // What is in the file is not repeated, not even where it is wrong.
    let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| {
        bad(
            name,
            path,
            "it holds no private key in PEM, without a password",
        )
    })?;
    provider
        .key_provider
        .load_private_key(key)
        .map_err(|_| bad(name, path, "its key is of no kind that TLS uses here"))
}

fn bytes(name: &'static str, path: &Path) -> Result<Vec<u8>, Fault> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
    match read {
        Ok(length) if length as u64 > MAX_FILE_BYTES => Err(bad(name, path, "it is too large")),
        Ok(0) => Err(bad(name, path, "it is empty")),
        Ok(_) => Ok(bytes),
        Err(error) => Err(bad(name, path, &format!("it cannot be read: {error}"))),
    }
}

fn bad(name: &'static str, path: &Path, problem: &str) -> Fault {
    Fault {
        name,
        problem: format!("{} cannot be used: {problem}", path.display()),
    }
}

/// Clients refuse an expired certificate; that is theirs to decide, but it should be seen here.
fn warn_of_expiry(certificate: &CertificateDer<'_>, path: &Path) {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else {
        return;
    };
    if !parsed.validity().is_valid() {
        tracing::warn!(
            certificate = %path.display(),
            from = %parsed.validity().not_before,
            to = %parsed.validity().not_after,
            "the gateway's certificate is not valid now"
        );
    }
}

/// How long `certificate` is good from now on.
pub(super) fn left(certificate: &CertificateDer<'static>) -> Option<Duration> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let end = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
    let end = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(end))?;
    let left = end.duration_since(SystemTime::now()).unwrap_or_default();
    // Some certificates are good for thousands of years.
    Some(left.min(crate::config::LONGEST_SPAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        /// A folder with a good certificate, its key, and a CA.
        fn new() -> Self {
            let folder = Self(tempfile::tempdir().unwrap());
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            folder.put("cert.pem", &made.cert.pem());
            folder.put("key.pem", &made.signing_key.serialize_pem());
            folder.put("ca.pem", &made.cert.pem());
            folder
        }

        fn put(&self, name: &str, text: &str) {
            std::fs::write(self.0.path().join(name), text).unwrap();
        }

        fn section(&self) -> Section {
            Section {
                certificate_file: self.0.path().join("cert.pem"),
                key_file: self.0.path().join("key.pem"),
                client_ca_file: Some(self.0.path().join("ca.pem")),
                client_certificates: ClientCertificates::Required,
                minimum_version: TlsVersion::V1_2,
            }
        }
    }

    #[test]
    fn a_file_that_cannot_be_used_is_refused_with_the_key_that_names_it() {
        let other = rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap();
        let (cert, key) = (other.cert.pem(), other.signing_key.serialize_pem());
        let garbage = "-----BEGIN CERTIFICATE-----\naGFsbG8=\n-----END CERTIFICATE-----\n";
        let cut = &cert[..cert.len() / 2];
        for (file, text, name, says) in [
            ("cert.pem", "", "tls.certificate-file", "empty"),
            ("cert.pem", &*key, "tls.certificate-file", "no certificate"),
            ("cert.pem", garbage, "tls.certificate-file", "cert.pem"),
            ("cert.pem", cut, "tls.certificate-file", "PEM"),
            ("cert.pem", &cert, "tls.key-file", "does not belong"),
            ("key.pem", "", "tls.key-file", "empty"),
            ("key.pem", &key, "tls.key-file", "does not belong"),
            ("key.pem", &cert, "tls.key-file", "no private key"),
            ("ca.pem", "", "tls.client-ca-file", "empty"),
            ("ca.pem", "hello", "tls.client-ca-file", "no certificate"),
            ("ca.pem", garbage, "tls.client-ca-file", "ca.pem"),
        ] {
            let folder = Folder::new();
            folder.put(file, text);
            let fault = read(&folder.section()).unwrap_err();
            assert_eq!(fault.name, name, "{fault}");
            assert!(fault.problem.contains(says), "{fault}");
        }
        read(&Folder::new().section()).unwrap();
    }

    #[test]
    fn a_fault_does_not_repeat_what_is_in_the_key() {
        let folder = Folder::new();
        folder.put(
            "key.pem",
            "-----BEGIN PRIVATE KEY-----\nc2VjcmV0c2VjcmV0\n-----END PRIVATE KEY-----\n",
        );
        let fault = format!("{:?}", read(&folder.section()).unwrap_err());
        assert!(fault.contains("tls.key-file"), "{fault}");
        assert!(
            !fault.contains("c2Vj") && !fault.contains("secret"),
            "{fault}"
        );
    }

    #[test]
    fn a_certificate_is_good_until_its_end_and_not_longer() {
        let day = Duration::from_secs(24 * 3600);
        let since = SystemTime::UNIX_EPOCH.elapsed().unwrap();
        for (end, expected) in [(since + day, day), (since - day, Duration::ZERO)] {
            let mut params = rcgen::CertificateParams::default();
            params.not_before = rcgen::date_time_ymd(1990, 1, 1);
            params.not_after = rcgen::date_time_ymd(1970, 1, 1) + end;
            let key = rcgen::KeyPair::generate().unwrap();
            let made = params.self_signed(&key).unwrap();
            let left = left(made.der()).unwrap();
            let sensible = expected.saturating_sub(Duration::from_secs(60))..=expected;
            assert!(sensible.contains(&left), "{left:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn bad_files_change_nothing_and_good_ones_hold_at_once() {
        let folder = Folder::new();
        let (_ask, reload) = Reload::channel();
        let (tls, follower) = Tls::open(&folder.section(), reload).unwrap();
        let (_stop, shutdown) = Shutdown::channel();
        tokio::spawn(follower.follow(shutdown));
        let before = tls.current();
        let other = rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap();
        // Half of a rotation.
        folder.put("cert.pem", &other.cert.pem());
        tokio::time::sleep(3 * crate::reload::LOOK).await;
        assert!(Arc::ptr_eq(&before, &tls.current()));
        folder.put("key.pem", &other.signing_key.serialize_pem());
        tokio::time::sleep(3 * crate::reload::LOOK).await;
        assert!(!Arc::ptr_eq(&before, &tls.current()));
    }
}

//! Certificates, tokens, and the sections of the configuration that go with them.

#![allow(dead_code, reason = "each benchmark uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, SanType,
};
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

const WINDOW: u32 = 4 << 20;

/// A connection; with TLS and the client's certificate where there are secrets for it.
pub async fn channel(address: &str, tls: Option<&Secrets>) -> Channel {
    let endpoint = match tls {
        Some(secrets) => {
            let tls = ClientTlsConfig::new()
                .domain_name("localhost")
                .ca_certificate(Certificate::from_pem(secrets.read("ca.pem")))
                .identity(Identity::from_pem(
                    secrets.read("client.pem"),
                    secrets.read("client.key"),
                ));
            let endpoint = Endpoint::new(format!("https://{address}")).unwrap();
            endpoint.tls_config(tls).unwrap()
        }
        None => Endpoint::new(format!("http://{address}")).unwrap(),
    };
    endpoint
        .tcp_nodelay(true)
        // Room for the pages that are under way, as many clients give.
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .connect()
        .await
        .unwrap()
}

/// Certificates and tokens of the run.
pub struct Secrets {
    pub folder: PathBuf,
}

const TOKENS: [&str; 2] = ["steady", "greedy"];

impl Secrets {
    pub fn in_folder(folder: &Path) -> Self {
        let secrets = Self {
            folder: folder.to_owned(),
        };
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "bench");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        secrets.write("ca.pem", &issuer.pem());
        for (name, usage, san) in [
            (
                "server",
                ExtendedKeyUsagePurpose::ServerAuth,
                SanType::DnsName("localhost".try_into().unwrap()),
            ),
            (
                "client",
                ExtendedKeyUsagePurpose::ClientAuth,
                SanType::URI("spiffe://bench/steady".try_into().unwrap()),
            ),
        ] {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::default();
            params.extended_key_usages = vec![usage];
            params.subject_alt_names = vec![san];
            let certificate = params.signed_by(&key, &issuer).unwrap();
            secrets.write(&format!("{name}.pem"), &certificate.pem());
            secrets.write(&format!("{name}.key"), &key.serialize_pem());
        }
        secrets
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.join(name), text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.join(name)).unwrap()
    }

    fn path(&self, name: &str) -> String {
        format!("{:?}", self.folder.join(name).display().to_string())
    }

    pub fn tls(&self) -> String {
        format!(
            "[tls]\ncertificate-file = {}\nkey-file = {}\nclient-ca-file = {}\nclient-certificates = \"required\"\n",
            self.path("server.pem"),
            self.path("server.key"),
            self.path("ca.pem")
        )
    }

    fn token(name: &str) -> String {
        format!("pgw_{}", name.repeat(8))
    }

    pub fn bearer(&self, name: &str) -> AsciiMetadataValue {
        format!("Bearer {}", Self::token(name)).parse().unwrap()
    }

    /// Authentication, and with it authorization; an audit; limits that nobody reaches.
    pub fn guards(&self, audit: &Path) -> String {
        let mut text = self.known();
        text += &format!("[audit]\nfile = {:?}\n", audit.display().to_string());
        text += "[limits]\ncalls = 1000\nstreams = 1000\nread = { rate = \"1000000/s\", burst = 1000000 }\n";
        text += "[limits.total]\nrate = \"1000000/s\"\nburst = 1000000\n";
        text
    }

    pub fn known(&self) -> String {
        let mut text = String::from(
            "[authentication]\nmethods = [\"token\", \"certificate\"]\n[[authentication.certificate.rules]]\nuri = \"spiffe://bench/*\"\nroles = [\"developer\"]\n",
        );
        for name in TOKENS {
            text += &format!(
                "[[authentication.tokens]]\nid = \"{name}\"\nhash = \"{}\"\nroles = [\"developer\"]\n",
                hash(&Self::token(name))
            );
        }
        text
    }
}

/// The hash of a token, as the program itself tells it.
fn hash(token: &str) -> String {
    use std::io::Write;
    let mut child = Command::new(env!("CARGO_BIN_EXE_proton-gateway"))
        .args(["token", "hash"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(token.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

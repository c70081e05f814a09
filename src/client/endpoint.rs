//! How the command line reaches a gateway: plain text, TLS, or a Unix socket.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, Uri};

use super::failure::cause;

/// Where the gateway is, and how both sides prove who they are.
#[derive(Debug, Clone, Args)]
pub struct Reach {
    /// The gateway's gRPC door; https:// with --ca-file, or unix:/a/path
    /// [default: http://127.0.0.1:50051; health asks the admin page instead]
    #[arg(
        long,
        global = true,
        env = "PROTON_GATEWAY_ADDRESS",
        value_name = "URL"
    )]
    address: Option<String>,
    /// Who issued the gateway's certificate (PEM), for https://
    #[arg(
        long,
        global = true,
        env = "PROTON_GATEWAY_CA_FILE",
        value_name = "FILE"
    )]
    ca_file: Option<PathBuf>,
    /// The client's own certificate and what issued it (PEM), where the gateway asks for one
    #[arg(long, global = true, env = "PROTON_GATEWAY_CERT", value_name = "FILE")]
    cert: Option<PathBuf>,
    /// The key of --cert (PEM)
    #[arg(long, global = true, env = "PROTON_GATEWAY_KEY", value_name = "FILE")]
    key: Option<PathBuf>,
}

/// Where a gateway's gRPC door is if nothing else is said.
pub(super) const ADDRESS: &str = "http://127.0.0.1:50051";

/// What an address names.
pub(super) struct Place {
    /// Host and port, or the whole address of a socket.
    pub name: String,
    pub tls: bool,
    /// The path, if it is a Unix socket.
    pub socket: Option<PathBuf>,
}

impl Reach {
    /// Whether somebody has said which door.
    pub fn is_named(&self) -> bool {
        self.address.is_some()
    }

    fn address(&self) -> &str {
        self.address.as_deref().unwrap_or(ADDRESS)
    }

    /// The address with its scheme.
    fn whole(&self) -> String {
        let address = self.address();
        if address.contains("://") || address.starts_with("unix:") {
            address.to_owned()
        } else {
            format!("http://{address}")
        }
    }

    /// What the address names.
    pub(super) fn place(&self) -> Place {
        let whole = self.whole();
        let socket = whole.strip_prefix("unix:");
        let socket = socket.map(|path| PathBuf::from(path.strip_prefix("//").unwrap_or(path)));
        let rest = whole.split_once("://").map_or("", |(_, rest)| rest);
        let authority = rest.split('/').next().unwrap_or_default();
        Place {
            name: match socket {
                Some(_) => whole.clone(),
                None => authority.to_owned(),
            },
            tls: whole.starts_with("https://"),
            socket,
        }
    }

    /// Where what is said leaves this machine for others to read, if it does.
    pub fn overheard(&self) -> Option<&str> {
        let whole = self.whole();
        if whole.starts_with("https://") || whole.starts_with("unix:") {
            return None;
        }
        // With what stands before an @ an address looks like another.
        let uri = whole.parse::<Uri>().ok();
        let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
        let ip = host.trim_start_matches('[').trim_end_matches(']').parse();
        let near =
            host.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip: IpAddr| ip.is_loopback());
        (!near).then(|| self.address())
    }

    /// What connects, once it has to.
    pub fn endpoint(&self) -> Result<Endpoint, String> {
        let (address, whole) = (self.address(), self.whole());
        let socket = whole.strip_prefix("unix:");
        let known = whole.starts_with("http://") || whole.starts_with("https://");
        if socket.map_or(!known, |path| path.trim_start_matches("//").is_empty()) {
            return Err(format!(
                "--address {address}: is no http://, https:// or unix: address of a gateway"
            ));
        }
        let endpoint = Endpoint::from_shared(whole.clone())
            .map_err(|error| format!("--address {address}: {error}"))?
            .connect_timeout(Duration::from_secs(5))
            // A connection that has gone silent is noticed, and a new one opened.
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .keep_alive_while_idle(true);
        if !whole.starts_with("https://") {
            let given = [
                ("--ca-file", &self.ca_file),
                ("--cert", &self.cert),
                ("--key", &self.key),
            ];
            return match given.iter().find(|(_, file)| file.is_some()) {
                Some((name, _)) => Err(format!(
                    "{name} is for https://; --address {address} is reached without TLS"
                )),
                None => Ok(endpoint),
            };
        }
        endpoint.tls_config(self.tls()?).map_err(|error| {
            format!(
                "--address {address}: TLS cannot be set up: {}",
                cause(&error)
            )
        })
    }

    fn tls(&self) -> Result<ClientTlsConfig, String> {
        let Some(ca) = &self.ca_file else {
            return Err(
                "https:// needs --ca-file: who issued the gateway's certificate".to_owned(),
            );
        };
        let tls =
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read("--ca-file", ca)?));
        match (&self.cert, &self.key) {
            (None, None) => Ok(tls),
            (Some(cert), Some(key)) => Ok(tls.identity(Identity::from_pem(
                read("--cert", cert)?,
                read("--key", key)?,
            ))),
            (Some(_), None) => Err("--cert needs --key".to_owned()),
            (None, Some(_)) => Err("--key needs --cert".to_owned()),
        }
    }
}

fn read(name: &str, path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{name}: cannot read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(address: &str) -> Reach {
        Reach {
            address: Some(address.to_owned()),
            ca_file: None,
            cert: None,
            key: None,
        }
    }

    #[test]
    fn an_address_without_a_scheme_is_plain_text_and_a_path_is_a_socket() {
        for address in ["127.0.0.1:1", "http://127.0.0.1:1", "unix:/run/a.sock"] {
            reach(address).endpoint().unwrap();
        }
    }

    #[test]
    fn what_leads_to_no_gateway_is_refused_at_once() {
        for address in [
            "ftp://x",
            "unix:",
            "unix://",
            "http://",
            "://",
            "/run/a.sock",
        ] {
            let error = reach(address).endpoint().unwrap_err();
            assert!(error.starts_with("--address"), "{error}");
        }
    }

    #[test]
    fn only_loopback_a_socket_and_tls_keep_what_is_said_from_others() {
        for address in [
            "http://127.0.0.1:1",
            "127.8.0.1:1",
            "LOCALHOST:1",
            "http://localhost",
            "http://[::1]:1",
            "[::1]:1",
            "unix:/run/a.sock",
            "https://gateway.example",
        ] {
            assert_eq!(reach(address).overheard(), None);
        }
        for address in [
            "gateway.example:1",
            "http://10.0.0.7:1",
            "http://0.0.0.0:1",
            "http://[fe80::1]:1",
            "http://localhost@gateway.example",
            "http://localhost.example",
            "HTTP://127.0.0.1.example",
            "http://127.1",
        ] {
            assert_eq!(reach(address).overheard(), Some(address));
        }
    }

    #[test]
    fn https_needs_a_ca_and_plain_text_takes_no_files() {
        let error = reach("https://localhost:1").endpoint().unwrap_err();
        assert!(error.contains("--ca-file"), "{error}");
        let mut plain = reach("http://localhost:1");
        plain.cert = Some("a.pem".into());
        let error = plain.endpoint().unwrap_err();
        assert!(error.starts_with("--cert"), "{error}");
    }
}

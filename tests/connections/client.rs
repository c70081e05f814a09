//! A good client of HTTP/2: one connection, and requests on it.

use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use proton_gateway::config::Address;
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::PATIENCE;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

pub struct Client {
    sender: SendRequest<Empty<Bytes>>,
    /// The server's own certificate.
    pub shown: Option<CertificateDer<'static>>,
}

impl Client {
    pub async fn connect(address: &Address, tls: Option<Arc<ClientConfig>>) -> Outcome<Self> {
        tokio::time::timeout(PATIENCE, async {
            match address {
                Address::Unix(path) => Self::over(UnixStream::connect(path).await?, None).await,
                Address::Tcp(address) => {
                    let stream = TcpStream::connect(address).await?;
                    stream.set_nodelay(true)?;
                    let Some(tls) = tls else {
                        return Self::over(stream, None).await;
                    };
                    let name = ServerName::try_from("localhost")?;
                    let stream = TlsConnector::from(tls).connect(name, stream).await?;
                    let shown = stream.get_ref().1.peer_certificates();
                    let shown = shown.and_then(|chain| chain.first()).cloned();
                    Self::over(stream, shown.map(CertificateDer::into_owned)).await
                }
            }
        })
        .await?
    }

    async fn over(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        shown: Option<CertificateDer<'static>>,
    ) -> Outcome<Self> {
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender, shown })
    }

    /// Asks, and returns when the answer begins.
    pub async fn begin(&mut self, path: &str) -> Outcome<Response<Incoming>> {
        let request = Request::get(format!("http://localhost{path}")).body(Empty::new())?;
        tokio::time::timeout(PATIENCE, async {
            self.sender.ready().await?;
            Ok(self.sender.send_request(request).await?)
        })
        .await?
    }

    pub async fn get(&mut self, path: &str) -> Outcome<String> {
        text(self.begin(path).await?).await
    }

    /// Whether the server has asked this client to leave.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

pub async fn text(response: Response<Incoming>) -> Outcome<String> {
    let body = tokio::time::timeout(PATIENCE, response.into_body().collect()).await??;
    Ok(String::from_utf8(body.to_bytes().to_vec())?)
}

/// One request on a connection of its own. A client learns of a refused certificate with its first
/// answer only.
pub async fn get(address: &Address, tls: Option<Arc<ClientConfig>>, path: &str) -> Outcome<String> {
    Client::connect(address, tls).await?.get(path).await
}

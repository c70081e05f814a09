//! What a client and an enemy see of a listener: TLS, Unix sockets, ages, bounds and floods.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod age;
mod certificates;
mod client;
mod floods;
mod handshakes;
mod program;
mod slow_readers;
mod tls;
mod unix;
mod wire;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use proton_gateway::config::{Address, Connections, Span, Tls};
use proton_gateway::reload::Reload;
use proton_gateway::server::{self, Listener, Peer, Server, Shutdown, tls::Tls as Certificates};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long anything may take here before a test gives up: machines are shared.
const PATIENCE: Duration = Duration::from_secs(30);
/// The answer of `/big`.
const BIG: usize = 256 * 1024;

/// A listener that is served.
struct Served {
    address: Address,
    asked: Arc<Asked>,
    /// Looks for new files.
    ask: watch::Sender<()>,
    stop: watch::Sender<bool>,
    ended: JoinHandle<()>,
}

/// What the server is busy with.
#[derive(Default)]
struct Asked {
    /// Requests for `/held`, which are never answered.
    held: AtomicUsize,
    most_held: AtomicUsize,
    /// Bytes of answers that are still in memory.
    bytes: AtomicUsize,
    most_bytes: AtomicUsize,
}

impl Served {
    async fn plain(limits: Connections) -> Self {
        Self::at(&any(), limits, None).await
    }

    async fn with_tls(limits: Connections, tls: &Tls) -> Self {
        Self::at(&any(), limits, Some(tls)).await
    }

    async fn at(address: &Address, limits: Connections, tls: Option<&Tls>) -> Self {
        let listener = Listener::open(address, limits.unix_socket_mode)
            .await
            .unwrap();
        let address = listener.address().clone();
        let (ask, reload) = Reload::channel();
        let (stop, shutdown) = Shutdown::channel();
        let tls = tls.map(|section| {
            let (tls, follower) = Certificates::open(section, reload).unwrap();
            tokio::spawn(follower.follow(shutdown.clone()));
            tls
        });
        let asked = Arc::new(Asked::default());
        let pages = pages(Arc::clone(&asked));
        let server = Server::new(listener).with_tls(tls).within(limits);
        let ended = tokio::spawn(async move {
            let service = tower::service_fn(pages);
            server.serve(service, shutdown).await;
        });
        Self {
            address,
            asked,
            ask,
            stop,
            ended,
        }
    }

    fn tcp(&self) -> SocketAddr {
        match self.address {
            Address::Tcp(address) => address,
            Address::Unix(_) => panic!("{} is no address of the network", self.address),
        }
    }
}

fn any() -> Address {
    Address::Tcp(([127, 0, 0, 1], 0).into())
}

fn span(milliseconds: u64) -> Span {
    Span(Duration::from_millis(milliseconds))
}

type Answer = Response<Page>;
type Answering = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

fn pages(asked: Arc<Asked>) -> impl Fn(Request<Incoming>) -> Answering + Clone + Send {
    move |request| {
        let asked = Arc::clone(&asked);
        Box::pin(async move {
            let page = match request.uri().path() {
                "/peer" => Page::of(shown(request.extensions().get::<Arc<Peer>>().unwrap())),
                "/held" | "/grpc.health.v1.Health/Watch" => {
                    let _held = Held::new(&asked);
                    std::future::pending().await
                }
                "/big" => Page::of(Bytes::from_owner(Big::new(&asked))),
                "/drip" => Page {
                    bytes: Bytes::from_static(b"drip"),
                    times: 20,
                    every: Duration::from_millis(25),
                    pause: None,
                },
                _ => Page::of("ok"),
            };
            Ok(Response::new(page))
        })
    }
}

/// Whether there is an address, how long the chain is, and its first certificate.
fn shown(peer: &Peer) -> String {
    let first = peer.certificates.first().map(hex::encode);
    format!(
        "{} {} {}",
        peer.address.is_some(),
        peer.certificates.len(),
        first.unwrap_or_default()
    )
}

/// The same bytes, so many times.
struct Page {
    bytes: Bytes,
    times: usize,
    every: Duration,
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Page {
    fn of(bytes: impl Into<Bytes>) -> Self {
        Self {
            bytes: bytes.into(),
            times: 1,
            every: Duration::ZERO,
            pause: None,
        }
    }
}

impl Body for Page {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(pause) = &mut self.pause {
            std::task::ready!(pause.as_mut().poll(context));
        }
        if self.times == 0 {
            return Poll::Ready(None);
        }
        self.times -= 1;
        if !self.every.is_zero() {
            self.pause = Some(Box::pin(tokio::time::sleep(self.every)));
        }
        let bytes = if self.times == 0 {
            std::mem::take(&mut self.bytes)
        } else {
            self.bytes.clone()
        };
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}

struct Held(Arc<Asked>);

impl Held {
    fn new(asked: &Arc<Asked>) -> Self {
        let held = asked.held.fetch_add(1, Ordering::SeqCst) + 1;
        asked.most_held.fetch_max(held, Ordering::SeqCst);
        Self(Arc::clone(asked))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Big(Vec<u8>, Arc<Asked>);

impl Big {
    fn new(asked: &Arc<Asked>) -> Self {
        let bytes = asked.bytes.fetch_add(BIG, Ordering::SeqCst) + BIG;
        asked.most_bytes.fetch_max(bytes, Ordering::SeqCst);
        Self(vec![b'x'; BIG], Arc::clone(asked))
    }
}

impl AsRef<[u8]> for Big {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Big {
    fn drop(&mut self) {
        self.1.bytes.fetch_sub(BIG, Ordering::SeqCst);
    }
}

/// Waits until `holds`.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "in vain: {what}");
}

#[tokio::test]
async fn a_listener_that_is_told_to_stop_ends_and_lets_calls_end() {
    let served = Served::plain(Connections::default()).await;
    let mut client = client::Client::connect(&served.address, None)
        .await
        .unwrap();
    let dripping = client.begin("/drip").await.unwrap();
    served.stop.send(true).unwrap();
    let text = client::text(dripping).await.unwrap();
    assert_eq!(text, "drip".repeat(20));
    tokio::time::timeout(PATIENCE, served.ended)
        .await
        .unwrap()
        .unwrap();
    let refused = server::bind(match served.address {
        Address::Tcp(address) => address,
        Address::Unix(_) => unreachable!(),
    });
    assert!(refused.await.is_ok(), "the address is free again");
}

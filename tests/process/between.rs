//! The commands of the client behind a proxy: what they make of its answers, and of streams that it breaks off.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;

type Passed = Response<BoxBody<Bytes, hyper::Error>>;
type Broken = Box<dyn std::error::Error + Send + Sync>;

/// Where no gateway is.
const NOBODY: &str = "127.0.0.1:9";
/// What nginx says of a gateway that is away.
const PAGE: &[u8] = b"<html><center><h1>502 Bad Gateway</h1></center></html>";

/// A proxy before `behind`: it tells with a page that nobody is there, and resets what breaks.
pub async fn proxy(behind: &str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let behind: Arc<str> = behind.into();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let behind = Arc::clone(&behind);
            let passes = service_fn(move |request| {
                let behind = Arc::clone(&behind);
                async move { Ok::<_, hyper::Error>(answered(&behind, request).await) }
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(stream), passes));
        }
    });
    address
}

async fn answered(behind: &str, request: Request<Incoming>) -> Passed {
    match passed(behind, request).await {
        Ok(answer) => answer,
        Err(_) => Response::builder()
            .status(502)
            .header("content-type", "text/html")
            .body(
                Full::new(Bytes::from_static(PAGE))
                    .map_err(|no| match no {})
                    .boxed(),
            )
            .unwrap(),
    }
}

async fn passed(behind: &str, mut request: Request<Incoming>) -> Result<Passed, Broken> {
    let stream = tokio::net::TcpStream::connect(behind).await?;
    let shaken = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = shaken.await?;
    tokio::spawn(connection);
    *request.uri_mut() = format!("http://{behind}{}", request.uri().path()).parse()?;
    Ok(sender.send_request(request).await?.map(BodyExt::boxed))
}

#[tokio::test]
async fn a_gateway_that_is_away_is_told_by_what_the_proxy_answers() {
    let address = proxy(NOBODY).await;
    for command in [&["status"][..], &["top"], &["health"]] {
        let mut asked = program();
        asked.args(command).args(["--address", &address]);
        let output = beside(asked).await.unwrap();
        let said = text(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("answered HTTP 502 Bad Gateway"), "{said}");
    }
}

#[tokio::test]
async fn a_wait_goes_on_trying_while_the_gateway_behind_a_proxy_is_away() {
    let address = proxy(NOBODY).await;
    let mut wait = program();
    wait.args(["wait", "environment-deployed", "bus", "--timeout", "1s"]);
    wait.args(["--address", &address]);
    let output = beside(wait).await.unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(124), "{said}");
    assert!(said.contains("answered HTTP 502 Bad Gateway"), "{said}");
    assert!(said.contains("trying again"), "{said}");
}

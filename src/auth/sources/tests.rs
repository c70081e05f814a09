use super::*;
use std::convert::Infallible;
use std::net::SocketAddr;

use crate::server::{self, Shutdown};
use http::Response;
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::sync::watch;

/// An issuer's server, and its address.
async fn issuer() -> (watch::Sender<bool>, SocketAddr) {
    let (stop, shutdown) = Shutdown::channel();
    let (listener, address) = server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let answer = |request: Request<Incoming>| async move {
        let shown = request.headers().get(header::AUTHORIZATION);
        let (status, body) = match request.uri().path() {
            "/keys" => (200, "{\"keys\":[]}".to_owned()),
            "/shown" => (200, format!("{shown:?}")),
            "/large" => (200, "x".repeat(MAX_BYTES + 1)),
            "/moved" => (302, String::new()),
            _ => (500, String::new()),
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        let location = HeaderValue::from_static("/keys");
        response.headers_mut().insert(header::LOCATION, location);
        Ok::<_, Infallible>(response)
    };
    tokio::spawn(server::serve(listener, tower::service_fn(answer), shutdown));
    (stop, address)
}

fn section(more: &str) -> Issuer {
    toml::from_str(&format!("issuer = \"a\"\naudiences = [\"b\"]\n{more}")).unwrap()
}

async fn fetch(url: &str, more: &str) -> Result<String, String> {
    let bytes = Url::new(url, &section(more))?.fetch().await?;
    Ok(String::from_utf8(bytes).unwrap())
}

#[tokio::test]
async fn a_set_is_fetched_over_http_and_the_issuer_is_shown_the_token_of_a_file() {
    let (_stop, address) = issuer().await;
    let url = |path: &str| format!("http://{address}{path}");
    assert_eq!(fetch(&url("/keys"), "").await.unwrap(), "{\"keys\":[]}");
    assert_eq!(fetch(&url("/shown"), "").await.unwrap(), "None");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "a-token\n").unwrap();
    let more = format!("bearer-token-file = {:?}", file.path());
    let shown = fetch(&url("/shown"), &more).await.unwrap();
    assert_eq!(shown, "Some(\"Bearer a-token\")");
}

#[tokio::test]
async fn an_answer_that_is_too_large_or_no_success_is_refused_with_the_reason() {
    let (stop, address) = issuer().await;
    for (path, problem) in [
        ("/large", "the key set is larger than 262144 bytes"),
        ("/moved", "/moved answered 302 Found"),
        ("/wrong", "/wrong answered 500 Internal Server Error"),
    ] {
        let error = fetch(&format!("http://{address}{path}"), "").await;
        let error = error.unwrap_err();
        assert!(error.ends_with(problem), "{error}");
    }
    drop(stop);
    let error = fetch("http://127.0.0.1:1/keys", "").await.unwrap_err();
    assert!(error.contains("cannot be reached"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_says_nothing_is_given_up_in_time() {
    let (_listener, address) = server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let error = fetch(&format!("http://{address}/keys"), "").await;
    let error = error.unwrap_err();
    assert!(error.ends_with("did not answer in time"), "{error}");
}

#[tokio::test]
async fn a_set_in_a_file_is_bounded_as_well() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "{}").unwrap();
    let source = File(file.path().to_owned());
    assert_eq!(source.fetch().await.unwrap(), b"{}");
    std::fs::write(file.path(), vec![b'x'; MAX_BYTES + 1]).unwrap();
    assert_eq!(source.fetch().await.unwrap_err(), too_large());
    file.close().unwrap();
    let error = source.fetch().await.unwrap_err();
    assert!(error.starts_with("cannot read"), "{error}");
}

#[test]
fn a_ca_file_without_certificates_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let more = format!("ca-file = {:?}", file.path());
    let outcome = Url::new("https://issuer.example/keys", &section(&more));
    let error = outcome.err().unwrap();
    assert!(error.contains("there is no certificate in it"), "{error}");
}

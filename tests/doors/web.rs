//! gRPC-Web: the gRPC door as browsers reach it, over both versions of HTTP.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Version};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use prost::Message;
use proton_gateway::api::{Response, pb};
use proton_gateway::config::Span;
use proton_gateway::config::grpc_web::GrpcWebConfig;
use proton_gateway::edge::grpc_door;
use proton_gateway::edge::health::Health;
use proton_gateway::edge::web::Web;
use proton_gateway::error::Error;
use proton_gateway::server::{self, Shutdown};
use tonic_types::StatusExt;

use super::{causes, environment, gateway_with, waits};

const PAGE: &str = "https://console.example";
const VERSIONS: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];

/// Serves the door to pages of `origins`.
async fn serve(outcome: Result<Response, Error>, origins: &[&str]) -> SocketAddr {
    serve_changing(outcome, origins).await.0
}

fn config(origins: &[&str]) -> GrpcWebConfig {
    GrpcWebConfig {
        allowed_origins: origins.iter().map(|it| (*it).to_owned()).collect(),
        credentials: false,
        max_age: Span(std::time::Duration::from_secs(600)),
    }
}

/// The same, and what changes whose pages are answered.
async fn serve_changing(outcome: Result<Response, Error>, origins: &[&str]) -> (SocketAddr, Web) {
    let gateway = gateway_with(outcome);
    let waits = waits(gateway.clone());
    let health = Health::default();
    health.set_serving(true);
    let door = grpc_door::routes(gateway, waits, health).unwrap();
    let web = Web::new(door, &config(origins));
    let (listener, address) = server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let (stop, shutdown) = Shutdown::channel();
    // Nothing is stopped in these tests.
    std::mem::forget(stop);
    tokio::spawn(server::serve(listener, web.clone(), shutdown));
    (address, web)
}

/// What came back.
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

async fn send(
    address: SocketAddr,
    version: Version,
    method: Method,
    rpc: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Answer {
    let mut request = Request::builder()
        .method(method)
        .version(version)
        .uri(format!("http://{address}/{rpc}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body))).unwrap();
    let client = Client::builder(TokioExecutor::new())
        .http2_only(version == Version::HTTP_2)
        .build_http();
    let response = client.request(request).await.unwrap();
    let (parts, body) = response.into_parts();
    Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: body.collect().await.unwrap().to_bytes(),
    }
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |it| it.to_str().unwrap())
    }

    /// The messages, and the trailers that follow them in the body.
    fn frames(&self) -> (Vec<Bytes>, HeaderMap) {
        let (mut messages, mut rest) = (Vec::new(), self.body.clone());
        loop {
            let kind = rest[0];
            let length = u32::from_be_bytes(rest[1..5].try_into().unwrap());
            let frame = rest.split_to(5 + length as usize).slice(5..);
            if kind == 0 {
                messages.push(frame);
                continue;
            }
            assert_eq!((kind, rest.len()), (0x80, 0), "the trailers come last");
            let mut trailers = HeaderMap::new();
            for line in std::str::from_utf8(&frame).unwrap().lines() {
                let (name, value) = line.split_once(':').unwrap();
                let name: http::HeaderName = name.parse().unwrap();
                trailers.append(name, value.trim().parse().unwrap());
            }
            return (messages, trailers);
        }
    }
}

fn framed(message: &impl Message) -> Vec<u8> {
    let length = u32::try_from(message.encoded_len()).unwrap().to_be_bytes();
    [&[0], &length[..], &message.encode_to_vec()].concat()
}

fn get() -> Vec<u8> {
    framed(&pb::GetEnvironmentRequest {
        name: "prod".to_owned(),
    })
}

const GET: &str = "proton.v1.ProtonService/GetEnvironment";
const WEB: (&str, &str) = ("content-type", "application/grpc-web+proto");

#[tokio::test]
async fn a_page_that_may_call_is_answered_over_both_versions() {
    let address = serve(Ok(environment()), &[PAGE]).await;
    for version in VERSIONS {
        let headers = [WEB, ("origin", PAGE), ("x-request-id", "page-7")];
        let answer = send(address, version, Method::POST, GET, &headers, get()).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), "application/grpc-web+proto");
        assert_eq!(answer.header("access-control-allow-origin"), PAGE);
        assert_eq!(answer.header("x-request-id"), "page-7");
        let exposed = answer.header("access-control-expose-headers");
        for name in [
            "grpc-status",
            "grpc-message",
            "grpc-status-details-bin",
            "cache-status",
            "age",
            "etag",
            "x-request-id",
        ] {
            assert!(exposed.split(',').any(|it| it == name), "{exposed}");
        }
        let (messages, trailers) = answer.frames();
        let found = pb::GetEnvironmentResponse::decode(messages[0].clone()).unwrap();
        assert_eq!(found.environment.unwrap().name(), "prod");
        assert_eq!(
            (messages.len(), &trailers["grpc-status"]),
            (1, &"0".parse().unwrap())
        );
    }
}

#[tokio::test]
async fn an_error_is_told_with_its_details_in_the_trailers_of_the_body() {
    for version in VERSIONS {
        for error in causes() {
            let kind = format!("{:?}", error.kind);
            let address = serve(Err(error), &[PAGE]).await;
            let headers = [WEB, ("origin", PAGE)];
            let answer = send(address, version, Method::POST, GET, &headers, get()).await;
            let (messages, trailers) = answer.frames();
            let status = tonic::Status::from_header_map(&trailers).unwrap();
            assert!(
                status.get_details_error_info().is_some(),
                "{kind}: {status:?}"
            );
            assert_eq!(
                (messages.len(), answer.headers.get("grpc-status")),
                (0, None)
            );
        }
    }
}

#[tokio::test]
async fn a_stream_of_the_server_comes_message_by_message() {
    let list = Response::ListEnvironments(pb::ListEnvironmentsResponse {
        environments: vec![pb::EnvironmentSummary::default()],
        ..Default::default()
    });
    let address = serve(Ok(list), &[PAGE]).await;
    for version in VERSIONS {
        let body = framed(&pb::PageEnvironmentsRequest::default());
        let headers = [WEB, ("origin", PAGE)];
        let rpc = "proton.v1.PaginatorService/PageEnvironments";
        let answer = send(address, version, Method::POST, rpc, &headers, body).await;
        let (messages, trailers) = answer.frames();
        let page = pb::PageEnvironmentsResponse::decode(messages[0].clone()).unwrap();
        assert_eq!(page.page.unwrap().environments.len(), 1);
        assert_eq!(trailers["grpc-status"], "0");
    }
}

#[tokio::test]
async fn a_preflight_is_answered_to_the_pages_that_may_call_and_to_no_others() {
    let address = serve(Ok(environment()), &[PAGE]).await;
    let preflight = async |version, origin| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            (
                "access-control-request-headers",
                "authorization,content-type,x-grpc-web",
            ),
        ];
        send(address, version, Method::OPTIONS, GET, &headers, Vec::new()).await
    };
    for version in VERSIONS {
        let allowed = preflight(version, PAGE).await;
        assert_eq!(allowed.status, 200);
        assert_eq!(allowed.header("access-control-allow-origin"), PAGE);
        assert_eq!(allowed.header("access-control-allow-methods"), "POST");
        assert_eq!(allowed.header("access-control-max-age"), "600");
        assert_eq!(
            allowed.header("access-control-allow-headers"),
            "authorization,content-type,x-grpc-web"
        );
        assert_eq!(allowed.header("access-control-allow-credentials"), "");
        for origin in ["https://evil.example", "http://console.example", "null"] {
            let refused = preflight(version, origin).await;
            assert_eq!(refused.status, 403, "{origin}");
            assert_eq!(refused.header("access-control-allow-origin"), "");
        }
    }
}

#[tokio::test]
async fn whoever_comes_from_two_pages_comes_from_none_that_may_call() {
    let address = serve(Ok(environment()), &[PAGE]).await;
    let headers = [
        ("origin", PAGE),
        ("origin", "https://evil.example"),
        ("access-control-request-method", "POST"),
    ];
    for version in VERSIONS {
        let refused = send(address, version, Method::OPTIONS, GET, &headers, Vec::new()).await;
        assert_eq!(refused.status, 403);
    }
}

#[tokio::test]
async fn pages_of_others_cause_nothing_and_browsers_speak_nothing_else() {
    let address = serve(Ok(environment()), &[PAGE]).await;
    let web = WEB.1;
    for (content_type, origin, status) in [
        // Not only unreadable for the page: not done.
        (web, "https://evil.example", 403),
        ("application/grpc", PAGE, 415),
        ("text/plain", PAGE, 415),
    ] {
        let headers = [("content-type", content_type), ("origin", origin)];
        let answer = send(address, Version::HTTP_2, Method::POST, GET, &headers, get()).await;
        assert_eq!(answer.status, status, "{content_type} {origin}");
    }
    // A client that is no browser has no origin, whichever protocol it speaks.
    for content_type in [web, "application/grpc"] {
        let headers = [("content-type", content_type)];
        let answer = send(address, Version::HTTP_2, Method::POST, GET, &headers, get()).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, content_type)
        );
    }
}

#[tokio::test]
async fn any_page_may_call_where_that_is_said() {
    let address = serve(Ok(environment()), &["*"]).await;
    let headers = [WEB, ("origin", "https://any.example")];
    let answer = send(
        address,
        Version::HTTP_11,
        Method::POST,
        GET,
        &headers,
        get(),
    )
    .await;
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert_eq!(answer.frames().1["grpc-status"], "0");
}

#[tokio::test]
async fn other_pages_are_answered_once_that_has_changed() {
    const OTHER: &str = "https://other.example";
    let (address, web) = serve_changing(Ok(environment()), &[PAGE]).await;
    let status = async |origin| {
        let headers = [WEB, ("origin", origin)];
        let answer = send(address, Version::HTTP_2, Method::POST, GET, &headers, get()).await;
        (
            answer.status,
            answer.header("access-control-allow-origin").to_owned(),
        )
    };
    assert_eq!(status(PAGE).await, (200, PAGE.to_owned()));
    assert_eq!(status(OTHER).await.0, 403);
    web.change(&config(&[OTHER]));
    assert_eq!(status(PAGE).await.0, 403);
    assert_eq!(status(OTHER).await, (200, OTHER.to_owned()));
}

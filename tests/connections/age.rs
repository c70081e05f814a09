//! Connections that are asked to leave.

use std::time::{Duration, Instant};

use proton_gateway::api::health::HealthCheckRequest;
use proton_gateway::api::health::health_client::HealthClient;
use proton_gateway::api::health::health_server::HealthServer;
use proton_gateway::config::Connections;
use proton_gateway::edge::health::Health;
use proton_gateway::server::{self, Server, Shutdown};
use tonic::Code;
use tonic::service::Routes;
use tonic::transport::Endpoint;

use super::client::{Client, text};
use super::wire::{Frame, GOAWAY, Wire};
use super::{PATIENCE, Served, eventually, span};

#[tokio::test]
async fn a_client_of_grpc_does_not_notice_that_its_connections_grow_old() {
    let (listener, address) = server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let (_stop, shutdown) = Shutdown::channel();
    let health = Health::default();
    health.set_serving(true);
    let routes = Routes::new(HealthServer::new(health)).prepare();
    let limits = Connections {
        max_age: span(60),
        ..Connections::default()
    };
    let (peers, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let service = tower::ServiceBuilder::new()
        .map_request(move |request: http::Request<hyper::body::Incoming>| {
            let peer: &std::sync::Arc<server::Peer> = request.extensions().get().unwrap();
            peers.send(peer.address).unwrap();
            request.map(tonic::body::Body::new)
        })
        .service(routes);
    tokio::spawn(
        Server::new(listener)
            .within(limits)
            .serve(service, shutdown),
    );
    let channel = Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .connect_lazy();
    let mut client = HealthClient::new(channel);
    let mut connections = std::collections::BTreeSet::new();
    let deadline = Instant::now() + PATIENCE;
    while connections.len() < 5 {
        assert!(Instant::now() < deadline, "it is still {connections:?}");
        let request = HealthCheckRequest {
            service: String::new(),
        };
        match client.check(request).await {
            Ok(_) => drop(connections.insert(seen.try_recv().unwrap())),
            // The connection was gone before the call was on its way. Clients of gRPC send it again by
            // themselves; tonic leaves that to its caller.
            Err(status) => {
                assert_eq!(status.code(), Code::Cancelled, "{status:?}");
                assert!(seen.try_recv().is_err(), "it was on its way");
            }
        }
    }
}

#[tokio::test]
async fn what_is_under_way_on_an_old_connection_goes_on() {
    let served = Served::plain(Connections {
        max_age: span(50),
        ..Connections::default()
    })
    .await;
    let mut client = Client::connect(&served.address, None).await.unwrap();
    let dripping = client.begin("/drip").await.unwrap();
    eventually("the client is asked to leave", || client.is_closed()).await;
    assert_eq!(text(dripping).await.unwrap(), "drip".repeat(20));
}

#[tokio::test]
async fn what_does_not_end_is_cut_when_the_grace_is_over() {
    let served = Served::plain(Connections {
        max_age: span(20),
        age_grace: span(100),
        ..Connections::default()
    })
    .await;
    let mut client = Client::connect(&served.address, None).await.unwrap();
    let held = client.begin("/held");
    assert!(held.await.is_err());
}

#[tokio::test]
async fn an_old_connection_says_goaway_before_it_is_closed() {
    let served = Served::plain(Connections {
        max_age: span(20),
        ..Connections::default()
    })
    .await;
    let mut wire = Wire::connect(served.tcp()).await;
    let frames = wire.until_closed().await;
    let goaways: Vec<_> = frames.iter().filter(|frame| frame.kind == GOAWAY).collect();
    assert!(!goaways.is_empty(), "{frames:?}");
    // Without an error.
    assert!(goaways.iter().all(|frame| frame.payload[4..8] == [0; 4]));
}

#[tokio::test]
async fn a_connection_without_a_call_is_asked_to_leave_and_one_with_a_call_is_not() {
    let served = Served::plain(Connections {
        idle_timeout: span(100),
        ..Connections::default()
    })
    .await;
    let idle = Client::connect(&served.address, None).await.unwrap();
    let mut busy = Client::connect(&served.address, None).await.unwrap();
    let dripping = busy.begin("/drip").await.unwrap();
    eventually("the idle one is asked to leave", || idle.is_closed()).await;
    assert_eq!(text(dripping).await.unwrap(), "drip".repeat(20));
    eventually("the other one as well, in the end", || busy.is_closed()).await;
}

#[tokio::test]
async fn to_watch_the_health_is_no_call_that_keeps_a_connection() {
    let served = Served::plain(Connections {
        idle_timeout: span(100),
        ..Connections::default()
    })
    .await;
    let mut wire = Wire::connect(served.tcp()).await;
    wire.send(&[Frame::get(1, "/grpc.health.v1.Health/Watch")])
        .await;
    let goaway = wire.receive_kind(GOAWAY).await;
    // Without an error.
    assert_eq!(goaway.payload[4..8], [0; 4]);
}

#[tokio::test]
async fn ages_and_idleness_can_be_off() {
    let served = Served::plain(Connections {
        max_age: span(0),
        idle_timeout: span(0),
        ..Connections::default()
    })
    .await;
    let mut client = Client::connect(&served.address, None).await.unwrap();
    let dripping = client.begin("/drip").await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), text(dripping))
        .await
        .unwrap()
        .unwrap();
    assert!(!client.is_closed());
}

//! Clients that connect and do not begin.

use std::net::TcpStream;
use std::time::Duration;

use proton_gateway::config::Connections;
use proton_gateway::config::tls::{ClientCertificates, TlsVersion};
use tokio::io::AsyncReadExt;

use super::certificates::{Authority, Folder};
use super::client::Client;
use super::{PATIENCE, Served, span};

#[tokio::test]
async fn a_client_that_does_not_shake_hands_is_let_go() {
    let authority = Authority::new("servers");
    let folder = Folder::new(&authority.issue("localhost"), &authority);
    let section = folder.section(ClientCertificates::None, TlsVersion::V1_2);
    let limits = Connections {
        handshake_timeout: span(100),
        ..Connections::default()
    };
    for served in [
        Served::with_tls(limits.clone(), &section).await,
        Served::plain(limits).await,
    ] {
        let mut silent = tokio::net::TcpStream::connect(served.tcp()).await.unwrap();
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(PATIENCE, silent.read_to_end(&mut rest)).await;
        closed.expect("it is still open").unwrap();
        assert!(rest.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_half_open_connections_keep_nobody_out() {
    let authority = Authority::new("servers");
    let folder = Folder::new(&authority.issue("localhost"), &authority);
    let section = folder.section(ClientCertificates::None, TlsVersion::V1_2);
    let served = Served::with_tls(
        Connections {
            max_connections: 16,
            max_handshakes: 128,
            // Only the bound lets them go.
            handshake_timeout: span(3_600_000),
            ..Connections::default()
        },
        &section,
    )
    .await;
    let tls = || Some(authority.client(None));
    let mut before = Client::connect(&served.address, tls()).await.unwrap();
    let address = served.tcp();
    let flood = tokio::task::spawn_blocking(move || {
        let connections: Vec<_> = (0..flood_size())
            .filter_map(|_| TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok())
            .collect();
        connections
    });
    let mut opened = 0;
    // Good clients come while the flood does, and after.
    while !flood.is_finished() || opened < 5 {
        assert_eq!(before.get("/").await.unwrap(), "ok");
        let mut client = Client::connect(&served.address, tls()).await.unwrap();
        assert_eq!(client.get("/").await.unwrap(), "ok");
        opened += 1;
    }
    let half_open = flood.await.unwrap();
    assert!(half_open.len() > 200, "{}", half_open.len());
}

/// As many as there are descriptors for, on both sides and beside the other tests.
fn flood_size() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<usize>().ok())
        .unwrap_or(1024);
    (files / 3).clamp(250, 5000)
}

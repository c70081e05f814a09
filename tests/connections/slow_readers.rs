//! Clients that ask much and read nothing.

use std::sync::atomic::Ordering;
use std::time::Duration;

use proton_gateway::config::Connections;

use super::client::Client;
use super::wire::{DATA, Frame, INITIAL_WINDOW_SIZE, RST_STREAM, WINDOW_UPDATE, Wire};
use super::{BIG, Served, eventually, span};

const STREAMS: u32 = 50;

fn limits() -> Connections {
    Connections {
        write_stall_timeout: span(300),
        stream_stall_timeout: span(300),
        ..Connections::default()
    }
}

fn requests() -> Vec<Frame> {
    (0..STREAMS)
        .map(|index| Frame::get(index * 2 + 1, "/big"))
        .collect()
}

async fn healthy(served: &Served) {
    let mut client = Client::connect(&served.address, None).await.unwrap();
    assert_eq!(client.get("/big").await.unwrap().len(), BIG);
}

async fn let_go(served: &Served) {
    let asked = &served.asked;
    eventually("much is asked", || {
        asked.most_bytes.load(Ordering::SeqCst) >= BIG
    })
    .await;
    healthy(served).await;
    eventually("nothing is held", || {
        asked.bytes.load(Ordering::SeqCst) == 0
    })
    .await;
    let most = asked.most_bytes.load(Ordering::SeqCst);
    assert!(most <= (STREAMS as usize + 2) * BIG, "{most}");
}

#[tokio::test]
async fn a_client_that_grants_no_window_holds_no_answers_for_ever() {
    let served = Served::plain(limits()).await;
    for window in [0, 1, 1000, 65_535] {
        let settings = [(INITIAL_WINDOW_SIZE, window)];
        let mut wire = Wire::with_settings(served.tcp(), &settings).await;
        wire.send(&requests()).await;
        let_go(&served).await;
    }
}

#[tokio::test]
async fn only_the_streams_that_are_not_read_are_reset() {
    let served = Served::plain(limits()).await;
    let mut wire = Wire::with_settings(served.tcp(), &[(INITIAL_WINDOW_SIZE, 0)]).await;
    wire.send(&[Frame::get(1, "/big")]).await;
    let reset = wire.receive_kind(RST_STREAM).await;
    assert_eq!(reset.stream, 1);
    // CANCEL.
    assert_eq!(reset.payload, [0, 0, 0, 8]);
    wire.send(&[
        Frame::get(3, "/"),
        Frame::new(WINDOW_UPDATE, 0, 3, 1000_u32.to_be_bytes()),
    ])
    .await;
    let data = wire.receive_kind(DATA).await;
    assert_eq!((data.stream, &data.payload[..]), (3, &b"ok"[..]));
}

#[tokio::test]
async fn a_client_that_reads_nothing_from_its_socket_ends() {
    let served = Served::plain(limits()).await;
    let settings = [(INITIAL_WINDOW_SIZE, i32::MAX as u32)];
    let mut wire = Wire::with_settings(served.tcp(), &settings).await;
    // The window of the connection as well.
    let update = Frame::new(WINDOW_UPDATE, 0, 0, 0x7000_0000_u32.to_be_bytes());
    wire.send(&[update]).await;
    wire.send(&requests()).await;
    let_go(&served).await;
}

#[tokio::test]
async fn a_client_that_reads_slowly_gets_all_of_its_answer() {
    let served = Served::plain(limits()).await;
    let mut wire = Wire::with_settings(served.tcp(), &[(INITIAL_WINDOW_SIZE, 0)]).await;
    wire.send(&[Frame::get(1, "/big")]).await;
    let mut read = 0;
    while read < BIG {
        // A quarter of what it may take.
        tokio::time::sleep(Duration::from_millis(10)).await;
        let window = (BIG as u32 / 10).to_be_bytes();
        let more = [0, 1].map(|stream| Frame::new(WINDOW_UPDATE, 0, stream, window));
        assert!(wire.send(&more).await);
        read += wire.receive_kind(DATA).await.payload.len();
    }
    assert_eq!(read, BIG);
}

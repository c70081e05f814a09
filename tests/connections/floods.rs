//! Enemies that speak HTTP/2: what they send must neither pile up nor keep others waiting.

use std::sync::atomic::Ordering;

use proton_gateway::config::Connections;

use super::client::Client;
use super::wire::{
    CONTINUATION, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, Wire,
};
use super::{Served, eventually, span};

/// More than sockets hold on both sides: who may send so much is being read without a bound.
const TOO_MUCH: usize = 64 << 20;

async fn healthy(served: &Served) {
    let mut client = Client::connect(&served.address, None).await.unwrap();
    assert_eq!(client.get("/").await.unwrap(), "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_reset_at_once_do_not_pile_up() {
    let served = Served::plain(Connections::default()).await;
    let mut wire = Wire::connect(served.tcp()).await;
    for batch in 0..200_u32 {
        let frames: Vec<_> = (0..100)
            .flat_map(|index| {
                let stream = (batch * 100 + index) * 2 + 1;
                let cancel = Frame::new(RST_STREAM, 0, stream, [0, 0, 0, 8]);
                [Frame::get(stream, "/held"), cancel]
            })
            .collect();
        if !wire.send(&frames).await {
            break;
        }
        if batch % 50 == 0 {
            healthy(&served).await;
        }
    }
    healthy(&served).await;
    let most = served.asked.most_held.load(Ordering::SeqCst);
    assert!(most <= 300, "{most} calls at once on one connection");
    drop(wire);
    eventually("no call is left", || {
        served.asked.held.load(Ordering::SeqCst) == 0
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_resets_faster_than_it_is_read_ends() {
    let served = Served::plain(Connections::default()).await;
    let mut wire = Wire::connect(served.tcp()).await;
    let frames: Vec<_> = (0..2000)
        .flat_map(|index| {
            let stream = index * 2 + 1;
            let cancel = Frame::new(RST_STREAM, 0, stream, [0, 0, 0, 8]);
            [Frame::get(stream, "/held"), cancel]
        })
        .collect();
    wire.send(&frames).await;
    let goaway = wire.receive_kind(GOAWAY).await;
    // ENHANCE_YOUR_CALM.
    assert_eq!(goaway.payload[4..8], [0, 0, 0, 11]);
    healthy(&served).await;
}

#[tokio::test]
async fn more_streams_than_are_allowed_are_refused_one_by_one() {
    let served = Served::plain(Connections {
        max_streams: 10,
        ..Connections::default()
    })
    .await;
    let mut wire = Wire::connect(served.tcp()).await;
    // They count once the client has agreed to our settings.
    wire.receive_kind(SETTINGS).await;
    wire.send(&[Frame::new(SETTINGS, 1, 0, [])]).await;
    let frames: Vec<_> = (0..30)
        .map(|index| Frame::get(index * 2 + 1, "/held"))
        .collect();
    wire.send(&frames).await;
    for _ in 0..20 {
        let reset = wire.receive_kind(RST_STREAM).await;
        // REFUSED_STREAM: it was not begun, and may be asked elsewhere.
        assert_eq!(reset.payload, [0, 0, 0, 7]);
    }
    assert_eq!(served.asked.most_held.load(Ordering::SeqCst), 10);
}

#[tokio::test]
async fn headers_that_never_end_end_the_connection() {
    let served = Served::plain(Connections::default()).await;
    let mut wire = Wire::connect(served.tcp()).await;
    // A literal without an index, 1,000 bytes long.
    let mut field = vec![0x00, 1, b'a', 0x7f, 0xe9, 0x06];
    field.extend([b'x'; 1000]);
    let mut begun = Frame::get(1, "/");
    begun.flags &= !END_HEADERS;
    wire.send(&[begun]).await;
    let mut sent = 0;
    while wire
        .send(&[Frame::new(CONTINUATION, 0, 1, field.clone())])
        .await
    {
        sent += field.len();
        assert!(sent < TOO_MUCH, "all of it is read");
    }
    healthy(&served).await;
}

#[tokio::test]
async fn empty_continuations_without_end_end_the_connection() {
    let served = Served::plain(Connections::default()).await;
    let mut wire = Wire::connect(served.tcp()).await;
    wire.send(&[Frame::new(HEADERS, END_STREAM, 1, [0x82])])
        .await;
    let empty: Vec<_> = (0..100)
        .map(|_| Frame::new(CONTINUATION, 0, 1, []))
        .collect();
    let mut sent = 0;
    while wire.send(&empty).await {
        sent += empty.len() * 9;
        assert!(sent < TOO_MUCH, "all of it is read");
    }
    healthy(&served).await;
}

#[tokio::test]
async fn a_header_list_that_is_too_large_is_refused_and_the_next_request_is_not() {
    let served = Served::plain(Connections {
        max_header_bytes: 4096,
        ..Connections::default()
    })
    .await;
    let mut wire = Wire::connect(served.tcp()).await;
    let mut large = Frame::get(1, "/");
    for _ in 0..6 {
        large.payload.extend([0x00, 1, b'a', 0x7f, 0xe9, 0x06]);
        large.payload.extend([b'x'; 1000]);
    }
    wire.send(&[large]).await;
    let refusal = wire.receive_kind(HEADERS).await;
    // 431, as a literal.
    let status = refusal.payload.windows(3).any(|part| part == b"431");
    assert!(status || refusal.payload.len() < 16, "{refusal:?}");
    wire.send(&[Frame::get(3, "/")]).await;
    loop {
        let frame = wire.receive_kind(HEADERS).await;
        if frame.stream == 3 {
            // The static table's 200.
            assert_eq!(frame.payload[0], 0x88);
            break;
        }
    }
}

/// Sends `frame` and reads no answer: the server must stop reading, and then let the client go.
async fn unread(frame: &Frame) {
    let served = Served::plain(Connections {
        write_stall_timeout: span(300),
        ..Connections::default()
    })
    .await;
    let mut wire = Wire::connect(served.tcp()).await;
    let bytes = frame.bytes().repeat(1000);
    let mut sent = 0;
    while wire.send_bytes(&bytes).await {
        sent += bytes.len();
        assert!(sent < TOO_MUCH, "answers pile up");
    }
    healthy(&served).await;
}

#[tokio::test]
async fn pings_whose_answers_are_not_read_end_the_connection() {
    unread(&Frame::new(PING, 0, 0, [7; 8])).await;
}

#[tokio::test]
async fn settings_whose_answers_are_not_read_end_the_connection() {
    unread(&Frame::new(SETTINGS, 0, 0, [])).await;
}

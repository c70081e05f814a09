//! A server that is further away: what is sent to it, and what it answers, arrives so much later.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// Pieces that are under way at most.
const UNDER_WAY: usize = 1024;

/// Where a server is found that is `way` further away than `server`, each way. Ends with the runtime.
pub async fn distant(server: String, way: Duration) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(&server).await.unwrap();
            for stream in [&near, &far] {
                stream.set_nodelay(true).unwrap();
            }
            let (near, far) = (near.into_split(), far.into_split());
            tokio::spawn(carry(near.0, far.1, way));
            tokio::spawn(carry(far.0, near.1, way));
        }
    });
    address
}

/// Later, but no slower: any number of pieces are under way at the same time.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin + Send + 'static,
    way: Duration,
) {
    let (sender, mut pieces) = mpsc::channel::<(Instant, BytesMut)>(UNDER_WAY);
    tokio::spawn(async move {
        while let Some((due, piece)) = pieces.recv().await {
            sleep_until(due).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
        drop(to.shutdown().await);
    });
    loop {
        let mut piece = BytesMut::with_capacity(16 * 1024);
        match from.read_buf(&mut piece).await {
            Ok(count) if count > 0 => {}
            _ => return,
        }
        if sender.send((Instant::now() + way, piece)).await.is_err() {
            return;
        }
    }
}

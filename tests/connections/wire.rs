//! HTTP/2 by hand: frames that no good client sends.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::PATIENCE;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// The setting of the window with which each stream begins.
pub const INITIAL_WINDOW_SIZE: u16 = 4;

#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            kind,
            flags,
            stream,
            payload: payload.into(),
        }
    }

    /// A request for `path`.
    pub fn get(stream: u32, path: &str) -> Self {
        // GET, http; `:path` and `:authority` as literals without an index.
        let mut block = vec![0x82, 0x86, 0x04, path.len() as u8];
        block.extend(path.bytes());
        block.extend([0x01, 1, b'a']);
        Self::new(HEADERS, END_STREAM | END_HEADERS, stream, block)
    }

    pub fn bytes(&self) -> Vec<u8> {
        let length = (self.payload.len() as u32).to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([self.kind, self.flags]);
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }
}

pub struct Wire {
    stream: TcpStream,
}

impl Wire {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::with_settings(address, &[]).await
    }

    pub async fn with_settings(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()[..]].concat())
            .collect();
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .unwrap();
        let settings = Frame::new(SETTINGS, 0, 0, payload);
        stream.write_all(&settings.bytes()).await.unwrap();
        Self { stream }
    }

    /// False once the server takes no more.
    pub async fn send(&mut self, frames: &[Frame]) -> bool {
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
        self.send_bytes(&bytes).await
    }

    pub async fn send_bytes(&mut self, bytes: &[u8]) -> bool {
        let sent = tokio::time::timeout(PATIENCE, self.stream.write_all(bytes));
        sent.await
            .expect("the server neither reads nor closes")
            .is_ok()
    }

    /// The next frame; `None` once the connection is closed.
    pub async fn receive(&mut self) -> Option<Frame> {
        tokio::time::timeout(PATIENCE, async {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.stream.read_exact(&mut payload).await.ok()?;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            Some(Frame::new(head[3], head[4], stream, payload))
        })
        .await
        .expect("the server says nothing")
    }

    /// The next frame of that kind.
    pub async fn receive_kind(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.receive().await.expect("the connection was closed");
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// All frames until the connection is closed. Answers pings, as good clients do.
    pub async fn until_closed(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.receive().await {
            if frame.kind == PING && frame.flags == 0 {
                let pong = Frame::new(PING, 1, 0, frame.payload.clone());
                self.send(&[pong]).await;
            }
            frames.push(frame);
        }
        frames
    }
}

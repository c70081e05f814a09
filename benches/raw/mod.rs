//! A client that sends and takes messages as bytes: what it costs is the same for each server.

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::transport::Channel;
use tonic::{Request, Status};

/// Calls one server, as one caller. Clones share the connection.
#[derive(Clone)]
pub struct Caller {
    channel: Channel,
    metadata: MetadataMap,
}

impl Caller {
    pub fn new(channel: Channel, token: AsciiMetadataValue) -> Self {
        let mut metadata = MetadataMap::new();
        metadata.insert("authorization", token);
        Self { channel, metadata }
    }

    /// The same, which says so much more of each request.
    pub fn saying(mut self, name: &'static str, value: &'static str) -> Self {
        let value = AsciiMetadataValue::from_static(value);
        self.metadata.insert(name, value);
        self
    }

    /// The message of the answer.
    pub async fn call(&self, path: &'static str, message: Bytes) -> Result<Bytes, Status> {
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        client.ready().await.unwrap();
        let mut request = Request::new(message);
        *request.metadata_mut() = self.metadata.clone();
        let path = PathAndQuery::from_static(path);
        Ok(client.unary(request, path, Raw).await?.into_inner())
    }
}

struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

//! Which answers of the gRPC door are compressed.
//!
//! gzip and zstd are taken and given, as the client offers. A short answer does not get shorter by more
//! than it costs, and is sent as it is. Events of waits and deploys are short and come one by one: they
//! are never compressed. Pages of lists are long: they always are. What is kept is sent as it is kept,
//! which every client takes.

use http::Response;
use http::request::Parts;
use prost::Message;
use tonic::codec::SingleMessageCompressionOverride as Override;
use tonic::metadata::MetadataMap;

/// From how many bytes on it pays: about what fits into two packets.
pub const PAYS_FROM: usize = 2048;
const ACCEPTED: &str = "grpc-accept-encoding";
const ENCODING: &str = "grpc-encoding";
/// How the paths begin of the streams of events whose service has other answers as well.
const DEPLOYS: &str = "/proton.gateway.v1.GatewayService/Deploy";

/// Has a service read what is compressed, and compress what it answers.
macro_rules! both_ways {
    ($service:expr) => {
        $crate::edge::compression::read!($service)
            .send_compressed(::tonic::codec::CompressionEncoding::Gzip)
            .send_compressed(::tonic::codec::CompressionEncoding::Zstd)
    };
}

/// Has a service read what is compressed.
macro_rules! read {
    ($service:expr) => {
        $service
            .accept_compressed(::tonic::codec::CompressionEncoding::Gzip)
            .accept_compressed(::tonic::codec::CompressionEncoding::Zstd)
    };
}

pub(super) use {both_ways, read};

/// Has events sent as they are, whatever their client offers.
pub(super) fn spare_events(request: &mut Parts) {
    if request.uri.path().starts_with(DEPLOYS) {
        request.headers.remove(ACCEPTED);
    }
}

/// Sends an answer as it is if it does not pay to compress it. `request` is the metadata of its request.
pub(crate) fn spare<T: Message>(request: &MetadataMap, response: &mut tonic::Response<T>) {
    // Whoever takes nothing compressed is sent nothing compressed.
    if request.contains_key(ACCEPTED) && response.get_ref().encoded_len() < PAYS_FROM {
        response.disable_compression();
    }
}

/// Lets an answer that is sent as it is not say that it might be otherwise, as tonic has it: it looks as
/// one that is kept does.
pub(super) fn say_nothing_of_spared<B>(response: &mut Response<B>) {
    if response.extensions().get() == Some(&Override::Disable) {
        response.headers_mut().remove(ENCODING);
    }
}

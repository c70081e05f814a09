//! What answers where a gRPC door was looked for, if that is none: another listener, TLS or no TLS, or
//! something else altogether.
//!
//! Of that a transport says hardly anything. So it is looked again: by a request over the same channel,
//! and where none comes through, by the first bytes that are said without TLS.

use std::io;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tonic::body::Body;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tower::ServiceExt;

use super::between::Answered;
use super::endpoint::{ADDRESS, Place, Reach};
use super::failure::{Failure, of_the_gateway, pause, said};

/// How long each of the two looks may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// A page of the admin listener that it always has.
const PAGE: &str = "/livez";
/// How much is read of what answers.
const MOST: usize = 1024;
/// What the AWS door says with each answer.
const OF_AWS: &str = "x-amzn-errortype";

/// What answers, if it is no gRPC door as it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Met {
    AwsDoor,
    Admin,
    /// Whoever asked did not use it.
    Tls,
    /// Whoever asked used it.
    NoTls,
    Other,
}

/// Why a call came to nothing, in words.
pub async fn failure(status: &Status, reach: &Reach, channel: &Channel) -> Failure {
    let found = found(status, reach, channel).await;
    Failure::Failed(found.unwrap_or_else(|| said(status)))
}

/// What is to be said of what answers, if it is no gRPC door, and the call failed by that.
pub async fn found(status: &Status, reach: &Reach, channel: &Channel) -> Option<String> {
    let of_transport = matches!(
        status.code(),
        Code::Cancelled | Code::Internal | Code::Unavailable | Code::Unimplemented | Code::Unknown
    );
    let other = of_transport || Answered::behind(status).is_some();
    if !other || of_the_gateway(status) {
        return None;
    }
    let place = reach.place();
    let met = match tokio::time::timeout(PATIENCE, over(channel.clone())).await {
        // A proxy whose gateway is away for a moment may answer like this, too.
        Ok(Ok(Some(Met::Other))) if pause(status, 0).is_some() => None,
        Ok(Ok(answer)) => answer,
        _ => {
            let first = tokio::time::timeout(PATIENCE, first_bytes(&place)).await;
            first_said(&first.ok()?.ok()?, place.tls)
        }
    };
    met.map(|met| met.said(&place))
}

/// What answers a request over the channel that gRPC was tried on.
async fn over(channel: Channel) -> Result<Option<Met>, Box<dyn std::error::Error + Send + Sync>> {
    let request = Request::get(PAGE).body(Body::empty())?;
    let answer = channel.oneshot(request).await?;
    let (parts, mut body) = answer.into_parts();
    let begun = body.frame().await.transpose()?;
    let begun = begun.and_then(|frame| frame.into_data().ok());
    let answer = Response::from_parts(parts, begun.unwrap_or_default());
    Ok(answered(&answer))
}

fn answered<B: AsRef<[u8]>>(answer: &Response<B>) -> Option<Met> {
    let kind = answer.headers().get("content-type");
    let grpc = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    match answer.status() {
        // It is a gRPC door, which such a request is not for.
        StatusCode::UNSUPPORTED_MEDIA_TYPE => None,
        _ if grpc || answer.status().is_server_error() => None,
        _ if answer.headers().contains_key(OF_AWS) => Some(Met::AwsDoor),
        StatusCode::OK if answer.body().as_ref() == b"ok\n" => Some(Met::Admin),
        _ => Some(Met::Other),
    }
}

/// How what is there begins to answer when it is spoken to without TLS.
async fn first_bytes(place: &Place) -> io::Result<Vec<u8>> {
    match &place.socket {
        Some(path) => ask(UnixStream::connect(path).await?).await,
        None => {
            let port = if place.tls { 443 } else { 80 };
            let address = match place.name.parse::<http::uri::Authority>() {
                Ok(authority) if authority.port().is_none() => format!("{authority}:{port}"),
                _ => place.name.clone(),
            };
            ask(TcpStream::connect(address).await?).await
        }
    }
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<Vec<u8>> {
    let request = format!("GET {PAGE} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut read = Vec::new();
    // What came before the connection broke counts.
    let most = MOST.try_into().unwrap_or_default();
    drop(stream.take(most).read_to_end(&mut read).await);
    Ok(read)
}

/// What begins to answer like this to whoever has asked with or without `tls`.
fn first_said(bytes: &[u8], tls: bool) -> Option<Met> {
    // A record of TLS is an alert, or goes on with shaking hands.
    if matches!(bytes, [0x15 | 0x16, 3, ..]) {
        return (!tls).then_some(Met::Tls);
    }
    // HTTP/2 begins with its settings.
    let http2 = bytes.get(3) == Some(&4) && bytes.first() == Some(&0);
    let text = String::from_utf8_lossy(bytes);
    if text.contains(OF_AWS) {
        Some(Met::AwsDoor)
    } else if text.starts_with("HTTP/1.1 200") && text.ends_with("\r\n\r\nok\n") {
        Some(Met::Admin)
    } else if tls && (http2 || text.starts_with("HTTP/1.")) {
        Some(Met::NoTls)
    } else {
        (!bytes.is_empty() && !http2).then_some(Met::Other)
    }
}

impl Met {
    fn said(self, place: &Place) -> String {
        let name = &place.name;
        let usual = ADDRESS.trim_start_matches("http://");
        let no_grpc = |met: &str| {
            format!(
                "{name} does not speak gRPC{met}. Give --address the gRPC door, which is at {usual} if nothing else was configured"
            )
        };
        match self {
            Self::AwsDoor => no_grpc(": it answers as the AWS door does"),
            Self::Admin => no_grpc(": it answers as the admin listener does"),
            Self::Other => no_grpc(""),
            Self::Tls => {
                format!("{name} speaks TLS: write https://{name}, and give --ca-file its authority")
            }
            Self::NoTls => {
                format!("{name} speaks no TLS: write http://{name}, and leave out --ca-file")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_answers_is_known_by_its_first_bytes() {
        let aws = b"HTTP/1.1 404 Not Found\r\nx-amzn-errortype: UnknownOperationException\r\n\r\n{";
        let settings = [0, 0, 6, 4, 0, 0, 0, 0, 0];
        let refusal = b"HTTP/1.1 415 Unsupported Media Type\r\n\r\nthis door speaks gRPC";
        for (bytes, plain, tls) in [
            (&aws[..], Some(Met::AwsDoor), Some(Met::AwsDoor)),
            (
                b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n",
                Some(Met::Admin),
                Some(Met::Admin),
            ),
            (refusal, Some(Met::Other), Some(Met::NoTls)),
            (&settings, None, Some(Met::NoTls)),
            (&[0x15, 3, 3, 0, 2, 2, 50], Some(Met::Tls), None),
            (b"SSH-2.0-other\r\n", Some(Met::Other), Some(Met::Other)),
            (b"", None, None),
        ] {
            let text = String::from_utf8_lossy(bytes);
            assert_eq!(first_said(bytes, false), plain, "{text}");
            assert_eq!(first_said(bytes, true), tls, "{text}");
        }
    }

    #[test]
    fn another_grpc_server_is_one_and_a_proxy_without_a_gateway_is_none_yet() {
        let answer = Response::builder().header("content-type", "application/grpc");
        assert_eq!(answered(&answer.body("").unwrap()), None);
        let answer = Response::builder().status(503);
        assert_eq!(answered(&answer.body("no upstream").unwrap()), None);
        let answer = Response::builder().status(404);
        assert_eq!(answered(&answer.body("").unwrap()), Some(Met::Other));
    }
}

//! Requests that are there at once, and answers that are ready: what a hit reads and sends.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use http_body::{Body, Frame};
use tonic::Code;

use super::{Arrival, REQUEST_ID, status};
use crate::api::{Framed, Operation};
use crate::cache::demand::{CACHE_STATUS, Status};
use crate::etag::ETAG;
use crate::pipeline::hits::{Hit, Hits, Question};
use crate::telemetry::serving::Serving;

/// Where operations are found.
const SERVICE: &str = "/proton.v1.ProtonService/";
const CONTENT_TYPE: &str = "application/grpc";
static GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// What a body gives when it is asked.
type Piece<B> = Option<Result<Frame<<B as Body>::Data>, <B as Body>::Error>>;

/// A body whose beginning has been looked at; it is read again.
pub struct Seen<B: Body> {
    /// What was there, in its order.
    seen: [Option<Piece<B>>; 2],
    rest: B,
}

impl<B> Seen<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    /// Looks at nothing.
    pub fn not_yet(rest: B) -> Self {
        let seen = [None, None];
        Self { seen, rest }
    }

    /// Takes what is there of a body. Does not wait for more.
    pub async fn at_once(rest: B) -> Self {
        Self::take(rest, |_| Poll::Ready(None)).await
    }

    /// Takes the beginning of a body when it comes.
    pub async fn in_time(rest: B) -> Self {
        Self::take(rest, |_| Poll::Pending).await
    }

    /// `or_else`: what to do where nothing is there.
    async fn take(
        mut rest: B,
        or_else: impl Fn(&mut Context<'_>) -> Poll<Option<Piece<B>>>,
    ) -> Self {
        let mut seen = [None, None];
        for place in &mut seen {
            if !rest.is_end_stream() {
                *place = poll_fn(|context| match Pin::new(&mut rest).poll_frame(context) {
                    Poll::Pending => or_else(context),
                    Poll::Ready(piece) => Poll::Ready(Some(piece)),
                })
                .await;
            }
            if !matches!(place, Some(Some(Ok(_)))) {
                break;
            }
        }
        Self { seen, rest }
    }

    /// All of the body, if that is one piece. Many clients send the end after it, by itself.
    fn whole(&self) -> Option<&Bytes> {
        let [Some(Some(Ok(piece))), end] = &self.seen else {
            return None;
        };
        let over = match end {
            None => self.rest.is_end_stream(),
            Some(None) => true,
            Some(Some(Ok(empty))) => {
                empty.data_ref().is_some_and(Bytes::is_empty) && self.rest.is_end_stream()
            }
            Some(Some(Err(_))) => false,
        };
        piece.data_ref().filter(|_| over)
    }
}

impl<B: Body + Unpin> Unpin for Seen<B> {}

impl<B> Body for Seen<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        match this.seen.iter_mut().find_map(Option::take) {
            Some(piece) => Poll::Ready(piece),
            None => Pin::new(&mut this.rest).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.seen.iter().all(Option::is_none) && self.rest.is_end_stream()
    }
}

/// Reads questions of requests that may be answered with what is kept.
pub struct Reader<'a> {
    hits: &'a Hits,
    operation: Operation,
}

impl<'a> Reader<'a> {
    /// Absent where nothing is kept, or where a request is not as most clients send it.
    pub fn of(hits: &'a Hits, request: &Parts) -> Option<Self> {
        let method = request.uri.path().strip_prefix(SERVICE)?;
        let operation = Operation::from_name(method).filter(|it| Question::is_about(*it))?;
        let headers = &request.headers;
        let plain = !headers.contains_key(&GRPC_ENCODING);
        let usual = plain && headers.get(header::CONTENT_TYPE)? == CONTENT_TYPE;
        usual.then_some(Self { hits, operation })
    }

    /// What is asked, if the message is there.
    pub fn asked<B>(&self, body: &Seen<B>, arrival: &Arrival) -> Option<Asked<'a>>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let message = Framed::received(body.whole()?.clone())?.into_message();
        Some(Asked {
            hits: self.hits,
            question: Question::new(self.operation, message, arrival)?,
        })
    }
}

/// A question that may have been answered before.
pub struct Asked<'a> {
    hits: &'a Hits,
    question: Question,
}

impl Asked<'_> {
    /// The answer that is kept. `serving` is told of it.
    pub fn kept(
        &self,
        arrival: &Arrival,
        serving: Option<&Serving>,
    ) -> Option<Response<tonic::body::Body>> {
        let id = &arrival.request_id;
        let outcome = self.hits.answer(&self.question, arrival)?;
        let sent = outcome.as_ref().map_or(0, |hit| hit.frame.message().len());
        let (code, response) = match outcome {
            Ok(hit) => (Code::Ok, answer(hit, id).map(tonic::body::Body::new)),
            Err(error) => {
                let status = status::of(&error, Some(self.question.operation()), id);
                (status.code(), status.into_http())
            }
        };
        if let Some(serving) = serving {
            serving.hit(self.question.size(), sent, code);
        }
        Some(response)
    }

    /// Takes note of the pipeline's answer.
    pub async fn learn_from(self, headers: &HeaderMap) {
        let status = headers.get(CACHE_STATUS);
        if status.is_some_and(|status| status == Status::Hit.name()) {
            self.hits.learn(self.question).await;
        }
    }
}

/// The answer of a hit: one message, and that all is well.
fn answer(hit: Hit, request_id: &str) -> Response<Ready> {
    let mut response = Response::new(Ready {
        message: Some(hit.frame.bytes().clone()),
        ended: false,
    });
    let headers = response.headers_mut();
    headers.reserve(6);
    let content_type = HeaderValue::from_static(CONTENT_TYPE);
    headers.insert(header::CONTENT_TYPE, content_type);
    let status = HeaderValue::from_static(hit.served.status.name());
    headers.insert(HeaderName::from_static(CACHE_STATUS), status);
    let age = HeaderValue::from(hit.served.age.as_secs());
    headers.insert(header::AGE, age);
    if let Some(etag) = hit.etag {
        headers.insert(HeaderName::from_static(ETAG), etag);
    }
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(HeaderName::from_static(REQUEST_ID), id);
    }
    response
}

/// A message, and the trailers after it.
pub struct Ready {
    message: Option<Bytes>,
    ended: bool,
}

impl Body for Ready {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(message) = self.message.take() {
            return Poll::Ready(Some(Ok(Frame::data(message))));
        }
        if std::mem::replace(&mut self.ended, true) {
            return Poll::Ready(None);
        }
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert(tonic::Status::GRPC_STATUS, HeaderValue::from_static("0"));
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, Full};

    #[tokio::test]
    async fn a_body_that_was_looked_at_is_read_from_its_beginning() {
        let bytes = Bytes::from_static(b"12345");
        let seen = Seen::at_once(Full::new(bytes.clone())).await;
        assert_eq!(seen.whole(), Some(&bytes));
        assert!(!seen.is_end_stream());
        assert_eq!(seen.collect().await.unwrap().to_bytes(), bytes);
    }

    #[tokio::test]
    async fn a_body_that_goes_on_is_not_whole_and_loses_nothing() {
        let (sender, receiver) = tokio::sync::mpsc::channel(2);
        let frames = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let mut body = http_body_util::StreamBody::new(frames);
        assert_eq!(Seen::at_once(&mut body).await.whole(), None);
        for piece in [&b"12"[..], &b"34"[..]] {
            let frame = Frame::data(Bytes::from_static(piece));
            sender.send(Ok::<_, String>(frame)).await.unwrap();
        }
        drop(sender);
        let seen = Seen::in_time(body).await;
        assert_eq!(seen.whole(), None);
        assert_eq!(&seen.collect().await.unwrap().to_bytes()[..], b"1234");
    }
}

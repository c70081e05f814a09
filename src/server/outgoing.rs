//! Answers on their way out, and streams whose client does not take them.
//!
//! HTTP/2 lets a client open streams, ask much, and grant no window: the bytes never reach the socket,
//! so no write stalls, and what waits is memory. hyper hands a piece of a body on only once the
//! client has room for more than all before it. So a body that has given a piece and is not asked
//! for the next one has a client that takes nothing. Its stream is reset after a while; the other
//! streams of the connection go on, since a proxy carries those of many clients.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use tokio::time::{Sleep, sleep};

use super::peer::Busy;

/// What is handed over in one piece. A longer one is handed over without its end, which follows
/// once there is room for all before it: until then the stream counts as not taken. So this is the
/// most that can wait beyond the client's window without being watched.
const WHOLE: usize = 4 * 1024;
/// The end that is held back. As short as this it is written together with what follows; a longer one
/// would take a system call of its own.
const TAIL: usize = 128;

tokio::task_local! {
    /// The stream whose task this is. HTTP/1 has none: there a slow client stalls the write.
    static STREAM: Arc<Taken>;
}

/// How far the client of one stream has taken its answer.
#[derive(Default)]
struct Taken {
    pieces: AtomicU64,
    waits_for_us: AtomicBool,
}

impl Taken {
    fn hand_over() {
        // Outside a stream there is nothing to note.
        let _ = STREAM.try_with(|stream| {
            stream.pieces.fetch_add(1, Ordering::Relaxed);
            stream.waits_for_us.store(false, Ordering::Relaxed);
        });
    }

    fn wait_for_us() {
        let _ = STREAM.try_with(|stream| stream.waits_for_us.store(true, Ordering::Relaxed));
    }

    /// The number of the piece that the client has not taken yet.
    fn untaken(&self) -> Option<u64> {
        let pieces = self.pieces.load(Ordering::Relaxed);
        (pieces > 0 && !self.waits_for_us.load(Ordering::Relaxed)).then_some(pieces)
    }
}

/// A body that says how far it was taken.
pub(super) struct Outgoing<B> {
    inner: B,
    tail: Bytes,
    _busy: Option<Busy>,
}

impl<B> Outgoing<B> {
    pub(super) fn new(inner: B, busy: Option<Busy>) -> Self {
        Self {
            inner,
            tail: Bytes::new(),
            _busy: busy,
        }
    }
}

impl<B> Body for Outgoing<B>
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
        if !this.tail.is_empty() {
            Taken::hand_over();
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut this.tail)))));
        }
        let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(context) else {
            Taken::wait_for_us();
            return Poll::Pending;
        };
        Taken::hand_over();
        let Some(Ok(frame)) = frame else {
            return Poll::Ready(frame);
        };
        Poll::Ready(Some(Ok(match frame.into_data() {
            Ok(mut data) if data.len() > WHOLE => {
                // Copied: it must not keep all of the message.
                this.tail = Bytes::copy_from_slice(&data.split_off(data.len() - TAIL));
                Frame::data(data)
            }
            Ok(data) => Frame::data(data),
            Err(other) => other,
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.tail.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (tail, inner) = (self.tail.len() as u64, self.inner.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + tail);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + tail);
        }
        hint
    }
}

/// Runs the streams of HTTP/2 connections, and resets those whose clients take nothing.
#[derive(Clone)]
pub(super) struct Streams {
    pub(super) patience: Duration,
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    /// What is ready at once, as most of what is kept is, takes no task of its own, and no thread that
    /// is woken for it. What is not is asked again by its task, which is the one to wake.
    fn execute(&self, stream: F) {
        let mut stream = Box::pin(watched(stream, self.patience));
        let mut context = Context::from_waker(Waker::noop());
        let polled = catch_unwind(AssertUnwindSafe(|| stream.as_mut().poll(&mut context)));
        if let Ok(Poll::Pending) = polled {
            tokio::spawn(stream);
        }
        // As in a task, one that panics ends by itself: dropping it resets the stream.
    }
}

async fn watched(stream: impl Future<Output = ()>, patience: Duration) {
    let taken = Arc::new(Taken::default());
    let stream = STREAM.scope(Arc::clone(&taken), stream);
    tokio::pin!(stream);
    let mut waits: Option<(u64, Pin<Box<Sleep>>)> = None;
    poll_fn(|context| {
        if stream.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let Some(piece) = taken.untaken() else {
            waits = None;
            return Poll::Pending;
        };
        let (_, wait) = match &mut waits {
            Some(wait) if wait.0 == piece => wait,
            other => other.insert((piece, Box::pin(sleep(patience)))),
        };
        std::task::ready!(wait.as_mut().poll(context));
        tracing::debug!("a stream was reset: its client took nothing of its answer");
        // Dropping it resets it.
        Poll::Ready(())
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::super::peer::Activity;
    use super::*;
    use http_body_util::{BodyExt, Full};

    const PATIENCE: Duration = Duration::from_secs(60);

    fn outgoing(bytes: &'static [u8]) -> Outgoing<Full<Bytes>> {
        let activity = Arc::new(Activity::new());
        Outgoing::new(Full::new(Bytes::from_static(bytes)), Some(activity.begin()))
    }

    #[tokio::test]
    async fn a_long_message_leaves_in_two_pieces_and_arrives_as_it_was() {
        static LONG: [u8; WHOLE + 1] = [7; WHOLE + 1];
        let mut body = outgoing(&LONG);
        assert_eq!(body.size_hint().exact(), Some(LONG.len() as u64));
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(!body.is_end_stream());
        assert_eq!(body.size_hint().exact(), Some(TAIL as u64));
        let second = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(body.is_end_stream());
        assert_eq!([first, second].concat(), LONG);
        let short = outgoing(&LONG[..WHOLE]).frame().await.unwrap().unwrap();
        assert_eq!(short.into_data().unwrap().len(), WHOLE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_whose_answer_is_not_taken_ends_in_time() {
        let began = tokio::time::Instant::now();
        let stream = async {
            outgoing(b"first").frame().await.unwrap().unwrap();
            // As hyper waits for a window.
            std::future::pending::<()>().await;
        };
        watched(stream, PATIENCE).await;
        assert_eq!(began.elapsed().as_secs(), PATIENCE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_has_nothing_to_say_yet_goes_on() {
        let stream = async {
            let (_channel, silent) = tokio::sync::mpsc::channel::<()>(1);
            let events = tokio_stream::wrappers::ReceiverStream::new(silent);
            let events = tokio_stream::StreamExt::map(events, |()| {
                Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from_static(b"event")))
            });
            let body = http_body_util::StreamBody::new(events);
            let activity = Arc::new(Activity::new());
            Outgoing::new(body, Some(activity.begin())).frame().await;
        };
        let watched = tokio::time::timeout(10 * PATIENCE, watched(stream, PATIENCE));
        assert!(watched.await.is_err());
    }
}

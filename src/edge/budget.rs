//! A bound on the memory that requests take, on both doors together.
//!
//! Each request takes a share of the [`Budget`] as it arrives, takes more as its body does, and
//! gives it back when it is answered. Who finds the budget used up is refused at once: to wait
//! would take memory as well.
//!
//! The budget is for callers who are known, and none of them takes more than a quarter of it. Where
//! nobody is authenticated, there is nobody to tell apart, and all have the whole. Who is still to be
//! known, and who asks for the health or the descriptors only, have small budgets of their own:
//! whoever uses these up keeps no one out who is known at once.
//!
//! With 64 MiB and 16 KiB for each request there are at most 4096 requests at the same time, or
//! 31 that have sent the two mebibytes that are read at most. A body is held up to three times for
//! a moment (as it came, in one piece, as a message), so that all requests together stay below 256 MiB.

use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Buf;
use futures_util::FutureExt;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::Semaphore;
use tokio::time::{Sleep, sleep};

use crate::auth::{Method, Principal};
use crate::error::{Error, ErrorKind};
use crate::server::Peer;

/// The bytes of all requests in flight whose callers are known.
const BYTES: usize = 64 << 20;
/// Which part of it is the most for one caller.
const PART_OF_EACH: usize = 4;
/// Which parts, besides, are for those who are still to be known, and for the health.
const PART_OF_STRANGERS: usize = 8;
const PART_OF_HEALTH: usize = 16;
/// The same for the descriptors. Those streams last, so that each connection has a few only.
const PART_OF_REFLECTION: usize = 16;
const REFLECTIONS: usize = 8;
/// What a request takes before its body: headers of at most this size, and a task.
pub const REQUEST: usize = 16 << 10;
/// How long a body may take for its next byte.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long a stream on which a client asks whenever it likes may say nothing, once it has asked.
const SILENCE: Duration = Duration::from_secs(60);
/// When a caller who was refused may come back.
const RETRY_AFTER: Duration = Duration::from_secs(1);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What is left. Clones share it.
#[derive(Debug, Clone)]
pub struct Budget {
    callers: Arc<Pool>,
    strangers: Arc<Pool>,
    health: Arc<Pool>,
    reflection: Arc<Pool>,
}

#[derive(Debug)]
struct Pool {
    left: Semaphore,
    /// The most for one caller.
    each: usize,
    /// What callers have taken; none of them has nothing.
    taken: Mutex<HashMap<String, usize>>,
}

impl Pool {
    fn of(bytes: usize, each: usize) -> Arc<Self> {
        Arc::new(Self {
            left: Semaphore::new(bytes),
            each,
            taken: Mutex::default(),
        })
    }

    /// The share of a request that begins with `bytes`; it counts for `caller`, if that is given.
    fn share(self: &Arc<Self>, caller: Option<&str>, bytes: usize) -> Result<Share, Error> {
        let share = Share(Arc::new(Held {
            pool: Arc::clone(self),
            caller: caller.map(str::to_owned),
            bytes: AtomicUsize::new(0),
        }));
        share.grow(bytes)?;
        Ok(share)
    }

    fn take(&self, caller: Option<&str>, bytes: usize) -> Result<(), Error> {
        if let Some(caller) = caller {
            let mut all = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
            let taken = all.get(caller).copied().unwrap_or_default();
            if taken.saturating_add(bytes) > self.each {
                return Err(used_up(
                    "too many requests of this caller are being read; nothing was changed",
                ));
            }
            self.take_some(bytes)?;
            if bytes > 0 {
                *all.entry(caller.to_owned()).or_default() += bytes;
            }
            return Ok(());
        }
        self.take_some(bytes)
    }

    fn take_some(&self, bytes: usize) -> Result<(), Error> {
        let taken = u32::try_from(bytes)
            .ok()
            .and_then(|bytes| self.left.try_acquire_many(bytes).ok());
        let Some(taken) = taken else {
            return Err(used_up(
                "too many requests are being read; nothing was changed",
            ));
        };
        taken.forget();
        Ok(())
    }

    fn give_back(&self, caller: Option<&str>, bytes: usize) {
        self.left.add_permits(bytes);
        let Some(caller) = caller else {
            return;
        };
        let mut all = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = all.get_mut(caller) {
            *taken = taken.saturating_sub(bytes);
            if *taken == 0 {
                all.remove(caller);
            }
        }
    }
}

fn used_up(text: &'static str) -> Error {
    let retry_after = RETRY_AFTER;
    Error::new(ErrorKind::Unavailable { retry_after }, text)
}

impl Default for Budget {
    fn default() -> Self {
        Self::of(BYTES)
    }
}

impl Budget {
    /// So much for known callers, and parts of it for others.
    pub fn of(bytes: usize) -> Self {
        Self {
            callers: Pool::of(bytes, bytes / PART_OF_EACH),
            strangers: Pool::of(bytes / PART_OF_STRANGERS, 0),
            health: Pool::of(bytes / PART_OF_HEALTH, 0),
            // One more stream would be too many, and questions have that room.
            reflection: Pool::of(bytes / PART_OF_REFLECTION, (REFLECTIONS + 1) * REQUEST - 1),
        }
    }

    /// The share of a request of `caller` that begins with `bytes`.
    pub fn share(&self, caller: &Principal, bytes: usize) -> Result<Share, Error> {
        let known = caller.method != Method::Anonymous;
        self.callers.share(known.then_some(&*caller.id), bytes)
    }

    /// The share of a request whose caller is still to be known.
    pub fn of_stranger(&self) -> Result<Share, Error> {
        self.strangers.share(None, REQUEST)
    }

    /// The share of a request for the health.
    pub fn of_health(&self) -> Result<Share, Error> {
        self.health.share(None, REQUEST)
    }

    /// The share of a stream of `peer` that asks for the descriptors.
    pub fn of_reflection(&self, peer: &Arc<Peer>) -> Result<Share, Error> {
        // Its connection, whoever is behind it.
        let connection = format!("{:p}", Arc::as_ptr(peer));
        self.reflection.share(Some(&connection), REQUEST)
    }

    /// What `proof` comes to. What needs no time takes nothing: it is there whatever strangers do.
    pub async fn prove<T>(&self, proof: impl Future<Output = T>) -> Result<T, Error> {
        let mut proof = pin!(proof);
        if let Some(known) = proof.as_mut().now_or_never() {
            return Ok(known);
        }
        let _share = self.of_stranger()?;
        Ok(proof.await)
    }
}

/// What one request has taken; given back with the last clone.
#[derive(Debug, Clone)]
pub struct Share(Arc<Held>);

#[derive(Debug)]
struct Held {
    pool: Arc<Pool>,
    caller: Option<String>,
    bytes: AtomicUsize,
}

impl Share {
    fn grow(&self, bytes: usize) -> Result<(), Error> {
        self.0.pool.take(self.0.caller.as_deref(), bytes)?;
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    pub fn bytes(&self) -> usize {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// `body`, each piece of which is taken from the budget; the error is an [`Error`]. It is one
    /// as well that nothing comes for [`PATIENCE`].
    pub fn meter<B>(&self, body: B) -> Metered<B> {
        Metered {
            body,
            share: self.clone(),
            once: 0,
            patience: PATIENCE,
            afterwards: PATIENCE,
            silence: None,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        self.pool.give_back(self.caller.as_deref(), bytes);
    }
}

/// A body that is paid for as it comes.
#[derive(Debug)]
pub struct Metered<B> {
    body: B,
    share: Share,
    once: usize,
    patience: Duration,
    /// The same, once something has come.
    afterwards: Duration,
    /// Runs while nothing comes.
    silence: Option<Pin<Box<Sleep>>>,
}

impl<B> Metered<B> {
    /// The same; its first byte takes so much more.
    pub fn and_once(self, once: usize) -> Self {
        Self { once, ..self }
    }

    /// The same for a stream whose client asks again whenever it likes.
    pub fn patiently(self) -> Self {
        Self {
            afterwards: SILENCE,
            ..self
        }
    }

    /// Fails once nothing has come for too long.
    fn wait(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        let patience = self.patience;
        let silence = self
            .silence
            .get_or_insert_with(|| Box::pin(sleep(patience)));
        silence.as_mut().poll(context).map(|()| {
            Error::new(
                ErrorKind::DeadlineExceeded,
                "nothing more of the request came for too long; nothing was changed",
            )
        })
    }
}

impl<B> Body for Metered<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let frame = match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Pending => return self.wait(context).map(|late| Some(Err(late.into()))),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(Some(Ok(frame))) => frame,
        };
        let bytes = frame.data_ref().map_or(0, Buf::remaining);
        if bytes == 0 {
            return Poll::Ready(Some(Ok(frame)));
        }
        self.silence = None;
        self.patience = self.afterwards;
        let once = std::mem::take(&mut self.once);
        Poll::Ready(Some(match self.share.grow(bytes + once) {
            Ok(()) => Ok(frame),
            Err(error) => Err(error.into()),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};

    #[tokio::test]
    async fn what_is_used_up_comes_back_with_the_share() {
        let budget = Budget::of(10);
        let share = budget.share(&Principal::anonymous(), 4).unwrap();
        let body = share.meter(Full::new(Bytes::from_static(b"123456")));
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), 6);
        let refused = budget.share(&Principal::anonymous(), 1).unwrap_err();
        assert!(refused.retry_after().is_some(), "{refused:?}");
        drop(share);
        assert!(budget.share(&Principal::anonymous(), 10).is_ok());
    }

    #[tokio::test]
    async fn a_body_beyond_the_budget_is_an_error_of_ours() {
        let share = Budget::of(10).share(&Principal::anonymous(), 4).unwrap();
        let body = share.meter(Full::new(Bytes::from_static(b"1234567")));
        let error = body.collect().await.unwrap_err();
        let error = error.downcast::<Error>().unwrap();
        assert!(error.retry_after().is_some(), "{error:?}");
    }

    fn known(id: &str) -> Principal {
        Principal {
            id: id.to_owned(),
            method: Method::Token,
            ..(*Principal::anonymous()).clone()
        }
    }

    #[test]
    fn a_known_caller_has_a_quarter_and_nothing_is_kept_of_it_afterwards() {
        let budget = Budget::of(100);
        let share = budget.share(&known("one"), 20).unwrap();
        let refused = budget.share(&known("one"), 6).unwrap_err();
        assert!(refused.retry_after().is_some(), "{refused:?}");
        assert!(budget.share(&known("two"), 25).is_ok());
        drop(share);
        assert!(budget.callers.taken.lock().unwrap().is_empty());
        assert!(budget.share(&known("one"), 25).is_ok());
    }

    #[tokio::test]
    async fn a_proof_that_needs_no_time_is_there_where_strangers_have_taken_all() {
        let budget = Budget::of(PART_OF_STRANGERS * REQUEST);
        let _stranger = budget.of_stranger().unwrap();
        assert_eq!(budget.prove(std::future::ready(7)).await.unwrap(), 7);
        let slow = budget.prove(tokio::task::yield_now()).await;
        assert!(slow.is_err());
    }

    #[tokio::test]
    async fn who_asks_for_the_descriptors_takes_nothing_from_calls_and_a_connection_has_a_few() {
        let budget = Budget::default();
        let (one, other) = (Arc::new(Peer::default()), Arc::new(Peer::default()));
        let streams: Vec<_> = std::iter::repeat_with(|| budget.of_reflection(&one))
            .take(REFLECTIONS + 1)
            .collect();
        assert_eq!(streams.iter().filter(|it| it.is_ok()).count(), REFLECTIONS);
        assert!(budget.of_reflection(&other).is_ok());
        let last = streams.iter().flatten().last().unwrap();
        let question = last.meter(Full::new(Bytes::from_static(&[0; 4096])));
        assert!(question.collect().await.is_ok());
        assert!(budget.share(&known("a"), BYTES / PART_OF_EACH).is_ok());
        drop(streams);
        assert!(budget.of_reflection(&one).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_asks_whenever_it_likes_asks_soon_and_again_within_a_minute() {
        let peer = Arc::new(Peer::default());
        let share = Budget::default().of_reflection(&peer).unwrap();
        for (said, patience) in [(vec![], PATIENCE), (vec!["a"], SILENCE)] {
            let said = said.into_iter().map(|text| {
                let frame = Frame::data(Bytes::from_static(text.as_bytes()));
                Ok::<_, std::convert::Infallible>(frame)
            });
            let said = tokio_stream::iter(said);
            let said = futures_util::StreamExt::chain(said, tokio_stream::pending());
            let began = tokio::time::Instant::now();
            let body = share.meter(http_body_util::StreamBody::new(said));
            let error = body.patiently().collect().await.unwrap_err();
            let error = error.downcast::<Error>().unwrap();
            assert_eq!(*error.kind, ErrorKind::DeadlineExceeded);
            assert_eq!(began.elapsed().as_secs(), patience.as_secs());
        }
    }

    #[tokio::test]
    async fn the_first_byte_takes_what_the_message_may_become() {
        let budget = Budget::of(100);
        let share = budget.share(&Principal::anonymous(), 1).unwrap();
        let body = share.meter(Full::new(Bytes::from_static(b"12")));
        let body = body.and_once(50);
        assert_eq!(share.bytes(), 1);
        body.collect().await.unwrap();
        assert_eq!(share.bytes(), 53);
    }
}

//! A bound on the memory that requests take, on both doors together.
//!
//! Each request takes a share of the [`Budget`] as it arrives, takes more as its body does, and
//! gives it back when it is answered. Who finds the budget used up is refused at once: to wait
//! would take memory as well.
//!
//! With 64 MiB and 16 KiB for each request there are at most 4096 requests at the same time, or
//! 63 that have sent a whole mebibyte. A body is held up to three times for a moment (as it came,
//! in one piece, as a message), so that all requests together stay below 200 MiB.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::Semaphore;

use crate::error::{Error, ErrorKind};

/// The bytes of all requests in flight.
const BYTES: usize = 64 << 20;
/// What a request takes before its body: headers of at most this size, and a task.
pub const REQUEST: usize = 16 << 10;
/// When a caller who was refused may come back.
const RETRY_AFTER: Duration = Duration::from_secs(1);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What is left. Clones share it.
#[derive(Debug, Clone)]
pub struct Budget {
    left: Arc<Semaphore>,
}

impl Default for Budget {
    fn default() -> Self {
        Self::of(BYTES)
    }
}

impl Budget {
    pub fn of(bytes: usize) -> Self {
        Self {
            left: Arc::new(Semaphore::new(bytes)),
        }
    }

    /// The share of a request that begins with `bytes`.
    pub fn share(&self, bytes: usize) -> Result<Share, Error> {
        let share = Share(Arc::new(Held {
            budget: self.clone(),
            bytes: AtomicUsize::new(0),
        }));
        share.grow(bytes)?;
        Ok(share)
    }
}

/// What one request has taken; given back with the last clone.
#[derive(Debug, Clone)]
pub struct Share(Arc<Held>);

#[derive(Debug)]
struct Held {
    budget: Budget,
    bytes: AtomicUsize,
}

impl Share {
    fn grow(&self, bytes: usize) -> Result<(), Error> {
        let taken = u32::try_from(bytes)
            .ok()
            .and_then(|bytes| self.0.budget.left.try_acquire_many(bytes).ok());
        let Some(taken) = taken else {
            return Err(Error::new(
                ErrorKind::Unavailable {
                    retry_after: RETRY_AFTER,
                },
                "too many requests are being read; nothing was changed",
            ));
        };
        taken.forget();
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// `body`, each piece of which is taken from the budget; the error is an [`Error`].
    pub fn meter<B>(&self, body: B) -> Metered<B> {
        Metered {
            body,
            share: self.clone(),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget
            .left
            .add_permits(self.bytes.load(Ordering::Relaxed));
    }
}

/// A body that is paid for as it comes.
#[derive(Debug)]
pub struct Metered<B> {
    body: B,
    share: Share,
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
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            Some(Ok(frame)) => frame,
        };
        let bytes = frame.data_ref().map_or(0, Buf::remaining);
        Poll::Ready(Some(match self.share.grow(bytes) {
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
        let share = budget.share(4).unwrap();
        let body = share.meter(Full::new(Bytes::from_static(b"123456")));
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), 6);
        let refused = budget.share(1).unwrap_err();
        assert!(refused.retry_after().is_some(), "{refused:?}");
        drop(share);
        assert!(budget.share(10).is_ok());
    }

    #[tokio::test]
    async fn a_body_beyond_the_budget_is_an_error_of_ours() {
        let share = Budget::of(10).share(4).unwrap();
        let body = share.meter(Full::new(Bytes::from_static(b"1234567")));
        let error = body.collect().await.unwrap_err();
        let error = error.downcast::<Error>().unwrap();
        assert!(error.retry_after().is_some(), "{error:?}");
    }
}

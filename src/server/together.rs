//! What a connection has to say in one turn leaves in one write.
//!
//! HTTP/2 writes and flushes nearly each frame by itself, which is a system call for each, or more,
//! though several answers are ready when a connection takes its turn. So what is written is collected
//! while hyper works, and sent when the turn is over. Nothing waits for longer than that.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is collected at most before it is sent; then a turn sends more than once.
const MOST: usize = 64 * 1024;
/// The least that is set aside for a turn. An idle connection holds nothing.
const LEAST: usize = 4 * 1024;

/// What a connection writes to, and whose flush does nothing: its [`Turns`] send.
pub(super) struct Together<T>(Arc<Mutex<Outlet<T>>>);

/// The turns of the connection that writes to a [`Together`].
pub(super) struct Turns<T>(Arc<Mutex<Outlet<T>>>);

struct Outlet<T> {
    inner: T,
    waiting: BytesMut,
}

pub(super) fn together<T>(inner: T) -> (Together<T>, Turns<T>) {
    let waiting = BytesMut::new();
    let outlet = Arc::new(Mutex::new(Outlet { inner, waiting }));
    (Together(Arc::clone(&outlet)), Turns(outlet))
}

/// Nobody waits for it: only the task of the connection comes here.
fn lock<T>(outlet: &Mutex<Outlet<T>>) -> MutexGuard<'_, Outlet<T>> {
    outlet.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: AsyncWrite + Unpin> Outlet<T> {
    fn collect(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.waiting.len() >= MOST {
            ready!(self.send(context))?;
        }
        let count = bytes.len().min(MOST - self.waiting.len());
        if self.waiting.is_empty() {
            self.waiting.reserve(count.max(LEAST));
        }
        self.waiting.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            let written = Pin::new(&mut self.inner).poll_write(context, &self.waiting);
            match ready!(written)? {
                0 => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                count => self.waiting.advance(count),
            }
        }
        self.waiting = BytesMut::new();
        Pin::new(&mut self.inner).poll_flush(context)
    }
}

impl<T: AsyncWrite + Unpin> Turns<T> {
    /// Lets `connection` take its turns until it ends, and sends after each what it has written.
    pub(super) async fn of<C, E>(&self, mut connection: Pin<&mut C>) -> Result<(), E>
    where
        C: Future<Output = Result<(), E>>,
        E: From<io::Error>,
    {
        poll_fn(|context| {
            let turn = connection.as_mut().poll(context);
            let sent = lock(&self.0).send(context);
            match (turn, sent) {
                (Poll::Pending, Poll::Ready(Err(error))) => Poll::Ready(Err(error.into())),
                // One that ends well has shut down what it writes to, which sends the rest.
                (turn, _) => turn,
            }
        })
        .await
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Together<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut lock(&self.0).inner).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Together<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        lock(&self.0).collect(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outlet = lock(&self.0);
        ready!(outlet.send(context))?;
        Pin::new(&mut outlet.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Takes what is written, and counts how often.
    #[derive(Default)]
    struct Counting {
        writes: usize,
        taken: usize,
    }

    impl AsyncWrite for Counting {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.writes += 1;
            self.taken += bytes.len();
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    async fn says(io: &mut (impl AsyncWrite + Unpin), pieces: usize, length: usize) {
        for _ in 0..pieces {
            io.write_all(&vec![7; length]).await.unwrap();
            io.flush().await.unwrap();
        }
    }

    #[tokio::test]
    async fn all_that_a_turn_says_is_one_write_and_nothing_stays_behind() {
        let (mut io, turns) = together(Counting::default());
        let connection = std::pin::pin!(async {
            says(&mut io, 10, 100).await;
            tokio::task::yield_now().await;
            says(&mut io, 2, 1).await;
            std::future::pending::<io::Result<()>>().await
        });
        let mut served = Box::pin(turns.of(connection));
        assert!((&mut served).now_or_never().is_none());
        let seen = |outlet: &Outlet<Counting>| (outlet.inner.writes, outlet.inner.taken);
        assert_eq!(seen(&lock(&turns.0)), (1, 1000));
        assert!(served.now_or_never().is_none());
        let outlet = lock(&turns.0);
        assert_eq!(seen(&outlet), (2, 1002));
        assert_eq!(outlet.waiting.capacity(), 0);
    }

    #[tokio::test]
    async fn no_more_is_collected_than_what_is_allowed_for_a_client_that_reads_nothing() {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let (mut io, turns) = together(ours);
        let all = 3 * MOST;
        let connection = async {
            says(&mut io, 3, MOST).await;
            io.shutdown().await
        };
        let mut connection = Box::pin(connection);
        let mut served = Box::pin(turns.of(connection.as_mut()));
        assert!((&mut served).now_or_never().is_none());
        assert!(lock(&turns.0).waiting.len() <= MOST);
        let mut received = Vec::new();
        let (ended, read) = tokio::join!(served, theirs.read_to_end(&mut received));
        ended.unwrap();
        assert_eq!((read.unwrap(), received.len()), (all, all));
    }

    #[tokio::test]
    async fn a_connection_that_has_nothing_to_do_ends_when_what_it_said_cannot_be_sent() {
        let (ours, theirs) = tokio::io::duplex(1024);
        let (mut io, turns) = together(ours);
        drop(theirs);
        let connection = std::pin::pin!(async {
            says(&mut io, 1, 10).await;
            std::future::pending::<io::Result<()>>().await
        });
        let ended = turns.of(connection).await;
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::BrokenPipe);
    }
}

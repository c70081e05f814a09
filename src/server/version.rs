//! Which version of HTTP a client begins with.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// What an HTTP/2 connection begins with.
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

/// Returns when the client has said something, which is not read yet.
pub(super) async fn first_word<T>(mut inner: T) -> io::Result<Begun<T>>
where
    T: AsyncRead + Unpin,
{
    let mut seen = vec![0; 1];
    let count = inner.read(&mut seen).await?;
    seen.truncate(count);
    let seen = Bytes::from(seen);
    Ok(Begun { seen, inner })
}

/// Reads as much as tells the version, which hyper would wait for without end.
pub(super) async fn begin<T>(mut inner: T) -> io::Result<(Version, Begun<T>)>
where
    T: AsyncRead + Unpin,
{
    let mut seen = Vec::with_capacity(PREFACE.len());
    while seen.len() < PREFACE.len() && PREFACE.starts_with(&seen) {
        let missing = PREFACE.len() - seen.len();
        if (&mut inner)
            .take(missing as u64)
            .read_buf(&mut seen)
            .await?
            == 0
        {
            break;
        }
    }
    let version = if seen == PREFACE {
        Version::Http2
    } else {
        Version::Http1
    };
    let seen = Bytes::from(seen);
    Ok((version, Begun { seen, inner }))
}

/// A connection whose first bytes were looked at; they are read again.
pub(super) struct Begun<T> {
    seen: Bytes,
    inner: T,
}

impl<T: AsyncRead + Unpin> AsyncRead for Begun<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.seen.is_empty() {
            return Pin::new(&mut self.inner).poll_read(context, buffer);
        }
        let count = self.seen.len().min(buffer.remaining());
        buffer.put_slice(&self.seen[..count]);
        self.seen.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Begun<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

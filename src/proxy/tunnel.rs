//! Passes bytes through unread, both ways, and counts them.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};

use crate::{
    model::Outcome,
    proxy::{engine::Engine, flow::Flow},
};

/// Passes bytes between the two until both have closed, or the proxy stops. Closes the record.
pub(crate) async fn tunnel<C, U>(engine: &Engine, client: C, mut upstream: U, mut flow: Flow)
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let mut client = Counted { inner: client, read: Arc::clone(&flow.request_bytes), written: 0 };
    let ended = tokio::select! {
        ended = copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER_BYTES, BUFFER_BYTES) => ended.map(|_| ()),
        () = engine.stopped() => Ok(()),
    };
    flow.response_bytes += client.written;
    // A reset is how many clients say goodbye; the bytes went through all the same.
    flow.finish(Outcome::Tunneled, ended.err().map(|error| error.to_string()));
}

/// Counts what the client sends and gets, however the tunnel ends.
struct Counted<S> {
    inner: S,
    read: Arc<AtomicU64>,
    written: u64,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.read.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = polled {
            self.written += count as u64;
        }
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        if let Poll::Ready(Ok(count)) = polled {
            self.written += count as u64;
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Each way. Larger does not make loopback faster; pages that are never written to take no memory.
const BUFFER_BYTES: usize = 64 * 1024;

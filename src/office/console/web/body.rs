//! Bodies of answers on a connection: bytes that come while they are sent.
#![expect(clippy::disallowed_methods, reason = "shell: starts tasks")]

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::mpsc;

use super::answer::Pieces;
use super::limits;

/// Pieces that wait for the connection at most: one is sent, one is read.
const WAITING: usize = 1;

/// A body out of a channel; an error ends the connection, so that no client takes a part for the
/// whole.
struct Received {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    /// Bytes to come; `None` without an end.
    left: Option<u64>,
}

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let received = std::task::ready!(self.pieces.poll_recv(context));
        if let (Some(Ok(bytes)), Some(left)) = (&received, &mut self.left) {
            *left = left.saturating_sub(bytes.len() as u64);
        }
        Poll::Ready(received.map(|piece| piece.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// A body that is written by a task; dropping the body closes the sender.
pub(crate) fn written() -> (mpsc::Sender<io::Result<Bytes>>, Body) {
    let (sender, pieces) = mpsc::channel(WAITING);
    (sender, Body::new(Received { pieces, left: None }))
}

/// A body that reads a range piece by piece, as fast as the client takes it.
pub(crate) fn pieces(mut source: Box<dyn Pieces>, range: Range<u64>) -> Body {
    let (sender, pieces) = mpsc::channel(WAITING);
    let left = Some(range.end - range.start);
    tokio::spawn(async move {
        let mut at = range.start;
        while at < range.end {
            let piece = at..range.end.min(at + limits::FILE_PIECE as u64);
            let read = tokio::task::spawn_blocking(move || {
                let read = source.read(piece.clone());
                (source, read.and_then(|bytes| fitting(bytes, &piece)))
            });
            let Ok((back, read)) = read.await else { return };
            source = back;
            at += read.as_ref().map_or(0, |bytes| bytes.len() as u64);
            let has_failed = read.is_err();
            if sender.send(read).await.is_err() || has_failed {
                return;
            }
        }
    });
    Body::new(Received { pieces, left })
}

/// Refuses an empty piece, which would be asked for again without end, and one that is too long.
fn fitting(bytes: Bytes, piece: &Range<u64>) -> io::Result<Bytes> {
    let length = bytes.len() as u64;
    if length == 0 || length > piece.end - piece.start {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

//! File reader: reads pieces of files on its own thread, because a slow card must not block the
//! uplink.
//!
//! One thread serves all files, so that the allocator keeps only one arena for it. What is read is
//! decided in [`super::delivery`].
#![expect(clippy::disallowed_methods, reason = "shell: starts a thread or task")]

use std::io;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;

use tokio::sync::mpsc;

use crate::clip::SharedFile;
use crate::units::EntryId;
use crate::wakeup::LowLatencyGuard;

/// Queued reads. Two files are sent at once with one read in flight each. The rest belongs to
/// sessions that ended while the card hung; the watchdog ends the process long before the queue is
/// full.
const QUEUE: usize = 64;

/// A piece of a file: its outbox entry, its offset, and its bytes or the error.
pub type Piece = (EntryId, u64, Result<Vec<u8>, String>);

/// A piece to read.
pub struct ReadRequest {
    /// The outbox entry of the file.
    pub entry_id: EntryId,
    /// First byte of the piece.
    pub offset: u64,
    /// Number of bytes.
    pub len: u32,
    /// The file.
    pub source: SharedFile,
    /// Disables wake-up coalescing until the piece is read.
    pub low_latency: LowLatencyGuard,
}

/// Handle of the reader thread, which ends when the handle is dropped and its queue is empty.
pub struct FileReader {
    pieces: mpsc::Sender<Piece>,
    requests: Option<SyncSender<ReadRequest>>,
}

impl FileReader {
    /// A reader that sends its results to `pieces`; the first read starts its thread.
    pub fn new(pieces: mpsc::Sender<Piece>) -> FileReader {
        FileReader { pieces, requests: None }
    }

    /// Queues the read of a piece.
    ///
    /// # Errors
    /// When the thread cannot be created, or the card hangs and the queue is full.
    pub fn read(&mut self, request: ReadRequest) -> io::Result<()> {
        let sent = match &self.requests {
            Some(thread) => thread.try_send(request),
            None => Err(TrySendError::Disconnected(request)),
        };
        match sent {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => Err(io::Error::other("the card does not answer")),
            // This is the first read, or an earlier read panicked: starts a thread.
            Err(TrySendError::Disconnected(request)) => self.start(request),
        }
    }

    fn start(&mut self, first: ReadRequest) -> io::Result<()> {
        let (sender, requests) = sync_channel::<ReadRequest>(QUEUE);
        let pieces = self.pieces.clone();
        thread::Builder::new().name("pieces".into()).spawn(move || {
            for ReadRequest { entry_id, offset, len, source, low_latency } in
                std::iter::once(first).chain(requests)
            {
                let sent = pieces.blocking_send((entry_id, offset, source.read(offset, len)));
                drop(low_latency);
                if sent.is_err() {
                    return;
                }
            }
        })?;
        self.requests = Some(sender);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::Mutex;
    use std::thread::ThreadId;
    use std::time::Duration;

    use super::*;
    use crate::clip::FileSource;
    use crate::wakeup::WakeupCoalescer;

    /// Records the threads that read it; a read at an odd offset panics.
    #[derive(Default)]
    struct Noted(Mutex<Vec<ThreadId>>);

    impl FileSource for Noted {
        fn len(&self) -> u64 {
            100
        }

        fn read(&self, offset: u64, len: u32) -> Result<Vec<u8>, String> {
            self.0.lock().unwrap().push(thread::current().id());
            assert_eq!(offset % 2, 0, "the panic of this test");
            Ok(vec![offset as u8; len as usize])
        }
    }

    fn request(offset: u64, source: &Arc<Noted>) -> ReadRequest {
        ReadRequest {
            entry_id: EntryId(1),
            offset,
            len: 3,
            source: source.clone(),
            low_latency: WakeupCoalescer::default().low_latency(),
        }
    }

    #[test]
    fn all_pieces_are_read_in_order_by_one_thread() {
        let (sender, mut pieces) = mpsc::channel(8);
        let (mut reader, source) = (FileReader::new(sender), Arc::new(Noted::default()));
        for offset in [0, 2, 4, 6] {
            reader.read(request(offset, &source)).unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
        let read: Vec<Piece> = (0..4).map(|_| pieces.blocking_recv().unwrap()).collect();
        assert_eq!(read[3], (EntryId(1), 6, Ok(vec![6; 3])));
        assert_eq!(read.iter().map(|piece| piece.1).collect::<Vec<_>>(), [0, 2, 4, 6]);
        let mut threads = source.0.lock().unwrap().clone();
        threads.dedup();
        assert_eq!(threads.len(), 1);
    }

    #[test]
    fn a_read_after_a_panic_succeeds() {
        let (sender, mut pieces) = mpsc::channel(8);
        let (mut reader, source) = (FileReader::new(sender), Arc::new(Noted::default()));
        reader.read(request(1, &source)).unwrap();
        // Requests queued before the panic are lost with the thread; the next session requests them
        // again.
        let read = (0..500).find_map(|_| {
            reader.read(request(8, &source)).unwrap();
            thread::sleep(Duration::from_millis(20));
            pieces.try_recv().ok()
        });
        assert_eq!(read.unwrap().1, 8);
    }
}

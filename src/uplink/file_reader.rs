//! ⇄ The reader: reads pieces of files on a thread of its own, because a card is slow and the uplink must not wait. One thread, so that
//! the allocator keeps one arena for it, however many files travel.
//!
//! What belongs here: that one thread. What does not: what is read or why ([`super::delivery`]).

use std::io;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;

use tokio::sync::mpsc;

use crate::clip::SharedFile;
use crate::units::EntryId;
use crate::wakeup::LowLatencyGuard;

/// Reads that wait at most. One at a time and file, two files at a time; the others are those of sessions that ended while the card
/// hung, and long before there are so many the process has ended (`crate::heartbeat`).
const WAITING: usize = 64;

/// A piece of a file that was read: of which message, where it lies, and its bytes or why there are none.
pub type Piece = (EntryId, u64, Result<Vec<u8>, String>);

/// A piece to read.
pub struct ReadRequest {
    /// The message.
    pub entry_id: EntryId,
    /// Where the piece begins.
    pub offset: u64,
    /// Its bytes.
    pub len: u32,
    /// The file.
    pub source: SharedFile,
    /// Nobody rests until it is read.
    pub hurry: LowLatencyGuard,
}

/// The sending end; the thread ends when it is dropped and nothing waits.
pub struct FileReader {
    pieces: mpsc::Sender<Piece>,
    wanted: Option<SyncSender<ReadRequest>>,
}

impl FileReader {
    /// A reader that answers to `pieces`; its thread begins with the first read.
    pub fn new(pieces: mpsc::Sender<Piece>) -> FileReader {
        FileReader { pieces, wanted: None }
    }

    /// Asks for a piece.
    ///
    /// # Errors
    /// When the system gives no thread, or the card has answered nothing for so long that the queue is full.
    pub fn read(&mut self, wanted: ReadRequest) -> io::Result<()> {
        let sent = match &self.wanted {
            Some(thread) => thread.try_send(wanted),
            None => Err(TrySendError::Disconnected(wanted)),
        };
        match sent {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => Err(io::Error::other("the card answers nothing")),
            // The first read, or one has panicked: the others go on.
            Err(TrySendError::Disconnected(wanted)) => self.start(wanted),
        }
    }

    fn start(&mut self, first: ReadRequest) -> io::Result<()> {
        let (sender, waiting) = sync_channel::<ReadRequest>(WAITING);
        let pieces = self.pieces.clone();
        thread::Builder::new().name("pieces".into()).spawn(move || {
            for ReadRequest { entry_id, offset, len, source, hurry } in std::iter::once(first).chain(waiting) {
                let answered = pieces.blocking_send((entry_id, offset, source.read(offset, len)));
                drop(hurry);
                if answered.is_err() {
                    return;
                }
            }
        })?;
        self.wanted = Some(sender);
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

    /// Notes the threads that read it; the read of an odd offset panics.
    #[derive(Default)]
    struct Noted(Mutex<Vec<ThreadId>>);

    impl FileSource for Noted {
        fn len(&self) -> u64 {
            100
        }

        fn read(&self, offset: u64, len: u32) -> Result<Vec<u8>, String> {
            self.0.lock().unwrap().push(thread::current().id());
            assert_eq!(offset % 2, 0, "a read that panics, as the test wants it");
            Ok(vec![offset as u8; len as usize])
        }
    }

    fn wanted(offset: u64, source: &Arc<Noted>) -> ReadRequest {
        ReadRequest {
            entry_id: EntryId(1),
            offset,
            len: 3,
            source: source.clone(),
            hurry: WakeupCoalescer::default().low_latency(),
        }
    }

    #[test]
    fn all_pieces_are_read_in_order_by_one_thread() {
        let (sender, mut pieces) = mpsc::channel(8);
        let (mut reader, source) = (FileReader::new(sender), Arc::new(Noted::default()));
        for offset in [0, 2, 4, 6] {
            reader.read(wanted(offset, &source)).unwrap();
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
    fn a_read_that_panics_costs_no_later_one() {
        let (sender, mut pieces) = mpsc::channel(8);
        let (mut reader, source) = (FileReader::new(sender), Arc::new(Noted::default()));
        reader.read(wanted(1, &source)).unwrap();
        // What is asked for before the panic is lost with it, as a session asks for once; the next session asks again.
        let read = (0..500).find_map(|_| {
            reader.read(wanted(8, &source)).unwrap();
            thread::sleep(Duration::from_millis(20));
            pieces.try_recv().ok()
        });
        assert_eq!(read.unwrap().1, 8);
    }
}

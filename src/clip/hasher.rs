//! Clip hasher: reads a file once to compute its SHA-256, on its own thread.
//!
//! A slow card must not block the agent, which decides what is hashed.
#![expect(clippy::disallowed_methods, reason = "shell: starts a thread or task")]

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::{FileSource, SharedFile};
use crate::storage::GapReason;
use crate::units::Digest;
use crate::watchdog::Heartbeat;

/// Bytes per read, about the size of a fragment, so that memory stays small.
const PIECE: u64 = 256 * 1024;
/// Queued files; the agent never has more clip jobs than this.
pub const QUEUE: usize = 16;
/// Heartbeat interval while there is nothing to hash.
const IDLE: Duration = Duration::from_secs(1);

/// A file to hash.
pub struct HashRequest {
    /// Number of the agent's clip job; [`Hashed::job`] returns it.
    pub job: u64,
    /// Id of the event, or `req_id` of the command, that the clip belongs to.
    pub event: String,
    /// The file.
    pub file: SharedFile,
}

/// The result for one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashed {
    /// Number of the agent's clip job.
    pub job: u64,
    /// SHA-256 of the whole file, or why it cannot be read.
    pub outcome: Result<Digest, String>,
    /// The records that cannot be read, each with its gap reason; empty on success.
    pub unreadable: Vec<(u64, GapReason)>,
}

impl Hashed {
    /// Hashes a file and calls `alive` before each read.
    pub fn compute(request: &HashRequest, alive: impl Fn()) -> Hashed {
        let outcome = digest_while(request.file.as_ref(), &alive);
        alive();
        let unreadable = if outcome.is_err() { request.file.unreadable() } else { Vec::new() };
        Hashed { job: request.job, outcome, unreadable }
    }
}

/// Handle of the hasher thread. Once dropped, the thread ends when its queue is empty. A shutdown
/// does not wait for it: a clip that is not hashed stays pending and is cut after the next boot.
pub struct Hasher(mpsc::SyncSender<HashRequest>);

impl Hasher {
    /// Starts the thread. It calls `answer` with every result.
    ///
    /// # Errors
    /// When the operating system cannot create the thread.
    pub fn start(
        heartbeat: Heartbeat,
        answer: impl Fn(Hashed) + Send + 'static,
    ) -> std::io::Result<Hasher> {
        let (sender, receiver) = mpsc::sync_channel::<HashRequest>(QUEUE);
        let work = move || {
            loop {
                heartbeat.beat();
                match receiver.recv_timeout(IDLE) {
                    Ok(request) => {
                        let span = tracing::info_span!("clip", event = request.event);
                        let hashed =
                            span.in_scope(|| Hashed::compute(&request, || heartbeat.beat()));
                        answer(hashed);
                    }
                    Err(mpsc::RecvTimeoutError::Timeout) => {}
                    Err(mpsc::RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        thread::Builder::new().name("clip".into()).spawn(work)?;
        Ok(Hasher(sender))
    }

    /// Queues a file. Returns the request when the queue is full or the thread has ended.
    pub fn hash(&self, request: HashRequest) -> Result<(), HashRequest> {
        self.0.try_send(request).map_err(
            |(mpsc::TrySendError::Full(request) | mpsc::TrySendError::Disconnected(request))| {
                request
            },
        )
    }
}

/// SHA-256 of a whole file; calls `alive` before each read.
fn digest_while(file: &dyn FileSource, alive: impl Fn()) -> Result<Digest, String> {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let mut offset = 0;
    while offset < file.len() {
        alive();
        let len = PIECE.min(file.len() - offset);
        context.update(&file.read(offset, len as u32)?);
        offset += len;
    }
    let mut out = Digest::default();
    out.0.copy_from_slice(context.finish().as_ref());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_file_of_several_pieces_has_the_digest_of_its_bytes() {
        let bytes = vec![9_u8; PIECE as usize * 2 + 5];
        let (sender, answers) = mpsc::channel();
        let hasher =
            Hasher::start(Heartbeat::default(), move |hashed| sender.send(hashed).unwrap())
                .unwrap();
        hasher
            .hash(HashRequest { job: 3, event: "e".into(), file: Arc::new(bytes.clone()) })
            .ok()
            .unwrap();
        assert_eq!(
            answers.recv().unwrap(),
            Hashed { job: 3, outcome: Ok(Digest::of(&bytes)), unreadable: Vec::new() }
        );
    }

    /// A file on a card that hangs.
    struct Hung(std::sync::Mutex<mpsc::Receiver<()>>);

    impl FileSource for Hung {
        fn len(&self) -> u64 {
            1
        }

        fn read(&self, _offset: u64, _len: u32) -> Result<Vec<u8>, String> {
            let _ = self.0.lock().unwrap().recv_timeout(Duration::from_secs(5));
            Err("hung".into())
        }
    }

    #[test]
    fn dropping_the_hasher_does_not_wait_for_a_hung_card() {
        let (_hold, held) = mpsc::channel();
        let hasher = Hasher::start(Heartbeat::default(), |_| {}).unwrap();
        hasher
            .hash(HashRequest {
                job: 1,
                event: "e".into(),
                file: Arc::new(Hung(std::sync::Mutex::new(held))),
            })
            .ok()
            .unwrap();
        let started = std::time::Instant::now();
        drop(hasher);
        assert!(
            started.elapsed() < Duration::from_secs(1),
            "the stop waited {:?}",
            started.elapsed()
        );
    }
}

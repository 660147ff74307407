//! ⇄ The clip worker: reads a file once from end to end to know its digest, on its own thread, because a card is slow and the
//! agent must not wait.
//!
//! What belongs here: that one read. What does not: what is read or why.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::{FileSource, SharedFile};
use crate::storage::GapReason;
use crate::units::Digest;
use crate::watchdog::Heartbeat;

/// Bytes read at a time: a fragment's order of size, so that memory stays small.
const PIECE: u64 = 256 * 1024;
/// Files waiting to be hashed at most; the agent never has more clips in the making than this.
pub const QUEUE: usize = 16;
/// How often it shows that it lives while there is nothing to hash.
const IDLE: Duration = Duration::from_secs(1);

/// A file to hash and the number to answer under.
pub struct HashRequest {
    /// The agent's number of the clip in the making.
    pub job: u64,
    /// The file.
    pub file: SharedFile,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashed {
    /// The agent's number of the clip in the making.
    pub job: u64,
    /// SHA-256 of the whole file, or why it cannot be read.
    pub outcome: Result<Digest, String>,
    /// Where it cannot be read: the records that are to blame, and what the gap of each is called.
    pub unreadable: Vec<(u64, GapReason)>,
}

impl Hashed {
    /// Carries out an order, with a sign of life before each piece.
    pub fn compute(order: &HashRequest, alive: impl Fn()) -> Hashed {
        let outcome = digest_while(order.file.as_ref(), &alive);
        alive();
        let unreadable = if outcome.is_err() { order.file.unreadable() } else { Vec::new() };
        Hashed { job: order.job, outcome, unreadable }
    }
}

/// The running worker. Once dropped it ends when its queue is empty. Nobody waits for that: a stop must not take as long as sixteen
/// files, and a clip that is not hashed is pending still and cut again at the next start.
pub struct Hasher(mpsc::SyncSender<HashRequest>);

impl Hasher {
    /// Starts the thread; every answer goes to `answer`.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start(heartbeat: Heartbeat, answer: impl Fn(Hashed) + Send + 'static) -> std::io::Result<Hasher> {
        let (sender, receiver) = mpsc::sync_channel::<HashRequest>(QUEUE);
        let work = move || {
            loop {
                heartbeat.beat();
                match receiver.recv_timeout(IDLE) {
                    Ok(order) => {
                        answer(Hashed::compute(&order, || heartbeat.beat()));
                    }
                    Err(mpsc::RecvTimeoutError::Timeout) => {}
                    Err(mpsc::RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        thread::Builder::new().name("clip".into()).spawn(work)?;
        Ok(Hasher(sender))
    }

    /// Asks for a digest. Gives the order back when the queue is full or the worker is gone.
    pub fn hash(&self, order: HashRequest) -> Result<(), HashRequest> {
        self.0.try_send(order).map_err(|(mpsc::TrySendError::Full(order) | mpsc::TrySendError::Disconnected(order))| order)
    }
}

/// SHA-256 of a whole file, read piece by piece, with a sign of life before each.
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
        let worker = Hasher::start(Heartbeat::default(), move |hashed| sender.send(hashed).unwrap()).unwrap();
        worker.hash(HashRequest { job: 3, file: Arc::new(bytes.clone()) }).ok().unwrap();
        assert_eq!(answers.recv().unwrap(), Hashed { job: 3, outcome: Ok(Digest::of(&bytes)), unreadable: Vec::new() });
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
    fn nobody_waits_for_a_worker_whose_card_hangs() {
        let (_hold, held) = mpsc::channel();
        let worker = Hasher::start(Heartbeat::default(), |_| {}).unwrap();
        worker.hash(HashRequest { job: 1, file: Arc::new(Hung(std::sync::Mutex::new(held))) }).ok().unwrap();
        let started = std::time::Instant::now();
        drop(worker);
        assert!(started.elapsed() < Duration::from_secs(1), "the stop waited {:?}", started.elapsed());
    }
}

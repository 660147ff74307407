//! ⇄ The clip worker: reads a file once from end to end to know its digest, on its own thread, because a card is slow and the
//! agent must not wait.
//!
//! What belongs here: that one read. What does not: what is read or why.

use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use super::{FileSource, SharedFile};
use crate::units::Digest;

/// Bytes read at a time: a fragment's order of size, so that memory stays small.
const PIECE: u64 = 256 * 1024;
/// Files waiting to be hashed at most; the agent never has more clips in the making than this.
pub const QUEUE: usize = 16;

/// A file to hash and the number to answer under.
pub struct HashOrder {
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
}

/// The running worker. Ends when dropped and its queue is empty.
pub struct Worker {
    orders: Option<mpsc::SyncSender<HashOrder>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread; every answer goes to `answer`.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start(answer: impl Fn(Hashed) + Send + 'static) -> std::io::Result<Worker> {
        let (sender, receiver) = mpsc::sync_channel::<HashOrder>(QUEUE);
        let work = move || {
            for order in receiver {
                answer(Hashed { job: order.job, outcome: digest(order.file.as_ref()) });
            }
        };
        let thread = thread::Builder::new().name("clip".into()).spawn(work)?;
        Ok(Worker { orders: Some(sender), thread: Some(thread) })
    }

    /// Asks for a digest. Gives the order back when the queue is full or the worker is gone.
    pub fn hash(&self, order: HashOrder) -> Result<(), HashOrder> {
        match self.orders.as_ref().map(|orders| orders.try_send(order)) {
            Some(Ok(())) => Ok(()),
            Some(Err(mpsc::TrySendError::Full(order) | mpsc::TrySendError::Disconnected(order))) => Err(order),
            None => unreachable!("the sender lives until drop"),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// SHA-256 of a whole file, read piece by piece.
///
/// # Errors
/// The reader's words when a piece cannot be read.
pub fn digest(file: &dyn FileSource) -> Result<Digest, String> {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let mut offset = 0;
    while offset < file.len() {
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
        let worker = Worker::start(move |hashed| sender.send(hashed).unwrap()).unwrap();
        worker.hash(HashOrder { job: 3, file: Arc::new(bytes.clone()) }).ok().unwrap();
        assert_eq!(answers.recv().unwrap(), Hashed { job: 3, outcome: Ok(Digest::of(&bytes)) });
    }
}

//! Threads that hash passwords: two at once, 32 waiting. A hash takes 19 MiB and a twentieth of a
//! second; a flood of log-ins must not take all memory and both cores. Each thread keeps its 19 MiB
//! from its first hash on, so that all hashes together never take more than 38 MiB.
#![expect(clippy::disallowed_methods, reason = "shell: starts a thread")]

use std::sync::{Arc, Mutex, PoisonError, mpsc};

use super::password::{SALT_LENGTH, Workspace, fits, hash};
use crate::office::console::error::ConsoleError;
use crate::office::thread_priority::yield_to_receipts;
use crate::units::Secret;

/// Hashes at once.
const THREADS: usize = 2;
/// Hashes that wait; a further one is refused as busy.
const WAITING_MAX: usize = 32;

enum Job {
    Hash(Secret, [u8; SALT_LENGTH], mpsc::SyncSender<Result<String, String>>),
    Fits(Secret, String, mpsc::SyncSender<bool>),
}

/// Handle of the threads; they end with its last copy.
#[derive(Debug, Clone)]
pub struct Hashing {
    jobs: mpsc::SyncSender<Job>,
}

impl Hashing {
    /// Starts the threads.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start() -> std::io::Result<Hashing> {
        let (jobs, waiting) = mpsc::sync_channel(WAITING_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 0..THREADS {
            let waiting = Arc::clone(&waiting);
            let name = format!("console-hash-{number}");
            std::thread::Builder::new().name(name).spawn(move || {
                yield_to_receipts();
                work(&waiting);
            })?;
        }
        Ok(Hashing { jobs })
    }

    fn submit(&self, job: Job) -> Result<(), ConsoleError> {
        self.jobs.try_send(job).map_err(|_| ConsoleError::Busy)
    }

    /// Hash of a new password.
    ///
    /// # Errors
    /// `Busy` when 32 wait already.
    pub fn hash(&self, password: &Secret, salt: [u8; SALT_LENGTH]) -> Result<String, ConsoleError> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.submit(Job::Hash(password.clone(), salt, answer))?;
        let hashed = answered.recv().map_err(|_| ConsoleError::Busy)?;
        hashed.map_err(ConsoleError::Storage)
    }

    /// Whether a password has a stored hash.
    ///
    /// # Errors
    /// `Busy` when 32 wait already.
    pub fn fits(&self, password: &Secret, stored: &str) -> Result<bool, ConsoleError> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.submit(Job::Fits(password.clone(), stored.to_owned(), answer))?;
        answered.recv().map_err(|_| ConsoleError::Busy)
    }
}

fn work(waiting: &Mutex<mpsc::Receiver<Job>>) {
    let mut workspace = Workspace::default();
    loop {
        // A receiver is whole after any panic of the other thread.
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(Job::Hash(password, salt, answer)) => {
                let _ = answer.send(hash(password.reveal(), &salt, &mut workspace));
            }
            Ok(Job::Fits(password, stored, answer)) => {
                let _ = answer.send(fits(password.reveal(), &stored, &mut workspace));
            }
            Err(mpsc::RecvError) => return,
        }
    }
}

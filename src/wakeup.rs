//! ⇄ The wake-up: the thread that listens to camera and office looks at its sockets ten times a second, and takes what has come meanwhile
//! in one go. Two streams of 25 pictures a second would otherwise wake it eighty times a second, each time with cold caches: on a quiet
//! road that was most of what the agent cost (docs/motion.md).
//!
//! What belongs here: when to rest, and what ends a rest. What does not: what is done between two rests.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

/// The longest rest. A picture is seen and a command heard 50 ms later on average, and what a power cut may cost grows by as much. TCP
/// holds what comes meanwhile: 200 kB at 16 Mbit/s, and the kernel's window grows with what is taken at once.
pub const MAX_DELAY: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
struct CoalescerState {
    /// Parts that wait for answers, or would lose what nobody takes at once.
    hurried: usize,
    /// Another thread has something for this one.
    called: bool,
}

/// What the listening thread and those who may call it share; clones are the same wake-up.
#[derive(Debug, Clone, Default)]
pub struct WakeupCoalescer(Arc<(Mutex<CoalescerState>, Condvar)>);

/// While it lives, nobody rests.
#[derive(Debug)]
pub struct LowLatencyGuard(WakeupCoalescer);

impl WakeupCoalescer {
    fn lock(&self) -> MutexGuard<'_, CoalescerState> {
        // A number and a word: a panic of another thread leaves both whole.
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rests for at most `longest`: not while somebody hurries, and not after or beyond a call. For the listening thread, when it has
    /// nothing left to do.
    pub fn park(&self, longest: Duration) {
        let waits = |state: &mut CoalescerState| state.hurried == 0 && !state.called;
        let (mut state, _) = self.0.1.wait_timeout_while(self.lock(), longest, waits).unwrap_or_else(PoisonError::into_inner);
        state.called = false;
    }

    /// Ends the rest, or the next one before it begins.
    pub fn wake(&self) {
        self.lock().called = true;
        self.0.1.notify_one();
    }

    /// Nobody rests from now on until the answer is dropped.
    pub fn low_latency(&self) -> LowLatencyGuard {
        self.lock().hurried += 1;
        self.0.1.notify_one();
        LowLatencyGuard(self.clone())
    }
}

/// How another thread tells the listening one its `updates`: they are heard at once, as one kind of what the inbox takes. Waits while it
/// is full.
pub fn update_sender<N, T>(inbox: mpsc::Sender<T>, wakeup: WakeupCoalescer, kind: impl Fn(N) -> T) -> impl Fn(N) {
    move |update| {
        let _ = inbox.blocking_send(kind(update));
        wakeup.wake();
    }
}

impl Drop for LowLatencyGuard {
    fn drop(&mut self) {
        self.0.lock().hurried -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOR_EVER: Duration = Duration::from_secs(3600);

    /// True when a rest of an hour is over within ten seconds of what `during` does once it has begun.
    fn ends(wakeup: &WakeupCoalescer, during: impl FnOnce(&WakeupCoalescer)) -> bool {
        let (done, waiting) = std::sync::mpsc::channel();
        let resting = wakeup.clone();
        std::thread::spawn(move || {
            resting.park(FOR_EVER);
            let _ = done.send(());
        });
        during(wakeup);
        waiting.recv_timeout(Duration::from_secs(10)).is_ok()
    }

    #[test]
    fn a_call_ends_the_rest_and_the_one_that_has_not_begun() {
        let wakeup = WakeupCoalescer::default();
        assert!(ends(&wakeup, WakeupCoalescer::wake));
        wakeup.wake();
        wakeup.wake();
        assert!(ends(&wakeup, |_| ()));
        assert!(!wakeup.lock().called, "a call was answered and still ends rests");
    }

    #[test]
    fn nobody_rests_while_somebody_hurries() {
        let wakeup = WakeupCoalescer::default();
        let (one, other) = (wakeup.low_latency(), wakeup.low_latency());
        drop(one);
        assert!(ends(&wakeup, |_| ()));
        drop(other);
        assert_eq!(wakeup.lock().hurried, 0);
        let mut hurry = None;
        assert!(ends(&wakeup, |wakeup| hurry = Some(wakeup.low_latency())));
    }

    #[test]
    fn a_rest_that_nothing_ends_is_over_in_time() {
        let began = std::time::Instant::now();
        WakeupCoalescer::default().park(Duration::from_millis(30));
        assert!(began.elapsed() >= Duration::from_millis(30));
    }
}

//! Wake-up coalescing: the network thread polls its sockets at most ten times a second.
//!
//! It drains them in one pass. Two streams of 25 pictures a second would otherwise wake it eighty
//! times a second, each time with cold caches. On a quiet road that was most of the agent's CPU
//! time (docs/notes/2026-11-30-motion-experiments.md).

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

/// Longest park. It delays frames and commands by 50 ms on average and adds as much to the loss of
/// a power cut. TCP buffers the data meanwhile: 200 kB at 16 Mbit/s, and the kernel's window grows
/// as the data is read.
pub const MAX_DELAY: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
struct CoalescerState {
    /// Number of live [`LowLatencyGuard`]s.
    guards: usize,
    /// Another thread has called [`WakeupCoalescer::wake`] since the last park.
    woken: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<CoalescerState>,
    changed: Condvar,
}

/// Parks the network thread and wakes it; clones share one state.
#[derive(Debug, Clone, Default)]
pub struct WakeupCoalescer(Arc<Shared>);

/// Disables parking until it is dropped.
#[derive(Debug)]
pub struct LowLatencyGuard(WakeupCoalescer);

impl WakeupCoalescer {
    fn lock(&self) -> MutexGuard<'_, CoalescerState> {
        // A panic of another thread leaves both fields whole.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Parks the network thread for at most `longest`. It returns at once while a
    /// [`LowLatencyGuard`] lives, and on [`WakeupCoalescer::wake`].
    pub fn park(&self, longest: Duration) {
        let waits = |state: &mut CoalescerState| state.guards == 0 && !state.woken;
        let (mut state, _) = self
            .0
            .changed
            .wait_timeout_while(self.lock(), longest, waits)
            .unwrap_or_else(PoisonError::into_inner);
        state.woken = false;
    }

    /// Ends the current park, or the next one before it starts.
    pub fn wake(&self) {
        self.lock().woken = true;
        self.0.changed.notify_one();
    }

    /// Disables parking until the guard is dropped.
    pub fn low_latency(&self) -> LowLatencyGuard {
        self.lock().guards += 1;
        self.0.changed.notify_one();
        LowLatencyGuard(self.clone())
    }
}

/// A function that sends another thread's updates to `inbox`, each wrapped by `wrap`, and wakes the
/// network thread. It blocks while the inbox is full.
pub fn update_sender<U, T>(
    inbox: mpsc::Sender<T>,
    wakeup: WakeupCoalescer,
    wrap: impl Fn(U) -> T,
) -> impl Fn(U) {
    move |update| {
        let _ = inbox.blocking_send(wrap(update));
        wakeup.wake();
    }
}

impl Drop for LowLatencyGuard {
    fn drop(&mut self) {
        self.0.lock().guards -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// True when a park of an hour ends within ten seconds of `during`.
    fn ends(wakeup: &WakeupCoalescer, during: impl FnOnce(&WakeupCoalescer)) -> bool {
        let (done, waiting) = std::sync::mpsc::channel();
        let parked = wakeup.clone();
        std::thread::spawn(move || {
            parked.park(HOUR);
            let _ = done.send(());
        });
        during(wakeup);
        waiting.recv_timeout(Duration::from_secs(10)).is_ok()
    }

    #[test]
    fn a_wake_ends_the_current_or_the_next_park() {
        let wakeup = WakeupCoalescer::default();
        assert!(ends(&wakeup, WakeupCoalescer::wake));
        wakeup.wake();
        wakeup.wake();
        assert!(ends(&wakeup, |_| ()));
        assert!(!wakeup.lock().woken, "a wake ended more than one park");
    }

    #[test]
    fn a_low_latency_guard_prevents_and_ends_a_park() {
        let wakeup = WakeupCoalescer::default();
        let (one, other) = (wakeup.low_latency(), wakeup.low_latency());
        drop(one);
        assert!(ends(&wakeup, |_| ()));
        drop(other);
        assert_eq!(wakeup.lock().guards, 0);
        let mut guard = None;
        assert!(ends(&wakeup, |wakeup| guard = Some(wakeup.low_latency())));
    }

    #[test]
    fn a_park_lasts_its_full_time_without_a_wake() {
        let began = std::time::Instant::now();
        WakeupCoalescer::default().park(Duration::from_millis(30));
        assert!(began.elapsed() >= Duration::from_millis(30));
    }
}

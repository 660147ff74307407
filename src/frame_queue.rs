//! The frame queue: a bounded queue that passes frames and requests to a thread.
//!
//! Frames are limited by bytes, requests by count. A full queue never blocks the sender: frames are
//! dropped up to the next key frame, and a [`DroppedFrames`] takes their place.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use crate::camera::{Frame, TrackKind};
use crate::units::Timestamp;

/// Frames that were dropped because the receiver was too slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DroppedFrames {
    /// Number of dropped frames.
    pub frames: u32,
    /// Capture time of the first one.
    pub from: Timestamp,
    /// Capture time of the last one.
    pub to: Timestamp,
    /// Sum of their sizes in bytes.
    pub bytes: u64,
}

/// The next item of a frame queue.
#[derive(Debug)]
pub enum Received<R> {
    /// A request; requests overtake frames.
    Request(R),
    /// The next frame.
    Frame(Arc<Frame>),
    /// Frames were dropped before the next one.
    Dropped(DroppedFrames),
    /// Nothing arrived within the timeout.
    TimedOut,
    /// Every sender is dropped and the queue is empty.
    Closed,
}

#[derive(Debug)]
enum Slot {
    Frame(Arc<Frame>),
    Dropped(DroppedFrames),
}

#[derive(Debug)]
struct QueueState<R> {
    slots: VecDeque<Slot>,
    requests: VecDeque<R>,
    bytes: usize,
    /// True from the first frame that did not fit until a key frame that does.
    dropping: bool,
    senders: usize,
    receiver_gone: bool,
}

#[derive(Debug)]
struct Shared<R> {
    state: Mutex<QueueState<R>>,
    arrived: Condvar,
    max_bytes: usize,
    max_requests: usize,
}

impl<R> QueueState<R> {
    /// Counts a dropped frame at its place in the queue.
    fn record_drop(&mut self, frame: &Frame) {
        self.dropping = true;
        if !matches!(self.slots.back(), Some(Slot::Dropped(_))) {
            self.slots.push_back(Slot::Dropped(DroppedFrames {
                frames: 0,
                from: frame.at,
                to: frame.at,
                bytes: 0,
            }));
        }
        if let Some(Slot::Dropped(dropped)) = self.slots.back_mut() {
            dropped.frames += 1;
            dropped.to = frame.at;
            dropped.bytes += frame.data.len() as u64;
        }
    }
}

impl<R> Shared<R> {
    fn lock(&self) -> MutexGuard<'_, QueueState<R>> {
        // A panic of the other side leaves the queue whole: every change is one push or pop.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The sending end; clones share the queue.
#[derive(Debug)]
pub struct FrameSender<R>(Arc<Shared<R>>);

/// The receiving end, owned by one thread.
#[derive(Debug)]
pub struct FrameReceiver<R>(Arc<Shared<R>>);

/// A queue of at most `max_bytes` of frames and `max_requests` requests.
pub fn frame_queue<R>(max_bytes: usize, max_requests: usize) -> (FrameSender<R>, FrameReceiver<R>) {
    let state = QueueState {
        slots: VecDeque::new(),
        requests: VecDeque::new(),
        bytes: 0,
        dropping: false,
        senders: 1,
        receiver_gone: false,
    };
    let shared = Arc::new(Shared {
        state: Mutex::new(state),
        arrived: Condvar::new(),
        max_bytes,
        max_requests,
    });
    (FrameSender(shared.clone()), FrameReceiver(shared))
}

impl<R> FrameSender<R> {
    /// Offers a frame. Returns false when it was dropped: the queue is full, or was full and no key
    /// frame has arrived since.
    pub fn frame(&self, frame: &Arc<Frame>) -> bool {
        let mut state = self.0.lock();
        let resumes = frame.key && frame.kind() == TrackKind::Video;
        let fits = state.bytes + frame.data.len() <= self.0.max_bytes || state.slots.is_empty();
        let accepted = fits && (resumes || !state.dropping);
        if accepted {
            state.dropping = false;
            state.bytes += frame.data.len();
            state.slots.push_back(Slot::Frame(frame.clone()));
        } else {
            state.record_drop(frame);
        }
        drop(state);
        self.0.arrived.notify_one();
        accepted
    }

    /// Sends a request.
    ///
    /// # Errors
    /// Returns the request when the queue holds `max_requests` of them or the receiver is dropped.
    pub fn request(&self, request: R) -> Result<(), R> {
        let mut state = self.0.lock();
        if state.requests.len() >= self.0.max_requests || state.receiver_gone {
            return Err(request);
        }
        state.requests.push_back(request);
        drop(state);
        self.0.arrived.notify_one();
        Ok(())
    }
}

impl<R> Clone for FrameSender<R> {
    fn clone(&self) -> Self {
        self.0.lock().senders += 1;
        FrameSender(self.0.clone())
    }
}

impl<R> Drop for FrameSender<R> {
    fn drop(&mut self) {
        self.0.lock().senders -= 1;
        self.0.arrived.notify_one();
    }
}

impl<R> FrameReceiver<R> {
    /// Waits for the next item, at most `timeout`.
    pub fn next(&mut self, timeout: Duration) -> Received<R> {
        let state = self.0.lock();
        let idle =
            |s: &mut QueueState<R>| s.requests.is_empty() && s.slots.is_empty() && s.senders > 0;
        let waited = self.0.arrived.wait_timeout_while(state, timeout, idle);
        let (mut state, _) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(request) = state.requests.pop_front() {
            return Received::Request(request);
        }
        match state.slots.pop_front() {
            Some(Slot::Frame(frame)) => {
                state.bytes -= frame.data.len();
                Received::Frame(frame)
            }
            Some(Slot::Dropped(dropped)) => Received::Dropped(dropped),
            None if state.senders == 0 => Received::Closed,
            None => Received::TimedOut,
        }
    }
}

impl<R> Drop for FrameReceiver<R> {
    fn drop(&mut self) {
        self.0.lock().receiver_gone = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::camera::{Codec, StreamRole, TrackParams};
    use crate::units::{Digest, MonoTime};

    fn frame(mono: u64, key: bool, len: usize) -> Arc<Frame> {
        let params = Arc::new(TrackParams {
            kind: TrackKind::Video,
            codec: Codec::H264,
            timescale: 90_000,
            sample_entry: Vec::new(),
            annex_b: Vec::new(),
            size: (16, 16),
            digest: Digest::default(),
        });
        let at = Timestamp { mono: MonoTime(mono), ..Timestamp::default() };
        Arc::new(Frame {
            role: StreamRole::Main,
            params,
            data: vec![0; len].into(),
            key,
            pts: 0,
            run: 1,
            at,
            lost: 0,
        })
    }

    #[test]
    fn a_full_queue_drops_to_the_next_key_frame_and_reports_it() {
        let (sender, mut receiver) = frame_queue::<()>(100, 1);
        assert!(sender.frame(&frame(1, true, 80)));
        assert!(!sender.frame(&frame(2, false, 80)));
        assert!(
            matches!(receiver.next(Duration::ZERO), Received::Frame(f) if f.at.mono == MonoTime(1))
        );
        assert!(
            !sender.frame(&frame(3, false, 10)),
            "a delta frame after dropped frames cannot be decoded"
        );
        assert!(sender.frame(&frame(4, true, 10)));
        let Received::Dropped(dropped) = receiver.next(Duration::ZERO) else {
            panic!("the drop was not reported")
        };
        assert_eq!(
            (dropped.frames, dropped.from.mono, dropped.to.mono, dropped.bytes),
            (2, MonoTime(2), MonoTime(3), 90)
        );
        assert!(
            matches!(receiver.next(Duration::ZERO), Received::Frame(f) if f.at.mono == MonoTime(4))
        );
    }

    #[test]
    fn an_empty_queue_accepts_a_frame_of_any_size() {
        let (sender, _receiver) = frame_queue::<()>(100, 1);
        assert!(sender.frame(&frame(1, true, 5_000)));
    }

    #[test]
    fn requests_overtake_frames_and_a_full_queue_returns_them() {
        let (sender, mut receiver) = frame_queue::<u8>(100, 1);
        assert!(sender.frame(&frame(1, true, 10)));
        assert_eq!(sender.request(7), Ok(()));
        assert_eq!(sender.request(8), Err(8));
        assert!(matches!(receiver.next(Duration::ZERO), Received::Request(7)));
        assert!(matches!(receiver.next(Duration::ZERO), Received::Frame(_)));
        drop(sender);
        assert!(matches!(receiver.next(Duration::ZERO), Received::Closed));
    }
}

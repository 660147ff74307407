//! ⇄ The lane: how frames and orders reach a thread. Frames are bounded by bytes, orders by count, and a full lane never
//! blocks the sender: frames are skipped up to the next key frame and the skip itself arrives in their place.
//!
//! What belongs here: the queue and its overflow rule. What does not: what frames or orders mean.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use crate::camera::{Frame, TrackKind};
use crate::units::Timestamp;

/// Frames that did not fit: the thread behind the lane was too slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DroppedFrames {
    /// How many frames were dropped.
    pub frames: u32,
    /// The first one dropped.
    pub from: Timestamp,
    /// The last one dropped.
    pub to: Timestamp,
    /// Their bytes.
    pub bytes: u64,
}

/// What a thread takes from its lane.
#[derive(Debug)]
pub enum Received<O> {
    /// An order; orders overtake frames.
    Order(O),
    /// The next frame.
    Frame(Arc<Frame>),
    /// Frames are missing before the next one.
    Skipped(DroppedFrames),
    /// Nothing came within the time-out.
    Quiet,
    /// Every sender is gone and the lane is empty.
    Closed,
}

#[derive(Debug)]
enum Slot {
    Frame(Arc<Frame>),
    Skip(DroppedFrames),
}

#[derive(Debug)]
struct QueueState<O> {
    slots: VecDeque<Slot>,
    orders: VecDeque<O>,
    bytes: usize,
    /// Set from the first frame that did not fit until a key frame that does.
    skipping: bool,
    senders: usize,
    receiver_gone: bool,
}

#[derive(Debug)]
struct Shared<O> {
    state: Mutex<QueueState<O>>,
    arrived: Condvar,
    max_bytes: usize,
    max_orders: usize,
}

impl<O> QueueState<O> {
    /// Counts a frame that is dropped, in the place in the queue where it is missing.
    fn skip(&mut self, frame: &Frame) {
        self.skipping = true;
        if !matches!(self.slots.back(), Some(Slot::Skip(_))) {
            self.slots.push_back(Slot::Skip(DroppedFrames { frames: 0, from: frame.at, to: frame.at, bytes: 0 }));
        }
        if let Some(Slot::Skip(skip)) = self.slots.back_mut() {
            skip.frames += 1;
            skip.to = frame.at;
            skip.bytes += frame.data.len() as u64;
        }
    }
}

impl<O> Shared<O> {
    fn lock(&self) -> MutexGuard<'_, QueueState<O>> {
        // A panic of the other side while holding the lock leaves the queue whole: every change is one push or pop.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The sending end; clones share the lane.
#[derive(Debug)]
pub struct FrameSender<O>(Arc<Shared<O>>);

/// The receiving end, one thread's.
#[derive(Debug)]
pub struct FrameReceiver<O>(Arc<Shared<O>>);

/// Makes a lane that holds at most `max_bytes` of frames and `max_orders` orders.
pub fn frame_queue<O>(max_bytes: usize, max_orders: usize) -> (FrameSender<O>, FrameReceiver<O>) {
    let state = QueueState {
        slots: VecDeque::new(),
        orders: VecDeque::new(),
        bytes: 0,
        skipping: false,
        senders: 1,
        receiver_gone: false,
    };
    let shared = Arc::new(Shared { state: Mutex::new(state), arrived: Condvar::new(), max_bytes, max_orders });
    (FrameSender(shared.clone()), FrameReceiver(shared))
}

impl<O> FrameSender<O> {
    /// Offers a frame. Returns false when it was skipped: the lane is full, or was and no key frame has come since.
    pub fn frame(&self, frame: &Arc<Frame>) -> bool {
        let mut state = self.0.lock();
        let resumes = frame.key && frame.kind() == TrackKind::Video;
        let fits = state.bytes + frame.data.len() <= self.0.max_bytes || state.slots.is_empty();
        let taken = fits && (resumes || !state.skipping);
        if taken {
            state.skipping = false;
            state.bytes += frame.data.len();
            state.slots.push_back(Slot::Frame(frame.clone()));
        } else {
            state.skip(frame);
        }
        drop(state);
        self.0.arrived.notify_one();
        taken
    }

    /// Hands over an order.
    ///
    /// # Errors
    /// Gives the order back when the lane holds its full number of them or its thread is gone.
    pub fn request(&self, order: O) -> Result<(), O> {
        let mut state = self.0.lock();
        if state.orders.len() >= self.0.max_orders || state.receiver_gone {
            return Err(order);
        }
        state.orders.push_back(order);
        drop(state);
        self.0.arrived.notify_one();
        Ok(())
    }
}

impl<O> Clone for FrameSender<O> {
    fn clone(&self) -> Self {
        self.0.lock().senders += 1;
        FrameSender(self.0.clone())
    }
}

impl<O> Drop for FrameSender<O> {
    fn drop(&mut self) {
        self.0.lock().senders -= 1;
        self.0.arrived.notify_one();
    }
}

impl<O> FrameReceiver<O> {
    /// Waits for the next item, at most `timeout`.
    pub fn next(&mut self, timeout: Duration) -> Received<O> {
        let state = self.0.lock();
        let idle = |s: &mut QueueState<O>| s.orders.is_empty() && s.slots.is_empty() && s.senders > 0;
        let waited = self.0.arrived.wait_timeout_while(state, timeout, idle);
        let (mut state, _) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(order) = state.orders.pop_front() {
            return Received::Order(order);
        }
        match state.slots.pop_front() {
            Some(Slot::Frame(frame)) => {
                state.bytes -= frame.data.len();
                Received::Frame(frame)
            }
            Some(Slot::Skip(skip)) => Received::Skipped(skip),
            None if state.senders == 0 => Received::Closed,
            None => Received::Quiet,
        }
    }
}

impl<O> Drop for FrameReceiver<O> {
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
        Arc::new(Frame { role: StreamRole::Main, params, data: vec![0; len].into(), key, pts: 0, run: 1, at, lost: 0 })
    }

    #[test]
    fn a_full_lane_skips_to_the_next_key_frame_and_says_so_in_place() {
        let (sender, mut receiver) = frame_queue::<()>(100, 1);
        assert!(sender.frame(&frame(1, true, 80)));
        assert!(!sender.frame(&frame(2, false, 80)));
        assert!(matches!(receiver.next(Duration::ZERO), Received::Frame(f) if f.at.mono == MonoTime(1)));
        assert!(!sender.frame(&frame(3, false, 10)), "a delta frame after a hole cannot be decoded");
        assert!(sender.frame(&frame(4, true, 10)));
        let Received::Skipped(skip) = receiver.next(Duration::ZERO) else { panic!("the skip was lost") };
        assert_eq!((skip.frames, skip.from.mono, skip.to.mono, skip.bytes), (2, MonoTime(2), MonoTime(3), 90));
        assert!(matches!(receiver.next(Duration::ZERO), Received::Frame(f) if f.at.mono == MonoTime(4)));
    }

    #[test]
    fn a_frame_larger_than_the_lane_still_passes_when_it_is_empty() {
        let (sender, _receiver) = frame_queue::<()>(100, 1);
        assert!(sender.frame(&frame(1, true, 5_000)));
    }

    #[test]
    fn orders_overtake_frames_and_a_full_lane_gives_them_back() {
        let (sender, mut receiver) = frame_queue::<u8>(100, 1);
        assert!(sender.frame(&frame(1, true, 10)));
        assert_eq!(sender.request(7), Ok(()));
        assert_eq!(sender.request(8), Err(8));
        assert!(matches!(receiver.next(Duration::ZERO), Received::Order(7)));
        assert!(matches!(receiver.next(Duration::ZERO), Received::Frame(_)));
        drop(sender);
        assert!(matches!(receiver.next(Duration::ZERO), Received::Closed));
    }
}

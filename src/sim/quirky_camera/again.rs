//! Packets that the quirky camera sends once more.

use std::collections::VecDeque;
use std::ops::Range;

use super::QuirkyCamera;
use super::quirks::CameraQuirk::*;
use crate::units::MonoTime;

/// Packets that are remembered: a GOP with key frames of 700 KB.
const SENT_MAX: usize = 2_000;

/// A packet that went out.
#[derive(Debug, Clone)]
struct Sent {
    is_sound: bool,
    /// Its picture's place in the session.
    picture: u64,
    bytes: Vec<u8>,
}

/// The latest packets of a session.
#[derive(Debug, Default)]
pub(super) struct Again {
    latest: VecDeque<Sent>,
    count: u64,
}

impl Again {
    /// A packet went out: repeats it or those before it, as the quirks want.
    pub(super) fn sent(
        &mut self,
        camera: &mut QuirkyCamera,
        is_sound: bool,
        picture: u64,
        bytes: Vec<u8>,
        now: MonoTime,
    ) {
        self.count += 1;
        if camera.has(PacketsTwice)
            || camera.has(UdpEachTwice)
            || camera.has(UdpTwice) && self.count.is_multiple_of(5)
        {
            camera.send_packet(is_sound, false, &bytes, now);
        }
        if camera.has(UdpCopyLate) && self.count.is_multiple_of(10) {
            camera.send_packet(is_sound, false, &bytes, now.plus_micros(250_000));
        }
        self.latest.push_back(Sent { is_sound, picture, bytes });
        if self.latest.len() > SENT_MAX {
            self.latest.pop_front();
        }
        let last = camera.has(PacketsLastAgain) || camera.has(UdpLastAgain);
        if last && self.count.is_multiple_of(60) {
            let from = self.latest.len().saturating_sub(20);
            for sent in self.latest.range(from..) {
                camera.send_packet(sent.is_sound, false, &sent.bytes, now);
            }
        }
        let before = self.latest.len().checked_sub(8).and_then(|at| self.latest.get(at));
        if let Some(sent) = before.filter(|_| camera.has(PacketsThrice)) {
            for _ in 0..2 {
                camera.send_packet(sent.is_sound, false, &sent.bytes, now);
            }
        }
    }

    /// Sends pictures again.
    pub(super) fn pictures(&self, camera: &mut QuirkyCamera, pictures: Range<u64>, now: MonoTime) {
        for sent in self.latest.iter().filter(|sent| !sent.is_sound) {
            if pictures.contains(&sent.picture) {
                camera.send_packet(false, false, &sent.bytes, now);
            }
        }
    }
}

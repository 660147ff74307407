//! Media of a session of the quirky camera: what is filmed when, and its time stamps.

use super::again::Again;
use super::footage::{Picture, Shape, Sound, sets, slices, sound_frame};
use super::packets::{self, Head, Payload, bye, rtp, sender_report};
use super::quirks::CameraQuirk::{self, *};
use super::{QuirkyCamera, SoundFrame, WALL};
use crate::units::MonoTime;

/// Time from the capture of a picture to its first packet, microseconds.
const ENCODING: u64 = 40_000;
/// Largest further delay of the network, microseconds.
const JITTER: u64 = 15_000;
/// Time between Sender Reports, microseconds.
const REPORTS: u64 = 5_000_000;
/// Picture of a session at which something happens once.
const MID: u64 = 125;

/// Seconds of a stall in the middle of a session.
const STALL: u64 = 3;
/// Distance of another payload type for video: that of no sound.
const OTHER_TYPE: u8 = 3;

/// A session that plays.
#[derive(Debug)]
pub(super) struct Film {
    pub(super) since: MonoTime,
    /// The next picture of the session.
    at: u64,
    pub(super) seq: u16,
    /// The next sound frame of the session.
    sound_at: u64,
    pub(super) sound_seq: u16,
    /// The latest picture went out at this time.
    sent_at: MonoTime,
    next_report: MonoTime,
    packets: u64,
    bye_sent: bool,
    /// Over UDP: a packet that its neighbour overtakes.
    held: Vec<(bool, Vec<u8>)>,
    held_since: MonoTime,
    payload_type_shift: u8,
    /// Pictures of the session before, with which this one begins.
    repeated: u64,
    again: Again,
}

impl Film {
    /// A session whose media begins at `since`.
    pub(super) fn new(camera: &mut QuirkyCamera, since: MonoTime) -> Film {
        let seq = match () {
            () if camera.has(SeqWrap) => 65_400,
            () if camera.has(SeqBackMid) => 20_000,
            () => 1000 + camera.rng.below(1000) as u16,
        };
        let repeated = camera.latest_gop();
        let back = if camera.has(PreBuffer) { 5_000_000 } else { 0 };
        let back = back + repeated * camera.picture_micros();
        Film {
            since: MonoTime(since.0 - back),
            at: 0,
            seq,
            sound_at: 0,
            sound_seq: 10,
            sent_at: since,
            next_report: since.plus_micros(1000),
            packets: 0,
            bye_sent: false,
            held: Vec::new(),
            held_since: since,
            repeated,
            again: Again::default(),
            payload_type_shift: if camera.has(PayloadTypeOther) { OTHER_TYPE } else { 0 },
        }
    }

    /// Place of picture `at` in the order of display.
    fn shown(&self, camera: &QuirkyCamera, at: u64) -> u64 {
        let in_gop = at % camera.footage.gop;
        match in_gop {
            _ if !camera.has(StampsReordered) || in_gop == 0 => at,
            odd if odd % 2 == 1 && odd + 1 < camera.footage.gop => at + 1,
            even if even % 2 == 0 => at - 1,
            _ => at,
        }
    }

    /// When picture `at` is captured.
    fn captured(&self, camera: &QuirkyCamera, at: u64) -> MonoTime {
        self.since.plus_micros(self.shown(camera, at) * camera.picture_micros())
    }

    /// When picture `at` goes out.
    fn due(&self, camera: &QuirkyCamera, at: u64) -> MonoTime {
        let jitter = super::super::rng::mix(camera.seed ^ at) % JITTER;
        let stalled = camera.has(GopAgain) || camera.has(UdpGopAgain);
        let until = MID + STALL * camera.footage.fps;
        let out = if stalled && (MID..until).contains(&at) { until } else { at };
        self.captured(camera, out).plus_micros(ENCODING + jitter).max(self.sent_at)
    }

    /// Time between two sound frames, microseconds.
    fn sound_micros(&self, camera: &QuirkyCamera) -> u64 {
        let sound = camera.footage.sound;
        let micros = sound.samples() * 1_000_000 / sound.rate();
        match () {
            () if camera.has(SoundRunaway) => micros * 100 / 105,
            () if camera.has(SoundSlow) => micros * 100 / 95,
            () if camera.has(SoundDrift) => micros * 100 / 99,
            () => micros,
        }
    }

    /// Time from the start of the session to that of its sound, microseconds.
    fn sound_late(&self, camera: &QuirkyCamera) -> u64 {
        let late = if camera.has(SoundLate) { 5_000_000 } else { 0 };
        late + self.repeated * camera.picture_micros()
    }

    fn sound_captured(&self, camera: &QuirkyCamera, at: u64) -> MonoTime {
        self.since.plus_micros(self.sound_late(camera) + at * self.sound_micros(camera))
    }

    fn sound_due(&self, camera: &QuirkyCamera) -> Option<MonoTime> {
        let wanted = camera.connection.as_ref()?.tracks.iter().any(|track| track.is_sound);
        let pair = u64::from(camera.has(SoundAacPairs));
        let captured = self.sound_captured(camera, self.sound_at + pair);
        let ended = camera.has(SoundStops) && captured.since(self.since) > 10_000_000;
        if !wanted || ended || camera.footage.sound == Sound::None {
            return None;
        }
        let due = captured.plus_micros(ENCODING);
        let bursts = if camera.has(SoundBursts) { 1_000_000 } else { 1 };
        Some(MonoTime(due.0.div_ceil(bursts) * bursts).max(self.since))
    }

    /// When something is to be sent next.
    pub(super) fn next(&self, camera: &QuirkyCamera) -> MonoTime {
        let video = self.due(camera, self.at);
        [Some(video), self.sound_due(camera), Some(self.next_report)]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(video)
    }

    /// The stamp of picture `at`.
    fn stamp(&self, camera: &QuirkyCamera, at: u64) -> u32 {
        let fps = camera.footage.fps;
        let place = self.shown(camera, at);
        let ticks = place * 90_000 / fps;
        let seconds = place / fps;
        let base = u64::from(camera.stamp_base());
        let mut rng = super::super::rng::Rng::new(camera.seed ^ at ^ 0x57a);
        let after = |step: i64| if at >= MID { step } else { 0 };
        let ticks = match () {
            () if camera.has(StampsFast) => ticks * 4 / 5,
            () if camera.has(StampsSlow) => ticks * 5 / 4,
            () if camera.has(StampsDrift) => ticks * 1001 / 1000,
            () if camera.has(StampsThirtySlow) => ticks * 7 / 10,
            () if camera.has(StampsFrozen) => 0,
            () if camera.has(StampsFrozenAWhile) => {
                if (MID..MID + 8 * fps).contains(&at) {
                    MID * 90_000 / fps
                } else {
                    ticks
                }
            }
            () if camera.has(StampsJumpBack3s) => ticks.wrapping_add_signed(after(-270_000)),
            () if camera.has(StampsJumpOn3s) => ticks.wrapping_add_signed(after(270_000)),
            () if camera.has(StampsJumpOn10h) => ticks.wrapping_add_signed(after(36_000 * 90_000)),
            () if camera.has(StampsBack9800s) => ticks.wrapping_add_signed(after(-9_800 * 90_000)),
            () if camera.has(StampsOutlier) && at % 90 == 45 => ticks + 36_000 * 90_000,
            () if camera.has(StampsPairs) => (place & !1) * 90_000 / fps,
            () if camera.has(StampsBackEachGop)
                && at.is_multiple_of(camera.footage.gop)
                && at > 0 =>
            {
                ticks - 18_000
            }
            () if camera.has(StampsReset) => {
                let from = if at >= MID { MID * 90_000 / fps + base } else { 0 };
                ticks.wrapping_sub(from)
            }
            () if camera.has(StampsMillis) => place * 1000 / fps,
            () if camera.has(StampsSeconds) => seconds * 90_000,
            () if camera.has(StampsJitter) => (ticks + rng.below(3600)).wrapping_sub(1800),
            () if camera.has(StampsRandom) => rng.bits(),
            () => ticks,
        };
        base.wrapping_add(ticks) as u32
    }

    fn sound_stamp(&self, camera: &QuirkyCamera, at: u64) -> u32 {
        let sound = camera.footage.sound;
        let late = self.sound_late(camera) * sound.rate() / 1_000_000;
        let ticks = late + at * sound.samples();
        let ticks = match () {
            () if camera.has(SoundFrozen) => 0,
            () if camera.has(SoundJumpBack) && at > 400 => ticks.wrapping_sub(3 * sound.rate()),
            () if camera.has(SoundNinetyKilohertz) => at * sound.samples() * 90_000 / sound.rate(),
            () => ticks,
        };
        1_000_000_u64.wrapping_add(ticks) as u32
    }

    /// The stamps of the next picture and sound frame.
    pub(super) fn first_stamps(&self, camera: &QuirkyCamera) -> [u32; 2] {
        [self.stamp(camera, self.at), self.sound_stamp(camera, self.sound_at)]
    }

    /// Sends what is due at `now`.
    pub(super) fn run(&mut self, camera: &mut QuirkyCamera, now: MonoTime) {
        if self.next_report <= now {
            self.report(camera, now);
        }
        if self.sound_due(camera).is_some_and(|due| due <= now) {
            self.send_sound(camera, now);
        }
        if self.due(camera, self.at) <= now {
            self.send_picture(camera, now);
        }
    }

    fn send_picture(&mut self, camera: &mut QuirkyCamera, now: MonoTime) {
        self.sent_at = now;
        let (at, number) = (self.at, camera.pictures.len() as u64);
        let key = at.is_multiple_of(camera.footage.gop);
        let seconds = at / camera.footage.fps;
        let shape = Shape {
            slices: if camera.has(MultiSlice) { 4 } else { 1 },
            key_bytes: if camera.has(BigKeyFrame) { 700_000 } else { 3_000 },
            not_idr: camera.has(RecoveryPoint) || camera.has(NoKeyFrames),
            sets: if camera.has(SetsChange) { (seconds / 2 % 2) as usize } else { 0 },
        };
        let video = camera.footage.video;
        let known = (at < self.repeated).then(|| number - self.repeated + at);
        let number = known.unwrap_or(number);
        let mut picture = Picture {
            key,
            captured: self.captured(camera, at),
            slices: slices(video, number, key, camera.seed, shape),
            session: camera.sessions,
            damaged: false,
        };
        let quirks = camera.quirks.clone();
        let has = |quirk: CameraQuirk| quirks.contains(&quirk);
        let payloads = packets::picture(has, video, &picture, &sets(video, shape.sets), at);
        let stamp = self.stamp(camera, at);
        if at == MID {
            if camera.has(SeqBackMid) {
                self.seq = 5;
            }
            if camera.has(SeqOnMid) {
                self.seq = self.seq.wrapping_add(20_000);
            }
            if camera.has(PayloadTypeChanges) {
                self.payload_type_shift = OTHER_TYPE;
            }
            if camera.has(GopAgain) || camera.has(UdpGopAgain) {
                let begin = (at - 1) / camera.footage.gop * camera.footage.gop;
                self.again.pictures(camera, begin..at, now);
            }
        }
        for payload in &payloads {
            picture.damaged |= !self.send(camera, false, stamp, payload, now);
        }
        if camera.has(ByeMidStream) && at == MID {
            camera.send_packet(false, true, &bye(camera.ssrc(false)), now);
        }
        if camera.has(PictureAgain) || camera.has(UdpPictureAgain) {
            self.again.pictures(camera, at..at + 1, now);
        }
        if known.is_none() {
            camera.pictures.push(picture);
        }
        self.at += 1;
    }

    fn send_sound(&mut self, camera: &mut QuirkyCamera, now: MonoTime) {
        let frames: u64 = if camera.has(SoundAacPairs) { 2 } else { 1 };
        let sound = camera.footage.sound;
        let numbers = camera.sounds.len() as u64..camera.sounds.len() as u64 + frames;
        let bytes: Vec<Vec<u8>> =
            numbers.map(|number| sound_frame(sound, number, camera.seed)).collect();
        let quirks = camera.quirks.clone();
        let payloads = packets::sound(|quirk| quirks.contains(&quirk), sound, &bytes);
        let stamp = self.sound_stamp(camera, self.sound_at);
        let mut damaged = false;
        for payload in &payloads {
            damaged |= !self.send(camera, true, stamp, payload, now);
        }
        for (i, bytes) in bytes.into_iter().enumerate() {
            camera.sounds.push(SoundFrame {
                bytes,
                captured: self.sound_captured(camera, self.sound_at + i as u64),
                damaged,
            });
        }
        self.sound_at += frames;
    }

    /// Sends one packet; false when it is left out.
    fn send(
        &mut self,
        camera: &mut QuirkyCamera,
        is_sound: bool,
        stamp: u32,
        payload: &Payload,
        now: MonoTime,
    ) -> bool {
        let quirks = camera.quirks.clone();
        let has = |quirk: CameraQuirk| quirks.contains(&quirk);
        let own = if is_sound { &mut self.sound_seq } else { &mut self.seq };
        let seq = match () {
            () if has(SeqConstant) => 0,
            () if has(SeqRandom) => camera.rng.bits() as u16,
            () => *own,
        };
        *own = own.wrapping_add(1);
        let ssrc = match () {
            () if has(SsrcEachPacket) => camera.rng.bits() as u32,
            () if has(SsrcChangesMid) && self.at >= MID => camera.ssrc(is_sound) ^ 0xff,
            () => camera.ssrc(is_sound),
        };
        let payload_type = match is_sound {
            true => camera.footage.sound.payload_type(),
            false => 96 + self.payload_type_shift,
        };
        let bytes = rtp(has, Head { seq, stamp, ssrc, payload_type }, payload);
        self.packets += 1;
        let number = self.packets;
        if has(PacketsMissing) && number % 150 == 149 || has(UdpLoss) && number % 200 == 150 {
            return false;
        }
        if has(TinyPackets) && number.is_multiple_of(50) {
            camera.send_packet(is_sound, false, &[0x80, 96, 0], now);
            camera.send_packet(is_sound, true, &[0x80, 200, 0, 6, 1], now);
        }
        if has(UdpShuffled) {
            self.shuffle(camera, (is_sound, bytes), now);
            return true;
        }
        let holds = has(UdpReorder) && number.is_multiple_of(7) && self.held.is_empty()
            || has(UdpReorderBack) && !number.is_multiple_of(8);
        if holds {
            self.held.push((is_sound, bytes));
            return true;
        }
        let late = match () {
            () if has(UdpLate) && number.is_multiple_of(100) => 60_000,
            () if has(UdpReorderFar) => camera.rng.below(80_000),
            () => 0,
        };
        camera.send_packet(is_sound, false, &bytes, now.plus_micros(late));
        while let Some((is_sound, bytes)) = self.held.pop() {
            camera.send_packet(is_sound, false, &bytes, now);
        }
        self.again.sent(camera, is_sound, self.at, bytes, now);
        true
    }

    /// Holds packets for 80 ms and up to 60 of them, and sends them in any order.
    fn shuffle(&mut self, camera: &mut QuirkyCamera, packet: (bool, Vec<u8>), now: MonoTime) {
        if self.held.len() >= 60 || now.since(self.held_since) > 80_000 {
            while !self.held.is_empty() {
                let at = camera.rng.below(self.held.len() as u64) as usize;
                let (is_sound, bytes) = self.held.swap_remove(at);
                camera.send_packet(is_sound, false, &bytes, now);
            }
        }
        if self.held.is_empty() {
            self.held_since = now;
        }
        self.held.push(packet);
    }

    fn report(&mut self, camera: &mut QuirkyCamera, now: MonoTime) {
        self.next_report = now.plus_micros(REPORTS);
        if camera.has(NoReports) {
            return;
        }
        let hour = if now.since(self.since) > 12_000_000 { 3_600_000_000 } else { 0 };
        let wall = match () {
            () if camera.has(SenderReports1970) => now.0 as i64,
            () if camera.has(SenderReportsHour) => WALL + now.0 as i64 + hour,
            () => WALL + now.0 as i64,
        };
        let place = now.since(self.since) / camera.picture_micros();
        let reports = [
            (false, self.stamp(camera, place)),
            (true, self.sound_stamp(camera, now.since(self.since) / self.sound_micros(camera))),
        ];
        for (is_sound, stamp) in reports {
            let bytes = sender_report(camera.ssrc(is_sound), stamp, wall);
            camera.send_packet(is_sound, !camera.has(RtcpOnDataChannel), &bytes, now);
        }
        if camera.has(StrayChannel) {
            let frame = packets::interleaved(200, b"$ not ours RTSP/1.0 200 OK\r\n\r\n");
            camera.send_later(frame, now);
        }
        if camera.has(CameraAsks) {
            camera.ask_client(now);
        }
    }

    /// Sends BYE, once.
    pub(super) fn say_bye(&mut self, camera: &mut QuirkyCamera, now: MonoTime) {
        if !std::mem::replace(&mut self.bye_sent, true) {
            camera.send_packet(false, true, &bye(camera.ssrc(false)), now);
        }
    }
}

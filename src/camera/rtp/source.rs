//! RTP source: which packets belong to the track, and in which order.
//!
//! SSRC, sequence numbers and payload type are judged by what comes. What deviates is held back
//! until it either keeps coming, and is then passed on without loss, or is contradicted by a packet
//! of the known source, and is then dropped.

use std::collections::VecDeque;

use super::header::Header;
use super::held::{Held, hold, recycle};
use super::limits::{
    BEGIN_MIN, BEGIN_TIME, CHALLENGERS_TCP, CHALLENGERS_UDP, JUMP_MIN, NOISE_MIN, PACKET_MAX,
    REORDER_MAX, REORDER_TIME, RESTART_RUN, SILENCE, TYPES_RUN,
};
use super::repeats::{Known, Repeats};
use crate::camera::TrackKind;
use crate::camera::quirk::{Quirk, QuirkCounts};
use crate::settings::Transport;
use crate::units::MonoTime;

/// A packet in its order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ordered<'a> {
    /// Its payload.
    pub(super) payload: &'a [u8],
    /// Its time stamp.
    pub(super) time: u32,
    /// Its marker bit.
    pub(super) marker: bool,
    /// When it arrived.
    pub(super) arrival: MonoTime,
    /// Packets lost directly before it.
    pub(super) lost: u32,
    /// The sequence numbers jump here, and nothing says that packets were lost.
    pub(super) jumped: bool,
}

/// Judges the packets of one track.
pub(super) struct Source {
    kind: TrackKind,
    transport: Transport,
    pub(super) quirks: QuirkCounts,
    /// The SSRC of the track.
    ssrc: Option<u32>,
    /// The arrival of its latest packet.
    latest: MonoTime,
    /// The camera's SSRC changes with each packet: it is ignored. Over TCP only.
    ssrc_noise: bool,
    /// Packets of another SSRC since the latest packet of the track.
    challengers: Vec<Held>,
    /// The next expected sequence number.
    next: Option<u16>,
    /// The track follows another source with its next packet.
    switched: bool,
    /// Which of the latest 128 packets had an unexpected sequence number: of sound over TCP, and
    /// of any track over UDP.
    jumps: u128,
    /// Sequence numbers say nothing: they are ignored.
    seq_noise: bool,
    /// The first packets of the source, until its sequence numbers are judged. UDP only.
    begin: Vec<Held>,
    /// They were judged.
    begun: bool,
    /// The sequence number that came last. UDP only.
    last_seq: Option<u16>,
    /// Packets ahead of `next`, in their order. UDP only.
    ahead: VecDeque<Held>,
    /// Packets far from `next`, which begin another sequence if they go on. UDP only.
    restart: Vec<Held>,
    /// The payload type of the track.
    payload_type: u8,
    /// Packets of other payload types since the latest packet of the track's type.
    types: Vec<Held>,
    /// The latest packets, to know repetitions.
    repeats: Repeats,
    /// Buffers to be used again.
    pool: Vec<Vec<u8>>,
}

/// Receives the packets in their order.
pub(super) trait Sink {
    /// The next packet of the track.
    fn ordered(&mut self, packet: Ordered<'_>);
    /// A packet that cannot be read.
    fn bad(&mut self, why: &str);
}

impl Source {
    pub(super) fn new(kind: TrackKind, payload_type: u8, transport: Transport) -> Source {
        Source {
            kind,
            transport,
            quirks: QuirkCounts::default(),
            ssrc: None,
            latest: MonoTime(0),
            ssrc_noise: false,
            challengers: Vec::new(),
            next: None,
            switched: false,
            jumps: 0,
            seq_noise: false,
            begin: Vec::new(),
            begun: false,
            last_seq: None,
            ahead: VecDeque::new(),
            restart: Vec::new(),
            payload_type,
            types: Vec::new(),
            repeats: Repeats::default(),
            pool: Vec::new(),
        }
    }

    /// One packet as it came from the network.
    pub(super) fn packet(&mut self, bytes: &[u8], arrival: MonoTime, sink: &mut impl Sink) {
        if bytes.len() > PACKET_MAX {
            return sink.bad("RTP packet over 65,535 bytes");
        }
        let header = match Header::parse(bytes) {
            Ok(header) => header,
            Err(why) => return sink.bad(why),
        };
        if (72..=76).contains(&header.payload_type) {
            self.quirks.note(Quirk::RtcpAmongRtp);
            return;
        }
        if header.bad_padding {
            self.quirks.note(Quirk::Padding);
        }
        if self.is_foreign(&header) {
            self.challenge(bytes, &header, arrival, sink);
        } else {
            self.clear_challengers();
            self.accept(bytes, &header, arrival, sink);
        }
        self.release_old(arrival, sink);
    }

    /// Passes on what waited too long for the packets before it.
    pub(super) fn release_old(&mut self, now: MonoTime, sink: &mut impl Sink) {
        if self.begin.first().is_some_and(|held| now.since(held.arrival) >= BEGIN_TIME) {
            self.judge_begin(sink);
        }
        while self.ahead.front().is_some_and(|held| now.since(held.arrival) >= REORDER_TIME) {
            self.release_first(sink);
        }
    }

    /// Passes on all that is held back in order.
    pub(super) fn finish(&mut self, sink: &mut impl Sink) {
        self.judge_begin(sink);
        while !self.ahead.is_empty() {
            self.release_first(sink);
        }
    }

    fn is_foreign(&self, header: &Header) -> bool {
        !self.ssrc_noise && self.ssrc.is_some_and(|ssrc| ssrc != header.ssrc)
    }

    fn clear_challengers(&mut self) {
        for held in self.challengers.drain(..) {
            self.quirks.note(Quirk::ForeignSsrc);
            recycle(&mut self.pool, held.bytes);
        }
    }

    /// True for a number just behind the latest one: other SSRCs that count on are one source.
    fn runs_on(&self, seq: u16) -> bool {
        let last = self.challengers.last().map(|held| held.seq).or(self.last_seq);
        last.is_some_and(|last| seq.wrapping_sub(last) < REORDER_MAX as u16)
    }

    /// A packet of another SSRC: the track follows when it keeps coming.
    fn challenge(
        &mut self,
        bytes: &[u8],
        header: &Header,
        arrival: MonoTime,
        sink: &mut impl Sink,
    ) {
        let one = |held: &Held| held.ssrc == header.ssrc;
        let tcp = self.transport == Transport::Tcp;
        if !tcp && !self.challengers.iter().all(one) && !self.runs_on(header.seq) {
            self.clear_challengers();
        }
        let held = hold(&mut self.pool, bytes, header, arrival);
        self.challengers.push(held);
        let enough = if tcp { CHALLENGERS_TCP } else { CHALLENGERS_UDP };
        let silent = arrival.since(self.latest) >= SILENCE && self.challengers.len() > 1;
        if self.challengers.len() < enough && !silent {
            return;
        }
        self.quirks.note(Quirk::SsrcChange);
        self.ssrc_noise = !self.challengers.iter().all(one);
        if tcp || !self.ssrc_noise {
            self.finish(sink);
            self.clear_restart();
            (self.next, self.switched) = (None, true);
        }
        if !tcp && !self.ssrc_noise {
            (self.begun, self.last_seq, self.seq_noise, self.jumps) = (false, None, false, 0);
        }
        self.ssrc = Some(header.ssrc);
        for held in std::mem::take(&mut self.challengers) {
            if let Ok(header) = Header::parse(&held.bytes) {
                self.accept(&held.bytes, &header, held.arrival, sink);
            }
            recycle(&mut self.pool, held.bytes);
        }
    }

    /// A packet of the track's SSRC.
    fn accept(&mut self, bytes: &[u8], header: &Header, arrival: MonoTime, sink: &mut impl Sink) {
        self.ssrc.get_or_insert(header.ssrc);
        self.latest = arrival;
        let known = self.repeats.compare(header, &bytes[header.payload.clone()]);
        if known == Known::Repeated {
            self.quirks.note(match self.transport {
                Transport::Tcp => Quirk::RepeatedPackets,
                Transport::Udp => Quirk::LatePackets,
            });
            return;
        }
        match self.transport {
            Transport::Tcp => {
                let (lost, jumped) = self.judge_tcp(header.seq);
                self.typed(bytes, header, arrival, (lost, jumped), sink);
            }
            Transport::Udp => {
                let odd = self.is_odd_step(header.seq) || known == Known::NumberReused;
                self.jumps = self.jumps << 1 | u128::from(odd);
                if !self.begun {
                    let held = hold(&mut self.pool, bytes, header, arrival);
                    self.begin.push(held);
                    if self.begin.len() >= BEGIN_MIN {
                        self.judge_begin(sink);
                    }
                    return;
                }
                if !self.seq_noise && self.jumps.count_ones() >= NOISE_MIN {
                    self.ignore_numbers(sink);
                }
                self.accept_udp(bytes, header, arrival, sink);
            }
        }
    }

    /// Whether a sequence number is far from the one that came before it.
    fn is_odd_step(&mut self, seq: u16) -> bool {
        let last = self.last_seq.replace(seq);
        last.is_some_and(|last| (seq.wrapping_sub(last) as i16).unsigned_abs() >= JUMP_MIN)
    }

    /// Judges the sequence numbers of the first packets, and takes these. Numbers that mostly jump
    /// or repeat are ignored: the order of arrival is the only one, and loss cannot be seen.
    fn judge_begin(&mut self, sink: &mut impl Sink) {
        if self.begin.is_empty() {
            return;
        }
        self.begun = true;
        if self.jumps.count_ones() as usize * 2 > self.begin.len() {
            self.quirks.note(Quirk::SequenceNoise);
            self.seq_noise = true;
        }
        for held in std::mem::take(&mut self.begin) {
            if let Ok(header) = Header::parse(&held.bytes) {
                self.accept_udp(&held.bytes, &header, held.arrival, sink);
            }
            recycle(&mut self.pool, held.bytes);
        }
    }

    /// Sequence numbers that began well say nothing any more. What was left out until this was seen
    /// is counted as one packet.
    fn ignore_numbers(&mut self, sink: &mut impl Sink) {
        self.quirks.note(Quirk::SequenceNoise);
        self.finish(sink);
        self.seq_noise = true;
        (self.next, self.switched) = (None, true);
        for held in std::mem::take(&mut self.restart) {
            self.emit(held, 0, sink);
        }
    }

    /// Lost packets before this one, and whether the sequence jumps. TCP itself loses nothing.
    fn judge_tcp(&mut self, seq: u16) -> (u32, bool) {
        let ahead = self.next.map_or(0, |next| seq.wrapping_sub(next));
        let first = self.next.is_none();
        self.next = Some(seq.wrapping_add(1));
        if self.seq_noise || first {
            return (0, false);
        }
        self.jumps = self.jumps << 1 | u128::from(ahead != 0);
        if ahead == 0 {
            return (0, false);
        }
        self.quirks.note(Quirk::SequenceJump);
        // For video the pictures decide.
        if self.kind == TrackKind::Audio && self.jumps.count_ones() >= NOISE_MIN {
            self.quirks.note(Quirk::SequenceNoise);
            self.seq_noise = true;
            return (0, false);
        }
        if ahead < JUMP_MIN { (u32::from(ahead), false) } else { (0, true) }
    }

    fn accept_udp(
        &mut self,
        bytes: &[u8],
        header: &Header,
        arrival: MonoTime,
        sink: &mut impl Sink,
    ) {
        if self.seq_noise {
            return self.typed(bytes, header, arrival, (0, false), sink);
        }
        let Some(next) = self.next else {
            // The first packets of a session may come in another order, too.
            let far =
                |held: &Held| (header.seq.wrapping_sub(held.seq) as i16).unsigned_abs() >= JUMP_MIN;
            if self.ahead.front().is_some_and(far) {
                self.finish(sink);
                return self.probe_restart(bytes, header, arrival, sink);
            }
            self.insert(bytes, header, arrival);
            if self.ahead.len() >= REORDER_MAX {
                self.release_first(sink);
            }
            return;
        };
        let ahead = header.seq.wrapping_sub(next);
        if ahead == 0 {
            self.clear_restart();
            self.next = Some(next.wrapping_add(1));
            self.typed(bytes, header, arrival, (0, false), sink);
            self.release_ready(sink);
        } else if ahead < JUMP_MIN {
            self.clear_restart();
            self.insert(bytes, header, arrival);
            if self.ahead.len() > REORDER_MAX {
                self.release_first(sink);
            }
        } else {
            self.probe_restart(bytes, header, arrival, sink);
        }
    }

    /// Puts a packet into its place among those that are ahead. A duplicate is dropped.
    fn insert(&mut self, bytes: &[u8], header: &Header, arrival: MonoTime) {
        let base = self.next.or(self.ahead.front().map(|held| held.seq)).unwrap_or(header.seq);
        let place = |seq: u16| seq.wrapping_sub(base) as i16;
        let at = self.ahead.partition_point(|held| place(held.seq) < place(header.seq));
        if self.ahead.get(at).is_some_and(|held| held.seq == header.seq) {
            self.quirks.note(Quirk::LatePackets);
            return;
        }
        if at < self.ahead.len() {
            self.quirks.note(Quirk::Reordered);
        }
        let held = hold(&mut self.pool, bytes, header, arrival);
        self.ahead.insert(at, held);
    }

    /// Takes the first held packet, and counts those before it as lost.
    fn release_first(&mut self, sink: &mut impl Sink) {
        let Some(first) = self.ahead.pop_front() else { return };
        let lost = self.next.map_or(0, |next| u32::from(first.seq.wrapping_sub(next)));
        self.next = Some(first.seq.wrapping_add(1));
        self.emit(first, lost, sink);
        self.release_ready(sink);
    }

    fn release_ready(&mut self, sink: &mut impl Sink) {
        while let Some(first) = self.ahead.pop_front() {
            if Some(first.seq) != self.next {
                self.ahead.push_front(first);
                return;
            }
            self.quirks.note(Quirk::Reordered);
            self.next = Some(first.seq.wrapping_add(1));
            self.emit(first, 0, sink);
        }
    }

    fn emit(&mut self, held: Held, lost: u32, sink: &mut impl Sink) {
        if let Ok(header) = Header::parse(&held.bytes) {
            self.typed(&held.bytes, &header, held.arrival, (lost, false), sink);
        }
        recycle(&mut self.pool, held.bytes);
    }

    /// A packet far from the expected one: late, a duplicate, or the first of another sequence.
    fn probe_restart(
        &mut self,
        bytes: &[u8],
        header: &Header,
        arrival: MonoTime,
        sink: &mut impl Sink,
    ) {
        let near = |held: &Held| {
            (header.seq.wrapping_sub(held.seq) as i16).unsigned_abs() < REORDER_MAX as u16
        };
        if !self.restart.iter().all(near) {
            self.clear_restart();
        }
        if self.restart.iter().any(|held| held.seq == header.seq) {
            self.quirks.note(Quirk::LatePackets);
            return;
        }
        let held = hold(&mut self.pool, bytes, header, arrival);
        self.restart.push(held);
        if self.restart.len() < RESTART_RUN {
            return;
        }
        self.quirks.note(Quirk::SequenceJump);
        self.finish(sink);
        let mut again = std::mem::take(&mut self.restart);
        let base = again[0].seq;
        again.sort_by_key(|held| held.seq.wrapping_sub(base) as i16);
        self.next = again.first().map(|held| held.seq);
        for (at, held) in again.into_iter().enumerate() {
            if let Ok(header) = Header::parse(&held.bytes) {
                if at == 0 {
                    self.next = Some(held.seq.wrapping_add(1));
                    self.typed(&held.bytes, &header, held.arrival, (0, true), sink);
                } else {
                    self.accept_udp(&held.bytes, &header, held.arrival, sink);
                }
            }
            recycle(&mut self.pool, held.bytes);
        }
    }

    fn clear_restart(&mut self) {
        for held in self.restart.drain(..) {
            self.quirks.note(Quirk::LatePackets);
            recycle(&mut self.pool, held.bytes);
        }
    }

    /// A packet in its order: passed on if its payload type is the track's.
    fn typed(
        &mut self,
        bytes: &[u8],
        header: &Header,
        arrival: MonoTime,
        (lost, jumped): (u32, bool),
        sink: &mut impl Sink,
    ) {
        let switched = std::mem::take(&mut self.switched);
        // Over UDP the end of what came before may be missing.
        let missing = u32::from((switched || jumped) && self.transport == Transport::Udp);
        let (lost, jumped) = (lost.max(missing), jumped || switched);
        if header.payload_type == self.payload_type {
            let (mut lost, mut jumped) = (lost, jumped);
            for held in self.types.drain(..) {
                // It had its place in the sequence and is no part of the track.
                self.quirks.note(Quirk::ForeignPayloadType);
                lost = held.lost.saturating_add(lost);
                jumped |= held.jumped;
                recycle(&mut self.pool, held.bytes);
            }
            return pass(bytes, header, arrival, (lost, jumped), sink);
        }
        let noise = self.kind == TrackKind::Audio && matches!(header.payload_type, 13 | 19);
        if noise {
            // Comfort noise (RFC 3389) keeps coming in silence and is never the track's payload.
            self.quirks.note(Quirk::ForeignPayloadType);
            return;
        }
        let mut held = hold(&mut self.pool, bytes, header, arrival);
        (held.lost, held.jumped) = (lost, jumped);
        self.types.push(held);
        if self.types.len() < TYPES_RUN {
            return;
        }
        self.quirks.note(Quirk::PayloadTypeChange);
        self.payload_type = header.payload_type;
        for held in std::mem::take(&mut self.types) {
            if let Ok(header) = Header::parse(&held.bytes) {
                pass(&held.bytes, &header, held.arrival, (held.lost, held.jumped), sink);
            }
            recycle(&mut self.pool, held.bytes);
        }
    }
}

fn pass(
    bytes: &[u8],
    header: &Header,
    arrival: MonoTime,
    (lost, jumped): (u32, bool),
    sink: &mut impl Sink,
) {
    let payload = &bytes[header.payload.clone()];
    let (time, marker) = (header.time, header.marker);
    sink.ordered(Ordered { payload, time, marker, arrival, lost, jumped });
}

//! Pictures: cuts a stream of NAL units into access units by what they are.
//!
//! A unit begins at the first slice of a picture, or at what stands before it (delimiter, parameter
//! sets, SEI). It ends at the marker bit once that has proved right, and else at the beginning of
//! the next unit. What stands before a picture waits for it, so a unit without a picture never
//! comes out. Both fields of an interlaced frame are units of their own, as in the standard, and
//! slices in another order than that of the picture (ASO) are not supported: no camera has them.
//!
//! What stands beside the slices and cannot be valid is left out, and costs no picture (quirk
//! `nal_left_out`). Within a slice of H.264 forbidden bytes do: a decoder shows something of such a
//! picture, but `retina` refuses it, and so it is lost and counted.

mod fragments;
mod whole;
mod witness;

use std::collections::VecDeque;
use std::sync::Arc;

use self::fragments::{Open, Target};
use self::witness::Witness;
use super::depacketizer::PictureAssembler;
use super::keys::{KeyRule, Seen};
use super::limits::{FRAGMENTS_MAX, IDLE_END, NALS_MAX, OUT_MAX, UNIT_MAX};
use super::marker::Marker;
use super::nal::is_intra_264;
use super::parameter_sets::ParameterSets;
use super::payload::{Piece, peek, pieces};
use super::prefix::Prefix;
use super::source::Ordered;
use super::{MediaUnit, Received};
use crate::camera::quirk::{Quirk, QuirkCounts};
use crate::camera::{Codec, TrackParams};
use crate::units::MonoTime;

/// The open access unit.
struct Unit {
    time: i64,
    arrival: MonoTime,
    random_access: bool,
    intra: bool,
    recovery: bool,
    fragments: usize,
    nals: usize,
    /// Its latest packet has the marker bit, and ends a NAL unit.
    marked: bool,
    /// A packet of it has no marker bit.
    unmarked: bool,
}

/// What the last piece of a packet was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Nothing,
    Picture,
    Other,
}

/// Cuts the packets of a video track into access units.
pub(super) struct Pictures {
    codec: Codec,
    assembler: PictureAssembler,
    pub(super) sets: ParameterSets,
    pub(super) quirks: QuirkCounts,
    pub(super) out: VecDeque<Received>,
    prefix: Prefix,
    unit: Option<Unit>,
    open: Option<Open>,
    gathered: Vec<u8>,
    /// Start codes stand within fragments: each NAL unit is gathered before it is read.
    gather_all: bool,
    marker: Marker,
    ended_by_marker: bool,
    /// The rest of a dropped picture is passed over.
    skipping: bool,
    /// Packets lost, or pictures dropped, since the latest unit.
    lost: u32,
    /// Those of them that explain a picture yet to be dropped.
    credit: u32,
    /// The sequence numbers jumped at this packet.
    jumped: bool,
    time: i64,
    arrival: MonoTime,
    /// Over TCP: whether sequence numbers say something.
    witness: Option<Witness>,
    keys: KeyRule,
    /// Parameters of the latest unit.
    announced: Option<Arc<TrackParams>>,
    unreadable: u64,
}

impl Pictures {
    pub(super) fn new(codec: Codec, sets: ParameterSets, tcp: bool) -> Result<Pictures, String> {
        Ok(Pictures {
            codec,
            assembler: PictureAssembler::new(codec)?,
            sets,
            quirks: QuirkCounts::default(),
            out: VecDeque::new(),
            prefix: Prefix::default(),
            unit: None,
            open: None,
            gathered: Vec::new(),
            gather_all: false,
            marker: Marker::default(),
            ended_by_marker: false,
            skipping: false,
            lost: 0,
            credit: 0,
            jumped: false,
            time: 0,
            arrival: MonoTime(0),
            witness: tcp.then(Witness::default),
            keys: KeyRule::default(),
            announced: None,
            unreadable: 0,
        })
    }

    /// One packet in its order; `time` is its unwrapped time stamp.
    pub(super) fn packet(&mut self, packet: &Ordered<'_>, time: i64) {
        let means_loss = self.judge_step(packet, time);
        if packet.lost > 0 && means_loss {
            self.lose(packet.lost);
        }
        (self.time, self.arrival, self.jumped) = (time, packet.arrival, packet.jumped);
        let mut last = Last::Nothing;
        let codec = self.codec;
        let read = pieces(codec, packet.payload, |piece| {
            last = match piece {
                Piece::Whole(nal) => self.whole(nal),
                Piece::Fragment(fragment) => self.fragment(&fragment),
            };
        });
        match read {
            Ok(odd) => {
                if odd.start_codes {
                    self.quirks.note(Quirk::StartCodes);
                }
                if odd.empty {
                    self.quirks.note(Quirk::EmptyNal);
                }
            }
            Err(why) => self.drop_picture(why),
        }
        self.judge_marker(packet.marker, last);
    }

    /// Ends a picture whose end was marked, when nothing comes behind it for a while.
    pub(super) fn tick(&mut self, now: MonoTime) {
        let idle = now.since(self.arrival) >= IDLE_END && self.open.is_none();
        if idle && self.marker != Marker::Wrong && self.unit.as_ref().is_some_and(|u| u.marked) {
            self.close();
            self.ended_by_marker = true;
        }
    }

    /// Ends the last picture of a session.
    pub(super) fn finish(&mut self) {
        let ends = self.quirks.count(Quirk::FragmentEnd) > 0;
        match &self.open {
            Some(open) if open.marked || ends => self.end_open(),
            Some(_) => self.drop_silently(),
            None => {}
        }
        if self.marker == Marker::Right && self.unit.as_ref().is_some_and(|unit| !unit.marked) {
            // Its end has not come.
            self.drop_silently();
        }
        self.close();
    }

    /// Counts lost packets. A picture of which some may be missing is dropped.
    pub(super) fn lose(&mut self, packets: u32) {
        let whole = self.open.is_none()
            && self.marker != Marker::Wrong
            && self.unit.as_ref().is_none_or(|unit| unit.marked);
        if whole {
            self.close();
        }
        self.lost = self.lost.saturating_add(packets);
        self.credit = self.credit.saturating_add(packets);
        self.ended_by_marker = false;
        self.prefix.clear();
        if !whole {
            self.drop_silently();
        }
    }

    /// Whether a step of the sequence numbers is loss.
    fn judge_step(&mut self, packet: &Ordered<'_>, time: i64) -> bool {
        let Some(witness) = &mut self.witness else { return true };
        if witness.packet((time, packet.marker), packet.lost > 0, peek(self.codec, packet.payload))
        {
            self.quirks.note(Quirk::SequenceNoise);
        }
        !witness.ignores()
    }

    fn judge_marker(&mut self, marker: bool, last: Last) {
        if last == Last::Nothing {
            return;
        }
        if let Some(open) = &mut self.open {
            open.marked = marker;
            if !marker && let Some(unit) = &mut self.unit {
                unit.unmarked = true;
            }
            return;
        }
        if last == Last::Other {
            if marker {
                self.quirks.note(Quirk::MarkerElsewhere);
            }
            return;
        }
        let Some(unit) = &mut self.unit else { return };
        unit.marked = marker;
        unit.unmarked |= !marker;
        if marker && self.marker == Marker::Right {
            self.close();
            self.ended_by_marker = true;
        }
    }

    /// The marker bit stood within a picture: it is ignored from now on.
    fn marker_wrong(&mut self) {
        self.quirks.note(Quirk::MarkerWrong);
        self.marker = Marker::Wrong;
        if let Some(unit) = &mut self.unit {
            unit.marked = false;
        }
    }

    /// A unit ended because another began: what that says about the marker bit.
    fn learn_marker(&mut self, unit: &Unit) {
        if !unit.marked {
            self.quirks.note(Quirk::MarkerMissing);
        }
        self.marker.ended(unit.marked, unit.unmarked);
    }

    /// True if a picture is open to which a NAL unit other than a slice belongs.
    fn continue_unit(&mut self) -> bool {
        match &self.unit {
            Some(unit) if unit.marked => self.marker_wrong(),
            Some(_) => {}
            None if self.ended_by_marker => self.marker_wrong(),
            None => {}
        }
        self.unit.is_some()
    }

    /// A slice begins. False if it belongs to no picture that can be whole.
    fn begin_slice(&mut self, first: Option<bool>, random_access: bool, head: &[u8]) -> bool {
        let other_time = self.unit.as_ref().is_none_or(|unit| unit.time != self.time);
        if first.unwrap_or(other_time) {
            self.close_and_learn();
            self.open_unit();
        } else if self.unit.is_none() {
            if self.ended_by_marker {
                self.marker_wrong();
                self.ended_by_marker = false;
            }
            self.pass_over();
            return false;
        } else if self.unit.as_ref().is_some_and(|unit| unit.marked) {
            self.marker_wrong();
        }
        let intra = self.codec == Codec::H264 && (random_access || is_intra_264(head));
        let recovery = self.prefix.take_recovery();
        if let Some(unit) = &mut self.unit {
            unit.random_access &= random_access;
            unit.intra &= intra;
            unit.recovery |= recovery;
        }
        let mut prefix = std::mem::take(&mut self.prefix);
        let mut fits = true;
        prefix.drain(|nal| fits = fits && self.push(nal, true));
        self.prefix = prefix;
        fits
    }

    fn open_unit(&mut self) {
        self.skipping = false;
        self.ended_by_marker = false;
        if let Err(why) = self.sets.resolve() {
            self.complain(&why);
        }
        let (arrival, same) = self.prefix.arrival_of(self.time, self.arrival);
        if !same {
            self.quirks.note(Quirk::SeiAlone);
        }
        self.unit = Some(Unit {
            time: self.time,
            arrival,
            random_access: true,
            intra: true,
            recovery: false,
            fragments: 0,
            nals: 0,
            marked: false,
            unmarked: false,
        });
    }

    /// Gives a NAL unit, or a fragment of one, to the open unit. False if that was dropped.
    fn push(&mut self, bytes: &[u8], whole: bool) -> bool {
        let Some(unit) = &mut self.unit else { return false };
        unit.fragments += 1;
        unit.nals += usize::from(whole);
        if self.assembler.len() + bytes.len() > UNIT_MAX {
            self.drop_picture("a picture over 8 MiB");
            return false;
        }
        if unit.fragments > FRAGMENTS_MAX || unit.nals > NALS_MAX {
            self.drop_picture("a picture of too many pieces");
            return false;
        }
        let pushed = if whole { self.assembler.nal(bytes) } else { self.assembler.payload(bytes) };
        if let Err(why) = pushed {
            self.drop_picture(&why);
            return false;
        }
        true
    }

    fn close_and_learn(&mut self) {
        let Some(unit) = self.unit.take() else { return };
        // Where the marker bit can be trusted, a restart before it took the end of the picture.
        let cut = self.jumped && self.marker == Marker::Right && !unit.marked;
        if !cut {
            self.learn_marker(&unit);
        }
        self.unit = Some(unit);
        if cut { self.drop_silently() } else { self.close() }
    }

    /// The open unit is complete.
    fn close(&mut self) {
        let Some(unit) = self.unit.take() else { return };
        let data = match self.assembler.finish() {
            Ok(data) => data,
            Err(why) => {
                self.assembler.drop_picture();
                self.complain(&why);
                return self.count_dropped();
            }
        };
        let Some(params) = self.sets.params().cloned() else {
            if self.unreadable.is_multiple_of(250) {
                self.complain("pictures without parameter sets, in SDP and stream");
            }
            self.unreadable += 1;
            return self.count_dropped();
        };
        if self.out.len() >= OUT_MAX {
            return self.count_dropped();
        }
        let seen =
            Seen { random_access: unit.random_access, recovery: unit.recovery, intra: unit.intra };
        let key = self.keys.is_key(seen, unit.arrival, &mut self.quirks);
        let known = self.announced.as_ref().is_some_and(|known| Arc::ptr_eq(known, &params));
        let params = Some(params).filter(|_| !known);
        if params.is_some() {
            self.announced.clone_from(&params);
        }
        (self.credit, self.unreadable) = (0, 0);
        self.out.push_back(Received::Unit(MediaUnit {
            data,
            rtp_time: unit.time,
            arrival: unit.arrival,
            key,
            lost: std::mem::take(&mut self.lost),
            params,
        }));
    }

    /// Drops the open picture for a reason.
    fn drop_picture(&mut self, why: &str) {
        self.complain(why);
        if self.unit.is_none() && self.open.is_none() {
            return self.pass_over();
        }
        self.drop_silently();
    }

    /// Drops the open picture; it counts as lost.
    fn drop_silently(&mut self) {
        let open = self.open.take();
        if self.unit.take().is_none() && open.is_none_or(|open| open.to == Target::Dropped) {
            return;
        }
        self.gathered.clear();
        self.assembler.drop_picture();
        self.count_dropped();
        self.skipping = true;
    }

    /// A piece of a picture whose beginning is missing: the picture counts as lost once.
    fn pass_over(&mut self) {
        self.prefix.clear();
        if !std::mem::replace(&mut self.skipping, true) {
            self.count_dropped();
        }
    }

    fn count_dropped(&mut self) {
        match self.credit.checked_sub(1) {
            Some(left) => self.credit = left,
            None => self.lost = self.lost.saturating_add(1),
        }
    }

    fn complain(&mut self, why: &str) {
        if self.out.len() < OUT_MAX {
            self.out.push_back(Received::Bad(why.to_owned()));
        }
    }
}

//! Fragments: NAL units that come in several packets.

use super::super::limits::{PREFIX_MAX, UNIT_MAX};
use super::super::nal::{Class, classify, header_len, start_code};
use super::super::payload::{Fragment, Piece, split};
use super::{Last, Pictures};
use crate::camera::Codec;
use crate::camera::quirk::Quirk;

/// A NAL unit of which not all fragments have come.
pub(super) struct Open {
    header: [u8; 2],
    pub(super) to: Target,
    /// A fragment of it other than the last has the marker bit.
    pub(super) marked: bool,
}

/// Where fragments go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// To the depacketizer as they come.
    Assembler,
    /// To `gathered`: the whole NAL unit is needed first.
    Gathered,
    /// Nowhere.
    Dropped,
}

impl Pictures {
    /// One fragment of a NAL unit.
    pub(super) fn fragment(&mut self, fragment: &Fragment<'_>) -> Last {
        if fragment.start {
            self.end_open();
            self.begin_fragments(fragment);
        } else {
            self.continue_fragments(fragment);
        }
        let Some(open) = &self.open else { return Last::Picture };
        let (header, to) = (open.header, open.to);
        match to {
            Target::Assembler => {
                let codes = start_code(fragment.body).is_some();
                if codes {
                    self.quirks.note(Quirk::StartCodes);
                    self.gather_all = true;
                }
                if codes && self.codec == Codec::H265 {
                    self.drop_picture("start codes within a fragmented NAL unit");
                } else {
                    self.push(fragment.payload, false);
                }
            }
            Target::Gathered => {
                if fragment.start {
                    self.gathered.clear();
                    self.gathered.extend_from_slice(&header[..header_len(self.codec)]);
                }
                if self.gathered.len() + fragment.body.len() > UNIT_MAX {
                    self.drop_picture("a NAL unit over 8 MiB");
                } else {
                    self.gathered.extend_from_slice(fragment.body);
                }
            }
            Target::Dropped => {}
        }
        if fragment.end && self.open.is_some() {
            return self.complete();
        }
        Last::Picture
    }

    fn begin_fragments(&mut self, fragment: &Fragment<'_>) {
        let length = header_len(self.codec);
        let mut head = [0; 8];
        let body = &fragment.body[..fragment.body.len().min(8 - length)];
        head[..length].copy_from_slice(&fragment.header[..length]);
        head[length..length + body.len()].copy_from_slice(body);
        let head = &head[..length + body.len()];
        let to = match classify(self.codec, head) {
            Class::Slice { .. } | Class::Continues if self.gather_all => Target::Gathered,
            Class::Slice { first, random_access } => {
                if !self.begin_slice(first, random_access, head) {
                    return;
                }
                Target::Assembler
            }
            Class::Continues if self.continue_unit() => Target::Assembler,
            Class::Continues | Class::Reserved => Target::Dropped,
            Class::Invalid => {
                self.quirks.note(Quirk::NalLeftOut);
                Target::Dropped
            }
            Class::Set(_) | Class::Delimiter | Class::Prefix | Class::Suffix => Target::Gathered,
            Class::Illegal(why) => return self.drop_picture(why),
        };
        if to == Target::Assembler
            && let Some(unit) = &mut self.unit
        {
            unit.nals += 1;
        }
        self.open = Some(Open { header: fragment.header, to, marked: false });
    }

    fn continue_fragments(&mut self, fragment: &Fragment<'_>) {
        let Some(open) = &mut self.open else {
            if self.ended_by_marker {
                self.marker_wrong();
                self.ended_by_marker = false;
            }
            return self.pass_over();
        };
        if open.header != fragment.header {
            if self.jumped {
                return self.drop_silently();
            }
            self.quirks.note(Quirk::FragmentType);
        }
        if open.marked && (open.to == Target::Assembler || self.gather_all) {
            open.marked = false;
            self.marker_wrong();
        }
    }

    /// The last fragment of a NAL unit came.
    fn complete(&mut self) -> Last {
        let Some(open) = self.open.take() else { return Last::Nothing };
        match open.to {
            Target::Assembler => Last::Picture,
            Target::Dropped => Last::Nothing,
            Target::Gathered => {
                let gathered = std::mem::take(&mut self.gathered);
                let (mut last, mut odd) = (Last::Nothing, Default::default());
                split(&gathered, &mut odd, &mut |piece| {
                    if let Piece::Whole(nal) = piece {
                        last = self.whole(nal);
                    }
                });
                if odd.start_codes {
                    self.quirks.note(Quirk::StartCodes);
                }
                if gathered.capacity() <= PREFIX_MAX {
                    self.gathered = gathered;
                }
                last
            }
        }
    }

    /// Another NAL unit begins while the last fragment of one has not come.
    pub(super) fn end_open(&mut self) {
        let Some(open) = &self.open else { return };
        if self.jumped {
            return self.drop_silently();
        }
        // No packet is missing, so only the end bit is.
        let (marked, to, header) = (open.marked, open.to, open.header);
        self.quirks.note(Quirk::FragmentEnd);
        if to == Target::Assembler
            && let Err(why) = self.assembler.end_fragments(&header)
        {
            return self.drop_picture(&why);
        }
        self.complete();
        if let Some(unit) = &mut self.unit
            && to != Target::Dropped
        {
            unit.marked = marked;
        }
    }
}

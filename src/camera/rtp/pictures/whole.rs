//! Whole NAL units: what each of them does to the open picture.

use super::super::limits::DELIMITER_MAX;
use super::super::marker::Marker;
use super::super::nal::{
    Class, classify, has_forbidden_bytes, has_recovery_point, without_trailing_zeros,
};
use super::{Last, Pictures};
use crate::camera::quirk::Quirk;

impl Pictures {
    /// A whole NAL unit.
    pub(super) fn whole(&mut self, nal: &[u8]) -> Last {
        let nal = without_trailing_zeros(nal);
        if nal.is_empty() {
            self.quirks.note(Quirk::EmptyNal);
            return Last::Nothing;
        }
        let class = classify(self.codec, nal);
        let left_out = class.is_beside_slices() && has_forbidden_bytes(self.codec, nal)
            || class == Class::Delimiter && nal.len() > DELIMITER_MAX;
        if left_out || class == Class::Invalid {
            self.quirks.note(Quirk::NalLeftOut);
            if self.open.is_some() {
                // Between the fragments of a slice, which goes on behind it.
                return Last::Nothing;
            }
        }
        self.end_open();
        match class {
            Class::Continues | Class::Suffix if left_out => Last::Other,
            Class::Delimiter => {
                self.close_and_learn();
                self.prefix.came(self.time, self.arrival);
                self.prefix.delimiter(if left_out { &[] } else { nal });
                Last::Other
            }
            Class::Prefix => {
                self.before_picture(nal, left_out);
                Last::Other
            }
            class => self.of_class(class, nal),
        }
    }

    /// SEI or another NAL unit that stands before its picture.
    fn before_picture(&mut self, nal: &[u8], left_out: bool) {
        if self.marker != Marker::Wrong && self.unit.as_ref().is_some_and(|unit| unit.marked) {
            self.close_and_learn();
        }
        self.prefix.came(self.time, self.arrival);
        // Its bytes may be wrong, and what it says right.
        if has_recovery_point(self.codec, nal) {
            self.prefix.recovery_point();
        }
        if !left_out && !self.prefix.add(nal) {
            self.quirks.note(Quirk::SeiLeftOut);
        }
    }

    /// A NAL unit of a picture, or one that no picture needs.
    fn of_class(&mut self, class: Class, nal: &[u8]) -> Last {
        match class {
            Class::Slice { first, random_access } => {
                if self.begin_slice(first, random_access, nal) {
                    self.push(nal, true);
                }
                Last::Picture
            }
            Class::Continues => {
                if self.continue_unit() {
                    self.push(nal, true);
                }
                Last::Picture
            }
            Class::Suffix => {
                if self.continue_unit() {
                    self.push(nal, true);
                    return Last::Picture;
                }
                Last::Other
            }
            Class::Set(kind) => {
                self.close_and_learn();
                match self.sets.offer(kind, nal) {
                    Ok(true) => _ = self.quirks.note(Quirk::SetsChange),
                    Ok(false) => {}
                    Err(why) => self.complain(&why),
                }
                Last::Other
            }
            Class::Reserved | Class::Invalid | Class::Delimiter | Class::Prefix => Last::Nothing,
            Class::Illegal(why) => {
                self.drop_picture(why);
                Last::Nothing
            }
        }
    }
}

//! MP4 boxes (ISO/IEC 14496-12), written by hand: the ring needs a dozen of them in one exact shape.
//!
//! What belongs here: the bytes of `ftyp`, `moov`, `moof`. What does not: our own `uuid` boxes ([`super::format`]).

use std::sync::Arc;

use super::format::ticks;
use crate::camera::{TrackKind, TrackParams};

/// Timescale of `mvhd` and of edit durations, ticks a second.
const MOVIE_SCALE: u32 = 1000;
/// The unity matrix of `mvhd` and `tkhd` (8.2.2).
const UNITY: [u32; 9] = [0x0001_0000, 0, 0, 0, 0x0001_0000, 0, 0, 0, 0x4000_0000];
/// Sample flags (8.8.3.1): depends on no other and is a sync sample.
const SYNC: u32 = 0x0200_0000;
/// Sample flags: depends on others, not a sync sample.
const NOT_SYNC: u32 = 0x0101_0000;

/// A buffer that writes big-endian integers and boxes.
#[derive(Debug, Default)]
pub struct Boxes(Vec<u8>);

impl Boxes {
    /// Appends bytes.
    pub fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Appends 16 bits.
    pub fn put_u16(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }

    /// Appends 32 bits.
    pub fn put_u32(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }

    /// Appends 64 bits.
    pub fn put_u64(&mut self, value: u64) {
        self.put(&value.to_be_bytes());
    }

    /// Appends a box around what `fill` writes.
    pub fn boxed(&mut self, name: &[u8; 4], fill: impl FnOnce(&mut Boxes)) {
        let start = self.0.len();
        self.put_u32(0);
        self.put(name);
        fill(self);
        let len = (self.0.len() - start) as u32;
        self.0[start..start + 4].copy_from_slice(&len.to_be_bytes());
    }

    /// Appends a full box: version and 24 bits of flags first.
    pub fn full(&mut self, name: &[u8; 4], version: u8, flags: u32, fill: impl FnOnce(&mut Boxes)) {
        self.boxed(name, |out| {
            out.put_u32(u32::from(version) << 24 | flags);
            fill(out);
        });
    }

    /// What has been written.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// What has been written, for good.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// `ftyp` and `moov` for fragments that begin at `media_start` microseconds on the media clock.
pub fn head_boxes(tracks: &[Arc<TrackParams>], media_start: u64, duration: Option<u64>) -> Vec<u8> {
    let mut out = Boxes::default();
    out.boxed(b"ftyp", |out| {
        out.put(b"isom");
        out.put_u32(0x200);
        out.put(b"isomiso6mp41");
    });
    let length = duration.map_or(0, |micros| micros / 1000);
    out.boxed(b"moov", |out| {
        out.full(b"mvhd", 1, 0, |out| {
            out.put_u64(0);
            out.put_u64(0);
            out.put_u32(MOVIE_SCALE);
            out.put_u64(length);
            out.put_u32(0x0001_0000);
            out.put(&[1, 0]);
            out.put(&[0; 10]);
            UNITY.iter().for_each(|value| out.put_u32(*value));
            out.put(&[0; 24]);
            out.put_u32(tracks.len() as u32 + 1);
        });
        for (number, track) in tracks.iter().enumerate() {
            trak(out, number as u32 + 1, track, media_start, length);
        }
        out.boxed(b"mvex", |out| {
            for number in 1..=tracks.len() as u32 {
                out.full(b"trex", 0, 0, |out| {
                    [number, 1, 0, 0, 0].iter().for_each(|value| out.put_u32(*value));
                });
            }
        });
    });
    out.finish()
}

fn trak(out: &mut Boxes, number: u32, track: &TrackParams, media_start: u64, length: u64) {
    let video = track.kind == TrackKind::Video;
    out.boxed(b"trak", |out| {
        out.full(b"tkhd", 1, 3, |out| {
            out.put_u64(0);
            out.put_u64(0);
            out.put_u32(number);
            out.put_u32(0);
            out.put_u64(length);
            out.put(&[0; 12]);
            out.put_u16(if video { 0 } else { 0x0100 });
            out.put_u16(0);
            UNITY.iter().for_each(|value| out.put_u32(*value));
            out.put_u32(u32::from(track.size.0) << 16);
            out.put_u32(u32::from(track.size.1) << 16);
        });
        out.boxed(b"edts", |out| {
            out.full(b"elst", 1, 0, |out| {
                out.put_u32(1);
                out.put_u64(length);
                out.put_u64(ticks(media_start, track.timescale));
                out.put_u32(0x0001_0000);
            });
        });
        out.boxed(b"mdia", |out| mdia(out, track, video));
    });
}

fn mdia(out: &mut Boxes, track: &TrackParams, video: bool) {
    out.full(b"mdhd", 1, 0, |out| {
        out.put_u64(0);
        out.put_u64(0);
        out.put_u32(track.timescale);
        out.put_u64(0);
        // Language `und` (8.4.2.3).
        out.put_u16(0x55c4);
        out.put_u16(0);
    });
    out.full(b"hdlr", 0, 0, |out| {
        out.put_u32(0);
        out.put(if video { b"vide" } else { b"soun" });
        out.put(&[0; 12]);
        out.put(b"taimat\0");
    });
    out.boxed(b"minf", |out| {
        match video {
            true => out.full(b"vmhd", 0, 1, |out| out.put(&[0; 8])),
            false => out.full(b"smhd", 0, 0, |out| out.put(&[0; 4])),
        }
        out.boxed(b"dinf", |out| {
            out.full(b"dref", 0, 0, |out| {
                out.put_u32(1);
                out.full(b"url ", 0, 1, |_| {});
            });
        });
        out.boxed(b"stbl", |out| {
            out.full(b"stsd", 0, 0, |out| {
                out.put_u32(1);
                out.put(&track.sample_entry);
            });
            for name in [b"stts", b"stsc", b"stco"] {
                out.full(name, 0, 0, |out| out.put_u32(0));
            }
            out.full(b"stsz", 0, 0, |out| out.put(&[0; 8]));
        });
    });
}

/// One sample of a fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Ticks until the next.
    pub duration: u32,
    /// Bytes.
    pub size: u32,
    /// Decoding can start here.
    pub sync: bool,
    /// Presentation minus decode time, ticks.
    pub offset: i32,
}

/// The samples of one track in a fragment.
#[derive(Debug)]
pub struct Run {
    /// Track number, from 1.
    pub track: u32,
    /// Decode time of the first sample on the ring's media clock, ticks of the track.
    pub start: u64,
    /// The samples.
    pub samples: Vec<Sample>,
}

/// A `moof` with one `traf` a run (8.8.4 to 8.8.8) for samples that lie in the `mdat` right behind it, run after run.
pub fn moof(number: u32, runs: &[Run]) -> Vec<u8> {
    // The data offset needs the length of the box itself, which does not depend on it.
    let len = write_moof(number, runs, 0).len();
    write_moof(number, runs, len as u32 + 8)
}

fn write_moof(number: u32, runs: &[Run], first_offset: u32) -> Vec<u8> {
    let mut out = Boxes::default();
    let mut offset = first_offset;
    out.boxed(b"moof", |out| {
        out.full(b"mfhd", 0, 0, |out| out.put_u32(number));
        for run in runs {
            out.boxed(b"traf", |out| {
                // default-base-is-moof
                out.full(b"tfhd", 0, 0x02_0000, |out| out.put_u32(run.track));
                out.full(b"tfdt", 1, 0, |out| out.put_u64(run.start));
                // data offset, then duration, size, flags and composition offset of each sample
                out.full(b"trun", 1, 0xf01, |out| {
                    out.put_u32(run.samples.len() as u32);
                    out.put_u32(offset);
                    for sample in &run.samples {
                        out.put_u32(sample.duration);
                        out.put_u32(sample.size);
                        out.put_u32(if sample.sync { SYNC } else { NOT_SYNC });
                        out.put_u32(sample.offset as u32);
                    }
                });
            });
            offset += run.samples.iter().map(|sample| sample.size).sum::<u32>();
        }
    });
    out.finish()
}

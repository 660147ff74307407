//! # The files on the card, byte by byte (format version 3)
//!
//! All integers are big-endian, as in ISO/IEC 14496-12. A *block* is 4096 bytes. MP4 boxes follow
//! ISO/IEC 14496-12; `uuid` boxes (4.2) and the files `*.taimat` are our own.
//!
//! ## Invariants
//! 1. Files never change their length. Segment files are created on demand until the budget is
//!    reached, then recycled. A file is deleted only when `storage.budget` or `storage.segment` has
//!    changed and the file is due for recycling.
//! 2. A write never touches a block that holds durable data: fragments begin on block boundaries.
//!    When one of two copies is damaged, it is rewritten from the other at boot or by the scrub.
//! 3. A record is reported as durable only after the flush that follows its write.
//! 4. Record numbers are gap-free over the life of the ring. Gaps in *time* are gap records.
//!    Evicted and missing numbers are recorded in segment heads.
//! 5. Every segment file is a playable fMP4 at any time, up to a torn write. A file that is being
//!    started holds no footage and no valid head: the zeros over its old head are flushed before the
//!    new head is written.
//! 6. Old content is never taken for new: number, lap and chain must continue the record before.
//! 7. One damaged bit costs at most the record it hits. A card of format 1 or 2 is rejected and not
//!    modified.
//! 8. Every part carries the id of its card ([`crate::storage::identity`]): 8 bytes of SHA-256 of the
//!    site id, and a number drawn when the card was first used. A part of another card is never
//!    used, sent or overwritten.
//!
//! ## `seg-NNNNN.mp4`: a segment
//! ```text
//! ftyp moov uuid(segment header) free(to the block boundary)
//! { uuid(record) moof mdat free(to the block boundary) | uuid(gap record) free(to the block boundary) }*
//! free(over the rest) uuid(second copy of the segment header, to the end of the file)
//! ```
//! The last `free` header fills the block behind a fragment and is part of the same write. A torn
//! write leaves either the old `free` header, as if nothing was written, or a record whose checksum
//! or padding is wrong; recovery then restores the `free` header. No checksum covers the *content* of
//! `free` boxes, and no reader uses it: signatures may be stored there.
//!
//! A file is restarted in three steps. First the second copy of the new head is written and flushed,
//! which records the evictions. Then the old head is wiped and flushed. Then the new head is written;
//! the flush of the first record makes it durable. [`crate::storage::head_selection`] defines which
//! copy counts.
//!
//! ### Segment header: `uuid` box, extended type `taimat-segm-v2\0\0`
//! ```text
//! u16 version = 3   u16 reserved   u32 segment   u32 lap   u32 boot   u64 first record   [32] chain digest before it
//! u64 mono µs   i64 wall µs   u8 clock quality   u8 tracks   u8 evicted   u8 present   u64 segment bytes   u64 media µs
//! [16] card
//! tracks × { u8 kind (1 video, 2 audio)   u8 codec (1 H.264, 2 H.265, 3 AAC, 4 PCMU, 5 PCMA)   u32 timescale
//!            u16 width   u16 height   u32 len   [len] sample entry   u32 len   [len] Annex B parameter sets }
//! evicted × { u8 cause (1 oldest, 2 pinned, 3 resized, 4 missing, 5 skipped)   u64 first record   u64 last record }
//! present × { u64 first record   u64 last record }
//! u32 CRC-32C of everything in the file before it: `ftyp` and `moov` too
//! ```
//! `evicted` lists the records evicted for this segment or since the one before, mostly one stretch:
//! the segment that this file held. `present` lists the stretches of records in the ring before this
//! segment, at most the newest 64. Every record that the newest head lists as present must be in a
//! file, unless a head lists it as evicted.
//!
//! The second copy is a `uuid` box of whole blocks, extended type `taimat-copy-v2\0\0`: the fields
//! from `version` to `present`, zeros, `u32` CRC-32C of the box before it, `u32` length of the box.
//! The length ends the file.
//!
//! The *digest of a head* is SHA-256 of `ftyp` and `moov` without a duration, built from the tracks
//! ([`super::segment_head::head_digest`]). It is the same for a segment and for every clip of it.
//!
//! ### Record: `uuid` box of [`super::record::RECORD_BOX`] bytes, extended type `taimat-recd-v2\0\0`
//! ```text
//! u16 version = 2   u16 flags (1 key frame first, 2 gap record)   u32 lap   u64 number   u32 boot   u32 length
//! u64 mono µs   i64 wall µs   u8 clock quality   u8 gap reason   u16 lead ms   u32 payload bytes   u64 media µs   u64 duration µs
//! u64 gap end mono   i64 gap end wall   u64 gap bytes   (or, in the first fragment of a segment, its mark)
//! [32] chain digest before   [32] content digest   [32] digest of the head
//! u32 CRC-32C of the record before this field   u32 CRC-32C of moof and mdat
//! ```
//! A gap record has the clock quality of its end in place of `lead`. The *mark* is the first 24 bytes
//! of SHA-256 of the segment header from `version` to `present`; it adds the evictions to the hash
//! chain. `length` counts from the start of the record box to the end of its `mdat`, without padding.
//! The chain digest of a record is [`crate::format::hash_chain::link`] over its bytes from `version`
//! to the digest of the head. The second CRC covers the bytes in this file, because decode times
//! differ between files.
//!
//! ### Time in boxes
//! The ring has its own media clock, which never goes back. It continues over laps and boots, and real
//! gaps stay gaps. The `media` of a record is the start of its video on this clock, and `lead` is the
//! time by which its audio starts earlier.
//!
//! `tfdt` (ISO/IEC 14496-12 8.8.12) counts from the `media` of the segment header, so that every file
//! plays from 0; in a clip it counts from the start of the first fragment. The content digest is
//! SHA-256 of `moof` and `mdat` with each `tfdt` counted from the record's own `media`, modulo 2^64.
//! The digest is therefore the same in every file ([`super::mp4::move_times`]). Audio older than the previous
//! fragment, or older than the first fragment of a run, is dropped.
//!
//! The decode times in a fragment are its sorted presentation times. Composition offsets are signed
//! (`trun` version 1), so that streams with B-frames keep their order. A fragment ends before a video
//! frame only if that frame is later than every frame before it.
//!
//! ## `journal.taimat`: slots of one block, two copies
//! Copy A begins at 0, copy B at [`crate::storage::journal_layout::copy_b`]. A commit writes the slots of A,
//! flushes, writes those of B, flushes. Of two valid copies the one with the higher generation counts.
//! ```text
//! "TMJ2"   u8 kind (0 free, 1 entry, 2 cell, 3 start)   u8 place     u16 length   u64 generation   u64 key   [16] card
//! [length] bytes   0…
//! u32 CRC-32C of the block before it
//! ```
//! Slot 0 holds the boot record (kind 3, key = number of the boot). Its bytes are `u8` 1 after an
//! orderly stop, else 0; `u64` ring id; `u64` newest record at the last orderly stop. Numbers up to
//! that record are not assigned again. The ring id is drawn when the journal is created and
//! distinguishes this ring from the one on a previous card. Slots 1 to 3 hold the cells, the others
//! entries.
//!
//! Entries stored together have consecutive entry ids and a place in the batch, from 0. If the newest
//! batch has a gap and none of its entries is in copy B, it was hit by a power cut. The batch then
//! ends before the gap. A released entry is no gap: its slot is free, with key 0 and its entry id (`u64`) as bytes.
//! The slot of the highest entry id is never reused, so that the counters in it survive the release.
//!
//! ## `snapshots.taimat`: slots for snapshots
//! ```text
//! "TMS3"   u32 length   u64 entry id   [16] card   u32 CRC-32C of the bytes   u32 CRC-32C of the 36 bytes before   0… to 2048
//! the same again
//! 0… to 4096   [length] JPEG
//! ```

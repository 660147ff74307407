//! # The files on the card, byte by byte (format version 3)
//!
//! All integers are big-endian unless a box of ISO/IEC 14496-12 says otherwise. A *block* is 4096 bytes.
//!
//! ## Invariants
//! 1. Files never change their length. Segment files are made one ahead of need until the budget is reached, then recycled; one is
//!    taken away only when `storage.budget` or `storage.segment` was changed and its turn to be recycled comes.
//! 2. A write never touches a block that holds durable data: fragments begin on block boundaries. What lies twice is written again
//!    at a start or by the scrub when one copy is damaged, from the other.
//! 3. A record is counted (`durable`) only after the flush that follows its write.
//! 4. Record numbers are gap-free over the life of the ring; gaps in *time* are gap records; numbers that are gone are on record.
//! 5. Every segment file is at every instant a playable fMP4 up to a tear; the one that is being begun holds nothing, and has no
//!    head that says otherwise: when a file is recycled, zeros over its old head are flushed before the new one is written.
//! 6. Nothing old can be taken for new: number, lap and chain must follow on from the record before.
//! 7. One damaged bit costs at most the record it hits. A card of format 1 or 2 is refused, never written over.
//! 8. Every part names its card ([`crate::storage::identity`]): 8 bytes of SHA-256 of the site's name and a number drawn when the card was begun.
//!    A part of another card takes no place, and is never sent or written over.
//!
//! ## `seg-NNNNN.mp4`: a segment
//! ```text
//! ftyp moov uuid(segment header) free(to the block boundary)
//! { uuid(record) moof mdat free(to the block boundary) | uuid(gap record) free(to the block boundary) }*
//! free(over the rest) uuid(second copy of the segment header, to the end of the file)
//! ```
//! The last `free` header fills the block behind a fragment and is written in the fragment's own write. A tear leaves either
//! the old `free` header (nothing happened) or a record whose checksum or padding fails (recovery puts the `free` header back).
//! The *content* of `free` boxes is covered by nothing and read by nobody: signatures may lie there.
//! A file is started again in three steps: the second copy of the new head is written and flushed, which puts on record what goes; the
//! old head is wiped and flushed; the new head is written, and flushed with its first record. [`crate::storage::head_selection`] says which copy counts.
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
//! `evicted` is what went for this segment or since the one before (mostly one stretch: the segment that lay in this file); `present`
//! are the stretches of records in the ring before this one, at most the newest 64. What the newest head says is present, and no
//! head says went, must be in a file. The second copy is a `uuid` box of whole blocks, extended type `taimat-copy-v2\0\0`: the same
//! from `version` to `present`, zeros, `u32` CRC-32C of the box before it, `u32` length of the box, which ends the file.
//!
//! The *digest of a head* is SHA-256 of `ftyp` and `moov` without a duration, as they follow from the tracks
//! ([`super::segment_head::head_digest`]): the same for a segment and for every clip of it.
//!
//! ### Record: `uuid` box of [`super::record::RECORD_BOX`] bytes, extended type `taimat-recd-v2\0\0`
//! ```text
//! u16 version = 2   u16 flags (1 key frame first, 2 gap record)   u32 lap   u64 number   u32 boot   u32 length
//! u64 mono µs   i64 wall µs   u8 clock quality   u8 gap reason   u16 lead ms   u32 payload bytes   u64 media µs   u64 duration µs
//! u64 gap end mono   i64 gap end wall   u64 gap bytes   (or, in the first fragment of a segment, its mark)
//! [32] chain digest before   [32] content digest   [32] digest of the head
//! u32 CRC-32C of the record before this field   u32 CRC-32C of moof and mdat
//! ```
//! A gap record has the clock quality of its end in place of `lead`. The *mark* is the first 24 bytes of SHA-256 of the segment
//! header from `version` to `present`: so what was evicted is in the chain. `length` counts from the start of the record's box to the
//! end of its `mdat`, without padding. The chain digest of a record is [`crate::format::hash_chain::link`] over its bytes from `version` to the
//! digest of the head; the second CRC is that of the file the record lies in, because decode times differ between files.
//!
//! ### Time in boxes
//! The ring has a media clock of its own, which never goes back: it runs on over laps and starts, with true gaps left open. A
//! record's `media` is its first picture on it, and `lead` says how much earlier its sound begins. `tfdt` counts from the `media`
//! of the segment header, so that every file plays from 0; in a clip it counts from the begin of its first fragment. The content
//! digest is SHA-256 of `moof` and `mdat` with each `tfdt` counted from the record's own `media`, modulo 2^64: the same wherever
//! the fragment lies ([`super::mp4::move_times`]). Sound older than the fragment before (or the first of a run) is left out.
//! Decode times within a fragment are its presentation times sorted; composition offsets are signed (`trun` version 1), so
//! streams with B-frames keep their order. A fragment begins only before a video frame later than every frame before it.
//!
//! ## `journal.taimat`: slots of one block, two copies
//! Copy A at 0, copy B at [`crate::storage::journal::copy_b`]. A commit writes the slots of A, flushes, writes B, flushes. Of two valid
//! copies the higher generation counts.
//! ```text
//! "TMJ2"   u8 kind (0 free, 1 entry, 2 cell, 3 start)   u8 place     u16 length   u64 generation   u64 key   [16] card
//! [length] bytes   0…
//! u32 CRC-32C of the block before it
//! ```
//! Slot 0 holds the start record (key = boot; bytes: `u8` 1 after an ordered stop, `u64` ring id, `u64` newest record at the last
//! ordered stop: below it no number is given again), slots 1 to 3 the cells, the rest
//! entries. Entries stored together have consecutive entry ids and tell their place in the batch, from 0; where the newest batch has a
//! gap and nothing of it is in copy B, it was cut: it ends before the gap. An entry that was released is no gap: its slot is free, with
//! key 0 and its entry id (`u64`) as bytes. The ring id is drawn when the journal is made: it tells this ring's numbers from those of the card before. The slot of
//! the highest entry id is never reused, so the counters in it outlive its release.
//!
//! ## `snapshots.taimat`: slots for snapshots
//! ```text
//! "TMS3"   u32 length   u64 entry id   [16] card   u32 CRC-32C of the bytes   u32 CRC-32C of the 36 bytes before   0… to 2048
//! the same again
//! 0… to 4096   [length] JPEG
//! ```

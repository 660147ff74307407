//! Card format: MP4 boxes, records, segment heads and the hash chain, as values and bytes.
//!
//! What belongs here: encoding and decoding, pure. What does not: I/O and the decision what is
//! written when (storage). [`on_disk`] specifies every file byte by byte.

pub(crate) mod big_endian;
pub mod block;
pub mod card_id;
pub(crate) mod fragment_ref;
pub(crate) mod gap;
pub(crate) mod hash_chain;
pub mod mp4;
pub(crate) mod on_disk;
pub mod record;
pub(crate) mod sample_entry;
pub mod segment_head;

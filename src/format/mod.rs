//! The format on the card: MP4 boxes, records, segment heads and the hash chain, as pure values and bytes.
//!
//! What belongs here: what a file says, byte by byte. What does not: which file is written when, and reading a card (storage).

pub mod card_id;
pub mod fragment_ref;
pub mod gap;
pub mod hash_chain;
pub mod mp4;
pub mod on_disk;
pub mod record;
pub mod segment_head;

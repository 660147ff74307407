//! Evidence: describes clips and snapshots so that they can be verified away from the device.
//!
//! * [`manifest`]: the description beside a file and inside it.
//! * [`verify`]: verifies a clip. [`head_check`]: verifies its head.
//!
//! What belongs here: manifests and their verification. What does not: the hash chain
//! ([`crate::format::hash_chain`]), keeping footage (storage).

pub(crate) mod head_check;
pub mod manifest;
pub(crate) mod verify;

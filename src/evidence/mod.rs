//! The evidence room: what makes a file speak for itself when it has left the box.
//!
//! * [`manifest`]: what a file is, beside it and inside it. [`verify`]: whether a clip is whole. [`head_check`]: its head.
//!
//! What belongs here: manifests and their checking. What does not: the chain of records (`chain`), keeping footage (storage).

pub mod head_check;
pub mod manifest;
pub mod verify;
